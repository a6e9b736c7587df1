/* The directory in which a relative path begins: as the kernel knows it, and where the view shows that. */
#include "stack.h"
#include "walk.h"

#include <stdio.h>
#include <sys/syscall.h>

/* Is the object that this link of the caller leads to what we find at `host`? */
static bool is_there(struct vu_call *call, const char *name, const char *host)
{
	struct statx theirs, ours;
	char link[64];
	const int quick = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT; /* no server is asked */
	snprintf(link, sizeof link, "%d/%s", call->tid, name);
	vu_inspect(call, true);
	int error = (int)syscall(SYS_statx, call->session->proc, link, quick, STATX_INO, &theirs);
	vu_inspect(call, false);
	return error < 0 || (!syscall(SYS_statx, AT_FDCWD, host, quick | AT_SYMLINK_NOFOLLOW, STATX_INO, &ours) &&
			     theirs.stx_ino == ours.stx_ino && theirs.stx_dev_major == ours.stx_dev_major &&
			     theirs.stx_dev_minor == ours.stx_dev_minor);
}

/*
 * The directory work->host, found as walk->start or (`error`) not at all: is it in what has been unmounted? Then its path
 * below that goes to walk->view. Where the kernel's mount has gone as well, that is all that its links tell.
 */
static bool is_lost(struct vu_walk *walk, int dirfd, const char *name, int error)
{
	struct vu_call *call = walk->call;
	const char *host = call->work->host;
	const struct vu_mount *hint = dirfd == AT_FDCWD ? walk->state->cwd_mount : NULL, *gone = NULL;
	/* Where another mount shows the same by wire, what is done there is the server's business all the same. */
	bool elsewhere = hint && !error && hint->wired && walk->start->wired == hint->wired;
	if (hint && !elsewhere)
		gone = vu_namespace_lost(&call->session->names, call->table, host, hint);
	if (!gone && error < 0)
		gone = vu_namespace_lost(&call->session->names, call->table, host, NULL);
	bool detached =
		!gone && !error && call->table->detached && !walk->start->private && !is_there(call, name, host);
	if (!gone && !detached)
		return false;
	strcpy(walk->view, gone ? host + gone->source_length : host);
	if (!*walk->view)
		strcpy(walk->view, "/");
	return true;
}

/*
 * The directory work->host, found as walk->start or (`error`) not at all: is it there, but something was mounted over it
 * since the caller came there? Then walk->view and walk->start are those that it had.
 */
static bool is_beneath(struct vu_walk *walk, int dirfd, int error)
{
	const struct vu_table *table = walk->call->table;
	const struct vu_mount *hint = dirfd == AT_FDCWD ? walk->state->cwd_mount : NULL;
	const char *host = walk->call->work->host;
	if (hint && (error < 0 || walk->start != hint) && vu_table_has(table, hint) &&
	    !vu_table_covered(table, host, hint, walk->call->work->scratch, &walk->start)) {
		strcpy(walk->view, walk->call->work->scratch);
		return true;
	}
	return error == -ENOENT && !vu_table_covered(table, host, NULL, walk->view, &walk->start);
}

/*
 * The same in a stack, which is opened by paths from its root: with our own rights, once the caller has been asked about each
 * directory from the start on. `below`: how much of the path that is. Of an ordinary user we have no other rights.
 */
static int search_stack(struct vu_call *call, struct vu_spot *spot, const char *path, size_t below, uint64_t flags)
{
	struct vu_stack *stack = spot->mount->stack;
	size_t length = strlen(path), at = length - below;
	char directory[VU_TEXT];
	int error = 0;
	if (!call->assumed)
		return -EACCES;
	while (at && path[at - 1] == '/')
		at--;
	while (!error && at < length) {
		memcpy(directory, path, at);
		directory[at] = 0;
		vu_own_rights(call, true);
		VU_CLOSE int fd = vu_stack_open(stack, directory, O_DIRECTORY | O_NOFOLLOW, &spot->seen);
		vu_own_rights(call, false);
		error = fd < 0 ? fd : vu_rights_ask(stack, fd, X_OK);
		at += strspn(path + at, "/");
		at += strcspn(path + at, "/");
	}
	if (error < 0)
		return error;
	vu_own_rights(call, true);
	int fd = vu_stack_open_joined(call, stack, path, flags, &spot->seen);
	vu_own_rights(call, false);
	return fd;
}

/*
 * What is above the directory in which a relative path begins may be closed to the caller, who got there before it was, or by
 * a descriptor: nobody asks about that natively.
 */
int vu_walk_from_start(struct vu_walk *walk, struct vu_spot *spot, uint64_t flags)
{
	char name[24], text[VU_TEXT];
	const char *below = walk->view + walk->begun;
	below += strspn(below, "/");
	if (spot->mount != walk->start || spot->mount->kind == VU_HIDE || spot->mount->wired)
		return -EACCES;
	if (spot->mount->stack)
		return search_stack(walk->call, spot, vu_stack_path(spot, text), strlen(below), flags);
	if (3 * walk->ups + strlen(below) >= sizeof text)
		return -EACCES;
	for (unsigned i = 0; i < walk->ups; i++)
		memcpy(text + 3 * i, "../", 3);
	strcpy(text + 3 * walk->ups, below);
	int start = vu_target_open(walk->call, vu_descriptor_name(walk->dirfd, name));
	if (start < 0 || !*text)
		return start < 0 ? -EACCES : start;
	int fd = vu_walk_open_below(start, text, flags);
	close(start);
	return fd;
}

/*
 * With `object` that is opened first (or is already), so that it is what was judged, whatever the number means to the caller by
 * then.
 */
int vu_walk_start(struct vu_walk *walk, int dirfd, int *object)
{
	struct vu_call *call = walk->call;
	struct vu_work *work = call->work;
	char buffer[24];
	const char *name = vu_descriptor_name(dirfd, buffer);
	int n;
	if (object) {
		if (*object < 0)
			*object = vu_target_open(call, name);
		n = *object < 0 ? *object : vu_own_link(call->session, *object, work->host, sizeof work->host);
	} else {
		n = vu_target_link(call, name, work->host, sizeof work->host);
	}
	if (n == -ENOENT && dirfd != AT_FDCWD)
		return -EBADF;
	if (n == -ENAMETOOLONG)
		return VU_ONLY_KERNEL;
	if (n < 0)
		return n;
	if (*work->host != '/')
		return VU_ONLY_KERNEL; /* a pipe, a socket: ENOTDIR, as the kernel will say */
	const char *deleted = " (deleted)";
	size_t tail = strlen(deleted);
	if ((size_t)n > tail && !strcmp(work->host + n - tail, deleted)) {
		struct stat st;
		VU_CLOSE int opened = object ? -1 : vu_target_open(call, name);
		int fd = object ? *object : opened;
		if (fd < 0 || fstat(fd, &st) < 0 || st.st_nlink == 0 || S_ISREG(st.st_mode))
			return VU_ONLY_KERNEL;
		if (lstat(work->host, &st) < 0)
			return VU_ONLY_KERNEL;
	}
	int tree;
	const struct vu_mount *meant = vu_state_meant(walk->state, dirfd == AT_FDCWD);
	int error = vu_table_reverse(call->table, work->host, meant, walk->view, &walk->start, &tree);
	if (call->table->reduced && is_lost(walk, dirfd, name, error))
		return VU_LOST;
	bool beneath = call->table->late && is_beneath(walk, dirfd, error);
	if (error < 0 && !beneath)
		return error; /* ENOENT, EACCES: a directory that the view does not show */
	walk->seen = (struct vu_seen){ .tree = (int8_t)tree, .lowest = (int8_t)tree };
	if (walk->start->stack && tree != (int)walk->start->stack->count - 1)
		walk->clean =
			false; /* the caller's kernel goes on in the layer, and sees nothing of what lies below it */
	walk->length = strcmp(walk->view, "/") ? strlen(walk->view) : 0;
	walk->view[walk->length] = 0;
	return beneath ? VU_COVERED : 0;
}
