/*
 * A path, a descriptor or an argument of the caller → a place: by walk_start.c, walk.c and walk_parent.c.
 */
#include "stack.h"
#include "wired.h"
#include "walk.h"

#include <linux/magic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

const char *vu_fd_path(int fd, char buffer[32])
{
	snprintf(buffer, 32, "/proc/self/fd/%d", fd);
	return buffer;
}

void vu_place_close(struct vu_place *place)
{
	vu_close(&place->parent);
	vu_close(&place->fd);
}

/* Does a path that begins at `start` lead above the root? As its text says. */
static bool climbs(const char *start, const char *path)
{
	int depth = 0;
	for (const char *end; *(start += strspn(start, "/")); start = end) {
		end = start + strcspn(start, "/");
		depth++;
	}
	for (const char *end; depth >= 0 && *(path += strspn(path, "/")); path = end) {
		end = path + strcspn(path, "/");
		depth += vu_walk_is_dot_dot(path, end) ? -1 : !vu_walk_is_dot(path, end);
	}
	return depth < 0;
}

static void clear(struct vu_place *place, char *view)
{
	*place = (struct vu_place){ .parent = -1, .fd = -1, .view = view };
}

static int only_kernel(struct vu_call *call, int dirfd, struct vu_place *place)
{
	if (call->session->enforce) {
		char name[24];
		struct stat st;
		VU_CLOSE int fd = vu_target_open(call, vu_descriptor_name(dirfd, name));
		return fd >= 0 && !fstat(fd, &st) && !S_ISDIR(st.st_mode) ? -ENOTDIR : -ENOENT;
	}
	place->held = place->native = place->nameless = true;
	place->mount = call->table->root;
	return 0;
}

static int walk_descriptor(struct vu_call *call, int slot, int fd, int *object, struct vu_place *place)
{
	struct vu_walk walk = {
		.call = call, .state = vu_state_of(call), .view = call->work->view[slot], .clean = true
	};
	clear(place, walk.view);
	int result = vu_walk_start(&walk, fd, object);
	place->covered = result == -ENOENT || result == -EACCES;
	place->lost = result == VU_LOST;
	place->beneath = result == VU_COVERED;
	if (result > 0 || place->covered) { /* nothing of the view's tree */
		place->held = place->native = place->nameless = true;
		place->mount = place->beneath ? walk.start : call->table->root;
		place->readonly = place->mount->readonly;
		return 0;
	}
	if (result < 0) {
		call->native_error = result == -EBADF;
		return result;
	}
	vu_walk_describe(&walk, place);
	place->held = place->native = true;
	struct vu_stack *stack = place->mount->stack;
	place->merged =
		stack && (place->seen.tree == (int)stack->count /* a handle */ || vu_stack_tells(stack, &place->seen) ||
			  vu_stack_is_merged(stack, vu_stack_rest(place)));
	return 0;
}

int vu_walk_descriptor(struct vu_call *call, int slot, int fd, struct vu_place *place)
{
	return walk_descriptor(call, slot, fd, call->session->enforce ? &place->fd : NULL, place);
}

int vu_walk_duplicate(struct vu_call *call, int fd, int own, struct vu_place *place)
{
	return walk_descriptor(call, 0, fd, &own, place);
}

/* Go along the path; what it says of the place is filled in. */
static int follow_path(struct vu_walk *walk, const char *path, struct vu_place *place)
{
	int error;
	if (walk->flags & VU_WANT_PARENT) {
		error = vu_walk_parent(walk, path, place);
		return error < 0 || place->magic ? error : vu_walk_judge(walk, place->fd);
	}
	strcpy(walk->call->work->rest, path);
	walk->rest = walk->call->work->rest;
	error = vu_walk_resolve(walk, walk->flags & VU_FOLLOW, walk->flags & VU_DIRECTORY, place);
	if (error < 0)
		return error;
	if (!place->magic && (error = vu_walk_judge(walk, place->fd)) < 0)
		return error;
	vu_walk_describe(walk, place);
	return 0;
}

/* RESOLVE_NO_XDEV: start and end lie on one mount, of the host and of the view. */
static int same_mount(struct vu_call *call, struct vu_spot *from, const struct vu_spot *to, int end)
{
	struct statx here, there;
	VU_CLOSE int start = vu_walk_open_spot(call, from, O_NOFOLLOW);
	if (start < 0)
		return start;
	if (syscall(SYS_statx, start, "", AT_EMPTY_PATH, STATX_MNT_ID, &here) < 0 ||
	    syscall(SYS_statx, end, "", AT_EMPTY_PATH, STATX_MNT_ID, &there) < 0)
		return -errno;
	return here.stx_mnt_id == there.stx_mnt_id && from->mount == to->mount ? 0 : -EXDEV;
}

/*
 * Whatever the directory is that a single name is looked up in: if no entry ends in that name and it is not followed, the
 * caller's kernel finds what the view shows. So it is for a descriptor itself.
 */
static bool is_beside_entries(const struct vu_table *table, const char *path, unsigned flags)
{
	if (!*path)
		return flags & VU_EMPTY_OK;
	size_t length = strlen(path);
	return !(flags & (VU_FOLLOW | VU_WANT_PARENT)) && !memchr(path, '/', length) &&
	       !vu_walk_is_dot(path, path + length) && !vu_walk_is_dot_dot(path, path + length) &&
	       !vu_node_child(&table->names, path, length);
}

int vu_walk(struct vu_call *call, int slot, int dirfd, const char *path, unsigned flags, struct vu_place *place)
{
	struct vu_walk walk = { .call = call,
				.state = vu_state_of(call),
				.flags = flags,
				.view = call->work->view[slot],
				.clean = true,
				.start = call->table->root };
	clear(place, walk.view);
	if ((flags & VU_READS) && !call->session->enforce && !call->table->stacked && !call->table->wired &&
	    !vu_claims_paths(call->table->claims) && is_beside_entries(call->table, path, flags))
		return only_kernel(call, dirfd, place);
	if (!*path && (flags & VU_EMPTY_OK))
		return vu_walk_descriptor(call, slot, dirfd, place);
	if (!*path || (*path == '/' && (flags & VU_BENEATH))) {
		call->native_error = true;
		return *path ? -EXDEV : -ENOENT;
	}
	if (*path == '/' && !(flags & VU_IN_ROOT)) {
		vu_walk_go_root(&walk);
	} else {
		int result = vu_walk_start(&walk, dirfd, NULL);
		if (result == -EBADF)
			call->native_error = true;
		if (result == -EACCES)
			result = -ENOENT; /* what is hidden is not there */
		if (result < 0)
			return result;
		/* A process in what has been unmounted stays there, and above that there is nothing. */
		if (result == VU_LOST && climbs(walk.view, path))
			return -ENOENT;
		/* What something was mounted over goes on to be there for who is in it; from above it is not to be seen. */
		bool leaves = result == VU_COVERED &&
			      climbs(walk.view + vu_table_cover(call->table, walk.start, walk.view), path);
		if (result > 0 && !leaves)
			return only_kernel(call, dirfd, place);
		walk.scope = walk.begun = walk.length;
		walk.dirfd = dirfd;
		walk.trailing = *path == '/'; /* the start itself, which must be a directory then */
	}
	struct vu_spot origin;
	if (flags & VU_NO_MOUNTS) {
		memcpy(call->work->text, walk.view, walk.length + 1);
		vu_table_find(call->table, *call->work->text ? call->work->text : "/", &origin);
	}
	int error = follow_path(&walk, path, place);
	if (!error && (flags & VU_NO_MOUNTS)) {
		struct vu_spot spot;
		vu_walk_find(&walk, &spot);
		error = place->magic ? -EXDEV
				     : same_mount(call, &origin, &spot, place->fd < 0 ? place->parent : place->fd);
	}
	if (error < 0) {
		struct vu_spot spot;
		vu_walk_find(&walk, &spot);
		call->native_error =
			walk.clean && !walk.withheld && !spot.mount->stack && vu_walk_agrees(&walk, spot.mount);
	}
	return error;
}

/* AT_EMPTY_PATH with a NULL path: getname_maybe_null of include/linux/fs.h, Linux 6.11 to 6.17. */
static bool null_is_empty(unsigned op)
{
	switch (op) {
	case VU_OP_STAT:
	case VU_OP_STATX:
	case VU_OP_GETXATTRAT:
	case VU_OP_SETXATTRAT:
	case VU_OP_LISTXATTRAT:
	case VU_OP_REMOVEXATTRAT:
	case VU_OP_FILE_GETATTR:
	case VU_OP_FILE_SETATTR: return true;
	default: return false;
	}
}

static int walk_row(struct vu_call *call, int slot, int dirfd, int path, unsigned flags, struct vu_place *place)
{
	clear(place, call->work->view[slot]);
	char *text = call->work->path[slot];
	uint64_t address = vu_argument(call, path);
	int length = vu_read_string(call, address, text, PATH_MAX);
	if (length == -EFAULT && !address && (flags & VU_EMPTY_OK) && null_is_empty(call->row->op))
		length = *text = 0;
	if (length < 0) {
		call->native_error = true;
		return length;
	}
	return vu_walk(call, slot, dirfd < 0 ? AT_FDCWD : (int)vu_argument(call, dirfd), text, flags, place);
}

int vu_walk_argument(struct vu_call *call, unsigned flags, struct vu_place *place)
{
	return walk_row(call, 0, call->row->dirfd, call->row->path, flags, place);
}

int vu_walk_second(struct vu_call *call, unsigned flags, struct vu_place *place)
{
	return walk_row(call, 1, call->row->dirfd2, call->row->path2, flags, place);
}

bool vu_is_procfs(int fd, const struct stat *st)
{
	struct statfs fs;
	return !major(st->st_dev) && !fstatfs(fd, &fs) && fs.f_type == PROC_SUPER_MAGIC;
}

bool vu_on_procfs(int fd)
{
	struct stat st;
	return !fstat(fd, &st) && vu_is_procfs(fd, &st);
}

int vu_reopen(struct vu_session *session, int fd, int flags)
{
	char number[16];
	snprintf(number, sizeof number, "%d", fd);
	int result = openat(session->self_fd, number, flags | O_CLOEXEC | O_NOCTTY);
	return result < 0 ? -errno : result;
}
