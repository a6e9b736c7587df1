/*
 * What programs have written to anchors goes back to the server: when the last of them has closed the file, on fsync(2), and
 * when the mount ends. No call of theirs is seen for that: inotify(7) tells when an open file description that may write is
 * released, and whether there is another a read lease does (fcntl(2), F_SETLEASE): it is refused as long as there is one.
 *
 * Only blocks that are not what the server has are written. Their sums are known from when they were fetched; times do not
 * tell, because who copies a file sets them back.
 */
#include "wire_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <signal.h>

enum { LOOKS = 6 };
/* Between two looks, by how many are left: after the second one. */
static const long look_ns[LOOKS] = { 0, 25000000, 6000000, 1500000, 400000, 100000 };
#define PATIENCE_NS INT64_C(10000000000)

static void *back_thread(void *argument);

void vu_wire_be_impatient(struct vu_wire *wire)
{
	atomic_store(&wire->patience, vu_fuse_now() + PATIENCE_NS);
	atomic_store(&wire->ending, true);
}

static bool is_given_up(void *argument)
{
	struct vu_wire *wire = argument;
	return atomic_load(&wire->ending) && vu_fuse_now() >= atomic_load(&wire->patience);
}

static int start(struct vu_wire *wire)
{
	sigset_t all, before;
	if (wire->threaded)
		return 0;
	if (wire->inotify < 0 && (wire->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) < 0)
		return -errno;
	if (wire->wake[0] < 0 && pipe2(wire->wake, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&wire->thread, NULL, back_thread, wire);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	wire->threaded = !error;
	return -error;
}

int vu_wire_begin_writing(VU_WIRE_WHO, struct vu_wire_node *node, const struct vu_fuse_file *file)
{
	struct vu_wire_data *data = node->data;
	char path[PATH_MAX], own[32];
	if (data->writing) {
		data->opening++;
		return 0;
	}
	int error = start(wire);
	if (error < 0 || (error = vu_wire_anchor_path(wire, node, path)) < 0 ||
	    (error = vu_wire_open_anchor(wire, path, O_RDONLY)) < 0)
		return error;
	data->fd = error;
	snprintf(own, sizeof own, "/proc/self/fd/%d", data->fd);
	data->watch = vu_wire_watch(wire, path, own);
	if (data->watch < 0) {
		error = data->watch;
		close(data->fd);
		data->fd = -1;
		return error;
	}
	data->file = *file;
	data->writer = *caller;
	data->writer.gone = is_given_up;
	data->writer.data = wire;
	data->writing = true;
	data->opening++;
	data->error = 0;
	data->next_writing = wire->writing;
	wire->writing = node;
	vu_wire_pin(node);
	return 1;
}

/* In what the server does not have as it is here: write it. Without the lock; `sums` are those of what is there now. */
static int write_changes(VU_WIRE_WHO, struct vu_wire_node *node, const struct stat *st, uint64_t *sums)
{
	struct vu_wire_data *data = node->data;
	size_t known = data->sums ? data->sum_count : 0;
	uint64_t had = data->size, size = (uint64_t)st->st_size, end = had;
	struct vu_fuse_attr set = { .size = size, .mtime = st->st_mtim }, attr;
	int64_t until;
	char *block = malloc(VU_WIRE_BLOCK);
	int error = block ? 0 : -ENOMEM;
	if (!error && size < had) {
		error = vu_fuse_setattr(wire->fuse, caller, node->nodeid, &data->file, FATTR_SIZE, &set, &attr, &until);
		end = size;
	}
	for (uint64_t offset = 0; !error && offset < size; offset += VU_WIRE_BLOCK) {
		size_t want = size - offset < VU_WIRE_BLOCK ? (size_t)(size - offset) : VU_WIRE_BLOCK,
		       i = offset / VU_WIRE_BLOCK;
		off_t next = i >= known ? lseek(data->fd, (off_t)offset, SEEK_DATA) : (off_t)offset;
		if (offset >= had && (next < 0 ? errno == ENXIO : (uint64_t)next >= offset + want)) {
			memset(block, 0, want); /* a hole behind the end: as good as not written */
			sums[i] = vu_wire_sum(wire, block, want);
			continue;
		}
		ssize_t n = pread(data->fd, block, want, (off_t)offset);
		if (n < 0)
			error = -errno;
		if (n <= 0)
			break; /* somebody makes it shorter: he is not done */
		sums[i] = vu_wire_sum(wire, block, (size_t)n);
		if (i < known && sums[i] == data->sums[i])
			continue;
		error = vu_fuse_write(wire->fuse, caller, &data->file, offset, block, (size_t)n);
		if (!error && offset + (size_t)n > end)
			end = offset + (size_t)n;
		if (!error && atomic_load(&wire->ending))
			vu_wire_be_impatient(wire); /* it is slow, but not hung */
	}
	if (!error && end < size)
		error = vu_fuse_setattr(wire->fuse, caller, node->nodeid, &data->file, FATTR_SIZE, &set, &attr, &until);
	free(block);
	/* A server that sets no times has the data all the same. */
	if (!error && (st->st_mtim.tv_sec != data->mtime.tv_sec || st->st_mtim.tv_nsec != data->mtime.tv_nsec))
		vu_fuse_setattr(wire->fuse, caller, node->nodeid, &data->file, FATTR_MTIME, &set, &attr, &until);
	int flushed = vu_fuse_flush(wire->fuse, caller, &data->file);
	return error ? error : flushed;
}

static void complain(struct vu_wire *wire, struct vu_wire_node *node, int error)
{
	char path[PATH_MAX], line[PATH_MAX + 128];
	if (!wire->options.log || node->data->error == error)
		return;
	if (vu_wire_node_path(wire, node, path) < 0)
		strcpy(path, "(deleted)");
	snprintf(line, sizeof line, "%s: what was written could not be given to the server: %s", path,
		 strerror(-error));
	wire->options.log(wire->options.data, line);
}

int vu_wire_write_back(VU_WIRE_WHO, struct vu_wire_node *node)
{
	struct vu_wire_data *data = node->data;
	struct stat st;
	if (!data->writing)
		return 0;
	if (fstat(data->fd, &st) < 0)
		return -errno;
	size_t count = ((size_t)st.st_size + VU_WIRE_BLOCK - 1) / VU_WIRE_BLOCK;
	uint64_t *sums = calloc(count + 1, sizeof *sums);
	if (!sums)
		return -ENOMEM;
	vu_wire_unlock(wire);
	int error = write_changes(wire, caller, node, &st, sums);
	vu_wire_lock(wire);
	if (error < 0) {
		complain(wire, node, error);
		data->error = error;
		free(sums);
		return error;
	}
	free(data->sums);
	data->sums = sums;
	data->sum_count = count;
	data->size = node->attr.size = (uint64_t)st.st_size;
	data->mtime = node->attr.mtime = st.st_mtim;
	data->filled = true;
	data->error = 0;
	return 0;
}

static bool has_writers(const struct vu_wire_data *data)
{
	if (data->opening)
		return true;
	if (fcntl(data->fd, F_SETLEASE, F_RDLCK) < 0)
		return true;
	fcntl(data->fd, F_SETLEASE, F_UNLCK);
	return false;
}

int vu_wire_end_writing(VU_WIRE_WHO, struct vu_wire_node *node, bool anyhow)
{
	struct vu_wire_data *data = node->data;
	int error = 0;
	if (!data->writing || (!anyhow && has_writers(data)))
		return data->writing;
	if ((error = vu_wire_write_back(wire, caller, node)) < 0 && !anyhow)
		return error;
	struct vu_wire_node **link = &wire->writing;
	while (*link != node)
		link = &(*link)->data->next_writing;
	*link = data->next_writing;
	inotify_rm_watch(wire->inotify, data->watch);
	close(data->fd);
	data->fd = data->watch = -1;
	data->writing = false;
	node->attr_until = 0; /* its blocks, its time of change */
	struct vu_fuse_file file = data->file;
	vu_wire_unlock(wire);
	vu_fuse_release(wire->fuse, caller, &file);
	vu_wire_lock(wire);
	vu_wire_unpin(wire, node);
	return error;
}

/* One of those that may have ended: the lock is held. */
static void look_at(struct vu_wire *wire, struct vu_wire_node *node)
{
	const struct vu_fuse_caller writer = node->data->writer;
	vu_wire_pin(node);
	if (!vu_wire_take_data(wire, &writer, node)) {
		if (node->data->looks)
			node->data->looks--;
		int result = vu_wire_end_writing(wire, &writer, node, false);
		if (result <= 0)
			node->data->looks = 0;
		vu_wire_give_data(wire, node);
	}
	vu_wire_unpin(wire, node);
}

static void wake(struct vu_wire *wire)
{
	if (write(wire->wake[1], "", 1) < 0)
		return; /* it is full: it wakes up anyhow */
}

void vu_wire_look_again(struct vu_wire *wire, struct vu_wire_node *node)
{
	if (node->data->writing && wire->threaded) {
		node->data->looks = LOOKS;
		wake(wire);
	}
}

static void read_events(struct vu_wire *wire)
{
	_Alignas(struct inotify_event) char events[4096];
	ssize_t size;
	while ((size = read(wire->inotify, events, sizeof events)) > 0)
		for (char *at = events; at < events + size;) {
			const struct inotify_event *event = (const struct inotify_event *)at;
			for (struct vu_wire_node *node = wire->writing; node; node = node->data->next_writing)
				if (node->data->watch == event->wd || (event->mask & IN_Q_OVERFLOW))
					node->data->looks = LOOKS;
			at += sizeof *event + event->len;
		}
}

/* The event comes a moment before the kernel has taken note that there is a writer less: so look several times. */
static void *back_thread(void *argument)
{
	struct vu_wire *wire = argument;
	char bytes[64];
	unsigned again = 0; /* the most looks that a file has left */
	prctl(PR_SET_NAME, "vu-wire");
	for (;;) {
		struct pollfd pollers[] = { { .fd = wire->inotify, .events = POLLIN },
					    { .fd = wire->wake[0], .events = POLLIN } };
		ppoll(pollers, 2, again ? &(struct timespec){ .tv_nsec = look_ns[again < LOOKS ? again : 0] } : NULL,
		      NULL);
		while (read(wire->wake[0], bytes, sizeof bytes) > 0) {
		}
		if (atomic_load(&wire->ending))
			return NULL;
		vu_wire_lock(wire);
		read_events(wire);
		for (struct vu_wire_node *node = wire->writing; node;) {
			if (!node->data->looks) {
				node = node->data->next_writing;
				continue;
			}
			unsigned looks = node->data->looks;
			look_at(wire, node);
			node = wire->writing; /* the list may be another: from its beginning, past what has had its look */
			while (node && (node->data->looks == 0 || node->data->looks == looks - 1))
				node = node->data->next_writing;
		}
		again = 0;
		for (struct vu_wire_node *node = wire->writing; node; node = node->data->next_writing)
			if (node->data->looks > again)
				again = node->data->looks;
		vu_wire_unlock(wire);
	}
}

void vu_wire_stop(struct vu_wire *wire)
{
	if (!wire->threaded)
		return;
	wake(wire);
	pthread_join(wire->thread, NULL);
	wire->threaded = false;
}

/* What has no name any more is nobody's loss. */
static void note_lost(const struct vu_wire *wire, const struct vu_wire_node *node, int error, struct vu_wire_lost *lost)
{
	char path[PATH_MAX];
	if (!lost || vu_wire_node_path(wire, node, path) < 0)
		return;
	size_t room = lost->room - lost->used;
	int length = snprintf(lost->text + lost->used, room, "%d %s", -error, path);
	if (length >= 0 && (size_t)length < room)
		lost->used += (size_t)length + 1;
}

unsigned vu_wire_write_all(struct vu_wire *wire, bool anyhow, struct vu_wire_lost *lost)
{
	unsigned failed = 0, count = 0, i = 0;
	vu_wire_lock(wire);
	for (struct vu_wire_node *node = wire->writing; node; node = node->data->next_writing)
		count++;
	struct vu_wire_node **nodes = calloc(count + 1, sizeof *nodes);
	for (struct vu_wire_node *node = wire->writing; nodes && node; node = node->data->next_writing) {
		vu_wire_pin(node);
		nodes[i++] = node;
	}
	for (count = i, i = 0; i < count; i++) {
		struct vu_wire_node *node = nodes[i];
		const struct vu_fuse_caller writer = node->data->writer;
		int error = vu_wire_take_data(wire, &writer, node);
		if (!error) {
			error = anyhow ? vu_wire_end_writing(wire, &writer, node, true)
				       : vu_wire_write_back(wire, &writer, node);
			vu_wire_give_data(wire, node);
		}
		if (error < 0) {
			failed++;
			note_lost(wire, node, error, lost);
		}
		vu_wire_unpin(wire, node);
	}
	free(nodes);
	vu_wire_unlock(wire);
	return failed;
}

int vu_wire_sync_all(struct vu_wire *wire)
{
	return vu_wire_write_all(wire, false, NULL) ? -EIO : 0;
}

int vu_wire_sync(VU_WIRE_WHO, const char *path, bool data_only)
{
	struct vu_wire_node *node;
	struct vu_fuse_file file;
	vu_wire_lock(wire);
	int error = vu_wire_reach(wire, caller, path, &node);
	if (error < 0) {
		vu_wire_unlock(wire);
		return error;
	}
	bool directory = S_ISDIR(node->attr.mode);
	if (S_ISREG(node->attr.mode) && !(error = vu_wire_take_data(wire, caller, node))) {
		error = vu_wire_write_back(wire, caller, node);
		bool open = node->data->writing;
		file = node->data->file;
		vu_wire_unlock(wire);
		if (!error && open)
			error = vu_fuse_fsync(wire->fuse, caller, &file, data_only);
		vu_wire_lock(wire);
		vu_wire_give_data(wire, node);
	} else if (directory) {
		vu_wire_unlock(wire);
		if (!(error = vu_fuse_opendir(wire->fuse, caller, node->nodeid, &file))) {
			error = vu_fuse_fsyncdir(wire->fuse, caller, &file, data_only);
			vu_fuse_releasedir(wire->fuse, caller, &file);
		}
		vu_wire_lock(wire);
	}
	vu_wire_unpin(wire, node);
	vu_wire_unlock(wire);
	return error;
}
