/*
 * A mount at run time comes, and goes: from the version of a namespace's table that is published now to the next one.
 */
#include "stack.h"
#include "wired.h"

#include <linux/stat.h>
#include <sys/syscall.h>
#include <time.h>

enum { WAIT_NS = 100000, WAITS = 500 };

/* Is `path` the directory, or below it? */
static bool lies_at(const char *path, const char *directory)
{
	size_t length = strcmp(directory, "/") ? strlen(directory) : 0;
	return !strncmp(path, directory, length) && (!path[length] || path[length] == '/');
}

/* What a mount at run time changes in a table. */
struct change {
	struct vu_mount *add; /* on top; or NULL */
	const struct vu_mount *omit; /* with all that came with it; or NULL */
	const struct vu_mount_options *options; /* of `add` */
};

/* On top of `table`: what `now` shows below options->below. */
static int add_below(struct vu_namespace *names, const struct vu_table *now, const struct change *change,
		     struct vu_table *table)
{
	const struct vu_mount_options *options = change->options;
	size_t head = strcmp(options->below, "/") ? strlen(options->below) : 0;
	int error = 0;
	for (unsigned i = 0; !error && i < now->count; i++) {
		struct vu_mount *mount = now->mounts[i];
		struct vu_spot spot;
		vu_table_find(now, mount->target, &spot);
		if (spot.mount != mount || mount->target_length <= head || !lies_at(mount->target, options->below) ||
		    (mount->late && !mount->locked && !(options->flags & VU_ENTRY_ALL)))
			continue;
		char target[VU_TEXT];
		if (change->add->target_length + mount->target_length - head >= sizeof target)
			return -ENAMETOOLONG;
		memcpy(target, change->add->target, change->add->target_length);
		strcpy(target + change->add->target_length, mount->target + head);
		struct vu_mount *again = vu_mount_again(names, mount, target);
		if (!again)
			return -errno;
		again->readonly |= change->add->readonly || options->flags & VU_ENTRY_FROZEN;
		again->group = change->add->index;
		error = vu_table_add(table, again);
	}
	return error;
}

/* Is it there no more when `omit` has gone, or something covers what lies at a path? */
static bool leaves(const struct vu_mount *mount, const struct vu_mount *omit, const char *covers)
{
	if (omit && (mount == omit || mount->of == omit || (mount->group && mount->group == omit->index)))
		return true;
	return covers && (lies_at(mount->target, covers) || (mount->of && lies_at(mount->of->target, covers)));
}

/* The published version, changed. NULL with errno. The lock is held. */
static struct vu_table *changed(struct vu_namespace *names, unsigned space, const struct change *change)
{
	const struct vu_table *now = atomic_load(&names->tables[space]), *from = NULL;
	const struct vu_mount *omit = change->omit;
	const char *covers = change->add && change->options->flags & VU_ENTRY_COVERS ? change->options->target : NULL;
	if (change->add && change->options->below)
		from = atomic_load(&names->tables[change->options->origin]);
	struct vu_table *table = vu_table_new();
	int error = table ? 0 : -ENOMEM;
	for (unsigned i = 0; !error && i < now->count; i++) {
		if (!leaves(now->mounts[i], omit, i ? covers : NULL)) /* the first is the host's own tree */
			error = vu_table_add(table, now->mounts[i]);
	}
	if (!error && change->add)
		error = vu_table_add(table, change->add);
	unsigned first = table ? table->count - !!change->add : 0;
	if (!error && from)
		error = add_below(names, from, change, table);
	for (unsigned i = first, count = table ? table->count : 0; !error && i < count; i++)
		error = vu_unreal_follow(names, table, now, table->mounts[i]);
	if (error < 0) {
		if (table)
			vu_table_free(table);
		errno = -error;
		return NULL;
	}
	table->reduced = now->reduced || omit;
	table->detached = now->detached || (omit && omit->private);
	table->claims = now->claims;
	return table;
}

struct vu_table *vu_namespace_with(struct vu_namespace *names, unsigned space, struct vu_mount *mount)
{
	static const struct vu_mount_options plain;
	return changed(names, space, &(struct change){ .add = mount, .options = &plain });
}

/* For all namespaces: modules are the session's. */
int vu_namespace_claim(struct vu_namespace *names, struct vu_claims *claims)
{
	int error = 0;
	pthread_mutex_lock(&names->lock);
	struct vu_table **made = calloc(VU_SPACES, sizeof *made);
	for (unsigned i = 0; made && !error && i < VU_SPACES; i++) {
		const struct vu_table *now = atomic_load(&names->tables[i]);
		if (!now)
			continue;
		if ((made[i] = changed(names, i, &(struct change){}))) {
			made[i]->empty = now->empty && !vu_claims_paths(claims);
			made[i]->claims = claims;
		} else {
			error = -ENOMEM;
		}
	}
	if (made && !error)
		vu_claims_keep(&names->claims, claims);
	for (unsigned i = 0; made && i < VU_SPACES; i++) {
		if (made[i] && error)
			vu_table_free(made[i]);
		else if (made[i])
			vu_namespace_publish(names, i, made[i]);
	}
	pthread_mutex_unlock(&names->lock);
	free(made);
	return made ? error : -ENOMEM;
}

/* Is the object another one than what our own mount namespace has at that path? */
static bool is_private(int fd, const char *path)
{
	struct statx theirs, ours;
	const int quick = AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
	if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH | quick, STATX_INO, &theirs) < 0 ||
	    syscall(SYS_statx, AT_FDCWD, path, quick, STATX_INO, &ours) < 0)
		return true;
	return theirs.stx_ino != ours.stx_ino || theirs.stx_dev_major != ours.stx_dev_major ||
	       theirs.stx_dev_minor != ours.stx_dev_minor;
}

static int set_text(char **field, const char *text)
{
	return !text || (*field = strdup(text)) ? 0 : -ENOMEM;
}

/* Absolute, with no "." or "..", and no slash too many? */
static bool is_canonical(const char *path)
{
	if (*path != '/' || strlen(path) >= VU_TEXT)
		return false;
	for (const char *name = path + 1; name[-1] && path[1]; name += strcspn(name, "/") + 1) {
		size_t length = strcspn(name, "/");
		if (!length || (length <= 2 && !strncmp(name, "..", length)))
			return false;
	}
	return true;
}

/* The mount that the root is seen by, at another place; that there are copies of all others, changed() sees to. */
static int mount_unreal(struct vu_session *session, const struct vu_mount_options *options)
{
	struct vu_namespace *names = &session->names;
	if (options->space >= VU_SPACES || !is_canonical(options->target) || !options->target[1])
		return -EINVAL;
	pthread_mutex_lock(&names->lock);
	const struct vu_table *now = atomic_load(&names->tables[options->space]);
	struct vu_mount *mount = now ? vu_mount_again(names, (struct vu_mount *)now->root, options->target) : NULL;
	struct vu_table *table = NULL;
	int error = now ? -ENOMEM : -ESRCH;
	if (mount) {
		mount->late = true;
		mount->readonly |= !!(options->flags & VU_ENTRY_READONLY);
		mount->unreal = mount;
		if (!set_text(&mount->type, options->type) && !set_text(&mount->name, options->name) &&
		    !set_text(&mount->options, options->options) &&
		    !(table = changed(names, options->space, &(struct change){ .add = mount, .options = options })))
			error = -errno;
	}
	if (table)
		vu_namespace_publish(names, options->space, table);
	pthread_mutex_unlock(&names->lock);
	return table ? (int)mount->index : error;
}

/* A bind of what lies in a stack. */
static int mount_within(struct vu_session *session, const struct vu_mount_options *options)
{
	struct vu_namespace *names = &session->names;
	if (!options->within || options->space >= VU_SPACES || options->origin >= VU_SPACES ||
	    !is_canonical(options->target) || !is_canonical(options->within))
		return -EINVAL;
	pthread_mutex_lock(&names->lock);
	const struct vu_table *from = atomic_load(&names->tables[options->origin]);
	struct vu_table *table = NULL;
	struct vu_mount *mount = NULL;
	struct vu_spot spot = {};
	int error = from && atomic_load(&names->tables[options->space]) ? 0 : -ESRCH;
	if (!error)
		vu_table_find(from, options->within, &spot);
	if (!error && !spot.mount->stack)
		error = -EINVAL;
	if (!error && !(mount = vu_mount_within(names, &spot, options->target)))
		error = -ENOMEM;
	if (mount) {
		mount->late = true;
		mount->readonly |= !!(options->flags & VU_ENTRY_READONLY);
		if (!(table = changed(names, options->space, &(struct change){ .add = mount, .options = options })))
			error = -errno;
	}
	if (table)
		vu_namespace_publish(names, options->space, table);
	pthread_mutex_unlock(&names->lock);
	return table ? (int)mount->index : error;
}

int vu_session_mount(vu_session *session, const struct vu_mount_options *options)
{
	if (options->kind == VU_COW)
		return mount_within(session, options);
	if (options->kind == VU_UNREAL)
		return mount_unreal(session, options);
	bool known = options->kind == VU_BIND || options->kind == VU_TMPFS || options->kind == VU_HIDE;
	if (options->kind == VU_WIRE ? !options->wire : !known)
		return -EINVAL;
	return vu_namespace_mount(session, options, NULL, NULL);
}

/* That has not ended. The lock is held. */
static struct vu_mount *find_wired(struct vu_namespace *names, uint32_t number)
{
	for (struct vu_mount *mount = names->all; mount; mount = mount->next)
		if (mount->index == number && mount->wired && !mount->origin)
			return mount;
	return NULL;
}

/* What a wire mount serves, or a part of it, is what `mount` shows too. The lock is held. */
static int show_wired(struct vu_namespace *names, struct vu_mount *mount, uint32_t number)
{
	struct vu_mount *origin = find_wired(names, number);
	if (!origin || !origin->versions)
		return -ESRCH; /* it has ended, or is about to */
	mount->origin = origin;
	mount->wired = origin->wired;
	int error = vu_wired_root(names, mount);
	if (error < 0)
		mount->origin = NULL;
	return error;
}

/* The lowest tree of a stack, as a mount that no table has. `mount` is new; the lock is held. */
static int stand_upon(struct vu_namespace *names, struct vu_mount *mount, struct vu_mount *upon, uint32_t number)
{
	struct vu_tree *lowest = &mount->stack->trees[mount->stack->count - 1];
	if ((upon->fd = fcntl(lowest->fd, F_DUPFD_CLOEXEC, 0)) < 0)
		return -errno;
	int error = show_wired(names, upon, number);
	if (!error && upon->origin->options && !(upon->options = strdup(upon->origin->options)))
		error = -ENOMEM;
	if (!error)
		error = vu_tree_wire(lowest, upon);
	if (error < 0) {
		vu_wired_leave(upon);
		vu_close(&upon->fd);
		return error;
	}
	mount->upon = upon;
	for (unsigned i = 0; i < mount->tree_count; i++)
		mount->trees[i].upon = upon;
	return 0;
}

int vu_namespace_mount(struct vu_session *session, const struct vu_mount_options *options, struct vu_wired *wired,
		       struct vu_stack *stack)
{
	struct vu_namespace *names = &session->names;
	bool hides = options->kind == VU_HIDE;
	if (options->space >= VU_SPACES || options->origin >= VU_SPACES || !is_canonical(options->target) ||
	    (!hides && (options->source < 0 || !options->source_path)))
		return -EINVAL;
	struct vu_mount *mount = vu_mount_new(names, options->kind, options->flags & VU_ENTRY_READONLY, options->target,
					      -1, options->source_path);
	if (!mount || set_text(&mount->type, options->type) < 0 || set_text(&mount->name, options->name) < 0 ||
	    set_text(&mount->options, options->options) < 0)
		return -ENOMEM;
	struct vu_mount *upon = stack && options->wire
					? vu_mount_new(names, VU_WIRE, true, options->target, -1, options->source_path)
					: NULL;
	if (stack && options->wire && !upon)
		return -ENOMEM;
	mount->late = !(options->flags & VU_ENTRY_FIRST);
	mount->locked = options->flags & VU_ENTRY_LOCKED;
	mount->served = options->flags & VU_ENTRY_SERVED;
	mount->private = !hides && is_private(options->source, options->source_path);
	if ((mount->stack = stack)) {
		mount->tree = (int8_t)(stack->count - 1);
		if (vu_mount_add_trees(mount) < 0) {
			mount->stack = NULL;
			return -ENOMEM;
		}
	}
	pthread_mutex_lock(&names->lock);
	mount->wired = wired;
	mount->fd = hides ? -1 : options->source;
	bool there = atomic_load(&names->tables[options->space]) &&
		     (!options->below || atomic_load(&names->tables[options->origin]));
	int error = !there          ? -ESRCH
		    : upon          ? stand_upon(names, mount, upon, options->wire)
		    : options->wire ? show_wired(names, mount, options->wire)
				    : 0;
	struct vu_table *table =
		error ? NULL : changed(names, options->space, &(struct change){ .add = mount, .options = options });
	if (table) {
		vu_namespace_publish(names, options->space, table);
	} else {
		error = error ? error : -errno;
		vu_wired_leave(mount);
		if (mount->upon) {
			vu_wired_leave(mount->upon);
			vu_close(&mount->upon->fd);
		}
		mount->wired = NULL;
		mount->stack = NULL;
		mount->fd = -1;
	}
	pthread_mutex_unlock(&names->lock);
	return table ? (int)mount->index : error;
}

/* Waits a moment for the calls that still use it. */
static bool closed(struct vu_namespace *names, const struct vu_mount *mount)
{
	static const struct timespec pause = { .tv_nsec = WAIT_NS };
	for (int i = 0; i < WAITS; i++) {
		pthread_mutex_lock(&names->lock);
		vu_namespace_sweep(names);
		bool done = !mount->versions;
		pthread_mutex_unlock(&names->lock);
		if (done)
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

int vu_session_unmount(vu_session *session, uint32_t space, int number)
{
	struct vu_namespace *names = &session->names;
	struct vu_mount *mount;
	struct vu_table *table = NULL;
	pthread_mutex_lock(&names->lock);
	for (mount = names->all; mount && mount->index != (unsigned)number; mount = mount->next)
		;
	const struct vu_table *now = space < VU_SPACES ? atomic_load(&names->tables[space]) : NULL;
	bool there = now && mount && mount->late && !mount->group && vu_table_has(now, mount);
	if (there && (table = changed(names, space, &(struct change){ .omit = mount })))
		vu_namespace_publish(names, space, table);
	pthread_mutex_unlock(&names->lock);
	if (!table)
		return there ? -ENOMEM : -EINVAL;
	return closed(names, mount) ? 0 : 1;
}

struct vu_wired *vu_namespace_hold_wired(struct vu_namespace *names, int number)
{
	pthread_mutex_lock(&names->lock);
	struct vu_mount *mount = find_wired(names, (uint32_t)number);
	if (mount)
		return mount->wired;
	pthread_mutex_unlock(&names->lock);
	return NULL;
}

void vu_namespace_release_wired(struct vu_namespace *names)
{
	pthread_mutex_unlock(&names->lock);
}

/* One that nobody uses. NULL with errno. The lock is held. */
static struct vu_mount *find_unused(struct vu_namespace *names, int number)
{
	vu_namespace_sweep(names);
	struct vu_mount *found = find_wired(names, (uint32_t)number);
	errno = found ? EBUSY : EINVAL;
	if (!found || *vu_wired_settling(found->wired))
		return NULL;
	for (const struct vu_mount *mount = names->all; mount; mount = mount->next)
		if ((mount == found || mount->origin == found) && mount->versions)
			return NULL;
	return found;
}

int vu_namespace_settle_wired(struct vu_namespace *names, int number, struct vu_wired **wired)
{
	pthread_mutex_lock(&names->lock);
	struct vu_mount *found = find_unused(names, number);
	int error = found ? 0 : -errno;
	if (found) {
		*wired = found->wired;
		*vu_wired_settling(*wired) = true;
	}
	pthread_mutex_unlock(&names->lock);
	return error;
}

void vu_namespace_settled_wired(struct vu_namespace *names, struct vu_wired *wired)
{
	pthread_mutex_lock(&names->lock);
	*vu_wired_settling(wired) = false;
	pthread_mutex_unlock(&names->lock);
}

int vu_namespace_take_wired(struct vu_namespace *names, int number, struct vu_wired **wired)
{
	pthread_mutex_lock(&names->lock);
	struct vu_mount *found = find_unused(names, number);
	int error = found ? 0 : -errno;
	if (found) {
		*wired = found->wired;
		for (struct vu_mount *mount = names->all; mount; mount = mount->next)
			if (mount == found || mount->origin == found) {
				vu_wired_leave(mount);
				mount->wired = NULL;
			}
	}
	pthread_mutex_unlock(&names->lock);
	return error;
}

static bool lies_in(const char *host, const struct vu_mount *mount)
{
	size_t length;
	const char *source = vu_mount_source(mount, &length);
	return mount->kind != VU_HIDE && !strncmp(host, source, length) && (!host[length] || host[length] == '/');
}

const struct vu_mount *vu_namespace_lost(struct vu_namespace *names, const struct vu_table *table, const char *host,
					 const struct vu_mount *hint)
{
	const struct vu_mount *best = NULL;
	pthread_mutex_lock(&names->lock);
	if (hint && !vu_table_has(table, hint) && lies_in(host, hint))
		best = hint;
	for (const struct vu_mount *mount = names->all; !hint && mount; mount = mount->next)
		if (mount->late && !mount->unreal && !vu_table_has(table, mount) && lies_in(host, mount) &&
		    (!best || mount->source_length > best->source_length))
			best = mount;
	pthread_mutex_unlock(&names->lock);
	return best;
}
