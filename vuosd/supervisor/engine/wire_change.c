/* What changes names and attributes: the server first, and when it agrees the anchor. */
#include "wire_inside.h"

#include <fcntl.h>

#ifndef RENAME_EXCHANGE
#include <linux/fs.h>
#endif

/* The directory has changed, by us: answers from before do not count, and its attributes are others. */
static void note_change(struct vu_wire_node *directory)
{
	directory->changes++;
	directory->attr_until = 0;
}

/* A name that the server has made: its anchor. */
static int made(struct vu_wire *wire, struct vu_wire_node *directory, const char *text,
		const struct vu_fuse_entry *entry, const char *link)
{
	struct vu_wire_name *name;
	vu_wire_lock(wire);
	note_change(directory);
	if (S_ISLNK(entry->attr.mode) &&
	    !link) { /* another name of a link: whoever looks at it will ask for its text */
		vu_wire_apply_missing(wire, directory, text, 0);
		vu_wire_return_lookup(wire, entry->nodeid);
		return 0;
	}
	return vu_wire_apply(wire, directory, text, entry, link, &name);
}

/* What the kernel looks at before it asks a file system, and servers rely on: fs/namei.c filename_create. */
static int must_be_missing(VU_WIRE_WHO, const char *path)
{
	struct vu_wire_node *node;
	int error = vu_wire_reach(wire, caller, path, &node);
	if (!error)
		vu_wire_unpin(wire, node);
	return !error ? -EEXIST : error == -ENOENT ? 0 : error;
}

#define MAKE(path, link, request)                                                                                      \
	__extension__({                                                                                                \
		struct vu_wire_node *directory;                                                                        \
		struct vu_fuse_entry entry;                                                                            \
		const char *text;                                                                                      \
		vu_wire_lock(wire);                                                                                    \
		int error_ = must_be_missing(wire, caller, (path));                                                    \
		if (!error_)                                                                                           \
			error_ = vu_wire_reach_parent(wire, caller, (path), &directory, &text);                        \
		if (!error_) {                                                                                         \
			vu_wire_unlock(wire);                                                                          \
			if (!(error_ = (request)))                                                                     \
				error_ = made(wire, directory, text, &entry, (link));                                  \
			else                                                                                           \
				vu_wire_lock(wire);                                                                    \
			vu_wire_unpin(wire, directory);                                                                \
		}                                                                                                      \
		vu_wire_unlock(wire);                                                                                  \
		error_;                                                                                                \
	})

int vu_wire_mkdir(VU_WIRE_WHO, const char *path, mode_t mode)
{
	return MAKE(path, NULL, vu_fuse_mkdir(wire->fuse, caller, directory->nodeid, text, mode, &entry));
}

int vu_wire_mknod(VU_WIRE_WHO, const char *path, mode_t mode, dev_t device)
{
	return MAKE(path, NULL, vu_fuse_mknod(wire->fuse, caller, directory->nodeid, text, mode, device, &entry));
}

int vu_wire_vacate(struct vu_wire *wire, const char *path)
{
	vu_wire_lock(wire);
	int error = vu_wire_remove_anchor(wire, path);
	vu_wire_unlock(wire);
	return error;
}

int vu_wire_occupied(VU_WIRE_WHO, const char *path)
{
	struct vu_wire_node *node;
	struct stat st;
	vu_wire_lock(wire);
	int error = vu_wire_reach(wire, caller, path, &node);
	if (error < 0) {
		vu_wire_unlock(wire);
		return error;
	}
	bool made = !fstatat(wire->tree, path, &st, AT_SYMLINK_NOFOLLOW) || errno != ENOENT;
	if (made) {
		node->settled = false; /* a new object: it gets all that the server says */
		error = vu_wire_set_attr(wire, node, &node->attr, node->attr_until);
	}
	vu_wire_unpin(wire, node);
	vu_wire_unlock(wire);
	return made ? error : vu_wire_remove(wire, caller, path, false);
}

int vu_wire_symlink(VU_WIRE_WHO, const char *path, const char *content)
{
	return MAKE(path, content, vu_fuse_symlink(wire->fuse, caller, directory->nodeid, text, content, &entry));
}

/*
 * What has been written goes back first, and the server's file is closed if nobody writes any more: natively close(2) has done
 * both by now. Servers keep a file that is open, by another name (libfuse: hard_remove), and tell another name's size. The
 * node is pinned.
 */
static void settle_writing(VU_WIRE_WHO, struct vu_wire_node *node)
{
	if (!S_ISREG(node->attr.mode) || !node->data || !node->data->writing ||
	    vu_wire_take_data(wire, caller, node) < 0)
		return;
	if (vu_wire_end_writing(wire, caller, node, false) == 1)
		vu_wire_write_back(wire, caller, node);
	vu_wire_give_data(wire, node);
}

int vu_wire_link(VU_WIRE_WHO, const char *from, const char *path)
{
	struct vu_wire_node *node;
	vu_wire_lock(wire);
	int error = vu_wire_reach(wire, caller, from, &node);
	if (!error)
		settle_writing(wire, caller, node);
	bool directory_itself = !error && S_ISDIR(node->attr.mode);
	vu_wire_unlock(wire);
	if (error < 0)
		return error;
	error = directory_itself
			? -EPERM
			: MAKE(path, NULL,
			       vu_fuse_link(wire->fuse, caller, node->nodeid, directory->nodeid, text, &entry));
	vu_wire_lock(wire);
	node->attr_until = 0; /* a link more, also where the server calls the other name another node: fuse_link */
	vu_wire_unpin(wire, node);
	vu_wire_unlock(wire);
	return error;
}

int vu_wire_remove(VU_WIRE_WHO, const char *path, bool remove_directory)
{
	struct vu_wire_node *directory, *node;
	const char *text;
	vu_wire_lock(wire);
	int error = vu_wire_reach(wire, caller, path, &node);
	if (!error) {
		/* vfs: may_delete */
		bool is_directory = S_ISDIR(node->attr.mode);
		if (node == wire->root)
			error = -EBUSY;
		else if (is_directory != remove_directory)
			error = is_directory ? -EISDIR : -ENOTDIR;
		else
			settle_writing(wire, caller, node);
		vu_wire_unpin(wire, node);
	}
	if (!error)
		error = vu_wire_reach_parent(wire, caller, path, &directory, &text);
	if (error < 0) {
		vu_wire_unlock(wire);
		return error;
	}
	vu_wire_unlock(wire);
	error = remove_directory ? vu_fuse_rmdir(wire->fuse, caller, directory->nodeid, text)
				 : vu_fuse_unlink(wire->fuse, caller, directory->nodeid, text);
	vu_wire_lock(wire);
	/* ENOENT as well: then it was gone already. */
	if (!error || error == -ENOENT) {
		note_change(directory);
		struct vu_wire_name *name = vu_wire_find(directory, text, strlen(text));
		for (struct vu_wire_name *other = name && name->node ? name->node->names : NULL; other;
		     other = other->other)
			other->node->attr_until = 0; /* its other names: a link less */
		vu_wire_apply_missing(wire, directory, text, 0);
	}
	vu_wire_unpin(wire, directory);
	vu_wire_unlock(wire);
	return error;
}

/* Would it lie in itself there? What was so when the server was asked need not be so any more. */
static bool leads_to(const struct vu_wire_name *name, const struct vu_wire_node *directory)
{
	return name->node && vu_wire_is_above(name->node, directory);
}

/* The server has renamed it. What stands in memory and in the cache follows, or is forgotten and asked for again. */
static void renamed(struct vu_wire *wire, struct vu_wire_node *old, const char *from, struct vu_wire_node *new,
		    const char *to, unsigned flags)
{
	char path[PATH_MAX], target[PATH_MAX];
	struct vu_wire_name *name = vu_wire_find(old, from, strlen(from)), *other = vu_wire_find(new, to, strlen(to));
	note_change(old);
	note_change(new);
	if (flags & RENAME_EXCHANGE) {
		if (name && other && name->type && other->type && !leads_to(name, new) && !leads_to(other, old) &&
		    !vu_wire_path(name, path) && !vu_wire_path(other, target) &&
		    !vu_wire_rename_anchor(wire, path, target, RENAME_EXCHANGE)) {
			struct vu_wire_node *node = name->node, *second = other->node;
			mode_t type = name->type;
			if (node)
				vu_wire_pin(node);
			if (second)
				vu_wire_pin(second);
			vu_wire_detach(wire, name);
			vu_wire_detach(wire, other);
			if (second)
				vu_wire_attach(name, second);
			if (node)
				vu_wire_attach(other, node);
			name->type = other->type;
			other->type = type;
			if (node)
				vu_wire_unpin(wire, node);
			if (second)
				vu_wire_unpin(wire, second);
		} else {
			vu_wire_apply_missing(wire, old, from, 0);
			vu_wire_apply_missing(wire, new, to, 0);
		}
		return;
	}
	if (name && other && name->node && name->node == other->node)
		return; /* two names of one file: rename(2) does nothing */
	vu_wire_apply_missing(wire, new, to, 0);
	name = vu_wire_find(old, from, strlen(from)); /* `old` may have been below that, by now */
	if (!name || leads_to(name, new) || !name->type || vu_wire_path(name, path) < 0)
		return vu_wire_apply_missing(wire, old, from, 0);
	/* A name of the same text for a moment, to know its path. */
	struct vu_wire_name *made_name = vu_wire_add(new, to, strlen(to));
	int error = made_name ? vu_wire_path(made_name, target) : -ENOMEM;
	if (made_name)
		vu_wire_forget_name(wire, made_name);
	if (error < 0 || vu_wire_rename_anchor(wire, path, target, 0) < 0 ||
	    vu_wire_move(name, new, to, strlen(to)) < 0)
		vu_wire_apply_missing(wire, old, from, 0);
	else if (name->node)
		name->node->attr_until = 0; /* its time of change */
}

/*
 * do_renameat2() and vfs_rename() of fs/namei.c: servers never see a directory that is to go into itself, and some do not come
 * back from it. 1: there is nothing to do.
 */
static int may_rename(VU_WIRE_WHO, const char *from, const char *to, unsigned flags)
{
	struct vu_wire_node *node, *target = NULL;
	int error = vu_wire_reach(wire, caller, from, &node);
	if (error < 0)
		return error;
	error = vu_wire_reach(wire, caller, to, &target);
	bool absent = error == -ENOENT;
	size_t length = strlen(from), other = strlen(to);
	if (absent && !(flags & RENAME_EXCHANGE))
		error = 0;
	if (!error && !absent && (flags & RENAME_NOREPLACE))
		error = -EEXIST;
	else if (!error && other > length && to[length] == '/' && !memcmp(from, to, length))
		error = -EINVAL;
	else if (!error && length > other && from[other] == '/' && !memcmp(from, to, other))
		error = flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	else if (!error && !absent && (target == node || !strcmp(from, to)))
		error = 1; /* a server may have named two nodes for one name */
	else if (!error && !absent && !(flags & RENAME_EXCHANGE) &&
		 S_ISDIR(node->attr.mode) != S_ISDIR(target->attr.mode))
		error = S_ISDIR(node->attr.mode) ? -ENOTDIR : -EISDIR;
	if (target) {
		if (!error)
			settle_writing(wire, caller, target);
		vu_wire_unpin(wire, target);
	}
	vu_wire_unpin(wire, node);
	return error;
}

int vu_wire_rename(VU_WIRE_WHO, const char *from, const char *to, unsigned flags)
{
	struct vu_wire_node *old, *new;
	const char *text, *new_text;
	vu_wire_lock(wire);
	int error = may_rename(wire, caller, from, to, flags);
	if (!error)
		error = vu_wire_reach_parent(wire, caller, from, &old, &text);
	if (error) {
		vu_wire_unlock(wire);
		return error < 0 ? error : 0;
	}
	if (!(error = vu_wire_reach_parent(wire, caller, to, &new, &new_text))) {
		vu_wire_unlock(wire);
		error = vu_fuse_rename(wire->fuse, caller, old->nodeid, text, new->nodeid, new_text, flags);
		vu_wire_lock(wire);
		if (!error) {
			renamed(wire, old, text, new, new_text, flags);
			vu_wire_retime(wire, old);
			vu_wire_retime(wire, new);
		}
		vu_wire_unpin(wire, new);
	}
	vu_wire_unpin(wire, old);
	vu_wire_unlock(wire);
	return error;
}

/* Another size: of what is written as well, which goes first. */
static int resize(VU_WIRE_WHO, struct vu_wire_node *node, uint64_t size)
{
	char path[PATH_MAX];
	int error = vu_wire_anchor_path(wire, node, path);
	if (error < 0 || !node->data->writing)
		return error == -ENOENT ? 0 : error;
	int fd = vu_wire_open_anchor(wire, path, O_WRONLY);
	if (fd < 0)
		return fd;
	error = ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
	close(fd);
	return error ? error : vu_wire_write_back(wire, caller, node);
}

int vu_wire_setattr(VU_WIRE_WHO, const char *path, uint32_t valid, const struct vu_fuse_attr *set)
{
	struct vu_wire_node *node;
	struct vu_fuse_attr attr;
	int64_t until;
	vu_wire_lock(wire);
	int error = vu_wire_reach(wire, caller, path, &node);
	if (error < 0) {
		vu_wire_unlock(wire);
		return error;
	}
	bool data = S_ISREG(node->attr.mode) && (valid & (FATTR_SIZE | FATTR_MTIME));
	bool taken = data && !(error = vu_wire_take_data(wire, caller, node));
	if (taken)
		error = vu_wire_write_back(wire, caller, node); /* or its time would be set by what comes later */
	if (!error) {
		vu_wire_unlock(wire);
		error = vu_fuse_setattr(wire->fuse, caller, node->nodeid, NULL, valid, set, &attr, &until);
		vu_wire_lock(wire);
	}
	if (!error && taken && node->data->writing) {
		if (valid & FATTR_SIZE)
			error = resize(wire, caller, node, set->size);
		char own[PATH_MAX];
		struct timespec times[] = { attr.atime, attr.mtime };
		if (!error && !vu_wire_anchor_path(wire, node, own))
			utimensat(wire->tree, own, times, vu_wire_nofollow(own, AT_SYMLINK_NOFOLLOW));
		node->data->mtime = node->attr.mtime = attr.mtime;
	}
	if (!error)
		error = vu_wire_set_attr(wire, node, &attr, until);
	if (taken)
		vu_wire_give_data(wire, node);
	vu_wire_unpin(wire, node);
	vu_wire_unlock(wire);
	return error;
}

/* Of a node, without the lock. */
#define WITH_NODE(path, request)                                                                                       \
	__extension__({                                                                                                \
		struct vu_wire_node *node;                                                                             \
		vu_wire_lock(wire);                                                                                    \
		long result_ = vu_wire_reach(wire, caller, (path), &node);                                             \
		if (!result_) {                                                                                        \
			vu_wire_unlock(wire);                                                                          \
			result_ = (request);                                                                           \
			vu_wire_lock(wire);                                                                            \
			vu_wire_unpin(wire, node);                                                                     \
		}                                                                                                      \
		vu_wire_unlock(wire);                                                                                  \
		result_;                                                                                               \
	})

ssize_t vu_wire_getxattr(VU_WIRE_WHO, const char *path, const char *name, void *value, size_t room)
{
	return WITH_NODE(path, vu_fuse_getxattr(wire->fuse, caller, node->nodeid, name, value, room));
}

ssize_t vu_wire_listxattr(VU_WIRE_WHO, const char *path, char *names, size_t room)
{
	return WITH_NODE(path, vu_fuse_listxattr(wire->fuse, caller, node->nodeid, names, room));
}

int vu_wire_setxattr(VU_WIRE_WHO, const char *path, const char *name, const void *value, size_t size, unsigned flags)
{
	return (int)WITH_NODE(path, vu_fuse_setxattr(wire->fuse, caller, node->nodeid, name, value, size, flags));
}

int vu_wire_removexattr(VU_WIRE_WHO, const char *path, const char *name)
{
	return (int)WITH_NODE(path, vu_fuse_removexattr(wire->fuse, caller, node->nodeid, name));
}

int vu_wire_statfs(VU_WIRE_WHO, const char *path, struct fuse_kstatfs *out)
{
	return (int)WITH_NODE(path, vu_fuse_statfs(wire->fuse, caller, node->nodeid, out));
}
