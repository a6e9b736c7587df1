/*
 * How much a layer may hold: bytes on disk of its changed tree and its work directory, each file once.
 *
 * A write(2) is not seen, so what is there is found by looking. A look goes through the whole layer. Between two of them
 * what is known beforehand (a copy that is about to be made) is counted on top; and if the file system has as much less left
 * as there was room for in the layer, it is looked again. That is a hint: others write to that file system, and remove.
 */
#include "stack.h"

#include <dirent.h>
#include <sys/statvfs.h>
#include <time.h>

#include "walk.h"

#define PATIENCE INT64_C(20000000) /* ns after which a layer that was full is looked at again */

/* How old, in times of what it took, a look may be: if something else speaks for a new one; for a program that waits; else. */
enum { SOONEST = 2, OFTEN = 10, SELDOM = 20 };

struct pending { /* directories to be looked into, by their paths */
	char **paths;
	size_t count, room;
};

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int push(struct pending *pending, const char *path, const char *name)
{
	if (pending->count == pending->room) {
		size_t room = pending->room ? pending->room * 2 : 16;
		char **paths = realloc(pending->paths, room * sizeof *paths);
		if (!paths)
			return -ENOMEM;
		pending->paths = paths;
		pending->room = room;
	}
	size_t length = strlen(path), size = strlen(name) + 1;
	char *text = malloc(length + 1 + size);
	if (!text)
		return -ENOMEM;
	memcpy(text, path, length);
	if (length)
		text[length++] = '/';
	memcpy(text + length, name, size);
	pending->paths[pending->count++] = text;
	return 0;
}

/* What may not be looked into, or has just gone, counts nothing. */
static int look_into(int root, const char *path, struct pending *pending, uint64_t *bytes)
{
	VU_CLOSE int fd = *path ? vu_walk_open_below(root, path, O_DIRECTORY | O_NOFOLLOW)
				: vu_result(fcntl(root, F_DUPFD_CLOEXEC, 0));
	int own = fd < 0 ? fd : vu_result(vu_stack_read_directory(fd));
	if (own < 0)
		return own == -EACCES || own == -ENOENT || own == -ENOTDIR ? 0 : own;
	DIR *stream = fdopendir(own);
	if (!stream) {
		int error = -errno;
		close(own);
		return error;
	}
	int error = 0;
	for (struct dirent *entry; !error && (entry = readdir(stream));) {
		struct stat st;
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
		    fstatat(own, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		bool directory = S_ISDIR(st.st_mode);
		uint64_t room = (uint64_t)st.st_blocks * 512;
		*bytes += directory || st.st_nlink < 2 ? room : room / st.st_nlink; /* all its names lie here */
		if (directory)
			error = push(pending, path, entry->d_name);
	}
	closedir(stream);
	return error;
}

static int look_below(int root, uint64_t *bytes)
{
	struct pending pending = {};
	int error = look_into(root, "", &pending, bytes);
	while (pending.count) {
		char *path = pending.paths[--pending.count];
		if (!error)
			error = look_into(root, path, &pending, bytes);
		free(path);
	}
	free(pending.paths);
	return error;
}

/* Bytes that the file system of the layer has left. */
static uint64_t free_room(struct vu_stack *stack)
{
	struct statvfs st;
	return fstatvfs(stack->work, &st) < 0 ? 0 : (uint64_t)st.f_bfree * st.f_frsize;
}

static int look(struct vu_stack *stack)
{
	struct vu_quota *quota = &stack->quota;
	uint64_t bytes = 0, charged = atomic_load(&quota->charged), left = free_room(stack);
	int64_t begun = now();
	atomic_store(&quota->freed, false);
	int error = look_below(stack->trees[0].fd, &bytes);
	if (!error)
		error = look_below(stack->work, &bytes);
	if (error < 0)
		return error;
	quota->found = bytes;
	atomic_fetch_sub(&quota->charged, charged);
	quota->left = left;
	quota->looked = now();
	quota->took = quota->looked - begun;
	return 0;
}

/* Bytes that there is room for, as far as is known. */
static uint64_t room_of(const struct vu_quota *quota)
{
	uint64_t used = quota->found + atomic_load(&quota->charged);
	return used < quota->size ? quota->size - used : 0;
}

/* May the layer hold so much more than at the last look that `bytes` do not fit, or so much less that they do? */
static bool is_stale(struct vu_stack *stack, uint64_t bytes, int64_t share)
{
	struct vu_quota *quota = &stack->quota;
	int64_t age = now() - quota->looked;
	uint64_t room = room_of(quota), left;
	if (!quota->looked)
		return true;
	if (age < SOONEST * quota->took)
		return false;
	if (room < bytes)
		return atomic_load(&quota->freed) || (age > PATIENCE && age > share * quota->took);
	left = free_room(stack);
	return age > share * quota->took || (quota->left > left && quota->left - left > room - bytes);
}

int vu_quota_used(struct vu_stack *stack, uint64_t *used)
{
	struct vu_quota *quota = &stack->quota;
	pthread_mutex_lock(&quota->lock);
	int error = !quota->closed && is_stale(stack, 1, SELDOM) ? look(stack) : 0;
	*used = quota->closed ? 0 : quota->found;
	pthread_mutex_unlock(&quota->lock);
	return error;
}

int vu_quota_charge(struct vu_call *call, struct vu_stack *stack, uint64_t bytes)
{
	struct vu_quota *quota = &stack->quota;
	uint64_t least = bytes ? bytes : 1;
	if (!quota->size)
		return 0;
	pthread_mutex_lock(&quota->lock);
	int error = 0;
	if (is_stale(stack, least, OFTEN)) {
		vu_notify_step_aside(call);
		error = look(stack);
	}
	if (!error && room_of(quota) < least)
		error = -ENOSPC;
	if (!error)
		atomic_fetch_add(&quota->charged, bytes);
	pthread_mutex_unlock(&quota->lock);
	return error;
}

int vu_quota_check(struct vu_call *call, struct vu_stack *stack)
{
	if (!stack->quota.size)
		return 0;
	vu_own_rights(call, true);
	int error = vu_quota_charge(call, stack, 0);
	vu_own_rights(call, false);
	return error;
}

void vu_quota_freed(struct vu_stack *stack)
{
	if (stack->quota.size)
		atomic_store(&stack->quota.freed, true);
}

void vu_quota_set(vu_session *session, struct vu_stack *stack, uint64_t size)
{
	_Atomic(struct vu_stack *) *at = &session->limited;
	stack->quota.size = size;
	if (!size)
		return;
	while (atomic_load(at))
		at = &atomic_load(at)->quota.next;
	atomic_store(at, stack);
}

int vu_session_usage(vu_session *session, uint32_t number, uint64_t *bytes)
{
	struct vu_stack *stack = atomic_load(&session->limited);
	while (stack && number--)
		stack = atomic_load(&stack->quota.next);
	return stack ? vu_quota_used(stack, bytes) : -ENOENT;
}
