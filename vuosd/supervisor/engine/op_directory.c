/* The working directory and the root: chdir, chroot, getcwd. */
#include "again.h"
#include "stack.h"

/*
 * By which mount was the working directory entered? Needed only where the view shows one host directory twice, for ".."
 * and getcwd there. It is part of the state that the kernel keeps for us.
 */
static int remember(struct vu_call *call, const struct vu_place *place)
{
	const struct vu_mount *hint = NULL;
	struct vu_spot spot;
	vu_table_find(call->table, *place->view ? place->view : "/", &spot);
	if (!spot.mount->identity) {
		char *host = call->work->host;
		size_t length;
		const char *source = vu_mount_source(spot.mount, &length);
		if (length + strlen(spot.rest) + 2 > VU_TEXT)
			return -ENAMETOOLONG;
		memcpy(host, source, length + 1);
		if (*spot.rest) {
			host[length] = '/';
			strcpy(host + length + 1, spot.rest);
		}
		const struct vu_mount *plain;
		if (!vu_table_reverse(call->table, host, NULL, call->work->scratch, &plain, NULL) &&
		    plain != spot.mount)
			hint = spot.mount;
	}
	struct vu_state wanted = *vu_state_of(call);
	wanted.cwd_mount = hint;
	return vu_state_set(call, &wanted);
}

int vu_op_chdir(struct vu_call *call)
{
	VU_PLACE place;
	int error = vu_walk_argument(call, VU_FOLLOW | VU_DIRECTORY, &place);
	if (error < 0)
		return error;
	if (place.held)
		return VU_CONTINUE;
	if ((error = vu_rights_ask(place.magic ? NULL : place.mount->stack, place.fd, X_OK)) < 0)
		return error;
	if (!place.magic && (error = remember(call, &place)) < 0)
		return error;
	if (vu_may_continue(call, &place, false))
		return VU_CONTINUE;
	if (place.mount->stack && !place.magic) {
		int given = vu_stack_open_given(call, &place);
		if (given < 0 && given != -ENOENT)
			return given;
		if (given >= 0) {
			vu_close(&place.fd);
			place.fd = given;
		}
	}
	VU_CLOSE int fd = vu_reopen(call->session, place.fd, O_RDONLY | O_DIRECTORY);
	if (fd == -EACCES) {
		/* It may be entered but not read, so no ordinary descriptor can be handed over. */
		if (call->session->enforce) {
			int verdict = -1, number = vu_again_handle(call, place.fd, NULL, &verdict);
			if (number < 0)
				return verdict >= 0 ? verdict : number;
			struct vu_remote request = { .nr = SYS_fchdir,
						     .args = { (uint64_t)number },
						     .close_fd = number };
			return vu_remote(call, &request);
		}
		char number[32];
		ssize_t n = readlink(vu_fd_path(place.fd, number), call->work->host, sizeof call->work->host - 1);
		if (n < 0)
			return -errno;
		call->work->host[n] = 0;
		struct vu_remote request = { .nr = SYS_chdir,
					     .close_fd = -1,
					     .scratch_args = 1,
					     .scratch = call->work->host,
					     .scratch_len = (uint32_t)n + 1 };
		return vu_remote(call, &request);
	}
	if (fd < 0)
		return fd;
	int there = vu_inject(call, fd, true);
	if (there < 0)
		return there;
	struct vu_remote request = { .nr = SYS_fchdir, .args = { (uint64_t)there }, .close_fd = there };
	return vu_remote(call, &request);
}

int vu_op_chroot(struct vu_call *call)
{
	VU_PLACE place;
	int error = vu_walk_argument(call, VU_FOLLOW | VU_DIRECTORY, &place);
	if (error < 0)
		return error;
	if (place.held || place.magic)
		return -EACCES;
	if ((error = vu_rights_ask(place.mount->stack, place.fd, X_OK)) < 0)
		return error;
	struct vu_state wanted = *vu_state_of(call);
	wanted.root = strcmp(place.view, "/") ? place.view : "";
	error = vu_state_set(call, &wanted);
	return error < 0 ? error : vu_answer(call, 0);
}

int vu_op_getcwd(struct vu_call *call)
{
	VU_PLACE place;
	int error = vu_walk_descriptor(call, 0, AT_FDCWD, &place);
	if (error < 0)
		return error;
	if (place.covered)
		return -ENOENT;
	if (place.nameless && !place.lost && !place.beneath)
		return VU_CONTINUE; /* a deleted one, or one that is too deep to be named */
	const char *root = vu_state_of(call)->root, *path = place.view;
	size_t length = strlen(root);
	bool below = !strncmp(path, root, length) && (!path[length] || path[length] == '/');
	if (length && below && !place.lost) {
		path += length;
	} else if (length || place.lost) {
		/* As fs/d_path.c says of what lies outside the root. */
		path = strcat(strcpy(call->work->text, "(unreachable)"), place.view);
	}
	if (!*path)
		path = "/";
	if (place.mount->identity && !length && !place.lost &&
	    (!place.mount->stack || vu_stack_is_bottom(place.mount->stack, &place.seen)))
		return VU_CONTINUE;
	size_t size = strlen(path) + 1;
	if (size > vu_argument(call, call->row->size))
		return -ERANGE;
	error = vu_write(call, vu_argument(call, call->row->buf), path, size);
	return error < 0 ? error : vu_answer(call, (int64_t)size);
}
