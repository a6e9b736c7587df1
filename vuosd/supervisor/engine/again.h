/* What a thread needs to find when it has been sent back to make its call anew (VU_REMOTE_AGAIN). */
#ifndef VUOSD_ENGINE_AGAIN_H
#define VUOSD_ENGINE_AGAIN_H

#include "remote_call.h"

/*
 * A duplicate of the caller's descriptor, as vu_target_descriptor gives it, also where the machine refuses
 * pidfd_getfd(2): Docker's default profile, and Yama, where only an ancestor may. *verdict >= 0 instead of a descriptor
 * (the result is -EAGAIN then): the thread has gone back and will call again; the operation returns the verdict.
 */
int vu_again_descriptor(struct vu_call *call, int fd, int *verdict);
/*
 * The number of an O_PATH descriptor in the caller that is `object` (our O_PATH descriptor of something whose path is
 * `host`; NULL where the caller cannot follow it; not used under enforcement). Same convention.
 */
int vu_again_handle(struct vu_call *call, int object, const char *host, int *verdict);

#endif
