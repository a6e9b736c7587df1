/* The files of procfs that list mounts, as the caller is to see them. */
#ifndef VUOSD_ENGINE_PROC_FILES_H
#define VUOSD_ENGINE_PROC_FILES_H

#include "engine.h"

/* A readable descriptor of the view's version of the file at `place`; -ENOSYS: it is none of these, open it as it is. */
int vu_proc_file(struct vu_call *call, const struct vu_place *place);

#endif
