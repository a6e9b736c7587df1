/* Changes by descriptor, which the kernel alone would make: judged for the sake of read-only entries. */
#include "again.h"
#include "stack.h"
#include "wired.h"

#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

/*
 * ioctls that change an inode without a descriptor that writes: on our duplicate, where that is simple. The others
 * (encryption, verity, the subvolumes of btrfs) have arguments with paths, keys or pointers: not under enforcement.
 */
static int set_by_ioctl(struct vu_call *call, int fd)
{
	unsigned code = (unsigned)call->args[1];
	size_t size = code == FS_IOC_FSSETXATTR                              ? sizeof(struct fsxattr)
		      : code == FS_IOC_SETFLAGS || code == FS_IOC_SETVERSION ? sizeof(long)
									     : 0;
	if (!size)
		return -EPERM;
	/* The kernel reads an int for what is declared long. */
	int error = vu_read(call, call->args[2], call->work->data, size == sizeof(long) ? sizeof(int) : size);
	if (error < 0)
		return error;
	return ioctl(fd, code, call->work->data) < 0 ? -errno : vu_answer(call, 0);
}

/* As the kernel would, on a duplicate of the caller's descriptor. */
static int change(struct vu_call *call, struct vu_stack *stack, int fd)
{
	char name[256];
	const uint64_t *args = call->args;
	int error;
	switch (call->row->op) {
	case VU_OP_FCHMOD:
		if (fcntl(fd, F_GETFL) & O_PATH)
			return -EBADF;
		error = vu_owner_mode(stack, fd, (mode_t)args[1] & 07777);
		return error < 0 ? error : vu_answer(call, 0);
	case VU_OP_FCHOWN:
		if (fcntl(fd, F_GETFL) & O_PATH) /* by the empty path it would be changed */
			return -EBADF;
		error = vu_owner_change(call, stack, fd, (uid_t)args[1], (gid_t)args[2]);
		return error < 0 ? error : vu_answer(call, 0);
	case VU_OP_IOCTL_SETFLAGS: return set_by_ioctl(call, fd);
	default: break;
	}
	int length = vu_read_string(call, args[1], name, sizeof name);
	if (length <= 0)
		return length == -EFAULT ? length : -ERANGE;
	if (stack && vu_is_private_attribute(name))
		return -EPERM;
	if (call->row->op == VU_OP_FREMOVEXATTR)
		return fremovexattr(fd, name) < 0 ? -errno : vu_answer(call, 0);
	if ((int)args[4] & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	if (args[3] > XATTR_SIZE_MAX)
		return -E2BIG;
	if ((error = vu_read(call, args[2], call->work->data, args[3])) < 0)
		return error;
	return fsetxattr(fd, name, call->work->data, args[3], (int)args[4]) < 0 ? -errno : vu_answer(call, 0);
}

/* The place of one of our own descriptors, which came from the caller. */
static int judge_change(struct vu_call *call, int fd)
{
	char number[16];
	const struct vu_mount *mount;
	snprintf(number, sizeof number, "%d", fd);
	ssize_t n = readlinkat(call->session->self_fd, number, call->work->host, sizeof call->work->host - 1);
	if (n < 0)
		return -errno;
	call->work->host[n] = 0;
	if (*call->work->host != '/')
		return 0;
	struct stat st;
	if (vu_table_reverse(call->table, call->work->host, NULL, call->work->scratch, &mount, NULL) < 0)
		return !fstat(fd, &st) && !st.st_nlink ? 0 : -EPERM;
	return mount->readonly ? -EROFS : 0;
}

/*
 * A descriptor of a tree below the topmost one of a stack: that tree is not changed. What the caller has open goes on to
 * show the old attributes.
 */
static int change_above(struct vu_call *call, struct vu_place *place)
{
	struct vu_stack *stack = place->mount->stack;
	vu_close(&place->fd);
	place->fd = vu_stack_object_of(call, place);
	if (place->fd < 0)
		return place->fd;
	int error = vu_rights_change(call, stack, place->fd, vu_stack_on_top(place));
	if (error < 0 || (error = vu_stack_take(call, place, 0)) < 0)
		return error;
	VU_CLOSE int fd = vu_reopen(call->session, place->fd, O_RDONLY | O_NONBLOCK);
	return fd < 0 ? fd : change(call, stack, fd);
}

/* What is open lies in the topmost tree: the kernel changes it, unless an owner is kept for it. */
static int change_kept(struct vu_call *call, struct vu_stack *stack, int number)
{
	char name[24];
	struct stat st;
	VU_CLOSE int object = vu_target_open(call, vu_descriptor_name(number, name));
	if (object < 0 || fstat(object, &st) < 0 || !vu_owner_read(object, &st))
		return VU_CONTINUE;
	VU_CLOSE int own = vu_target_descriptor(call, number);
	if (own >= 0 && fcntl(own, F_GETFL) & O_PATH)
		return VU_CONTINUE; /* EBADF */
	int error = vu_rights_change(call, stack, object, true);
	if (error < 0)
		return error;
	VU_CLOSE int fd = vu_reopen(call->session, object, O_RDONLY | O_NONBLOCK);
	return fd < 0 ? fd : change(call, stack, fd);
}

/* What a server has is changed there: by its path, as the anchor knows no other way. */
static int change_at_server(struct vu_call *call, struct vu_place *place, int number)
{
	char name[256];
	const uint64_t *args = call->args;
	if (place->fd < 0 && (place->fd = vu_target_open(call, vu_descriptor_name(number, name))) < 0)
		return place->fd;
	VU_CLOSE int own = vu_target_descriptor(call, number);
	if (own >= 0 && fcntl(own, F_GETFL) & O_PATH)
		return -EBADF;
	if (call->row->op == VU_OP_FCHMOD)
		return vu_wired_chmod(call, place, (mode_t)args[1] & 07777);
	if (call->row->op == VU_OP_FCHOWN)
		return vu_wired_chown(call, place, (uid_t)args[1], (gid_t)args[2]);
	if (call->row->op == VU_OP_IOCTL_SETFLAGS)
		return -ENOTTY;
	int length = vu_read_string(call, args[1], name, sizeof name);
	if (length <= 0)
		return length == -EFAULT ? length : -ERANGE;
	if (call->row->op == VU_OP_FREMOVEXATTR)
		return vu_wired_removexattr(call, place, name);
	if ((int)args[4] & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	if (args[3] > XATTR_SIZE_MAX)
		return -E2BIG;
	int error = vu_read(call, args[2], call->work->data, args[3]);
	return error < 0 ? error : vu_wired_setxattr(call, place, name, call->work->data, args[3], (int)args[4]);
}

/*
 * fchmod, fchown, f*xattr, FS_IOC_SETFLAGS: a descriptor opened for reading by a read-only entry changes nothing. Landlock
 * does not govern these, so under enforcement they are made on a duplicate: the number may mean another file by now.
 */
int vu_op_descriptor_write(struct vu_call *call)
{
	int number = (int)vu_argument(call, call->row->fd), verdict = -1, error;
	VU_PLACE place = { .parent = -1, .fd = -1 };
	if (call->session->enforce) {
		VU_CLOSE int fd = vu_again_descriptor(call, number, &verdict);
		if (fd < 0)
			return verdict >= 0 ? verdict : fd;
		if ((error = judge_change(call, fd)) < 0)
			return error;
		struct vu_stack *stack = NULL;
		if (call->table->wired && !vu_walk_duplicate(call, number, fd, &place) && vu_is_wired(&place))
			return change_at_server(call, &place, number);
		if (call->table->stacked && !vu_walk_duplicate(call, number, fd, &place) && !place.nameless)
			stack = place.mount->stack;
		if (stack && !vu_stack_on_top(&place))
			return change_above(call, &place);
		if (stack && (error = vu_rights_change(call, stack, fd, true)) < 0)
			return error;
		return change(call, stack, fd);
	}
	/* fsetxattr(2) alone takes AT_FDCWD for the working directory: path_setxattrat, fs/xattr.c. */
	if (number == AT_FDCWD && call->row->op != VU_OP_FSETXATTR)
		return -EBADF;
	error = vu_walk_descriptor(call, 0, number, &place);
	if (error == -VU_LATER)
		return error;
	if (error == -ENOENT)
		return VU_CONTINUE; /* an object outside the view, which the caller was given */
	if (error < 0 || place.readonly)
		return error < 0 ? error : -EROFS;
	if (vu_is_wired(&place))
		return change_at_server(call, &place, number);
	bool keeps = call->row->op == VU_OP_FCHOWN && vu_owner_may_keep(call, place.mount->stack);
	if (!place.mount->stack || place.nameless)
		return VU_CONTINUE;
	if (vu_stack_on_top(&place) && !keeps)
		return place.mount->stack->has_owners ? change_kept(call, place.mount->stack, number) : VU_CONTINUE;
	VU_CLOSE int own = number == AT_FDCWD ? -1 : vu_again_descriptor(call, number, &verdict);
	if (own < 0 && number != AT_FDCWD)
		return verdict >= 0 ? verdict : own;
	if (own >= 0 && fcntl(own, F_GETFL) & O_PATH)
		return -EBADF;
	return change_above(call, &place);
}
