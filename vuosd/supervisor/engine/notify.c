/*
 * A notification: look its row up, call the operation, send the reply. And what a session is made of.
 */
#include "broker.h"
#include "stack.h"
#include "wired.h"

#include <linux/audit.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define X32_BIT 0x40000000
#define RETRIES 16 /* of a walk that a concurrent rename has made invalid */

/* `path`: concerns the tree, so that a view without entries lets it continue at once. */
static const struct {
	const char *name;
	vu_operation *run;
	bool path;
} operations[VU_OP_COUNT] = {
	[VU_OP_OPEN] = { "open", vu_op_open, true },
	[VU_OP_OPENAT2] = { "openat2", vu_op_openat2, true },
	[VU_OP_STAT] = { "stat", vu_op_stat, true },
	[VU_OP_STATX] = { "statx", vu_op_statx, true },
	[VU_OP_ACCESS] = { "access", vu_op_access, true },
	[VU_OP_READLINK] = { "readlink", vu_op_readlink, true },
	[VU_OP_MKDIR] = { "mkdir", vu_op_mkdir, true },
	[VU_OP_MKNOD] = { "mknod", vu_op_mknod, true },
	[VU_OP_UNLINK] = { "unlink", vu_op_unlink, true },
	[VU_OP_LINK] = { "link", vu_op_link, true },
	[VU_OP_SYMLINK] = { "symlink", vu_op_symlink, true },
	[VU_OP_RENAME] = { "rename", vu_op_rename, true },
	[VU_OP_CHMOD] = { "chmod", vu_op_chmod, true },
	[VU_OP_CHOWN] = { "chown", vu_op_chown, true },
	[VU_OP_UTIME] = { "utime", vu_op_utime, true },
	[VU_OP_UTIMES] = { "utimes", vu_op_utimes, true },
	[VU_OP_UTIMENSAT] = { "utimensat", vu_op_utimensat, true },
	[VU_OP_TRUNCATE] = { "truncate", vu_op_truncate, true },
	[VU_OP_STATFS] = { "statfs", vu_op_statfs, true },
	[VU_OP_GETXATTR] = { "getxattr", vu_op_getxattr, true },
	[VU_OP_SETXATTR] = { "setxattr", vu_op_setxattr, true },
	[VU_OP_LISTXATTR] = { "listxattr", vu_op_listxattr, true },
	[VU_OP_REMOVEXATTR] = { "removexattr", vu_op_removexattr, true },
	[VU_OP_GETXATTRAT] = { "getxattrat", vu_op_getxattrat, true },
	[VU_OP_SETXATTRAT] = { "setxattrat", vu_op_setxattrat, true },
	[VU_OP_LISTXATTRAT] = { "listxattrat", vu_op_listxattrat, true },
	[VU_OP_REMOVEXATTRAT] = { "removexattrat", vu_op_removexattrat, true },
	[VU_OP_FILE_GETATTR] = { "file_getattr", vu_op_file_getattr, true },
	[VU_OP_FILE_SETATTR] = { "file_setattr", vu_op_file_setattr, true },
	[VU_OP_CHDIR] = { "chdir", vu_op_chdir, true },
	[VU_OP_CHROOT] = { "chroot", vu_op_chroot, false },
	[VU_OP_GETCWD] = { "getcwd", vu_op_getcwd, true },
	[VU_OP_EXECVE] = { "execve", vu_op_execve, false },
	[VU_OP_INOTIFY] = { "inotify_add_watch", vu_op_inotify, true },
	[VU_OP_FANOTIFY] = { "fanotify_mark", vu_op_fanotify, true },
	[VU_OP_NAME_TO_HANDLE] = { "name_to_handle_at", vu_op_name_to_handle, true },
	[VU_OP_OPEN_BY_HANDLE] = { "open_by_handle_at", vu_op_open_by_handle, true },
	[VU_OP_BIND] = { "bind", vu_op_bind, true },
	[VU_OP_CONNECT] = { "connect", vu_op_connect, true },
	[VU_OP_SENDTO] = { "sendto", vu_op_sendto, true },
	[VU_OP_SENDMSG] = { "sendmsg", vu_op_sendmsg, true },
	[VU_OP_SENDMMSG] = { "sendmmsg", vu_op_sendmmsg, true },
	[VU_OP_GETSOCKOPT] = { "getsockopt", vu_op_getsockopt, true },
	[VU_OP_SOCKNAME] = { "sockname", vu_op_sockname, true },
	[VU_OP_GETDENTS64] = { "getdents64", vu_op_getdents64, true },
	[VU_OP_GETDENTS] = { "getdents", vu_op_getdents, true },
	[VU_OP_FCHMOD] = { "fchmod", vu_op_descriptor_write, true },
	[VU_OP_FCHOWN] = { "fchown", vu_op_descriptor_write, true },
	[VU_OP_FSETXATTR] = { "fsetxattr", vu_op_descriptor_write, true },
	[VU_OP_FREMOVEXATTR] = { "fremovexattr", vu_op_descriptor_write, true },
	[VU_OP_IOCTL_SETFLAGS] = { "ioctl", vu_op_descriptor_write, true },
	[VU_OP_FSTAT] = { "fstat", vu_op_fstat, false },
	[VU_OP_GETRLIMIT] = { "getrlimit", vu_op_getrlimit, false },
	[VU_OP_SETRLIMIT] = { "setrlimit", vu_op_setrlimit, false },
	[VU_OP_PRLIMIT] = { "prlimit", vu_op_prlimit, false },
	[VU_OP_DUMPABLE] = { "prctl", vu_op_dumpable, false },
	[VU_OP_MOUNT] = { "mount", vu_op_mount, false },
	[VU_OP_UMOUNT] = { "umount", vu_op_umount, false },
	[VU_OP_SYNC] = { "sync", vu_op_sync, true },
	[VU_OP_FGETXATTR] = { "fgetxattr", vu_op_fgetxattr, true },
	[VU_OP_FLISTXATTR] = { "flistxattr", vu_op_flistxattr, true },
	[VU_OP_CREDENTIALS] = { "credentials", vu_op_credentials, false },
	[VU_OP_IDS] = { "ids", vu_op_ids, false },
};

const char *vu_op_name(int op)
{
	return op > 0 && op < VU_OP_COUNT ? operations[op].name : NULL;
}

void vu_log(struct vu_session *session, const char *format, ...)
{
	char line[512];
	va_list arguments;
	if (session->options.log < 0)
		return;
	va_start(arguments, format);
	int length = vsnprintf(line, sizeof line - 1, format, arguments);
	va_end(arguments);
	if (length < 0)
		return;
	if (length > (int)sizeof line - 2)
		length = sizeof line - 2;
	line[length++] = '\n';
	if (write(session->options.log, line, (size_t)length) < 0)
		return; /* a full log must not hold up the caller; the worker counts nothing here */
}

int vu_notify_alive(const struct vu_call *call)
{
	uint64_t id = call->id;
	return ioctl(call->listener->fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) < 0 ? -ESRCH : 0;
}

void vu_notify_reply(struct vu_call *call, int verdict)
{
	struct vu_session *session = call->session;
	struct seccomp_notif_resp response = { .id = call->id };
	if (verdict == VU_ASK && (verdict = vu_asked_park(call)) >= 0) {
		atomic_fetch_add_explicit(&session->asked, 1, memory_order_relaxed);
		return;
	}
	if (verdict == VU_SENT) {
		atomic_fetch_add_explicit(&session->acted, 1, memory_order_relaxed);
		return;
	}
	if (verdict == VU_CONTINUE) {
		response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		atomic_fetch_add_explicit(&session->continued, 1, memory_order_relaxed);
	} else if (verdict < 0) {
		response.error = verdict;
		atomic_fetch_add_explicit(&session->failed, 1, memory_order_relaxed);
	} else {
		response.val = call->value;
		atomic_fetch_add_explicit(&session->acted, 1, memory_order_relaxed);
	}
	if (ioctl(call->listener->fd, SECCOMP_IOCTL_NOTIF_SEND, &response) < 0)
		atomic_fetch_add_explicit(&session->stale, 1, memory_order_relaxed); /* killed meanwhile */
}

static int foreign(struct vu_call *call, uint32_t arch)
{
	vu_warn(call, VU_WARN_FOREIGN, "made an %s call: only x86-64 programs run in a view; it gets ENOSYS",
		arch == AUDIT_ARCH_I386 ? "i386 (32-bit)" : "x32");
	return -ENOSYS;
}

/* FUSE servers open it to read and write, and so does who comes by the door (door.h). How openat2(2) opens lies in memory. */
static bool may_open_fuse(const struct vu_call *call)
{
	const struct vu_row *row = call->row;
	if (!(call->session->options.flags & VU_SESSION_MOUNTS))
		return false;
	return row->op == VU_OP_OPENAT2 || (row->op == VU_OP_OPEN && ((vu_argument(call, row->flags) | row->implied) &
								      (O_ACCMODE | O_CREAT | O_DIRECTORY)) == O_RDWR);
}

int vu_notify_run(struct vu_call *call)
{
	struct vu_session *session = call->session;
	unsigned op = call->row->op;
	if ((call->claim = vu_claims_call(call)))
		return vu_ask(call, "module", 0);
	if (!vu_claims_ordinary(call))
		return VU_CONTINUE;
	if (!op || op >= VU_OP_COUNT || !operations[op].run) {
		vu_log(session, "system call %d is trapped but has no row: ENOSYS", call->nr);
		return -ENOSYS;
	}
	bool bare = operations[op].path && call->table->empty &&
		    atomic_load_explicit(&session->state_count, memory_order_relaxed) == 1;
	if (bare && !may_open_fuse(call))
		return VU_CONTINUE;
	int verdict = vu_assume(call);
	if (verdict < 0)
		return verdict;
	if (call->table->upon)
		vu_needs_of(call);
	for (int i = 0; i < RETRIES; i++)
		if ((verdict = operations[op].run(call)) != -EAGAIN)
			break;
	vu_resign(call);
	if (call->table->upon) {
		vu_needs_of(NULL);
		if (!call->waits || call->claim || verdict == VU_SENT) /* else they go where they are met */
			vu_needs_free(call);
	}
	if (call->claim && verdict != VU_SENT)
		return vu_ask(call, "module", 0);
	if (call->waits && verdict != VU_SENT)
		return vu_wired_defer(call);
	if (bare && verdict < 0)
		return VU_CONTINUE; /* nothing but /dev/fuse and the door could have been ours */
	if (call->blind && verdict != VU_SENT) {
		/* To let it continue would be to let it out of the view, and nobody would notice. */
		vu_warn(call, VU_WARN_BLIND,
			"its memory may not be read (its user may not read the program, or it has changed its ids), so "
			"the view cannot answer it: calls with paths fail with \"Permission denied\"");
		return -EACCES;
	}
	if (verdict < 0 && call->native_error && !session->enforce)
		return VU_CONTINUE; /* which of several errors comes first is the kernel's to say */
	return verdict;
}

void vu_notify_serve(struct vu_listener *listener, struct vu_work *work, struct vu_pin *pin,
		     const struct seccomp_notif *notification)
{
	struct vu_session *session = listener->session;
	struct vu_call call = {
		.session = session,
		.listener = listener,
		.work = work,
		.id = notification->id,
		.tid = (pid_t)notification->pid,
		.nr = notification->data.nr,
		.args = (const uint64_t *)notification->data.args,
	};
	atomic_fetch_add_explicit(&session->notifications, 1, memory_order_relaxed);
	if (notification->data.arch != AUDIT_ARCH_X86_64 || (call.nr & X32_BIT) || call.nr < 0 ||
	    call.nr >= VU_MAX_NR) {
		vu_notify_reply(&call, foreign(&call, notification->data.arch));
		return;
	}
	call.row = &session->rows[call.nr];
	call.table = vu_table_pin(&session->names, vu_space_of(&call), pin);
	int verdict = call.table ? vu_notify_run(&call) : -ESRCH;
	vu_table_unpin(&session->names, pin);
	vu_notify_reply(&call, verdict);
}

vu_session *vu_session_new(const struct vu_options *options, const struct vu_row *rows, uint32_t count)
{
	struct vu_session *session = calloc(1, sizeof *session);
	if (!session)
		return NULL;
	session->options = *options;
	session->enforce = options->flags & VU_SESSION_ENFORCE;
	session->privileged = options->flags & VU_SESSION_PRIVILEGED;
	session->asked_event = -1;
	session->borrows = session->privileged && !vu_may_trace_others();
	for (int i = 0; i < VU_KEPT; i++)
		session->kept[i].fd = -1;
	for (uint32_t i = 0; i < count; i++)
		if (rows[i].nr < VU_MAX_NR)
			session->rows[rows[i].nr] = rows[i];
	pthread_mutex_init(&session->state_lock, NULL);
	pthread_mutex_init(&session->listener_lock, NULL);
	pthread_mutex_init(&session->slow_lock, NULL);
	session->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	session->self_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	session->states[0] = calloc(1, sizeof **session->states);
	atomic_store(&session->state_count, 1);
	if (session->proc < 0 || session->self_fd < 0 || !session->states[0] ||
	    !(session->states[0]->root = strdup("")) || vu_namespace_init(&session->names, session->enforce) < 0 ||
	    vu_asked_init(session) < 0) {
		vu_session_stop(session);
		return NULL;
	}
	session->states[0]->euid = session->states[0]->egid = -1;
	return session;
}

int vu_session_entry(vu_session *session, int kind, uint32_t flags, const char *target, int source,
		     const char *source_path)
{
	struct vu_mount *mount =
		vu_mount_new(&session->names, kind, flags & VU_ENTRY_READONLY, target, source, source_path);
	return mount ? vu_namespace_fill(&session->names, mount) : -ENOMEM;
}

int vu_session_cwd(vu_session *session, const char *view)
{
	struct vu_spot spot;
	vu_table_find(atomic_load(&session->names.tables[0]), view, &spot);
	if (spot.mount->kind == VU_HIDE)
		return -ENOENT;
	session->states[0]->cwd_mount = spot.mount->identity ? NULL : spot.mount;
	return 0;
}

int vu_session_stop(vu_session *session)
{
	vu_threads_stop(session);
	vu_slow_stop(session);
	vu_asked_stop(session);
	vu_again_free(session);
	vu_peers_free(session);
	vu_socket_names_free(session);
	vu_memory_sweep(session, true);
	vu_namespace_free(&session->names);
	vu_twins_free(session);
	vu_states_free(session);
	vu_close(&session->proc);
	vu_close(&session->self_fd);
	vu_close(&session->options.fusermount);
	free(session->ordinary);
	free(session);
	return 0;
}

int vu_session_stats(const vu_session *session, struct vu_stats *out)
{
	*out = (struct vu_stats){
		.notifications = atomic_load(&session->notifications),
		.continued = atomic_load(&session->continued),
		.acted = atomic_load(&session->acted),
		.failed = atomic_load(&session->failed),
		.stale = atomic_load(&session->stale),
		.slow = atomic_load(&session->slow_count),
		.asked = atomic_load(&session->asked),
	};
	return 0;
}
