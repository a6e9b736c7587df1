/*
 * A descriptor for the caller (SECCOMP_IOCTL_NOTIF_ADDFD, kernel/seccomp.c: seccomp_notify_addfd).
 *
 * The kernel wakes the caller to install it, and lets us sleep until it has. A reply wakes it on our processor
 * (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP), this does not: where another processor is idle, the caller wakes there, and then
 * wakes us on ours, which has gone idle meanwhile. To wake an idle processor of a virtual machine takes 20 us and more, so
 * the two take 50 us instead of 5. When one took that long, the next ones are made while both threads may run on this
 * processor alone; the caller, which sleeps, is given its own processors back before a reply lets it go.
 *
 * With SECCOMP_ADDFD_FLAG_SEND it is the answer as well, which spares the caller two changes of context (4 of 17 us). But then
 * the notification counts as answered while we sleep, and what wakes us too early has the kernel take the descriptor back
 * and the caller go on with 0. Threads of the engine block all signals. What stops a whole process cannot be blocked
 * (docs/fidelity.md).
 */
#include "engine.h"

#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>

/* In nanoseconds, what an idle processor costs: two changes of context take less, who waits for a busy one takes more. */
#define IDLE_FROM 15000
#define IDLE_TO 300000
#define NEAR 64 /* as many are made near by until the other way is tried again */

/* The processors of the two threads. */
struct stay {
	long size;
	cpu_set_t own, caller;
};

void vu_undisturbed(sigset_t *before)
{
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, before);
}

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int add(const struct vu_call *call, int fd, bool cloexec, unsigned flags)
{
	struct seccomp_notif_addfd request = {
		.id = call->id, .flags = flags, .srcfd = (unsigned)fd, .newfd_flags = cloexec ? O_CLOEXEC : 0
	};
	return vu_result(ioctl(call->listener->fd, SECCOMP_IOCTL_NOTIF_ADDFD, &request));
}

static int add_watched(struct vu_call *call, int fd, bool cloexec, unsigned flags)
{
	int64_t begin = now();
	int there = add(call, fd, cloexec, flags);
	int64_t taken = now() - begin;
	if (taken > IDLE_FROM && taken < IDLE_TO)
		call->work->near = NEAR;
	return there;
}

/* False: it may not run here, or it is another user's, whose processors are not ours to choose (sched_setaffinity(2)). */
static bool stay_here(const struct vu_call *call, struct stay *stay)
{
	cpu_set_t here;
	int processor = sched_getcpu();
	stay->size = syscall(SYS_sched_getaffinity, 0, sizeof stay->own, &stay->own);
	if (processor < 0 || processor >= CPU_SETSIZE || stay->size <= 0 ||
	    syscall(SYS_sched_getaffinity, call->tid, sizeof stay->caller, &stay->caller) != stay->size ||
	    !CPU_ISSET((size_t)processor, &stay->caller))
		return false;
	CPU_ZERO(&here);
	CPU_SET((size_t)processor, &here);
	if (syscall(SYS_sched_setaffinity, call->tid, sizeof here, &here) < 0)
		return false;
	syscall(SYS_sched_setaffinity, 0, sizeof here, &here);
	return true;
}

/* Who may run on all processors is given those of later as well: what it has is its cpuset's to say. */
static void leave(const struct vu_call *call, struct stay *stay)
{
	bool all = !memcmp(&call->session->processors, &stay->caller, (size_t)stay->size);
	syscall(SYS_sched_setaffinity, 0, stay->size, &stay->own);
	if (all)
		memset(&stay->caller, 0xff, sizeof stay->caller);
	syscall(SYS_sched_setaffinity, call->tid, all ? sizeof stay->caller : (size_t)stay->size, &stay->caller);
}

void vu_inject_init(struct vu_session *session)
{
	cpu_set_t own, all;
	memset(&all, 0xff, sizeof all);
	long size = syscall(SYS_sched_getaffinity, 0, sizeof own, &own);
	if (size <= 0 || syscall(SYS_sched_setaffinity, 0, sizeof all, &all) < 0)
		return;
	syscall(SYS_sched_getaffinity, 0, sizeof session->processors, &session->processors);
	if (memcmp(&own, &session->processors, (size_t)size))
		syscall(SYS_sched_setaffinity, 0, size, &own);
}

int vu_inject(struct vu_call *call, int fd, bool cloexec)
{
	struct stay stay;
	if (!call->work)
		return add(call, fd, cloexec, 0);
	if (!call->work->near)
		return add_watched(call, fd, cloexec, 0);
	bool stays = stay_here(call, &stay);
	int there = add(call, fd, cloexec, 0);
	if (stays)
		leave(call, &stay);
	call->work->near = stays ? call->work->near - 1 : 0;
	return there;
}

int vu_inject_result(struct vu_call *call, int fd, bool cloexec)
{
	int there;
	if (call->work && call->work->near) { /* in two steps: it may not go on before it may run everywhere */
		there = vu_inject(call, fd, cloexec);
		return there < 0 ? there : vu_answer(call, there);
	}
	there = call->work ? add_watched(call, fd, cloexec, SECCOMP_ADDFD_FLAG_SEND)
			   : add(call, fd, cloexec, SECCOMP_ADDFD_FLAG_SEND);
	return there < 0 ? there : VU_SENT;
}
