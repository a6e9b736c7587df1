/*
 * What is known of a layer's names that are no directories: nothing is there, or a whiteout. It spares a look at the disk
 * for what the layer does not touch. Nobody else changes a layer, so a fact holds until we do.
 *
 * A fact is found by the number of its directory, which no other ever has, and by the name. It is added by who has looked,
 * without the lock; so the directory counts its changes, and what was seen before the last one is not kept. Whoever
 * makes, moves or removes a name says so while it has the lock, when that is done. Of a directory that the
 * engine has made or read there is more: in it is no name but those that it has read or made. They are kept as hashes, of
 * which two that are the same cost a look at the disk.
 *
 * Without the look nobody asks whether the caller may search the directories on the way. So it is left out only where that
 * is no question.
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

/* Where the number stands in a set, or would stand. */
static uint64_t *place_of(const struct vu_hashes *set, uint64_t number)
{
	uint64_t at = number;
	while (set->table[at & (set->room - 1)] && set->table[at & (set->room - 1)] != number)
		at++;
	return &set->table[at & (set->room - 1)];
}

static bool has(const struct vu_hashes *set, uint64_t number)
{
	return set->room && *place_of(set, number + !number); /* 0 is an empty place */
}

static bool put(struct vu_hashes *set, uint64_t number)
{
	number += !number;
	if (2 * (set->count + 1) > set->room) {
		struct vu_hashes bigger = { .count = set->count, .room = set->room ? 2 * set->room : 16 };
		if (!(bigger.table = calloc(bigger.room, sizeof *bigger.table)))
			return false;
		for (unsigned i = 0; i < set->room; i++)
			if (set->table[i])
				*place_of(&bigger, set->table[i]) = set->table[i];
		free(set->table);
		*set = bigger;
	}
	uint64_t *place = place_of(set, number);
	set->count += !*place;
	*place = number;
	return true;
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
	if (!vu_searches_all(stack->session))
		return VU_FACT_NONE;
	if (length > NAME_MAX)
		return VU_FACT_NONE; /* ENAMETOOLONG: the kernel says it */
	if (way->last->counted && length && !has(&way->last->touched, hash(name, length)))
		return VU_FACT_ABSENT;
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
	if (!seen->number || !length || length > LONGEST || !vu_searches_all(stack->session))
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

bool vu_facts_touch(struct vu_dir *dir, const char *name)
{
	return put(&dir->touched, hash(name, strlen(name)));
}

void vu_facts_changed(struct vu_stack *stack, const char *path)
{
	const char *name;
	struct vu_dir *dir = stack->trees[0].dirs ? above(stack, path, &name) : NULL;
	if (!dir)
		return;
	size_t length = strlen(name);
	dir->changes++;
	dir->counted = dir->counted && vu_facts_touch(dir, name);
	if (!stack->facts || !length || length > LONGEST)
		return;
	struct vu_fact *fact = slot(stack, dir->number, name, length);
	if (is_of(fact, dir->number, name, length))
		fact->directory = 0;
}

void vu_facts_covered(struct vu_stack *stack, const char *path)
{
	struct vu_way way;
	vu_dirs_find(stack->trees[0].dirs, path, &way);
	if (way.stop == strlen(path) && way.known < way.stop)
		vu_facts_add(stack, 0, path, &way, VU_FACT_WHITEOUT);
}

bool vu_facts_noted(const struct vu_stack *stack, const char *path)
{
	return has(&stack->noted, hash(path, strlen(path)));
}

void vu_facts_note(struct vu_stack *stack, const char *path)
{
	put(&stack->noted, hash(path, strlen(path))); /* without memory it is noted once more, which does no harm */
}

void vu_facts_free(struct vu_stack *stack)
{
	free(stack->facts);
	free(stack->noted.table);
}
