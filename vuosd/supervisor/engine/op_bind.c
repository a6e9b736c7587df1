/*
 * bind(2) of a socket to a path. The caller makes it, at the host's path of the directory or by a descriptor of that; in a stack
 * we do. By what name such a socket goes then: socket_names.c. Under enforcement Landlock bounds what the caller may bind
 * (LANDLOCK_ACCESS_FS_MAKE_SOCK).
 */
#include "stack.h"
#include "wired.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "again.h"
#include "create.h"
#include "sockets_ours.h"

static int may_bind(const struct vu_place *place)
{
	struct stat st;
	if (place->hidden)
		return -EACCES;
	if (place->mountpoint || !fstatat(place->parent, place->name, &st, AT_SYMLINK_NOFOLLOW))
		return -EADDRINUSE;
	if (place->trailing)
		return -ENOENT;
	return place->readonly ? -EROFS : 0;
}

/* In the caller's own directory of descriptors: a text that tells no other socket. */
static int set_own_address(struct vu_call *call, const struct vu_place *place, int there,
			   struct vu_socket_target *target)
{
	char directory[64];
	struct vu_socket_target other;
	vu_fd_path(there, directory);
	if (!vu_socket_address(target, directory, place->name))
		return -EINVAL;
	other = *target;
	for (size_t end = strlen(directory);
	     vu_socket_names_taken(call->session, other.address.sun_path, place->view);) {
		if (end + 3 > sizeof directory)
			return 0;
		memcpy(directory + end, "/.", 3);
		end += 2;
		if (!vu_socket_address(&other, directory, place->name))
			return 0;
	}
	*target = other;
	return 0;
}

static int bind_at(struct vu_call *call, const struct vu_place *place, const char *given)
{
	struct vu_socket_target target;
	if (!vu_socket_host_path(call, place->parent) ||
	    !vu_socket_address(&target, strcmp(call->work->host, "/") ? call->work->host : "", place->name)) {
		VU_CLOSE int parent = vu_reopen(call->session, place->parent, O_RDONLY | O_DIRECTORY);
		int there = parent < 0 ? parent : vu_inject(call, parent, true);
		if (there < 0)
			return there;
		if (set_own_address(call, place, there, &target) < 0)
			target.length = 0; /* a name that a relative path alone could bind: the kernel says EINVAL */
		target.close_fd = there;
	}
	/* Before the call: the program may ask as soon as that has returned. */
	int error = target.length ? vu_socket_names_add(call->session, target.address.sun_path, given, place->view) : 0;
	if (error < 0)
		return error;
	struct vu_remote request = {
		.nr = SYS_bind,
		.args = { vu_argument(call, call->row->fd), 0, target.length },
		.close_fd = target.close_fd,
		.scratch_args = 1u << 1,
		.scratch = &target.address,
		.scratch_len = sizeof target.address,
	};
	return vu_remote(call, &request);
}

/* A duplicate of the caller's socket, with our own rights over the cache: who may make it there has been judged. */
static int bind_anchor(struct vu_call *call, const struct vu_place *place, int fd, const char *given)
{
	struct vu_socket_target target;
	if ((!vu_socket_host_path(call, place->parent) || !vu_socket_address(&target, call->work->host, place->name)) &&
	    set_own_address(call, place, place->parent, &target) < 0)
		return -EINVAL;
	int error = vu_socket_names_add(call->session, target.address.sun_path, given, place->view);
	if (error < 0)
		return error;
	vu_resign(call);
	int result = vu_result(bind(fd, (const struct sockaddr *)&target.address, target.length));
	error = vu_assume(call);
	return error < 0 ? error : result;
}

/*
 * The server makes it, as any special file; then the socket is bound where the anchor would be, which has nothing but its name
 * and attributes in common with the server's. If that is refused the server's has gone before the caller hears of it.
 */
static int bind_wired(struct vu_call *call, struct vu_place *place, const char *given)
{
	int verdict = -1, error = vu_wired_wait(call, place);
	if (error < 0)
		return error;
	VU_CLOSE int fd = vu_again_descriptor(call, (int)vu_argument(call, call->row->fd), &verdict);
	if (fd < 0)
		return verdict >= 0 ? verdict : fd;
	error = vu_wired_begin_socket(call, place, S_IFSOCK | vu_create_mode(call, place->parent, 0777));
	if (error < 0)
		return error == -EEXIST ? -EADDRINUSE : error;
	error = bind_anchor(call, place, fd, given);
	vu_wired_end_socket(call, place);
	return error < 0 ? error : vu_answer(call, 0);
}

/* With the permission bits that the caller would give it: the kernel takes them from the socket, unix_bind_bsd(). */
static int bind_with_mode(struct vu_call *call, int fd, const struct vu_socket_target *target, int parent)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	mode_t mode = vu_create_mode(call, parent, st.st_mode & 0777);
	vu_own_rights(call, true); /* who made the socket may be another than who binds it */
	int error = vu_result(fchmod(fd, mode));
	vu_own_rights(call, false);
	if (error < 0)
		return error;
	error = vu_result(bind(fd, (const struct sockaddr *)&target->address, target->length));
	vu_own_rights(call, true);
	fchmod(fd, st.st_mode & 07777);
	vu_own_rights(call, false);
	return error;
}

/*
 * In a stack we bind a duplicate of the socket, as we make everything there: a whiteout may be in the way, the directory need
 * not have been copied up yet, and under enforcement the caller may not write to a layer.
 */
static int bind_in_stack(struct vu_call *call, struct vu_place *place, const char *given)
{
	struct vu_stack *stack = place->mount->stack;
	struct vu_room room;
	struct vu_socket_target target;
	char directory[32], temporary[32];
	int verdict = -1;
	VU_CLOSE int fd = vu_again_descriptor(call, (int)vu_argument(call, call->row->fd), &verdict);
	if (fd < 0)
		return verdict >= 0 ? verdict : fd;
	int error = vu_room_open(call, place, &room);
	if (error < 0)
		return error == -EEXIST ? -EADDRINUSE : error;
	bool fits = vu_socket_address(&target, vu_fd_path(room.dir, directory), room.name);
	if (!fits) {
		vu_stack_temporary(stack, temporary);
		vu_socket_address(&target, vu_fd_path(stack->work, directory), temporary);
	}
	error = vu_socket_names_add(call->session, target.address.sun_path, given, place->view);
	if (!error)
		error = bind_with_mode(call, fd, &target, place->parent);
	if (!error && !fits) {
		error = vu_result(syscall(SYS_renameat2, stack->work, temporary, room.dir, room.name,
					  room.covered ? 0 : 1 /* RENAME_NOREPLACE */));
		if (error < 0)
			unlinkat(stack->work, temporary, 0);
	}
	error = vu_room_close(call, place, &room, error);
	return error == -EEXIST ? -EADDRINUSE : error < 0 ? error : vu_answer(call, 0);
}

static int bind_path(struct vu_call *call, const char *path)
{
	VU_PLACE place = { .parent = -1, .fd = -1 };
	int error = vu_walk(call, 0, AT_FDCWD, path, VU_WANT_PARENT, &place);
	if (error < 0)
		return error;
	if ((place.native || place.held) && !place.readonly && !place.hidden && !place.mountpoint &&
	    !place.mount->stack)
		return VU_CONTINUE; /* in an enforcing view too: the floor bounds it */
	if ((error = may_bind(&place)) < 0)
		return error;
	if (vu_is_wired(&place))
		return bind_wired(call, &place, path);
	return place.mount->stack ? bind_in_stack(call, &place, path) : bind_at(call, &place, path);
}

int vu_op_bind(struct vu_call *call)
{
	char path[sizeof(struct sockaddr_un)];
	if (!vu_socket_path(call, vu_argument(call, call->row->buf), vu_argument(call, call->row->size), path))
		return VU_CONTINUE;
	int result = bind_path(call, path);
	return result < 0 ? vu_socket_refused(call, result) : result;
}
