/*
 * The links of procfs. "self" and "thread-self" mean the caller, not us; cwd, root, exe, fd/N and the like lead to an
 * object and not through a text. Such an object is looked up in the view again: what the view does not show is not
 * there, by whatever process it was reached.
 */
#include "walk.h"

#include <ctype.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/vfs.h>

static bool is_magic(const char *name, const char *directory)
{
	static const char *const names[] = {"cwd", "root", "exe"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(name, names[i]))
			return true;
	return !strcmp(directory, "fd") || !strcmp(directory, "map_files") || !strcmp(directory, "ns");
}

/* Is `path` the name of an object that has been removed, or one in a tree that we cannot see? */
static bool names(const char *path, const struct stat *object)
{
	struct stat st;
	return !lstat(path, &st) && st.st_dev == object->st_dev && st.st_ino == object->st_ino;
}

/* Whose link it is: the last number among the components before the name. Is that thread one of this session's? */
static bool of_member(const struct vu_walk *walk)
{
	const char *end = strrchr(walk->view, '/');
	while (end && end > walk->view) {
		const char *start = memrchr(walk->view, '/', (size_t)(end - walk->view));
		if (!start)
			break;
		if (strspn(start + 1, "0123456789") == (size_t)(end - start - 1)) {
			struct rlimit limit;
			uint64_t tag = walk->call->session->options.tag;
			return !prlimit(atoi(start + 1), RLIMIT_LOCKS, NULL, &limit) &&
			       limit.rlim_cur >> VU_STATE_BITS == tag >> VU_STATE_BITS;
		}
		end = start;
	}
	return false;
}

/*
 * A pipe, a socket, a memfd, a deleted file, a file that entries of the view lie over (a program's own output, say): an
 * object, but no place. Landlock keeps members from those of other processes; it does not see that we look for them.
 */
static int take_object(struct vu_walk *walk, int *object, mode_t mode, const char *rest, struct vu_place *place)
{
	if (*rest || walk->trailing_path)
		return S_ISDIR(mode) ? -ENOENT : -ENOTDIR;
	if (walk->call->session->enforce && !of_member(walk))
		return -EACCES;
	place->fd = *object;
	*object = -1;
	place->magic = true;
	return VU_COMPLETE;
}

static int jump(struct vu_walk *walk, const struct vu_spot *spot, const char *rest, struct vu_place *place)
{
	struct vu_work *work = walk->call->work;
	struct vu_session *session = walk->call->session;
	const struct vu_mount *mount;
	struct stat st;
	char number[16];
	VU_CLOSE int object = openat(spot->mount->fd, spot->rest, O_PATH | O_CLOEXEC);
	if (object < 0)
		return -errno;
	snprintf(number, sizeof number, "%d", object);
	ssize_t n = readlinkat(session->self_fd, number, work->host, sizeof work->host - 1);
	if (n < 0 || fstat(object, &st) < 0)
		return -errno;
	work->host[n] = 0;
	if (*work->host != '/' || !names(work->host, &st))
		return take_object(walk, &object, st.st_mode, rest, place);
	int error = vu_table_reverse(&session->table, work->host, walk->state->cwd_mount, work->scratch, &mount);
	if (error == -EACCES || (error < 0 && S_ISDIR(st.st_mode))) {
		walk->withheld = true;
		return -ENOENT;
	}
	/* An O_PATH descriptor of a link: the magic link leads to the link itself, and no further. */
	if (error < 0 || S_ISLNK(st.st_mode))
		return take_object(walk, &object, st.st_mode, rest, place);
	walk->length = strcmp(work->scratch, "/") ? strlen(work->scratch) : 0;
	memcpy(walk->view, work->scratch, walk->length);
	walk->view[walk->length] = 0;
	if (!walk->absolute) {
		walk->start = mount;
	} else if (!mount->identity) {
		/* From here on the caller's kernel is where we are, though by another name. */
		walk->absolute = false;
		walk->start = mount;
	}
	return vu_walk_prepend(walk, "", rest);
}

int vu_walk_proc(struct vu_walk *walk, const struct vu_spot *spot, int link, size_t before, const char *rest,
		 struct vu_place *place)
{
	struct statfs fs;
	if (fstatfs(link, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC)
		return VU_NO_LINK;
	char name[NAME_MAX + 1], directory[NAME_MAX + 1], text[64] = "";
	const char *slash = memrchr(walk->view, '/', before);
	snprintf(name, sizeof name, "%s", walk->view + before + 1);
	if (slash)
		snprintf(directory, sizeof directory, "%.*s", (int)(walk->view + before - slash - 1), slash + 1);
	else
		*directory = 0;
	if (!strcmp(name, "self") && isdigit(*walk->call->work->link))
		snprintf(text, sizeof text, "%d", vu_tgid(walk->call));
	else if (!strcmp(name, "thread-self"))
		snprintf(text, sizeof text, "%d/task/%d", vu_tgid(walk->call), walk->call->tid);
	else if (!is_magic(name, directory))
		return VU_NO_LINK;
	if (*text) {
		walk->length = before;
		walk->view[before] = 0;
		return vu_walk_prepend(walk, text, rest);
	}
	if (walk->flags & VU_NO_MAGIC)
		return -ELOOP;
	if (walk->flags & (VU_BENEATH | VU_IN_ROOT))
		return -EXDEV;
	vu_walk_note_jump(walk);
	if (!strcmp(name, "root")) {
		vu_walk_go_root(walk);
		return vu_walk_prepend(walk, "", rest);
	}
	return jump(walk, spot, rest, place);
}
