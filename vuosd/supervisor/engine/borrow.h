/*
 * Looking at a process of another user without CAP_SYS_PTRACE, as root in a container has to: by going by that user's ids.
 *
 * __ptrace_may_access() in kernel/ptrace.c compares the target's ids with the real ones of the thread that asks (ptrace,
 * process_vm_readv, pidfd_getfd), or with its file system ids (/proc/PID/cwd, fd, mem). Both are the thread's own to change, and
 * take no capability away that stays in its permitted set.
 *
 * A process that has just changed its ids is not dumpable, which only CAP_SYS_PTRACE overrides. So such a call is made remotely, and is
 * followed by prctl(PR_SET_DUMPABLE): vu_op_credentials().
 *
 * Compiled into the engine and into the launcher, whose keeper looks where only an ancestor may (Yama).
 */
#ifndef VUOSD_ENGINE_BORROW_H
#define VUOSD_ENGINE_BORROW_H

#include <stdbool.h>
#include <sys/types.h>

struct vu_borrowed {
	bool taken;
	int fsuid, fsgid; /* what this thread's were */
};

/*
 * This thread goes by the ids of `tid`, if those are not ours and all the same; until vu_give_back(). `proc` is a descriptor of
 * /proc. Takes CAP_SETUID and CAP_SETGID.
 */
void vu_borrow(int proc, pid_t tid, struct vu_borrowed *borrowed);
void vu_give_back(struct vu_borrowed *borrowed);

#endif
