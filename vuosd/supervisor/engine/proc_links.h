/* The text of a procfs link as the caller is to see it. */
#ifndef VUOSD_ENGINE_PROC_LINKS_H
#define VUOSD_ENGINE_PROC_LINKS_H

#include "engine.h"

/* Its length; 0 when the link's own text is right for the caller; -errno. */
int vu_proc_link(struct vu_call *call, const struct vu_place *place, char *out, size_t room);

#endif
