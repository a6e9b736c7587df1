/* Descriptors whose flags neither a magic link nor the handing over can give: O_PATH and O_NOFOLLOW. */
#include "open.h"

#include <linux/openat2.h>

#include "remote_call.h"
#include "stack.h"

/* What openat2(2) would do, in the caller. */
static int ask_to_open(struct vu_call *call, const struct open_how *how, const char *path)
{
	struct {
		struct open_how how;
		char path[PATH_MAX];
	} scratch = { .how = *how };
	size_t length = strlen(path) + 1;
	if (length > sizeof scratch.path)
		return -ENAMETOOLONG;
	memcpy(scratch.path, path, length);
	struct vu_remote request = {
		.nr = SYS_openat2,
		.args = { (uint64_t)AT_FDCWD, offsetof(typeof(scratch), path), 0, sizeof scratch.how },
		.close_fd = -1,
		.scratch_args = 1u << 1 | 1u << 2,
		.scratch = &scratch,
		.scratch_len = (uint32_t)(offsetof(typeof(scratch), path) + length),
	};
	return vu_remote(call, &request);
}

/*
 * An O_PATH descriptor is none that ADDFD hands over. Anew, for the flags that fcntl(2) shows; O_NOFOLLOW would be about the
 * link of procfs.
 */
static int hand_over_path(struct vu_call *call, const struct vu_place *place, int flags)
{
	int64_t ignored;
	struct stat st;
	bool link = !fstat(place->fd, &st) && S_ISLNK(st.st_mode);
	VU_CLOSE int again = link ? -1 : vu_reopen(call->session, place->fd, flags & (O_PATH | O_DIRECTORY));
	if (again == -ENOTDIR)
		return again;
	return vu_hand_over(call, again < 0 || flags & O_NOFOLLOW ? place->fd : again, flags & O_CLOEXEC, 0, &ignored);
}

int vu_open_path_only(struct vu_call *call, struct vu_place *place, int flags)
{
	struct open_how how = { .flags = (uint64_t)(flags & VU_OPEN_PATH_FLAGS), .resolve = RESOLVE_NO_SYMLINKS };
	char *path = call->work->host;
	struct stat here, there;
	char number[32];
	if (call->session->enforce)
		return hand_over_path(call, place, flags);
	if (place->magic) { /* an object without a path: by the link of procfs that led to it */
		how.resolve = 0;
		return ask_to_open(call, &how, place->view);
	}
	ssize_t n = readlink(vu_fd_path(place->fd, number), path, PATH_MAX - 1);
	path[n < 0 ? 0 : n] = 0;
	if (n > 0 && !fstat(place->fd, &here) && !lstat(path, &there) && here.st_dev == there.st_dev &&
	    here.st_ino == there.st_ino)
		return ask_to_open(call, &how, path);
	return hand_over_path(call, place, flags); /* no path leads there: a mount of ours, a pipe */
}

int vu_open_by_name(struct vu_call *call, const struct vu_place *place, int flags)
{
	struct open_how how = { .flags = (uint64_t)((flags & ~(O_CREAT | O_EXCL)) | O_CLOEXEC | O_NOCTTY) &
					 VU_OPEN_FLAGS,
				.resolve = RESOLVE_NO_SYMLINKS };
	struct vu_spot spot;
	struct stat here, there;
	vu_table_find(call->table, *place->view ? place->view : "/", &spot);
	VU_CLOSE int fd = -1;
	char text[VU_TEXT];
	const char *path = spot.mount->stack ? vu_stack_path(&spot, text) : spot.rest;
	if (!place->magic) /* a mount's own root may be a file: then "." fails, and the descriptor does */
		fd = (int)syscall(SYS_openat2,
				  spot.mount->stack ? spot.mount->stack->trees[place->seen.tree].fd : spot.mount->fd,
				  *path ? path : ".", &how, sizeof how);
	if (fd < 0 || fstat(fd, &here) < 0 || fstat(place->fd, &there) < 0 || here.st_dev != there.st_dev ||
	    here.st_ino != there.st_ino)
		return vu_reopen(call->session, place->fd, flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW));
	int result = fd;
	fd = -1;
	return result;
}
