/*
 * A path, a descriptor or an argument of the caller → a place: where the walk starts, the directory of a last name that
 * need not exist, what is to be said of where it ended, and, under enforcement, the judgement of the object found.
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

/* Fill in what the canonical path says of the place. */
static void describe(struct vu_walk *walk, struct vu_place *place)
{
	struct vu_spot spot;
	place->view = walk->view;
	if (place->magic) {
		place->native = walk->clean;
		place->mount = walk->call->table->root;
		place->node = NULL;
		place->readonly = false;
		return;
	}
	vu_walk_find(walk, &spot);
	place->mount = spot.mount;
	place->node = spot.node;
	place->readonly = spot.mount->readonly;
	place->mountpoint = spot.node && spot.node->mount == spot.mount;
	place->native = walk->clean && vu_walk_agrees(walk, spot.mount);
	place->seen = walk->seen;
	place->merged = spot.mount->stack && vu_stack_tells(spot.mount->stack, &walk->seen);
	place->hidden = spot.mount->kind == VU_HIDE;
}

/* Of a last name in a stack: what has it says by which tree it is shown. */
static void describe_object(struct vu_walk *walk, struct vu_place *place, bool exists)
{
	place->seen = walk->seen;
	place->merged = exists && vu_stack_tells(place->mount->stack, &walk->seen);
	place->native = exists && place->native && vu_walk_agrees(walk, place->mount);
}

/* The text of a link in /proc/self/fd. */
static int own_link(struct vu_session *session, int fd, char *out, size_t room)
{
	char number[16];
	snprintf(number, sizeof number, "%d", fd);
	ssize_t n = readlinkat(session->self_fd, number, out, room - 1);
	if (n < 0)
		return -errno;
	out[n] = 0;
	return (int)n;
}

/*
 * An enforcing view judges the object, not the text it was found by: a directory on the way may have been renamed
 * between the look at the table and the open.
 */
static int judge(struct vu_walk *walk, int fd)
{
	if (!walk->call->session->enforce || fd < 0)
		return 0;
	struct vu_work *work = walk->call->work;
	struct vu_spot spot;
	vu_walk_find(walk, &spot);
	int n = own_link(walk->call->session, fd, work->host, sizeof work->host);
	if (n < 0)
		return n;
	if (spot.mount->stack)
		return vu_stack_judge(spot.mount->stack, spot.rest, &walk->seen, work->host) ? 0 : -EAGAIN;
	size_t head = spot.mount->source_length;
	bool same = (size_t)n >= head && !memcmp(work->host, spot.mount->source, head) &&
		    !strcmp(work->host + head + strspn(work->host + head, "/"), spot.rest);
	return same ? 0 : -EAGAIN;
}

/*
 * The directory part of `path` stays in walk->rest; the last name goes to place->name. Of one that is too long so much is kept that
 * the kernel says so, when it comes to it.
 */
static void split(struct vu_walk *walk, const char *path, struct vu_place *place)
{
	struct vu_work *work = walk->call->work;
	size_t length = strlen(path), end = length;
	while (end && path[end - 1] == '/')
		end--;
	size_t start = end;
	while (start && path[start - 1] != '/')
		start--;
	size_t kept = end - start < NAME_MAX + 2 ? end - start : NAME_MAX + 2;
	place->trailing = end < length;
	memcpy(place->name, path + start, kept);
	place->name[kept] = 0;
	if (end == start) /* "/" itself */
		strcpy(place->name, "/");
	memmove(work->rest, path, start);
	work->rest[start] = 0;
	walk->rest = work->rest;
}

static bool is_plain(const char *name)
{
	return strcmp(name, "/") && strcmp(name, ".") && strcmp(name, "..");
}

/* What has the last name in a stack, in place->fd; and if it is a link, its text in work->link. As readlinkat(2). */
static ssize_t read_link(struct vu_walk *walk, struct vu_place *place)
{
	struct vu_work *work = walk->call->work;
	struct vu_stack *stack = place->mount->stack;
	if (!stack)
		return readlinkat(place->parent, place->name, work->link, PATH_MAX);
	const char *rest = vu_stack_rest(place);
	size_t length = strlen(rest);
	if (length + strlen(place->name) + 2 > VU_TEXT)
		return -1;
	memcpy(work->scratch, rest, length);
	snprintf(work->scratch + length, sizeof work->scratch - length, "%s%s", length ? "/" : "", place->name);
	struct vu_seen parent = walk->seen;
	place->fd = vu_stack_open_joined(walk->call, stack, work->scratch, O_NOFOLLOW, &walk->seen);
	ssize_t n = place->fd < 0 ? -1 : readlinkat(place->fd, "", work->link, PATH_MAX);
	if (n > 0)
		vu_close(&place->fd);
	else if (place->fd < 0 && place->fd != -ENOENT)
		walk->seen = parent; /* looked up again, for the error */
	return n;
}

/*
 * The kernel asks for search permission before it looks at the last name (fs/namei.c link_path_walk). The call itself will say so, but
 * where the name is "." or "..", or where another path is looked at first.
 */
static bool searches(const struct vu_walk *walk, const struct vu_place *place)
{
	if (place->mount->stack)
		return false; /* of several trees: judged where it is acted on */
	return walk->call->row->path2 >= 0 || !strcmp(place->name, ".") || !strcmp(place->name, "..");
}

/* Resolve the directory of the last name, and look at the name itself without requiring that it exists. */
static int resolve_parent(struct vu_walk *walk, const char *path, struct vu_place *place)
{
	struct vu_work *work = walk->call->work;
	for (;;) {
		split(walk, path, place);
		place->moves = atomic_load(&walk->call->session->moves);
		walk->shallow = true; /* what shows it is asked of the object */
		int error = vu_walk_resolve(walk, true, true, place);
		walk->shallow = false;
		if (error < 0)
			return error;
		if (place->magic)
			return -ENOENT; /* a directory that has been removed */
		walk->trailing = walk->trailing_path = false;
		vu_close(&place->parent);
		place->parent = place->fd;
		place->fd = -1;
		if ((error = judge(walk, place->parent)) < 0)
			return error;
		describe(walk, place);
		place->top = place->mount->stack && place->seen.tree == 0;
		place->mountpoint = false;
		if (searches(walk, place) && faccessat(place->parent, "", X_OK, AT_EMPTY_PATH | AT_EACCESS) < 0)
			return -errno;
		if (!is_plain(place->name)) {
			place->node =
				NULL; /* no call makes or removes such a name; which errno is the kernel's to say */
			return 0;
		}
		size_t length = strlen(place->name);
		if (walk->length + length + 2 > VU_TEXT)
			return -ENAMETOOLONG;
		if (place->mount->wired && (error = vu_wired_prepare_name(walk->call, place)) < 0)
			return error;
		const struct vu_node *child = place->node ? vu_node_child(place->node, place->name, length) : NULL;
		if ((walk->flags & VU_FOLLOW) && !place->top && vu_on_procfs(place->parent)) {
			/* No name is made there, and a link may lead to an object without a path. */
			strcpy(work->rest, place->name);
			walk->rest = work->rest;
			if ((error = vu_walk_resolve(walk, true, place->trailing, place)) < 0)
				return error;
			describe(walk, place);
			return 0;
		}
		bool followed = (walk->flags & VU_FOLLOW) && !place->trailing && !(child && child->mount);
		if (followed) {
			ssize_t n = read_link(walk, place);
			if (n > 0) {
				if (++walk->links > VU_LINKS || (walk->flags & VU_NO_LINKS))
					return -ELOOP;
				struct stat st;
				if (!fstatat(place->parent, place->name, &st, AT_SYMLINK_NOFOLLOW) &&
				    (error = vu_walk_may_follow(walk, &st, place->mount->stack, place->parent)) < 0)
					return error;
				work->link[n] = 0;
				vu_walk_note_jump(walk);
				if (*work->link == '/') {
					if (walk->flags & VU_BENEATH)
						return -EXDEV;
					vu_walk_go_root(walk);
				}
				memcpy(work->scratch, work->link, (size_t)n + 1);
				path = work->scratch;
				continue;
			}
		}
		walk->view[walk->length] = '/';
		memcpy(walk->view + walk->length + 1, place->name, length + 1);
		walk->length += length + 1;
		place->node = child;
		if (child && child->mount) {
			bool parent_native = place->native;
			describe(walk, place);
			place->native = place->native && parent_native;
		}
		bool stacked = place->mount->stack && !place->hidden;
		bool known = stacked && followed && (place->fd >= 0 || place->fd == -ENOENT);
		if (known) {
			place->fd = place->fd < 0 ? -1 : place->fd;
			describe_object(walk, place, place->fd >= 0);
		} else if (((walk->flags & VU_ABSENT_OK) || stacked) && !place->hidden) {
			struct vu_spot spot;
			vu_walk_find(walk, &spot);
			int fd = stacked || (child && child->mount)
					 ? vu_walk_open_spot(walk->call, &spot, stacked ? O_NOFOLLOW : 0)
					 : vu_walk_open(place->parent, place->name, O_NOFOLLOW);
			if (fd < 0 && fd != -ENOENT)
				return fd;
			place->fd = fd < 0 ? -1 : fd;
			if (stacked) {
				walk->seen = spot.seen;
				describe_object(walk, place, fd >= 0);
			}
		}
		if (place->trailing)
			strcat(place->name, "/");
		return 0;
	}
}

enum { ONLY_KERNEL = 1, LOST, BENEATH };

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
	if (hint)
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
 * Where a relative path starts. ONLY_KERNEL can go on from there (see engine.h); so it is where the mount is LOST, and
 * BENEATH another. With `object` that is opened first
 * (or is already), so that it is what was judged, whatever the number means to the caller by then.
 */
static int start(struct vu_walk *walk, int dirfd, int *object)
{
	struct vu_call *call = walk->call;
	struct vu_work *work = call->work;
	char buffer[24];
	const char *name = vu_descriptor_name(dirfd, buffer);
	int n;
	if (object) {
		if (*object < 0)
			*object = vu_target_open(call, name);
		n = *object < 0 ? *object : own_link(call->session, *object, work->host, sizeof work->host);
	} else {
		n = vu_target_link(call, name, work->host, sizeof work->host);
	}
	if (n == -ENOENT && dirfd != AT_FDCWD)
		return -EBADF;
	if (n == -ENAMETOOLONG)
		return ONLY_KERNEL;
	if (n < 0)
		return n;
	if (*work->host != '/')
		return ONLY_KERNEL; /* a pipe, a socket: ENOTDIR, as the kernel will say */
	const char *deleted = " (deleted)";
	size_t tail = strlen(deleted);
	if ((size_t)n > tail && !strcmp(work->host + n - tail, deleted)) {
		struct stat st;
		VU_CLOSE int opened = object ? -1 : vu_target_open(call, name);
		int fd = object ? *object : opened;
		if (fd < 0 || fstat(fd, &st) < 0 || st.st_nlink == 0 || S_ISREG(st.st_mode))
			return ONLY_KERNEL;
		if (lstat(work->host, &st) < 0)
			return ONLY_KERNEL;
	}
	int tree;
	int error = vu_table_reverse(call->table, work->host, walk->state->cwd_mount, walk->view, &walk->start, &tree);
	if (call->table->reduced && is_lost(walk, dirfd, name, error))
		return LOST;
	bool beneath = call->table->late && is_beneath(walk, dirfd, error);
	if (error < 0 && !beneath)
		return error; /* ENOENT, EACCES: a directory that the view does not show */
	walk->seen = (struct vu_seen){ .tree = (int8_t)tree, .lowest = (int8_t)tree };
	if (walk->start->stack && tree != (int)walk->start->stack->count - 1)
		walk->clean =
			false; /* the caller's kernel goes on in the layer, and sees nothing of what lies below it */
	walk->length = strcmp(walk->view, "/") ? strlen(walk->view) : 0;
	walk->view[walk->length] = 0;
	return beneath ? BENEATH : 0;
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
	int result = start(&walk, fd, object);
	place->covered = result == -ENOENT || result == -EACCES;
	place->lost = result == LOST;
	place->beneath = result == BENEATH;
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
	describe(&walk, place);
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
		error = resolve_parent(walk, path, place);
		return error < 0 || place->magic ? error : judge(walk, place->fd);
	}
	strcpy(walk->call->work->rest, path);
	walk->rest = walk->call->work->rest;
	error = vu_walk_resolve(walk, walk->flags & VU_FOLLOW, walk->flags & VU_DIRECTORY, place);
	if (error < 0)
		return error;
	if (!place->magic && (error = judge(walk, place->fd)) < 0)
		return error;
	describe(walk, place);
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
	    is_beside_entries(call->table, path, flags))
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
		int result = start(&walk, dirfd, NULL);
		if (result == -EBADF)
			call->native_error = true;
		if (result == -EACCES)
			result = -ENOENT; /* what is hidden is not there */
		if (result < 0)
			return result;
		/* A process in what has been unmounted stays there, and above that there is nothing. */
		if (result == LOST && climbs(walk.view, path))
			return -ENOENT;
		/* What something was mounted over goes on to be there for who is in it; from above it is not to be seen. */
		bool leaves = result == BENEATH &&
			      climbs(walk.view + vu_table_cover(call->table, walk.start, walk.view), path);
		if (result > 0 && !leaves)
			return only_kernel(call, dirfd, place);
		walk.scope = walk.length;
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
