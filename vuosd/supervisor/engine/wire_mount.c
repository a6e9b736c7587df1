/* A wire mount: how it begins and ends, and what the server says of its own accord. */
#include "wire_inside.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/random.h>

/* The server has changed something, and says so. Nothing is asked now: what is out of date is not believed any more. */
static void notice(void *argument, const struct vu_fuse_notice *notice)
{
	struct vu_wire *wire = argument;
	pthread_mutex_lock(&wire->lock);
	struct vu_wire_node *node = vu_wire_node_find(wire, notice->nodeid);
	if (node && notice->kind == VU_FUSE_INVAL_INODE) {
		node->attr_until = 0;
		if (node->data && notice->offset >= 0)
			node->data->filled = false;
	} else if (node && notice->kind == VU_FUSE_INVAL_ENTRY) {
		struct vu_wire_name *name = vu_wire_find(node, notice->name, strlen(notice->name));
		if (name && (!notice->child || (name->node && name->node->nodeid == notice->child)))
			name->until = 0;
		node->attr_until = 0;
		node->listed = false;
		node->changes++;
	}
	pthread_mutex_unlock(&wire->lock);
}

static void say(void *argument, const char *line)
{
	struct vu_wire *wire = argument;
	if (wire->options.log)
		wire->options.log(wire->options.data, line);
}

/* Whether there are writers is told by leases: not every file system has them. */
static int try_lease(int tree)
{
	int fd = openat(tree, ".lease", O_CREAT | O_EXCL | O_RDONLY | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int error = fcntl(fd, F_SETLEASE, F_RDLCK) < 0 ? -errno : 0;
	close(fd);
	unlinkat(tree, ".lease", 0);
	return error;
}

/* Times of access are the server's (fuse_iget makes each inode S_NOATIME): what is made in the cache inherits that, if it has such a flag. */
static void keep_times(int cache)
{
	int flags;
	if (ioctl(cache, FS_IOC_GETFLAGS, &flags) < 0)
		return;
	flags |= FS_NOATIME_FL;
	ioctl(cache, FS_IOC_SETFLAGS, &flags);
}

static int open_tree(struct vu_wire *wire)
{
	keep_times(wire->cache);
	int made = wire->options.file ? openat(wire->cache, "tree", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600)
				      : mkdirat(wire->cache, "tree", 0700);
	if (made < 0)
		return -errno;
	if (wire->options.file)
		close(made);
	wire->tree = openat(wire->cache, "tree", O_PATH | O_CLOEXEC);
	return wire->tree < 0 ? -errno : try_lease(wire->cache);
}

static int begin(struct vu_wire *wire, const struct vu_fuse_caller *caller)
{
	int error = vu_fuse_begin(wire->fuse, caller);
	if (error < 0)
		return error;
	wire->root = vu_wire_node_new(wire, FUSE_ROOT_ID, 0);
	if (!wire->root)
		return -ENOMEM;
	const mode_t type = wire->root->attr.mode = wire->options.file ? S_IFREG : S_IFDIR;
	vu_wire_lock(wire);
	error = vu_wire_refresh(wire, caller, wire->root);
	vu_wire_unlock(wire);
	return !error && (wire->root->attr.mode & S_IFMT) != type ? -EIO : error;
}

int vu_wire_mount(int socket, int cache, const struct vu_wire_options *options, const struct vu_fuse_caller *caller,
		  struct vu_wire **out, int *tree)
{
	struct vu_wire *wire = calloc(1, sizeof *wire);
	if (!wire) {
		close(socket);
		close(cache);
		return -ENOMEM;
	}
	struct vu_fuse_options fuse = {
		.deadline = options->deadline, .fixed = options->fixed, .notice = notice, .log = say, .data = wire
	};
	wire->options = *options;
	wire->cache = cache;
	wire->tree = wire->inotify = wire->wake[0] = wire->wake[1] = -1;
	pthread_mutex_init(&wire->lock, NULL);
	pthread_cond_init(&wire->changed, NULL);
	wire->fuse = vu_fuse_new(socket, &fuse);
	int error = !wire->fuse                                                                  ? -ENOMEM
		    : getrandom(&wire->seed, sizeof wire->seed, 0) != (ssize_t)sizeof wire->seed ? -EIO
												 : open_tree(wire);
	if (!error)
		error = begin(wire, caller);
	if (error < 0) {
		vu_wire_unmount(wire, NULL);
		return error;
	}
	*out = wire;
	*tree = wire->tree;
	return 0;
}

unsigned vu_wire_settle(struct vu_wire *wire, struct vu_wire_lost *lost)
{
	vu_wire_be_impatient(wire);
	vu_wire_stop(wire);
	unsigned failed = wire->fuse ? vu_wire_write_all(wire, true, lost) : 0;
	wire->refused |= failed > 0;
	return failed;
}

unsigned vu_wire_unmount(struct vu_wire *wire, struct vu_wire_lost *lost)
{
	unsigned failed = vu_wire_settle(wire, lost);
	if (wire->fuse && wire->root) {
		vu_wire_lock(wire);
		struct vu_wire_node *root = wire->root;
		for (unsigned i = 0; i < root->bucket_count; i++)
			while (root->buckets[i]) {
				struct vu_wire_name *name = root->buckets[i];
				vu_wire_drop(wire, name);
				vu_wire_forget_name(wire, name);
			}
		vu_wire_unlock(wire);
		vu_wire_unhash(wire, root);
		vu_wire_free_data(wire, root);
		free(root->buckets);
		free(root);
	}
	/* Who has not taken what was written is not asked for more. */
	if (wire->fuse)
		vu_fuse_free(wire->fuse, wire->root && !wire->refused);
	if (wire->tree >= 0) {
		close(wire->tree);
		unlinkat(wire->cache, "tree", wire->options.file ? 0 : AT_REMOVEDIR);
	}
	for (int i = 0; i < 2; i++)
		if (wire->wake[i] >= 0)
			close(wire->wake[i]);
	if (wire->inotify >= 0)
		close(wire->inotify);
	close(wire->cache);
	free(wire->forgotten);
	free(wire);
	return failed;
}

struct vu_fuse *vu_wire_fuse(struct vu_wire *wire)
{
	return wire->fuse;
}
