/* A path below a stack → the object that it shows. */
#include "stack.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "paths.h"
#include "walk.h"
#include "wired.h"

enum { COVERED = -2000 }; /* a whiteout: nothing is there, whatever the trees below have */

static const char *join(const struct vu_mount *mount, const char *rest, char buffer[VU_TEXT])
{
	if (!mount->base || !*rest)
		return mount->base ? mount->base : rest;
	size_t length = strlen(mount->base);
	if (length + strlen(rest) + 2 > VU_TEXT) { /* a name that no file system has: ENAMETOOLONG */
		memset(buffer, 'x', NAME_MAX + 2);
		buffer[NAME_MAX + 2] = 0;
		return buffer;
	}
	memcpy(buffer, mount->base, length);
	buffer[length] = '/';
	strcpy(buffer + length + 1, rest);
	return buffer;
}

const char *vu_stack_path(const struct vu_spot *spot, char buffer[VU_TEXT])
{
	return join(spot->mount, spot->rest, buffer);
}

const char *vu_stack_rest(const struct vu_place *place)
{
	enum { PLACES = 4 };
	static _Thread_local struct {
		const struct vu_place *of;
		char text[VU_TEXT];
	} kept[PLACES];
	static _Thread_local unsigned next;
	const char *rest = place->view + place->mount->target_length;
	unsigned at = 0;
	rest += strspn(rest, "/");
	if (!place->mount->base)
		return rest;
	while (at < PLACES && kept[at].of != place)
		at++;
	if (at == PLACES)
		at = next++ % PLACES;
	kept[at].of = place;
	return join(place->mount, rest, kept[at].text);
}

/* Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories". */
bool vu_stack_is_whiteout(int fd, const struct stat *st, bool attributes)
{
	char path[32];
	if (S_ISCHR(st->st_mode))
		return st->st_rdev == makedev(0, 0);
	return attributes && S_ISREG(st->st_mode) && !st->st_size &&
	       getxattr(vu_fd_path(fd, path), "user.overlay.whiteout", NULL, 0) >= 0;
}

/* *fact (may be NULL) is what is known of the name where the way stops. */
static int find_way(struct vu_stack *stack, const struct vu_tree *tree, const char *path, struct vu_way *way,
		    enum vu_fact_kind *fact, char *below)
{
	int error = 0;
	pthread_mutex_lock(&stack->lock);
	vu_dirs_find(tree->dirs, path, way);
	if (fact)
		*fact = vu_facts_find(stack, path, way);
	if (way->redirected)
		error = vu_dirs_below(tree->dirs, path, below);
	pthread_mutex_unlock(&stack->lock);
	return error;
}

static int open_directory(const struct vu_tree *tree, const char *path)
{
	return *path ? vu_walk_open_below(tree->fd, path, O_DIRECTORY | O_NOFOLLOW)
		     : vu_result(fcntl(tree->fd, F_DUPFD_CLOEXEC, 0));
}

/*
 * What lies where the directories of a layer end: -ENOENT if nothing, COVERED, the object itself if the path ends there
 * too, else what opening something below it is refused with. -EAGAIN: a directory has been made there since.
 */
static int open_stop(const struct vu_tree *tree, const char *path, const struct vu_way *way, uint64_t flags)
{
	char prefix[VU_TEXT];
	struct stat st;
	bool last = !path[way->stop + strspn(path + way->stop, "/")];
	memcpy(prefix, path, way->stop);
	prefix[way->stop] = 0;
	VU_CLOSE int fd = vu_walk_open_below(tree->fd, prefix, O_NOFOLLOW);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (vu_stack_is_whiteout(fd, &st, way->attribute_whiteouts))
		return COVERED;
	if (S_ISDIR(st.st_mode))
		return -EAGAIN;
	if (S_ISLNK(st.st_mode) && (!last || !(flags & O_NOFOLLOW)))
		return -ELOOP;
	if (!last || (flags & O_DIRECTORY))
		return -ENOTDIR;
	int result = fd;
	fd = -1;
	return result;
}

/* In one tree. *directory: it is one, which goes on below; *covers: the trees below show nothing here. */
static int open_in(struct vu_stack *stack, unsigned index, const char *path, uint64_t flags, bool *directory,
		   bool *covers, char *below)
{
	const struct vu_tree *tree = &stack->trees[index];
	bool lowest = index == stack->count - 1;
	struct stat st;
	*directory = *covers = false;
	*below = 0;
	for (unsigned tries = 0; tree->dirs && tries < 1000; tries++) {
		struct vu_way way;
		enum vu_fact_kind fact;
		int error = find_way(stack, tree, path, &way, &fact, below);
		if (error < 0)
			return error;
		*covers = way.opaque;
		if (way.known == strlen(path)) {
			*directory = true;
			return open_directory(tree, path);
		}
		if (fact != VU_FACT_NONE)
			return fact == VU_FACT_WHITEOUT ? COVERED : -ENOENT;
		int fd = open_stop(tree, path, &way, flags);
		if (fd == -ENOENT || fd == COVERED)
			vu_facts_add(stack, index, path, &way, fd == COVERED ? VU_FACT_WHITEOUT : VU_FACT_ABSENT);
		if (fd != -EAGAIN)
			return fd;
	}
	int error = vu_tree_prepare(tree, path, 0);
	if (error < 0)
		return error;
	if (!*path) {
		*directory = true;
		return open_directory(tree, path);
	}
	int fd = vu_walk_open_below(tree->fd, path, flags);
	if (fd >= 0 && !lowest) /* at the bottom it need not be known: nothing comes after */
		*directory = !fstat(fd, &st) && S_ISDIR(st.st_mode);
	return fd;
}

int vu_stack_open_tree(struct vu_stack *stack, unsigned index, const char *path, bool *covers, bool *attributes,
		       char below[VU_TEXT])
{
	bool directory;
	struct vu_way way = {};
	int fd = open_in(stack, index, path, O_DIRECTORY | O_NOFOLLOW, &directory, covers, below);
	if (fd >= 0 && stack->trees[index].dirs) {
		pthread_mutex_lock(&stack->lock);
		vu_dirs_find(stack->trees[index].dirs, path, &way);
		pthread_mutex_unlock(&stack->lock);
	}
	*attributes = way.attribute_whiteouts;
	return fd;
}

/* `shallow`: the search ends with the first tree that has it. */
static int open_from(struct vu_stack *stack, unsigned from, const char *path, uint64_t flags, bool shallow,
		     struct vu_seen *seen)
{
	char texts[2][VU_TEXT];
	unsigned turn = 0;
	int found = -1;
	*seen = (struct vu_seen){ .tree = -1, .lowest = -1 };
	for (unsigned i = from; i < stack->count; i++) {
		bool directory, covers;
		int fd = open_in(stack, i, path, found < 0 ? flags : O_DIRECTORY | O_NOFOLLOW, &directory, &covers,
				 texts[turn]);
		if (found >= 0) {
			if (fd >= 0) {
				close(fd);
				seen->lowest = (int8_t)i;
			} else if (fd == -VU_LATER) {
				close(found);
				return fd;
			} else if (fd != -ENOENT) {
				break; /* of another kind, or not to be reached: it does not show */
			}
		} else if (fd >= 0) {
			seen->tree = seen->lowest = (int8_t)i;
			if (!directory || shallow)
				return fd;
			found = fd;
		} else if (fd != -ENOENT) {
			seen->covered = fd == COVERED && !i;
			return fd == COVERED ? -ENOENT : fd;
		}
		if (covers)
			break;
		if (*texts[turn]) {
			path = texts[turn];
			seen->redirected = true;
			turn = !turn;
		}
	}
	return found < 0 ? -ENOENT : found;
}

int vu_stack_open(struct vu_stack *stack, const char *path, uint64_t flags, struct vu_seen *seen)
{
	return open_from(stack, 0, path, flags, false, seen);
}

int vu_stack_open_first(struct vu_stack *stack, const char *path, uint64_t flags, struct vu_seen *seen)
{
	int fd = open_from(stack, 0, path, flags, true, seen);
	seen->lowest = (int8_t)(stack->count - 1);
	return fd;
}

int vu_stack_open_below(struct vu_stack *stack, unsigned from, const char *path, struct vu_seen *seen)
{
	char above[VU_TEXT], below[VU_TEXT];
	vu_split(path, above);
	size_t length = strlen(above);
	for (unsigned i = 0; i < from; i++) {
		struct vu_way way;
		if (!stack->trees[i].dirs)
			continue;
		int error = find_way(stack, &stack->trees[i], above, &way, NULL, below);
		if (error < 0)
			return error;
		if (way.opaque)
			return -ENOENT;
		if (way.known < length) { /* something else than the directory may be there, and cover it */
			int fd = open_stop(&stack->trees[i], above, &way, O_NOFOLLOW);
			if (fd != -ENOENT)
				return fd < 0 ? -ENOENT : (close(fd), -ENOENT);
		}
		if (way.redirected) {
			if ((error = find_way(stack, &stack->trees[i], path, &way, NULL, below)) < 0)
				return error;
			return open_from(stack, from, strcpy(above, below), O_NOFOLLOW, false, seen);
		}
	}
	return open_from(stack, from, path, O_NOFOLLOW, false, seen);
}

const char *vu_stack_path_in(struct vu_stack *stack, const char *path, int tree, char texts[2][VU_TEXT])
{
	unsigned turn = 0;
	for (int i = 0; i < tree; i++) {
		struct vu_way way;
		if (!stack->trees[i].dirs)
			continue;
		if (find_way(stack, &stack->trees[i], path, &way, NULL, texts[turn]) < 0)
			return NULL;
		if (way.redirected) {
			path = texts[turn];
			turn = !turn;
		}
	}
	return path;
}

static int open_lowest(struct vu_stack *stack, const char *path, const struct vu_seen *seen, unsigned want)
{
	char texts[2][VU_TEXT];
	const struct vu_tree *tree = &stack->trees[seen->lowest];
	if (!(path = vu_stack_path_in(stack, path, seen->lowest, texts)))
		return -ENAMETOOLONG;
	int error = vu_tree_prepare(tree, path, want);
	return error < 0 ? error : open_directory(tree, path);
}

int vu_stack_open_lowest(struct vu_stack *stack, const char *path, const struct vu_seen *seen)
{
	return open_lowest(stack, path, seen, 0);
}

int vu_stack_open_to_list(struct vu_stack *stack, const char *path, const struct vu_seen *seen)
{
	return open_lowest(stack, path, seen, VU_WIRE_LIST);
}

bool vu_stack_judge(struct vu_stack *stack, const char *path, const struct vu_seen *seen, const char *host)
{
	char texts[2][VU_TEXT];
	unsigned turn = 0;
	const struct vu_tree *tree = &stack->trees[seen->tree < 0 ? 0 : seen->tree];
	for (const struct vu_tree *above = stack->trees; above < tree; above++) {
		struct vu_way way;
		if (!above->dirs || find_way(stack, above, path, &way, NULL, texts[turn]) < 0 || !way.redirected)
			continue;
		path = texts[turn];
		turn = !turn;
	}
	return !strncmp(host, tree->path, tree->length) &&
	       !strcmp(host + tree->length + strspn(host + tree->length, "/"), path);
}

bool vu_stack_is_merged(struct vu_stack *stack, const char *path)
{
	struct vu_way way = {};
	if (!stack->layered)
		return stack->handles.fd >= 0;
	pthread_mutex_lock(&stack->lock);
	bool known = vu_dirs_find(stack->trees[0].dirs, path, &way);
	pthread_mutex_unlock(&stack->lock);
	return known && !way.opaque;
}

bool vu_stack_untouched(struct vu_stack *stack, const char *path, unsigned tree)
{
	struct vu_way way;
	bool untouched = tree == stack->count - 1;
	pthread_mutex_lock(&stack->lock);
	for (unsigned i = 0; untouched && i < tree; i++)
		untouched = stack->trees[i].dirs && !vu_dirs_find(stack->trees[i].dirs, path, &way) && !way.opaque &&
			    !way.redirected;
	pthread_mutex_unlock(&stack->lock);
	return untouched;
}

int vu_stack_read_directory(int fd)
{
	char path[32];
	return open(vu_fd_path(fd, path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Make `path` below the handles, with all that leads to it. */
static int open_handle(struct vu_stack *stack, const char *path)
{
	char part[VU_TEXT];
	for (const char *end = path; *end;) {
		end += strspn(end, "/");
		end += strcspn(end, "/");
		memcpy(part, path, (size_t)(end - path));
		part[end - path] = 0;
		/* What may be done with the directory is asked of its place, never of this. */
		if (mkdirat(stack->handles.fd, part, 0777) < 0 ? errno != EEXIST
							       : fchmodat(stack->handles.fd, part, 01777, 0) < 0)
			return -errno;
	}
	return open_directory(&stack->handles, path);
}

static int open_given(struct vu_stack *stack, const struct vu_place *place, const char *path)
{
	if (stack->handles.fd >= 0) {
		int fd = open_directory(&stack->handles, path);
		return fd == -ENOENT ? open_handle(stack, path) : fd;
	}
	if (!place->merged || place->seen.redirected)
		return -ENOENT;
	return vu_stack_open_lowest(stack, path, &place->seen);
}

/* The directory has been come to; that the way from the root of the tree is closed to the caller does not count (walk_start.c). */
#define WITH_OWN_RIGHTS(call, open)                                                                                    \
	__extension__({                                                                                                \
		int fd_ = (open);                                                                                      \
		if (fd_ == -EACCES && (call)->assumed) {                                                               \
			vu_own_rights((call), true);                                                                   \
			fd_ = (open);                                                                                  \
			vu_own_rights((call), false);                                                                  \
		}                                                                                                      \
		fd_;                                                                                                   \
	})

int vu_stack_open_given(struct vu_call *call, const struct vu_place *place)
{
	const char *path = vu_stack_rest(place);
	return WITH_OWN_RIGHTS(call, open_given(place->mount->stack, place, path));
}

int vu_stack_object_of(struct vu_call *call, struct vu_place *place)
{
	struct vu_stack *stack = place->mount->stack;
	const char *path = vu_stack_rest(place);
	return WITH_OWN_RIGHTS(call, vu_stack_open_joined(call, stack, path, O_NOFOLLOW, &place->seen));
}

int vu_stack_lowest_of(struct vu_call *call, const struct vu_place *place)
{
	const char *path = vu_stack_rest(place);
	return WITH_OWN_RIGHTS(call, vu_stack_open_lowest(place->mount->stack, path, &place->seen));
}

bool vu_stack_tells(struct vu_stack *stack, const struct vu_seen *seen)
{
	return vu_seen_merged(seen) || (stack->has_owners && seen->tree < (int)stack->count - 1);
}
