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
 * What they share is in table.h, call.h, target.h and place.h, which this includes.
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

#include "call.h"
#include "place.h"
#include "target.h"

#include <signal.h>

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
void vu_slow_stop(struct vu_session *session);
void vu_again_free(struct vu_session *session);
void vu_peers_free(struct vu_session *session);
void vu_socket_names_free(struct vu_session *session);

/* notify.c */
int vu_notify_alive(const struct vu_call *call); /* the caller still waits: everything read so far was its own */
/* The operation, and its answer: for who makes a call anew, on another thread. */
int vu_notify_run(struct vu_call *call);
void vu_notify_reply(struct vu_call *call, int verdict);
void vu_notify_serve(struct vu_listener *listener, struct vu_work *work, struct vu_pin *pin,
		     const struct seccomp_notif *notification);
void vu_log(struct vu_session *session, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* inject.c */
/* Learns which processors there are for us at all. */
void vu_inject_init(struct vu_session *session);
/* Put `fd` into the caller without answering yet; returns its number there. */
int vu_inject(struct vu_call *call, int fd, bool cloexec);
/* The same as the call's result: VU_SENT, or VU_REPLY, or -errno. */
int vu_inject_result(struct vu_call *call, int fd, bool cloexec);
/* Blocks all signals, which a thread that injects must do. */
void vu_undisturbed(sigset_t *before);

/* asked.c */
int vu_asked_init(struct vu_session *session);
void vu_asked_stop(struct vu_session *session); /* those that wait get EIO */
/* VU_ASK, or -EPERM in a session without a mounter. `what`: see struct vu_asked; a literal. */
int vu_ask(struct vu_call *call, const char *what, unsigned flags);
int vu_asked_park(struct vu_call *call);
void vu_asked_forget(struct vu_session *session, const struct vu_listener *listener); /* whose callers are dead */

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
void vu_notify_step_aside(struct vu_call *call);
/* The same, once, of a call that comes to a mount whose server may take its time. */
void vu_notify_comes_to(struct vu_call *call, const struct vu_mount *mount);
void vu_threads_stop(struct vu_session *session);
/* For a call that goes on after its turn on the thread: its listener stays until it is given back. */
void vu_listener_share(struct vu_listener *listener);
void vu_listener_release(struct vu_listener *listener);

/* warn.c */
enum vu_warning { VU_WARN_BLIND, VU_WARN_FOREIGN, VU_WARN_OPAQUE };
/* Tells the person "NAME (process N): …", once for each program and kind; before the call is answered. */
void vu_warn(struct vu_call *call, enum vu_warning kind, const char *format, ...) __attribute__((format(printf, 3, 4)));

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
	vu_op_mount, vu_op_umount, vu_op_sync, vu_op_fgetxattr, vu_op_flistxattr, vu_op_credentials, vu_op_ids;

#endif
