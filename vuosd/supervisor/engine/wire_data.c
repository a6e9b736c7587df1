/*
 * A file's data: fetched whole from the server when it is opened, into the anchor, where everybody who has it open sees it.
 * It is fetched anew when the server tells another size or time of change than it had then (as FUSE_AUTO_INVAL_DATA), or a
 * notice said so. What is all zero stays a hole.
 */
#include "wire_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>

/* As wyhash, in small: fast, and nobody outside knows the seed. Two blocks that differ are the same with 2^-64. */
static uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t vu_wire_sum(const struct vu_wire *wire, const void *data, size_t size)
{
	const unsigned char *at = data;
	uint64_t sum = wire->seed ^ size, other = ~wire->seed, words[4] = {};
	for (; size >= sizeof words; at += sizeof words, size -= sizeof words) {
		memcpy(words, at, sizeof words);
		sum = mix(words[0] ^ UINT64_C(0xa0761d6478bd642f) ^ wire->seed, words[1] ^ sum);
		other = mix(words[2] ^ UINT64_C(0xe7037ed1a0b428db) ^ wire->seed, words[3] ^ other);
	}
	memset(words, 0, sizeof words);
	memcpy(words, at, size);
	sum = mix(words[0] ^ UINT64_C(0xa0761d6478bd642f) ^ wire->seed, words[1] ^ sum);
	other = mix(words[2] ^ UINT64_C(0xe7037ed1a0b428db) ^ wire->seed, words[3] ^ other);
	return mix(sum ^ wire->seed, other);
}

static struct vu_wire_data *data_of(struct vu_wire_node *node)
{
	if (!node->data && (node->data = calloc(1, sizeof *node->data)))
		node->data->fd = node->data->watch = -1;
	return node->data;
}

void vu_wire_free_data(struct vu_wire *wire, struct vu_wire_node *node)
{
	(void)wire;
	if (!node->data)
		return;
	if (node->data->fd >= 0)
		close(node->data->fd);
	free(node->data->sums);
	free(node->data);
	node->data = NULL;
}

int vu_wire_take_data(VU_WIRE_WHO, struct vu_wire_node *node)
{
	if (!data_of(node))
		return -ENOMEM;
	while (node->data->busy) {
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += 100000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_clockwait(&wire->changed, &wire->lock, CLOCK_MONOTONIC, &until);
		if (node->data->busy && caller->gone && caller->gone(caller->data))
			return -EINTR;
	}
	node->data->busy = true;
	return 0;
}

void vu_wire_give_data(struct vu_wire *wire, struct vu_wire_node *node)
{
	node->data->busy = false;
	pthread_cond_broadcast(&wire->changed);
}

/* The cache is full. What has come of a file that had nothing before gives its room back. */
static void give_up(struct vu_wire *wire, const char *path, int fd, uint64_t size, bool empty)
{
	char line[PATH_MAX + 160];
	struct statvfs st;
	if (empty && (ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)size) < 0))
		return;
	if (!wire->options.log || fstatvfs(wire->cache, &st) < 0)
		return;
	snprintf(line, sizeof line, "%s: its %llu KiB cannot be opened: the cache has room for %llu KiB", path,
		 (unsigned long long)size / 1024, (unsigned long long)st.f_bavail * st.f_frsize / 1024);
	wire->options.log(wire->options.data, line);
}

/* For the rest of a file. Each time something else goes, so there is an end to it. */
static bool make_room(struct vu_wire *wire, int fd, uint64_t size)
{
	struct stat st;
	uint64_t there = fstat(fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
	vu_wire_lock(wire);
	uint64_t freed = vu_wire_evict(wire, size > there ? size - there : VU_WIRE_BLOCK);
	vu_wire_unlock(wire);
	return freed;
}

/* `busy` is ours, the lock is held. */
static int fill(VU_WIRE_WHO, struct vu_wire_node *node, const struct vu_fuse_file *file)
{
	struct vu_wire_data *data = node->data;
	struct vu_fuse_attr attr = node->attr;
	size_t count = (size_t)((attr.size + VU_WIRE_BLOCK - 1) / VU_WIRE_BLOCK);
	char path[PATH_MAX];
	if (wire->options.largest && attr.size > wire->options.largest)
		return -EFBIG;
	int error = vu_wire_anchor_path(wire, node, path);
	int fd = error < 0 ? error : vu_wire_open_anchor(wire, path, O_WRONLY);
	uint64_t *sums = calloc(count + 1, sizeof *sums), got = 0;
	struct stat st;
	bool empty = fd >= 0 && !fstat(fd, &st) && !st.st_blocks;
	if (fd >= 0 && !sums)
		error = -ENOMEM;
	vu_wire_unlock(wire);
	bool unsized = !attr.size && (file->open_flags & FOPEN_DIRECT_IO);
	for (bool again = fd >= 0 && !error; again;) {
		error = unsized ? vu_wire_fetch_unsized(wire, caller, file, fd, &got)
				: vu_wire_fetch(wire, caller, file, fd, attr.size, sums, &got);
		again = (error == -ENOSPC || error == -EDQUOT) && make_room(wire, fd, attr.size);
	}
	if (fd >= 0 && !error && got != attr.size && ftruncate(fd, (off_t)got) < 0)
		error = -errno;
	if (error == -ENOSPC || error == -EDQUOT) {
		error = -ENOSPC;
		give_up(wire, path, fd, attr.size, empty);
	}
	if (fd >= 0) {
		struct timespec times[] = { attr.atime, attr.mtime };
		futimens(fd, times);
		close(fd);
	}
	vu_wire_lock(wire);
	if (fd < 0 || error < 0) {
		free(sums);
		return fd < 0 ? fd : error;
	}
	free(data->sums);
	data->sums = sums;
	data->sum_count = (size_t)((got + VU_WIRE_BLOCK - 1) / VU_WIRE_BLOCK);
	if (data->sum_count > count)
		data->sum_count = 0; /* of what tells no size nothing is known */
	data->filled = !unsized;
	data->size = attr.size;
	data->mtime = attr.mtime;
	vu_wire_spare(wire);
	return 0;
}

static int truncate_first(VU_WIRE_WHO, struct vu_wire_node *node)
{
	struct vu_fuse_attr set = {}, attr;
	int64_t until;
	if (vu_fuse_features(wire->fuse)->flags & FUSE_ATOMIC_O_TRUNC)
		return 0;
	vu_wire_unlock(wire);
	int error = vu_fuse_setattr(wire->fuse, caller, node->nodeid, NULL, FATTR_SIZE, &set, &attr, &until);
	vu_wire_lock(wire);
	return error;
}

/* The server has opened it; `busy` is ours. What the anchor needs before it is opened. */
static int settle(VU_WIRE_WHO, struct vu_wire_node *node, unsigned flags, struct vu_fuse_file *file)
{
	struct vu_wire_data *data = node->data;
	int error = 0;
	if (flags & O_TRUNC) {
		if ((error = truncate_first(wire, caller, node)) < 0)
			return error;
		/* The opener's own O_TRUNC empties the anchor. */
		free(data->sums);
		data->sums = NULL;
		data->sum_count = 0;
		data->filled = true;
		data->size = node->attr.size = 0;
		data->mtime = node->attr.mtime;
		node->attr_until = 0;
	} else if (!data->writing && (!data->filled || (file->open_flags & FOPEN_DIRECT_IO)) &&
		   (error = fill(wire, caller, node, file)) < 0) {
		return error;
	}
	return (flags & O_ACCMODE) == O_RDONLY ? 0 : vu_wire_begin_writing(wire, caller, node, file);
}

/*
 * What may be written but not read cannot be opened as it is needed here. Its owner could permit himself to read it: that is
 * done for the moment.
 */
static int open_unreadable(VU_WIRE_WHO, struct vu_wire_node *node, unsigned flags, struct vu_fuse_file *file)
{
	struct vu_fuse_attr closed = { .mode = node->attr.mode }, open = { .mode = node->attr.mode | S_IRUSR }, attr;
	int64_t until;
	if (closed.mode == open.mode || caller->uid != node->attr.uid)
		return -EACCES;
	vu_wire_unlock(wire);
	int error = vu_fuse_setattr(wire->fuse, caller, node->nodeid, NULL, FATTR_MODE, &open, &attr, &until);
	if (!error) {
		error = vu_fuse_open(wire->fuse, caller, node->nodeid, flags, file);
		vu_fuse_setattr(wire->fuse, caller, node->nodeid, NULL, FATTR_MODE, &closed, &attr, &until);
	}
	vu_wire_lock(wire);
	return error;
}

static int open_node(VU_WIRE_WHO, struct vu_wire_node *node, unsigned flags)
{
	struct vu_fuse_file file;
	unsigned asked = flags & ~(unsigned)O_APPEND; /* where it is written is for us to say */
	/* To write back a part, the rest must have been read: as FUSE_WRITEBACK_CACHE. */
	if ((flags & O_ACCMODE) == O_WRONLY && !(flags & O_TRUNC))
		asked = (asked & ~(unsigned)O_ACCMODE) | O_RDWR;
	int error = vu_wire_take_data(wire, caller, node);
	if (error < 0)
		return error;
	vu_wire_unlock(wire);
	error = vu_fuse_open(wire->fuse, caller, node->nodeid, asked, &file);
	vu_wire_lock(wire);
	if (error == -EACCES && (flags & O_ACCMODE) == O_WRONLY && (asked & O_ACCMODE) == O_RDWR)
		error = open_unreadable(wire, caller, node, asked, &file);
	/* Without FOPEN_KEEP_CACHE the kernel would fetch it anew: we ask at least whether it has changed. */
	if (!error && node->data->filled && !node->data->writing && !(file.open_flags & FOPEN_KEEP_CACHE) &&
	    !(flags & O_TRUNC))
		vu_wire_refresh(wire, caller, node);
	if (!error && (error = settle(wire, caller, node, flags, &file)) <= 0) {
		vu_wire_unlock(wire);
		vu_fuse_release(wire->fuse, caller, &file);
		vu_wire_lock(wire);
	}
	vu_wire_give_data(wire, node);
	return error < 0 ? error : 0;
}

/* What is still to be opened is held until it has been. */
static void hold(struct vu_wire *wire, struct vu_wire_node *node, unsigned flags, struct vu_wire_node **held)
{
	if ((flags & O_ACCMODE) == O_RDONLY)
		node->data->opening++; /* for writing it is counted already */
	node->data->used = ++wire->uses;
	vu_wire_pin(node);
	*held = node;
}

void vu_wire_opened(struct vu_wire *wire, struct vu_wire_node *held)
{
	if (!held)
		return;
	vu_wire_lock(wire);
	held->data->opening--;
	vu_wire_look_again(wire, held);
	vu_wire_unpin(wire, held);
	pthread_mutex_unlock(
		&wire->lock); /* nobody waits here for the server: what is forgotten it is told by others */
}

bool vu_wire_is_here(struct vu_wire *wire, const char *path, struct vu_wire_node **held)
{
	struct vu_wire_node *node;
	bool here = false;
	*held = NULL;
	if (!wire->options.fixed || vu_fuse_is_dead(wire->fuse))
		return false;
	pthread_mutex_lock(&wire->lock);
	if (!vu_wire_reach_known(wire, path, &node)) {
		here = S_ISREG(node->attr.mode) && node->data && node->data->filled;
		if (here)
			hold(wire, node, O_RDONLY, held);
		vu_wire_unpin(wire, node);
	}
	pthread_mutex_unlock(&wire->lock);
	return here;
}

int vu_wire_open(VU_WIRE_WHO, const char *path, unsigned flags, struct vu_wire_node **held)
{
	struct vu_wire_node *node;
	*held = NULL;
	vu_wire_lock(wire);
	int error = vu_wire_reach(wire, caller, path, &node);
	if (!error) {
		if (S_ISREG(node->attr.mode))
			error = open_node(wire, caller, node, flags);
		if (!error && S_ISREG(node->attr.mode))
			hold(wire, node, flags, held);
		vu_wire_unpin(wire, node);
	}
	vu_wire_unlock(wire);
	return error;
}

/* Where the server has no CREATE: MKNOD, then OPEN, as fuse_create_open() does. */
static int create_in_two(VU_WIRE_WHO, struct vu_wire_node *directory, const char *text, unsigned flags, mode_t mode,
			 struct vu_fuse_entry *entry, struct vu_fuse_file *file)
{
	int error = vu_fuse_mknod(wire->fuse, caller, directory->nodeid, text, S_IFREG | (mode & 07777), 0, entry);
	if (error < 0)
		return error;
	error = vu_fuse_open(wire->fuse, caller, entry->nodeid, flags & ~(unsigned)(O_CREAT | O_EXCL | O_TRUNC), file);
	if (error < 0)
		vu_fuse_forget(wire->fuse, &(struct vu_fuse_forgotten){ entry->nodeid, 1 }, 1);
	return error;
}

/* A new file is empty, here as there. */
static int settle_new(VU_WIRE_WHO, struct vu_wire_node *node, unsigned flags, struct vu_fuse_file *file,
		      struct vu_wire_node **held)
{
	vu_wire_pin(node); /* its name may be another's before we have it */
	int error = vu_wire_take_data(wire, caller, node);
	if (!error) {
		node->data->filled = !node->attr.size;
		node->data->size = node->attr.size;
		node->data->mtime = node->attr.mtime;
		if ((flags & O_ACCMODE) != O_RDONLY)
			error = vu_wire_begin_writing(wire, caller, node, file);
		vu_wire_give_data(wire, node);
	}
	if (error >= 0)
		hold(wire, node, flags, held);
	vu_wire_unpin(wire, node);
	return error;
}

int vu_wire_create(VU_WIRE_WHO, const char *path, unsigned flags, mode_t mode, struct vu_wire_node **held)
{
	struct vu_wire_node *directory;
	*held = NULL;
	struct vu_wire_name *made;
	struct vu_fuse_entry entry;
	struct vu_fuse_file file;
	const char *text;
	vu_wire_lock(wire);
	int error = vu_wire_reach_parent(wire, caller, path, &directory, &text);
	if (error < 0) {
		vu_wire_unlock(wire);
		return error;
	}
	vu_wire_unlock(wire);
	unsigned asked = (flags & ~(unsigned)(O_APPEND | O_ACCMODE)) | O_RDWR | O_CREAT;
	error = vu_fuse_create(wire->fuse, caller, directory->nodeid, text, asked, S_IFREG | (mode & 07777), &entry,
			       &file);
	if (error == -ENOSYS)
		error = create_in_two(wire, caller, directory, text, asked, mode, &entry, &file);
	vu_wire_lock(wire);
	if (!error) {
		directory->changes++;
		directory->attr_until = 0;
		error = vu_wire_apply(wire, directory, text, &entry, NULL, &made);
		if (!error)
			error = settle_new(wire, caller, made->node, flags, &file, held);
		if (error <= 0) {
			vu_wire_unlock(wire);
			vu_fuse_release(wire->fuse, caller, &file);
			vu_wire_lock(wire);
		}
	}
	vu_wire_unpin(wire, directory);
	vu_wire_unlock(wire);
	return error < 0 ? error : 0;
}
