/* Calls that the caller must make itself: the small forms of remote.h that operations need. */
#ifndef VUOSD_ENGINE_REMOTE_CALL_H
#define VUOSD_ENGINE_REMOTE_CALL_H

#include <sys/syscall.h>

#include "engine.h"
#include "remote.h"

/*
 * Make `request` in the caller, by ptrace or by the launcher. What an operation returns: VU_SENT when the caller has
 * got its result, or -errno when it still waits for one.
 */
int vu_remote(struct vu_call *call, struct vu_remote *request);
/* The same; *result is what the call gave, or -errno of a failure before it was made. */
int vu_remote_result(struct vu_call *call, struct vu_remote *request, int64_t *result);
/*
 * Give the caller `fd`, also an O_PATH descriptor (which ADDFD refuses): it receives it from a socket of ours. Nothing of
 * what is handed over depends on its memory, which other threads may change meanwhile. *result is its number there; with
 * VU_REMOTE_AGAIN in `flags` that is for us, else for the caller.
 */
int vu_hand_over(struct vu_call *call, int fd, bool cloexec, unsigned flags, int64_t *result);
/* A directory that reads (not O_PATH): the parent of the place. Descriptor or -errno. */
int vu_open_parent(struct vu_call *call, const struct vu_place *place);

/*
 * slow.c: a call that may wait for ever, on a thread of its own, with a duplicate of `fd`. `work` says what an operation
 * says; -EINTR when it was interrupted: because the caller has died, or has a signal to handle (then that is its answer).
 * `drop` takes back `data` in any case.
 */
typedef int vu_slow_work(struct vu_call *call, int fd, void *data);
int vu_slow_run(struct vu_call *call, int fd, vu_slow_work *work, void *data, void (*drop)(void *data));
/* open a FIFO, which may wait for ever, on a thread of its own; cancelled when the caller dies. */
int vu_slow_open(struct vu_call *call, int fd, int flags);

#endif
