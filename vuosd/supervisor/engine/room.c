/*
 * Where a new name is made. Over a whiteout it is made in the work directory and moved, so that at no moment what the
 * whiteout covers shows; a directory then becomes opaque first.
 */
#include "stack.h"

#include <stdio.h>
#include <sys/syscall.h>

#include "paths.h"
#include "walk.h"

enum { EXCHANGE = 2 };

static bool is_plain(const char *name)
{
	return strcmp(name, "/") && strcmp(name, ".") && strcmp(name, "..") && strcmp(name, "./") &&
	       strcmp(name, "../");
}

/* Of a minimal stack: the bottom's directory, if it may be written and nothing in the layer has the name. */
static int bottom_of(struct vu_stack *stack, const char *path, const char *above)
{
	unsigned lowest = stack->count - 1;
	struct vu_seen seen = { .lowest = (int8_t)lowest }, now;
	VU_CLOSE int dir = vu_stack_open(stack, above, O_DIRECTORY, &now);
	if (dir < 0 || !vu_stack_is_bottom(stack, &now))
		return -ENOENT;
	struct vu_way way;
	vu_dirs_find(stack->trees[0].dirs, path, &way);
	char prefix[VU_TEXT];
	memcpy(prefix, path, way.stop);
	prefix[way.stop] = 0;
	struct stat st;
	if (!fstatat(stack->trees[0].fd, prefix, &st, AT_SYMLINK_NOFOLLOW) && way.stop == strlen(path))
		return -EEXIST;
	VU_CLOSE int fd = vu_stack_open_lowest(stack, above, &seen);
	if (fd < 0 || syscall(SYS_faccessat2, fd, "", W_OK | X_OK, AT_EMPTY_PATH | AT_EACCESS) < 0)
		return -EACCES;
	int result = fd;
	fd = -1;
	return result;
}

bool vu_room_stays(const struct vu_call *call, const struct vu_place *place)
{
	return place->top && place->moves == atomic_load(&call->session->moves);
}

/* The place has a whiteout: what is made comes from the work directory. */
static void cover_up(struct vu_stack *stack, const struct vu_place *place, struct vu_room *room)
{
	room->covered = true;
	room->dir = stack->work;
	vu_stack_temporary(stack, room->temporary);
	if (strchr(place->name, '/'))
		strcat(room->temporary, "/");
	room->name = room->temporary;
}

static int find_room(struct vu_call *call, struct vu_place *place, struct vu_room *room)
{
	struct vu_stack *stack = place->mount->stack;
	const char *path = vu_stack_rest(place);
	char above[VU_TEXT];
	vu_split(path, above);
	if (stack->minimal && (room->own = bottom_of(stack, path, above)) >= 0) {
		room->dir = room->own;
		room->bottom = true;
		return 0;
	}
	int error = stack->minimal ? 0 : vu_rights_ask(stack, place->parent, W_OK | X_OK);
	if (error < 0 || (error = vu_quota_check(call, stack)) < 0)
		return error;
	if (vu_room_stays(call, place)) {
		room->dir = place->parent;
		if (place->seen.covered)
			cover_up(stack, place, room);
		return 0;
	}
	vu_own_rights(call, true);
	if (stack->layered)
		room->own = vu_stack_take_directory(call, stack, above);
	else
		room->own = *above ? vu_walk_open_below(stack->trees[0].fd, above, O_DIRECTORY | O_NOFOLLOW)
				   : vu_result(fcntl(stack->trees[0].fd, F_DUPFD_CLOEXEC, 0));
	vu_own_rights(call, false);
	if (room->own < 0)
		return room->own == -ENOENT && !stack->layered ? -EROFS : room->own;
	room->dir = room->own;
	/* As it is in the topmost tree from now on: a default ACL is looked for there. */
	vu_close(&place->parent);
	if ((place->parent = fcntl(room->own, F_DUPFD_CLOEXEC, 0)) < 0)
		return -errno;
	return 0; /* the directory has just been made, or the name would be in it */
}

int vu_room_open(struct vu_call *call, struct vu_place *place, struct vu_room *room)
{
	*room = (struct vu_room){ .dir = place->parent, .name = place->name, .own = -1 };
	struct vu_stack *stack = place->mount->stack;
	if (!stack || place->magic || !is_plain(place->name))
		return 0;
	if (place->fd >= 0)
		return -EEXIST;
	pthread_mutex_lock(&stack->lock);
	room->locked = true;
	int error = find_room(call, place, room);
	return error < 0 ? vu_room_close(call, place, room, error) : 0;
}

/* Seen before the lock was taken: another thread may have been quicker. */
static bool still_covered(int parent, const char *name)
{
	struct stat st;
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	VU_CLOSE int fd = S_ISREG(st.st_mode) ? vu_walk_open(parent, name, O_NOFOLLOW) : -1;
	return vu_stack_is_whiteout(fd, &st, fd >= 0);
}

/* What is made in the work directory has nothing of the directory that it goes to: fs/inode.c inode_init_owner. */
static int hand_on(const struct vu_place *place, int dir, const char *made)
{
	struct stat above, st;
	char path[32];
	if (fstat(place->parent, &above) < 0)
		return -errno;
	if (!(above.st_mode & S_ISGID))
		return 0;
	VU_CLOSE int fd = vu_walk_open(dir, made, O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fd < 0 ? fd : -errno;
	if (st.st_gid != above.st_gid && fchownat(fd, "", (uid_t)-1, above.st_gid, AT_EMPTY_PATH) < 0)
		return -errno;
	mode_t mode = (st.st_mode & 07777) | (S_ISDIR(st.st_mode) ? S_ISGID : 0);
	return S_ISLNK(st.st_mode) || !(mode & (S_ISUID | S_ISGID)) ? 0 : vu_result(chmod(vu_fd_path(fd, path), mode));
}

/* Of the directory, whose group may be kept and not real. */
static int inherit(struct vu_stack *stack, const struct vu_place *place, const char *name)
{
	if (!stack->has_owners)
		return 0;
	VU_CLOSE int fd = vu_walk_open(place->parent, name, O_NOFOLLOW);
	return fd < 0 ? 0 : vu_owner_inherit(stack, place->parent, fd);
}

static int settle(struct vu_call *call, struct vu_place *place, struct vu_room *room)
{
	struct vu_stack *stack = place->mount->stack;
	size_t length = strcspn(place->name, "/");
	char name[NAME_MAX + 8];
	memcpy(name, place->name, length);
	name[length] = 0;
	room->temporary[strcspn(room->temporary, "/")] = 0;
	const char *made = room->covered ? room->temporary : name;
	bool directory = call->row->op == VU_OP_MKDIR;
	if (room->covered && directory) {
		VU_CLOSE int fd = vu_walk_open(room->dir, made, O_DIRECTORY | O_NOFOLLOW);
		int error = fd < 0 ? fd : vu_stack_set_opaque(fd);
		if (error < 0)
			return error;
	}
	if (room->covered && !still_covered(place->parent, name))
		return -EEXIST;
	if (room->covered) {
		vu_own_rights(call, true); /* the caller may have no right to the work directory */
		int result = call->row->op == VU_OP_LINK ? 0 : hand_on(place, room->dir, made);
		if (!result)
			result = vu_result(
				syscall(SYS_renameat2, room->dir, made, place->parent, name, directory ? EXCHANGE : 0));
		if (!result && directory)
			unlinkat(room->dir, made, 0);
		vu_own_rights(call, false);
		if (result < 0)
			return result;
	}
	if (directory && stack->layered && !room->bottom) {
		struct vu_dir *dir = vu_dirs_add(stack->trees[0].dirs, vu_stack_rest(place));
		if (!dir)
			return -ENOMEM;
		dir->opaque = room->covered;
		dir->alone = true;
		dir->counted = true;
	}
	return room->bottom ? 0 : inherit(stack, place, name);
}

int vu_room_close(struct vu_call *call, struct vu_place *place, struct vu_room *room, int result)
{
	if (result >= 0 && room->locked) {
		int error = settle(call, place, room);
		result = error < 0 ? error : result;
	}
	if (result < 0 && room->covered) {
		room->temporary[strcspn(room->temporary, "/")] = 0;
		unlinkat(room->dir, room->temporary, 0);
		unlinkat(room->dir, room->temporary, AT_REMOVEDIR);
	}
	if (room->locked) {
		vu_facts_changed(place->mount->stack, vu_stack_rest(place));
		pthread_mutex_unlock(&place->mount->stack->lock);
	}
	room->locked = false;
	vu_close(&room->own);
	return result;
}
