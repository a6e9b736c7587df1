/*
 * An object of a tree below, and the directories that lead to it, into the topmost tree. Whatever happens on the way, the
 * layer shows what it showed before: a copy gets its name when it is complete.
 */
#include "stack.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "paths.h"
#include "walk.h"

enum { NOREPLACE = 1, LARGE = 1 << 20 /* bytes: nobody should wait for that */ };

void vu_stack_temporary(struct vu_stack *stack, char name[32])
{
	snprintf(name, 32, "new-%u", ++stack->last_temporary);
}

int vu_stack_note_origin(struct vu_stack *stack, const char *path, const struct stat *st)
{
	char record[VU_TEXT + 160];
	if (stack->origins < 0 || vu_facts_noted(stack, path)) /* the first record counts */
		return 0;
	int n = snprintf(record, sizeof record, "%llu %llu %o %llu %lld %lld %s", (unsigned long long)st->st_dev,
			 (unsigned long long)st->st_ino, st->st_mode, (unsigned long long)st->st_size,
			 (long long)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
			 (long long)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec, path);
	ssize_t written = write(stack->origins, record, (size_t)n + 1);
	if (written != n + 1)
		return written < 0 ? -errno : -ENOSPC;
	vu_facts_note(stack, path);
	return 0;
}

int vu_stack_set_opaque(int fd)
{
	char path[32];
	struct stat st;
	if (!setxattr(vu_fd_path(fd, path), "user.overlay.opaque", "y", 1, 0))
		return 0;
	if (errno != EACCES)
		return -errno;
	if (fstat(fd, &st) < 0 || st.st_mode & S_IWUSR || chmod(path, (st.st_mode & 07777) | S_IWUSR) < 0)
		return -EACCES; /* but a directory of ours that may not be written can be for a moment */
	int error = vu_result(setxattr(path, "user.overlay.opaque", "y", 1, 0));
	return chmod(path, st.st_mode & 07777) < 0 && !error ? -errno : error;
}

/*
 * An ordinary user may change what lies in a directory that he may not write to; the copy of it needs a name there. And he may
 * rename one that he may not search. So his directory is opened for that moment, until vu_stack_shut().
 */
static bool is_closed(const struct stat *dir)
{
	return (dir->st_mode & S_IRWXU) != S_IRWXU && geteuid() && dir->st_uid == geteuid();
}

void vu_stack_open_up(int dir, const struct stat *before)
{
	char path[32];
	if (is_closed(before))
		chmod(vu_fd_path(dir, path), (before->st_mode & 07777) | S_IRWXU);
}

void vu_stack_shut(int dir, const struct stat *before)
{
	char closed[32];
	if (is_closed(before))
		chmod(vu_fd_path(dir, closed), before->st_mode & 07777);
	struct timespec times[2] = { before->st_atim, before->st_mtim };
	syscall(SYS_utimensat, dir, "", times, AT_EMPTY_PATH);
}

static int open_top(struct vu_stack *stack, const char *path)
{
	return *path ? vu_walk_open_below(stack->trees[0].fd, path, O_NOFOLLOW)
		     : vu_result(fcntl(stack->trees[0].fd, F_DUPFD_CLOEXEC, 0));
}

/* What could not be given, the owner, is kept beside: also what a layer below has kept. */
static int copy_attributes(struct vu_call *call, struct vu_stack *stack, int from, const struct stat *st, int to,
			   const struct vu_fetched *fetched)
{
	struct stat told = *st;
	int lost = vu_copy_attributes(call->work, from, st, to, fetched->attributes);
	bool kept = stack->has_owners && vu_owner_read(from, &told);
	if (lost < 0 || (!lost && !kept) || S_ISLNK(st->st_mode) || !vu_owner_may_keep(call, stack))
		return lost < 0 ? lost : 0;
	int error = vu_owner_keep(stack, from, &told, to);
	return error == -EPERM ? 0 : error;
}

/* An ordinary user may give a directory another place only while it is writable: its ".." changes. */
static int place_directory(struct vu_stack *stack, const char *temporary, int fd, int parent, const char *name)
{
	char path[32];
	struct stat st;
	if (!syscall(SYS_renameat2, stack->work, temporary, parent, name, NOREPLACE))
		return 0;
	if (errno != EACCES)
		return -errno;
	if (fstat(fd, &st) < 0 || st.st_mode & S_IWUSR)
		return -EACCES;
	if (chmod(vu_fd_path(fd, path), (st.st_mode & 07777) | S_IWUSR) < 0)
		return -errno;
	int error = vu_result(syscall(SYS_renameat2, stack->work, temporary, parent, name, NOREPLACE));
	return chmod(path, st.st_mode & 07777) < 0 && !error ? -errno : error;
}

static int make_directory(struct vu_call *call, struct vu_stack *stack, const char *path, int parent, const char *name)
{
	struct vu_seen seen;
	struct stat st, before;
	char temporary[32];
	VU_CLOSE int below = vu_stack_open(stack, path, O_DIRECTORY | O_NOFOLLOW, &seen);
	if (below < 0)
		return below;
	VU_FETCHED fetched = {};
	int missing = vu_stack_fetch(call, stack, path, &seen, false, &fetched);
	if (missing < 0)
		return missing;
	if (fstat(below, &st) < 0 || fstat(parent, &before) < 0)
		return -errno;
	vu_stack_temporary(stack, temporary);
	if (mkdirat(stack->work, temporary, 0700) < 0)
		return -errno;
	VU_CLOSE int fd = vu_walk_open(stack->work, temporary, O_DIRECTORY | O_NOFOLLOW);
	int error = fd < 0 ? fd : copy_attributes(call, stack, below, &st, fd, &fetched);
	if (!error)
		error = vu_stack_note_origin(stack, path, &st);
	vu_stack_open_up(parent, &before);
	if (!error)
		error = place_directory(stack, temporary, fd, parent, name);
	vu_stack_shut(parent, &before);
	vu_facts_changed(stack, path);
	struct vu_dir *dir = error < 0 ? NULL : vu_dirs_add(stack->trees[0].dirs, path);
	if (dir) {
		dir->counted = true;
		dir->closed = stack->has_owners && vu_owner_closes(fd);
	} else if (!error) {
		error = -ENOMEM;
	}
	if (error < 0) {
		unlinkat(stack->work, temporary, AT_REMOVEDIR);
		return error;
	}
	int result = fd;
	fd = -1;
	return result;
}

int vu_stack_take_directory(struct vu_call *call, struct vu_stack *stack, const char *path)
{
	struct vu_way way;
	char above[VU_TEXT];
	if (vu_dirs_find(stack->trees[0].dirs, path, &way))
		return open_top(stack, path);
	size_t end = way.known;
	memcpy(above, path, end);
	above[end] = 0;
	int parent = open_top(stack, above);
	while (parent >= 0 && path[end]) {
		size_t start = end + strspn(path + end, "/");
		end = start + strcspn(path + start, "/");
		memcpy(above, path, end);
		above[end] = 0;
		int child = make_directory(call, stack, above, parent, above + start);
		close(parent);
		parent = child;
	}
	return parent;
}

/* A regular file: without a name until it is complete. The lock is not held. */
static int copy_file(struct vu_call *call, struct vu_stack *stack, int fd, const struct stat *st, unsigned how,
		     const struct vu_fetched *fetched)
{
	char link[32];
	int error = vu_quota_charge(call, stack, how & VU_TAKE_EMPTY ? 0 : (uint64_t)st->st_blocks * 512);
	if (error < 0)
		return error;
	VU_CLOSE int from = how & VU_TAKE_EMPTY || !st->st_size ? -1 : vu_reopen(call->session, fd, O_RDONLY);
	if (from < 0 && st->st_size && !(how & VU_TAKE_EMPTY))
		return from;
	VU_CLOSE int to = open(vu_fd_path(stack->work, link), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (to < 0)
		return -errno;
	if (from >= 0 && st->st_size > LARGE)
		vu_notify_step_aside(call);
	error = from < 0 ? 0 : vu_copy_data(call->work, from, to, st->st_size);
	if (!error)
		error = vu_links_mark(to, st);
	if (!error)
		error = copy_attributes(call, stack, fd, st, to, fetched);
	if (!error && stack->sync && fsync(to) < 0)
		error = -errno;
	if (error < 0)
		return error;
	int result = to;
	to = -1;
	return result;
}

static int name_file(struct vu_stack *stack, const char *path, int parent, const char *name, int file,
		     const struct stat *st)
{
	char link[32];
	struct stat before;
	if (fstat(parent, &before) < 0)
		return -errno;
	int error = vu_stack_note_origin(stack, path, st);
	if (error < 0)
		return error;
	vu_stack_open_up(parent, &before);
	if (vu_links_knows(stack, st))
		error = vu_links_join(stack, st, parent, name);
	else
		error = vu_result(linkat(AT_FDCWD, vu_fd_path(file, link), parent, name, AT_SYMLINK_FOLLOW));
	vu_stack_shut(parent, &before);
	if (error == -EEXIST)
		return 0; /* by another thread, a moment ago */
	if (error < 0)
		return error;
	return vu_links_add(stack, st, path);
}

static int copy_special(struct vu_call *call, struct vu_stack *stack, const char *path, int parent, const char *name,
			int fd, const struct stat *st, const struct vu_fetched *fetched)
{
	char temporary[32];
	struct stat before;
	char *text = call->work->link;
	ssize_t n = 0;
	if (fstat(parent, &before) < 0)
		return -errno;
	if (fetched->mount && S_ISCHR(st->st_mode) && !st->st_rdev)
		return -EPERM; /* an anchor that stands for another device; as a copy it would be a whiteout */
	if (S_ISLNK(st->st_mode) && (n = readlinkat(fd, "", text, PATH_MAX)) < 0)
		return -errno;
	text[n] = 0;
	vu_stack_temporary(stack, temporary);
	if ((S_ISLNK(st->st_mode) ? symlinkat(text, stack->work, temporary)
				  : mknodat(stack->work, temporary, st->st_mode, st->st_rdev)) < 0)
		return -errno;
	VU_CLOSE int to = vu_walk_open(stack->work, temporary, O_NOFOLLOW);
	int error = to < 0 ? to : copy_attributes(call, stack, fd, st, to, fetched);
	if (!error)
		error = vu_stack_note_origin(stack, path, st);
	vu_stack_open_up(parent, &before);
	if (!error && syscall(SYS_renameat2, stack->work, temporary, parent, name, NOREPLACE) < 0)
		error = -errno;
	vu_stack_shut(parent, &before);
	if (error < 0)
		unlinkat(stack->work, temporary, 0);
	return error == -EEXIST ? 0 : error < 0 ? error : vu_links_add(stack, st, path);
}

static int copy_up(struct vu_call *call, struct vu_stack *stack, const char *path, int fd, const struct vu_seen *seen,
		   unsigned how)
{
	char above[VU_TEXT];
	struct stat st;
	const char *name = vu_split(path, above);
	if (fstat(fd, &st) < 0)
		return -errno;
	VU_FETCHED fetched = {};
	bool data = S_ISREG(st.st_mode) && st.st_size && !(how & VU_TAKE_EMPTY);
	int missing = S_ISDIR(st.st_mode) ? 0 : vu_stack_fetch(call, stack, path, seen, data, &fetched);
	if (missing < 0)
		return missing;
	if (fetched.mount && fstat(fd, &st) < 0) /* how many blocks it has is known now */
		return -errno;
	pthread_mutex_lock(&stack->lock);
	VU_CLOSE int parent = vu_stack_take_directory(call, stack, S_ISDIR(st.st_mode) ? path : above);
	int error = parent < 0 ? parent : 0;
	if (S_ISDIR(st.st_mode) || error < 0) {
		pthread_mutex_unlock(&stack->lock);
		return error;
	}
	bool joins = vu_links_knows(stack, &st);
	if (S_ISREG(st.st_mode) || joins) {
		pthread_mutex_unlock(&stack->lock);
		VU_CLOSE int file = joins ? -1 : copy_file(call, stack, fd, &st, how, &fetched);
		if (!joins && file < 0)
			return file;
		pthread_mutex_lock(&stack->lock);
		error = name_file(stack, path, parent, name, file, &st);
	} else {
		error = copy_special(call, stack, path, parent, name, fd, &st, &fetched);
	}
	vu_facts_changed(stack, path);
	pthread_mutex_unlock(&stack->lock);
	return error;
}

int vu_stack_take_found(struct vu_call *call, struct vu_stack *stack, const char *path, int fd,
			const struct vu_seen *seen)
{
	if (seen->tree == 0)
		return 0;
	vu_own_rights(call, true);
	int error = copy_up(call, stack, path, fd, seen, 0);
	vu_own_rights(call, false);
	return error;
}

int vu_stack_take(struct vu_call *call, struct vu_place *place, unsigned how)
{
	struct vu_stack *stack = place->mount->stack;
	if (!stack || place->magic)
		return 0;
	const char *path = vu_stack_rest(place);
	if (place->fd < 0 && (place->fd = vu_stack_object_of(call, place)) < 0)
		return place->fd;
	if (!stack->writable)
		return -EROFS;
	if (place->seen.tree == 0)
		return 0;
	if (!stack->layered)
		return -EROFS;
	if (stack->minimal && vu_stack_is_bottom(stack, &place->seen) &&
	    !syscall(SYS_faccessat2, place->fd, "", W_OK, AT_EMPTY_PATH | AT_EACCESS))
		return 0;
	vu_own_rights(call, true);
	int error = copy_up(call, stack, path, place->fd, &place->seen, how),
	    fd = error < 0 ? error : open_top(stack, path);
	vu_own_rights(call, false);
	if (fd < 0)
		return fd;
	vu_close(&place->fd);
	place->fd = fd;
	place->seen.tree = 0;
	if (!place->merged)
		place->seen.lowest = 0;
	place->native = false;
	return 0;
}

int vu_stack_open_joined(struct vu_call *call, struct vu_stack *stack, const char *path, uint64_t flags,
			 struct vu_seen *seen)
{
	struct stat st;
	int fd = vu_stack_open(stack, path, flags, seen);
	if (fd < 0 || !stack->has_links || seen->tree == 0 || fstat(fd, &st) < 0 || S_ISDIR(st.st_mode) ||
	    st.st_nlink < 2)
		return fd;
	pthread_mutex_lock(&stack->lock);
	bool joins = vu_links_knows(stack, &st);
	pthread_mutex_unlock(&stack->lock);
	if (!joins)
		return fd;
	vu_own_rights(call, true);
	int error = copy_up(call, stack, path, fd, seen, 0);
	vu_own_rights(call, false);
	close(fd);
	return error < 0 ? error : vu_stack_open(stack, path, flags, seen);
}

/* One name of a directory that is being taken whole. `path` has room for VU_TEXT: what is below it is appended in place. */
static int take_tree(struct vu_call *call, struct vu_stack *stack, char *path);

static int take_entry(struct vu_call *call, struct vu_stack *stack, char *path)
{
	struct vu_seen seen;
	struct stat st;
	VU_CLOSE int fd = vu_stack_open(stack, path, O_NOFOLLOW, &seen);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd; /* a whiteout */
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return take_tree(call, stack, path);
	return seen.tree == 0 ? 0 : copy_up(call, stack, path, fd, &seen, 0);
}

static int take_entries(struct vu_call *call, struct vu_stack *stack, char *path, unsigned tree)
{
	size_t length = strlen(path);
	struct vu_seen seen = { .lowest = (int8_t)tree };
	int fd = vu_stack_open_to_list(stack, path, &seen), error = 0;
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR ? 0 : fd;
	int readable = vu_stack_read_directory(fd);
	close(fd);
	DIR *stream = readable < 0 ? NULL : fdopendir(readable);
	if (!stream)
		return -errno;
	for (struct dirent *entry; !error && (entry = readdir(stream));) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (length + strlen(entry->d_name) + 2 > VU_TEXT) {
			error = -ENAMETOOLONG;
			break;
		}
		snprintf(path + length, VU_TEXT - length, "%s%s", length ? "/" : "", entry->d_name);
		error = take_entry(call, stack, path);
		path[length] = 0;
	}
	closedir(stream);
	return error;
}

static int take_tree(struct vu_call *call, struct vu_stack *stack, char *path)
{
	VU_CLOSE int fd = vu_stack_take_directory(call, stack, path);
	int error = fd < 0 ? fd : 0;
	struct vu_way way;
	struct vu_dir *dir = error < 0 ? NULL : vu_dirs_find(stack->trees[0].dirs, path, &way);
	struct stat before;
	if (!dir || fstat(fd, &before) < 0)
		return error < 0 ? error : -ENOENT;
	bool covered = way.opaque;
	vu_stack_open_up(fd, &before);
	for (unsigned i = 0; !error && i < (covered ? 1 : stack->count); i++)
		error = take_entries(call, stack, path, i);
	if (!error && !dir->opaque && !(error = vu_stack_set_opaque(fd)))
		dir->opaque = true;
	vu_stack_shut(fd, &before);
	return error;
}

int vu_stack_take_tree(struct vu_call *call, struct vu_stack *stack, const char *path)
{
	char *own = malloc(VU_TEXT);
	if (!own)
		return -ENOMEM;
	strcpy(own, path);
	int error = take_tree(call, stack, own);
	free(own);
	return error;
}
