/*
 * The memory of a target that only its ancestors may look into (Yama, ptrace_scope 1): the launcher opens /proc/TID/mem
 * for us. Asking it costs several times what the rest of a call does, so what it opened is kept for a moment.
 *
 * A kept descriptor is of one address space, a thread's number is not. It stays right because
 *  - with execve(2) the number gets another address space. Such a call drops what is kept of its thread, and its own reads
 *    are never kept. If one thread of several executes, it takes over the number of its process's first thread, which may
 *    make a call at the same moment: then nothing is kept for a while, and what was is not used any more.
 *  - when a process ends, its number may come to mean another. Of an address space that nobody uses the kernel reads
 *    nothing (mem_rw, fs/proc/base.c), and we open anew; where a thread has ended and its process lives on, the kernel
 *    would have to go through all numbers (alloc_pid, kernel/pid.c) in KEEP_NS.
 * Not used where we may look ourselves: such a descriptor reads what is protected from reading, and hardly gains anything.
 */
#include "broker.h"

#include <sys/syscall.h>
#include <time.h>

#define KEEP_NS INT64_C(20000000)
#define EXECUTES_NS INT64_C(1000000000) /* for a thread that is not its process's first: until its execve(2) is over */

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
	return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static bool take(struct vu_kept *kept)
{
	return !atomic_flag_test_and_set_explicit(&kept->taken, memory_order_acquire);
}

static void release(struct vu_kept *kept)
{
	atomic_flag_clear_explicit(&kept->taken, memory_order_release);
}

static ssize_t transfer(int memory, uint64_t address, void *data, size_t size, bool out)
{
	ssize_t n = out ? pwrite(memory, data, size, (off_t)address) : pread(memory, data, size, (off_t)address);
	return n < 0 ? (errno == EIO ? -EFAULT : -errno) : n;
}

static ssize_t transfer_once(struct vu_call *call, uint64_t address, void *data, size_t size, bool out)
{
	VU_CLOSE int memory = vu_broker_memory(call->listener, call->tid);
	return memory < 0 ? memory : transfer(memory, address, data, size, out);
}

static ssize_t transfer_kept(struct vu_call *call, struct vu_kept *kept, uint64_t address, void *data, size_t size,
			     bool out)
{
	int64_t time = now();
	if (kept->fd >= 0 && kept->tid == call->tid && time - kept->since < KEEP_NS &&
	    kept->since > atomic_load(&call->session->nothing_kept)) {
		ssize_t n = transfer(kept->fd, address, data, size, out);
		if (n)
			return n;
	}
	vu_close(&kept->fd);
	kept->fd = vu_broker_memory(call->listener, call->tid);
	kept->tid = call->tid;
	kept->since = time;
	return kept->fd < 0 ? kept->fd : transfer(kept->fd, address, data, size, out);
}

static struct vu_kept *slot(struct vu_call *call)
{
	return &call->session->kept[(unsigned)call->tid % VU_KEPT];
}

ssize_t vu_memory_transfer(struct vu_call *call, uint64_t address, void *data, size_t size, bool out)
{
	struct vu_kept *kept = slot(call);
	if (call->row->op == VU_OP_EXECVE || !take(kept))
		return transfer_once(call, address, data, size, out);
	ssize_t n = transfer_kept(call, kept, address, data, size, out);
	release(kept);
	return n;
}

static bool forget(struct vu_kept *kept)
{
	if (!take(kept))
		return false;
	vu_close(&kept->fd);
	release(kept);
	return true;
}

void vu_memory_execve(struct vu_call *call)
{
	bool first = !syscall(SYS_tgkill, call->tid, call->tid, 0);
	int64_t until = now() + (first ? 0 : EXECUTES_NS), old = atomic_load(&call->session->nothing_kept);
	if (first && forget(slot(call)))
		return;
	while (old < until && !atomic_compare_exchange_weak(&call->session->nothing_kept, &old, until))
		;
}

void vu_memory_sweep(struct vu_session *session, bool all)
{
	for (struct vu_kept *kept = session->kept; kept < session->kept + VU_KEPT; kept++)
		if (take(kept)) {
			if (all || now() - kept->since >= KEEP_NS)
				vu_close(&kept->fd);
			release(kept);
		}
}
