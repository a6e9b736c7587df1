/*
 * A file system that a FUSE server speaks, as real files: anchors in a cache directory, which the rest of the engine handles as
 * it does those of any mount. Stand-alone, as fuse.h is; docs/wire.md says what is coherent with whom and when.
 *
 *	wire_mount.c	begin and end of a mount
 *	wire_root.c	what of it is the root of another
 *	wire_tree.c	what is known of names and nodes, in memory
 *	wire_anchor.c	what of that lies in the cache directory
 *	wire_walk.c	ask the server for what is on a path, and make the anchors say so
 *	wire_list.c	the same for all names of a directory
 *	wire_data.c	a file's data, for whoever opens it
 *	wire_fetch.c	… read from the server
 *	wire_evict.c	… and forgotten, where there is no room for what is fetched next
 *	wire_back.c	… and back, when the last writer has closed it
 *	wire_change.c	what changes names and attributes: the server first, then the anchor
 *
 * Paths are relative to the mount, without "." and ".." and links ("" is its root). One lock guards what is known; it is
 * held while files of the cache change, which is quick, and never while the server is asked: others go on meanwhile, and who
 * comes back finds out by `changes` of the directory whether the answer is out of date.
 */
#ifndef VUOSD_ENGINE_WIRE_H
#define VUOSD_ENGINE_WIRE_H

#include "fuse.h"

struct vu_wire;

struct vu_wire_options {
	int64_t deadline; /* of one request, ns */
	uint64_t largest; /* file that is fetched; above it open(2) is EFBIG. 0: no limit */
	bool fixed; /* nothing of it changes */
	bool gives_owners; /* we are root: anchors get the owner that the server says, and devices are made */
	bool no_devices; /* … but these */
	bool file; /* the root is a regular file */
	void (*log)(void *data, const char *line);
	void *data;
};

/* What is wanted of the object that a path leads to, beside that it has its anchor. */
enum {
	VU_WIRE_LIST = 1, /* a directory's names all have theirs */
	VU_WIRE_PARENT = 2, /* the last name may be missing */
	VU_WIRE_CACHED = 4, /* only if the server need not be asked; else -EWOULDBLOCK */
};

#define VU_WIRE_WHO struct vu_wire *wire, const struct vu_fuse_caller *caller

/*
 * `socket` leads to the server, `cache` is an empty directory; both are taken over, whatever happens. Asks the server to
 * begin. On success *tree is an O_PATH descriptor of the root's anchor, which belongs to the mount.
 */
int vu_wire_mount(int socket, int cache, const struct vu_wire_options *options, const struct vu_fuse_caller *caller,
		  struct vu_wire **wire, int *tree);
/* The names of files that could not be written back, each as "ERRNO PATH", one after the other, as many as there is room for. */
struct vu_wire_lost {
	char *text;
	size_t room, used;
};
/*
 * It is in use no more: writes back what is left. The number of files for which that failed. Asks the server nothing where
 * nothing has been written.
 */
unsigned vu_wire_settle(struct vu_wire *wire, struct vu_wire_lost *lost);
/* The same, then ends the server's work, and empties the cache. */
unsigned vu_wire_unmount(struct vu_wire *wire, struct vu_wire_lost *lost);
struct vu_fuse *vu_wire_fuse(struct vu_wire *wire);

/*
 * What another mount has for its root: the node at a path, whose anchor `object` is, as it is known now. It stays until it is let go.
 * -ENOENT: it is another by now. Nobody is asked, and none of these waits for the server.
 */
struct vu_wire_node;
int vu_wire_hold(struct vu_wire *wire, const char *path, int object, struct vu_wire_node **node);
void vu_wire_hold_again(struct vu_wire *wire, struct vu_wire_node *node);
void vu_wire_let_go(struct vu_wire *wire, struct vu_wire_node *node);
/*
 * What stands for its path of now in the calls below, with `rest` behind it: of a file that has been removed what no path is, its number.
 * -ENOENT: it is a directory that has been removed; -ENAMETOOLONG.
 */
int vu_wire_name(struct vu_wire *wire, const struct vu_wire_node *node, const char *rest, char out[PATH_MAX]);
/* The path itself. -ENOENT: it has been removed; -ENAMETOOLONG. */
int vu_wire_below(struct vu_wire *wire, const struct vu_wire_node *node, const char *rest, char out[PATH_MAX]);

/* A device whose anchor is the device 0:0: which one the server says that it is. */
void vu_wire_device(struct vu_wire *wire, const char *path, mode_t *mode, dev_t *rdev);

/*
 * See to it that what lies on `path` has its anchor, as long as there is one and up to the first that is no directory:
 * then openat2(2) below the mount says what the server would. -ENOENT and others where the server says so.
 */
int vu_wire_prepare(VU_WIRE_WHO, const char *path, unsigned want);

/*
 * Before the anchor of a regular file is opened with `flags`: the server agrees, and the data is there. What *held is set to goes
 * to vu_wire_opened() when it has been opened, or that has failed; NULL: there is nothing to tell.
 */
/* Is the data of a regular file of a mount that is fixed here, so that who reads it needs no open at the server? */
bool vu_wire_is_here(struct vu_wire *wire, const char *path, struct vu_wire_node **held);
int vu_wire_open(VU_WIRE_WHO, const char *path, unsigned flags, struct vu_wire_node **held);
/* The same with a new file (O_CREAT); -EEXIST. */
int vu_wire_create(VU_WIRE_WHO, const char *path, unsigned flags, mode_t mode, struct vu_wire_node **held);
void vu_wire_opened(struct vu_wire *wire, struct vu_wire_node *held);
/* The anchor, opened with `flags` whatever its mode is. */
int vu_wire_descriptor(struct vu_wire *wire, const char *path, int flags);
/* Write back what has been written so far, and fsync(2) at the server. */
int vu_wire_sync(VU_WIRE_WHO, const char *path, bool data_only);
/* Of all files. -EIO: not all of it. */
int vu_wire_sync_all(struct vu_wire *wire);

int vu_wire_mkdir(VU_WIRE_WHO, const char *path, mode_t mode);
int vu_wire_mknod(VU_WIRE_WHO, const char *path, mode_t mode, dev_t device);
/* A socket that mknod has made loses its anchor, which is to be made by bind(2). */
int vu_wire_vacate(struct vu_wire *wire, const char *path);
/* … as has happened; or not: then the server's goes as well. */
int vu_wire_occupied(VU_WIRE_WHO, const char *path);
int vu_wire_symlink(VU_WIRE_WHO, const char *path, const char *text);
int vu_wire_link(VU_WIRE_WHO, const char *from, const char *path);
int vu_wire_remove(VU_WIRE_WHO, const char *path, bool directory);
int vu_wire_rename(VU_WIRE_WHO, const char *from, const char *to, unsigned flags);
/* FATTR_*, as vu_fuse_setattr(). */
int vu_wire_setattr(VU_WIRE_WHO, const char *path, uint32_t valid, const struct vu_fuse_attr *set);
ssize_t vu_wire_getxattr(VU_WIRE_WHO, const char *path, const char *name, void *value, size_t room);
ssize_t vu_wire_listxattr(VU_WIRE_WHO, const char *path, char *names, size_t room);
int vu_wire_setxattr(VU_WIRE_WHO, const char *path, const char *name, const void *value, size_t size, unsigned flags);
int vu_wire_removexattr(VU_WIRE_WHO, const char *path, const char *name);
int vu_wire_statfs(VU_WIRE_WHO, const char *path, struct fuse_kstatfs *out);

#endif
