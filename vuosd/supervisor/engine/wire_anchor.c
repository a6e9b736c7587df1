/*
 * What of a mount lies in the cache directory: for each name that is known an object of the same type, with the server's mode,
 * times and size. The lock is held; nothing here asks the server.
 *
 * The modes are the server's, and may shut us out where we are not root: then an object is opened up for the moment.
 */
#include "wire_inside.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/syscall.h>

/* The root is named from above: "." cannot be looked up where its mode forbids the search. */
#define BASE(wire, path) (strcmp((path), ".") ? (wire)->tree : (wire)->cache), (strcmp((path), ".") ? (path) : "tree")

/* A chmod that lasts as long as a call takes. -1: there was nothing to do. */
static int open_up(struct vu_wire *wire, const char *path, mode_t wanted)
{
	struct stat st;
	if (fstatat(BASE(wire, path), &st, vu_wire_nofollow(path, AT_SYMLINK_NOFOLLOW)) < 0 || S_ISLNK(st.st_mode) ||
	    (st.st_mode & wanted) == wanted || fchmodat(BASE(wire, path), (st.st_mode & 07777) | wanted, 0) < 0)
		return -1;
	return (int)(st.st_mode & 07777);
}

static void close_up(struct vu_wire *wire, const char *path, int mode)
{
	int error = errno;
	if (mode >= 0)
		fchmodat(BASE(wire, path), (mode_t)mode, 0);
	errno = error;
}

/* The directories that lead to a path, opened up from the top on, as far as need be. */
struct way {
	unsigned count;
	struct {
		size_t length;
		int mode;
	} at[64];
};

static void open_way(struct vu_wire *wire, const char *path, struct way *way)
{
	char above[PATH_MAX];
	const char *slash = path;
	way->count = 0;
	if (*path == '/')
		return;
	int mode = open_up(wire, ".", 0700);
	if (mode >= 0) {
		way->at[way->count].length = 0;
		way->at[way->count++].mode = mode;
	}
	while (way->count < 64 && (slash = strchr(slash, '/'))) {
		size_t length = (size_t)(slash++ - path);
		memcpy(above, path, length);
		above[length] = 0;
		if ((mode = open_up(wire, above, 0700)) < 0)
			continue;
		way->at[way->count].length = length;
		way->at[way->count++].mode = mode;
	}
}

static void close_way(struct vu_wire *wire, const char *path, struct way *way)
{
	char above[PATH_MAX];
	while (way->count--) {
		size_t length = way->at[way->count].length;
		memcpy(above, path, length);
		above[length] = 0;
		close_up(wire, length ? above : ".", way->at[way->count].mode);
	}
}

/* Make `call`, once more with the way to `path` open to us if it is refused. */
#define IN_DIRECTORY(wire, path, call)                                                                                 \
	__extension__({                                                                                                \
		long result_ = (call);                                                                                 \
		if (result_ < 0 && errno == EACCES) {                                                                  \
			struct way way_;                                                                               \
			open_way((wire), (path), &way_);                                                               \
			result_ = (call);                                                                              \
			close_way((wire), (path), &way_);                                                              \
		}                                                                                                      \
		result_;                                                                                               \
	})

int vu_wire_open_anchor(struct vu_wire *wire, const char *path, int flags)
{
	flags |= O_CLOEXEC | vu_wire_nofollow(path, O_NOFOLLOW) | O_NOCTTY;
	int fd = openat(BASE(wire, path), flags);
	if (fd < 0 && errno == EACCES) {
		struct way way;
		open_way(wire, path, &way);
		int mode = open_up(wire, path, 0700);
		fd = openat(BASE(wire, path), flags);
		close_up(wire, path, mode);
		close_way(wire, path, &way);
	}
	return fd < 0 ? -errno : fd;
}

int vu_wire_watch(struct vu_wire *wire, const char *path, const char *own)
{
	int watch = inotify_add_watch(wire->inotify, own, IN_CLOSE_WRITE);
	if (watch < 0 && errno == EACCES) { /* inotify_find_inode wants the right to read */
		struct way way;
		open_way(wire, path, &way);
		int mode = open_up(wire, path, 0600);
		watch = inotify_add_watch(wire->inotify, own, IN_CLOSE_WRITE);
		close_up(wire, path, mode);
		close_way(wire, path, &way);
	}
	return watch < 0 ? -errno : watch;
}

int vu_wire_descriptor(struct vu_wire *wire, const char *path, int flags)
{
	vu_wire_lock(wire);
	int fd = vu_wire_open_anchor(wire, *path ? path : ".", flags);
	vu_wire_unlock(wire);
	return fd;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

void vu_wire_retime(struct vu_wire *wire, struct vu_wire_node *node)
{
	char path[PATH_MAX];
	struct stat st;
	struct timespec times[] = { node->attr.atime, node->attr.mtime };
	if (!node->settled || vu_wire_node_path(wire, node, path) < 0)
		return;
	bool known = IN_DIRECTORY(wire, path, fstatat(BASE(wire, path), &st, AT_SYMLINK_NOFOLLOW)) == 0;
	/* Its time of change is for what has changed. */
	if (!known || !same_time(&st.st_atim, &times[0]) || !same_time(&st.st_mtim, &times[1]))
		IN_DIRECTORY(wire, path, utimensat(BASE(wire, path), times, AT_SYMLINK_NOFOLLOW));
}

int vu_wire_make(struct vu_wire *wire, struct vu_wire_name *name, const struct vu_fuse_attr *attr, const char *text)
{
	char path[PATH_MAX];
	mode_t type = attr->mode & S_IFMT;
	int error = vu_wire_path(name, path);
	long result;
	if (error < 0)
		return error;
	switch (type) {
	case S_IFDIR: result = IN_DIRECTORY(wire, path, mkdirat(wire->tree, path, 0700)); break;
	case S_IFLNK: result = IN_DIRECTORY(wire, path, symlinkat(text, wire->tree, path)); break;
	case S_IFCHR:
	case S_IFBLK:
		/* One that nobody can open (ENXIO) stands for what may not be: vu_wire_device() knows which it is. */
		result = -1;
		if (wire->options.gives_owners)
			result = IN_DIRECTORY(
				wire, path,
				mknodat(wire->tree, path, type | 0600, wire->options.no_devices ? 0 : attr->rdev));
		if (result < 0 && (!wire->options.gives_owners || errno == EPERM)) /* … which any user may make */
			result = IN_DIRECTORY(wire, path, mknodat(wire->tree, path, S_IFCHR | 0600, 0));
		break;
	default: result = IN_DIRECTORY(wire, path, mknodat(wire->tree, path, type | 0600, 0)); break;
	}
	if (result < 0)
		return -errno;
	name->type = type;
	return 0;
}

int vu_wire_make_link(struct vu_wire *wire, struct vu_wire_name *name, const struct vu_wire_name *same)
{
	char path[PATH_MAX], other[PATH_MAX];
	int error = vu_wire_path(name, path);
	if (error < 0 || (error = vu_wire_path(same, other)) < 0)
		return error;
	if (IN_DIRECTORY(wire, path, IN_DIRECTORY(wire, other, linkat(wire->tree, other, wire->tree, path, 0))) < 0)
		return -errno;
	name->type = same->type;
	return 0;
}

static void drop_children(struct vu_wire *wire, struct vu_wire_node *directory)
{
	for (unsigned i = 0; i < directory->bucket_count; i++)
		while (directory->buckets[i]) {
			struct vu_wire_name *child = directory->buckets[i];
			vu_wire_drop(wire, child);
			vu_wire_forget_name(wire, child);
		}
}

void vu_wire_drop(struct vu_wire *wire, struct vu_wire_name *name)
{
	char path[PATH_MAX];
	if (name->type) {
		if (name->type == S_IFDIR && name->node)
			drop_children(wire, name->node);
		if (!vu_wire_path(name, path))
			IN_DIRECTORY(wire, path, unlinkat(wire->tree, path, name->type == S_IFDIR ? AT_REMOVEDIR : 0));
		name->type = 0;
	}
	if (name->node && S_ISDIR(name->node->attr.mode))
		vu_wire_unhash(wire, name->node); /* it may be in use, but is none of the tree's */
	vu_wire_detach(wire, name);
	name->until = 0;
}

int vu_wire_rename_anchor(struct vu_wire *wire, const char *from, const char *to, unsigned flags)
{
	long result = syscall(SYS_renameat2, wire->tree, from, wire->tree, to, flags);
	if (result < 0 && errno == EACCES) {
		struct way way;
		open_way(wire, from, &way);
		/* A directory that moves is written to as well: its "..". */
		int mode = open_up(wire, from, 0700);
		result = IN_DIRECTORY(wire, to, syscall(SYS_renameat2, wire->tree, from, wire->tree, to, flags));
		close_up(wire, result < 0 ? from : to, mode);
		close_way(wire, from, &way);
	}
	return result < 0 ? -errno : 0;
}

int vu_wire_remove_anchor(struct vu_wire *wire, const char *path)
{
	return IN_DIRECTORY(wire, path, unlinkat(wire->tree, path, 0)) < 0 ? -errno : 0;
}

static void spare_path(const struct vu_wire_node *node, unsigned number, char out[64])
{
	snprintf(out, 64, "%p.%u", (const void *)node, number);
}

void vu_wire_drop_spares(struct vu_wire *wire, struct vu_wire_node *node)
{
	char spare[64];
	while (node->spares) {
		spare_path(node, --node->spares, spare);
		unlinkat(wire->cache, spare, 0);
	}
}

/* st_nlink is the server's: what it counts beyond the names that we know are links outside of the tree. */
static void match_links(struct vu_wire *wire, struct vu_wire_node *node, const char *path)
{
	char spare[64];
	unsigned names = 0, wanted = 0;
	if (S_ISDIR(node->attr.mode) || node == wire->root || *path == '/')
		return;
	for (const struct vu_wire_name *name = node->names; name; name = name->other)
		names += name->type != 0;
	if (node->attr.nlink > names)
		wanted = node->attr.nlink - names < VU_WIRE_SPARES ? node->attr.nlink - names : VU_WIRE_SPARES;
	while (node->spares > wanted) {
		spare_path(node, --node->spares, spare);
		unlinkat(wire->cache, spare, 0);
	}
	for (; node->spares < wanted; node->spares++) {
		spare_path(node, node->spares, spare);
		if (IN_DIRECTORY(wire, path, linkat(wire->tree, path, wire->cache, spare, 0)) < 0)
			break;
	}
}

int vu_wire_set_attr(struct vu_wire *wire, struct vu_wire_node *node, const struct vu_fuse_attr *attr, int64_t until)
{
	char path[PATH_MAX];
	struct vu_fuse_attr old = node->attr;
	bool fresh = !node->settled, ours = node->data && node->data->writing;
	if ((node->settled || node == wire->root) && ((attr->mode ^ old.mode) & S_IFMT))
		return -EIO; /* fuse_change_attributes: an inode never becomes another type */
	int error = vu_wire_anchor_path(wire, node, path);
	node->attr = *attr;
	node->attr_until = until;
	if (ours) { /* what has been written and is not back yet counts */
		node->attr.size = old.size;
		node->attr.mtime = old.mtime;
	}
	if (error < 0)
		return error == -ENOENT ? 0 : error; /* it has no name any more */
	bool resized = S_ISREG(attr->mode) && !ours && (fresh || attr->size != old.size);
	bool rewritten = S_ISREG(attr->mode) && !ours && !same_time(&attr->mtime, &old.mtime);
	if (node->data && (resized || rewritten) &&
	    !(node->data->size == attr->size && same_time(&node->data->mtime, &attr->mtime)))
		node->data->filled = false;
	if (wire->options.gives_owners && (fresh || attr->uid != old.uid || attr->gid != old.gid) &&
	    fchownat(BASE(wire, path), attr->uid, attr->gid, vu_wire_nofollow(path, AT_SYMLINK_NOFOLLOW)) < 0)
		return -errno;
	if (resized && (attr->size || !fresh)) {
		int fd = vu_wire_open_anchor(wire, path, O_WRONLY);
		if (fd < 0)
			return fd;
		error = ftruncate(fd, (off_t)attr->size) < 0 ? -errno : 0;
		close(fd);
		if (error < 0)
			return error;
	}
	/* After the owner: chown(2) takes set-id bits away. */
	if ((fresh || attr->mode != old.mode || attr->uid != old.uid) && !S_ISLNK(attr->mode) &&
	    IN_DIRECTORY(wire, path, fchmodat(BASE(wire, path), attr->mode & 07777, 0)) < 0)
		return -errno;
	node->settled = true;
	match_links(wire, node, path);
	if (fresh || resized || (!ours && !same_time(&attr->mtime, &old.mtime)) ||
	    !same_time(&attr->atime, &old.atime)) {
		struct timespec times[] = { attr->atime, attr->mtime };
		if (ours)
			times[1].tv_nsec = UTIME_OMIT;
		IN_DIRECTORY(wire, path,
			     utimensat(BASE(wire, path), times, vu_wire_nofollow(path, AT_SYMLINK_NOFOLLOW)));
	}
	return 0;
}
