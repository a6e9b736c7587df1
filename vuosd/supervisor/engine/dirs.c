/* The directories of a layer, in memory. A layer is changed by one session at a time, and by its engine only. */
#include "stack.h"

#include <dirent.h>
#include <sys/xattr.h>

#include "paths.h"

static struct vu_dir **slot(const struct vu_dir *dir, const char *name, size_t length)
{
	return &dir->buckets[vu_hash_name(name, length) & (dir->bucket_count - 1)];
}

static struct vu_dir *child_of(const struct vu_dir *dir, const char *name, size_t length)
{
	if (!dir->bucket_count)
		return NULL;
	struct vu_dir *child = *slot(dir, name, length);
	while (child && !(child->length == length && !memcmp(child->name, name, length)))
		child = child->next;
	return child;
}

static int grow(struct vu_dir *dir)
{
	struct vu_dir bigger = { .bucket_count = dir->bucket_count ? dir->bucket_count * 2 : 4 };
	if (!(bigger.buckets = calloc(bigger.bucket_count, sizeof *bigger.buckets)))
		return -ENOMEM;
	for (unsigned i = 0; i < dir->bucket_count; i++) {
		for (struct vu_dir *child = dir->buckets[i], *next; child; child = next) {
			next = child->next;
			struct vu_dir **bucket = slot(&bigger, child->name, child->length);
			child->next = *bucket;
			*bucket = child;
		}
	}
	free(dir->buckets);
	dir->buckets = bigger.buckets;
	dir->bucket_count = bigger.bucket_count;
	return 0;
}

static int attach(struct vu_dir *parent, struct vu_dir *child)
{
	if (parent->child_count >= parent->bucket_count && grow(parent) < 0)
		return -ENOMEM;
	struct vu_dir **bucket = slot(parent, child->name, child->length);
	child->parent = parent;
	child->next = *bucket;
	*bucket = child;
	parent->child_count++;
	return 0;
}

static void detach(struct vu_dir *dir)
{
	struct vu_dir **at = slot(dir->parent, dir->name, dir->length);
	while (*at != dir)
		at = &(*at)->next;
	*at = dir->next;
	dir->parent->child_count--;
	dir->parent = dir->next = NULL;
}

struct vu_dir *vu_dirs_new(void)
{
	static atomic_uint_fast64_t last;
	struct vu_dir *dir = calloc(1, sizeof *dir);
	if (dir)
		dir->number = atomic_fetch_add(&last, 1) + 1;
	return dir;
}

static struct vu_dir *new_child(struct vu_dir *parent, const char *name, size_t length)
{
	struct vu_dir *child = vu_dirs_new();
	if (!child || !(child->name = strndup(name, length)))
		goto no_memory;
	child->length = (unsigned)length;
	if (attach(parent, child) == 0)
		return child;
	free(child->name);
no_memory:
	free(child);
	return NULL;
}

void vu_dirs_free(struct vu_dir *dir)
{
	if (!dir)
		return;
	for (unsigned i = 0; i < dir->bucket_count; i++) {
		for (struct vu_dir *child = dir->buckets[i], *next; child; child = next) {
			next = child->next;
			vu_dirs_free(child);
		}
	}
	free(dir->buckets);
	free(dir->redirect);
	free(dir->touched.table);
	free(dir->name);
	free(dir);
}

struct vu_dir *vu_dirs_find(struct vu_dir *root, const char *path, struct vu_way *way)
{
	struct vu_dir *dir = root;
	const char *at = path;
	*way = (struct vu_way){ .opaque = root->opaque, .attribute_whiteouts = root->attribute_whiteouts };
	for (;;) {
		way->last = dir;
		way->number = dir->number;
		way->changes = dir->changes;
		at += strspn(at, "/");
		size_t length = strcspn(at, "/");
		if (!length) {
			way->known = way->stop = (size_t)(at - path);
			return dir;
		}
		struct vu_dir *next = child_of(dir, at, length);
		way->stop = (size_t)(at - path) + length;
		way->closed |= dir->closed;
		if (!next)
			return NULL;
		dir = next;
		at += length;
		way->known = way->stop;
		way->opaque |= dir->opaque || dir->alone;
		way->redirected |= dir->redirect != NULL;
		way->attribute_whiteouts = dir->attribute_whiteouts;
	}
}

int vu_dirs_below(const struct vu_dir *root, const char *path, char out[VU_TEXT])
{
	const struct vu_dir *dir = root;
	size_t used = 0;
	*out = 0;
	for (;;) {
		path += strspn(path, "/");
		size_t length = strcspn(path, "/");
		if (!length)
			return 0;
		dir = dir ? child_of(dir, path, length) : NULL;
		const char *name = dir && dir->redirect ? dir->redirect : path;
		size_t size = dir && dir->redirect ? strlen(name) : length;
		if (dir && dir->redirect && *name == '/') {
			used = 0;
			name++;
			size--;
		}
		if (used + size + 2 > VU_TEXT)
			return -ENAMETOOLONG;
		if (used)
			out[used++] = '/';
		memcpy(out + used, name, size);
		out[used += size] = 0;
		path += length;
	}
}

struct vu_dir *vu_dirs_add(struct vu_dir *root, const char *path)
{
	struct vu_dir *dir = root;
	while (dir) {
		path += strspn(path, "/");
		size_t length = strcspn(path, "/");
		if (!length)
			return dir;
		struct vu_dir *child = child_of(dir, path, length);
		dir = child ? child : new_child(dir, path, length);
		path += length;
	}
	return NULL;
}

void vu_dirs_remove(struct vu_dir *root, const char *path)
{
	struct vu_way way;
	struct vu_dir *dir = vu_dirs_find(root, path, &way);
	if (!dir || dir == root)
		return;
	detach(dir);
	vu_dirs_free(dir);
}

void vu_dirs_move(struct vu_dir *root, const char *from, const char *to)
{
	struct vu_way way;
	struct vu_dir *dir = vu_dirs_find(root, from, &way);
	const char *slash = strrchr(to, '/'), *name = slash ? slash + 1 : to;
	if (!dir || dir == root)
		return;
	detach(dir);
	vu_dirs_remove(root, to);
	char *parent = strndup(to, slash ? (size_t)(slash - to) : 0), *own = strdup(name);
	struct vu_dir *above = parent ? vu_dirs_add(root, parent) : NULL;
	free(parent);
	if (own) {
		free(dir->name);
		dir->name = own;
		dir->length = (unsigned)strlen(own);
	}
	if (!own || !above || attach(above, dir) < 0)
		vu_dirs_free(dir); /* without memory it is forgotten until the layer is read again */
}

static void read_attributes(struct vu_dir *dir, int fd)
{
	static const char *const opaque[] = { "user.overlay.opaque", "user.fuseoverlayfs.opaque" };
	char value[PATH_MAX];
	for (unsigned i = 0; i < 2; i++) {
		ssize_t n = fgetxattr(fd, opaque[i], value, sizeof value);
		dir->opaque |= n == 1 && *value == 'y';
		dir->attribute_whiteouts |= n == 1 && *value == 'x';
	}
	ssize_t n = fgetxattr(fd, "user.overlay.redirect", value, sizeof value - 1);
	if (n > 0) {
		value[n] = 0;
		dir->redirect = strdup(value);
	}
	dir->closed = geteuid() && vu_owner_closes(fd);
}

int vu_dirs_read(struct vu_dir *dir, int fd)
{
	int own = vu_stack_read_directory(fd);
	DIR *stream = own < 0 ? NULL : fdopendir(own);
	int error = 0;
	if (!stream)
		return -errno;
	bool counted = true;
	read_attributes(dir, dirfd(stream));
	for (struct dirent *entry; !error && (errno = 0, entry = readdir(stream));) {
		counted = counted && vu_facts_touch(dir, entry->d_name);
		if (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN)
			continue;
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		VU_CLOSE int below =
			openat(dirfd(stream), entry->d_name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (below < 0) {
			error = errno == ENOTDIR ? 0 : -errno;
			continue;
		}
		struct vu_dir *child = new_child(dir, entry->d_name, strlen(entry->d_name));
		error = child ? vu_dirs_read(child, below) : -ENOMEM;
	}
	dir->counted = counted && !error && !errno;
	closedir(stream);
	return error;
}
