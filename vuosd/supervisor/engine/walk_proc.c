/*
 * The links of procfs. "self" and "thread-self" mean the caller, not us; cwd, root, exe, fd/N and the like lead to an
 * object and not through a text. Such an object is looked up in the view again: what the view does not show is not
 * there, by whatever process it was reached.
 */
#include "stack.h"
#include "walk.h"

#include <ctype.h>
#include <stdio.h>
#include <sys/resource.h>

static bool is_magic(const char *name, const char *directory)
{
	static const char *const names[] = { "cwd", "root", "exe" };
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

/* Is this process one of the view's? The worker carries the session's number as well, with the highest state. */
static bool is_member(const struct vu_call *call, pid_t pid)
{
	struct rlimit limit;
	return !vu_limit_of(call->session, pid, RLIMIT_LOCKS, &limit) &&
	       (limit.rlim_cur & VU_STATE_MASK) != VU_STATE_MASK &&
	       limit.rlim_cur >> VU_STATE_BITS == call->session->options.tag >> VU_STATE_BITS;
}

/* What anybody may read of a process of the same user without the right to trace it: fs/proc/base.c tgid_base_stuff. */
static bool is_public(const char *name)
{
	static const char *const names[] = {
		"task",          "stat",       "statm",     "status",          "cmdline",   "comm",      "cgroup",
		"cpuset",        "limits",     "loginuid",  "sessionid",       "mountinfo", "mounts",    "oom_score",
		"oom_score_adj", "oom_adj",    "sched",     "schedstat",       "wchan",     "autogroup", "uid_map",
		"gid_map",       "projid_map", "setgroups", "coredump_filter",
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(name, names[i]))
			return true;
	return !*name;
}

/*
 * The kernel asks who opens such a file whether he may trace the process, and Landlock says no for those outside of its
 * domain. But we open it for the caller, and are outside ourselves. The number in the name is compared when the object is
 * already held, which belongs to one process for ever (fs/proc/base.c: an inode of a dead one is ESRCH).
 */
bool vu_proc_guarded(struct vu_call *call, int fd, bool writes)
{
	char number[16], *path = call->work->host, *end;
	if (!call->session->enforce || fd < 0 || !vu_on_procfs(fd))
		return false;
	snprintf(number, sizeof number, "%d", fd);
	ssize_t n = readlinkat(call->session->self_fd, number, path, VU_TEXT - 1);
	if (n < 0)
		return true;
	path[n] = 0;
	if (!strncmp(path, "/proc/", 6)) {
		if (!isdigit(path[6]))
			return false;
		if (is_member(call, (pid_t)strtol(path + 6, &end, 10)))
			return false;
	} else {
		/* Another procfs: whose numbers those are is not known. Beside processes it has only what is the machine's. */
		for (end = path; *end && !(*end == '/' && isdigit(end[1])); end++)
			;
		end += *end ? 1 + strspn(end + 1, "0123456789") : 0;
		if (!*end)
			return writes;
	}
	if (!strncmp(end, "/task/", 6))
		end += 6 + strspn(end + 6, "0123456789");
	return writes || !is_public(*end ? end + 1 : end);
}

/*
 * A pipe, a socket, a memfd, a deleted file, a file that entries of the view lie over (a program's own output, say): an
 * object, but no place.
 */
static int take_object(struct vu_walk *walk, int *object, mode_t mode, const char *rest, struct vu_place *place)
{
	if (*rest || walk->trailing_path)
		return S_ISDIR(mode) ? -ENOENT : -ENOTDIR;
	place->fd = *object;
	*object = -1;
	place->magic = true;
	return VU_COMPLETE;
}

/* `cwd`: the link is that of a working directory. */
static int jump(struct vu_walk *walk, const struct vu_spot *spot, int link, bool cwd, const char *rest,
		struct vu_place *place)
{
	struct vu_work *work = walk->call->work;
	struct vu_session *session = walk->call->session;
	const struct vu_mount *mount;
	struct stat st;
	int tree;
	char number[16];
	if (vu_proc_guarded(walk->call, link, false))
		return walk->withheld = true, -EACCES;
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
	const struct vu_mount *meant = vu_state_meant(walk->state, cwd);
	int error = vu_table_reverse(walk->call->table, work->host, meant, work->scratch, &mount, &tree);
	bool held = error == -ENOENT && !vu_table_covered(walk->call->table, work->host, NULL, work->scratch, &mount);
	if (error == -EACCES || (error < 0 && S_ISDIR(st.st_mode) && !(held && !*rest))) {
		walk->withheld = true;
		return -ENOENT;
	}
	/* An O_PATH descriptor of a link: the magic link leads to the link itself, and no further. */
	if (error < 0 || S_ISLNK(st.st_mode))
		return take_object(walk, &object, st.st_mode, rest, place);
	walk->begun = 0;
	walk->length = strcmp(work->scratch, "/") ? strlen(work->scratch) : 0;
	memcpy(walk->view, work->scratch, walk->length);
	walk->view[walk->length] = 0;
	walk->seen = (struct vu_seen){ .tree = (int8_t)tree, .lowest = (int8_t)tree };
	if (mount->stack && tree != (int)mount->stack->count - 1)
		walk->clean = false;
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
	if (!vu_on_procfs(link))
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
	return jump(walk, spot, link, !strcmp(name, "cwd"), rest, place);
}
