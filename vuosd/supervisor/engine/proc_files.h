/* The files of procfs that tell paths, as the caller is to see them. */
#ifndef VUOSD_ENGINE_PROC_FILES_H
#define VUOSD_ENGINE_PROC_FILES_H

#include "engine.h"

#include <stdio.h>

enum vu_proc_format { VU_PROC_MOUNTINFO, VU_PROC_MOUNTS, VU_PROC_MOUNTSTATS, VU_PROC_MAPS };

/* A readable descriptor of the view's version of the file at `place`; -ENOSYS: it is none of these, open it as it is. */
int vu_proc_file(struct vu_call *call, const struct vu_place *place);

/* The whole of a file of procfs, with a closing NUL; to be freed. */
int vu_proc_read(int fd, char **out);
int vu_proc_print_mounts(struct vu_call *call, FILE *file, enum vu_proc_format format, int source);
int vu_proc_print_maps(struct vu_call *call, FILE *file, int source);

#endif
