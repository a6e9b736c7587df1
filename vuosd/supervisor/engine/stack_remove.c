/*
 * Names that go away: a whiteout takes the place of what a tree below still has. The checks are in the order of
 * do_unlinkat and do_rmdir (fs/namei.c).
 */
#include "stack.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "paths.h"
#include "stack_names.h"
#include "walk.h"
#include "wired.h"

/* One whiteout has all the names, as in ovl_whiteout() (fs/overlayfs/dir.c): an inode for each costs many times as much. */
static int link_whiteout(struct vu_stack *stack, int dir, const char *name)
{
	static const char shared[] = "whiteout";
	if (!linkat(stack->work, shared, dir, name, 0))
		return 0;
	if (errno != ENOENT && errno != EMLINK)
		return -errno;
	unlinkat(stack->work, shared, 0);
	if (mknodat(stack->work, shared, S_IFCHR, makedev(0, 0)) < 0)
		return -errno;
	return linkat(stack->work, shared, dir, name, 0) < 0 ? -errno : 0;
}

int vu_stack_make_whiteout(struct vu_stack *stack, int parent, char temporary[32])
{
	char path[32];
	vu_stack_temporary(stack, temporary);
	if (!stack->attribute_whiteouts && !link_whiteout(stack, stack->work, temporary))
		return 0;
	if (!stack->attribute_whiteouts)
		return mknodat(stack->work, temporary, S_IFCHR, makedev(0, 0)) < 0 ? -errno : 0;
	VU_CLOSE int fd = openat(stack->work, temporary, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0 || fsetxattr(fd, "user.overlay.whiteout", "y", 1, 0) < 0)
		return -errno;
	/* Where a directory has such files is said by itself, unless nothing shows through it anyway. */
	if (getxattr(vu_fd_path(parent, path), "user.overlay.opaque", NULL, 0) < 0 &&
	    setxattr(path, "user.overlay.opaque", "x", 1, 0) < 0)
		return -errno;
	return 0;
}

void vu_plain_name(const struct vu_place *place, char name[NAME_MAX + 8])
{
	size_t length = strcspn(place->name, "/");
	memcpy(name, place->name, length);
	name[length] = 0;
}

int vu_shows_below(struct vu_stack *stack, const char *path, struct stat *st)
{
	struct vu_seen seen;
	if (!stack->layered)
		return 0;
	VU_CLOSE int fd = vu_stack_open_below(stack, 1, path, &seen);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 0 : fd;
	return fstat(fd, st) < 0 ? -errno : 1;
}

int vu_check_empty(struct vu_stack *stack, const char *path, const struct vu_seen *seen, bool clear)
{
	char below[VU_TEXT];
	size_t length = strlen(path);
	int error = 0;
	for (int8_t tree = seen->tree; !error && tree <= seen->lowest; tree++) {
		struct vu_seen at = { .lowest = tree }, found;
		VU_CLOSE int fd = vu_stack_open_to_list(stack, path, &at);
		struct stat before;
		if (fd == -VU_LATER)
			return fd;
		if (fd < 0 || fstat(fd, &before) < 0)
			continue;
		bool opened = !tree && stack->layered && (before.st_mode & S_IRWXU) != S_IRWXU;
		if (opened)
			vu_stack_open_up(fd, &before);
		int own = vu_stack_read_directory(fd);
		DIR *stream = own < 0 ? NULL : fdopendir(own);
		error = stream ? 0 : -errno;
		for (struct dirent *entry; !error && (entry = readdir(stream));) {
			if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
				continue;
			if (length + strlen(entry->d_name) + 2 > sizeof below)
				error = -ENAMETOOLONG;
			else
				snprintf(below, sizeof below, "%s%s%s", path, length ? "/" : "", entry->d_name);
			if (!error && clear && tree == 0) {
				error = unlinkat(own, entry->d_name, 0) < 0 ? -errno : 0;
				vu_facts_changed(stack, below);
			} else if (!error && !clear) {
				int object = vu_stack_open(stack, below, O_NOFOLLOW, &found);
				if (object >= 0)
					close(object);
				error = object >= 0 || object == -EACCES ? -ENOTEMPTY : object == -ENOENT ? 0 : object;
			}
		}
		if (stream)
			closedir(stream);
		if (opened)
			vu_stack_shut(fd, &before);
	}
	return error;
}

int vu_cover(struct vu_stack *stack, int parent, const char *name, bool present, bool directory)
{
	char temporary[32];
	int error = present || stack->attribute_whiteouts ? -EPERM : link_whiteout(stack, parent, name);
	if (!error || error == -EEXIST)
		return error;
	if ((error = vu_stack_make_whiteout(stack, parent, temporary)) < 0)
		return error;
	unsigned flags = !present ? RENAME_NOREPLACE_ : directory ? RENAME_EXCHANGE_ : 0;
	error = vu_result(syscall(SYS_renameat2, stack->work, temporary, parent, name, flags));
	if (error < 0)
		unlinkat(stack->work, temporary, 0);
	else if (present && directory)
		unlinkat(stack->work, temporary, AT_REMOVEDIR);
	return error;
}

/* *covered: a whiteout is there now. */
static int remove_locked(struct vu_call *call, struct vu_place *place, const struct stat *st, bool *covered)
{
	struct vu_stack *stack = place->mount->stack;
	const char *path = vu_stack_rest(place);
	char above[VU_TEXT], name[NAME_MAX + 8];
	bool directory = S_ISDIR(st->st_mode), present = place->seen.tree == 0;
	struct stat below;
	int error = directory ? vu_check_empty(stack, path, &place->seen, false) : 0;
	if (error < 0)
		return error;
	vu_plain_name(place, name);
	vu_split(path, above);
	if (!stack->layered)
		return !present ? -EROFS : vu_result(unlinkat(place->parent, name, directory ? AT_REMOVEDIR : 0));
	if (stack->minimal && !present && vu_stack_is_bottom(stack, &place->seen)) {
		struct vu_seen at = { .lowest = (int8_t)(stack->count - 1) };
		VU_CLOSE int bottom = vu_stack_open_lowest(stack, above, &at);
		if (bottom >= 0 && !unlinkat(bottom, name, directory ? AT_REMOVEDIR : 0))
			return 0;
	}
	/* What a tree below shows is what was found. */
	int shows = present ? vu_shows_below(stack, path, &below) : 1;
	if (shows < 0)
		return shows;
	if (shows && (error = vu_stack_note_origin(stack, path, present ? &below : st)) < 0)
		return error;
	VU_CLOSE int taken = vu_room_stays(call, place) ? -1 : vu_stack_take_directory(call, stack, above);
	int parent = vu_room_stays(call, place) ? place->parent : taken;
	if (parent < 0)
		return parent;
	if (present && directory && (error = vu_check_empty(stack, path, &(struct vu_seen){}, true)) < 0)
		return error;
	if (directory)
		atomic_fetch_add(&call->session->moves, 1);
	if (shows)
		error = vu_cover(stack, parent, name, present, directory);
	else
		error = vu_result(unlinkat(parent, name, directory ? AT_REMOVEDIR : 0));
	if (!error && directory)
		vu_dirs_remove(stack->trees[0].dirs, path);
	*covered = !error && shows;
	if (*covered && !present)
		error = vu_links_lose(stack, st);
	return error == -EEXIST && !present ? -EAGAIN /* another thread was quicker */ : error;
}

int vu_stack_remove(struct vu_call *call, struct vu_place *place, bool directory)
{
	struct vu_stack *stack = place->mount->stack;
	struct stat st;
	if (place->fd < 0)
		return -ENOENT;
	if (fstat(place->fd, &st) < 0)
		return -errno;
	int error = stack->minimal ? 0 : vu_rights_delete(call, stack, place->parent, place->fd);
	if (error < 0)
		return error;
	if (directory != S_ISDIR(st.st_mode))
		return directory ? -ENOTDIR : -EISDIR;
	if (!directory && place->trailing)
		return -ENOTDIR;
	pthread_mutex_lock(&stack->lock);
	vu_own_rights(call, true);
	bool covered = false;
	error = remove_locked(call, place, &st, &covered);
	vu_facts_changed(stack, vu_stack_rest(place));
	if (covered)
		vu_facts_covered(stack, vu_stack_rest(place));
	vu_quota_freed(stack);
	vu_own_rights(call, false);
	pthread_mutex_unlock(&stack->lock);
	return error;
}
