/*
 * The mount table: two tries over path components.
 *
 * The view trie maps a canonical view path to the mount that covers it; the host trie maps a host path to the mounts
 * whose source holds it (for getcwd, /proc magic links, the working directory). Both cost one hash look-up a component,
 * however many entries there are.
 */
#include "stack.h"

static unsigned hash(const char *name, size_t length)
{
	unsigned h = 2166136261u; /* FNV-1a */
	for (size_t i = 0; i < length; i++)
		h = (h ^ (unsigned char)name[i]) * 16777619u;
	return h;
}

const struct vu_node *vu_node_child(const struct vu_node *node, const char *name, size_t length)
{
	if (!node->bucket_count)
		return NULL;
	const struct vu_node *child = node->buckets[hash(name, length) & (node->bucket_count - 1)];
	while (child && !(child->length == length && !memcmp(child->name, name, length)))
		child = child->next;
	return child;
}

static int grow(struct vu_node *node)
{
	unsigned count = node->bucket_count ? node->bucket_count * 2 : 4;
	struct vu_node **buckets = calloc(count, sizeof *buckets);
	if (!buckets)
		return -ENOMEM;
	for (unsigned i = 0; i < node->bucket_count; i++) {
		struct vu_node *child = node->buckets[i], *next;
		for (; child; child = next) {
			next = child->next;
			struct vu_node **bucket = &buckets[hash(child->name, child->length) & (count - 1)];
			child->next = *bucket;
			*bucket = child;
		}
	}
	free(node->buckets);
	node->buckets = buckets;
	node->bucket_count = count;
	return 0;
}

static struct vu_node *add_child(struct vu_node *node, const char *name, size_t length)
{
	struct vu_node *child = (struct vu_node *)vu_node_child(node, name, length);
	if (child)
		return child;
	if (node->child_count >= node->bucket_count && grow(node) < 0)
		return NULL;
	child = calloc(1, sizeof *child);
	if (!child || !(child->name = strndup(name, length))) {
		free(child);
		return NULL;
	}
	child->length = length;
	child->parent = node;
	struct vu_node **bucket = &node->buckets[hash(name, length) & (node->bucket_count - 1)];
	child->next = *bucket;
	*bucket = child;
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

static struct vu_node *make_path(struct vu_node *node, const char *path)
{
	size_t length;
	for (;;) {
		const char *name = component(&path, &length);
		if (!length || !node)
			return node;
		node = add_child(node, name, length);
	}
}

int vu_table_add(struct vu_table *table, int kind, bool readonly, const char *target, int fd, const char *source)
{
	if (table->count == table->room) {
		unsigned room = table->room ? table->room * 2 : 16;
		struct vu_mount **mounts = reallocarray(table->mounts, room, sizeof *mounts);
		if (!mounts)
			return -ENOMEM;
		table->mounts = mounts;
		table->room = room;
	}
	struct vu_mount *mount = calloc(1, sizeof *mount);
	if (!mount)
		return -ENOMEM;
	*mount = (struct vu_mount){ .kind = kind, .readonly = readonly, .fd = fd, .index = table->count };
	mount->target = strdup(target);
	mount->source = strdup(source ? source : "");
	struct vu_node *node = make_path(&table->view, target);
	struct vu_node *origin = source && *source ? make_path(&table->host, source) : NULL;
	table->mounts[table->count++] = mount;
	if (!mount->target || !mount->source || !node || (!origin && kind != VU_HIDE))
		return -ENOMEM;
	if (node->name && !add_child(&table->names, node->name, node->length))
		return -ENOMEM;
	mount->identity = kind != VU_HIDE && !strcmp(target, source);
	mount->target_length = strcmp(target, "/") ? strlen(target) : 0;
	mount->source_length = strcmp(mount->source, "/") ? strlen(mount->source) : 0;
	node->mount = mount; /* later wins */
	if (origin) {
		mount->next_at_source = origin->mount;
		origin->mount = mount;
	}
	if (mount->target_length == 0)
		table->root = mount;
	return 0;
}

/* A tree that is not the lowest of its stack: found by its path on the host, and by nothing else. */
static int add_tree(struct vu_table *table, struct vu_mount *whole, int index)
{
	const struct vu_stack *stack = whole->stack;
	const struct vu_tree *tree = index == (int)stack->count ? &stack->handles : &stack->trees[index];
	const char *path = tree->path;
	struct vu_mount *mount = calloc(1, sizeof *mount);
	struct vu_node *origin = make_path(&table->host, path);
	if (!mount || !origin) {
		free(mount);
		return -ENOMEM;
	}
	*mount = *whole;
	mount->whole = whole;
	mount->tree = (int8_t)index;
	mount->identity = false;
	mount->source = tree->path;
	mount->source_length = tree->length;
	mount->next_at_source = origin->mount;
	origin->mount = mount;
	return 0;
}

int vu_table_add_stack(struct vu_table *table, struct vu_stack *stack, const char *target)
{
	int lowest = (int)stack->count - 1, error;
	int fd = fcntl(stack->trees[lowest].fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if ((error = vu_table_add(table, stack->layered ? VU_COW : VU_MERGE, !stack->writable, target, fd,
				  stack->trees[lowest].path)) < 0)
		return error;
	struct vu_mount *whole = table->mounts[table->count - 1];
	whole->stack = stack;
	whole->tree = (int8_t)lowest;
	for (int i = 0; !error && i < lowest; i++)
		error = add_tree(table, whole, i);
	if (!error && stack->handles.fd >= 0)
		error = add_tree(table, whole, (int)stack->count);
	if (error < 0)
		whole->stack = NULL; /* the caller frees it */
	return error;
}

int vu_table_init(struct vu_table *table)
{
	memset(table, 0, sizeof *table);
	int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return vu_table_add(table, VU_BIND, false, "/", fd, "/");
}

static void free_trees(struct vu_mount *mount)
{
	for (struct vu_mount *next; mount; mount = next) {
		next = mount->next_at_source;
		if (mount->whole)
			free(mount);
	}
}

static void free_children(struct vu_node *node, bool host)
{
	for (unsigned i = 0; i < node->bucket_count; i++) {
		struct vu_node *child = node->buckets[i], *next;
		for (; child; child = next) {
			next = child->next;
			free_children(child, host);
			if (host)
				free_trees(child->mount);
			free(child->name);
			free(child);
		}
	}
	free(node->buckets);
}

void vu_table_free(struct vu_table *table)
{
	free_children(&table->view, false);
	free_trees(table->host.mount);
	free_children(&table->host, true);
	free_children(&table->names, false);
	for (unsigned i = 0; i < table->count; i++) {
		vu_close(&table->mounts[i]->fd);
		vu_stack_free(table->mounts[i]->stack);
		free(table->mounts[i]->target);
		free(table->mounts[i]->source);
		free(table->mounts[i]);
	}
	free(table->mounts);
	memset(table, 0, sizeof *table);
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

/* Does the view show host path `host` by this mount? Then its view path goes to out. */
static bool seen_by(const struct vu_table *table, const struct vu_mount *mount, const char *host, char *out)
{
	const char *rest = host + mount->source_length;
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
	struct vu_spot spot;
	vu_table_find(table, out, &spot);
	return spot.mount == (mount->whole ? mount->whole : mount);
}

/* Of several mounts that show a host path, which is meant? A layer's upper tree and a handle are nothing but parts of their stack. */
static int rank_of(const struct vu_mount *mount, const struct vu_mount *prefer)
{
	if (mount->whole && (mount->stack->layered || mount->tree == (int)mount->stack->count))
		return 4;
	if (mount == prefer || (prefer && mount->whole == prefer))
		return 3;
	return mount->identity ? 2 : 1;
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
		for (const struct vu_mount *m = node->mount; m; m = m->next_at_source) {
			if (m->kind == VU_HIDE) {
				withheld = true;
				continue;
			}
			int r = rank_of(m, prefer);
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
	if (!found)
		return withheld ? -EACCES : -ENOENT;
	seen_by(table, found, host, out);
	*mount = found->whole ? found->whole : found;
	if (tree)
		*tree = found->tree;
	return 0;
}
