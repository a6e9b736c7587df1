/*
 * What a directory of a stack lists: the kernel reads the tree that the caller's descriptor is of, and this says which of
 * those names do not show, which show something else, and which are to be added.
 */
#include "stack.h"

#include <dirent.h>
#include <stdio.h>

#include "paths.h"
#include "walk.h"
#include "wired.h"

enum { SPREAD = 0x1fffffff }; /* positions: 29 bits, see op_getdents.c */

static uint32_t hash(const char *name)
{
	uint32_t h = vu_hash_name(name, strlen(name));
	return (h ^ h >> 29) & SPREAD;
}

/* Filling: an open-addressed table by hash, which becomes a sorted list in the end. */
static struct vu_name *slot(struct vu_names *names, const char *name)
{
	unsigned at = hash(name) & (names->room - 1);
	while (names->names[at].name && strcmp(names->names[at].name, name))
		at = (at + 1) & (names->room - 1);
	return &names->names[at];
}

static int grow(struct vu_names *names)
{
	struct vu_names bigger = { .room = names->room ? names->room * 2 : 64 };
	if (!(bigger.names = calloc(bigger.room, sizeof *bigger.names)))
		return -ENOMEM;
	for (unsigned i = 0; i < names->room; i++)
		if (names->names[i].name)
			*slot(&bigger, names->names[i].name) = names->names[i];
	free(names->names);
	names->names = bigger.names;
	names->room = bigger.room;
	return 0;
}

static bool is_whiteout(int dir, const struct dirent *entry, bool attributes)
{
	struct stat st;
	if (entry->d_type != DT_CHR && entry->d_type != DT_UNKNOWN && !(attributes && entry->d_type == DT_REG))
		return false;
	VU_CLOSE int fd = vu_walk_open(dir, entry->d_name, O_NOFOLLOW);
	return fd >= 0 && !fstat(fd, &st) && vu_stack_is_whiteout(fd, &st, attributes);
}

/* Does the directory of that name in a layer show nothing of those below? `path`: of the directory that is listed, in the tree. */
static bool covers(struct vu_stack *stack, const struct vu_tree *tree, const char *path, const char *name)
{
	char text[VU_TEXT];
	struct vu_way way = {};
	int length = snprintf(text, sizeof text, "%s%s%s", path, *path ? "/" : "", name);
	if (length >= (int)sizeof text)
		return false;
	pthread_mutex_lock(&stack->lock);
	bool known = vu_dirs_find(tree->dirs, text, &way);
	pthread_mutex_unlock(&stack->lock);
	return known && way.opaque;
}

static int add(struct vu_names *names, const struct dirent *entry, bool whiteout, bool alone, bool below)
{
	if (2 * (names->count + 1) > names->room && grow(names) < 0)
		return -ENOMEM;
	struct vu_name *name = slot(names, entry->d_name);
	if (name->name) { /* a tree further up has it; directories are one, and the lowest's */
		if (name->type == DT_DIR && entry->d_type == DT_DIR && !name->hidden && !name->alone && !whiteout) {
			name->ino = entry->d_ino;
			name->alone = alone;
		}
		return 0;
	}
	if (!(name->name = strdup(entry->d_name)))
		return -ENOMEM;
	name->hidden = whiteout;
	name->alone = alone;
	name->below = below;
	name->type = entry->d_type;
	name->ino = entry->d_ino;
	names->count++;
	return 0;
}

/* `layer`: what the tree is; NULL for one that is none. */
static int read_tree(struct vu_stack *stack, int dir, const struct vu_tree *layer, const char *path, bool attributes,
		     bool below, struct vu_names *names)
{
	int own = vu_stack_read_directory(dir), error = 0;
	DIR *stream = own < 0 ? NULL : fdopendir(own);
	if (!stream)
		return -errno;
	for (struct dirent *entry; !error && (entry = readdir(stream));)
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			error = add(names, entry, layer && is_whiteout(own, entry, attributes),
				    layer && entry->d_type == DT_DIR && covers(stack, layer, path, entry->d_name),
				    below);
	closedir(stream);
	return error;
}

static int by_position(const void *a, const void *b)
{
	const struct vu_name *x = a, *y = b;
	if (x->position != y->position)
		return x->position < y->position ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* Which of them the tree that is read has itself, and the order. `lowest`: it is the last that shows the directory. */
static void settle(struct vu_names *names, int fd, bool lowest)
{
	unsigned kept = 0;
	for (unsigned i = 0; i < names->room; i++) {
		struct vu_name name = names->names[i];
		struct stat st;
		if (!name.name)
			continue;
		name.position = hash(name.name);
		bool found = !fstatat(fd, name.name, &st, AT_SYMLINK_NOFOLLOW);
		name.extra = !found && errno == ENOENT;
		bool directories = found && S_ISDIR(st.st_mode) && name.type == DT_DIR;
		if (name.extra ? name.hidden : name.below && !directories) {
			free(name.name);
			continue;
		}
		if (found && lowest && S_ISDIR(st.st_mode) && name.type == DT_DIR && !name.hidden && !name.alone)
			name.ino = st.st_ino;
		names->names[kept++] = name;
	}
	qsort(names->names, kept, sizeof *names->names, by_position);
	for (unsigned i = 1; i < kept; i++)
		if (names->names[i].position <= names->names[i - 1].position)
			names->names[i].position = names->names[i - 1].position + 1;
	names->count = kept;
	names->settled = true;
}

static void free_names(struct vu_names *names)
{
	unsigned count = names->settled ? names->count : names->room;
	for (unsigned i = 0; i < count; i++)
		free(names->names[i].name);
	free(names->names);
	free(names->path);
	free(names);
}

static int gather(struct vu_stack *stack, const char *path, unsigned tree, int fd, struct vu_names *names)
{
	char texts[2][VU_TEXT];
	unsigned turn = 0, last = 0;
	bool shown = false, found = false, covers = false;
	int error = 0;
	for (unsigned i = 0; !error && !covers && i < stack->count; i++) {
		bool attributes;
		int dir = vu_stack_open_tree(stack, i, path, &covers, &attributes, texts[turn]);
		if (dir == -VU_LATER)
			return dir;
		if (dir < 0 && dir != -ENOENT)
			break; /* something else covers it */
		if (dir >= 0)
			error = vu_tree_prepare(&stack->trees[i], path, VU_WIRE_LIST);
		if (error < 0)
			close(dir);
		else if (dir >= 0) {
			last = i;
			found = true;
			if (i == tree) {
				shown = true;
				names->whiteouts = stack->trees[i].dirs;
				names->attribute_whiteouts = attributes;
			} else {
				names->plain = false;
				const struct vu_tree *layer = stack->trees[i].dirs ? &stack->trees[i] : NULL;
				error = read_tree(stack, dir, layer, path, attributes, i > tree, names);
			}
			close(dir);
		}
		if (*texts[turn]) {
			path = texts[turn];
			turn = !turn;
		}
	}
	if (tree == stack->count) { /* what a handle has are handles, also of what has gone */
		names->plain = false;
		names->handle = true;
		shown = found;
	}
	if (!error && !shown)
		error = -ENOENT;
	if (!error)
		settle(names, fd, last == tree);
	return error;
}

static struct vu_names *kept(struct vu_stack *stack, const char *path, unsigned tree, bool drop)
{
	for (unsigned i = 0; i < VU_LISTINGS; i++) {
		struct vu_names *names = stack->listings[i];
		if (!names || names->tree != tree || strcmp(names->path, path))
			continue;
		if (!drop)
			return names;
		stack->listings[i] = NULL;
		vu_names_put(stack, names);
	}
	return NULL;
}

static void keep(struct vu_stack *stack, struct vu_names *names)
{
	struct vu_names **at = &stack->listings[stack->next_listing++ % VU_LISTINGS];
	if (*at)
		vu_names_put(stack, *at);
	names->users++;
	*at = names;
}

int vu_names_get(struct vu_stack *stack, const char *path, unsigned tree, int fd, bool fresh, struct vu_names **out)
{
	enum { LARGE = 256 };
	pthread_mutex_lock(&stack->lock);
	struct vu_names *names = kept(stack, path, tree, fresh);
	if (names)
		names->users++;
	pthread_mutex_unlock(&stack->lock);
	*out = names;
	if (names)
		return 0;
	if (!(names = calloc(1, sizeof *names)))
		return -ENOMEM;
	*names = (struct vu_names){ .users = 1, .plain = true, .tree = tree, .path = strdup(path) };
	int error = names->path ? gather(stack, path, tree, fd, names) : -ENOMEM;
	if (error < 0) {
		free_names(names);
		return error;
	}
	if (names->count >= LARGE) {
		pthread_mutex_lock(&stack->lock);
		keep(stack, names);
		pthread_mutex_unlock(&stack->lock);
	}
	*out = names;
	return 0;
}

void vu_names_put(struct vu_stack *stack, struct vu_names *names)
{
	if (!names)
		return;
	pthread_mutex_lock(&stack->lock);
	bool last = !--names->users;
	pthread_mutex_unlock(&stack->lock);
	if (last)
		free_names(names);
}

const struct vu_name *vu_names_find(const struct vu_names *names, const char *name)
{
	uint32_t wanted = hash(name);
	unsigned low = 0, high = names->count;
	while (low < high) {
		unsigned middle = (low + high) / 2;
		if (names->names[middle].position < wanted)
			low = middle + 1;
		else
			high = middle;
	}
	/* One whose hash others have lies a little further on; and those before may have been pushed on as well. */
	for (; low < names->count && names->names[low].position <= wanted + 16; low++)
		if (!strcmp(names->names[low].name, name))
			return &names->names[low];
	return NULL;
}
