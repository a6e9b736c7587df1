/*
 * Path resolution: a path of the caller → a place of the view.
 *
 * The walk keeps a *canonical view path* (no links, no "..") and the rest still to be resolved. Each round takes the
 * longest run of plain names, finds in the table which mount covers it, and asks the kernel to open that run below the
 * mount's anchor with RESOLVE_NO_SYMLINKS: one openat2(2) for a path without links, which most are. When the kernel
 * meets a link (ELOOP), the first one is found with readlinkat(2), put in front of the rest, and the next round begins.
 * So a link always leads to where the *view* says, as do ".." and the magic links of /proc (walk_proc.c).
 *
 * `native` says whether the caller's own kernel would arrive at the same object; then a view that does not enforce lets
 * the call continue. It stays true while every jump (a link, "..", the start) happened where view and host agree.
 */
#include "walk.h"

#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/syscall.h>
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

static int open_path(int base, const char *path, uint64_t flags)
{
	struct open_how how = { .flags = flags | O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS };
	int fd = (int)syscall(SYS_openat2, base, path, &how, sizeof how);
	return fd < 0 ? -errno : fd;
}

/* Open `path` below `base` with no link on the way; what is longer than PATH_MAX in pieces. */
static int open_below(int base, const char *path, uint64_t flags)
{
	VU_CLOSE int held = -1;
	char part[PATH_MAX];
	size_t length = strlen(path);
	while (length >= PATH_MAX) {
		size_t cut = PATH_MAX - 1;
		while (cut && path[cut] != '/')
			cut--;
		if (!cut)
			return -ENAMETOOLONG;
		memcpy(part, path, cut);
		part[cut] = 0;
		int next = open_path(base, part, O_DIRECTORY);
		if (next < 0)
			return next;
		vu_close(&held);
		base = held = next;
		path += cut + 1;
		length -= cut + 1;
	}
	return open_path(base, path, flags);
}

/* The object at a spot. A mount's own root may be a file, which no relative path reaches. */
static int open_spot(const struct vu_spot *spot, uint64_t flags)
{
	if (spot->mount->kind == VU_HIDE)
		return -ENOENT;
	if (*spot->rest)
		return open_below(spot->mount->fd, spot->rest, flags);
	if (flags & O_DIRECTORY) {
		struct stat st;
		if (fstat(spot->mount->fd, &st) < 0)
			return -errno;
		if (!S_ISDIR(st.st_mode))
			return -ENOTDIR;
	}
	int fd = fcntl(spot->mount->fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

/* Whether the caller's kernel, having come the same way, stands on the object that `mount` shows. */
static bool agrees(const struct vu_walk *walk, const struct vu_mount *mount)
{
	if (walk->absolute)
		return mount->identity;
	return mount == walk->start || (walk->start->identity && mount->identity);
}

void vu_walk_find(const struct vu_walk *walk, struct vu_spot *spot)
{
	vu_table_find(&walk->call->session->table, *walk->view ? walk->view : "/", spot);
}

void vu_walk_note_jump(struct vu_walk *walk)
{
	struct vu_spot spot;
	if (!walk->clean)
		return;
	vu_walk_find(walk, &spot);
	walk->clean = agrees(walk, spot.mount);
}

void vu_walk_go_root(struct vu_walk *walk)
{
	size_t length = strlen(walk->state->root);
	if (!(walk->flags & VU_IN_ROOT)) {
		memcpy(walk->view, walk->state->root, length + 1);
		walk->length = length;
		walk->absolute = true;
		if (length)
			walk->clean = false; /* a virtual root: the kernel's is another */
	} else {
		walk->length = walk->scope;
		walk->view[walk->length] = 0;
	}
}

/* Put `text` in front of what remains. */
int vu_walk_prepend(struct vu_walk *walk, const char *text, const char *rest)
{
	char *start = walk->call->work->rest;
	size_t length = strlen(text), keep = strlen(rest);
	if (length + keep + 2 > sizeof walk->call->work->rest)
		return -ENAMETOOLONG;
	memmove(start + length + (keep ? 1 : 0), rest, keep + 1);
	memcpy(start, text, length);
	if (keep)
		start[length] = '/';
	walk->rest = start;
	return 0;
}

static int go_up(struct vu_walk *walk)
{
	size_t root = strlen(walk->state->root);
	if ((walk->flags & (VU_BENEATH | VU_IN_ROOT)) && walk->length <= walk->scope)
		return walk->flags & VU_BENEATH ? -EXDEV : 0;
	if (!walk->length)
		return 0;
	if (root && walk->length == root && !memcmp(walk->view, walk->state->root, root)) {
		walk->clean = false; /* the kernel would go on, above the virtual root */
		return 0;
	}
	vu_walk_note_jump(walk);
	while (walk->length && walk->view[walk->length - 1] != '/')
		walk->length--;
	if (walk->length)
		walk->length--;
	walk->view[walk->length] = 0;
	return 0;
}

/* The end of the component that starts at `path`. */
static const char *component_end(const char *path)
{
	return path + strcspn(path, "/");
}

static bool is_dot(const char *name, const char *end)
{
	return end - name == 1 && *name == '.';
}

static bool is_dot_dot(const char *name, const char *end)
{
	return end - name == 2 && name[0] == '.' && name[1] == '.';
}

/*
 * The kernel met a link in `run`, which follows the canonical path: find the first, and put its text in front of what
 * follows it. Leaves the canonical path as it was, but for a jump.
 */
static int expand(struct vu_walk *walk, const char *run, struct vu_place *place)
{
	struct vu_work *work = walk->call->work;
	size_t before = walk->length, start = before;
	if (++walk->links > VU_LINKS || (walk->flags & VU_NO_LINKS))
		return -ELOOP;
	const char *end;
	for (const char *name = run; *name; name = end + strspn(end, "/"), before = walk->length) {
		end = component_end(name);
		if (is_dot(name, end) || is_dot_dot(name, end))
			break;
		walk->view[before] = '/';
		memcpy(walk->view + before + 1, name, (size_t)(end - name));
		walk->length = before + 1 + (size_t)(end - name);
		walk->view[walk->length] = 0;
		struct vu_spot spot;
		vu_walk_find(walk, &spot);
		if (!*spot.rest)
			continue; /* an entry's own target is no link */
		VU_CLOSE int link = open_below(spot.mount->fd, spot.rest, O_NOFOLLOW);
		if (link == -ELOOP)
			break; /* the start itself is a link, held by a descriptor */
		if (link < 0)
			return link;
		ssize_t n = readlinkat(link, "", work->link, PATH_MAX);
		if (n < 0)
			continue; /* ENOENT: not a link */
		work->link[n] = 0;
		const char *rest = end + strspn(end, "/");
		if (!*rest && *end)
			walk->trailing_path = true;
		int result = vu_walk_proc(walk, &spot, link, before, rest, place);
		if (result != VU_NO_LINK)
			return result;
		walk->length = before;
		walk->view[before] = 0;
		vu_walk_note_jump(walk);
		if (!n)
			return -ENOENT;
		if (*work->link == '/') {
			if (walk->flags & VU_BENEATH)
				return -EXDEV;
			vu_walk_go_root(walk);
		}
		return vu_walk_prepend(walk, work->link, rest);
	}
	walk->length = start;
	walk->view[start] = 0;
	return VU_NO_LINK; /* it was there a moment ago: look again, with a link fewer to go */
}

/* Append the longest run of plain names of walk->rest to the view; returns what follows it, NULL if too long. */
static const char *append_run(struct vu_walk *walk, size_t *length, bool *slash)
{
	const char *next = walk->rest;
	*length = walk->length;
	while (*next) {
		const char *end = component_end(next);
		if (is_dot(next, end) || is_dot_dot(next, end))
			break;
		if (*length + (size_t)(end - next) + 2 > VU_TEXT)
			return NULL;
		walk->view[*length] = '/';
		memcpy(walk->view + *length + 1, next, (size_t)(end - next));
		*length += 1 + (size_t)(end - next);
		*slash = *end == '/';
		next = end + strspn(end, "/");
	}
	walk->view[*length] = 0;
	return next;
}

/* Resolve walk->rest. Leaves the object in place->fd. */
static int resolve(struct vu_walk *walk, bool follow, bool directory, struct vu_place *place)
{
	VU_CLOSE int fd = -1;
	struct vu_spot spot;
	for (;;) {
		walk->rest += strspn(walk->rest, "/");
		if (!*walk->rest)
			break;
		const char *end = component_end(walk->rest);
		bool dot = is_dot(walk->rest, end);
		if (dot || is_dot_dot(walk->rest, end)) {
			walk->trailing = true;
			walk->rest = end;
			if (fd < 0) { /* the start: it may be a descriptor of a file */
				vu_walk_find(walk, &spot);
				if ((fd = open_spot(&spot, O_DIRECTORY | O_NOFOLLOW)) < 0)
					return fd;
			}
			/* Even "." is looked up, which takes search permission: fs/namei.c may_lookup. */
			if (faccessat(fd, "", X_OK, AT_EMPTY_PATH | AT_EACCESS) < 0)
				return -errno;
			if (dot)
				continue;
			vu_close(&fd);
			int error = go_up(walk);
			if (error < 0)
				return error;
			continue;
		}
		size_t length;
		bool slash = false;
		const char *next = append_run(walk, &length, &slash);
		if (!next)
			return -ENAMETOOLONG;
		bool last = !*next;
		walk->trailing = last ? walk->trailing_path || slash : true;
		vu_walk_find(walk, &spot);
		vu_close(&fd);
		fd = open_spot(&spot, (directory || walk->trailing ? O_DIRECTORY : 0) |
					      (last && !follow && !walk->trailing ? O_NOFOLLOW : 0));
		if (fd == -ELOOP) {
			walk->view[walk->length] = 0;
			int result = expand(walk, walk->rest, place);
			if (result < 0)
				return result;
			if (result == VU_COMPLETE)
				return 0;
			if (result == VU_NO_LINK) {
				/* It has gone; or the start is itself a link, held by a descriptor: not a directory. */
				vu_walk_find(walk, &spot);
				VU_CLOSE int here = open_spot(&spot, O_DIRECTORY | O_NOFOLLOW);
				if (here < 0)
					return here;
			}
			continue;
		}
		if (fd < 0)
			return fd;
		walk->length = length;
		walk->rest = next;
	}
	if (fd < 0) { /* the start itself, or what ".." or a link to the root led to */
		vu_walk_find(walk, &spot);
		fd = open_spot(&spot, O_NOFOLLOW | (directory || walk->trailing ? O_DIRECTORY : 0));
		if (fd < 0)
			return fd;
	}
	place->fd = fd;
	fd = -1;
	return 0;
}

/* Fill in what the canonical path says of the place. */
static void describe(struct vu_walk *walk, struct vu_place *place)
{
	struct vu_spot spot;
	place->view = walk->view;
	if (place->magic) {
		place->native = walk->clean;
		place->mount = walk->call->session->table.root;
		place->node = NULL;
		place->readonly = false;
		return;
	}
	vu_walk_find(walk, &spot);
	place->mount = spot.mount;
	place->node = spot.node;
	place->readonly = spot.mount->readonly;
	place->mountpoint = spot.node && spot.node->mount == spot.mount;
	place->native = walk->clean && agrees(walk, spot.mount);
	place->hidden = spot.mount->kind == VU_HIDE;
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
	size_t head = spot.mount->source_length;
	bool same = (size_t)n >= head && !memcmp(work->host, spot.mount->source, head) &&
		    !strcmp(work->host + head + strspn(work->host + head, "/"), spot.rest);
	return same ? 0 : -EAGAIN;
}

/* The directory part of `path` stays in walk->rest; the last name goes to place->name, if it fits. */
static bool split(struct vu_walk *walk, const char *path, struct vu_place *place)
{
	struct vu_work *work = walk->call->work;
	size_t length = strlen(path), end = length;
	while (end && path[end - 1] == '/')
		end--;
	size_t start = end;
	while (start && path[start - 1] != '/')
		start--;
	bool fits = end - start <= NAME_MAX;
	place->trailing = end < length;
	snprintf(place->name, NAME_MAX + 1, "%.*s", (int)(end - start), path + start);
	if (end == start) /* "/" itself */
		strcpy(place->name, "/");
	memmove(work->rest, path, start);
	work->rest[start] = 0;
	walk->rest = work->rest;
	return fits;
}

static bool is_plain(const char *name)
{
	return strcmp(name, "/") && strcmp(name, ".") && strcmp(name, "..");
}

/* Resolve the directory of the last name, and look at the name itself without requiring that it exists. */
static int resolve_parent(struct vu_walk *walk, const char *path, struct vu_place *place)
{
	struct vu_work *work = walk->call->work;
	for (;;) {
		bool fits = split(walk, path, place);
		int error = resolve(walk, true, true, place);
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
		place->mountpoint = false;
		if (!fits)
			return -ENAMETOOLONG;
		if (!is_plain(place->name)) {
			place->node =
				NULL; /* no call makes or removes such a name; which errno is the kernel's to say */
			return 0;
		}
		size_t length = strlen(place->name);
		if (walk->length + length + 2 > VU_TEXT)
			return -ENAMETOOLONG;
		const struct vu_node *child = place->node ? vu_node_child(place->node, place->name, length) : NULL;
		struct statfs fs;
		if ((walk->flags & VU_FOLLOW) && !fstatfs(place->parent, &fs) && fs.f_type == PROC_SUPER_MAGIC) {
			/* No name is made there, and a link may lead to an object without a path. */
			strcpy(work->rest, place->name);
			walk->rest = work->rest;
			if ((error = resolve(walk, true, place->trailing, place)) < 0)
				return error;
			describe(walk, place);
			return 0;
		}
		if ((walk->flags & VU_FOLLOW) && !place->trailing && !(child && child->mount)) {
			ssize_t n = readlinkat(place->parent, place->name, work->link, PATH_MAX);
			if (n > 0) {
				if (++walk->links > VU_LINKS || (walk->flags & VU_NO_LINKS))
					return -ELOOP;
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
		if ((walk->flags & VU_ABSENT_OK) && !place->hidden) {
			struct vu_spot spot;
			vu_walk_find(walk, &spot);
			int fd = child && child->mount ? open_spot(&spot, 0)
						       : open_path(place->parent, place->name, O_NOFOLLOW);
			if (fd < 0 && fd != -ENOENT)
				return fd;
			place->fd = fd < 0 ? -1 : fd;
		}
		if (place->trailing)
			strcat(place->name, "/");
		return 0;
	}
}

/*
 * Where a relative path starts. 1: only the kernel can go on from there (see engine.h). With `object` that is opened first,
 * so that it is what was judged, whatever the number means to the caller by then.
 */
static int start(struct vu_walk *walk, int dirfd, int *object)
{
	struct vu_call *call = walk->call;
	struct vu_work *work = call->work;
	char buffer[24];
	const char *name = vu_descriptor_name(dirfd, buffer);
	int n;
	if (object) {
		if ((*object = vu_target_open(call, name)) >= 0)
			n = own_link(call->session, *object, work->host, sizeof work->host);
		else
			n = *object;
	} else {
		n = vu_target_link(call, name, work->host, sizeof work->host);
	}
	if (n == -ENOENT && dirfd != AT_FDCWD)
		return -EBADF;
	if (n == -ENAMETOOLONG)
		return 1;
	if (n < 0)
		return n;
	if (*work->host != '/')
		return 1; /* a pipe, a socket: ENOTDIR, as the kernel will say */
	const char *deleted = " (deleted)";
	size_t tail = strlen(deleted);
	if ((size_t)n > tail && !strcmp(work->host + n - tail, deleted)) {
		struct stat st;
		VU_CLOSE int fd = vu_target_open(call, name);
		if (fd < 0 || fstat(fd, &st) < 0 || st.st_nlink == 0 || S_ISREG(st.st_mode))
			return 1;
		if (lstat(work->host, &st) < 0)
			return 1;
	}
	int error =
		vu_table_reverse(&call->session->table, work->host, walk->state->cwd_mount, walk->view, &walk->start);
	if (error < 0)
		return error; /* ENOENT, EACCES: a directory that the view does not show */
	walk->length = strcmp(walk->view, "/") ? strlen(walk->view) : 0;
	walk->view[walk->length] = 0;
	return 0;
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
	place->mount = call->session->table.root;
	return 0;
}

int vu_walk_descriptor(struct vu_call *call, int slot, int fd, struct vu_place *place)
{
	struct vu_walk walk = {
		.call = call, .state = vu_state_of(call), .view = call->work->view[slot], .clean = true
	};
	clear(place, walk.view);
	int result = start(&walk, fd, call->session->enforce ? &place->fd : NULL);
	place->covered = result == -ENOENT || result == -EACCES;
	if (result == 1 || place->covered) { /* nothing of the view's tree */
		place->held = place->native = place->nameless = true;
		place->mount = call->session->table.root;
		return 0;
	}
	if (result < 0) {
		call->native_error = result == -EBADF;
		return result;
	}
	describe(&walk, place);
	place->held = place->native = true;
	return 0;
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
	error = resolve(walk, walk->flags & VU_FOLLOW, walk->flags & VU_DIRECTORY, place);
	if (error < 0)
		return error;
	if (!place->magic && (error = judge(walk, place->fd)) < 0)
		return error;
	describe(walk, place);
	return 0;
}

/* RESOLVE_NO_XDEV: start and end lie on one mount, of the host and of the view. */
static int same_mount(const struct vu_spot *from, const struct vu_spot *to, int end)
{
	struct statx here, there;
	VU_CLOSE int start = open_spot(from, O_NOFOLLOW);
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
	return !(flags & (VU_FOLLOW | VU_WANT_PARENT)) && !memchr(path, '/', length) && !is_dot(path, path + length) &&
	       !is_dot_dot(path, path + length) && !vu_node_child(&table->names, path, length);
}

int vu_walk(struct vu_call *call, int slot, int dirfd, const char *path, unsigned flags, struct vu_place *place)
{
	struct vu_walk walk = { .call = call,
				.state = vu_state_of(call),
				.flags = flags,
				.view = call->work->view[slot],
				.clean = true,
				.start = call->session->table.root };
	clear(place, walk.view);
	if ((flags & VU_READS) && !call->session->enforce && is_beside_entries(&call->session->table, path, flags))
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
		if (result == 1)
			return only_kernel(call, dirfd, place);
		walk.scope = walk.length;
	}
	struct vu_spot origin;
	if (flags & VU_NO_MOUNTS) {
		memcpy(call->work->text, walk.view, walk.length + 1);
		vu_table_find(&call->session->table, *call->work->text ? call->work->text : "/", &origin);
	}
	int error = follow_path(&walk, path, place);
	if (!error && (flags & VU_NO_MOUNTS)) {
		struct vu_spot spot;
		vu_walk_find(&walk, &spot);
		error = place->magic ? -EXDEV : same_mount(&origin, &spot, place->fd < 0 ? place->parent : place->fd);
	}
	if (error < 0) {
		struct vu_spot spot;
		vu_walk_find(&walk, &spot);
		call->native_error = walk.clean && !walk.withheld && agrees(&walk, spot.mount);
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

int vu_reopen(struct vu_session *session, int fd, int flags)
{
	char number[16];
	snprintf(number, sizeof number, "%d", fd);
	int result = openat(session->self_fd, number, flags | O_CLOEXEC | O_NOCTTY);
	return result < 0 ? -errno : result;
}
