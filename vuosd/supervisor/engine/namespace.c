/*
 * The mount table while the session runs: mounts come and go, and no call waits for that.
 *
 * A table is never changed. vu_session_mount() and vu_session_unmount() make a new *version* and publish it; a call uses
 * the one that was published when it began, to its end. Its engine thread says so in a slot of its own, a *pin* (a hazard
 * pointer): it stores the version there and looks whether that is still the published one. Whoever replaces a version
 * looks at the pins afterwards, so that one of the two sees the other, and keeps what is pinned for later (`old`). Who ends
 * a call takes its pin away and then looks whether something waits for that: again one of the two sees the other. Hence
 * all these accesses are sequentially consistent.
 *
 * A call that outlives its turn on the thread (slow.c), and a thread of Python, are counted as users of the version instead.
 */
#include "stack.h"
#include "wired.h"

/* The lock is held. */
static void enlist(struct vu_namespace *names, struct vu_mount *mount)
{
	mount->index = names->last_index++;
	mount->next = names->all;
	names->all = mount;
}

struct vu_mount *vu_mount_new(struct vu_namespace *names, int kind, bool readonly, const char *target, int fd,
			      const char *source)
{
	struct vu_mount *mount = calloc(1, sizeof *mount);
	if (!mount)
		return NULL;
	mount->kind = kind;
	mount->readonly = readonly;
	mount->fd = fd;
	mount->target = strdup(target);
	mount->source = strdup(source ? source : "");
	if (!mount->target || !mount->source) {
		free(mount->target);
		free(mount->source);
		free(mount);
		return NULL;
	}
	mount->identity = kind != VU_HIDE && !strcmp(target, mount->source);
	mount->target_length = strcmp(target, "/") ? strlen(target) : 0;
	mount->source_length = strcmp(mount->source, "/") ? strlen(mount->source) : 0;
	pthread_mutex_lock(&names->lock);
	enlist(names, mount);
	pthread_mutex_unlock(&names->lock);
	return mount;
}

struct vu_mount *vu_mount_again(struct vu_namespace *names, struct vu_mount *from, const char *target)
{
	struct vu_mount *mount = calloc(1, sizeof *mount);
	if (!mount)
		return NULL;
	*mount = *from;
	mount->versions = mount->tree_count = 0;
	mount->trees = NULL;
	mount->of = mount->unreal = NULL;
	mount->origin = from->origin ? from->origin : from;
	if (mount->node)
		vu_wire_hold_again(vu_wired_wire(mount->wired), mount->node);
	mount->fd = from->fd < 0 ? -1 : fcntl(from->fd, F_DUPFD_CLOEXEC, 0);
	mount->target = strdup(target);
	mount->source = strdup(vu_mount_source(from, &mount->source_length));
	mount->moved = NULL;
	mount->base = from->base ? strdup(from->base) : NULL;
	mount->type = from->type ? strdup(from->type) : NULL;
	mount->name = from->name ? strdup(from->name) : NULL;
	mount->options = from->options ? strdup(from->options) : NULL;
	if (mount->target)
		mount->target_length = strcmp(target, "/") ? strlen(target) : 0;
	mount->identity = from->kind != VU_HIDE && !strcmp(target, from->source);
	enlist(names, mount); /* frees it, whatever is missing */
	bool whole = mount->target && mount->source && (!from->base || mount->base) &&
		     (mount->fd >= 0 || from->fd < 0) && (!from->type || mount->type) && (!from->name || mount->name) &&
		     (!from->options || mount->options);
	if (!whole || (mount->stack && vu_mount_add_trees(mount) < 0)) {
		errno = ENOMEM;
		return NULL;
	}
	return mount;
}

int vu_namespace_fill(struct vu_namespace *names, struct vu_mount *mount)
{
	struct vu_table *table = atomic_load(&names->tables[0]);
	int error = vu_table_add(table, mount);
	mount->versions = 1; /* also after an error: the session is not started then, and ends */
	table->empty = false;
	return error;
}

int vu_mount_add_trees(struct vu_mount *whole)
{
	struct vu_stack *stack = whole->stack;
	unsigned lowest = stack->count - 1, count = lowest + (stack->handles.fd >= 0);
	if (!count)
		return 0;
	if (!(whole->trees = calloc(count, sizeof *whole->trees)))
		return -ENOMEM;
	whole->tree_count = count;
	for (unsigned i = 0; i < count; i++) {
		const struct vu_tree *tree = i == lowest ? &stack->handles : &stack->trees[i];
		struct vu_mount *mount = &whole->trees[i];
		*mount = *whole;
		mount->trees = NULL;
		mount->tree_count = 0;
		mount->whole = whole;
		mount->tree = (int8_t)(i == lowest ? stack->count : i);
		mount->identity = false;
		mount->source = tree->path;
		mount->source_length = tree->length;
		if (whole->base && !(mount->source = vu_tree_path(tree, whole->base, &mount->source_length)))
			return -ENOMEM;
	}
	return 0;
}

int vu_namespace_fill_stack(struct vu_namespace *names, struct vu_stack *stack, const char *target)
{
	const struct vu_tree *lowest = &stack->trees[stack->count - 1];
	int fd = fcntl(lowest->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	struct vu_mount *mount =
		vu_mount_new(names, stack->layered ? VU_COW : VU_MERGE, !stack->writable, target, fd, lowest->path);
	if (!mount) {
		close(fd);
		return -ENOMEM;
	}
	mount->stack = stack;
	mount->tree = (int8_t)(stack->count - 1);
	int error = vu_mount_add_trees(mount);
	if (!error)
		error = vu_namespace_fill(names, mount);
	if (error < 0)
		mount->stack = NULL; /* the caller frees it */
	return error;
}

int vu_namespace_init(struct vu_namespace *names, bool enforce)
{
	pthread_mutex_init(&names->lock, NULL);
	struct vu_table *table = vu_table_new();
	atomic_store(&names->tables[0], table);
	if (!table)
		return -ENOMEM;
	int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	struct vu_mount *root = vu_mount_new(names, VU_BIND, false, "/", fd, "/");
	if (!root) {
		close(fd);
		return -ENOMEM;
	}
	int error = vu_namespace_fill(names, root);
	table->empty = !enforce;
	return error;
}

/* A version less has it. The lock is held. */
static void leave(struct vu_mount *mount)
{
	if (--mount->versions)
		return;
	vu_close(&mount->fd);
	vu_wired_leave(mount);
	if (mount->stack && !mount->origin)
		vu_stack_close(mount->stack);
}

/* Frees a version. The lock is held. */
static void drop(struct vu_table *table)
{
	for (unsigned i = 0; i < table->count; i++) {
		struct vu_mount *mount = table->mounts[i];
		leave(mount);
		if (mount->origin)
			leave(mount->origin);
		if (mount->upon) {
			leave(mount->upon);
			leave(mount->upon->origin);
		}
	}
	vu_table_free(table);
}

void vu_namespace_free(struct vu_namespace *names)
{
	for (unsigned i = 0; i < VU_SPACES; i++)
		if (atomic_load(&names->tables[i]))
			vu_table_free(atomic_load(&names->tables[i]));
	for (struct vu_table *table = names->old, *next; table; table = next) {
		next = table->next;
		vu_table_free(table);
	}
	vu_claims_free(names->claims);
	for (struct vu_mount *mount = names->all, *next; mount; mount = next) {
		next = mount->next;
		vu_close(&mount->fd);
		vu_wired_leave(mount); /* the copies come first */
		if (mount->wired && !mount->origin)
			vu_wired_end(mount->wired, NULL);
		if (!mount->origin)
			vu_stack_free(mount->stack);
		for (unsigned i = 0; mount->base && i < mount->tree_count; i++)
			free(mount->trees[i].source);
		free(mount->trees);
		free(mount->base);
		free(mount->target);
		free(mount->source);
		for (struct vu_moved *moved = mount->moved, *before; moved; moved = before) {
			before = moved->before;
			free(moved);
		}
		free(mount->type);
		free(mount->name);
		free(mount->options);
		free(mount);
	}
}

void vu_namespace_add_pin(struct vu_namespace *names, struct vu_pin *pin)
{
	atomic_store(&pin->table, NULL);
	pthread_mutex_lock(&names->lock);
	pin->next = names->pins;
	names->pins = pin;
	pthread_mutex_unlock(&names->lock);
}

void vu_namespace_remove_pin(struct vu_namespace *names, struct vu_pin *pin)
{
	pthread_mutex_lock(&names->lock);
	struct vu_pin **link = &names->pins;
	while (*link != pin)
		link = &(*link)->next;
	*link = pin->next;
	pthread_mutex_unlock(&names->lock);
}

const struct vu_table *vu_table_pin(struct vu_namespace *names, unsigned space, struct vu_pin *pin)
{
	if (space >= VU_SPACES)
		return NULL;
	const struct vu_table *table = atomic_load(&names->tables[space]), *now;
	for (;; table = now) {
		atomic_store(&pin->table, table);
		if ((now = atomic_load(&names->tables[space])) == table)
			return table;
	}
}

/* The lock is held. */
static bool pinned(const struct vu_namespace *names, const struct vu_table *table)
{
	for (const struct vu_pin *pin = names->pins; pin; pin = pin->next)
		if (atomic_load(&pin->table) == table)
			return true;
	return atomic_load(&table->users) > 0; /* last: whoever shares it has it pinned until it has done so */
}

void vu_namespace_sweep(struct vu_namespace *names)
{
	for (struct vu_table **link = &names->old, *table; (table = *link);) {
		if (pinned(names, table)) {
			link = &table->next;
		} else {
			*link = table->next;
			drop(table);
		}
	}
	atomic_store(&names->has_old, names->old != NULL);
}

static void look_for_old(struct vu_namespace *names)
{
	if (!atomic_load(&names->has_old))
		return;
	pthread_mutex_lock(&names->lock);
	vu_namespace_sweep(names);
	pthread_mutex_unlock(&names->lock);
}

void vu_table_unpin(struct vu_namespace *names, struct vu_pin *pin)
{
	atomic_store(&pin->table, NULL);
	look_for_old(names);
}

const struct vu_table *vu_table_hold(struct vu_namespace *names, unsigned space)
{
	pthread_mutex_lock(&names->lock);
	struct vu_table *table = space < VU_SPACES ? atomic_load(&names->tables[space]) : NULL;
	if (table)
		atomic_fetch_add(&table->users, 1);
	pthread_mutex_unlock(&names->lock);
	return table;
}

void vu_table_share(const struct vu_table *table)
{
	atomic_fetch_add(&((struct vu_table *)table)->users, 1);
}

void vu_table_release(struct vu_namespace *names, const struct vu_table *table)
{
	atomic_fetch_sub(&((struct vu_table *)table)->users, 1);
	look_for_old(names);
}

void vu_namespace_publish(struct vu_namespace *names, unsigned space, struct vu_table *table)
{
	for (unsigned i = 0; table && i < table->count; i++) {
		table->mounts[i]->versions++;
		if (table->mounts[i]->origin)
			table->mounts[i]->origin->versions++;
		if (table->mounts[i]->upon) {
			table->mounts[i]->upon->versions++;
			table->mounts[i]->upon->origin->versions++;
		}
	}
	struct vu_table *old = atomic_exchange(&names->tables[space], table);
	if (!old)
		return;
	old->next = names->old;
	names->old = old;
	atomic_store(&names->has_old, true);
	vu_namespace_sweep(names);
}
