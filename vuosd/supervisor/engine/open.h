/* What opening a file is made of: op_open.c, open_special.c. */
#ifndef VUOSD_ENGINE_OPEN_H
#define VUOSD_ENGINE_OPEN_H

#include "engine.h"

#define VU_OPEN_PATH_FLAGS (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

#define VU_TMPFILE_BIT (O_TMPFILE & ~O_DIRECTORY)
#define VU_OPEN_FLAGS                                                                                                  \
	(O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC | O_ASYNC |      \
	 O_DIRECT | 0100000 /* O_LARGEFILE */ | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_PATH |            \
	 VU_TMPFILE_BIT)

/*
 * The caller opens it itself where it can, which is quicker: by the object's host path, on which no link may lie. Not under
 * enforcement: a path in the caller's memory could be exchanged, and Landlock governs no such open. A verdict.
 */
int vu_open_path_only(struct vu_call *call, struct vu_place *place, int flags);
/*
 * With O_NOFOLLOW, which fcntl(2) shows and a magic link does not take: by its name, and then it must be the same object.
 * The descriptor, or -errno.
 */
int vu_open_by_name(struct vu_call *call, const struct vu_place *place, int flags);

#endif
