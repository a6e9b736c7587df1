/* A thread that we trace: its stops, and calls made in it from the entry or the exit of another. For remote.c. */
#ifndef VUOSD_ENGINE_TRACEE_H
#define VUOSD_ENGINE_TRACEE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>

#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516

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

/* All return -ESRCH when the thread has died. */
/* The next stop, as "signal | event << 8". */
int vu_tracee_wait(struct tracee *t);
/* A ptrace request failed: the thread was killed. Takes what is left of it. */
int vu_tracee_gone(struct tracee *t);
int vu_tracee_mask(const struct tracee *t, uint64_t mask);
/* From a stop to the entry of a call. 0, or -EAGAIN: it is stopped somewhere else. */
int vu_tracee_to_entry(struct tracee *t);
/* From the entry of a call, makes `nr` instead: 0, at its exit, or EXEC_STOP. */
int vu_tracee_make_call(struct tracee *t, uint64_t nr, const uint64_t *args, int64_t *result);
/* The same, until the call has come to an end. */
int vu_tracee_complete_call(struct tracee *t, uint64_t nr, const uint64_t *args, int64_t *result);
/* From the exit of a call, back to the entry of another. */
int vu_tracee_again(struct tracee *t);
/* Is this result the kernel's own word for "to be made again"? */
bool vu_tracee_restarts(int64_t result);
int vu_tracee_copy(const struct tracee *t, uint64_t address, void *bytes, size_t length, bool in);

#endif
