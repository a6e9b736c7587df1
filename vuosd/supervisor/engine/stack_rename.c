/*
 * Names that are moved within a stack, or exchanged: what has the name is brought into the topmost tree and renamed there,
 * and whiteouts hide what would show through. The checks are in the order of do_renameat2 (fs/namei.c).
 */
#include "stack.h"

#include <sys/syscall.h>

#include "paths.h"
#include "stack_names.h"
#include "walk.h"

/* Everything that shows at the place, in the topmost tree, so that it can go elsewhere. */
static int take_whole(struct vu_call *call, struct vu_place *place, const struct stat *st)
{
	struct vu_stack *stack = place->mount->stack;
	const char *path = vu_stack_rest(place);
	if (!S_ISDIR(st->st_mode))
		return vu_stack_take(call, place, 0);
	vu_notify_step_aside(call);
	return vu_stack_take_tree(call, stack, path);
}

struct move {
	struct vu_call *call;
	struct vu_stack *stack;
	struct vu_place *old, *new;
	struct stat from, to; /* what is moved; what is at the other end, if new->fd >= 0 */
	char old_name[NAME_MAX + 8], new_name[NAME_MAX + 8];
	unsigned flags;
	bool from_directory, to_directory;
};

/* A place's name in its topmost directory: is anything there, also a whiteout? */
static int look(int parent, const char *name, struct stat *st)
{
	return fstatat(parent, name, st, AT_SYMLINK_NOFOLLOW) < 0 ? (errno == ENOENT ? 0 : -errno) : 1;
}

/* A directory that covers what lies below its new name hides all of it. */
static int hide_below(struct move *m, const char *path, int shows, int fd_parent, const char *name)
{
	struct vu_way way;
	struct vu_dir *dir = vu_dirs_find(m->stack->trees[0].dirs, path, &way);
	if (!shows || !dir || dir->opaque)
		return 0;
	VU_CLOSE int fd = vu_walk_open(fd_parent, name, O_DIRECTORY | O_NOFOLLOW);
	int error = fd < 0 ? fd : vu_stack_set_opaque(fd);
	if (!error)
		dir->opaque = true;
	return error;
}

static int exchange(struct move *m, int from, int to, int old_shows, int new_shows)
{
	struct vu_dir *dirs = m->stack->trees[0].dirs;
	const char *old = vu_stack_rest(m->old), *new = vu_stack_rest(m->new);
	int error = hide_below(m, old, new_shows, from, m->old_name);
	if (!error)
		error = hide_below(m, new, old_shows, to, m->new_name);
	if (!error)
		error = vu_result(syscall(SYS_renameat2, from, m->old_name, to, m->new_name, RENAME_EXCHANGE_));
	if (error < 0)
		return error;
	static const char aside[] = "/\1exchange"; /* no path of a layer begins so */
	vu_dirs_move(dirs, old, aside);
	vu_dirs_move(dirs, new, old);
	vu_dirs_move(dirs, aside, new);
	return 0;
}

/* The topmost tree has what is moved, whole; move it there. */
static int move(struct move *m, int from, int to, int old_shows, int new_shows)
{
	struct vu_stack *stack = m->stack;
	const char *old = vu_stack_rest(m->old), *new = vu_stack_rest(m->new);
	struct stat there;
	int present = look(to, m->new_name, &there), error = present < 0 ? present : 0;
	bool crosses = false; /* a directory takes the place of a whiteout, or of a directory full of them */
	if (error < 0)
		return error;
	if (m->from_directory) {
		if ((error = hide_below(m, old, new_shows, from, m->old_name)) < 0)
			return error;
		if (present && S_ISDIR(there.st_mode))
			error = vu_check_empty(stack, new, &(struct vu_seen){}, true);
		else
			crosses = present;
	}
	unsigned flags = crosses ? RENAME_EXCHANGE_ : old_shows && !stack->attribute_whiteouts ? RENAME_WHITEOUT_ : 0;
	if (!error)
		error = vu_result(syscall(SYS_renameat2, from, m->old_name, to, m->new_name, flags));
	if (error == -EINVAL && flags == RENAME_WHITEOUT_) { /* not on this file system */
		flags = 0;
		error = vu_result(syscall(SYS_renameat2, from, m->old_name, to, m->new_name, 0));
	}
	if (error < 0)
		return error;
	if (crosses && !old_shows)
		error = vu_result(unlinkat(from, m->old_name, 0));
	else if (!flags && old_shows)
		error = vu_cover(stack, from, m->old_name, false, false);
	if (m->from_directory)
		vu_dirs_move(stack->trees[0].dirs, old, new);
	return error;
}

static int rename_locked(struct move *m)
{
	struct vu_stack *stack = m->stack;
	const char *old = vu_stack_rest(m->old), *new = vu_stack_rest(m->new);
	char above[VU_TEXT];
	struct stat below_old, below_new;
	int error;
	if (m->to_directory && !(m->flags & RENAME_EXCHANGE_) &&
	    (error = vu_check_empty(stack, new, &m->new->seen, false)) < 0)
		return error;
	if (!stack->layered) {
		if (m->old->seen.tree || (m->new->fd >= 0 && m->new->seen.tree))
			return -EROFS;
		return vu_result(
			syscall(SYS_renameat2, m->old->parent, m->old_name, m->new->parent, m->new_name, m->flags));
	}
	bool old_held = m->from_directory && vu_stack_is_bottom(stack, &m->old->seen);
	bool new_held = m->to_directory && vu_stack_is_bottom(stack, &m->new->seen);
	int old_shows = vu_shows_below(stack, old, &below_old), new_shows = vu_shows_below(stack, new, &below_new);
	if (old_shows < 0 || new_shows < 0)
		return old_shows < 0 ? old_shows : new_shows;
	if ((error = take_whole(m->call, m->old, &m->from)) < 0)
		return error;
	if ((m->flags & RENAME_EXCHANGE_) && (error = take_whole(m->call, m->new, &m->to)) < 0)
		return error;
	if (new_shows && (error = vu_stack_note_origin(stack, new, &below_new)) < 0)
		return error;
	vu_split(old, above);
	VU_CLOSE int from = vu_stack_take_directory(m->call, stack, above);
	if (m->from_directory || m->to_directory)
		atomic_fetch_add(&m->call->session->moves, 1);
	vu_split(new, above);
	VU_CLOSE int to = vu_stack_take_directory(m->call, stack, above);
	if (from < 0 || to < 0)
		return from < 0 ? from : to;
	bool exchanges = m->flags & RENAME_EXCHANGE_;
	error = exchanges ? exchange(m, from, to, old_shows, new_shows) : move(m, from, to, old_shows, new_shows);
	if (!error && (m->from_directory || (exchanges && m->to_directory)))
		vu_moved_note(stack, old, old_held, new, exchanges && new_held, exchanges);
	if (exchanges)
		return error;
	return !error && m->new->fd >= 0 && m->new->seen.tree ? vu_links_lose(stack, &m->to) : error;
}

/* What programs hold for the directories goes where these went. */
static void move_handles(const struct move *m)
{
	int fd = m->stack->handles.fd;
	const char *old = vu_stack_rest(m->old), *new = vu_stack_rest(m->new);
	struct vu_place above = *m->new;
	char text[VU_TEXT];
	vu_split(m->new->view, text);
	above.view = text;
	if (faccessat(fd, old, F_OK, 0) < 0 && !(m->flags & RENAME_EXCHANGE_))
		return; /* nobody has had one */
	VU_CLOSE int parent = vu_stack_open_given(m->call, &above);
	if (m->flags & RENAME_EXCHANGE_) {
		VU_CLOSE int one = vu_stack_open_given(m->call, m->old);
		VU_CLOSE int other = vu_stack_open_given(m->call, m->new);
	}
	syscall(SYS_renameat2, fd, old, fd, new, m->flags & RENAME_EXCHANGE_);
}

static bool is_within(const char *path, const char *directory)
{
	size_t length = strlen(directory);
	return !strncmp(path, directory, length) && path[length] == '/';
}

static int check_kinds(const struct move *m)
{
	if (m->new->fd < 0 || (m->flags & RENAME_EXCHANGE_) || m->from_directory == m->to_directory)
		return 0;
	return m->from_directory ? -ENOTDIR : -EISDIR;
}

/* may_delete() and may_create() of fs/namei.c, for both ends. */
static int check_rights(struct move *m)
{
	struct stat here, there;
	int error = vu_rights_delete(m->call, m->stack, m->old->parent, m->old->fd);
	if (!error && m->new->fd >= 0)
		error = vu_rights_delete(m->call, m->stack, m->new->parent, m->new->fd);
	else if (!error)
		error = vu_rights_ask(m->stack, m->new->parent, W_OK | X_OK);
	if (error < 0 || (error = check_kinds(m)) < 0)
		return error;
	if (fstat(m->old->parent, &here) < 0 || fstat(m->new->parent, &there) < 0)
		return -errno;
	if (here.st_dev == there.st_dev && here.st_ino == there.st_ino)
		return 0;
	/* "..", which a directory holds, would change. */
	if (m->from_directory)
		error = vu_rights_ask(m->stack, m->old->fd, W_OK);
	if (!error && (m->flags & RENAME_EXCHANGE_) && m->to_directory)
		error = vu_rights_ask(m->stack, m->new->fd, W_OK);
	return error;
}

int vu_stack_rename(struct vu_call *call, struct vu_place *old, struct vu_place *new, unsigned flags)
{
	struct move m = { .call = call, .stack = old->mount->stack, .old = old, .new = new, .flags = flags };
	if (old->mount != new->mount)
		return -EXDEV;
	if (old->fd < 0)
		return -ENOENT;
	if ((flags & RENAME_NOREPLACE_) && new->fd >= 0)
		return -EEXIST;
	if ((flags & RENAME_EXCHANGE_) && new->fd < 0)
		return -ENOENT;
	if (flags & RENAME_WHITEOUT_)
		return -EINVAL; /* as for a file system that does not have it */
	if (fstat(old->fd, &m.from) < 0 || (new->fd >= 0 && fstat(new->fd, &m.to) < 0))
		return -errno;
	m.from_directory = S_ISDIR(m.from.st_mode);
	m.to_directory = new->fd >= 0 && S_ISDIR(m.to.st_mode);
	if (!m.from_directory && (old->trailing || (!(flags & RENAME_EXCHANGE_) && new->trailing)))
		return -ENOTDIR;
	if ((flags & RENAME_EXCHANGE_) && new->trailing && !m.to_directory)
		return -ENOTDIR;
	if (m.from_directory && is_within(new->view, old->view))
		return -EINVAL;
	if (is_within(old->view, new->view))
		return flags & RENAME_EXCHANGE_ ? -EINVAL : -ENOTEMPTY;
	if (new->fd >= 0 && m.from.st_dev == m.to.st_dev && m.from.st_ino == m.to.st_ino)
		return 0; /* two names of one file: both stay */
	int error = m.stack->minimal ? check_kinds(&m) : check_rights(&m);
	if (error < 0)
		return error;
	if (m.from_directory && (error = vu_stack_take_ahead(call, m.stack, old)) < 0)
		return error;
	if (m.to_directory && (flags & RENAME_EXCHANGE_) && (error = vu_stack_take_ahead(call, m.stack, new)) < 0)
		return error;
	vu_plain_name(old, m.old_name);
	vu_plain_name(new, m.new_name);
	pthread_mutex_lock(&m.stack->lock);
	vu_own_rights(call, true);
	error = rename_locked(&m);
	vu_facts_changed(m.stack, vu_stack_rest(old));
	vu_facts_changed(m.stack, vu_stack_rest(new));
	vu_quota_freed(m.stack);
	if (!error && m.stack->handles.fd >= 0)
		move_handles(&m);
	vu_own_rights(call, false);
	pthread_mutex_unlock(&m.stack->lock);
	return error;
}
