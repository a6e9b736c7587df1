/*
 * The inside of the engine. One notification flows one way:
 *
 *     threads.c  RECV: who receives, and who takes over
 *     notify.c   look the row up, call the operation, send the reply
 *     target.c   the calling thread: its memory, credentials, working directory, descriptors
 *     callers.c  what is kept of threads that call again and again
 *     place.c    a path of the caller → a place: (mount, anchor directory, name), by way of walk.c, using
 *     table.c    the mount table: two tries, view path → mount and host path → mount
 *     namespace.c the versions of the tables, which may change while the session runs
 *     namespace_change.c a mount at run time, and its end
 *     spaces.c    the mount namespaces of nested views, each with a table of its own
 *     asked.c    calls that Python answers
 *     claims.c   which of them are a module's
 *     op_*.c     what to do with the place: continue, or the same call on the anchor
 *     inject.c   a descriptor for the caller
 *     remote.c   a call made inside the target (chdir, execve, O_PATH)
 *     warn.c     what the person must be told
 *
 * Nouns: a *call* is one notification being answered; a *place* is where a path of the caller leads; a *mount* is one
 * entry of the view; an *anchor* is the real object that stands for a place, reached by a directory descriptor; a
 * *state* is what differs between processes of one view (root, the mount the working directory was entered by).
 *
 * Nothing here allocates or takes a lock on the hot path: every thread owns one struct vu_work. Functions return >= 0
 * or -errno.
 */
#ifndef VUOSD_ENGINE_H
#define VUOSD_ENGINE_H

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
#include "borrow.h"

#define VU_TEXT (4 * PATH_MAX) /* a canonical path may be longer than PATH_MAX: processes chdir deeper */
#define VU_LINKS 40 /* MAXSYMLINKS, include/linux/namei.h */
#define VU_MAX_NR 512
#define VU_STATE_BITS 24
#define VU_STATE_MASK ((UINT64_C(1) << VU_STATE_BITS) - 1)
#define VU_SPACES 1024 /* mount namespaces of a session at one time, and the states of processes */
#define VU_GONE VU_SPACES /* the number of one that has ended */

/* Constants newer than the oldest headers we build with. */
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_setxattrat
#define SYS_setxattrat 463
#define SYS_getxattrat 464
#define SYS_listxattrat 465
#define SYS_removexattrat 466
#endif
#ifndef SYS_file_getattr
#define SYS_file_getattr 468
#define SYS_file_setattr 469
#endif

/* slow.c: before the listener may be closed */
struct vu_session;
void vu_slow_stop(struct vu_session *session);
void vu_again_free(struct vu_session *session);
void vu_peers_free(struct vu_session *session);
void vu_socket_names_free(struct vu_session *session);

/* table.c ------------------------------------------------------------------------------------------------------- */

/* Where a stack (stack.h) shows an object: its topmost tree, and for a directory the lowest one that shows it too. */
struct vu_seen {
	int8_t tree, lowest;
	bool redirected; /* the lowest has it by another path */
	bool covered; /* nothing is found, because of a whiteout in the topmost tree */
};

struct vu_stack;
struct vu_wired;

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
	bool private; /* its source lies in another mount namespace: in ours that path is another object */
	int fd; /* O_PATH of the source; -1 for VU_HIDE */
	unsigned index; /* ascending in a table, and never used again */
	unsigned versions; /* that have it */
	char *target, *source;
	size_t target_length, source_length; /* 0 for "/", so that target + rest is always a path */
	char *type, *name, *options; /* as mountinfo is to tell them; NULL: what it says of the source */
	struct vu_wired *wired; /* its anchors are made to follow what a FUSE server says: wired.h */
	struct vu_stack *stack; /* of several trees; `fd` and `source` are then the lowest's */
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
/* vu_session_mount() of any kind; `wired` is the mount's then, and the source as well. */
int vu_namespace_mount(struct vu_session *session, const struct vu_mount_options *options, struct vu_wired *wired);
/* From a mount that is in no version any more; -EBUSY while it is in one, -EINVAL: no such mount. NULL: it has none. */
int vu_namespace_take_wired(struct vu_namespace *names, int number, struct vu_wired **wired);
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

/*
 * The same as `from`, shown at `target`: of several trees or by wire only where that is the same, unless `anywhere`. NULL with
 * errno: EXDEV if it is not. The lock is held.
 */
struct vu_mount *vu_mount_again(struct vu_namespace *names, struct vu_mount *from, const char *target, bool anywhere);
/* unreal.c. A version that is made from `now` and has `add` has its copies as well, or those for it. The lock is held. */
int vu_unreal_follow(struct vu_namespace *names, struct vu_table *table, const struct vu_table *now,
		     struct vu_mount *add);
/* Frees the versions that nobody uses any more. The lock is held. */
void vu_namespace_sweep(struct vu_namespace *names);
/* Makes `table` the version that calls of this namespace see; NULL ends it. The lock is held. */
void vu_namespace_publish(struct vu_namespace *names, unsigned space, struct vu_table *table);

/* States --------------------------------------------------------------------------------------------------------- */

struct vu_state {
	char *root; /* view path of the root directory; "" for "/" */
	const struct vu_mount *cwd_mount; /* where one host directory is seen twice: the mount it was entered by */
	int64_t euid, egid; /* what it believes to be its effective ids, or -1: op_ids.c */
	bool undumpable; /* it has been told so: see vu_op_dumpable */
	unsigned space; /* its mount namespace */
	struct vu_state *before; /* that had this number until its namespace ended */
};

/* Session ---------------------------------------------------------------------------------------------------------- */

/* memory.c: a descriptor of /proc/TID/mem that the launcher has opened. */
struct vu_kept {
	atomic_flag taken; /* somebody uses what follows */
	int fd;
	pid_t tid;
	int64_t since; /* CLOCK_MONOTONIC_COARSE, ns */
};
#define VU_KEPT 64

struct vu_session {
	struct vu_options options;
	struct vu_row rows[VU_MAX_NR];
	struct vu_namespace names;
	bool enforce, privileged;
	bool borrows; /* privileged, but without CAP_SYS_PTRACE: borrow.h */
	int listener;
	int proc, self_fd; /* O_PATH of /proc and of /proc/self/fd */
	struct vu_state *states[VU_SPACES];
	atomic_uint state_count;
	pthread_mutex_t state_lock, broker_lock;
	atomic_bool credentials_differ; /* a privileged member has changed its ids: read them for each call */
	atomic_bool stopping;
	atomic_uint leader, taken; /* number of the turn at receiving, and of the last turn that a thread has taken */
	atomic_uint beat; /* counts calls received */
	atomic_uint serving; /* the last turn to have begun a call, times 2; odd while that call is being served */
	atomic_uint guard_asleep;
	struct vu_thread *threads; /* threads.c */
	unsigned thread_count;
	pthread_t guard;
	bool guarded;
	bool crowded; /* it has been said that there can be no thread more */
	atomic_uint idle; /* threads that wait for a turn */
	atomic_uint wanted; /* counts how often nobody was left to lead: the guard looks */
	_Atomic(struct vu_twin *) twins[1024]; /* twins.c */
	atomic_bool has_twins;
	atomic_uint moves; /* how often a directory of a layer has got another path, or none */
	_Atomic(struct vu_again *) again; /* again.c: what threads that make their call anew come back for */
	_Atomic(struct vu_peers *) peers; /* peers.c: for whom we have connected which socket */
	_Atomic(struct vu_socket_names *) socket_names; /* socket_names.c */
	struct vu_slow *slow; /* calls that may block for ever, each with a thread of its own */
	pthread_mutex_t slow_lock;
	struct vu_stack *limited; /* quota.c: the first of those with a size; none goes before the session does */
	pthread_t watcher;
	bool watched;
	struct vu_kept kept[VU_KEPT];
	atomic_int_fast64_t nothing_kept; /* what was kept until then is not used */
	pthread_mutex_t asked_lock;
	uint64_t announced[VU_MAX_NR / 64]; /* calls that are trapped because of modules: claims.c */
	struct vu_ordinary *ordinary;
	uint32_t ordinary_count;
	struct vu_parked *parked; /* asked.c: calls that Python answers, the oldest first */
	int asked_event;
	atomic_uint_fast64_t notifications, continued, acted, failed, stale, slow_count, asked;
	uint64_t told[128]; /* digests of the warnings that were given: warn.c, under state_lock */
};

/* A place: where a path of the caller leads. Descriptors belong to the call and are closed by vu_place_close. */
struct vu_place {
	const struct vu_mount *mount;
	struct vu_seen
		seen; /* of the object, or with VU_WANT_PARENT of what has the name, if anything; in a stack only */
	const struct vu_node *node; /* entries at or below: the directory needs merging, may not be renamed */
	int parent; /* O_PATH of the directory, VU_WANT_PARENT only; else -1 */
	int fd; /* O_PATH of the object; -1 when it does not exist or was not wanted */
	bool native; /* the caller's kernel would arrive at this same object: may be continued */
	bool held; /* one of the caller's own descriptors: judged when it was opened */
	bool covered; /* nameless, because the view shows something else there */
	bool nameless; /* no path leads there: see vu_walk */
	bool beneath; /* nameless, because something is mounted over it; `view` is its path all the same */
	bool lost; /* nameless, because its mount is gone; `view` is the path below that */
	bool readonly;
	bool hidden; /* VU_WANT_PARENT: the last name is hidden by the view */
	bool mountpoint; /* the place is an entry's own target */
	bool magic; /* reached by a magic link of /proc and without a path: pipe, memfd, deleted file */
	bool top; /* VU_WANT_PARENT: `parent` is of the topmost tree of a stack */
	unsigned moves; /* those of the session when `parent` was looked up */
	bool merged; /* of a stack, which tells other attributes than the kernel: a directory of several trees, a kept owner */
	bool trailing; /* VU_WANT_PARENT: the name has a trailing slash, kept in `name` */
	bool listing; /* `fd` is no O_PATH descriptor, but what the caller wants */
	char name[NAME_MAX + 8]; /* VU_WANT_PARENT: last component, with its trailing slash if it had one */
	char *view; /* canonical path in the view, of the object (or of parent/name) */
};

/* callers.c */
enum vu_caller_file { VU_CALLER_CWD, VU_CALLER_DESCRIPTORS, VU_CALLER_STATUS, VU_CALLER_FILES };
enum { VU_CALLERS = 16 };
struct vu_caller {
	pid_t tid;
	int files[VU_CALLER_FILES]; /* 1 + the descriptor, so that 0 is none */
};

/* One thread's memory: nothing on the hot path allocates. */
struct vu_work {
	char path[2][PATH_MAX + 1];
	char view[2][VU_TEXT + PATH_MAX];
	char rest[2 * VU_TEXT];
	char text[2 * VU_TEXT];
	char link[PATH_MAX + 1];
	char host[VU_TEXT];
	char scratch[VU_TEXT];
	_Alignas(16) char data[65536 + 64];
	struct vu_caller callers[VU_CALLERS];
	int near; /* descriptors that are still to be handed over on this processor: inject.c */
};

struct vu_credentials {
	bool known;
	uid_t ruid, euid, suid, fsuid;
	gid_t rgid, egid, sgid, fsgid;
	uint64_t effective, permitted; /* capabilities */
	mode_t umask;
	pid_t tgid;
	int group_count;
	gid_t groups[256];
};

struct vu_call {
	struct vu_session *session;
	const struct vu_table *table; /* the version that it began with */
	struct vu_work *work;
	const struct vu_row *row;
	uint64_t id;
	const uint64_t *args;
	pid_t tid;
	pid_t tgid; /* 0 until vu_tgid() */
	const struct vu_state *state;
	int64_t value;
	struct vu_credentials credentials;
	int nr;
	struct vu_borrowed borrowed;
	bool assumed; /* acting with the caller's credentials, and with these capabilities: */
	uint64_t acting;
	bool native_error; /* the walk failed where the caller's kernel fails as well, and says it best */
	uint64_t listing; /* not 0: a directory is opened at once with these flags, not with O_PATH (vu_op_open) */
	bool aside; /* another thread receives meanwhile */
	const char *asks; /* with VU_ASK: what for */
	unsigned asks_flags;
	uint32_t claim; /* with "module": whose; by which path, if it is by one */
	const char *claimed;
	bool passed; /* modules are not asked: they have been */
	struct vu_wired *waits; /* nothing can be done before this mount's server has been asked */
	bool elsewhere; /* made anew by a thread that may wait for one */
	bool blind; /* its memory, or what it has open, may not be looked at: nothing can be answered but an error */
};

/* What an operation returns; a negative number is an errno for the caller. */
enum vu_verdict {
	VU_REPLY = 0, /* call->value */
	VU_CONTINUE = 1, /* the kernel does it */
	VU_SENT = 2, /* the reply has gone: ADDFD with SEND, a remote call */
	VU_ASK = 3, /* Python answers it: vu_ask() */
};

typedef int vu_operation(struct vu_call *call);

static inline int vu_answer(struct vu_call *call, int64_t value)
{
	call->value = value;
	return VU_REPLY;
}

static inline uint64_t vu_argument(const struct vu_call *call, int index)
{
	return index < 0 ? 0 : call->args[index];
}

static inline int vu_result(long result)
{
	return result < 0 ? -errno : (int)result;
}

static inline void vu_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}
#define VU_CLOSE __attribute__((cleanup(vu_close)))

/* notify.c */
int vu_notify_alive(const struct vu_call *call); /* the caller still waits: everything read so far was its own */
/* The operation, and its answer: for who makes a call anew, on another thread. */
int vu_notify_run(struct vu_call *call);
void vu_notify_reply(struct vu_call *call, int verdict);
void vu_notify_serve(struct vu_session *session, struct vu_work *work, struct vu_pin *pin,
		     const struct seccomp_notif *notification);
void vu_log(struct vu_session *session, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* inject.c */
/* Put `fd` into the caller without answering yet; returns its number there. */
int vu_inject(struct vu_call *call, int fd, bool cloexec);
/* The same as the call's result: VU_SENT, or VU_REPLY, or -errno. */
int vu_inject_result(struct vu_call *call, int fd, bool cloexec);

/* asked.c */
int vu_asked_init(struct vu_session *session);
void vu_asked_stop(struct vu_session *session); /* those that wait get EIO */
/* VU_ASK, or -EPERM in a session without a mounter. `what`: see struct vu_asked; a literal. */
int vu_ask(struct vu_call *call, const char *what, unsigned flags);
int vu_asked_park(struct vu_call *call);

/* claims.c */
void vu_claims_free(struct vu_claims *claims); /* all of a list */
void vu_claims_keep(struct vu_claims **list, struct vu_claims *claims);
bool vu_claims_paths(const struct vu_claims *claims); /* some are of paths */
uint32_t vu_claims_call(struct vu_call *call); /* the claim on it by its number and arguments, or 0 */
/* On a canonical path that the call names: 0, or -VU_LATER for the operation to end with, call->claim being set. */
int vu_claims_path(struct vu_call *call, const char *view);
bool vu_claims_ordinary(const struct vu_call *call);

/* threads.c */
/* Another thread receives from now on: the caller of this is about to take its time. */
void vu_notify_step_aside(struct vu_session *session);
/* The same, once, of a call that comes to a mount whose server may take its time. */
void vu_notify_comes_to(struct vu_call *call, const struct vu_mount *mount);
void vu_threads_stop(struct vu_session *session);

/* warn.c */
enum vu_warning { VU_WARN_BLIND, VU_WARN_FOREIGN, VU_WARN_OPAQUE };
/* Tells the person "NAME (process N): …", once for each program and kind; before the call is answered. */
void vu_warn(struct vu_call *call, enum vu_warning kind, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* callers.c: descriptors of what procfs has of the caller; -1: there is none yet, so open it by its path */
int vu_caller_file(struct vu_call *call, enum vu_caller_file file);
/* What they told was an error: the thread that they were of may have gone. */
void vu_caller_forget(struct vu_call *call);
void vu_callers_free(struct vu_work *work);

/* target.c */
/* With our own capabilities from `begin` on, then again with those that we act with. */
void vu_own_rights(struct vu_call *call, bool begin);
/* The same to look at the target (its memory, links, ptrace), which may take its ids: borrow.h. */
void vu_inspect(struct vu_call *call, bool begin);
bool vu_may_trace_others(void);
/* No directory keeps any member from what is below it: all are root, with that capability. */
bool vu_searches_all(const struct vu_session *session); /* CAP_SYS_PTRACE */
int vu_read(struct vu_call *call, uint64_t address, void *out, size_t size);
int vu_write(struct vu_call *call, uint64_t address, const void *data, size_t size);
/* A path or name: its length, -EFAULT, or -ENAMETOOLONG when it has no end within `room` bytes. */
int vu_read_string(struct vu_call *call, uint64_t address, char *out, size_t room);
pid_t vu_tgid(struct vu_call *call);
/* Text of a magic link of the caller ("cwd", "fd/7") as the supervisor sees it. */
int vu_target_link(struct vu_call *call, const char *name, char *out, size_t room);
/* O_PATH of the object behind such a link. */
int vu_target_open(struct vu_call *call, const char *name);
/* "cwd" for AT_FDCWD, else "fd/N". */
const char *vu_descriptor_name(int fd, char buffer[24]);
/* A duplicate of the caller's descriptor; -EPERM where the machine does not allow it (Docker: then a remote call). */
int vu_target_descriptor(struct vu_call *call, int fd);
int vu_target_credentials(struct vu_call *call);
mode_t vu_target_umask(struct vu_call *call);
/* Act as the caller would (fsuid, fsgid, groups, capabilities) until vu_resign; nothing to do unless the supervisor is root. */
int vu_assume(struct vu_call *call);
int vu_assume_real(struct vu_call *call); /* the same with the real ids: access(2) */
void vu_resign(struct vu_call *call);

/* state.c */
const struct vu_state *vu_state_of(struct vu_call *call);
/* Give the caller the state `wanted`, whose root is copied if it is new. */
int vu_state_set(struct vu_call *call, const struct vu_state *wanted);
/* No process is left in that namespace: the numbers of its states are free. */
void vu_states_end(struct vu_session *session, unsigned space);
void vu_states_free(struct vu_session *session);
/* The namespace of the caller. */
unsigned vu_space_of(struct vu_call *call);
/* Of RLIMIT_LOCKS, RLIMIT_FSIZE: a process's limit, whatever its ids; the caller's. */
struct rlimit;
int vu_limit_of(const struct vu_session *session, pid_t pid, int resource, struct rlimit *out);
int vu_target_limit(struct vu_call *call, int resource, struct rlimit *out);

/* walk.c, and place.c for what begins and ends a walk */
enum {
	VU_FOLLOW = 1, /* follow a last symbolic link */
	VU_WANT_PARENT = 2, /* resolve the directory; the last name may not exist */
	VU_EMPTY_OK = 4, /* AT_EMPTY_PATH */
	VU_ABSENT_OK = 8, /* with VU_WANT_PARENT: open the object too if it is there */
	VU_DIRECTORY = 16, /* the object must be a directory */
	VU_NO_LINKS = 32, /* RESOLVE_NO_SYMLINKS */
	VU_NO_MAGIC = 64, /* RESOLVE_NO_MAGICLINKS */
	VU_BENEATH = 128, /* RESOLVE_BENEATH */
	VU_IN_ROOT = 256, /* RESOLVE_IN_ROOT */
	VU_NO_MOUNTS = 512, /* RESOLVE_NO_XDEV */
	VU_READS = 1024, /* the call changes nothing: where no entry can matter, there is nothing to look up */
};
/*
 * A place that no path names (a deleted working directory, one deeper than PATH_MAX) is held and native, with no
 * descriptor: only the kernel can go on from there. An enforcing view answers -ENOENT.
 * `slot` (0 or 1) selects the work buffers, for calls with two paths. */
int vu_walk(struct vu_call *call, int slot, int dirfd, const char *path, unsigned flags, struct vu_place *place);
/* Read the path at the row's `path` (or `path2`) argument and walk it. -EFAULT etc. as the kernel would say. */
int vu_walk_argument(struct vu_call *call, unsigned flags, struct vu_place *place);
int vu_walk_second(struct vu_call *call, unsigned flags, struct vu_place *place);
/* The place of one of the caller's descriptors. An enforcing view's has the object in `fd` as well. */
int vu_walk_descriptor(struct vu_call *call, int slot, int fd, struct vu_place *place);
/* The same by `own`, our duplicate of the caller's `fd`; what is said is of that object, and place->fd stays -1. */
int vu_walk_duplicate(struct vu_call *call, int fd, int own, struct vu_place *place);
void vu_place_close(struct vu_place *place);
#define VU_PLACE __attribute__((cleanup(vu_place_close))) struct vu_place
/*
 * May this call simply continue? True for the native object of a view that does not enforce. Under enforcement never: the
 * kernel would read the path again, and it need not be the one that was judged, not even an empty one.
 */
static inline bool vu_may_continue(const struct vu_call *call, const struct vu_place *place, bool writes)
{
	if ((writes && (place->readonly || ((place->mount->stack || place->mount->wired) && !place->magic))) ||
	    place->hidden)
		return false;
	return (place->held || place->native) && !call->session->enforce;
}
/*
 * Is the answer ours, and not the kernel's? Then the arguments are checked here, and before the error of the walk is
 * returned where the kernel checks them before it looks at the path.
 */
static inline bool vu_ours(const struct vu_call *call, int verdict)
{
	return verdict != VU_CONTINUE && !(verdict < 0 && call->native_error && !call->session->enforce);
}
/* "/proc/self/fd/N" for system calls that know no descriptor form. */
const char *vu_fd_path(int fd, char buffer[32]);
/*
 * Is it of procfs? That lies on no block device (major 0: set_anon_super in fs/super.c), which fstat(2) tells more cheaply
 * than fstatfs(2), for which some file systems count their blocks.
 */
bool vu_on_procfs(int fd);
bool vu_is_procfs(int fd, const struct stat *st);
/* Open the object of an O_PATH descriptor anew with real flags; never blocks on a FIFO (checked by the caller). */
int vu_reopen(struct vu_session *session, int fd, int flags);

int vu_ids_may_execute(struct vu_call *call); /* op_ids.c: 0 or -EPERM */
/* op_*.c: the table of operations is in notify.c */
/* walk_proc.c. Under enforcement: is this of procfs, and tells of a process that is none of the view's what ptrace(2) rights guard? */
bool vu_proc_guarded(struct vu_call *call, int fd, bool writes);

vu_operation vu_op_open, vu_op_openat2, vu_op_stat, vu_op_statx, vu_op_access, vu_op_readlink, vu_op_mkdir, vu_op_mknod,
	vu_op_unlink, vu_op_link, vu_op_symlink, vu_op_rename, vu_op_chmod, vu_op_chown, vu_op_utime, vu_op_utimes,
	vu_op_utimensat, vu_op_truncate, vu_op_statfs, vu_op_getxattr, vu_op_setxattr, vu_op_listxattr,
	vu_op_removexattr, vu_op_getxattrat, vu_op_setxattrat, vu_op_listxattrat, vu_op_removexattrat,
	vu_op_file_getattr, vu_op_file_setattr, vu_op_chdir, vu_op_chroot, vu_op_getcwd, vu_op_execve, vu_op_inotify,
	vu_op_fanotify, vu_op_name_to_handle, vu_op_open_by_handle, vu_op_bind, vu_op_connect, vu_op_sendto,
	vu_op_sendmsg, vu_op_sendmmsg, vu_op_getsockopt, vu_op_sockname, vu_op_getdents64, vu_op_getdents,
	vu_op_descriptor_write, vu_op_fstat, vu_op_getrlimit, vu_op_setrlimit, vu_op_prlimit, vu_op_dumpable,
	vu_op_mount, vu_op_umount, vu_op_sync, vu_op_credentials, vu_op_ids;

#endif
