/* The directory of a last name that need not exist, and what is to be said, and judged, of where a walk has ended. */
#include "stack.h"
#include "walk.h"
#include "wired.h"

#include <stdio.h>
#include <sys/syscall.h>

/* Fill in what the canonical path says of the place. */
void vu_walk_describe(struct vu_walk *walk, struct vu_place *place)
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
int vu_own_link(struct vu_session *session, int fd, char *out, size_t room)
{
	char number[16];
	snprintf(number, sizeof number, "%d", fd);
	ssize_t n = readlinkat(session->self_fd, number, out, room - 1);
	if (n < 0)
		return -errno;
	out[n] = 0;
	return (int)n;
}

/* Is `host` what `rest` below the source names? */
static bool lies_at(const char *host, const char *source, size_t length, const char *rest)
{
	return !strncmp(host, source, length) && (!host[length] || host[length] == '/' || !length) &&
	       !strcmp(host + length + strspn(host + length, "/"), rest);
}

/*
 * An enforcing view judges the object, not the text it was found by: a directory on the way may have been renamed
 * between the look at the table and the open.
 */
int vu_walk_judge(struct vu_walk *walk, int fd)
{
	if (!walk->call->session->enforce || fd < 0)
		return 0;
	struct vu_work *work = walk->call->work;
	struct vu_spot spot;
	vu_walk_find(walk, &spot);
	int n = vu_own_link(walk->call->session, fd, work->host, sizeof work->host);
	if (n < 0)
		return n;
	if (spot.mount->stack) {
		const char *path = vu_stack_path(&spot, work->text);
		return vu_stack_judge(spot.mount->stack, path, &walk->seen, work->host) ? 0 : -EAGAIN;
	}
	if (lies_at(work->host, spot.mount->source, spot.mount->source_length, spot.rest))
		return 0;
	/* What the mount shows may have been renamed since. */
	char source[PATH_MAX];
	int length = vu_own_link(walk->call->session, spot.mount->fd, source, sizeof source);
	return length > 0 && lies_at(work->host, source, (size_t)length, spot.rest) ? 0 : -EAGAIN;
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

/* A name in the directory that has been come to. */
static int from_start(struct vu_walk *walk, const char *name)
{
	size_t length = walk->length, more = strlen(name);
	struct vu_spot spot;
	if (length + more + 2 > VU_TEXT)
		return -ENAMETOOLONG;
	walk->view[length] = '/';
	memcpy(walk->view + length + 1, name, more + 1);
	vu_walk_find(walk, &spot);
	int fd = vu_walk_from_start(walk, &spot, O_NOFOLLOW);
	walk->view[length] = 0;
	walk->seen = spot.seen;
	return fd;
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
	if (place->fd == -EACCES && walk->begun)
		place->fd = from_start(walk, place->name);
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
static int may_search(const struct vu_walk *walk, const struct vu_place *place)
{
	bool special = !strcmp(place->name, ".") || !strcmp(place->name, "..");
	if (place->mount->stack) /* of several trees: other names are judged where it is acted on them */
		return special ? vu_rights_ask(place->mount->stack, place->parent, X_OK) : 0;
	if (!special && walk->call->row->path2 < 0)
		return 0;
	return vu_result(faccessat(place->parent, "", X_OK, AT_EMPTY_PATH | AT_EACCESS));
}

/* Resolve the directory of the last name, and look at the name itself without requiring that it exists. */
int vu_walk_parent(struct vu_walk *walk, const char *path, struct vu_place *place)
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
		if ((error = vu_walk_judge(walk, place->parent)) < 0)
			return error;
		vu_walk_describe(walk, place);
		place->top = place->mount->stack && place->seen.tree == 0;
		place->mountpoint = false;
		if ((error = may_search(walk, place)) < 0)
			return error;
		if (!is_plain(place->name)) {
			place->node =
				NULL; /* no call makes or removes such a name; which errno is the kernel's to say */
			return 0;
		}
		size_t length = strlen(place->name);
		if (walk->length + length + 2 > VU_TEXT)
			return -ENAMETOOLONG;
		if (walk->call->table->claims) {
			walk->view[walk->length] = '/';
			memcpy(walk->view + walk->length + 1, place->name, length + 1);
			if ((error = vu_claims_path(walk->call, walk->view)) < 0)
				return error;
			walk->view[walk->length] = 0;
		}
		if (place->mount->wired && (error = vu_wired_prepare_name(walk->call, place)) < 0)
			return error;
		const struct vu_node *child = place->node ? vu_node_child(place->node, place->name, length) : NULL;
		if ((walk->flags & VU_FOLLOW) && !place->top && vu_on_procfs(place->parent)) {
			/* No name is made there, and a link may lead to an object without a path. */
			strcpy(work->rest, place->name);
			walk->rest = work->rest;
			if ((error = vu_walk_resolve(walk, true, place->trailing, place)) < 0)
				return error;
			vu_walk_describe(walk, place);
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
			vu_walk_describe(walk, place);
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
					 ? vu_walk_open_on(walk, &spot, stacked ? O_NOFOLLOW : 0)
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
