/* The place of an attribute call's path, and the order of its checks: for op_attributes.c and op_xattr.c. */
#ifndef VUOSD_ENGINE_ATTRIBUTES_H
#define VUOSD_ENGINE_ATTRIBUTES_H

#include "engine.h"

/* vu_find: go on with place->fd. Anything else is what the operation returns. */
enum { VU_FOUND = 3 };

/* The AT_* flags of the call, with those its name implies. */
unsigned vu_at_flags(const struct vu_call *call);
/*
 * The place of the call's path argument, for a call that changes nothing (`changes` false) or something. Flags that are
 * not `allowed` are EINVAL. What the kernel checks before it looks at the path is checked by us
 * only where the kernel is not asked itself: vu_first().
 */
int vu_find(struct vu_call *call, unsigned at, unsigned allowed, bool changes, struct vu_place *place);
/* `verdict` of vu_find(), unless the answer is ours and another check comes before it. */
int vu_first(const struct vu_call *call, int verdict, int check);

#endif
