/*
 * A FUSE server without a library, as those of the crate fuser are: it opens /dev/fuse, calls mount(2) with its number, and
 * reads and writes messages. raw_fuse MOUNTPOINT shows a directory with one file, "file", which is what has been written to it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char content[65536] = "raw\n";
static size_t length = 4;
static int device;

static void reply(uint64_t unique, int error, const void *data, size_t size)
{
	struct fuse_out_header header = { .len = (uint32_t)(sizeof header + size), .error = -error, .unique = unique };
	struct iovec parts[] = { { &header, sizeof header }, { (void *)data, size } };
	writev(device, parts, size ? 2 : 1);
}

static struct fuse_attr attributes(uint64_t node)
{
	struct fuse_attr attr = { .ino = node, .nlink = 1, .uid = getuid(), .gid = getgid(), .blksize = 4096 };
	attr.mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
	attr.size = node == FUSE_ROOT_ID ? 0 : length;
	return attr;
}

static void initialise(const struct fuse_in_header *in)
{
	struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION, .minor = 23, .max_write = 65536 };
	reply(in->unique, 0, &out, sizeof out);
}

static void look_up(const struct fuse_in_header *in, const char *name)
{
	struct fuse_entry_out out = { .nodeid = 2, .attr = attributes(2) };
	if (strcmp(name, "file"))
		reply(in->unique, ENOENT, NULL, 0);
	else
		reply(in->unique, 0, &out, sizeof out);
}

static void list(const struct fuse_in_header *in, const struct fuse_read_in *read)
{
	struct {
		struct fuse_dirent entry;
		char name[8];
	} out = { { .ino = 2, .off = 1, .namelen = 4, .type = S_IFREG >> 12 }, "file" };
	reply(in->unique, 0, &out, read->offset ? 0 : sizeof out);
}

static void set(const struct fuse_in_header *in, const struct fuse_setattr_in *set)
{
	if (set->valid & FATTR_SIZE && set->size < sizeof content) {
		if (set->size > length)
			memset(content + length, 0, set->size - length);
		length = set->size;
	}
	struct fuse_attr_out out = { .attr = attributes(in->nodeid) };
	reply(in->unique, 0, &out, sizeof out);
}

static void write_some(const struct fuse_in_header *in, const struct fuse_write_in *write)
{
	struct fuse_write_out out = { .size = write->size };
	if (write->offset + write->size > sizeof content)
		return reply(in->unique, ENOSPC, NULL, 0);
	memcpy(content + write->offset, write + 1, write->size);
	if (write->offset + write->size > length)
		length = write->offset + write->size;
	reply(in->unique, 0, &out, sizeof out);
}

static void serve(const struct fuse_in_header *in)
{
	const void *arguments = in + 1;
	const struct fuse_read_in *read = arguments;
	struct fuse_attr_out attr = { .attr = attributes(in->nodeid) };
	struct fuse_open_out open = {};
	size_t left;

	switch (in->opcode) {
	case FUSE_INIT: return initialise(in);
	case FUSE_LOOKUP: return look_up(in, arguments);
	case FUSE_GETATTR: return reply(in->unique, 0, &attr, sizeof attr);
	case FUSE_SETATTR: return set(in, arguments);
	case FUSE_OPEN:
	case FUSE_OPENDIR: return reply(in->unique, 0, &open, sizeof open);
	case FUSE_READDIR: return list(in, read);
	case FUSE_READ:
		left = read->offset < length ? length - read->offset : 0;
		return reply(in->unique, 0, content + read->offset, left < read->size ? left : read->size);
	case FUSE_WRITE: return write_some(in, arguments);
	case FUSE_FLUSH:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR: return reply(in->unique, 0, NULL, 0);
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT: return;
	default: return reply(in->unique, ENOSYS, NULL, 0);
	}
}

int main(int argc, char **argv)
{
	static _Alignas(struct fuse_in_header) char message[65536 + 4096];
	char options[128];

	if (argc != 2 || (device = open("/dev/fuse", O_RDWR | O_CLOEXEC)) < 0) {
		perror("raw_fuse: /dev/fuse");
		return 1;
	}
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%d,group_id=%d", device, getuid(), getgid());
	if (mount("raw", argv[1], "fuse.raw", MS_NOSUID | MS_NODEV, options) < 0) {
		perror("raw_fuse: mount");
		return 1;
	}
	for (;;) {
		ssize_t n = read(device, message, sizeof message);
		if (n < (ssize_t)sizeof(struct fuse_in_header)) {
			if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN))
				continue;
			return n < 0 && errno != ENODEV;
		}
		serve((const struct fuse_in_header *)message);
	}
}
