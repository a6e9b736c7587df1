/* What the files of a wire mount share; wire.h is what others see. */
#ifndef VUOSD_ENGINE_WIRE_INSIDE_H
#define VUOSD_ENGINE_WIRE_INSIDE_H

#include "wire.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct vu_wire_name { /* a name in a directory: as the kernel's dentry */
	char *name;
	unsigned length;
	struct vu_wire_node *parent;
	struct vu_wire_node *node; /* NULL: the server has not been asked, or there is none */
	struct vu_wire_name *next; /* in the parent's bucket */
	struct vu_wire_name *other; /* of the same node */
	int64_t until; /* the server is not asked again */
	mode_t type; /* S_IFMT of the anchor, 0: it has none */
	unsigned mark; /* of the last listing that had it */
};

struct vu_wire_data { /* of a regular file that has been opened */
	bool busy; /* somebody fetches it or writes it back */
	bool filled; /* the anchor has the data that the server had when its attributes were these: */
	uint64_t size;
	struct timespec mtime;
	bool writing; /* it may have been opened for writing, and what was written is not all back */
	unsigned opening; /* they have been permitted to open it, and have not yet done so */
	uint64_t used; /* when that was, in order */
	int fd, watch; /* while writing: the anchor, read-only; its inotify watch */
	struct vu_fuse_file file; /* … and the server's, to write back with */
	struct vu_fuse_caller writer; /* who opened that */
	struct vu_wire_node *next_writing;
	unsigned looks; /* how often it is to be looked whether the last writer has gone */
	int error; /* of the last attempt */
	uint64_t *sums; /* of each block as the server has it */
	size_t sum_count;
};

struct vu_wire_node { /* as the kernel's inode */
	uint64_t nodeid, generation, lookups;
	struct vu_wire_node *next; /* by nodeid */
	bool hashed, settled; /* settled: the anchor has got attributes */
	unsigned pins; /* somebody holds it while the lock is not held */
	unsigned holders; /* mounts whose root it is: */
	uint64_t number; /* by which it is called when it has lost its names */
	int object; /* … and its anchor, an O_PATH descriptor */
	struct vu_wire_node *next_held;
	struct vu_wire_name *names;
	struct vu_wire_name **buckets; /* of a directory */
	unsigned bucket_count, child_count;
	bool listed; /* of a mount that is fixed: all its names are here */
	unsigned changes; /* of its names, by us: an answer of before that is out of date */
	struct vu_fuse_attr attr;
	int64_t attr_until;
	unsigned spares; /* names of the anchor outside of the tree: what the server counts and we do not know */
	struct vu_wire_data *data;
};

enum { VU_WIRE_BUCKETS = 4096, VU_WIRE_RETRIES = 16, VU_WIRE_SPARES = 256, VU_WIRE_AHEAD = 3 };
#define VU_WIRE_BLOCK VU_FUSE_DATA
#define VU_WIRE_TOLD                                                                                                   \
	1 /* as attr_until: they were true when they were told, and are asked for again; 0: they need not be */

struct vu_wire {
	struct vu_fuse *fuse;
	struct vu_wire_options options;
	int cache, tree; /* the directory, and the root's anchor in it */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* of some node's `busy` */
	struct vu_wire_node *root;
	struct vu_wire_node *nodes[VU_WIRE_BUCKETS];
	struct vu_wire_node *held; /* those with holders */
	uint64_t numbers;
	struct vu_fuse_forgotten *forgotten;
	unsigned forgotten_count, forgotten_room;
	unsigned mark;
	struct vu_wire_node *writing; /* those with data->writing */
	int inotify, wake[2]; /* wire_back.c: wake[] wakes its thread */
	pthread_t thread;
	bool threaded;
	atomic_bool ending;
	_Atomic(int64_t) patience; /* … until when the server may take for a request of ours */
	bool refused; /* something that was written, at the end */
	uint64_t seed; /* of the sums */
	uint64_t uses; /* opens so far */
};

/* wire_tree.c. The lock is held. */
struct vu_wire_name *vu_wire_find(const struct vu_wire_node *directory, const char *name, size_t length);
struct vu_wire_name *vu_wire_add(struct vu_wire_node *directory, const char *name, size_t length);
struct vu_wire_node *vu_wire_node_find(struct vu_wire *wire, uint64_t nodeid);
struct vu_wire_node *vu_wire_node_new(struct vu_wire *wire, uint64_t nodeid, uint64_t generation);
void vu_wire_attach(struct vu_wire_name *name, struct vu_wire_node *node);
/* The name loses its node, which goes with its last name. Not the anchor. */
void vu_wire_detach(struct vu_wire *wire, struct vu_wire_name *name);
/* Out of its directory: no anchor, no node. */
void vu_wire_forget_name(struct vu_wire *wire, struct vu_wire_name *name);
/* The name goes to another directory, or gets another text. -ENOMEM: nothing has happened. */
int vu_wire_move(struct vu_wire_name *name, struct vu_wire_node *directory, const char *text, size_t length);
/* To be told to the server when the lock is given back. */
void vu_wire_note_forgotten(struct vu_wire *wire, uint64_t nodeid, uint64_t count);
/* A lookup whose answer is not used. */
void vu_wire_return_lookup(struct vu_wire *wire, uint64_t nodeid);
/* No answer of the server leads there any more. */
void vu_wire_unhash(struct vu_wire *wire, struct vu_wire_node *node);
void vu_wire_pin(struct vu_wire_node *node);
void vu_wire_unpin(struct vu_wire *wire, struct vu_wire_node *node);
bool vu_wire_is_above(const struct vu_wire_node *above, const struct vu_wire_node *node);
/* Below the root's anchor; -ENOENT for a node that has lost its name, -ENAMETOOLONG. */
int vu_wire_path(const struct vu_wire_name *name, char out[PATH_MAX]);
int vu_wire_node_path(const struct vu_wire *wire, const struct vu_wire_node *node, char out[PATH_MAX]);
/* wire_root.c: of a node without a name that a mount has for its root. */
struct vu_wire_node *vu_wire_nameless(const struct vu_wire *wire, const char *path);
/* The anchor: of such a one by its descriptor, where links are to be followed. */
int vu_wire_anchor_path(const struct vu_wire *wire, const struct vu_wire_node *node, char out[PATH_MAX]);
static inline int vu_wire_nofollow(const char *anchor_path, int flag)
{
	return *anchor_path == '/' ? 0 : flag;
}

void vu_wire_lock(struct vu_wire *wire);
/* … and tell the server which nodes are forgotten. */
void vu_wire_unlock(struct vu_wire *wire);

/* wire_anchor.c. The lock is held. */
int vu_wire_make(struct vu_wire *wire, struct vu_wire_name *name, const struct vu_fuse_attr *attr, const char *text);
int vu_wire_make_link(struct vu_wire *wire, struct vu_wire_name *name, const struct vu_wire_name *same);
/* The anchor goes, and those below it. */
void vu_wire_drop(struct vu_wire *wire, struct vu_wire_name *name);
/* The anchor, with real flags, whatever its mode. */
int vu_wire_open_anchor(struct vu_wire *wire, const char *path, int flags);
/* Closes for writing of the anchor at `path`, which `own` names as well: the inotify watch or -errno. */
int vu_wire_watch(struct vu_wire *wire, const char *path, const char *own);
int vu_wire_set_attr(struct vu_wire *wire, struct vu_wire_node *node, const struct vu_fuse_attr *attr, int64_t until);
void vu_wire_retime(struct vu_wire *wire, struct vu_wire_node *node);
/* The object alone. */
int vu_wire_remove_anchor(struct vu_wire *wire, const char *path);
void vu_wire_drop_spares(struct vu_wire *wire, struct vu_wire_node *node);
int vu_wire_rename_anchor(struct vu_wire *wire, const char *from, const char *to, unsigned flags);

/* wire_walk.c. The lock is held, but not while the server is asked. */
struct vu_wire_way {
	struct vu_wire_node *node; /* that the path leads to; pinned */
	struct vu_wire_name *name; /* of it; NULL for the root */
};
/* -ESTALE: something has changed meanwhile, begin again. */
int vu_wire_ask(VU_WIRE_WHO, struct vu_wire_node *directory, const char *name, struct vu_wire_name **out);
/* What the server has said of a name. Counts as a lookup. `text`: of a link, whose anchor is made anew; NULL: it is as it was */
int vu_wire_apply(struct vu_wire *wire, struct vu_wire_node *directory, const char *name,
		  const struct vu_fuse_entry *entry, const char *text, struct vu_wire_name **out);
/* There is no such name. */
void vu_wire_apply_missing(struct vu_wire *wire, struct vu_wire_node *directory, const char *name, int64_t until);
/* The node at `path`, pinned. Stops at what is no directory: -ENOTDIR. */
int vu_wire_reach(VU_WIRE_WHO, const char *path, struct vu_wire_node **node);
/* The same without asking: -EWOULDBLOCK. */
int vu_wire_reach_known(struct vu_wire *wire, const char *path, struct vu_wire_node **node);
/* The directory of `path`, pinned, and the last name. -EEXIST for the root. */
int vu_wire_reach_parent(VU_WIRE_WHO, const char *path, struct vu_wire_node **directory, const char **name);
int vu_wire_refresh(VU_WIRE_WHO, struct vu_wire_node *node);

/* wire_list.c */
int vu_wire_list(VU_WIRE_WHO, struct vu_wire_node *directory);

/* wire_data.c: `busy` is ours, or given back. The lock is held. */
int vu_wire_take_data(VU_WIRE_WHO, struct vu_wire_node *node);
void vu_wire_give_data(struct vu_wire *wire, struct vu_wire_node *node);
uint64_t vu_wire_sum(const struct vu_wire *wire, const void *data, size_t size);
void vu_wire_free_data(struct vu_wire *wire, struct vu_wire_node *node);

/* wire_fetch.c: all of it into `fd`, without the lock; *got is where it ended. */
int vu_wire_fetch(VU_WIRE_WHO, const struct vu_fuse_file *file, int fd, uint64_t size, uint64_t *sums, uint64_t *got);
/* Of a file that tells no size (generated ones, as in /proc): to its end. */
int vu_wire_fetch_unsized(VU_WIRE_WHO, const struct vu_fuse_file *file, int fd, uint64_t *got);

/* wire_evict.c. The lock is held. */
/* Forget what was fetched and nobody has open, until that gives so many bytes: how many it gives. */
uint64_t vu_wire_evict(struct vu_wire *wire, uint64_t wanted);
/* The same, so that programs find some room to write. */
void vu_wire_spare(struct vu_wire *wire);

/* wire_back.c */
/* It will be opened for writing. 1: `file` is kept. The lock is held, `busy` ours. */
int vu_wire_begin_writing(VU_WIRE_WHO, struct vu_wire_node *node, const struct vu_fuse_file *file);
/* Write back what has changed. The lock is held but while the server is asked, `busy` ours. */
int vu_wire_write_back(VU_WIRE_WHO, struct vu_wire_node *node);
/* … if nobody has the file open for writing any more, and end that. 1: somebody has. */
int vu_wire_end_writing(VU_WIRE_WHO, struct vu_wire_node *node, bool anyhow);
/* Soon, by the mount's thread. The lock is held. */
void vu_wire_look_again(struct vu_wire *wire, struct vu_wire_node *node);
void vu_wire_stop(struct vu_wire *wire);
/* The mount ends: from now on its own requests wait for a hung server no longer than this allows, whatever the deadline. */
void vu_wire_be_impatient(struct vu_wire *wire);
/* Everything; with `anyhow` nothing is left to be written afterwards. How many could not be. */
unsigned vu_wire_write_all(struct vu_wire *wire, bool anyhow, struct vu_wire_lost *lost);

#endif
