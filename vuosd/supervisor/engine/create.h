/* What every call that makes a name needs. */
#ifndef VUOSD_ENGINE_CREATE_H
#define VUOSD_ENGINE_CREATE_H

#include "engine.h"

/* The permission bits of a new object: without the caller's umask, unless the directory's default ACL replaces it. */
mode_t vu_create_mode(struct vu_call *call, int parent, mode_t mode);

#endif
