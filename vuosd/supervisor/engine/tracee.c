/* See tracee.h. */
#include "tracee.h"

#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ENTRY_DEADLINE_NS 2000000000L
#define BREAK_AFTER_NS 100000000L

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
int vu_tracee_wait(struct tracee *t)
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
	return vu_tracee_wait(t);
}

/* As wait_stop, but a thread that runs on in its own code (which another thread may have rewritten) is stopped: -EAGAIN. */
static int wait_entry(struct tracee *t)
{
	bool interrupted = false;
	int stop = wait_stop_for(t, ENTRY_DEADLINE_NS, &interrupted);

	return stop >= 0 && interrupted ? -EAGAIN : stop;
}

/* A ptrace request failed: the thread was killed. Takes what is left of it. */
int vu_tracee_gone(struct tracee *t)
{
	while (vu_tracee_wait(t) >= 0) {
		if (ptrace(PTRACE_DETACH, t->tid, 0, 0) == 0)
			break;
	}
	return -ESRCH;
}

int vu_tracee_mask(const struct tracee *t, uint64_t mask)
{
	return ptrace(PTRACE_SETSIGMASK, t->tid, sizeof(mask), &mask) < 0 ? -errno : 0;
}

/* Lets the thread run from its stop to the entry of a call. 0, -ESRCH, or -EAGAIN: it is stopped somewhere else. */
int vu_tracee_to_entry(struct tracee *t)
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
int vu_tracee_make_call(struct tracee *t, uint64_t nr, const uint64_t *args, int64_t *result)
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
		int stop = t->breaks ? wait_stop_for(t, BREAK_AFTER_NS, &interrupted) : vu_tracee_wait(t);
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
int vu_tracee_again(struct tracee *t)
{
	struct user_regs_struct regs = t->regs;

	regs.rip -= 2; /* the syscall instruction */
	regs.rax = t->regs.orig_rax;
	regs.orig_rax = -1;
	if (ptrace(PTRACE_SETREGS, t->tid, 0, &regs) < 0)
		return -errno;
	return vu_tracee_to_entry(t);
}

bool vu_tracee_restarts(int64_t result)
{
	return result == -ERESTARTSYS || result == -ERESTARTNOINTR || result == -ERESTARTNOHAND ||
	       result == -ERESTART_RESTARTBLOCK;
}

/* As make_call, until the call has come to an end: a group stop may break a call off half-way. */
int vu_tracee_complete_call(struct tracee *t, uint64_t nr, const uint64_t *args, int64_t *result)
{
	for (;;) {
		int r = vu_tracee_make_call(t, nr, args, result);

		if (r != 0 || !vu_tracee_restarts(*result) || t->breaks)
			return r;
		r = vu_tracee_again(t);
		if (r < 0)
			return r;
	}
}

int vu_tracee_copy(const struct tracee *t, uint64_t address, void *bytes, size_t length, bool in)
{
	struct iovec local = { bytes, length }, remote = { (void *)address, length };
	ssize_t n = in ? process_vm_readv(t->tid, &local, 1, &remote, 1, 0)
		       : process_vm_writev(t->tid, &local, 1, &remote, 1, 0);

	if (n < 0)
		return -errno;
	return (size_t)n == length ? 0 : -EFAULT;
}
