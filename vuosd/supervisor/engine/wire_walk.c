/*
 * A path of a mount → what the server says is there, and anchors that say the same. The kernel's dentry and attribute caches in
 * small: a name is believed until its time is over, so are attributes.
 */
#include "wire_inside.h"

#include <dirent.h>

static bool is_link_to(const struct vu_wire_name *name, const struct vu_wire_node *node,
		       const struct vu_fuse_entry *entry)
{
	return name->type == S_IFLNK && node && node->nodeid == entry->nodeid &&
	       node->generation == entry->generation && node->attr.size == entry->attr.size &&
	       node->attr.mtime.tv_sec == entry->attr.mtime.tv_sec &&
	       node->attr.mtime.tv_nsec == entry->attr.mtime.tv_nsec;
}

void vu_wire_apply_missing(struct vu_wire *wire, struct vu_wire_node *directory, const char *text, int64_t until)
{
	struct vu_wire_name *name = vu_wire_find(directory, text, strlen(text));
	if (name) {
		bool shown = name->type;
		vu_wire_drop(wire, name);
		if (shown)
			vu_wire_retime(wire, directory);
		if (!until)
			vu_wire_forget_name(wire, name);
	} else if (until) {
		name = vu_wire_add(directory, text, strlen(text));
	}
	if (name && until)
		name->until = until;
}

/* A node that the server names for something else now. */
static void retire(struct vu_wire *wire, struct vu_wire_node *node)
{
	vu_wire_pin(node);
	vu_wire_unhash(wire, node);
	while (node->names)
		vu_wire_drop(wire, node->names);
	vu_wire_unpin(wire, node);
}

/* The node and the anchor of `name`, which has none or one of the same type that nobody has asked the server about. */
static int settle_name(struct vu_wire *wire, struct vu_wire_name *name, const struct vu_fuse_entry *entry,
		       const char *text)
{
	struct vu_wire_node *node = vu_wire_node_find(wire, entry->nodeid);
	int error = 0;
	if (node && vu_wire_is_above(node, name->parent))
		return -EIO; /* it would lie in itself */
	if (node && (node->generation != entry->generation || (node->attr.mode ^ entry->attr.mode) & S_IFMT)) {
		retire(wire, node);
		node = NULL;
	}
	if (node && S_ISDIR(entry->attr.mode) && node->names) {
		vu_wire_drop(wire, node->names); /* it has been moved, and not by us */
		node = NULL;
	}
	if (node && node->names && name->type)
		vu_wire_drop(wire, name); /* a placeholder: now it is known to be another name of that file */
	if (!node && !(node = vu_wire_node_new(wire, entry->nodeid, entry->generation)))
		return -ENOMEM;
	vu_wire_pin(node);
	if (!name->type) {
		if (S_ISLNK(entry->attr.mode) && !text)
			error = -ESTALE; /* its anchor has gone meanwhile */
		else if (node->names)
			error = vu_wire_make_link(wire, name, node->names);
		else {
			node->settled = false;
			error = vu_wire_make(wire, name, &entry->attr, text);
		}
	}
	if (!error)
		vu_wire_attach(name, node);
	else
		node->lookups++; /* it goes now, and the server is told */
	vu_wire_unpin(wire, node);
	return error;
}

int vu_wire_apply(struct vu_wire *wire, struct vu_wire_node *directory, const char *text,
		  const struct vu_fuse_entry *entry, const char *link, struct vu_wire_name **out)
{
	struct vu_wire_name *name = vu_wire_find(directory, text, strlen(text));
	mode_t type = entry->attr.mode & S_IFMT;
	if (!name && !(name = vu_wire_add(directory, text, strlen(text))))
		return -ENOMEM;
	bool shown = name->type;
	if (name->type && (name->type != type ? !(S_ISBLK(type) && name->type == S_IFCHR) : S_ISLNK(type) && link))
		vu_wire_drop(wire, name);
	if (name->type && !name->node && (S_ISCHR(type) || S_ISBLK(type)))
		vu_wire_drop(wire, name); /* a listing does not tell which device */
	if (name->node &&
	    (name->node->nodeid != entry->nodeid || name->node->generation != entry->generation || !name->node->hashed))
		vu_wire_drop(wire, name);
	int error = name->node ? 0 : settle_name(wire, name, entry, link);
	if (error < 0) {
		vu_wire_drop(wire, name);
		vu_wire_forget_name(wire, name);
		return error;
	}
	name->node->lookups++;
	name->until = entry->entry_until;
	if (entry->attr_until || !name->node->settled)
		error = vu_wire_set_attr(wire, name->node, &entry->attr, entry->attr_until);
	else
		name->node->attr_until = 0;
	if (!shown)
		vu_wire_retime(wire, directory);
	*out = name;
	return error;
}

/*
 * A LOOKUP whose attributes are valid for no time need not tell them (libfuse's memfs_ll says the type alone): the kernel asks for them
 * before it uses them (fuse_update_get_attr, fs/fuse/dir.c).
 */
static int ask_attributes(VU_WIRE_WHO, struct vu_fuse_entry *entry)
{
	int64_t until;
	int error = vu_fuse_getattr(wire->fuse, caller, entry->nodeid, NULL, &entry->attr, &until);
	entry->attr_until = until ? until : VU_WIRE_TOLD;
	return error;
}

int vu_wire_ask(VU_WIRE_WHO, struct vu_wire_node *directory, const char *text, struct vu_wire_name **out)
{
	struct vu_fuse_entry entry;
	char link[PATH_MAX];
	unsigned changes = directory->changes;
	vu_wire_pin(directory);
	vu_wire_unlock(wire);
	int error = vu_fuse_lookup(wire->fuse, caller, directory->nodeid, text, &entry);
	int untold = error || entry.attr_until ? 0 : ask_attributes(wire, caller, &entry);
	vu_wire_lock(wire);
	if (untold < 0) {
		vu_wire_return_lookup(wire, entry.nodeid);
		vu_wire_unpin(wire, directory);
		return untold;
	}
	bool linked = false;
	if (!error && S_ISLNK(entry.attr.mode)) {
		struct vu_wire_name *name = vu_wire_find(directory, text, strlen(text));
		linked = !name || !is_link_to(name, name->node, &entry);
	}
	if (linked) {
		vu_wire_unlock(wire);
		int length = vu_fuse_readlink(wire->fuse, caller, entry.nodeid, link);
		vu_wire_lock(wire);
		if (length < 0) {
			vu_wire_return_lookup(wire, entry.nodeid);
			error = length;
		}
	}
	bool outdated = directory->changes != changes || (directory != wire->root && !directory->names);
	if (outdated) {
		if (!error)
			vu_wire_return_lookup(wire, entry.nodeid);
		error = -ESTALE;
	}
	if (!error)
		error = vu_wire_apply(wire, directory, text, &entry, linked ? link : NULL, out);
	else if (error == -ENOENT)
		vu_wire_apply_missing(wire, directory, text,
				      wire->options.fixed ? VU_FUSE_NEVER
				      : entry.nodeid      ? 0
							  : entry.entry_until);
	vu_wire_unpin(wire, directory);
	return error;
}

int vu_wire_refresh(VU_WIRE_WHO, struct vu_wire_node *node)
{
	struct vu_fuse_attr attr;
	int64_t until;
	vu_wire_pin(node);
	vu_wire_unlock(wire);
	int error = vu_fuse_getattr(wire->fuse, caller, node->nodeid, NULL, &attr, &until);
	vu_wire_lock(wire);
	if (!error)
		error = vu_wire_set_attr(wire, node, &attr, until);
	vu_wire_unpin(wire, node);
	return error;
}

/* The next name of a path, into `name`; what follows it. NULL: too long. */
static const char *next_name(const char *path, char name[NAME_MAX + 1])
{
	size_t length = strcspn(path, "/");
	if (length > NAME_MAX)
		return NULL;
	memcpy(name, path, length);
	name[length] = 0;
	path += length;
	return path + strspn(path, "/");
}

/* As far as directories lead. 0: *node is at the path; 1: it is on the way and no directory. */
static int walk(VU_WIRE_WHO, const char *path, bool cached, struct vu_wire_node **node)
{
	char text[NAME_MAX + 1];
	int64_t now = vu_fuse_now();
	struct vu_wire_node *at = wire->root;
	bool fresh = false;
	if (*path == '/') {
		if (!(at = vu_wire_nameless(wire, path)))
			return -ENOENT;
		path = "";
	}
	while (*path) {
		const char *rest = next_name(path, text);
		if (!rest)
			return -ENAMETOOLONG;
		if (!S_ISDIR(at->attr.mode))
			break;
		struct vu_wire_name *name = vu_wire_find(at, text, strlen(text));
		fresh = false;
		if (!name && at->listed)
			return -ENOENT;
		if (!name || name->until <= now) {
			if (cached)
				return -EWOULDBLOCK;
			int error = vu_wire_ask(wire, caller, at, text, &name);
			if (error < 0)
				return error;
			fresh = true;
		}
		if (!name->node)
			return -ENOENT;
		at = name->node;
		path = rest;
	}
	if (!fresh && at->attr_until <= now) {
		if (cached)
			return -EWOULDBLOCK;
		vu_wire_pin(at);
		int error = vu_wire_refresh(wire, caller, at);
		bool gone = at != wire->root && !at->names && !at->holders;
		if (!at->names && at->holders && (error == -ENOENT || error == -ESTALE))
			error = 0; /* the server knows it by its path alone: what is known of it stays, and open(2) says so */
		vu_wire_unpin(wire, at);
		if (error == -ENOENT || error == -ESTALE || gone)
			return -ESTALE; /* the node has gone: its name leads elsewhere by now, or nowhere */
		if (error < 0)
			return error;
	}
	*node = at;
	return *path ? 1 : 0;
}

static void distrust(struct vu_wire *wire, const char *path)
{
	char text[NAME_MAX + 1];
	struct vu_wire_node *at = wire->root;
	for (const char *rest; at && *path && (rest = next_name(path, text)); path = rest) {
		struct vu_wire_name *name = vu_wire_find(at, text, strlen(text));
		if (!name)
			return;
		name->until = 0;
		at = name->node;
	}
}

static int reach(VU_WIRE_WHO, const char *path, bool cached, struct vu_wire_node **node)
{
	int result = -ESTALE;
	for (int i = 0; i < VU_WIRE_RETRIES && result == -ESTALE; i++) {
		if (i)
			distrust(wire, path);
		result = walk(wire, caller, path, cached, node);
	}
	if (result >= 0)
		vu_wire_pin(*node);
	return result;
}

int vu_wire_reach_known(struct vu_wire *wire, const char *path, struct vu_wire_node **node)
{
	static const struct vu_fuse_caller nobody;
	int result = reach(wire, &nobody, path, true, node);
	if (result == 1)
		vu_wire_unpin(wire, *node);
	return result == 1 ? -ENOTDIR : result;
}

int vu_wire_reach(VU_WIRE_WHO, const char *path, struct vu_wire_node **node)
{
	int result = reach(wire, caller, path, false, node);
	if (result == 1)
		vu_wire_unpin(wire, *node);
	if (result)
		*node = NULL;
	return result == 1 ? -ENOTDIR : result;
}

int vu_wire_reach_parent(VU_WIRE_WHO, const char *path, struct vu_wire_node **directory, const char **name)
{
	char above[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t length = slash ? (size_t)(slash - path) : 0;
	if (!*path || *path == '/')
		return *path ? -ENOENT : -EEXIST;
	if (length >= sizeof above)
		return -ENAMETOOLONG;
	memcpy(above, path, length);
	above[length] = 0;
	*name = slash ? slash + 1 : path;
	if (!**name || strlen(*name) > NAME_MAX)
		return **name ? -ENAMETOOLONG : -EEXIST;
	int error = vu_wire_reach(wire, caller, above, directory);
	if (!error && !S_ISDIR((*directory)->attr.mode)) {
		vu_wire_unpin(wire, *directory);
		return -ENOTDIR;
	}
	return error;
}

int vu_wire_prepare(VU_WIRE_WHO, const char *path, unsigned want)
{
	struct vu_wire_node *node;
	vu_fuse_hear(wire->fuse);
	if (vu_fuse_is_dead(wire->fuse))
		return -ENOTCONN;
	vu_wire_lock(wire);
	int result = reach(wire, caller, path, want & VU_WIRE_CACHED, &node);
	if (result >= 0) {
		if (!result && (want & VU_WIRE_LIST) && S_ISDIR(node->attr.mode) && !node->listed)
			result = want & VU_WIRE_CACHED ? -EWOULDBLOCK : vu_wire_list(wire, caller, node);
		else
			result = 0;
		vu_wire_unpin(wire, node);
	}
	if (want & VU_WIRE_CACHED)
		pthread_mutex_unlock(&wire->lock);
	else
		vu_wire_unlock(wire);
	/* Its directory is prepared as well, on the way. */
	return result == -ENOENT && (want & VU_WIRE_PARENT) ? 0 : result;
}
