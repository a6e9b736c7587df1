/* Extended attributes: by the magic link of our own descriptor, which leads to the object itself, also to a link. */
#include "attributes.h"
#include "stack.h"
#include "wired.h"

#include <sys/xattr.h>

static int read_name(struct vu_call *call, char name[256])
{
	int length = vu_read_string(call, vu_argument(call, call->row->extra), name, 256);
	return length == -ENAMETOOLONG || length == 0 ? -ERANGE : length;
}

/* Of a layer of its own: what programs neither see nor change. */
static bool is_private(const struct vu_place *place, const char *name)
{
	return place->mount->stack && !place->magic && vu_is_private_attribute(name);
}

static size_t drop_private(char *names, size_t length)
{
	size_t kept = 0, size;
	for (size_t at = 0; at < length; at += size) {
		size = strlen(names + at) + 1;
		if (vu_is_private_attribute(names + at))
			continue;
		memmove(names + kept, names + at, size);
		kept += size;
	}
	return kept;
}

static int get_value(struct vu_call *call, struct vu_place *place, const char *name, uint64_t buffer, size_t size)
{
	char path[32];
	if (is_private(place, name))
		return -ENODATA;
	int error = place->magic || strncmp(name, "user.", 5) ? 0 : vu_rights_read(place->mount->stack, place->fd);
	if (error < 0)
		return error;
	if (size > XATTR_SIZE_MAX)
		size = XATTR_SIZE_MAX;
	ssize_t n;
	struct vu_place below;
	if (vu_is_wired(place))
		n = vu_wired_getxattr(call, place, name, call->work->data, size);
	else if (vu_stack_below(place, &below))
		n = vu_wired_getxattr(call, &below, name, call->work->data, size);
	else if ((n = getxattr(vu_fd_path(place->fd, path), name, size ? call->work->data : NULL, size)) < 0)
		n = -errno;
	if (n < 0)
		return (int)n;
	error = size ? vu_write(call, buffer, call->work->data, (size_t)n) : 0;
	return error < 0 ? error : vu_answer(call, n);
}

static int set_value(struct vu_call *call, struct vu_place *place, const char *name, size_t size, int flags)
{
	char path[32];
	if (is_private(place, name))
		return -EPERM;
	if (vu_is_wired(place))
		return vu_wired_setxattr(call, place, name, call->work->data, size, flags);
	if (setxattr(vu_fd_path(place->fd, path), name, call->work->data, size, flags) < 0)
		return -errno;
	int error = strcmp(name, "system.posix_acl_access") || place->magic
			    ? 0
			    : vu_owner_mode_changed(place->mount->stack, place->fd);
	return error < 0 ? error : vu_answer(call, 0);
}

static int list_names(struct vu_call *call, struct vu_place *place, uint64_t buffer, size_t size)
{
	char path[32];
	if (size > XATTR_LIST_MAX)
		size = XATTR_LIST_MAX;
	bool stacked = place->mount->stack && !place->magic;
	size_t room = stacked ? XATTR_LIST_MAX : size;
	ssize_t n;
	struct vu_place below;
	if (vu_is_wired(place))
		n = vu_wired_listxattr(call, place, call->work->data, room);
	else if (vu_stack_below(place, &below))
		n = vu_wired_listxattr(call, &below, call->work->data, room);
	else if ((n = listxattr(vu_fd_path(place->fd, path), room ? call->work->data : NULL, room)) < 0)
		n = -errno;
	if (n < 0)
		return (int)n;
	if (stacked && (n = (ssize_t)drop_private(call->work->data, (size_t)n)) > (ssize_t)size && size)
		return -ERANGE;
	int error = size ? vu_write(call, buffer, call->work->data, (size_t)n) : 0;
	return error < 0 ? error : vu_answer(call, n);
}

static int remove_name(struct vu_call *call, struct vu_place *place, const char *name)
{
	char path[32];
	if (is_private(place, name))
		return -EPERM;
	if (vu_is_wired(place))
		return vu_wired_removexattr(call, place, name);
	return removexattr(vu_fd_path(place->fd, path), name) < 0 ? -errno : vu_answer(call, 0);
}

/* By a descriptor the kernel asks the anchor alone, which has none of the server's. */
static int find_held(struct vu_call *call, struct vu_place *place)
{
	char name[24];
	int number = (int)vu_argument(call, call->row->fd);
	if (!call->table->wired && !call->table->upon)
		return VU_CONTINUE;
	int error = vu_walk_descriptor(call, 0, number, place);
	bool upon = !error && place->mount->upon && !place->nameless && place->seen.tree >= place->mount->tree;
	if (error < 0 || !(vu_is_wired(place) || upon))
		return error == -VU_LATER ? error : VU_CONTINUE;
	if (upon && place->seen.tree > place->mount->tree) { /* a handle: the directory that it stands for is asked */
		vu_close(&place->fd);
		place->fd = vu_stack_object_of(call, place);
		if (place->fd < 0)
			return place->fd;
	}
	if (place->fd < 0 && (place->fd = vu_target_open(call, vu_descriptor_name(number, name))) < 0)
		return place->fd;
	VU_CLOSE int own = vu_target_descriptor(call, number);
	return own >= 0 && fcntl(own, F_GETFL) & O_PATH ? -EBADF : VU_FOUND;
}

int vu_op_fgetxattr(struct vu_call *call)
{
	VU_PLACE place = { .parent = -1, .fd = -1 };
	char name[256];
	int verdict = find_held(call, &place);
	int error = verdict == VU_FOUND ? read_name(call, name) : 0;
	if (error < 0 || verdict != VU_FOUND)
		return error < 0 ? error : verdict;
	return get_value(call, &place, name, vu_argument(call, call->row->buf), vu_argument(call, call->row->size));
}

int vu_op_flistxattr(struct vu_call *call)
{
	VU_PLACE place = { .parent = -1, .fd = -1 };
	int verdict = find_held(call, &place);
	if (verdict != VU_FOUND)
		return verdict;
	return list_names(call, &place, vu_argument(call, call->row->buf), vu_argument(call, call->row->size));
}

/* The arguments that setxattr checks before it looks at the path: fs/xattr.c setxattr_copy. */
static int read_value(struct vu_call *call, char name[256], uint64_t address, size_t size, int flags)
{
	if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	int error = read_name(call, name);
	if (error < 0)
		return error;
	if (size > XATTR_SIZE_MAX)
		return -E2BIG;
	return vu_read(call, address, call->work->data, size);
}

int vu_op_getxattr(struct vu_call *call)
{
	VU_PLACE place;
	char name[256];
	int verdict = vu_find(call, vu_at_flags(call), AT_SYMLINK_NOFOLLOW, false, &place);
	int error = vu_ours(call, verdict) ? read_name(call, name) : 0;
	if (error < 0 || verdict != VU_FOUND)
		return error < 0 ? error : verdict;
	return get_value(call, &place, name, vu_argument(call, call->row->buf), vu_argument(call, call->row->size));
}

int vu_op_setxattr(struct vu_call *call)
{
	VU_PLACE place;
	char name[256];
	int flags = (int)vu_argument(call, call->row->mode);
	size_t size = vu_argument(call, call->row->size);
	int verdict = vu_find(call, vu_at_flags(call), AT_SYMLINK_NOFOLLOW, true, &place);
	if (!vu_ours(call, verdict))
		return verdict;
	int error = read_value(call, name, vu_argument(call, call->row->buf), size, flags);
	if (error < 0 || verdict != VU_FOUND)
		return error < 0 ? error : verdict;
	return set_value(call, &place, name, size, flags);
}

int vu_op_listxattr(struct vu_call *call)
{
	VU_PLACE place;
	int verdict = vu_find(call, vu_at_flags(call), AT_SYMLINK_NOFOLLOW, false, &place);
	if (verdict != VU_FOUND)
		return verdict;
	return list_names(call, &place, vu_argument(call, call->row->buf), vu_argument(call, call->row->size));
}

int vu_op_removexattr(struct vu_call *call)
{
	VU_PLACE place;
	char name[256];
	int verdict = vu_find(call, vu_at_flags(call), AT_SYMLINK_NOFOLLOW, true, &place);
	int error = vu_ours(call, verdict) ? read_name(call, name) : 0;
	if (error < 0 || verdict != VU_FOUND)
		return error < 0 ? error : verdict;
	return remove_name(call, &place, name);
}

/* struct xattr_args of setxattrat and getxattrat, include/uapi/linux/xattr.h (Linux 6.13). */
struct xattr_arguments {
	uint64_t value;
	uint32_t size, flags;
};

static int read_arguments(struct vu_call *call, struct xattr_arguments *out)
{
	size_t size = vu_argument(call, call->row->size);
	if (size < sizeof *out)
		return -EINVAL;
	if (size > 4096)
		return -E2BIG;
	int error = vu_read(call, vu_argument(call, call->row->buf), call->work->data, size);
	if (error < 0)
		return error;
	memcpy(out, call->work->data, sizeof *out);
	for (size_t i = sizeof *out; i < size; i++)
		if (call->work->data[i])
			return -E2BIG;
	return 0;
}

int vu_op_getxattrat(struct vu_call *call)
{
	VU_PLACE place;
	struct xattr_arguments given;
	char name[256];
	int verdict = vu_find(call, vu_at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, false, &place), error;
	if (!vu_ours(call, verdict))
		return verdict;
	if ((error = read_arguments(call, &given)) < 0)
		return error;
	if (given.flags)
		return -EINVAL;
	if ((error = read_name(call, name)) < 0 || verdict != VU_FOUND)
		return error < 0 ? error : verdict;
	return get_value(call, &place, name, given.value, given.size);
}

int vu_op_setxattrat(struct vu_call *call)
{
	VU_PLACE place;
	struct xattr_arguments given;
	char name[256];
	int verdict = vu_find(call, vu_at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, true, &place), error;
	if (!vu_ours(call, verdict))
		return verdict;
	if ((error = read_arguments(call, &given)) < 0 ||
	    (error = read_value(call, name, given.value, given.size, (int)given.flags)) < 0)
		return error;
	if (verdict != VU_FOUND)
		return verdict;
	return set_value(call, &place, name, given.size, (int)given.flags);
}

int vu_op_listxattrat(struct vu_call *call)
{
	VU_PLACE place;
	int verdict = vu_find(call, vu_at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, false, &place);
	if (verdict != VU_FOUND)
		return verdict;
	return list_names(call, &place, vu_argument(call, call->row->buf), vu_argument(call, call->row->size));
}

int vu_op_removexattrat(struct vu_call *call)
{
	VU_PLACE place;
	char name[256];
	int verdict = vu_find(call, vu_at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, true, &place);
	int error = vu_ours(call, verdict) ? read_name(call, name) : 0;
	if (error < 0 || verdict != VU_FOUND)
		return error < 0 ? error : verdict;
	return remove_name(call, &place, name);
}
