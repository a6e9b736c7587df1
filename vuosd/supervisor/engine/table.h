/* The mount table: what places of the view are (table.c), and how it changes while the session runs (namespace.c). */
#ifndef VUOSD_ENGINE_TABLE_H
#define VUOSD_ENGINE_TABLE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "api.h"

#define VU_TEXT (4 * PATH_MAX) /* a canonical path may be longer than PATH_MAX: processes chdir deeper */
#define VU_LINKS 40 /* MAXSYMLINKS, include/linux/namei.h */
#define VU_MAX_NR 512
#define VU_STATE_BITS 24
#define VU_STATE_MASK ((UINT64_C(1) << VU_STATE_BITS) - 1)
#define VU_SPACES 1024 /* mount namespaces of a session at one time, and the states of processes */
#define VU_GONE VU_SPACES /* the number of one that has ended */

struct vu_session;

/* Where a stack (stack.h) shows an object: its topmost tree, and for a directory the lowest one that shows it too. */
struct vu_seen {
	int8_t tree, lowest;
	bool redirected; /* the lowest has it by another path */
	bool covered; /* nothing is found, because of a whiteout in the topmost tree */
};

struct vu_stack;
struct vu_wired;
struct vu_wire_node;

/* Where the source of a mount lies since what a server has there was renamed. Kept until the session ends: somebody may be reading it. */
struct vu_moved {
	struct vu_moved *before;
	size_t length;
	char path[];
};

/*
 * Lives until the session ends: states and places refer to it, whatever becomes of the table. The descriptor is closed
 * with the last version that has the mount, when no call uses that any more.
 */
struct vu_mount {
	int kind;
	bool readonly;
	bool identity; /* source and target are the same text: natively the same object */
	bool served; /* by a process, which may take its time and may be one of the view's own */
	bool late; /* mounted while the session runs */
	bool locked; /* … and yet treated as if it had been there from the start */
	bool private; /* its source lies in another mount namespace: in ours that path is another object */
	int fd; /* O_PATH of the source; -1 for VU_HIDE */
	unsigned index; /* ascending in a table, and never used again */
	unsigned versions; /* that have it */
	char *target, *source;
	size_t target_length, source_length; /* 0 for "/", so that target + rest is always a path */
	char *type, *name, *options; /* as mountinfo is to tell them; NULL: what it says of the source */
	struct vu_wired *wired; /* its anchors are made to follow what a FUSE server says: wired.h */
	struct vu_wire_node *node; /* … and of what that serves the root here, held; NULL: all of it */
	_Atomic(struct vu_moved *) moved; /* … and where that lies by now; NULL: where it did */
	struct vu_stack *stack; /* of several trees; `fd` and `source` are then the lowest's */
	char *base; /* NULL, or the path below the stack of what is shown: a bind of something in it */
	struct vu_mount *upon; /* NULL, or what the lowest tree is, which is mounted by wire: in no table itself */
	struct vu_mount *trees; /* the others, there to be found by their paths on the host: */
	unsigned tree_count;
	struct vu_mount *whole; /* of such a one: the entry; it is none itself */
	int8_t tree;
	struct vu_mount *
		origin; /* the same mount seen at another place or in another way: whose `wired` and `stack` these are */
	unsigned group; /* number of the mount that it came with, and goes with; or 0 */
	struct vu_mount *of; /* unreal.c: what it is a copy of, which goes with that; or NULL */
	struct vu_mount *unreal; /* for which, or itself if it is such a one */
	struct vu_mount *next; /* all that the session ever had, the latest first */
};

struct vu_shown { /* a mount by which the view shows a host path */
	const struct vu_mount *mount;
	struct vu_shown *next;
};

struct vu_node {
	char *name;
	size_t length;
	struct vu_node *parent, *next; /* next: in the parent's bucket */
	struct vu_node *first, *last, *sibling; /* the children, and the next of the parent's, as they were added */
	struct vu_node **buckets;
	unsigned bucket_count, child_count;
	const struct vu_mount *mount; /* view trie: the mount here */
	struct vu_shown *shown; /* host trie: the mounts of this source */
};

/*
 * One version of the table. It is filled before the session starts, or before it is published (namespace.c), and never
 * changes afterwards. All of its memory but the mounts themselves is its own.
 */
struct vu_table {
	struct vu_node view, host;
	struct vu_node names; /* the last components of all targets */
	const struct vu_mount *root; /* the host's tree, under everything */
	struct vu_mount **mounts;
	unsigned count, room;
	bool empty; /* no entry, and there never was one: everything that concerns paths continues at once */
	bool stacked; /* some entry is of several trees */
	bool wired; /* … or its anchors are made when they are looked for */
	bool shared; /* … of a server that others show as well */
	bool upon; /* a stack stands upon such a one */
	bool late; /* something has been mounted at run time */
	bool reduced; /* something has been unmounted, and processes may still be in it */
	bool detached; /* … and it was mounted in another mount namespace */
	atomic_uint users; /* that are no pins */
	const struct vu_claims *claims; /* of modules; NULL: there were never any */
	struct vu_table *next; /* of those that are no longer published */
	struct vu_chunk *memory;
};

/* One engine thread's: the version that its call uses. A cache line each. */
struct vu_pin {
	_Alignas(64) _Atomic(const struct vu_table *) table;
	struct vu_pin *next;
};

/*
 * The mount namespaces of a session. Number 0 is that of its profile; a nested view has one of its own, which begins as a copy
 * of the table that its maker sees, and a process belongs to that which its state says. The mounts and old versions are common.
 */
struct vu_namespace {
	_Atomic(struct vu_table *)
		tables[VU_SPACES]; /* what calls that begin now see; NULL: there is none of that number */
	atomic_bool several; /* there is one but number 0, or has been */
	pthread_mutex_t lock; /* for all that follows, for vu_mount.versions and for building tables */
	struct vu_table *old; /* versions that were in use when they were replaced */
	atomic_bool has_old;
	struct vu_mount *all;
	unsigned last_index;
	struct vu_pin *pins;
	struct vu_claims *claims; /* all that there were */
};

/* Where a canonical view path lies: the mount that covers it, the rest below that mount, the node if entries lie at or below it. */
struct vu_spot {
	const struct vu_mount *mount;
	const char *rest; /* points into the text; "" at the mount's root; no leading slash */
	const struct vu_node *node; /* NULL: no entry lies at or below */
	struct vu_seen seen; /* vu_walk_open_spot() in a stack */
};

static inline const char *vu_mount_source(const struct vu_mount *mount, size_t *length)
{
	const struct vu_moved *moved = atomic_load_explicit(&mount->moved, memory_order_acquire);
	*length = moved ? moved->length : mount->source_length;
	return moved ? moved->path : mount->source;
}

struct vu_table *vu_table_new(void);
/* The memory of a version. The mounts are the namespace's. */
void vu_table_free(struct vu_table *table);
/* On top of what is there: for a version that nobody sees yet. */
int vu_table_add(struct vu_table *table, struct vu_mount *mount);
void vu_table_find(const struct vu_table *table, const char *view, struct vu_spot *spot);
const struct vu_node *vu_node_child(const struct vu_node *node, const char *name, size_t length);
/*
 * Host path → view path, into out[VU_TEXT]; the mount by which it is seen. Where several show it: `prefer`, then the
 * one at the same place as on the host, then the innermost. Shown nowhere: -EACCES if an entry hides it, -ENOENT if others
 * lie over it. *tree (may be NULL) is the tree of a stack that holds it.
 */
int vu_table_reverse(const struct vu_table *table, const char *host, const struct vu_mount *prefer, char *out,
		     const struct vu_mount **mount, int *tree);

/*
 * The same for what is shown nowhere because mounts at run time lie over it: where it was before, by the mount `by` alone if
 * that is not NULL. -ENOENT: that is not why.
 */
int vu_table_covered(const struct vu_table *table, const char *host, const struct vu_mount *by, char *out,
		     const struct vu_mount **mount);

/* The length of the shortest head of `view` at which something has been mounted over what is there by `mount`. */
size_t vu_table_cover(const struct vu_table *table, const struct vu_mount *mount, const char *view);

/* namespace.c: versions of the table, and the mounts that they share ----------------------------------------------- */

int vu_namespace_init(struct vu_namespace *names, bool enforce);
void vu_namespace_free(struct vu_namespace *names);
/* A mount that is in no version yet. `fd` becomes the mount's with the first version that has it. */
struct vu_mount *vu_mount_new(struct vu_namespace *names, int kind, bool readonly, const char *target, int fd,
			      const char *source);
/* Before the session starts: into the only version there is. */
int vu_namespace_fill(struct vu_namespace *names, struct vu_mount *mount);
int vu_namespace_fill_stack(struct vu_namespace *names, struct vu_stack *stack, const char *target);
/* vu_session_mount() of any kind; `wired` or `stack` is the mount's then, and the source as well. */
int vu_namespace_mount(struct vu_session *session, const struct vu_mount_options *options, struct vu_wired *wired,
		       struct vu_stack *stack);
/* The trees of a stack but its lowest: found by their paths on the host, and by nothing else. */
int vu_mount_add_trees(struct vu_mount *whole);
/* Of a mount that is in no version any more; -EBUSY while it is in one, -EINVAL: no such mount. It stays, until: */
int vu_namespace_settle_wired(struct vu_namespace *names, int number, struct vu_wired **wired);
void vu_namespace_settled_wired(struct vu_namespace *names, struct vu_wired *wired);
/* The same, and from the mount; -EBUSY also while it is being settled. */
int vu_namespace_take_wired(struct vu_namespace *names, int number, struct vu_wired **wired);
/* namespace_change.c: the published version with this on top, to be published; NULL with errno. The lock is held. */
struct vu_table *vu_namespace_with(struct vu_namespace *names, unsigned space, struct vu_mount *mount);
/* claims.c: a version with these claims in place of others; they are the namespace's then. */
int vu_namespace_claim(struct vu_namespace *names, struct vu_claims *claims);
/* To look at it; NULL: there is none. Else the namespace is locked until it is released. */
struct vu_wired *vu_namespace_hold_wired(struct vu_namespace *names, int number);
void vu_namespace_release_wired(struct vu_namespace *names);
/* The slot of an engine thread. */
void vu_namespace_add_pin(struct vu_namespace *names, struct vu_pin *pin);
void vu_namespace_remove_pin(struct vu_namespace *names, struct vu_pin *pin);
/* The version of now, which stays until vu_table_unpin(). NULL: that namespace has ended. */
const struct vu_table *vu_table_pin(struct vu_namespace *names, unsigned space, struct vu_pin *pin);
void vu_table_unpin(struct vu_namespace *names, struct vu_pin *pin);
/* The same for a thread without a slot, and for who goes on with a call after its thread has turned to others. */
const struct vu_table *vu_table_hold(struct vu_namespace *names, unsigned space);
void vu_table_share(const struct vu_table *table);
void vu_table_release(struct vu_namespace *names, const struct vu_table *table);
bool vu_table_has(const struct vu_table *table, const struct vu_mount *mount);
/* The mount, no longer in `table`, in whose tree the host path lies; NULL: there is none. `hint`: the likely one, or NULL. */
const struct vu_mount *vu_namespace_lost(struct vu_namespace *names, const struct vu_table *table, const char *host,
					 const struct vu_mount *hint);

/* The same as `from`, shown at `target`. NULL with errno. The lock is held. */
struct vu_mount *vu_mount_again(struct vu_namespace *names, struct vu_mount *from, const char *target);
struct vu_tree;
/* A path in it, allocated; NULL without memory. */
char *vu_tree_path(const struct vu_tree *tree, const char *base, size_t *length);
/* The same as the stack at `spot` has, shown at `target`. NULL with errno. The lock is held. */
struct vu_mount *vu_mount_within(struct vu_namespace *names, const struct vu_spot *spot, const char *target);
/* unreal.c. A version that is made from `now` and has `add` has its copies as well, or those for it. The lock is held. */
int vu_unreal_follow(struct vu_namespace *names, struct vu_table *table, const struct vu_table *now,
		     struct vu_mount *add);
/* Frees the versions that nobody uses any more. The lock is held. */
void vu_namespace_sweep(struct vu_namespace *names);
/* Makes `table` the version that calls of this namespace see; NULL ends it. The lock is held. */
void vu_namespace_publish(struct vu_namespace *names, unsigned space, struct vu_table *table);

#endif
