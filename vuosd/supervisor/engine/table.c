/*
 * The mount table: two tries over path components.
 *
 * The view trie maps a canonical view path to the mount that covers it; the host trie maps a host path to the mounts
 * whose source holds it (for getcwd, /proc magic links, the working directory). Both cost one hash look-up a component,
 * however many entries there are. A table is made anew for each change at run time, so its memory comes in large pieces.
 */
#include "paths.h"
#include "stack.h"

enum { FIRST_CHUNK = 2048, LARGEST_CHUNK = 256 * 1024 };

struct vu_chunk {
	struct vu_chunk *next;
	size_t used, size;
	_Alignas(16) char data[];
};

/* Zeroed memory, which goes with the table. */
static void *take(struct vu_table *table, size_t size)
{
	struct vu_chunk *chunk = table->memory;
	size = (size + 15) & ~(size_t)15;
	if (!chunk || chunk->size - chunk->used < size) {
		size_t room = chunk ? chunk->size * 2 : FIRST_CHUNK;
		if (room > LARGEST_CHUNK)
			room = LARGEST_CHUNK;
		if (room < size)
			room = size;
		if (!(chunk = calloc(1, sizeof *chunk + room)))
			return NULL;
		chunk->size = room;
		chunk->next = table->memory;
		table->memory = chunk;
	}
	void *memory = chunk->data + chunk->used;
	chunk->used += size;
	return memory;
}

const struct vu_node *vu_node_child(const struct vu_node *node, const char *name, size_t length)
{
	if (!node->bucket_count)
		return NULL;
	const struct vu_node *child = node->buckets[vu_hash_name(name, length) & (node->bucket_count - 1)];
	while (child && !(child->length == length && !memcmp(child->name, name, length)))
		child = child->next;
	return child;
}

static int grow(struct vu_table *table, struct vu_node *node)
{
	unsigned count = node->bucket_count ? node->bucket_count * 2 : 4;
	struct vu_node **buckets = take(table, count * sizeof *buckets);
	if (!buckets)
		return -ENOMEM;
	for (struct vu_node *child = node->first; child; child = child->sibling) {
		struct vu_node **bucket = &buckets[vu_hash_name(child->name, child->length) & (count - 1)];
		child->next = *bucket;
		*bucket = child;
	}
	node->buckets = buckets;
	node->bucket_count = count;
	return 0;
}

static struct vu_node *add_child(struct vu_table *table, struct vu_node *node, const char *name, size_t length)
{
	struct vu_node *child = (struct vu_node *)vu_node_child(node, name, length);
	if (child)
		return child;
	if (node->child_count >= node->bucket_count && grow(table, node) < 0)
		return NULL;
	if (!(child = take(table, sizeof *child)) || !(child->name = take(table, length + 1)))
		return NULL;
	memcpy(child->name, name, length);
	child->length = length;
	child->parent = node;
	struct vu_node **bucket = &node->buckets[vu_hash_name(name, length) & (node->bucket_count - 1)];
	child->next = *bucket;
	*bucket = child;
	*(node->last ? &node->last->sibling : &node->first) = child;
	node->last = child;
	node->child_count++;
	return child;
}

/* Next component of *path: its start; *length is 0 at the end. */
static const char *component(const char **path, size_t *length)
{
	const char *start = *path + strspn(*path, "/");
	*length = strcspn(start, "/");
	*path = start + *length;
	return start;
}

static struct vu_node *make_path(struct vu_table *table, struct vu_node *node, const char *path)
{
	size_t length;
	for (;;) {
		const char *name = component(&path, &length);
		if (!length || !node)
			return node;
		node = add_child(table, node, name, length);
	}
}

/* The view shows `mount->source` by this mount, or by this tree of one. */
static int show(struct vu_table *table, const struct vu_mount *mount)
{
	struct vu_node *origin = make_path(table, &table->host, mount->source);
	struct vu_shown *shown = origin ? take(table, sizeof *shown) : NULL;
	if (!shown)
		return -ENOMEM;
	*shown = (struct vu_shown){ mount, origin->shown };
	origin->shown = shown;
	return 0;
}

static int append(struct vu_table *table, struct vu_mount *mount)
{
	if (table->count == table->room) {
		unsigned room = table->room ? table->room * 2 : 16;
		struct vu_mount **mounts = take(table, room * sizeof *mounts);
		if (!mounts)
			return -ENOMEM;
		if (table->count)
			memcpy(mounts, table->mounts, table->count * sizeof *mounts);
		table->mounts = mounts;
		table->room = room;
	}
	table->mounts[table->count++] = mount;
	return 0;
}

int vu_table_add(struct vu_table *table, struct vu_mount *mount)
{
	struct vu_node *node = make_path(table, &table->view, mount->target);
	if (!node || append(table, mount) < 0)
		return -ENOMEM;
	if (node->name && !add_child(table, &table->names, node->name, node->length))
		return -ENOMEM;
	node->mount = mount; /* later wins */
	if (!mount->target_length)
		table->root = mount;
	int error = *mount->source ? show(table, mount) : 0; /* what a HIDE withholds may have no path */
	for (unsigned i = 0; !error && i < mount->tree_count; i++)
		error = show(table, &mount->trees[i]);
	table->stacked |= mount->stack != NULL;
	table->wired |= mount->wired != NULL;
	table->shared |= (mount->wired && mount->origin) || mount->upon;
	table->upon |= mount->upon != NULL;
	table->late |= mount->late;
	return error;
}

struct vu_table *vu_table_new(void)
{
	return calloc(1, sizeof(struct vu_table));
}

void vu_table_free(struct vu_table *table)
{
	for (struct vu_chunk *chunk = table->memory, *next; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	free(table);
}

void vu_table_find(const struct vu_table *table, const char *view, struct vu_spot *spot)
{
	const struct vu_node *node = &table->view;
	spot->mount = table->root;
	spot->rest = view + strspn(view, "/");
	for (;;) {
		size_t length;
		const char *name = component(&view, &length);
		if (!length)
			break;
		node = vu_node_child(node, name, length);
		if (!node)
			break;
		if (node->mount) {
			spot->mount = node->mount;
			spot->rest = view + strspn(view, "/");
			if (node->mount->kind == VU_HIDE)
				break; /* nothing below a hidden name is looked at */
		}
	}
	spot->node = node;
}

/* The view path that `host` has by this mount, if nothing lies over it; false: it is too long. */
static bool path_by(const struct vu_mount *mount, const char *host, char *out)
{
	size_t head;
	vu_mount_source(mount, &head);
	const char *rest = host + head;
	size_t length = strlen(rest);
	if (mount->target_length + length + 2 > VU_TEXT)
		return false;
	memcpy(out, mount->target, mount->target_length);
	if (rest[0] == '/' && !rest[1])
		length = 0; /* the root directory itself */
	memcpy(out + mount->target_length, rest, length);
	out[mount->target_length + length] = 0;
	if (!*out)
		strcpy(out, "/");
	return true;
}

/* Does the view show host path `host` by this mount? Then its view path goes to out. */
static bool seen_by(const struct vu_table *table, const struct vu_mount *mount, const char *host, char *out)
{
	struct vu_spot spot;
	if (!path_by(mount, host, out))
		return false;
	vu_table_find(table, out, &spot);
	return spot.mount == (mount->whole ? mount->whole : mount);
}

/* Of several mounts that show a host path, which is meant? A layer's upper tree, a handle and an anchor are nothing but parts of theirs. */
static int rank_of(const struct vu_mount *mount, const struct vu_mount *prefer)
{
	bool preferred = mount == prefer || (prefer && mount->whole == prefer);
	if (mount->wired || mount->upon ||
	    (mount->whole && (mount->stack->layered || mount->tree == (int)mount->stack->count)))
		/* A bind of it comes after the whole, and so does what stands upon it. */
		return preferred ? 6 : mount->base || mount->node || (mount->upon && !mount->whole) ? 4 : 5;
	if (preferred)
		return 3;
	return mount->identity ? 2 : 1;
}

/* Is `path` the path of that length, or one below it? */
static bool starts_with(const char *path, const char *head, size_t length)
{
	return !strncmp(path, head, length) && (!path[length] || path[length] == '/');
}

/* Does it lie in the source of the mount, as that lies by now? */
static bool lies_in(const char *host, const struct vu_mount *mount)
{
	size_t length;
	const char *source = vu_mount_source(mount, &length);
	return starts_with(host, source, length);
}

/* Of those whose sources have been renamed, and are not found by the path that they had: as vu_table_reverse(). */
static const struct vu_mount *among_moved(const struct vu_table *table, const char *host, const struct vu_mount *prefer,
					  const struct vu_mount *found, int rank, char *out)
{
	for (unsigned i = 0; i < table->count; i++) {
		const struct vu_mount *m = table->mounts[i];
		int r = atomic_load_explicit(&m->moved, memory_order_acquire) ? rank_of(m, prefer) : 0;
		if (r && r >= rank && lies_in(host, m) && seen_by(table, m, host, out)) {
			found = m;
			rank = r;
		}
	}
	return found;
}

int vu_table_reverse(const struct vu_table *table, const char *host, const struct vu_mount *prefer, char *out,
		     const struct vu_mount **mount, int *tree)
{
	const struct vu_mount *found = NULL;
	bool withheld = false;
	int rank = 0;
	const struct vu_node *node = &table->host;
	const char *path = host;
	for (;;) {
		for (const struct vu_shown *shown = node->shown; shown; shown = shown->next) {
			const struct vu_mount *m = shown->mount;
			if (m->kind == VU_HIDE) {
				withheld = true;
				continue;
			}
			int r = rank_of(m, prefer);
			if (m->node && !lies_in(host, m))
				continue;
			if (r >= rank && seen_by(table, m, host, out)) { /* ">=": the innermost of equals */
				found = m;
				rank = r;
			}
		}
		size_t length;
		const char *name = component(&path, &length);
		if (!length || !(node = vu_node_child(node, name, length)))
			break;
	}
	if (table->shared)
		found = among_moved(table, host, prefer, found, rank, out);
	if (!found)
		return withheld ? -EACCES : -ENOENT;
	seen_by(table, found, host, out);
	*mount = found->whole ? found->whole : found;
	int by = found->tree;
	if (found->stack && !found->base && by == (int)found->stack->count - 1 && out[found->target_length] == '/' &&
	    vu_moved_to(found->stack, out + found->target_length + 1, VU_TEXT - found->target_length - 1))
		by = (int)found->stack->count; /* it stands for that, as a handle does */
	if (tree)
		*tree = by;
	return 0;
}

bool vu_table_has(const struct vu_table *table, const struct vu_mount *mount)
{
	unsigned low = 0, high = table->count;
	while (low < high) {
		unsigned middle = (low + high) / 2;
		if (table->mounts[middle]->index < mount->index)
			low = middle + 1;
		else
			high = middle;
	}
	return low < table->count && table->mounts[low] == mount;
}

/* The mount that would cover the view path without the mounts at run time that came after number `last`. */
static const struct vu_mount *mount_before(const struct vu_table *table, unsigned last, const char *view)
{
	const struct vu_mount *best = NULL;
	for (unsigned i = 0; i < table->count; i++) {
		const struct vu_mount *mount = table->mounts[i];
		if ((!mount->late || mount->locked || mount->index <= last) &&
		    starts_with(view, mount->target, mount->target_length) &&
		    (!best || mount->target_length >= best->target_length))
			best = mount;
	}
	return best;
}

size_t vu_table_cover(const struct vu_table *table, const struct vu_mount *mount, const char *view)
{
	size_t least = SIZE_MAX;
	for (unsigned i = 0; i < table->count; i++) {
		const struct vu_mount *cover = table->mounts[i];
		if (cover->late && !cover->locked && cover->index > mount->index && cover->target_length < least &&
		    starts_with(view, cover->target, cover->target_length))
			least = cover->target_length;
	}
	return least;
}

int vu_table_covered(const struct vu_table *table, const char *host, const struct vu_mount *by, char *out,
		     const struct vu_mount **mount)
{
	for (unsigned i = table->late ? table->count : 0; i--;) {
		const struct vu_mount *m = table->mounts[i];
		if ((!by || by == m) && m->kind != VU_HIDE && lies_in(host, m) && path_by(m, host, out) &&
		    mount_before(table, m->index, out) == m && vu_table_cover(table, m, out) != SIZE_MAX) {
			*mount = m;
			return 0;
		}
	}
	return -ENOENT;
}
