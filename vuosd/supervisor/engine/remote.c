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
#include "tracee.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "remote.h"

#define RED_ZONE 128

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
		if (vu_tracee_copy(t, address, saved, call->scratch_len, true) < 0)
			call->flags |= VU_REMOTE_MAP;
	}
	if ((call->flags & (VU_REMOTE_AT | VU_REMOTE_MAP)) == VU_REMOTE_MAP) {
		const uint64_t args[6] = {
			0, call->scratch_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0
		};
		int64_t result;

		r = vu_tracee_complete_call(t, SYS_mmap, args, &result);
		if (r == 0)
			r = vu_tracee_again(t);
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
	*failed = vu_tracee_copy(t, address, bytes, call->scratch_len, false);
	return 0;
}

/* After a call that was not an exec, or failed. The result stands, whatever becomes of this. */
static void clean_up(struct tracee *t, struct vu_remote *call, uint8_t *saved, int64_t result)
{
	int64_t ignored;

	if (t->mapped) {
		const uint64_t args[6] = { call->scratch_at, call->scratch_len };

		if (vu_tracee_again(t) < 0 || vu_tracee_complete_call(t, SYS_munmap, args, &ignored) < 0)
			return;
	} else if (call->scratch_len && !(call->flags & VU_REMOTE_AT)) {
		vu_tracee_copy(t, call->scratch_at, saved, call->scratch_len, false);
	}
	if (call->flags & VU_REMOTE_DUMPABLE && result >= 0) {
		const uint64_t args[6] = { PR_SET_DUMPABLE, 1, 0, 0, 0, call->args[5] };

		if (vu_tracee_again(t) == 0)
			vu_tracee_complete_call(t, SYS_prctl, args, &ignored);
	}
	if (call->close_fd >= 0) {
		const uint64_t args[6] = { call->close_fd };

		if (vu_tracee_again(t) == 0)
			vu_tracee_complete_call(t, SYS_close, args, &ignored);
	}
}

/* A received descriptor has the number after that of the socket, which is closed now; the lowest is what an open gives. */
static void lower_descriptor(struct tracee *t, const struct vu_remote *call, int64_t *result)
{
	int command = call->args[2] & MSG_CMSG_CLOEXEC ? F_DUPFD_CLOEXEC : F_DUPFD;
	const uint64_t args[6] = { *result, command, 0 };
	int64_t lower, ignored;

	if (*result < 0 || vu_tracee_again(t) < 0 || vu_tracee_complete_call(t, SYS_fcntl, args, &lower) < 0 ||
	    lower < 0)
		return;
	const uint64_t higher[6] = { lower < *result ? *result : lower };
	if (lower < *result)
		*result = lower;
	if (vu_tracee_again(t) == 0)
		vu_tracee_complete_call(t, SYS_close, higher, &ignored);
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
	int r = vu_tracee_to_entry(t);

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
		r = vu_tracee_make_call(t, SYS_getpid, args, result);
		*result = failed;
	} else {
		t->breaks = call->flags & VU_REMOTE_BREAK;
		r = vu_tracee_complete_call(t, call->nr, args, result);
		t->breaks = false;
	}
	if (r == 0 && !failed && result_in_scratch(call) && *result >= 0) {
		int value = -EFAULT;

		vu_tracee_copy(t, call->scratch_at + call->scratch_len - sizeof(value), &value, sizeof(value), true);
		*result = value;
	}
	if (r == 0) {
		bool broken = call->flags & VU_REMOTE_BREAK && vu_tracee_restarts(*result);

		clean_up(t, call, saved, *result);
		if (!failed && result_in_scratch(call) && !(call->flags & VU_REMOTE_AGAIN))
			lower_descriptor(t, call, result);
		if (call->flags & VU_REMOTE_ZERO && *result >= 0)
			*result = 0;
		t->regs.rax = *result;
		if (broken) {
			/* A handler that comes now decides, SA_RESTART or not, whether the thread's own call is made anew. */
			t->regs.rax = -ERESTARTSYS;
		} else if (call->flags & VU_REMOTE_AGAIN) {
			t->regs.rip -= 2; /* as in vu_tracee_again() */
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

bool vu_remote_well_formed(const struct vu_remote *call)
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
		return vu_tracee_gone(t);
	ours = ours && ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &reply) == 0;
	if (vu_tracee_wait(t) < 0)
		return -ESRCH;
	if (ours)
		return 0;
	return ptrace(PTRACE_DETACH, t->tid, 0, 0) < 0 ? vu_tracee_gone(t) : -ESRCH;
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

	if (!vu_remote_well_formed(call))
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
	if (ptrace(PTRACE_GETSIGMASK, t.tid, sizeof(t.mask), &t.mask) < 0 || vu_tracee_mask(&t, ~UINT64_C(0)) < 0)
		r = -ESRCH;
	else
		r = guided_call(&t, call, saved, &result);
	free(saved);
	if (r != -ESRCH && vu_tracee_mask(&t, t.mask) == 0 && ptrace(PTRACE_DETACH, t.tid, 0, t.signal) == 0)
		return r < 0 ? end(call, VU_REMOTE_RESTARTED, -EAGAIN) : end(call, VU_REMOTE_DONE, result);
	return end(call, VU_REMOTE_GONE, vu_tracee_gone(&t));
}
