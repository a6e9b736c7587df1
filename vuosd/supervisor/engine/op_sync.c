/* fsync, fdatasync, syncfs: what has been written to the anchors of a wire mount goes to its server first. */
#include "wired.h"

#include <sys/syscall.h>

int vu_op_sync(struct vu_call *call)
{
	VU_PLACE place = { .parent = -1, .fd = -1 };
	if (!call->table->wired)
		return VU_CONTINUE;
	int error = vu_walk_descriptor(call, 0, (int)vu_argument(call, call->row->fd), &place);
	/* Of what no path leads to there is only the anchor left. */
	if (error < 0 || !vu_is_wired(&place))
		return error == -VU_LATER ? error : VU_CONTINUE;
	if (call->nr == SYS_syncfs)
		return vu_wired_sync_all(call, &place);
	return vu_wired_sync(call, &place, call->nr == SYS_fdatasync);
}
