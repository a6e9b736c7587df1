/*
 * The names of a directory: mkdir, mknod, symlink, link, unlink, rmdir, rename.
 *
 * Two entries of a view that show one file system are not two mounts: link and rename go between them as far as the
 * kernel lets them. It would be EXDEV between bind mounts, but a descriptor does not tell by which entry it was opened.
 */
#include "stack.h"
#include "wired.h"

#include <sys/syscall.h>

#include "create.h"

static bool exists(const struct vu_place *place)
{
	struct stat st;
	if (place->mount->stack && place->fd >= 0)
		return true;
	return !fstatat(place->parent, place->name, &st, AT_SYMLINK_NOFOLLOW);
}

/* No name that a call makes or takes away: the kernel says what is wrong with it. */
static bool is_special(const char *name)
{
	size_t length = strcspn(name, "/");
	return !length || !strncmp(name, ".", length) || (length == 2 && !strncmp(name, "..", 2));
}

static int answer(struct vu_call *call, int result)
{
	return result < 0 ? result : vu_answer(call, 0);
}

/* May a new name be made here? In the order of filename_create, fs/namei.c: what exists is EEXIST even where read-only. */
static int may_create(const struct vu_place *place)
{
	if (place->hidden)
		return -EACCES;
	if (place->mountpoint)
		return -EEXIST;
	if (place->readonly)
		return exists(place) ? -EEXIST : -EROFS;
	return 0;
}

/* May this name be taken away? An entry's target is a mount point, and so is kept what leads to one. */
static int may_remove(const struct vu_place *place)
{
	if (place->hidden)
		return -ENOENT;
	if (place->mountpoint || place->node)
		return -EBUSY;
	if (place->readonly)
		return exists(place) ? -EROFS : -ENOENT;
	return 0;
}

/* Names that no call makes or takes away, and files with a slash behind them, are an error that the anchors give as well. */
static bool is_wired(const struct vu_place *place, bool directory)
{
	return vu_is_wired(place) && !is_special(place->name) && (directory || !place->trailing);
}

int vu_op_mkdir(struct vu_call *call)
{
	VU_PLACE place;
	int error = vu_walk_argument(call, VU_WANT_PARENT, &place);
	if (error < 0)
		return error;
	if (vu_may_continue(call, &place, true) && !place.mountpoint)
		return VU_CONTINUE;
	if ((error = may_create(&place)) < 0)
		return error;
	mode_t mode = vu_create_mode(call, place.parent, (mode_t)vu_argument(call, call->row->mode) & 07777);
	if (is_wired(&place, true))
		return vu_wired_mkdir(call, &place, mode);
	struct vu_room room;
	if ((error = vu_room_open(call, &place, &room)) < 0)
		return error;
	return answer(call, vu_room_close(call, &place, &room, vu_result(mkdirat(room.dir, room.name, mode))));
}

int vu_op_mknod(struct vu_call *call)
{
	VU_PLACE place;
	int error = vu_walk_argument(call, VU_WANT_PARENT, &place);
	mode_t mode = (mode_t)vu_argument(call, call->row->mode), type = mode & S_IFMT;
	/* fs/namei.c may_mknod comes before the path. */
	if (vu_ours(call, error) && type && !S_ISREG(mode) && !S_ISCHR(mode) && !S_ISBLK(mode) && !S_ISFIFO(mode) &&
	    !S_ISSOCK(mode))
		return S_ISDIR(mode) ? -EPERM : -EINVAL;
	if (error < 0)
		return error;
	if (vu_may_continue(call, &place, true) && !place.mountpoint)
		return VU_CONTINUE;
	if ((error = may_create(&place)) < 0)
		return error;
	dev_t device = (dev_t)vu_argument(call, call->row->extra);
	if (is_wired(&place, false))
		return vu_wired_mknod(call, &place, (mode & S_IFMT) | vu_create_mode(call, place.parent, mode & 07777),
				      device);
	struct vu_room room;
	if ((error = vu_room_open(call, &place, &room)) < 0)
		return error;
	if (place.mount->stack && place.mount->stack->layered && S_ISCHR(mode) && !device)
		return vu_room_close(call, &place, &room, -EPERM); /* a whiteout: as ovl_mknod, fs/overlayfs/dir.c */
	mode = (mode & S_IFMT) | vu_create_mode(call, place.parent, mode & 07777);
	error = vu_result(mknodat(room.dir, room.name, mode, device));
	return answer(call, vu_room_close(call, &place, &room, error));
}

int vu_op_symlink(struct vu_call *call)
{
	VU_PLACE place;
	int error = vu_walk_argument(call, VU_WANT_PARENT, &place);
	if (!vu_ours(call, error) || (!error && vu_may_continue(call, &place, true) && !place.mountpoint))
		return error < 0 ? error : VU_CONTINUE;
	char *text = call->work->path[1];
	int length = vu_read_string(call, vu_argument(call, call->row->buf), text, PATH_MAX);
	if (length <= 0)
		return length < 0 ? length : -ENOENT;
	struct vu_room room;
	if (error < 0 || (error = may_create(&place)) < 0)
		return error;
	if (is_wired(&place, false))
		return vu_wired_symlink(call, &place, text);
	if ((error = vu_room_open(call, &place, &room)) < 0)
		return error;
	return answer(call, vu_room_close(call, &place, &room, vu_result(symlinkat(text, room.dir, room.name))));
}

int vu_op_unlink(struct vu_call *call)
{
	VU_PLACE place;
	unsigned flags = (unsigned)vu_argument(call, call->row->flags) | call->row->implied;
	int error = vu_walk_argument(call, VU_WANT_PARENT, &place);
	if (!error && vu_may_continue(call, &place, true) && !place.node)
		return VU_CONTINUE;
	if (vu_ours(call, error) && (flags & ~(unsigned)AT_REMOVEDIR))
		return -EINVAL;
	if (error < 0)
		return error;
	if ((error = may_remove(&place)) < 0)
		return error;
	if (is_wired(&place, flags & AT_REMOVEDIR))
		return vu_wired_remove(call, &place, flags & AT_REMOVEDIR);
	if (place.mount->stack && !is_special(place.name))
		return answer(call, vu_stack_remove(call, &place, flags & AT_REMOVEDIR));
	return unlinkat(place.parent, place.name, (int)flags) < 0 ? -errno : vu_answer(call, 0);
}

/* A copy of what a tree below has, which to the caller stays the same file: twins.c. Not where it sees that one as well. */
static int take_to_link(struct vu_call *call, struct vu_place *old)
{
	struct vu_stack *stack = old->mount->stack;
	struct stat below;
	if (!stack || old->magic || stack->handles.fd >= 0 || fstat(old->fd, &below) < 0)
		return vu_stack_take(call, old, 0);
	bool above = vu_stack_on_top(old);
	int error = vu_stack_take(call, old, 0);
	return error < 0 || above || !vu_stack_on_top(old) ? error : vu_twins_add(call->session, old->fd, &below);
}

/* What filename_create finds wrong with a name, before anybody compares mounts or looks at what is to be linked. */
static int may_link_as(struct vu_call *call, const struct vu_place *new)
{
	struct stat st;
	char number[24];
	if (new->nameless) { /* from a directory that has been removed, or none at all */
		VU_CLOSE int start =
			vu_target_open(call, vu_descriptor_name((int)vu_argument(call, call->row->dirfd2), number));
		if (start < 0 || fstat(start, &st) < 0)
			return start < 0 ? start : -errno;
		return S_ISDIR(st.st_mode) ? -ENOENT : -ENOTDIR;
	}
	if (is_special(new->name) || exists(new))
		return -EEXIST;
	if (fstat(new->parent, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return new->trailing || !st.st_nlink ? -ENOENT : 0;
}

/* What begins at a descriptor that has no path: a pipe, a removed directory. */
static int open_held(struct vu_call *call, unsigned flags, struct vu_place *old)
{
	char name[24];
	const char *rest = call->work->path[0];
	int follow = flags & AT_SYMLINK_FOLLOW ? 0 : O_NOFOLLOW;
	old->fd = vu_target_open(call, vu_descriptor_name((int)vu_argument(call, call->row->dirfd), name));
	if (old->fd < 0 || !*rest)
		return old->fd < 0 ? old->fd : 0;
	VU_CLOSE int start = old->fd;
	old->fd = vu_result(openat(start, rest, O_PATH | O_CLOEXEC | follow));
	return old->fd < 0 ? old->fd : 0;
}

int vu_op_link(struct vu_call *call)
{
	VU_PLACE old;
	VU_PLACE new = { .parent = -1, .fd = -1 };
	unsigned flags = (unsigned)vu_argument(call, call->row->flags);
	int error = vu_walk_argument(
		call, (flags & AT_SYMLINK_FOLLOW ? VU_FOLLOW : 0) | (flags & AT_EMPTY_PATH ? VU_EMPTY_OK : 0), &old);
	bool bad = flags & ~(unsigned)(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH);
	if (error < 0)
		return vu_ours(call, error) && bad ? -EINVAL : error;
	if ((error = vu_walk_second(call, VU_WANT_PARENT, &new)) < 0) {
		call->native_error = call->native_error && vu_may_continue(call, &old, false);
		return vu_ours(call, error) && bad ? -EINVAL : error;
	}
	if (vu_may_continue(call, &old, old.readonly) && vu_may_continue(call, &new, true) && !new.mountpoint)
		return VU_CONTINUE;
	if (bad)
		return -EINVAL;
	if (old.readonly && !new.readonly)
		return -EXDEV; /* by that name it could be written */
	if (old.covered)
		return call->session->enforce ? -EPERM : VU_CONTINUE;
	if (old.held && old.fd < 0 && (error = open_held(call, flags, &old)) < 0)
		return error;
	if ((error = may_create(&new)) < 0)
		return error;
	struct vu_room room;
	struct stat st;
	char path[32];
	if ((old.mount->stack || new.mount->stack) && (error = may_link_as(call, &new)) < 0)
		return error;
	if ((old.mount->stack || new.mount->stack) && old.mount != new.mount && !old.magic && !old.nameless)
		return -EXDEV;
	if (is_wired(&new, false) || vu_is_wired(&old))
		return vu_wired_link(call, &old, &new);
	if (old.mount->stack && !old.magic && !fstat(old.fd, &st) && S_ISDIR(st.st_mode)) {
		error = vu_room_open(call, &new, &room); /* vfs_link asks first whether there may be a name */
		return error < 0 ? error : vu_room_close(call, &new, &room, -EPERM);
	}
	if ((error = old.magic ? 0 : vu_rights_link(call, old.mount->stack, old.fd)) < 0 ||
	    (error = take_to_link(call, &old)) < 0 || (error = vu_room_open(call, &new, &room)) < 0)
		return error;
	error = vu_result(linkat(AT_FDCWD, vu_fd_path(old.fd, path), room.dir, room.name, AT_SYMLINK_FOLLOW));
	return answer(call, vu_room_close(call, &new, &room, error));
}

int vu_op_rename(struct vu_call *call)
{
	VU_PLACE old;
	VU_PLACE new = { .parent = -1, .fd = -1 };
	unsigned flags = (unsigned)vu_argument(call, call->row->flags);
	static const unsigned noreplace = 1, exchange = 2, whiteout = 4;
	bool bad =
		flags & ~(noreplace | exchange | whiteout) || ((flags & (noreplace | whiteout)) && (flags & exchange));
	int error = vu_walk_argument(call, VU_WANT_PARENT, &old);
	if (error < 0)
		return vu_ours(call, error) && bad ? -EINVAL : error;
	if ((error = vu_walk_second(call, VU_WANT_PARENT, &new)) < 0) {
		call->native_error = call->native_error && vu_may_continue(call, &old, false);
		return vu_ours(call, error) && bad ? -EINVAL : error;
	}
	if (vu_may_continue(call, &old, true) && vu_may_continue(call, &new, true) && !old.node && !new.node)
		return VU_CONTINUE;
	if (bad)
		return -EINVAL;
	if ((vu_is_wired(&old) || vu_is_wired(&new)) && old.mount != new.mount && !old.mountpoint && !new.mountpoint)
		return -EXDEV; /* before anything is looked at: do_renameat2 */
	if (new.hidden)
		return -EACCES;
	if ((error = may_remove(&old)) < 0)
		return error;
	if (new.mountpoint || new.node)
		return -EBUSY;
	if (new.readonly)
		return -EROFS;
	if ((vu_is_wired(&old) || vu_is_wired(&new)) && !is_special(old.name) && !is_special(new.name)) {
		struct stat st;
		bool directory = !fstatat(old.parent, old.name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode);
		if (directory || (!old.trailing && !new.trailing))
			return vu_wired_rename(call, &old, &new, flags);
	}
	if ((old.mount->stack || new.mount->stack) && !is_special(old.name) && !is_special(new.name))
		return answer(call, vu_stack_rename(call, &old, &new, flags));
	if (syscall(SYS_renameat2, old.parent, old.name, new.parent, new.name, flags) < 0)
		return -errno;
	return vu_answer(call, 0);
}
