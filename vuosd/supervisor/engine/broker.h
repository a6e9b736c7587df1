/* What the launcher does for us where only an ancestor of the target may (Yama ptrace_scope 1). */
#ifndef VUOSD_ENGINE_BROKER_H
#define VUOSD_ENGINE_BROKER_H

#include "engine.h"

/* An O_RDWR descriptor of /proc/TID/mem. */
int vu_broker_memory(struct vu_session *session, pid_t tid);

#endif
