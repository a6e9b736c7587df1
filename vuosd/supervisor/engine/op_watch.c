/*
 * Objects that the kernel watches or names by number: inotify, fanotify, file handles.
 *
 * A watch is put on the anchor, by a duplicate of the caller's inotify or fanotify descriptor. The kernel asks for read
 * permission on the object with the credentials of who calls (inotify_find_inode, fs/notify/inotify/inotify_user.c), and
 * we have the caller's.
 */
#include "again.h"

#include <sys/fanotify.h>
#include <sys/inotify.h>

/* Newer than the oldest headers we build with. */
#define HANDLE_MNT_ID_UNIQUE 0x001

static int watch(struct vu_call *call, struct vu_place *place)
{
	char path[32];
	int verdict = -1;
	VU_CLOSE int fd = vu_again_descriptor(call, (int)vu_argument(call, call->row->fd), &verdict);
	if (fd < 0)
		return verdict >= 0 ? verdict : fd;
	/* The link of the descriptor is to be followed; an object that is itself a link is not. */
	uint32_t mask = (uint32_t)vu_argument(call, call->row->mode) & ~(uint32_t)IN_DONT_FOLLOW;
	int result = inotify_add_watch(fd, vu_fd_path(place->fd, path), mask);
	return result < 0 ? -errno : vu_answer(call, result);
}

int vu_op_inotify(struct vu_call *call)
{
	uint32_t mask = (uint32_t)vu_argument(call, call->row->mode);
	VU_PLACE place;
	int error = vu_walk_argument(
		call, (mask & IN_DONT_FOLLOW ? 0 : VU_FOLLOW) | (mask & IN_ONLYDIR ? VU_DIRECTORY : 0), &place);
	if (error < 0)
		return error;
	return vu_may_continue(call, &place, false) ? VU_CONTINUE : watch(call, &place);
}

int vu_op_fanotify(struct vu_call *call)
{
	unsigned flags = (unsigned)vu_argument(call, call->row->mode);
	uint64_t mask = vu_argument(call, call->row->extra);
	char path[32];
	int verdict = -1;
	VU_PLACE place;
	if (!vu_argument(call, call->row->path) || (flags & FAN_MARK_FLUSH))
		return VU_CONTINUE; /* a descriptor of the caller, or no object at all */
	int error = vu_walk_argument(
		call, (flags & FAN_MARK_DONT_FOLLOW ? 0 : VU_FOLLOW) | (flags & FAN_MARK_ONLYDIR ? VU_DIRECTORY : 0),
		&place);
	if (error < 0)
		return error;
	if (vu_may_continue(call, &place, false))
		return VU_CONTINUE;
	VU_CLOSE int fd = vu_again_descriptor(call, (int)vu_argument(call, call->row->fd), &verdict);
	if (fd < 0)
		return verdict >= 0 ? verdict : fd;
	flags &= ~(unsigned)FAN_MARK_DONT_FOLLOW;
	if (fanotify_mark(fd, flags, mask, AT_FDCWD, vu_fd_path(place.fd, path)) < 0)
		return -errno;
	return vu_answer(call, 0);
}

/* Copy the handle out as do_sys_name_to_handle does: also on EOVERFLOW, for the size. */
static int give_handle(struct vu_call *call, const struct file_handle *handle, bool overflow, const void *mount,
		       size_t size)
{
	size_t length = sizeof *handle + (overflow ? 0 : handle->handle_bytes);
	int error = vu_write(call, vu_argument(call, call->row->extra), mount, size);
	if (error < 0 || (error = vu_write(call, vu_argument(call, call->row->buf), handle, length)) < 0)
		return error;
	return overflow ? -EOVERFLOW : vu_answer(call, 0);
}

int vu_op_name_to_handle(struct vu_call *call)
{
	unsigned flags = (unsigned)vu_argument(call, call->row->flags);
	struct file_handle *handle = (struct file_handle *)call->work->data;
	union {
		int id;
		uint64_t unique;
	} mount = {};
	VU_PLACE place;
	int error = vu_walk_argument(
		call, (flags & AT_SYMLINK_FOLLOW ? VU_FOLLOW : 0) | (flags & AT_EMPTY_PATH ? VU_EMPTY_OK : 0), &place);
	if (error < 0)
		return error;
	if (vu_may_continue(call, &place, false))
		return VU_CONTINUE;
	if ((error = vu_read(call, vu_argument(call, call->row->buf), handle, sizeof *handle)) < 0)
		return error;
	if (handle->handle_bytes > MAX_HANDLE_SZ)
		return -EINVAL;
	flags = (flags & ~(unsigned)AT_SYMLINK_FOLLOW) | AT_EMPTY_PATH;
	bool overflow = name_to_handle_at(place.fd, "", handle, &mount.id, (int)flags) < 0;
	if (overflow && errno != EOVERFLOW)
		return -errno;
	return give_handle(call, handle, overflow, &mount,
			   flags & HANDLE_MNT_ID_UNIQUE ? sizeof mount.unique : sizeof mount.id);
}

int vu_op_open_by_handle(struct vu_call *call)
{
	/* A handle names an inode past every path, so past the view; what an ordinary user gets anyway. */
	(void)call;
	return -EPERM;
}
