/* readlink: a link's text is its own, but for the links of /proc, which tell where things are: that is the view's to say. */
#include "engine.h"

#include <stdio.h>

#include "proc_links.h"

int vu_op_readlink(struct vu_call *call)
{
	VU_PLACE place;
	int size = (int)vu_argument(call, call->row->size);
	unsigned empty = call->row->dirfd >= 0 ? VU_EMPTY_OK : 0; /* readlinkat(2): an O_PATH descriptor of the link */
	int error = vu_walk_argument(call, empty, &place);
	if (error < 0)
		return vu_ours(call, error) && size <= 0 ? -EINVAL : error;
	if ((place.held || size <= 0) && vu_may_continue(call, &place, false))
		return VU_CONTINUE;
	if (size <= 0)
		return -EINVAL;
	struct stat st;
	if (fstat(place.fd, &st) < 0)
		return -errno;
	if (!S_ISLNK(st.st_mode))
		return place.held ? -ENOENT : -EINVAL;
	bool ordinary = !vu_is_procfs(place.fd, &st);
	char *text = call->work->link;
	if (vu_proc_guarded(call, place.fd, false))
		return -EACCES;
	int length = ordinary ? 0 : vu_proc_link(call, &place, text, PATH_MAX);
	if (length < 0)
		return length;
	if (!length) {
		if (vu_may_continue(call, &place, false))
			return VU_CONTINUE;
		if ((length = (int)readlinkat(place.fd, "", text, PATH_MAX)) < 0)
			return -errno;
	}
	if (length > size)
		length = size;
	error = vu_write(call, vu_argument(call, call->row->buf), text, (size_t)length);
	return error < 0 ? error : vu_answer(call, length);
}
