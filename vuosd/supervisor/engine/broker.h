/* What the launcher does for us where only an ancestor of the target may (Yama ptrace_scope 1). */
#ifndef VUOSD_ENGINE_BROKER_H
#define VUOSD_ENGINE_BROKER_H

#include "engine.h"

/* An O_RDWR descriptor of /proc/TID/mem. */
int vu_broker_memory(struct vu_listener *listener, pid_t tid);

/* memory.c: up to `size` bytes, as process_vm_readv(2) or process_vm_writev(2) would. */
ssize_t vu_memory_transfer(struct vu_call *call, uint64_t address, void *data, size_t size, bool out);
/* The caller is about to execute a program. */
void vu_memory_execve(struct vu_call *call);
/* Closes what has been kept long enough, or all of it. */
void vu_memory_sweep(struct vu_session *session, bool all);

#endif
