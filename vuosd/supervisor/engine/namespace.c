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

#include <linux/stat.h>
#include <sys/syscall.h>
#include <time.h>

enum { WAIT_NS = 100000, WAITS = 500 };

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
	mount->index = names->last_index++;
	mount->next = names->all;
	names->all = mount;
	pthread_mutex_unlock(&names->lock);
	return mount;
}

int vu_namespace_fill(struct vu_namespace *names, struct vu_mount *mount)
{
	struct vu_table *table = atomic_load(&names->table);
	int error = vu_table_add(table, mount);
	mount->versions = 1; /* also after an error: the session is not started then, and ends */
	table->empty = false;
	return error;
}

/* The trees of a stack but its lowest: found by their paths on the host, and by nothing else. */
static int add_trees(struct vu_mount *whole)
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
		mount->whole = whole;
		mount->tree = (int8_t)(i == lowest ? stack->count : i);
		mount->identity = false;
		mount->source = tree->path;
		mount->source_length = tree->length;
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
	int error = add_trees(mount);
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
	atomic_store(&names->table, table);
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

/* Frees a version. The lock is held. */
static void drop(struct vu_table *table)
{
	for (unsigned i = 0; i < table->count; i++)
		if (!--table->mounts[i]->versions)
			vu_close(&table->mounts[i]->fd);
	vu_table_free(table);
}

void vu_namespace_free(struct vu_namespace *names)
{
	struct vu_table *table = atomic_load(&names->table);
	for (struct vu_table *next; table; table = next) {
		next = table == atomic_load(&names->table) ? names->old : table->next;
		vu_table_free(table);
	}
	vu_claims_free(names->claims);
	for (struct vu_mount *mount = names->all, *next; mount; mount = next) {
		next = mount->next;
		vu_close(&mount->fd);
		if (mount->wired)
			vu_wired_end(mount->wired);
		vu_stack_free(mount->stack);
		free(mount->trees);
		free(mount->target);
		free(mount->source);
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

const struct vu_table *vu_table_pin(struct vu_namespace *names, struct vu_pin *pin)
{
	const struct vu_table *table = atomic_load(&names->table), *now;
	for (;; table = now) {
		atomic_store(&pin->table, table);
		if ((now = atomic_load(&names->table)) == table)
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

/* Frees the versions that nobody uses any more. The lock is held. */
static void sweep(struct vu_namespace *names)
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
	sweep(names);
	pthread_mutex_unlock(&names->lock);
}

void vu_table_unpin(struct vu_namespace *names, struct vu_pin *pin)
{
	atomic_store(&pin->table, NULL);
	look_for_old(names);
}

const struct vu_table *vu_table_hold(struct vu_namespace *names)
{
	pthread_mutex_lock(&names->lock);
	struct vu_table *table = atomic_load(&names->table);
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

/* The published version with `add` on top and without `omit`, either of which may be NULL. The lock is held. */
static struct vu_table *changed(struct vu_namespace *names, struct vu_mount *add, const struct vu_mount *omit)
{
	const struct vu_table *now = atomic_load(&names->table);
	struct vu_table *table = vu_table_new();
	if (!table)
		return NULL;
	int error = 0;
	for (unsigned i = 0; !error && i < now->count; i++)
		if (now->mounts[i] != omit)
			error = vu_table_add(table, now->mounts[i]);
	if (!error && add)
		error = vu_table_add(table, add);
	if (error < 0) {
		vu_table_free(table);
		return NULL;
	}
	table->reduced = now->reduced || omit;
	table->detached = now->detached || (omit && omit->private);
	table->claims = now->claims;
	return table;
}

/* The lock is held. */
static void publish(struct vu_namespace *names, struct vu_table *table)
{
	for (unsigned i = 0; i < table->count; i++)
		table->mounts[i]->versions++;
	struct vu_table *old = atomic_exchange(&names->table, table);
	old->next = names->old;
	names->old = old;
	atomic_store(&names->has_old, true);
	sweep(names);
}

int vu_namespace_claim(struct vu_namespace *names, struct vu_claims *claims)
{
	pthread_mutex_lock(&names->lock);
	struct vu_table *table = changed(names, NULL, NULL);
	if (table) {
		table->empty = atomic_load(&names->table)->empty && !vu_claims_paths(claims);
		table->claims = claims;
		vu_claims_keep(&names->claims, claims);
		publish(names, table);
	}
	pthread_mutex_unlock(&names->lock);
	return table ? 0 : -ENOMEM;
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

int vu_session_mount(vu_session *session, const struct vu_mount_options *options)
{
	if (options->kind != VU_BIND && options->kind != VU_TMPFS && options->kind != VU_HIDE)
		return -EINVAL;
	return vu_namespace_mount(session, options, NULL);
}

int vu_namespace_mount(struct vu_session *session, const struct vu_mount_options *options, struct vu_wired *wired)
{
	struct vu_namespace *names = &session->names;
	bool hides = options->kind == VU_HIDE;
	if (!is_canonical(options->target) || (!hides && (options->source < 0 || !options->source_path)))
		return -EINVAL;
	struct vu_mount *mount = vu_mount_new(names, options->kind, options->flags & VU_ENTRY_READONLY, options->target,
					      -1, options->source_path);
	if (!mount || set_text(&mount->type, options->type) < 0 || set_text(&mount->name, options->name) < 0 ||
	    set_text(&mount->options, options->options) < 0)
		return -ENOMEM;
	mount->late = true;
	mount->served = options->flags & VU_ENTRY_SERVED;
	mount->private = !hides && is_private(options->source, options->source_path);
	pthread_mutex_lock(&names->lock);
	mount->wired = wired;
	struct vu_table *table = changed(names, mount, NULL);
	if (!table)
		mount->wired = NULL;
	if (table) {
		mount->fd = hides ? -1 : options->source;
		publish(names, table);
	}
	pthread_mutex_unlock(&names->lock);
	return table ? (int)mount->index : -ENOMEM;
}

/* Waits a moment for the calls that still use it. */
static bool closed(struct vu_namespace *names, const struct vu_mount *mount)
{
	static const struct timespec pause = { .tv_nsec = WAIT_NS };
	for (int i = 0; i < WAITS; i++) {
		pthread_mutex_lock(&names->lock);
		sweep(names);
		bool done = !mount->versions;
		pthread_mutex_unlock(&names->lock);
		if (done)
			return true;
		nanosleep(&pause, NULL);
	}
	return false;
}

int vu_session_unmount(vu_session *session, int number)
{
	struct vu_namespace *names = &session->names;
	struct vu_mount *mount;
	struct vu_table *table = NULL;
	pthread_mutex_lock(&names->lock);
	for (mount = names->all; mount && mount->index != (unsigned)number; mount = mount->next)
		;
	bool there = mount && mount->late && vu_table_has(atomic_load(&names->table), mount);
	if (there && (table = changed(names, NULL, mount)))
		publish(names, table);
	pthread_mutex_unlock(&names->lock);
	if (!table)
		return there ? -ENOMEM : -EINVAL;
	return closed(names, mount) ? 0 : 1;
}

struct vu_wired *vu_namespace_hold_wired(struct vu_namespace *names, int number)
{
	pthread_mutex_lock(&names->lock);
	for (struct vu_mount *mount = names->all; mount; mount = mount->next)
		if (mount->index == (unsigned)number && mount->wired)
			return mount->wired;
	pthread_mutex_unlock(&names->lock);
	return NULL;
}

void vu_namespace_release_wired(struct vu_namespace *names)
{
	pthread_mutex_unlock(&names->lock);
}

int vu_namespace_take_wired(struct vu_namespace *names, int number, struct vu_wired **wired)
{
	int error = -EINVAL;
	pthread_mutex_lock(&names->lock);
	sweep(names);
	for (struct vu_mount *mount = names->all; mount; mount = mount->next) {
		if (mount->index != (unsigned)number)
			continue;
		error = mount->versions ? -EBUSY : 0;
		if (!error) {
			*wired = mount->wired;
			mount->wired = NULL;
		}
	}
	pthread_mutex_unlock(&names->lock);
	return error;
}

static bool lies_in(const char *host, const struct vu_mount *mount)
{
	size_t length = mount->source_length;
	return mount->kind != VU_HIDE && !strncmp(host, mount->source, length) &&
	       (!host[length] || host[length] == '/');
}

const struct vu_mount *vu_namespace_lost(struct vu_namespace *names, const struct vu_table *table, const char *host,
					 const struct vu_mount *hint)
{
	const struct vu_mount *best = NULL;
	pthread_mutex_lock(&names->lock);
	if (hint && !vu_table_has(table, hint) && lies_in(host, hint))
		best = hint;
	for (const struct vu_mount *mount = names->all; !hint && mount; mount = mount->next)
		if (mount->late && !vu_table_has(table, mount) && lies_in(host, mount) &&
		    (!best || mount->source_length > best->source_length))
			best = mount;
	pthread_mutex_unlock(&names->lock);
	return best;
}
