/*
 * What is known of a layer's names that are no directories: nothing is there, or a whiteout. It spares a look at the disk
 * for what the layer does not touch. Nobody else changes a layer, so a fact holds until we do.
 *
 * A fact is found by the number of its directory, which no other ever has, and by the name. It is added by who has looked,
 * without the lock; so the directory counts its changes, and what was seen before the last one is not kept. Whoever
 * makes, moves or removes a name says so while it has the lock, when that is done.
 */
#include "stack.h"

enum { FACTS = 16384 /* each at one place only: the last one stays */, LONGEST = 48 };

struct vu_fact {
	uint64_t directory; /* 0: none */
	uint8_t kind, length;
	char name[LONGEST];
};

static uint64_t hash(const char *text, size_t length)
{
	uint64_t h = UINT64_C(14695981039346656037); /* FNV-1a */
	for (size_t i = 0; i < length; i++)
		h = (h ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
	return h ^ h >> 32;
}

static struct vu_fact *slot(const struct vu_stack *stack, uint64_t directory, const char *name, size_t length)
{
	return &stack->facts[(hash(name, length) + directory * UINT64_C(0x9e3779b97f4a7c15)) % FACTS];
}

static bool is_of(const struct vu_fact *fact, uint64_t directory, const char *name, size_t length)
{
	return fact->directory == directory && fact->length == length && !memcmp(fact->name, name, length);
}

/* The name after the directories of the layer that lead along `path`. */
static const char *stop_of(const char *path, const struct vu_way *way, size_t *length)
{
	const char *name = path + way->known;
	name += strspn(name, "/");
	*length = (size_t)(path + way->stop - name);
	return name;
}

enum vu_fact_kind vu_facts_find(const struct vu_stack *stack, const char *path, const struct vu_way *way)
{
	size_t length;
	const char *name = stop_of(path, way, &length);
	if (!stack->facts || !way->number || !length || length > LONGEST)
		return VU_FACT_NONE;
	const struct vu_fact *fact = slot(stack, way->number, name, length);
	return is_of(fact, way->number, name, length) ? fact->kind : VU_FACT_NONE;
}

void vu_facts_add(struct vu_stack *stack, unsigned tree, const char *path, const struct vu_way *seen,
		  enum vu_fact_kind kind)
{
	size_t length;
	struct vu_way way;
	const char *name = stop_of(path, seen, &length);
	if (!seen->number || !length || length > LONGEST)
		return;
	pthread_mutex_lock(&stack->lock);
	vu_dirs_find(stack->trees[tree].dirs, path, &way);
	if (!stack->facts)
		stack->facts = calloc(FACTS, sizeof *stack->facts);
	if (stack->facts && way.known == seen->known && way.number == seen->number && way.changes == seen->changes) {
		struct vu_fact *fact = slot(stack, way.number, name, length);
		*fact = (struct vu_fact){ .directory = way.number, .kind = kind, .length = (uint8_t)length };
		memcpy(fact->name, name, length);
	}
	pthread_mutex_unlock(&stack->lock);
}

/* The directory that holds the name, if it is one of the layer's. */
static struct vu_dir *above(struct vu_stack *stack, const char *path, const char **name)
{
	struct vu_way way;
	const char *slash = strrchr(path, '/');
	size_t length = slash ? (size_t)(slash - path) : 0;
	char parent[VU_TEXT];
	memcpy(parent, path, length);
	parent[length] = 0;
	*name = slash ? slash + 1 : path;
	return vu_dirs_find(stack->trees[0].dirs, parent, &way);
}

void vu_facts_changed(struct vu_stack *stack, const char *path)
{
	const char *name;
	struct vu_dir *dir = stack->trees[0].dirs ? above(stack, path, &name) : NULL;
	if (!dir)
		return;
	dir->changes++;
	size_t length = strlen(name);
	if (!stack->facts || !length || length > LONGEST)
		return;
	struct vu_fact *fact = slot(stack, dir->number, name, length);
	if (is_of(fact, dir->number, name, length))
		fact->directory = 0;
}

void vu_facts_end(struct vu_stack *stack, const char *path)
{
	const char *name;
	struct vu_dir *dir = above(stack, path, &name);
	if (dir)
		dir->number = 0;
}

void vu_facts_end_in(struct vu_stack *stack, const char *directory)
{
	struct vu_way way;
	pthread_mutex_lock(&stack->lock);
	struct vu_dir *dir = stack->trees[0].dirs ? vu_dirs_find(stack->trees[0].dirs, directory, &way) : NULL;
	if (dir)
		dir->number = 0;
	pthread_mutex_unlock(&stack->lock);
}

/* Where the path stands among those that are noted, or would stand; `room` is a power of two. */
static uint64_t *noted(uint64_t *table, unsigned room, uint64_t path)
{
	uint64_t at = path;
	while (table[at & (room - 1)] && table[at & (room - 1)] != path)
		at++;
	return &table[at & (room - 1)];
}

static uint64_t number_of(const char *path)
{
	uint64_t number = hash(path, strlen(path));
	return number ? number : 1; /* 0 is an empty place */
}

bool vu_facts_noted(const struct vu_stack *stack, const char *path)
{
	return stack->noted_room && *noted(stack->noted, stack->noted_room, number_of(path));
}

void vu_facts_note(struct vu_stack *stack, const char *path)
{
	if (2 * (stack->noted_count + 1) > stack->noted_room) {
		unsigned room = stack->noted_room ? 2 * stack->noted_room : 256;
		uint64_t *bigger = calloc(room, sizeof *bigger);
		if (!bigger)
			return; /* it is noted once more then, which does no harm */
		for (unsigned i = 0; i < stack->noted_room; i++)
			if (stack->noted[i])
				*noted(bigger, room, stack->noted[i]) = stack->noted[i];
		free(stack->noted);
		stack->noted = bigger;
		stack->noted_room = room;
	}
	*noted(stack->noted, stack->noted_room, number_of(path)) = number_of(path);
	stack->noted_count++;
}

void vu_facts_free(struct vu_stack *stack)
{
	free(stack->facts);
	free(stack->noted);
}
