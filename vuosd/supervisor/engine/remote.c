/*
 * The remote call: lead a thread from its notification to a system call of our choice, and back.
 *
 *	waits in its notification
 *	  │ SEIZE, INTERRUPT, reply -ERESTARTNOINTR	nothing of its state is ours to repair: the kernel itself rewinds the call
 *	trap stop (PTRACE_EVENT_STOP)			block signals
 *	  │ SYSCALL
 *	entry stop of its own call, again		registers of the wanted call, with the cookie: put in place after user code
 *	  │ SYSCALL					has run, taken away before it runs again, so it never sees them
 *	exit stop (or PTRACE_EVENT_EXEC)		its registers, the result in rax; signal mask
 *	  │ DETACH
 *	runs
 *
 * If the tracer dies before the registers change, the thread makes its call again and the next supervisor answers it.
 * Why the trap stop comes before any signal: get_signal() in kernel/signal.c looks at JOBCTL_TRAP_STOP first. Why a seccomp
 * reply may be -ERESTARTNOINTR: it becomes the return value as it is, and INTERRUPT has set TIF_SIGPENDING, so
 * arch_do_signal_or_restart() in arch/x86/kernel/signal.c sees it on the way out.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "remote.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516

#define RED_ZONE 128
#define ENTRY_DEADLINE_NS 2000000000L
#define BREAK_AFTER_NS 100000000L

enum { SYSCALL_STOP = SIGTRAP | 0x80, EXEC_STOP = SIGTRAP | PTRACE_EVENT_EXEC << 8 };

struct tracee {
	pid_t tid;
	pid_t leader; /* a thread that succeeds in exec reports that under this id (ptrace(2), "execve(2) under ptrace") */
	int signal; /* with which to let it go: forced by a fault of its own code */
	bool mapped;
	bool breaks; /* VU_REMOTE_BREAK, while the call itself is made */
	uint64_t mask;
	struct user_regs_struct regs; /* as it made its call: rip is after the instruction, orig_rax the call */
};

static void pause_ns(long ns)
{
	nanosleep(&(struct timespec){ .tv_nsec = ns }, NULL);
}

/* A look at one thread. __WNOTHREAD: a tracee of another thread of ours is not our business, even under the same id. */
static long look(pid_t tid, int *status)
{
	pid_t pid = waitpid(tid, status, __WALL | __WNOTHREAD | WNOHANG);

	return pid < 0 ? -errno : pid;
}

/*
 * The next stop of the tracee as "signal | event << 8"; 0: none yet; -ESRCH: it is dead, reaped if that was ours to do.
 * A thread that is not its group's leader and succeeds in exec is gone under its own id and stops under the leader's.
 */
static int look_at(struct tracee *t)
{
	int status = 0;
	long pid = look(t->tid, &status);

	if (pid <= 0 && t->leader && t->leader != t->tid) {
		long leader = look(t->leader, &status);

		if (leader > 0)
			t->tid = t->leader;
		pid = leader >= 0 ? leader : pid;
	}
	if (pid == 0)
		return 0;
	return pid < 0 || !WIFSTOPPED(status) ? -ESRCH : status >> 8;
}

/*
 * Waits for the next stop. Sleeps on any tracee of this thread and takes only its own: a sleep on one id is not woken when
 * another thread of the target succeeds in exec and takes that id over (de_thread() in fs/exec.c wakes after the exchange,
 * pid_child_should_wake() in kernel/exit.c compares the new ids).
 */
static int wait_stop(struct tracee *t)
{
	long ns = 20000;

	for (;;) {
		int stop = look_at(t);
		siginfo_t info = { 0 };

		if (stop)
			return stop;
		waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOWAIT | __WALL | __WNOTHREAD);
		if (info.si_pid && info.si_pid != t->tid && info.si_pid != t->leader) {
			/* A child of the calling thread, for somebody else to take: it hides ours. */
			pause_ns(ns);
			ns = ns < 1000000 ? ns * 2 : ns;
		}
	}
}

/* As wait_stop, but after `limit` the thread is interrupted, and its next stop waited for. */
static int wait_stop_for(struct tracee *t, long limit, bool *interrupted)
{
	struct timespec start, now;
	int stop;

	for (int i = 0; i < 64; i++) {
		stop = look_at(t);
		if (stop)
			return stop;
		sched_yield();
	}
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		pause_ns(20000);
		stop = look_at(t);
		if (stop)
			return stop;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec < limit);
	if (ptrace(PTRACE_INTERRUPT, t->tid, 0, 0) < 0)
		return -ESRCH;
	*interrupted = true;
	return wait_stop(t);
}

/* As wait_stop, but a thread that runs on in its own code (which another thread may have rewritten) is stopped: -EAGAIN. */
static int wait_entry(struct tracee *t)
{
	bool interrupted = false;
	int stop = wait_stop_for(t, ENTRY_DEADLINE_NS, &interrupted);

	return stop >= 0 && interrupted ? -EAGAIN : stop;
}

/* A ptrace request failed: the thread was killed. Takes what is left of it. */
static int gone(struct tracee *t)
{
	while (wait_stop(t) >= 0) {
		if (ptrace(PTRACE_DETACH, t->tid, 0, 0) == 0)
			break;
	}
	return -ESRCH;
}

static int set_mask(const struct tracee *t, uint64_t mask)
{
	return ptrace(PTRACE_SETSIGMASK, t->tid, sizeof(mask), &mask) < 0 ? -errno : 0;
}

/* Lets the thread run from its stop to the entry of a call. 0, -ESRCH, or -EAGAIN: it is stopped somewhere else. */
static int to_entry(struct tracee *t)
{
	long signal = 0;

	for (;;) {
		if (ptrace(PTRACE_SYSCALL, t->tid, 0, signal) < 0)
			return -errno;
		int stop = wait_entry(t);
		if (stop < 0)
			return stop;
		if (stop == SYSCALL_STOP)
			return 0;
		/* SIGSTOP cannot be held back: let it stop the job, this thread goes on until its call is over. */
		signal = stop == SIGSTOP ? SIGSTOP : 0;
		if (stop >> 8 == 0 && signal == 0) {
			t->signal = stop;
			return -EAGAIN;
		}
	}
}

/* From the entry of a call, makes `nr` instead; the thread is at its exit then. The result is in *result. */
static int make_call(struct tracee *t, uint64_t nr, const uint64_t *args, int64_t *result)
{
	struct user_regs_struct regs = t->regs;
	bool interrupted = false;

	regs.orig_rax = nr;
	regs.rdi = args[0];
	regs.rsi = args[1];
	regs.rdx = args[2];
	regs.r10 = args[3];
	regs.r8 = args[4];
	regs.r9 = args[5];
	if (ptrace(PTRACE_SETREGS, t->tid, 0, &regs) < 0)
		return -errno;
	for (long signal = 0;;) {
		if (ptrace(PTRACE_SYSCALL, t->tid, 0, signal) < 0)
			return -errno;
		int stop = t->breaks ? wait_stop_for(t, BREAK_AFTER_NS, &interrupted) : wait_stop(t);
		if (stop < 0)
			return stop;
		if (stop == EXEC_STOP) {
			*result = 0;
			return EXEC_STOP;
		}
		if (stop == SYSCALL_STOP)
			break;
		signal = stop >> 8 == 0 ? stop : 0;
	}
	errno = 0;
	*result = ptrace(PTRACE_PEEKUSER, t->tid, offsetof(struct user_regs_struct, rax), 0);
	return errno ? -errno : 0;
}

/* From the exit of a call, back to the entry of another. */
static int again(struct tracee *t)
{
	struct user_regs_struct regs = t->regs;

	regs.rip -= 2; /* the syscall instruction */
	regs.rax = t->regs.orig_rax;
	regs.orig_rax = -1;
	if (ptrace(PTRACE_SETREGS, t->tid, 0, &regs) < 0)
		return -errno;
	return to_entry(t);
}

static bool restarts(int64_t result)
{
	return result == -ERESTARTSYS || result == -ERESTARTNOINTR || result == -ERESTARTNOHAND ||
	       result == -ERESTART_RESTARTBLOCK;
}

/* As make_call, until the call has come to an end: a group stop may break a call off half-way. */
static int complete_call(struct tracee *t, uint64_t nr, const uint64_t *args, int64_t *result)
{
	for (;;) {
		int r = make_call(t, nr, args, result);

		if (r != 0 || !restarts(*result) || t->breaks)
			return r;
		r = again(t);
		if (r < 0)
			return r;
	}
}

static int copy_memory(const struct tracee *t, uint64_t address, void *bytes, size_t length, bool in)
{
	struct iovec local = { bytes, length }, remote = { (void *)address, length };
	ssize_t n = in ? process_vm_readv(t->tid, &local, 1, &remote, 1, 0)
		       : process_vm_writev(t->tid, &local, 1, &remote, 1, 0);

	if (n < 0)
		return -errno;
	return (size_t)n == length ? 0 : -EFAULT;
}

/*
 * Finds room for the scratch and puts it there, relocated. The thread is at the entry of a call, and is so again afterwards.
 * *failed: no room; that is the call's result then.
 */
static int place_scratch(struct tracee *t, struct vu_remote *call, uint8_t *saved, int64_t *failed)
{
	uint64_t address = call->scratch_at;
	uint8_t *bytes = saved;
	int r;

	if (!(call->flags & (VU_REMOTE_AT | VU_REMOTE_MAP))) {
		address = (t->regs.rsp - RED_ZONE - call->scratch_len) & ~UINT64_C(15);
		/* The stack may end there: it grows by the thread's own accesses only. */
		if (copy_memory(t, address, saved, call->scratch_len, true) < 0)
			call->flags |= VU_REMOTE_MAP;
	}
	if ((call->flags & (VU_REMOTE_AT | VU_REMOTE_MAP)) == VU_REMOTE_MAP) {
		const uint64_t args[6] = {
			0, call->scratch_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
		};
		int64_t result;

		r = complete_call(t, SYS_mmap, args, &result);
		if (r == 0)
			r = again(t);
		if (r < 0)
			return r;
		if (result < 0 && result > -4096) {
			*failed = result;
			return 0;
		}
		t->mapped = true;
		address = result;
	}
	call->scratch_at = address;
	bytes = saved + call->scratch_len;
	memcpy(bytes, call->scratch, call->scratch_len);
	for (uint32_t i = 0; i < call->pointer_count; i++) {
		uint64_t value;

		memcpy(&value, bytes + call->pointers[i], sizeof(value));
		value += address;
		memcpy(bytes + call->pointers[i], &value, sizeof(value));
	}
	*failed = copy_memory(t, address, bytes, call->scratch_len, false);
	return 0;
}

/* After a call that was not an exec, or failed. The result stands, whatever becomes of this. */
static void clean_up(struct tracee *t, struct vu_remote *call, uint8_t *saved)
{
	int64_t ignored;

	if (t->mapped) {
		const uint64_t args[6] = { call->scratch_at, call->scratch_len };

		if (again(t) < 0 || complete_call(t, SYS_munmap, args, &ignored) < 0)
			return;
	} else if (call->scratch_len && !(call->flags & VU_REMOTE_AT)) {
		copy_memory(t, call->scratch_at, saved, call->scratch_len, false);
	}
	if (call->close_fd >= 0) {
		const uint64_t args[6] = { call->close_fd };

		if (again(t) == 0)
			complete_call(t, SYS_close, args, &ignored);
	}
}

/* A received descriptor has the number after that of the socket, which is closed now; the lowest is what an open gives. */
static void lower_descriptor(struct tracee *t, const struct vu_remote *call, int64_t *result)
{
	int command = call->args[2] & MSG_CMSG_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD;
	const uint64_t args[6] = { *result, command, 0 };
	int64_t lower, ignored;

	if (*result < 0 || again(t) < 0 || complete_call(t, SYS_fcntl, args, &lower) < 0 || lower < 0)
		return;
	const uint64_t higher[6] = { lower < *result ? *result : lower };
	if (lower < *result)
		*result = lower;
	if (again(t) == 0)
		complete_call(t, SYS_close, higher, &ignored);
}

static bool result_in_scratch(const struct vu_remote *call)
{
	return call->flags & VU_REMOTE_INT && call->scratch_len >= sizeof(int);
}

/* The thread is in its trap stop, signals are held back: makes the call. What make_call returns, or -errno. */
static int guided_call(struct tracee *t, struct vu_remote *call, uint8_t *saved, int64_t *result)
{
	uint64_t args[6];
	int64_t failed = 0;
	int r = to_entry(t);

	if (r < 0)
		return r;
	if (ptrace(PTRACE_GETREGS, t->tid, 0, &t->regs) < 0)
		return -errno;
	if (call->scratch_len) {
		r = place_scratch(t, call, saved, &failed);
		if (r < 0)
			return r;
	}
	memcpy(args, call->args, sizeof(args));
	for (int i = 0; i < 6; i++)
		args[i] += call->scratch_args >> i & 1 ? call->scratch_at : 0;
	if (failed) {
		/* From here the way out is by the exit of a call. */
		r = make_call(t, SYS_getpid, args, result);
		*result = failed;
	} else {
		t->breaks = call->flags & VU_REMOTE_BREAK;
		r = complete_call(t, call->nr, args, result);
		t->breaks = false;
	}
	if (r == 0 && !failed && result_in_scratch(call) && *result >= 0) {
		int value = -EFAULT;

		copy_memory(t, call->scratch_at + call->scratch_len - sizeof(value), &value, sizeof(value), true);
		*result = value;
	}
	if (r == 0) {
		bool broken = call->flags & VU_REMOTE_BREAK && restarts(*result);

		clean_up(t, call, saved);
		if (!failed && result_in_scratch(call) && !(call->flags & VU_REMOTE_AGAIN))
			lower_descriptor(t, call, result);
		t->regs.rax = *result;
		if (broken) {
			/* A handler that comes now decides, SA_RESTART or not, whether the thread's own call is made anew. */
			t->regs.rax = -ERESTARTSYS;
		} else if (call->flags & VU_REMOTE_AGAIN) {
			t->regs.rip -= 2; /* as in again() */
			t->regs.rax = t->regs.orig_rax;
			t->regs.orig_rax = -1;
		}
		if (ptrace(PTRACE_SETREGS, t->tid, 0, &t->regs) < 0)
			return -errno;
		/* The interrupt sets TIF_SIGPENDING: without it nobody looks at -ERESTARTSYS on the way out. */
		if (broken)
			return ptrace(PTRACE_INTERRUPT, t->tid, 0, 0) < 0 ? -errno : -EAGAIN;
	}
	return r;
}

static pid_t group_of(pid_t tid)
{
	char path[32], text[512];
	pid_t tgid = tid;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	FILE *file = fopen(path, "re");
	while (file && fgets(text, sizeof(text), file)) {
		if (sscanf(text, "Tgid: %d", &tgid) == 1)
			break;
	}
	if (file)
		fclose(file);
	return tgid;
}

static bool well_formed(const struct vu_remote *call)
{
	for (uint32_t i = 0; i < call->pointer_count; i++) {
		if (call->scratch_len < 8 || call->pointers[i] > call->scratch_len - 8)
			return false;
	}
	return call->scratch_len <= INT_MAX / 4;
}

/* Seized: brings the thread from its notification into the trap stop. 0, or -ESRCH and it is let go. */
static int take_from_notification(struct tracee *t, int listener, uint64_t id)
{
	struct seccomp_notif_resp reply = { .id = id, .error = -ERESTARTNOINTR };
	/* If the id is valid now, then the thread that we seized is the one it belongs to, not a later user of its number. */
	bool ours = ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;

	if (ptrace(PTRACE_INTERRUPT, t->tid, 0, 0) < 0)
		return gone(t);
	ours = ours && ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &reply) == 0;
	if (wait_stop(t) < 0)
		return -ESRCH;
	if (ours)
		return 0;
	return ptrace(PTRACE_DETACH, t->tid, 0, 0) < 0 ? gone(t) : -ESRCH;
}

static int64_t end(struct vu_remote *call, enum vu_remote_outcome outcome, int64_t result)
{
	call->outcome = outcome;
	return result;
}

int64_t vu_remote_call(int listener, uint64_t id, struct vu_remote *call)
{
	bool exec = call->flags & VU_REMOTE_EXEC;
	struct tracee t = { .tid = call->tid, .leader = call->tgid };
	uint8_t *saved = NULL;
	int64_t result = 0;

	if (!well_formed(call))
		return end(call, VU_REMOTE_UNTOUCHED, -EINVAL);
	if (exec && !t.leader)
		t.leader = group_of(t.tid);
	if (call->scratch_len && !(saved = malloc(2 * (size_t)call->scratch_len)))
		return end(call, VU_REMOTE_UNTOUCHED, -ENOMEM);
	if (ptrace(PTRACE_SEIZE, t.tid, 0, PTRACE_O_TRACESYSGOOD | (exec ? PTRACE_O_TRACEEXEC : 0)) < 0) {
		result = -errno;
		free(saved);
		/* EPERM is also what a dying thread gives. */
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) < 0)
			result = -ESRCH;
		return end(call, result == -ESRCH ? VU_REMOTE_GONE : VU_REMOTE_UNTOUCHED, result);
	}
	int r = take_from_notification(&t, listener, id);
	if (r < 0) {
		free(saved);
		return end(call, VU_REMOTE_GONE, r);
	}
	if (ptrace(PTRACE_GETSIGMASK, t.tid, sizeof(t.mask), &t.mask) < 0 || set_mask(&t, ~UINT64_C(0)) < 0)
		r = -ESRCH;
	else
		r = guided_call(&t, call, saved, &result);
	free(saved);
	if (r != -ESRCH && set_mask(&t, t.mask) == 0 && ptrace(PTRACE_DETACH, t.tid, 0, t.signal) == 0)
		return r < 0 ? end(call, VU_REMOTE_RESTARTED, -EAGAIN) : end(call, VU_REMOTE_DONE, result);
	return end(call, VU_REMOTE_GONE, gone(&t));
}
static int put_in_memfd(const void *pointers, size_t pointers_size, const void *scratch, size_t scratch_len)
{
	struct iovec parts[2] = { { (void *)pointers, pointers_size }, { (void *)scratch, scratch_len } };
	int fd = memfd_create("vuosd-remote", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (pwritev(fd, parts, 2, 0) != (ssize_t)(pointers_size + scratch_len)) {
		close(fd);
		return -EIO;
	}
	return fd;
}

int64_t vu_remote_ask(int broker, uint64_t id, struct vu_remote *call)
{
	struct vu_remote_request request = {
		.id = id,
		.tid = call->tid,
		.tgid = call->tgid,
		.nr = call->nr,
		.flags = call->flags,
		.close_fd = call->close_fd,
		.scratch_args = call->scratch_args,
		.scratch_len = call->scratch_len,
		.pointer_count = call->pointer_count,
		.scratch_at = call->scratch_at,
	};
	struct vu_header header = { "VUOS", VU_PROTOCOL, VU_MESSAGE_REMOTE, sizeof(request) };
	size_t pointers_size = (size_t)call->pointer_count * sizeof(uint32_t);
	struct vu_remote_reply reply;
	struct iovec parts[4] = {
		{ &header, sizeof(header) },
		{ &request, sizeof(request) },
		{ (void *)call->pointers, pointers_size },
		{ (void *)call->scratch, call->scratch_len },
	};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 4 };
	struct msghdr answer = { .msg_iov = (struct iovec[]){ { &header, sizeof(header) }, { &reply, sizeof(reply) } },
				 .msg_iovlen = 2 };
	int fd = -1;
	ssize_t n;

	call->outcome = VU_REMOTE_UNTOUCHED;
	memcpy(request.args, call->args, sizeof(request.args));
	if (!well_formed(call))
		return -EINVAL;
	if (pointers_size + call->scratch_len > VU_REMOTE_INLINE) {
		fd = put_in_memfd(call->pointers, pointers_size, call->scratch, call->scratch_len);
		if (fd < 0)
			return fd;
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		message.msg_iovlen = 2;
	} else {
		header.length += pointers_size + call->scratch_len;
	}
	do
		n = sendmsg(broker, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	int error = n < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	if (error)
		return error;
	do
		n = recvmsg(broker, &answer, 0);
	while (n < 0 && errno == EINTR);
	/* The keeper died: so will its tree. */
	if (n != sizeof(header) + sizeof(reply) || header.type != VU_MESSAGE_REMOTE)
		return end(call, VU_REMOTE_GONE, -ESRCH);
	call->scratch_at = reply.scratch_at;
	return end(call, reply.outcome, reply.result);
}
