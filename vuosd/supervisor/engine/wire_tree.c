/* What is known of a server's names and nodes. No I/O but the path of an anchor; the lock is held. */
#include "wire_inside.h"

static unsigned hash(const char *name, size_t length)
{
	unsigned h = 2166136261u; /* FNV-1a */
	for (size_t i = 0; i < length; i++)
		h = (h ^ (unsigned char)name[i]) * 16777619u;
	return h;
}

struct vu_wire_name *vu_wire_find(const struct vu_wire_node *directory, const char *name, size_t length)
{
	if (!directory->bucket_count)
		return NULL;
	struct vu_wire_name *found = directory->buckets[hash(name, length) & (directory->bucket_count - 1)];
	while (found && !(found->length == length && !memcmp(found->name, name, length)))
		found = found->next;
	return found;
}

static int grow(struct vu_wire_node *directory)
{
	unsigned count = directory->bucket_count ? directory->bucket_count * 2 : 8;
	struct vu_wire_name **buckets = calloc(count, sizeof *buckets);
	if (!buckets)
		return -ENOMEM;
	for (unsigned i = 0; i < directory->bucket_count; i++)
		for (struct vu_wire_name *name = directory->buckets[i], *next; name; name = next) {
			next = name->next;
			struct vu_wire_name **head = &buckets[hash(name->name, name->length) & (count - 1)];
			name->next = *head;
			*head = name;
		}
	free(directory->buckets);
	directory->buckets = buckets;
	directory->bucket_count = count;
	return 0;
}

static void link_name(struct vu_wire_node *directory, struct vu_wire_name *name)
{
	struct vu_wire_name **head =
		&directory->buckets[hash(name->name, name->length) & (directory->bucket_count - 1)];
	name->parent = directory;
	name->next = *head;
	*head = name;
	directory->child_count++;
}

static void unlink_name(struct vu_wire_name *name)
{
	struct vu_wire_node *directory = name->parent;
	struct vu_wire_name **link =
		&directory->buckets[hash(name->name, name->length) & (directory->bucket_count - 1)];
	while (*link != name)
		link = &(*link)->next;
	*link = name->next;
	directory->child_count--;
}

struct vu_wire_name *vu_wire_add(struct vu_wire_node *directory, const char *text, size_t length)
{
	if (directory->child_count >= directory->bucket_count && grow(directory) < 0)
		return NULL;
	struct vu_wire_name *name = calloc(1, sizeof *name);
	if (!name || !(name->name = strndup(text, length))) {
		free(name);
		return NULL;
	}
	name->length = (unsigned)length;
	link_name(directory, name);
	return name;
}

int vu_wire_move(struct vu_wire_name *name, struct vu_wire_node *directory, const char *text, size_t length)
{
	char *copy = strndup(text, length);
	if (!copy || (directory->child_count >= directory->bucket_count && grow(directory) < 0)) {
		free(copy);
		return -ENOMEM;
	}
	unlink_name(name);
	free(name->name);
	name->name = copy;
	name->length = (unsigned)length;
	link_name(directory, name);
	return 0;
}

static struct vu_wire_node **node_bucket(struct vu_wire *wire, uint64_t nodeid)
{
	return &wire->nodes[(nodeid * UINT64_C(0x9e3779b97f4a7c15)) >> 52];
}

struct vu_wire_node *vu_wire_node_find(struct vu_wire *wire, uint64_t nodeid)
{
	struct vu_wire_node *node = *node_bucket(wire, nodeid);
	while (node && node->nodeid != nodeid)
		node = node->next;
	return node;
}

struct vu_wire_node *vu_wire_node_new(struct vu_wire *wire, uint64_t nodeid, uint64_t generation)
{
	struct vu_wire_node *node = calloc(1, sizeof *node);
	if (!node)
		return NULL;
	struct vu_wire_node **head = node_bucket(wire, nodeid);
	node->nodeid = nodeid;
	node->generation = generation;
	node->hashed = true;
	node->next = *head;
	*head = node;
	return node;
}

void vu_wire_unhash(struct vu_wire *wire, struct vu_wire_node *node)
{
	struct vu_wire_node **link = node_bucket(wire, node->nodeid);
	if (!node->hashed)
		return;
	while (*link != node)
		link = &(*link)->next;
	*link = node->next;
	node->hashed = false;
}

/* They are sent when the lock is not held. */
void vu_wire_note_forgotten(struct vu_wire *wire, uint64_t nodeid, uint64_t count)
{
	if (wire->forgotten_count == wire->forgotten_room) {
		unsigned room = wire->forgotten_room ? wire->forgotten_room * 2 : 64;
		struct vu_fuse_forgotten *more = reallocarray(wire->forgotten, room, sizeof *more);
		if (!more)
			return; /* the server remembers it for longer than it need */
		wire->forgotten = more;
		wire->forgotten_room = room;
	}
	wire->forgotten[wire->forgotten_count++] = (struct vu_fuse_forgotten){ nodeid, count };
}

void vu_wire_return_lookup(struct vu_wire *wire, uint64_t nodeid)
{
	struct vu_wire_node *node = vu_wire_node_find(wire, nodeid);
	if (node)
		node->lookups++;
	else
		vu_wire_note_forgotten(wire, nodeid, 1);
}

/* Free what nobody needs: without names, users, and data that is to be written back. */
static void collect(struct vu_wire *wire, struct vu_wire_node *node)
{
	if (node->names || node->pins || node == wire->root ||
	    (node->data && (node->data->writing || node->data->busy)))
		return;
	for (unsigned i = 0; i < node->bucket_count; i++)
		while (node->buckets[i])
			vu_wire_forget_name(wire, node->buckets[i]);
	vu_wire_unhash(wire, node);
	if (node->lookups)
		vu_wire_note_forgotten(wire, node->nodeid, node->lookups);
	vu_wire_drop_spares(wire, node);
	vu_wire_free_data(wire, node);
	free(node->buckets);
	free(node);
}

void vu_wire_attach(struct vu_wire_name *name, struct vu_wire_node *node)
{
	name->node = node;
	name->other = node->names;
	node->names = name;
}

void vu_wire_detach(struct vu_wire *wire, struct vu_wire_name *name)
{
	struct vu_wire_node *node = name->node;
	if (!node)
		return;
	struct vu_wire_name **link = &node->names;
	while (*link != name)
		link = &(*link)->other;
	*link = name->other;
	name->node = NULL;
	name->other = NULL;
	collect(wire, node);
}

void vu_wire_forget_name(struct vu_wire *wire, struct vu_wire_name *name)
{
	vu_wire_detach(wire, name);
	name->parent->listed = false;
	unlink_name(name);
	free(name->name);
	free(name);
}

void vu_wire_pin(struct vu_wire_node *node)
{
	node->pins++;
}

void vu_wire_unpin(struct vu_wire *wire, struct vu_wire_node *node)
{
	node->pins--;
	collect(wire, node);
}

bool vu_wire_is_above(const struct vu_wire_node *above, const struct vu_wire_node *node)
{
	for (; node; node = node->names ? node->names->parent : NULL)
		if (node == above)
			return true;
	return false;
}

int vu_wire_path(const struct vu_wire_name *name, char out[PATH_MAX])
{
	char text[PATH_MAX];
	size_t at = sizeof text - 1;
	text[at] = 0;
	for (;;) {
		if (at < name->length + 1)
			return -ENAMETOOLONG;
		at -= name->length;
		memcpy(text + at, name->name, name->length);
		const struct vu_wire_node *directory = name->parent;
		if (directory->nodeid == FUSE_ROOT_ID)
			break;
		if (!directory->names)
			return -ENOENT;
		name = directory->names;
		text[--at] = '/';
	}
	memcpy(out, text + at, sizeof text - at);
	return 0;
}

int vu_wire_node_path(const struct vu_wire *wire, const struct vu_wire_node *node, char out[PATH_MAX])
{
	if (node == wire->root) {
		strcpy(out, ".");
		return 0;
	}
	return node->names ? vu_wire_path(node->names, out) : -ENOENT;
}

void vu_wire_lock(struct vu_wire *wire)
{
	pthread_mutex_lock(&wire->lock);
}

void vu_wire_unlock(struct vu_wire *wire)
{
	struct vu_fuse_forgotten *forgotten = wire->forgotten;
	unsigned count = wire->forgotten_count;
	wire->forgotten = NULL;
	wire->forgotten_count = wire->forgotten_room = 0;
	pthread_mutex_unlock(&wire->lock);
	if (count)
		vu_fuse_forget(wire->fuse, forgotten, count);
	free(forgotten);
}
