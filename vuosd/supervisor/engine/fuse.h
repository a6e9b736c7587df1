/*
 * The kernel's side of FUSE, for machines that do not let us have the kernel's: requests to a server that believes that the
 * other end of its socket is /dev/fuse. Stand-alone: nothing here knows of views.
 *
 *	fuse_decode.c		what the server says → values. No I/O, nothing is believed
 *	fuse_connection.c	begin (INIT), end, and what the server says of its own accord
 *	fuse_exchange.c		one request and its reply, many at a time
 *	fuse_unattended.c	requests whose reply nobody waits for, or no longer
 *	fuse_attributes.c, fuse_names.c, fuse_files.c, fuse_directories.c	the requests, a function each
 *
 * The protocol is linux/fuse.h; what is not written there is as fs/fuse of the kernel has it. A socket of type
 * SOCK_SEQPACKET keeps the borders of messages, which is all that servers expect of the device.
 *
 * Functions return >= 0 or -errno: the server's own, -ENOTCONN when it has gone, -EIO when it took longer than the deadline
 * or said what makes no sense, -EINTR when the caller has gone. They may be called from any thread, block, and hold nothing
 * meanwhile. Times are CLOCK_MONOTONIC nanoseconds.
 */
#ifndef VUOSD_ENGINE_FUSE_H
#define VUOSD_ENGINE_FUSE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <limits.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

/*
 * What a server that is not offered FUSE_MAX_PAGES may read and be sent at once (FUSE_DEFAULT_MAX_PAGES_PER_REQ). More would
 * not go through a socket whose buffers have the kernel's default size.
 */
#define VU_FUSE_DATA (32 * 4096)
/* The longest message in either direction: data, the request's own arguments, room for a name. */
#define VU_FUSE_MESSAGE (VU_FUSE_DATA + 4096)
#define VU_FUSE_NEVER INT64_MAX

/* Values ---------------------------------------------------------------------------------------------------------- */

struct vu_fuse_attr {
	uint64_t ino, size, blocks; /* blocks of 512 bytes */
	struct timespec atime, mtime, ctime;
	mode_t mode; /* with a type that is one of the seven */
	uint32_t nlink, uid, gid, blksize;
	dev_t rdev;
};

struct vu_fuse_entry {
	uint64_t nodeid; /* 0: there is no such name, and that may be remembered until `entry_until` */
	uint64_t generation;
	int64_t entry_until, attr_until;
	struct vu_fuse_attr attr;
};

struct vu_fuse_file { /* an open file or directory of the server */
	uint64_t nodeid, fh;
	uint32_t flags; /* with which it was opened */
	uint32_t open_flags; /* FOPEN_* */
	bool absent; /* the server has no open(2): nothing to release */
};

struct vu_fuse_dirent {
	char name[NAME_MAX + 1];
	uint64_t ino, next; /* next: the offset to go on from */
	uint8_t type; /* DT_* */
	bool known; /* `entry` holds what a lookup would have said, and counts as one */
	struct vu_fuse_entry entry;
};

/* What the server says of its own accord: FUSE_NOTIFY_*. */
struct vu_fuse_notice {
	enum { VU_FUSE_INVAL_INODE, VU_FUSE_INVAL_ENTRY, VU_FUSE_OTHER } kind;
	uint64_t nodeid; /* of the directory for INVAL_ENTRY */
	uint64_t child; /* INVAL_ENTRY by FUSE_NOTIFY_DELETE: what the name was, else 0 */
	int64_t offset, length; /* INVAL_INODE: of the data; offset < 0: only attributes; length <= 0: to the end */
	char name[NAME_MAX + 1];
};

struct vu_fuse_features {
	uint32_t minor, flags, max_write, time_gran;
};

/* Decoder: fuse_decode.c. `size` is that of what follows the header. -EIO for what makes no sense ------------------ */

/* A whole message: -EPROTO when nothing can be done with it. */
int vu_fuse_decode_header(const void *message, size_t size, struct fuse_out_header *out);
int vu_fuse_decode_init(const void *data, size_t size, struct vu_fuse_features *out);
int vu_fuse_decode_attr(const struct fuse_attr *from, struct vu_fuse_attr *out);
int vu_fuse_decode_entry(const void *data, size_t size, int64_t now, struct vu_fuse_entry *out);
/* The attributes of `nodeid` until *until. */
int vu_fuse_decode_attr_out(const void *data, size_t size, int64_t now, struct vu_fuse_attr *out, int64_t *until);
/* The name at *at, which moves on. 1, or 0 at the end; "." and ".." come as any other. `plus`: FUSE_READDIRPLUS. */
int vu_fuse_decode_dirent(const void *data, size_t size, bool plus, int64_t now, size_t *at,
			  struct vu_fuse_dirent *out);
/* Names that end with NUL, one after the other. */
int vu_fuse_decode_names(const char *data, size_t size);
/* The text of a link, of which `size` bytes came; its length. data[size] is overwritten. */
int vu_fuse_decode_link(char *data, size_t size);
int vu_fuse_decode_notice(int32_t code, const void *data, size_t size, struct vu_fuse_notice *out);
/* May a directory have an entry of this name? */
bool vu_fuse_name_is_good(const char *name, size_t length);
int64_t vu_fuse_until(int64_t now, uint64_t seconds, uint32_t nanoseconds);

/* Connection ------------------------------------------------------------------------------------------------------ */

struct vu_fuse;

/* On whose behalf a request is made. */
struct vu_fuse_caller {
	uid_t uid;
	gid_t gid;
	pid_t pid;
	mode_t umask;
	bool (*gone)(void *data); /* asked now and then while a reply is waited for; may be NULL */
	void *data;
};

struct vu_fuse_options {
	int64_t deadline; /* of one request, in ns; 0: none */
	bool fixed; /* nothing of it changes: entries and attributes are valid for ever */
	/* Called from any thread that waits for a reply; must not make requests. */
	void (*notice)(void *data, const struct vu_fuse_notice *notice);
	void (*log)(void *data, const char *line); /* what the person should know, once for each kind */
	void *data;
};

struct vu_fuse_flight { /* a request that waits for its reply */
	uint32_t opcode;
	uint64_t nodeid;
	pid_t pid; /* 0: nobody waits for it any longer */
	int64_t since;
};

/* A pair of sockets with buffers for the longest messages: [0] is ours, [1] the server's. Both are closed on exec. */
int vu_fuse_pair(int pair[2]);
/* Takes `fd` over, whatever happens. Asks the server for nothing yet. NULL: no memory. */
struct vu_fuse *vu_fuse_new(int fd, const struct vu_fuse_options *options);
/* INIT. -EPROTO: the server speaks a protocol that is too old, or none. */
int vu_fuse_begin(struct vu_fuse *fuse, const struct vu_fuse_caller *caller);
/* No request may be under way. With `destroy` the server is asked to put its things in order first. */
void vu_fuse_free(struct vu_fuse *fuse, bool destroy);
/* From now on every request is -ENOTCONN, those under way as well. */
void vu_fuse_abort(struct vu_fuse *fuse);
bool vu_fuse_is_dead(const struct vu_fuse *fuse);
const struct vu_fuse_features *vu_fuse_features(const struct vu_fuse *fuse);
/* Hear what the server has said of its own accord, without waiting. Returns whether there may be more. */
bool vu_fuse_hear(struct vu_fuse *fuse);
/* Readable when there is something to hear, or a reply. */
int vu_fuse_descriptor(const struct vu_fuse *fuse);
/* Up to `room` requests under way; returns how many there are. */
unsigned vu_fuse_flights(struct vu_fuse *fuse, struct vu_fuse_flight *out, unsigned room);
int64_t vu_fuse_now(void);
/* From when on the time counts for which the server vouches for an entry or attributes. */
int64_t vu_fuse_valid_from(const struct vu_fuse *fuse);

/* Requests -------------------------------------------------------------------------------------------------------- */
#define VU_WHO struct vu_fuse *fuse, const struct vu_fuse_caller *caller

/* entry->nodeid is never 0: that is -ENOENT, and `entry` then says until when (entry_until; 0: not to be remembered). */
int vu_fuse_lookup(VU_WHO, uint64_t parent, const char *name, struct vu_fuse_entry *entry);
int vu_fuse_mkdir(VU_WHO, uint64_t parent, const char *name, mode_t mode, struct vu_fuse_entry *entry);
int vu_fuse_mknod(VU_WHO, uint64_t parent, const char *name, mode_t mode, dev_t rdev, struct vu_fuse_entry *entry);
int vu_fuse_symlink(VU_WHO, uint64_t parent, const char *name, const char *text, struct vu_fuse_entry *entry);
int vu_fuse_link(VU_WHO, uint64_t nodeid, uint64_t parent, const char *name, struct vu_fuse_entry *entry);
int vu_fuse_unlink(VU_WHO, uint64_t parent, const char *name);
int vu_fuse_rmdir(VU_WHO, uint64_t parent, const char *name);
int vu_fuse_rename(VU_WHO, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name,
		   unsigned flags);
/* -ENOSYS: the server has none; then it is mknod and open. */
int vu_fuse_create(VU_WHO, uint64_t parent, const char *name, unsigned flags, mode_t mode, struct vu_fuse_entry *entry,
		   struct vu_fuse_file *file);
/* Nobody waits; `count` is how often replies have named the node. */
struct vu_fuse_forgotten {
	uint64_t nodeid, count;
};
void vu_fuse_forget(struct vu_fuse *fuse, const struct vu_fuse_forgotten *nodes, unsigned count);

/* `file` may be NULL: by node. */
int vu_fuse_getattr(VU_WHO, uint64_t nodeid, const struct vu_fuse_file *file, struct vu_fuse_attr *attr,
		    int64_t *until);
/* `valid`: FATTR_*; what it names is taken from `set`. */
int vu_fuse_setattr(VU_WHO, uint64_t nodeid, const struct vu_fuse_file *file, uint32_t valid,
		    const struct vu_fuse_attr *set, struct vu_fuse_attr *attr, int64_t *until);
int vu_fuse_readlink(VU_WHO, uint64_t nodeid, char text[PATH_MAX]);
int vu_fuse_access(VU_WHO, uint64_t nodeid, unsigned mask);
int vu_fuse_statfs(VU_WHO, uint64_t nodeid, struct fuse_kstatfs *out);
/* As getxattr(2): with room 0 the size is told. */
ssize_t vu_fuse_getxattr(VU_WHO, uint64_t nodeid, const char *name, void *value, size_t room);
ssize_t vu_fuse_listxattr(VU_WHO, uint64_t nodeid, char *names, size_t room);
int vu_fuse_setxattr(VU_WHO, uint64_t nodeid, const char *name, const void *value, size_t size, unsigned flags);
int vu_fuse_removexattr(VU_WHO, uint64_t nodeid, const char *name);

int vu_fuse_open(VU_WHO, uint64_t nodeid, unsigned flags, struct vu_fuse_file *file);
/* Up to VU_FUSE_DATA bytes. */
ssize_t vu_fuse_read(VU_WHO, const struct vu_fuse_file *file, uint64_t offset, void *data, size_t size);
/*
 * The same in two steps, of which several may be under way (if the server has agreed to FUSE_ASYNC_READ: vu_fuse_features());
 * `data` and `caller` stay until the second, which must follow. NULL, no memory, is for it as well.
 */
struct vu_fuse_reading;
struct vu_fuse_reading *vu_fuse_read_begin(VU_WHO, const struct vu_fuse_file *file, uint64_t offset, void *data,
					   size_t size);
ssize_t vu_fuse_read_end(struct vu_fuse *fuse, struct vu_fuse_reading *reading);
/* All of it, however many requests that takes; -EIO when the server takes less. */
int vu_fuse_write(VU_WHO, const struct vu_fuse_file *file, uint64_t offset, const void *data, size_t size);
int vu_fuse_flush(VU_WHO, const struct vu_fuse_file *file);
int vu_fuse_fsync(VU_WHO, const struct vu_fuse_file *file, bool data_only);
/* -EOPNOTSUPP where the server has none. */
int vu_fuse_fallocate(VU_WHO, const struct vu_fuse_file *file, unsigned mode, uint64_t offset, uint64_t length);
/* SEEK_DATA, SEEK_HOLE; -EOPNOTSUPP where the server has none. */
int64_t vu_fuse_lseek(VU_WHO, const struct vu_fuse_file *file, uint64_t offset, int whence);
/* Nobody waits for the answer. */
void vu_fuse_release(VU_WHO, const struct vu_fuse_file *file);

int vu_fuse_opendir(VU_WHO, uint64_t nodeid, struct vu_fuse_file *file);
/* A part of the listing, into data[VU_FUSE_DATA], for vu_fuse_decode_dirent(); its size, 0 at the end. */
ssize_t vu_fuse_readdir(VU_WHO, const struct vu_fuse_file *file, uint64_t offset, bool plus, void *data);
int vu_fuse_fsyncdir(VU_WHO, const struct vu_fuse_file *file, bool data_only);
void vu_fuse_releasedir(VU_WHO, const struct vu_fuse_file *file);

#endif
