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

#include "stack.h"
#include "wired.h"

#include <linux/openat2.h>
#include <sys/syscall.h>

static int open_linkless(int base, const char *path, uint64_t flags)
{
	struct open_how how = { .flags = flags, .resolve = RESOLVE_NO_SYMLINKS };
	int fd = (int)syscall(SYS_openat2, base, path, &how, sizeof how);
	return fd < 0 ? -errno : fd;
}

int vu_walk_open(int base, const char *path, uint64_t flags)
{
	return open_linkless(base, path, flags | O_PATH | O_CLOEXEC);
}

/* Open `path` below `base` with no link on the way; what is longer than PATH_MAX in pieces. */
int vu_walk_open_below(int base, const char *path, uint64_t flags)
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
		int next = vu_walk_open(base, part, O_DIRECTORY);
		if (next < 0)
			return next;
		vu_close(&held);
		base = held = next;
		path += cut + 1;
		length -= cut + 1;
	}
	return vu_walk_open(base, path, flags);
}

/* The object at a spot. A mount's own root may be a file, which no relative path reaches. */
int vu_walk_open_spot(struct vu_call *call, struct vu_spot *spot, uint64_t flags)
{
	if (spot->mount->kind == VU_HIDE)
		return -ENOENT;
	vu_notify_comes_to(call, spot->mount);
	if (spot->mount->stack) {
		char text[VU_TEXT];
		const char *path = vu_stack_path(spot, text);
		int error = vu_rights_search(spot->mount->stack, path);
		return error < 0 ? error : vu_stack_open_joined(call, spot->mount->stack, path, flags, &spot->seen);
	}
	if (spot->mount->wired) {
		int error = vu_wired_prepare(call, spot->mount, spot->rest, 0);
		if (error < 0)
			return error;
	}
	if (*spot->rest)
		return vu_walk_open_below(spot->mount->fd, spot->rest, flags);
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

int vu_walk_open_on(struct vu_walk *walk, struct vu_spot *spot, uint64_t flags)
{
	int fd = vu_walk_open_spot(walk->call, spot, flags);
	return fd == -EACCES && walk->begun ? vu_walk_from_start(walk, spot, flags) : fd;
}

/* Whether the caller's kernel, having come the same way, stands on the object that `mount` shows. */
bool vu_walk_agrees(const struct vu_walk *walk, const struct vu_mount *mount)
{
	if (mount->stack && !vu_stack_is_bottom(mount->stack, &walk->seen))
		return false;
	if (mount->wired || mount->upon)
		return false; /* the kernel would ask nobody */
	if (walk->absolute)
		return mount->identity;
	return mount == walk->start || (walk->start->identity && mount->identity);
}

void vu_walk_find(const struct vu_walk *walk, struct vu_spot *spot)
{
	vu_table_find(walk->call->table, *walk->view ? walk->view : "/", spot);
}

void vu_walk_note_jump(struct vu_walk *walk)
{
	struct vu_spot spot;
	if (!walk->clean)
		return;
	vu_walk_find(walk, &spot);
	walk->clean = vu_walk_agrees(walk, spot.mount);
}

void vu_walk_go_root(struct vu_walk *walk)
{
	size_t length = strlen(walk->state->root);
	if (!(walk->flags & VU_IN_ROOT)) {
		walk->begun = 0;
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
	if (walk->length < walk->begun) {
		walk->begun = walk->length;
		walk->ups++;
	}
	return 0;
}

/* The end of the component that starts at `path`. */
static const char *component_end(const char *path)
{
	return path + strcspn(path, "/");
}

bool vu_walk_is_dot(const char *name, const char *end)
{
	return end - name == 1 && *name == '.';
}

bool vu_walk_is_dot_dot(const char *name, const char *end)
{
	return end - name == 2 && name[0] == '.' && name[1] == '.';
}

int vu_walk_may_follow(const struct vu_walk *walk, const struct stat *link, const struct vu_stack *stack, int directory)
{
	const mode_t everybodys = S_ISVTX | S_IWOTH;
	struct stat above;
	if (!(walk->call->session->options.flags & VU_SESSION_PROTECTED_LINKS))
		return 0;
	if (link->st_uid == (uid_t)syscall(SYS_setfsuid, -1)) /* which changes nothing, and tells it */
		return 0;
	int error = directory < 0 ? directory : vu_owner_stat(stack, directory, &above);
	if (error < 0)
		return error;
	return (above.st_mode & everybodys) != everybodys || above.st_uid == link->st_uid ? 0 : -EACCES;
}

/* The same of a link on the way, whose name follows view[before]. */
static int may_follow(struct vu_walk *walk, int link, size_t before)
{
	struct stat st;
	struct vu_spot spot;
	if (!(walk->call->session->options.flags & VU_SESSION_PROTECTED_LINKS))
		return 0;
	if (fstat(link, &st) < 0)
		return -errno;
	walk->view[before] = 0;
	vu_walk_find(walk, &spot);
	VU_CLOSE int directory = vu_walk_open_on(walk, &spot, O_DIRECTORY | O_NOFOLLOW);
	walk->view[before] = '/';
	return vu_walk_may_follow(walk, &st, spot.mount->stack, directory);
}

/*
 * The kernel met a link in `run`, which follows the canonical path: find the first, and put its text in front of what
 * follows it. Leaves the canonical path as it was, but for a jump.
 */
static int expand(struct vu_walk *walk, const char *run, struct vu_place *place)
{
	struct vu_work *work = walk->call->work;
	size_t before = walk->length, start = before;
	if (++walk->links > VU_LINKS)
		return -ELOOP;
	if (walk->flags & VU_NO_LINKS) {
		/* Only a link on the way is refused; what is not even a directory to start in, is not. */
		struct vu_spot spot;
		vu_walk_find(walk, &spot);
		VU_CLOSE int here = vu_walk_open_on(walk, &spot, O_DIRECTORY | O_NOFOLLOW);
		return here == -ENOTDIR ? here : -ELOOP;
	}
	const char *end;
	for (const char *name = run; *name; name = end + strspn(end, "/"), before = walk->length) {
		end = component_end(name);
		if (vu_walk_is_dot(name, end) || vu_walk_is_dot_dot(name, end))
			break;
		walk->view[before] = '/';
		memcpy(walk->view + before + 1, name, (size_t)(end - name));
		walk->length = before + 1 + (size_t)(end - name);
		walk->view[walk->length] = 0;
		struct vu_spot spot;
		vu_walk_find(walk, &spot);
		if (!*spot.rest)
			continue; /* an entry's own target is no link */
		VU_CLOSE int link = vu_walk_open_on(walk, &spot, O_NOFOLLOW);
		if (link == -ENOENT && spot.node)
			continue; /* there for the sake of an entry below it, and for nothing else */
		if (link == -ELOOP)
			break; /* the start itself is a link, held by a descriptor */
		if (link < 0)
			return link;
		ssize_t n = readlinkat(link, "", work->link, PATH_MAX);
		if (n < 0)
			continue; /* ENOENT: not a link */
		work->link[n] = 0;
		walk->seen = spot.seen;
		const char *rest = end + strspn(end, "/");
		if (!*rest && *end)
			walk->trailing_path = true;
		int refused = *rest ? 0 : may_follow(walk, link, before);
		if (refused < 0)
			return refused;
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

/* Where the walk ends. */
static int open_end(struct vu_walk *walk, struct vu_spot *spot, uint64_t flags)
{
	char text[VU_TEXT];
	if (!walk->shallow || !spot->mount->stack)
		return vu_walk_open_on(walk, spot, flags);
	int fd = vu_stack_open_first(spot->mount->stack, vu_stack_path(spot, text), flags, &spot->seen);
	return fd == -EACCES && walk->begun ? vu_walk_from_start(walk, spot, flags) : fd;
}

/*
 * The object of the last run of names. A directory that is to be listed is opened for that at once, where the name says
 * all: with a slash behind it a link is followed whatever the flags are.
 */
static int open_last(struct vu_walk *walk, struct vu_spot *spot, uint64_t flags, struct vu_place *place)
{
	uint64_t listing = walk->call->listing;
	if (!walk->call->session->enforce && walk->clean && vu_walk_agrees(walk, spot->mount))
		listing = 0; /* the caller opens it itself, and who watches it with inotify(7) sees one open */
	place->listing = listing && spot->mount->kind != VU_HIDE && !spot->mount->stack && !spot->mount->wired &&
			 *spot->rest && strlen(spot->rest) < PATH_MAX && !(walk->trailing && (listing & O_NOFOLLOW));
	int fd;
	vu_notify_comes_to(walk->call, spot->mount);
	if (place->listing)
		fd = open_linkless(spot->mount->fd, spot->rest, listing);
	else
		fd = open_end(walk, spot, flags);
	if (place->listing && fd == -EACCES && walk->begun) { /* it may be the way there that is closed */
		place->listing = false;
		fd = vu_walk_from_start(walk, spot, flags);
	}
	place->listing &= fd >= 0;
	return fd;
}

/* Append the longest run of plain names of walk->rest to the view; returns what follows it, NULL if too long. */
static const char *append_run(struct vu_walk *walk, size_t *length, bool *slash)
{
	const char *next = walk->rest;
	*length = walk->length;
	while (*next) {
		const char *end = component_end(next);
		if (vu_walk_is_dot(next, end) || vu_walk_is_dot_dot(next, end))
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

/* Does a module answer for where the walk has come to? */
static int is_claimed(struct vu_walk *walk, size_t length, const struct vu_place *place)
{
	int claimed = vu_claims_path(walk->call, walk->view);
	if (claimed < 0 && walk->shallow && length + strlen(place->name) + 2 <= VU_TEXT) {
		walk->view[length] = '/';
		strcpy(walk->view + length + 1,
		       place->name); /* of the directory has been asked: the last name follows */
		walk->call->claim = 0;
		if (!(claimed = vu_claims_path(walk->call, walk->view))) /* and that may go on: claims.c */
			walk->view[length] = 0;
	}
	return claimed;
}

/* Resolve walk->rest. Leaves the object in place->fd. */
int vu_walk_resolve(struct vu_walk *walk, bool follow, bool directory, struct vu_place *place)
{
	VU_CLOSE int fd = -1;
	struct vu_spot spot;
	for (;;) {
		walk->rest += strspn(walk->rest, "/");
		if (!*walk->rest)
			break;
		const char *end = component_end(walk->rest);
		bool dot = vu_walk_is_dot(walk->rest, end);
		if (dot || vu_walk_is_dot_dot(walk->rest, end)) {
			walk->trailing = true;
			walk->rest = end;
			if (fd < 0) { /* the start: it may be a descriptor of a file */
				vu_walk_find(walk, &spot);
				if ((fd = vu_walk_open_on(walk, &spot, O_DIRECTORY | O_NOFOLLOW)) < 0)
					return fd;
				walk->seen = spot.seen;
			}
			/* Even "." is looked up, which takes search permission: fs/namei.c may_lookup. */
			vu_walk_find(walk, &spot);
			int error = vu_rights_ask(spot.mount->stack, fd, X_OK);
			if (error < 0)
				return error;
			if (dot)
				continue;
			vu_close(&fd);
			if ((error = go_up(walk)) < 0)
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
		if (last && walk->call->table->claims) {
			int claimed = is_claimed(walk, length, place);
			if (claimed < 0)
				return claimed;
		}
		vu_walk_find(walk, &spot);
		vu_close(&fd);
		uint64_t flags = directory || walk->trailing ? O_DIRECTORY : 0;
		if (last)
			fd = open_last(walk, &spot, flags | (follow || walk->trailing ? 0 : O_NOFOLLOW), place);
		else
			fd = vu_walk_open_on(walk, &spot, flags);
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
				VU_CLOSE int here = vu_walk_open_on(walk, &spot, O_DIRECTORY | O_NOFOLLOW);
				if (here < 0)
					return here;
			}
			continue;
		}
		if (fd < 0)
			return fd;
		walk->seen = spot.seen;
		walk->length = length;
		walk->rest = next;
	}
	if (fd < 0) { /* the start itself, or what ".." or a link to the root led to */
		vu_walk_find(walk, &spot);
		fd = open_end(walk, &spot, O_NOFOLLOW | (directory || walk->trailing ? O_DIRECTORY : 0));
		if (fd < 0)
			return fd;
		walk->seen = spot.seen;
	}
	place->fd = fd;
	fd = -1;
	return 0;
}
