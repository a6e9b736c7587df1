/*
 * A tree of a stack whose file system is mounted by wire: what is in the cache is only what somebody has asked for, and so what
 * is done with the tree is preceded by a question. That may come up anywhere, also while the stack's lock is held, by a thread
 * that receives notifications: there nobody waits for a server. So what is not known is noted as a *need*, and the operation
 * gives up with -VU_LATER. It is deferred as any other that must wait (wired_pool.c), its needs are met by the thread that makes
 * it anew, and it begins from the beginning: perhaps to find the next.
 *
 * What an operation has done until then it will do again. Copies and directories in the topmost tree may be made twice, since the
 * second time they are there; what shows otherwise than before comes last, when nothing is left to be asked.
 *
 * The file system is one of which nothing changes (vu_wire_options.fixed): what has been met stays so, but for data, which the
 * need holds as long as the call lasts. The server is asked with our own rights, as overlayfs has those of who has mounted it.
 */
#include "stack.h"
#include "wired.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/xattr.h>

enum { DATA = 1 << 16, ATTRIBUTES = 1 << 17 }; /* wanted, beside VU_WIRE_* */

struct vu_attributes {
	size_t length;
	char data[]; /* of each: name, NUL, size (uint32_t), value */
};

struct vu_need {
	struct vu_need *next;
	const struct vu_tree *tree;
	unsigned want;
	bool met;
	int error; /* what the server has said then */
	struct vu_wire_node *held;
	struct vu_attributes *attributes;
	char path[];
};

enum { RECENT = 64 };
#define ERROR_NS INT64_C(1000000000)

/*
 * What has lately been met and is not kept elsewhere: attributes, and for a while, errors. A call in two steps (again.c) begins
 * as another each time, and would ask for ever.
 */
struct vu_recent {
	pthread_mutex_t lock;
	unsigned next;
	struct {
		char *path;
		unsigned want;
		int error;
		int64_t until;
		struct vu_attributes *attributes;
	} ring[RECENT];
};

static _Thread_local struct vu_call *running;

void vu_needs_of(struct vu_call *call)
{
	running = call;
}

int vu_tree_wire(struct vu_tree *tree, const struct vu_mount *mount)
{
	if (!(tree->recent = calloc(1, sizeof *tree->recent)))
		return -ENOMEM;
	pthread_mutex_init(&tree->recent->lock, NULL);
	tree->wired = mount;
	return 0;
}

void vu_tree_unwire(struct vu_tree *tree)
{
	for (unsigned i = 0; tree->recent && i < RECENT; i++) {
		free(tree->recent->ring[i].path);
		free(tree->recent->ring[i].attributes);
	}
	if (tree->recent)
		pthread_mutex_destroy(&tree->recent->lock);
	free(tree->recent);
	tree->recent = NULL;
}

static struct vu_attributes *copy_of(const struct vu_attributes *attributes)
{
	struct vu_attributes *copy = malloc(sizeof *copy + attributes->length);
	if (copy)
		memcpy(copy, attributes, sizeof *copy + attributes->length);
	return copy;
}

static void remember(const struct vu_need *need)
{
	struct vu_recent *recent = need->tree->recent;
	struct vu_attributes *attributes = need->attributes ? copy_of(need->attributes) : NULL;
	char *path = strdup(need->path);
	if (!recent || (need->error < 0 ? need->error == -EINTR : need->want != ATTRIBUTES) || !path ||
	    (need->attributes && !attributes)) {
		free(attributes);
		free(path);
		return;
	}
	pthread_mutex_lock(&recent->lock);
	__typeof__(recent->ring[0]) *at = &recent->ring[recent->next++ % RECENT];
	free(at->path);
	free(at->attributes);
	at->path = path;
	at->want = need->want;
	at->error = need->error;
	at->until = need->error < 0 ? vu_fuse_now() + ERROR_NS : VU_FUSE_NEVER;
	at->attributes = attributes;
	pthread_mutex_unlock(&recent->lock);
}

/* It has been met for another call. */
static void recall(struct vu_need *need)
{
	struct vu_recent *recent = need->tree->recent;
	int64_t now = vu_fuse_now();
	if (!recent)
		return;
	pthread_mutex_lock(&recent->lock);
	for (unsigned i = 0; i < RECENT && !need->met; i++) {
		__typeof__(recent->ring[0]) *at = &recent->ring[i];
		if (!at->path || at->want != need->want || at->until <= now || strcmp(at->path, need->path))
			continue;
		need->error = at->error;
		need->attributes = at->attributes ? copy_of(at->attributes) : NULL;
		need->met = !at->attributes || need->attributes;
	}
	pthread_mutex_unlock(&recent->lock);
}

void vu_needs_free(struct vu_call *call)
{
	for (struct vu_need *need = call->needs, *next; need; need = next) {
		next = need->next;
		if (need->held)
			vu_wire_opened(vu_wired_wire(need->tree->wired->wired), need->held);
		free(need->attributes);
		free(need);
	}
	call->needs = NULL;
}

static struct vu_need *find(const struct vu_call *call, const struct vu_tree *tree, const char *path, unsigned want)
{
	struct vu_need *need = call->needs;
	while (need && !(need->tree == tree && need->want == want && !strcmp(need->path, path)))
		need = need->next;
	return need;
}

static struct vu_need *note(struct vu_call *call, const struct vu_tree *tree, const char *path, unsigned want)
{
	struct vu_need *need = calloc(1, sizeof *need + strlen(path) + 1);
	if (!need)
		return NULL;
	need->tree = tree;
	need->want = want;
	strcpy(need->path, path);
	need->next = call->needs;
	call->needs = need;
	recall(need);
	return need;
}

/* What has been met of it, or -VU_LATER, or -errno of the server; *found (may be NULL). */
static int need(struct vu_call *call, const struct vu_tree *tree, const char *path, unsigned want,
		const struct vu_need **found)
{
	struct vu_need *known = find(call, tree, path, want);
	if (!known && !(known = note(call, tree, path, want)))
		return -ENOMEM;
	if (found)
		*found = known;
	if (known->met)
		return known->error;
	call->waits = tree->wired->wired;
	return -VU_LATER;
}

int vu_tree_ask(const struct vu_tree *tree, const char *path, unsigned want)
{
	static const struct vu_fuse_caller nobody;
	const struct vu_mount *mount = tree->wired;
	char text[PATH_MAX];
	if (!mount->wired)
		return -ENOTCONN;
	const char *there = vu_wired_path_in(mount, path, text);
	if (!there)
		return -errno;
	int error = vu_wire_prepare(vu_wired_wire(mount->wired), &nobody, there, want | VU_WIRE_CACHED);
	if (error != -EWOULDBLOCK)
		return error;
	return running ? need(running, tree, path, want, NULL) : -EIO; /* nobody does that who is not a call's */
}

static bool has_gone(void *call)
{
	return vu_notify_alive(call) < 0;
}

static int add(struct vu_attributes **list, const char *name, const char *value, uint32_t size)
{
	size_t before = *list ? (*list)->length : 0, length = strlen(name) + 1;
	struct vu_attributes *more = realloc(*list, sizeof *more + before + length + sizeof size + size);
	if (!more)
		return -ENOMEM;
	memcpy(more->data + before, name, length);
	memcpy(more->data + before + length, &size, sizeof size);
	memcpy(more->data + before + length + sizeof size, value, size);
	more->length = before + length + sizeof size + size;
	*list = more;
	return 0;
}

/* All of an object, as the server tells them; none where it has none to tell. */
static int fetch_attributes(struct vu_wire *wire, const struct vu_fuse_caller *caller, const char *path,
			    struct vu_attributes **list)
{
	char *names = malloc(XATTR_LIST_MAX + XATTR_SIZE_MAX), *value = names + XATTR_LIST_MAX;
	if (!names || !(*list = calloc(1, sizeof **list))) {
		free(names);
		return -ENOMEM;
	}
	ssize_t length = vu_wire_listxattr(wire, caller, path, names, XATTR_LIST_MAX), size;
	int error = length < 0 ? (int)length : 0;
	if (error == -EOPNOTSUPP || error == -ENOSYS || error == -EPERM)
		error = 0;
	for (ssize_t at = 0; !error && at < length; at += (ssize_t)strlen(names + at) + 1) {
		size = vu_wire_getxattr(wire, caller, path, names + at, value, XATTR_SIZE_MAX);
		if (size >= 0)
			error = add(list, names + at, value, (uint32_t)size);
		else if (size != -ENODATA && size != -EOPNOTSUPP && size != -EPERM && size != -EACCES)
			error = (int)size;
	}
	free(names);
	return error;
}

static int meet(const struct vu_fuse_caller *caller, struct vu_need *need)
{
	char text[PATH_MAX];
	const struct vu_mount *mount = need->tree->wired;
	struct vu_wire *wire = vu_wired_wire(mount->wired);
	const char *path = vu_wired_path_in(mount, need->path, text);
	if (!path)
		return -errno;
	if (need->want == DATA)
		return vu_wire_open(wire, caller, path, O_RDONLY, &need->held);
	if (need->want == ATTRIBUTES)
		return fetch_attributes(wire, caller, path, &need->attributes);
	return vu_wire_prepare(wire, caller, path, need->want);
}

int vu_needs_meet(struct vu_call *call)
{
	struct vu_fuse_caller self = { .uid = geteuid(), .gid = getegid() };
	bool some = false;
	if (call->listener) { /* else nobody has asked */
		self.pid = vu_tgid(call);
		self.gone = has_gone;
		self.data = call;
	}
	for (struct vu_need *need = call->needs; need; need = need->next) {
		if (need->met)
			continue;
		need->error = meet(&self, need);
		need->met = some = true;
		remember(need);
	}
	call->waits = NULL;
	return some ? 0 : -EIO;
}

int vu_needs_meet_acting(struct vu_call *call)
{
	vu_resign(call);
	int error = vu_needs_meet(call), assumed = vu_assume(call);
	return error < 0 ? error : assumed;
}

int vu_stack_fetch(struct vu_call *call, struct vu_stack *stack, const char *path, const struct vu_seen *seen,
		   bool data, struct vu_fetched *fetched)
{
	const struct vu_tree *tree = seen->tree < 0 ? NULL : &stack->trees[seen->tree];
	const struct vu_mount *mount = tree ? tree->wired : NULL;
	const struct vu_need *found;
	char texts[2][VU_TEXT], text[PATH_MAX];
	*fetched = (struct vu_fetched){};
	if (!mount)
		return 0;
	if (!mount->wired)
		return -ENOTCONN;
	if (!(path = vu_stack_path_in(stack, path, seen->tree, texts)))
		return -ENAMETOOLONG;
	int error = need(call, tree, path, ATTRIBUTES, &found);
	if (!error)
		fetched->attributes = found->attributes;
	const char *there = data ? vu_wired_path_in(mount, path, text) : NULL;
	if (data && !there)
		return -errno;
	/* Both are asked for at once. What is held by a need is so to the call's end. */
	if (data && !vu_wire_is_here(vu_wired_wire(mount->wired), there, &fetched->held)) {
		int missing = need(call, tree, path, DATA, NULL);
		error = error ? error : missing;
	}
	fetched->mount = mount;
	if (error < 0)
		vu_stack_fetched(fetched);
	return error;
}

void vu_stack_fetched(struct vu_fetched *fetched)
{
	if (fetched->held)
		vu_wire_opened(vu_wired_wire(fetched->mount->wired), fetched->held);
	fetched->held = NULL;
}

int vu_attributes_set(const struct vu_attributes *attributes, const char *path)
{
	uint32_t size;
	for (size_t at = 0; at < attributes->length; at += size) {
		const char *name = attributes->data + at;
		at += strlen(name) + 1;
		memcpy(&size, attributes->data + at, sizeof size);
		at += sizeof size;
		if (vu_is_private_attribute(name) || !strcmp(name, "security.selinux"))
			continue;
		if (setxattr(path, name, attributes->data + at, size, 0) < 0 && errno != EPERM && errno != EOPNOTSUPP &&
		    errno != EACCES)
			return -errno;
	}
	return 0;
}

bool vu_stack_below(const struct vu_place *place, struct vu_place *below)
{
	static _Thread_local char view[VU_TEXT + PATH_MAX];
	char texts[2][VU_TEXT];
	const struct vu_mount *mount = place->mount->upon;
	if (!mount || place->magic || place->nameless || place->seen.tree != (int)place->mount->stack->count - 1)
		return false;
	const char *path = vu_stack_path_in(place->mount->stack, vu_stack_rest(place), place->seen.tree, texts);
	if (!path || mount->target_length + strlen(path) + 2 > sizeof view)
		return false;
	*below = *place;
	below->mount = mount;
	below->view = view;
	snprintf(view, sizeof view, "%.*s/%s", (int)mount->target_length, mount->target, path);
	return true;
}

/* `request`, which holds no lock, again and again until nothing is missing for it. */
#define UNTIL_MET(call, request)                                                                                       \
	__extension__({                                                                                                \
		int result_;                                                                                           \
		do                                                                                                     \
			result_ = (request);                                                                           \
		while (result_ < 0 && (call)->waits && !vu_needs_meet_acting(call));                                   \
		result_;                                                                                               \
	})

static int take_object(struct vu_call *call, struct vu_stack *stack, const char *path, mode_t *mode)
{
	struct stat st;
	struct vu_seen seen;
	VU_CLOSE int fd = vu_stack_open(stack, path, O_NOFOLLOW, &seen);
	*mode = 0;
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd; /* a whiteout */
	if (fstat(fd, &st) < 0)
		return -errno;
	*mode = st.st_mode;
	return vu_stack_take_found(call, stack, path, fd, &seen);
}

/* `path` has room for VU_TEXT. */
static int take_below(struct vu_call *call, struct vu_stack *stack, char *path)
{
	mode_t mode;
	size_t length = strlen(path);
	struct vu_seen lowest = { .lowest = (int8_t)(stack->count - 1) };
	int error = UNTIL_MET(call, take_object(call, stack, path, &mode));
	vu_needs_free(call); /* of this one: it is all there */
	if (error < 0 || !S_ISDIR(mode))
		return error;
	int fd = UNTIL_MET(call, vu_stack_open_to_list(stack, path, &lowest));
	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP ? 0 : fd;
	int own = vu_stack_read_directory(fd);
	close(fd);
	DIR *stream = own < 0 ? NULL : fdopendir(own);
	if (!stream)
		return -errno;
	for (struct dirent *entry; !error && (entry = readdir(stream));) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (length + strlen(entry->d_name) + 2 > VU_TEXT) {
			error = -ENAMETOOLONG;
			break;
		}
		snprintf(path + length, VU_TEXT - length, "%s%s", length ? "/" : "", entry->d_name);
		error = take_below(call, stack, path);
		path[length] = 0;
	}
	closedir(stream);
	return error;
}

int vu_stack_take_ahead(struct vu_call *call, struct vu_stack *stack, const struct vu_place *place)
{
	const struct vu_mount *mount = place->mount->upon;
	if (!mount || place->seen.lowest != (int)stack->count - 1)
		return 0;
	if (!call->elsewhere) {
		call->waits = mount->wired;
		return -VU_LATER;
	}
	char *path = malloc(VU_TEXT);
	if (!path)
		return -ENOMEM;
	strcpy(path, vu_stack_rest(place));
	int error = take_below(call, stack, path);
	free(path);
	return error;
}
