/*
 * Objects that the kernel watches or names by number: inotify, fanotify, file handles.
 *
 * A watch is put on the anchor, by a duplicate of the caller's inotify or fanotify descriptor. The kernel asks for read
 * permission on the object with the credentials of who calls (inotify_find_inode, fs/notify/inotify/inotify_user.c), and
 * we have the caller's.
 */
#include "again.h"
#include "stack.h"

#include <linux/capability.h>
#include <stdio.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>

/* Newer than the oldest headers we build with. */
#define HANDLE_MNT_ID_UNIQUE 0x001
#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200
#endif
#ifndef AT_HANDLE_CONNECTABLE
#define AT_HANDLE_CONNECTABLE 0x002
#endif

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

#define ALL_EVENTS                                                                                                     \
	(IN_ALL_EVENTS | IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED | IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK |      \
	 IN_MASK_ADD | IN_ISDIR | IN_ONESHOT | IN_MASK_CREATE)

/* Is the caller's descriptor one of inotify? */
static int check_watcher(struct vu_call *call)
{
	char name[24];
	int n = vu_target_link(call, vu_descriptor_name((int)vu_argument(call, call->row->fd), name), call->work->host,
			       sizeof call->work->host);
	if (n < 0)
		return -EBADF;
	return strcmp(call->work->host, "anon_inode:inotify") ? -EINVAL : 0;
}

/* What happens in a directory of a layered stack happens in the topmost tree, which has to have it then. */
static int watch_on_top(struct vu_call *call, struct vu_place *place)
{
	struct vu_stack *stack = place->mount->stack;
	struct stat st;
	if (!stack->layered || !stack->writable || fstat(place->fd, &st) < 0 || !S_ISDIR(st.st_mode))
		return 0;
	int error = vu_rights_ask(stack, place->fd, R_OK);
	if (error < 0)
		return error;
	return vu_stack_take(call, place, 0);
}

int vu_op_inotify(struct vu_call *call)
{
	uint32_t mask = (uint32_t)vu_argument(call, call->row->mode);
	VU_PLACE place;
	int error = vu_walk_argument(
		call, (mask & IN_DONT_FOLLOW ? 0 : VU_FOLLOW) | (mask & IN_ONLYDIR ? VU_DIRECTORY : 0), &place);
	bool on_top = !error && place.mount->stack && !place.magic;
	if (on_top || (error < 0 && vu_ours(call, error))) {
		/* The mask, then the descriptor, then the path: fs/notify/inotify/inotify_user.c. */
		int check = !(mask & ALL_EVENTS) ? -EINVAL : check_watcher(call);
		if (check < 0)
			return check;
	}
	if (error < 0)
		return error;
	if (on_top && (error = watch_on_top(call, &place)) < 0)
		return error;
	return vu_may_continue(call, &place, false) ? VU_CONTINUE : watch(call, &place);
}

int vu_op_fanotify(struct vu_call *call)
{
	unsigned flags = (unsigned)vu_argument(call, call->row->mode);
	uint64_t mask = vu_argument(call, call->row->extra);
	char path[32];
	int verdict = -1;
	VU_PLACE place = { .parent = -1, .fd = -1 };
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
	if (vu_ours(call, error) && (flags & ~(unsigned)(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH | AT_HANDLE_FID |
							 HANDLE_MNT_ID_UNIQUE | AT_HANDLE_CONNECTABLE)))
		return -EINVAL;
	if (error < 0)
		return error;
	if (vu_may_continue(call, &place, false))
		return VU_CONTINUE;
	flags = (flags & ~(unsigned)AT_SYMLINK_FOLLOW) | AT_EMPTY_PATH;
	error = vu_read(call, vu_argument(call, call->row->buf), handle, sizeof *handle);
	if (error < 0 || handle->handle_bytes > MAX_HANDLE_SZ) {
		/* Whether the file system has handles at all is told first: fs/fhandle.c do_sys_name_to_handle. */
		handle->handle_bytes = 0;
		if (name_to_handle_at(place.fd, "", handle, &mount.id, (int)flags) < 0 && errno == EOPNOTSUPP)
			return -EOPNOTSUPP;
		return error < 0 ? error : -EINVAL;
	}
	bool overflow = name_to_handle_at(place.fd, "", handle, &mount.id, (int)flags) < 0;
	if (overflow && errno != EOVERFLOW)
		return -errno;
	return give_handle(call, handle, overflow, &mount,
			   flags & HANDLE_MNT_ID_UNIQUE ? sizeof mount.unique : sizeof mount.id);
}

/* Does the view show the object, and may it be opened so? One that has no name (deleted) is hidden by no entry. */
static int judge_handle(struct vu_call *call, int fd, int flags)
{
	struct stat object, named;
	const struct vu_mount *mount;
	char *host = call->work->host, number[16];
	snprintf(number, sizeof number, "%d", fd);
	ssize_t n = readlinkat(call->session->self_fd, number, host, sizeof call->work->host - 1);
	if (n < 0 || fstat(fd, &object) < 0)
		return -errno;
	host[n] = 0;
	if (lstat(host, &named) < 0 || named.st_dev != object.st_dev || named.st_ino != object.st_ino)
		return call->session->enforce ? -ESTALE : 0;
	if (vu_table_reverse(call->table, host, NULL, call->work->scratch, &mount, NULL) < 0)
		return -ESTALE;
	bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
	return mount->readonly && writes && !(flags & O_PATH) ? -EROFS : 0;
}

/* The object behind the caller's handle, as O_PATH. */
static int decode_handle(struct vu_call *call, int mount_fd)
{
	struct file_handle *handle = (struct file_handle *)call->work->data;
	uint64_t address = vu_argument(call, call->row->buf);
	struct stat st;
	char name[24];
	VU_CLOSE int place = vu_target_open(call, vu_descriptor_name(mount_fd, name));
	if (place < 0 || fstat(place, &st) < 0)
		return -EBADF;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return -ESTALE; /* of a pipe or a socket: no file system that knows handles */
	VU_CLOSE int anchor = vu_reopen(call->session, place, O_RDONLY | O_NONBLOCK);
	if (anchor < 0)
		return anchor;
	int error = vu_read(call, address, handle, sizeof *handle);
	if (error < 0)
		return error;
	if (!handle->handle_bytes || handle->handle_bytes > MAX_HANDLE_SZ)
		return -EINVAL;
	if ((error = vu_read(call, address, handle, sizeof *handle + handle->handle_bytes)) < 0)
		return error;
	return vu_result(open_by_handle_at(anchor, handle, O_PATH | O_CLOEXEC));
}

/*
 * A handle names an inode past every path, for those with CAP_DAC_READ_SEARCH (the kernel says EPERM to others): what it
 * leads to is looked up in the view.
 */
int vu_op_open_by_handle(struct vu_call *call)
{
	const uint64_t search = UINT64_C(1) << CAP_DAC_READ_SEARCH;
	bool enforce = call->session->enforce;
	int flags = (int)vu_argument(call, call->row->flags);
	int error = vu_target_credentials(call);
	if (error < 0)
		return error;
	if (!call->session->privileged || !(call->credentials.effective & search))
		return enforce ? -EPERM : VU_CONTINUE;
	VU_CLOSE int object = decode_handle(call, (int)vu_argument(call, call->row->fd));
	if (object < 0)
		return enforce ? object : VU_CONTINUE;
	if ((error = judge_handle(call, object, flags)) < 0 || !enforce)
		return error < 0 ? error : VU_CONTINUE;
	struct stat st;
	if (!(flags & O_PATH) && !fstat(object, &st) && S_ISLNK(st.st_mode))
		return -ELOOP;
	if (flags & O_PATH)
		return -EPERM; /* such a descriptor cannot be handed over */
	VU_CLOSE int fd = vu_reopen(call->session, object, flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW));
	return fd < 0 ? fd : vu_inject_result(call, fd, flags & O_CLOEXEC);
}
