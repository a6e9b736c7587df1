/*
 * The engine as Python sees it: everything cffi binds, and nothing else.
 *
 * A session is one mount table, and a listener with a few threads for each launcher whose processes see it. Python fills the
 * session in (rows, entries), starts it with a listener and stops it; between the two no call of the view's processes needs the
 * GIL.
 *
 * Every function returns >= 0, or -errno.
 */
#ifndef VUOSD_ENGINE_API_H
#define VUOSD_ENGINE_API_H

#include <stdint.h>

/* The canonical operations: some 150 system calls are one of these with another argument layout. */
enum vu_op {
	VU_OP_NONE = 0,
	VU_OP_OPEN, /* open creat openat: path, flags, mode */
	VU_OP_OPENAT2, /* path, buf = struct open_how, size */
	VU_OP_STAT, /* stat lstat newfstatat: path, buf = struct stat, flags */
	VU_OP_STATX, /* path, flags, extra = mask, buf = struct statx */
	VU_OP_ACCESS, /* access faccessat faccessat2: path, mode, flags */
	VU_OP_READLINK, /* path, buf, size */
	VU_OP_MKDIR, /* path, mode */
	VU_OP_MKNOD, /* path, mode, extra = device */
	VU_OP_UNLINK, /* unlink rmdir unlinkat: path, flags */
	VU_OP_LINK, /* path, path2, flags */
	VU_OP_SYMLINK, /* buf = link text, path */
	VU_OP_RENAME, /* path, path2, flags */
	VU_OP_CHMOD, /* path, mode, flags */
	VU_OP_CHOWN, /* path, mode = uid, extra = gid, flags */
	VU_OP_UTIME, /* path, buf = struct utimbuf */
	VU_OP_UTIMES, /* utimes futimesat: path, buf = struct timeval[2] */
	VU_OP_UTIMENSAT, /* path (may be NULL), buf = struct timespec[2], flags */
	VU_OP_TRUNCATE, /* path, extra = length */
	VU_OP_STATFS, /* path, buf = struct statfs */
	VU_OP_GETXATTR, /* path, extra = name, buf = value, size */
	VU_OP_SETXATTR, /* path, extra = name, buf = value, size, mode = XATTR_* */
	VU_OP_LISTXATTR, /* path, buf, size */
	VU_OP_REMOVEXATTR, /* path, extra = name */
	VU_OP_GETXATTRAT, /* path, flags, extra = name, buf = struct xattr_args, size */
	VU_OP_SETXATTRAT, /* path, flags, extra = name, buf = struct xattr_args, size */
	VU_OP_LISTXATTRAT, /* path, flags, buf, size */
	VU_OP_REMOVEXATTRAT, /* path, flags, extra = name */
	VU_OP_FILE_GETATTR, /* path, buf = struct file_attr, size, flags */
	VU_OP_FILE_SETATTR, /* path, buf = struct file_attr, size, flags */
	VU_OP_CHDIR, /* path */
	VU_OP_CHROOT, /* path */
	VU_OP_GETCWD, /* buf, size */
	VU_OP_EXECVE, /* execve execveat: path, buf = argv, extra = envp, flags */
	VU_OP_INOTIFY, /* fd, path, mode = mask */
	VU_OP_FANOTIFY, /* fd, path, mode = FAN_MARK_* flags, extra = mask */
	VU_OP_NAME_TO_HANDLE, /* path, buf = struct file_handle, extra = mount id, flags */
	VU_OP_OPEN_BY_HANDLE, /* fd = mount fd, buf, flags */
	VU_OP_BIND, /* fd, buf = address, size */
	VU_OP_CONNECT, /* fd, buf = address, size */
	VU_OP_SENDTO, /* fd, buf = address, size */
	VU_OP_SENDMSG, /* fd, buf = struct msghdr, flags */
	VU_OP_SENDMMSG, /* fd, buf = struct mmsghdr[], size, flags */
	VU_OP_GETSOCKOPT, /* fd, extra = level, mode = name, buf, size = address of the length */
	VU_OP_SOCKNAME, /* fd, buf, size = address of the length; implied: of the peer */
	VU_OP_GETDENTS64, /* fd, buf, size */
	VU_OP_GETDENTS, /* fd, buf, size */
	VU_OP_FCHMOD, /* fd, mode: trapped for the sake of read-only entries, which no descriptor shows */
	VU_OP_FCHOWN, /* fd, mode = uid, extra = gid */
	VU_OP_FSETXATTR, /* fd */
	VU_OP_FREMOVEXATTR, /* fd */
	VU_OP_IOCTL_SETFLAGS, /* ioctl with FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR: fd */
	VU_OP_FSTAT, /* fd, buf: of a directory that several trees show */
	VU_OP_GETRLIMIT, /* getrlimit(RLIMIT_LOCKS): buf */
	VU_OP_SETRLIMIT, /* setrlimit(RLIMIT_LOCKS): buf */
	VU_OP_PRLIMIT, /* prlimit64(…, RLIMIT_LOCKS): extra = pid, buf = new, size = old (a pointer) */
	VU_OP_DUMPABLE, /* prctl: extra = PR_SET_DUMPABLE or PR_GET_DUMPABLE, mode */
	VU_OP_MOUNT, /* asked of Python, as the next: its arguments are not looked at */
	VU_OP_UMOUNT,
	VU_OP_SYNC, /* fsync fdatasync syncfs: fd */
	VU_OP_FGETXATTR, /* fd extra buf size */
	VU_OP_FLISTXATTR, /* fd buf size */
	VU_OP_CREDENTIALS, /* setuid … capset under a privileged supervisor: let through, and remember that it happened */
	VU_OP_IDS, /* geteuid … getresgid: where effective ids are carried by others */
	VU_OP_COUNT
};

/* One system call: which of its six arguments is what; -1 where it has no such argument. */
struct vu_row {
	uint16_t nr;
	uint16_t op;
	int8_t dirfd, path, dirfd2, path2, flags, mode, buf, size, extra, fd;
	uint32_t
		implied; /* flags that the call's name implies: AT_SYMLINK_NOFOLLOW of lstat, AT_REMOVEDIR of rmdir, O_* of creat */
};

enum vu_kind {
	VU_BIND = 1,
	VU_HIDE = 2,
	VU_TMPFS = 3,
	VU_ROOT = 4,
	VU_COW = 6,
	VU_MERGE = 7,
	VU_WIRE = 8,
	VU_UNREAL = 9
};

enum {
	VU_ENTRY_READONLY = 1,
	VU_ENTRY_SERVED =
		2, /* at run time: its file system is served by a process, so that calls on it may wait for long */
	VU_ENTRY_FIRST = 4, /* … of the view itself, before its command begins: nobody has known what it covers */
	VU_ENTRY_COVERS = 8, /* … what is mounted at and below its target is gone */
	VU_ENTRY_ALL = 16, /* … `below` also has what has been mounted at run time */
	VU_ENTRY_FROZEN = 32, /* … what comes with it is read-only */
	VU_ENTRY_LOCKED =
		64, /* … it comes with each bind of what lies around it, and nobody goes on to be beneath it */
};

enum {
	VU_STACK_WRITABLE = 1, /* the topmost tree may be written */
	VU_STACK_MINIMAL = 2, /* what the bottom tree permits is changed there, and only the rest in the layer */
	VU_STACK_SYNC = 4, /* what is copied up is on disk before its name is */
	VU_STACK_XATTR_WHITEOUT =
		8, /* whiteouts are files with an attribute: this machine refuses mknod(2) of the device */
};

/* Several directories shown as one. With a work directory the topmost is a layer: nothing below it is ever changed. */
struct vu_stack_options {
	const char *target;
	uint32_t flags, count;
	const int32_t *fds; /* O_PATH, topmost first; kept by the session, as are `work` and `origins` */
	const char *const *paths; /* of `fds`, as /proc/self/fd names them */
	int32_t work; /* directory on the file system of the topmost, or -1 */
	int32_t origins; /* O_APPEND: the book of what the layer covers, or -1 */
	/* An empty directory of the session, or -1 where the lowest tree lies at `target` itself: directories made in it are what
	 * programs get for those of the stack, because a descriptor of a tree would be one of the tree's own place. */
	int32_t handles;
	const char *handles_path;
	uint64_t size; /* bytes on disk that a layer may hold; 0: no limit */
};

/* A mount at run time. */
struct vu_mount_options {
	const char *target; /* canonical path in the view */
	int32_t kind; /* VU_BIND, VU_TMPFS, VU_HIDE, or VU_UNREAL: the view's tree once more, which has no source */
	uint32_t flags; /* VU_ENTRY_* */
	int32_t source; /* as for vu_session_entry() */
	const char *source_path;
	/* As mountinfo tells them; NULL: as of the mount that the source lies on. The options are all in one, as in /proc/mounts. */
	const char *type, *name, *options;
	uint32_t space; /* the mount namespace */
	/* What is mounted below this view path of namespace `origin` comes with it, read-only if it is; NULL: nothing. */
	const char *below;
	uint32_t origin;
	/* Of VU_COW: what is at this view path of namespace `origin`, in an entry of several trees. */
	const char *within;
	uint32_t
		wire; /* of VU_WIRE: the number of the wire mount that this shows, or what of it `source` is the anchor of; of a stack: its lowest tree */
};

/* A FUSE server that is spoken to directly: wire.h. */
struct vu_wire_mount {
	const char *target; /* canonical path in the view */
	uint32_t flags; /* VU_ENTRY_* */
	int32_t socket; /* our end of a SOCK_SEQPACKET pair, whose other is the server's /dev/fuse */
	int32_t cache; /* an empty directory, for the anchors */
	uint32_t deadline_ms; /* of one request; 0: none */
	uint64_t largest; /* file that can be opened, in bytes; 0: no limit */
	uint32_t fixed; /* nothing of it changes: what the server has said once stays true */
	uint32_t file; /* its root is a regular file */
	uint32_t no_devices; /* none of its device files is one */
	const char *type, *name, *options; /* as in struct vu_mount_options */
	uint32_t space;
};

/* A request that waits for the server. */
struct vu_wire_flight {
	uint32_t opcode; /* FUSE_* */
	int32_t pid; /* whose call it is for; 0: nobody waits for it */
	uint64_t node, age_ns;
};

enum {
	VU_SESSION_ENFORCE = 1, /* act on anchors; continue only what the Landlock floor bounds */
	VU_SESSION_PRIVILEGED = 2, /* the supervisor is root: act with the credentials of the caller */
	VU_SESSION_BROKER_MEMORY = 4, /* only the launcher may read targets (Yama): go through the broker */
	VU_SESSION_PROTECTED_LINKS = 8, /* the sysctl fs.protected_symlinks is set */
	VU_SESSION_PROTECTED_HARDLINKS = 32, /* the sysctl fs.protected_hardlinks is set */
	VU_SESSION_MOUNTS = 16, /* somebody answers mount, umount2, open("/dev/fuse"), the door: vu_session_take() */
};

/* A call of a member that Python is to answer. */
struct vu_asked {
	uint64_t id;
	int32_t tid, tgid, nr;
	uint32_t flags; /* of open_fuse: how it is to be opened */
	uint32_t space; /* its mount namespace */
	uint64_t args[6];
	uint32_t claim; /* of "module": struct vu_claim.id */
	char op[16]; /* "mount", "umount", "open_fuse", "door" (door.h), "module" */
};

/* Calls that a module answers: those of one number, or all of some operations that name a path at or below another. */
struct vu_claim {
	uint32_t id; /* > 0; what asks says it again */
	int32_t nr; /* of the system call; not looked at with a path */
	int32_t arg; /* which argument must be `value` under `mask`; -1: none */
	uint64_t mask, value;
	uint64_t ops; /* 1 << VU_OP_…, with a path */
	const char *path; /* canonical, in the view; or NULL */
};

/* When the filter would trap a call that modules have had trapped, if they had not. */
struct vu_ordinary {
	int32_t nr;
	int32_t arg; /* -1: always */
	int32_t equal; /* else the argument must differ from the value */
	uint64_t mask, value;
};

enum {
	VU_RESOLVE_FOLLOW = 1, /* a last symbolic link */
	VU_RESOLVE_WRITE =
		2, /* it is to be opened to be read and written: of a stack, the copy that open(2) would make */
	VU_RESOLVE_WIRED = 4, /* of vu_session_look(): also in a wire mount, whose anchor `fd` is */
};

struct vu_resolved {
	char view[16384]; /* canonical path in the view; "" for an object without one */
	int32_t fd; /* O_PATH, the caller's of vu_session_resolve() */
	int32_t readonly; /* by an entry of the view */
	int32_t served; /* a process serves it */
	int32_t special; /* of several trees, or by wire: `fd` is not all of it */
};

struct vu_options {
	uint64_t tag; /* RLIMIT_LOCKS value of a member in state 0 */
	uint64_t cookie; /* sixth argument that the filter lets pass in the calls that are made remotely */
	int32_t broker; /* broker socket to the launcher's keeper, or -1 */
	int32_t log; /* datagram socket or pipe: one line a write, never blocking */
	int32_t keeper; /* the session's socket to the launcher's keeper, for what the person must be told; or -1 */
	int32_t fusermount; /* a static program that is executed for any fusermount or fusermount3; the session's; or -1 */
	uint32_t flags;
	uint32_t threads; /* at least 3: one receives, one looks after it, the rest take over when it is held up */
};

struct vu_stats {
	uint64_t notifications, continued, acted, failed, stale, slow, asked;
};

typedef struct vu_session vu_session;

vu_session *vu_session_new(const struct vu_options *options, const struct vu_row *rows, uint32_t count);
/*
 * source: O_PATH descriptor, kept by the session; source_path: its path in the supervisor's namespace. VU_HIDE has no
 * descriptor; its source_path, which may be NULL, is what it withholds.
 */
int vu_session_entry(vu_session *session, int kind, uint32_t flags, const char *target, int source,
		     const char *source_path);
int vu_session_stack(vu_session *session, const struct vu_stack_options *options);
/*
 * What a layer of limited size holds, in bytes; found out anew if it may be something else by now. `number`: of those with a
 * size, in the order in which they were added. -ENOENT: there is none.
 */
int vu_session_usage(vu_session *session, uint32_t number, uint64_t *bytes);
/* While the session runs: on top of what is at the target now. Returns the mount's number, > 0; the source is the session's then. */
int vu_session_mount(vu_session *session, const struct vu_mount_options *options);
/*
 * The same of several trees, whose descriptors are the session's then, also after an error. Of `how` these count: flags, type,
 * name, options, space, below, origin, wire.
 */
int vu_session_mount_stack(vu_session *session, const struct vu_stack_options *options,
			   const struct vu_mount_options *how);
/* Hides a directory of the host, by its canonical path, wherever the session shows it now. 0 or -errno. */
int vu_session_conceal(vu_session *session, const char *host);
/*
 * Takes it away, whatever lies over it. 0: its descriptor is closed; 1: calls are under way that still use it, and the last
 * of them closes it. -EINVAL: there is no such mount.
 */
int vu_session_unmount(vu_session *session, uint32_t space, int number);
/*
 * A new mount namespace, like that of number `from` but without its future: its number. -ENOSPC: there are too many. It ends by
 * vu_session_space_end(), when no process is left in it; one that is, all the same, gets ESRCH.
 */
int vu_session_space(vu_session *session, uint32_t from);
int vu_session_space_end(vu_session *session, uint32_t space);
/* The caller of a call that waits is in that namespace from now on, with what it starts. */
int vu_session_enter(vu_session *session, uint64_t id, uint32_t space);
/* That of a process, by the state in its tag; -ESRCH: there is no such state. */
int vu_session_space_of(vu_session *session, uint32_t state);
/*
 * By which mount a process with this state in its tag has come to its working directory (`cwd`), or to what it has open, where the
 * view shows that at several places: its number, or 0 where that is not known; -ESRCH.
 */
int vu_session_came_by(vu_session *session, uint32_t state, int cwd);
/* The state of a process that begins in a namespace; -ESRCH: there is no such namespace, -ENOSPC: there are too many states. */
int vu_session_state(vu_session *session, uint32_t space);
/*
 * As vu_session_mount(), of a FUSE server. Waits for it to begin. The descriptors are the session's, also after an error: -EPROTO (it
 * speaks no FUSE that we know), -ENOTCONN (it has gone), -EIO (it did not answer in time), or what it says of its root.
 */
int vu_session_wire(vu_session *session, const struct vu_wire_mount *options);
/*
 * Of one that has been unmounted: writes back what is left. How many files could not be written back; `lost` gets "ERRNO PATH" of
 * each, one string after the other, as far as there is room. The server is asked nothing if nothing is to be written. -EBUSY while
 * calls still use it, or another thread does the same.
 */
int vu_session_wire_settle(vu_session *session, int number, char *lost, size_t room);
/* The same, and ends the server's work, which may take it a while. The session's end does so too. */
int vu_session_wire_end(vu_session *session, int number, char *lost, size_t room);
/* The requests under way, up to `room` of them; returns how many there are. */
int vu_session_wire_flights(vu_session *session, int number, struct vu_wire_flight *out, uint32_t room);
/* The view path of the directory that the first process starts in: which of the entries that show it was meant. */
int vu_session_cwd(vu_session *session, const char *view);
int vu_session_start(vu_session *session, int listener);
/*
 * While it runs: another listener, of a launcher that has entered the session, with its broker and session sockets as in struct
 * vu_options. All three stay the caller's. Its number, > 0; that of the first, by vu_session_start(), is 1.
 */
int vu_session_listen(vu_session *session, int listener, int broker, int keeper);
/* No process has that filter any more: its threads end. -EINVAL: there is none of that number. */
int vu_session_unlisten(vu_session *session, uint32_t number);
/* Wakes and joins the threads, closes everything. The listener is the caller's. */
int vu_session_stop(vu_session *session);
/*
 * Calls that wait to be answered by Python. From any thread. The descriptor is readable while there are some; take: 1, or 0
 * when none is left. An answer is 1, or 0 when the caller has gone (or its id is not of a call that was taken); the
 * answer's `error` is an errno, or 0. What follows looks at the caller: -ESRCH when it has gone.
 */
int vu_session_asked_fd(vu_session *session);
int vu_session_take(vu_session *session, struct vu_asked *out);
int vu_session_answer(vu_session *session, uint64_t id, int64_t value, int error);
/*
 * The call is made as if no module had claimed it, on the calling thread, and answered. 1, or 0 when the caller has gone.
 */
int vu_session_proceed(vu_session *session, uint64_t id);
/* With a descriptor of the description of `fd`. -EBADF: it cannot be handed over, and the call still waits. */
int vu_session_answer_descriptor(vu_session *session, uint64_t id, int fd, int cloexec);
int vu_session_read(vu_session *session, uint64_t id, uint64_t address, void *out, uint64_t size);
int vu_session_write(vu_session *session, uint64_t id, uint64_t address, const void *data, uint64_t size);
/* The path in the view by which a call is claimed, "" if it is not by one; its length, or -ENAMETOOLONG. */
int vu_session_claimed_path(vu_session *session, uint64_t id, char *out, uint64_t room);
/* What modules answer from now on: calls that begin later. All that were claimed before are not any more. */
int vu_session_claim(vu_session *session, const struct vu_claim *claims, uint32_t count);
/* Before it starts: these calls are trapped because of modules; what is not claimed of them, and not ordinary, continues. */
int vu_session_announce(vu_session *session, const uint32_t *calls, uint32_t count, const struct vu_ordinary *ordinary,
			uint32_t ordinary_count);
/* Its length; -ENAMETOOLONG when it has no end within `room` bytes. */
int vu_session_read_string(vu_session *session, uint64_t id, uint64_t address, char *out, uint64_t room);
/* A path of the caller, with its rights. */
int vu_session_resolve(vu_session *session, uint64_t id, int dirfd, const char *path, uint32_t flags,
		       struct vu_resolved *out);
/* What the view has at a canonical path, by our own rights, without a look through links. -EXDEV: it is in a wire mount. */
int vu_session_look(vu_session *session, uint32_t space, const char *view, uint32_t flags, struct vu_resolved *out);
int vu_session_stats(const vu_session *session, struct vu_stats *out);
/*
 * Allows `access` on and beneath what `path` names, no link; of a file only what of it is in `file`. Needs no session. 0 also
 * when there is nothing of that name within reach.
 */
int vu_floor_allow(int ruleset, const char *path, uint64_t access, uint64_t file);
/* Name of an operation ("open", …) for logs and tests; NULL past the last. */
const char *vu_op_name(int op);

#endif
