/*
 * What a FUSE server says → values that can be worked with. No I/O, no memory but the caller's.
 *
 * The rule: a message is a run of bytes by somebody who wants us to fall. Each length is compared with what came before
 * anything is read, each number with what it may be, each name with what a name is. Where the kernel clamps, we clamp;
 * where it says EIO, so do we.
 */
#include "fuse.h"

#include <dirent.h>
#include <string.h>
#include <sys/sysmacros.h>

#define SECOND INT64_C(1000000000)

bool vu_fuse_name_is_good(const char *name, size_t length)
{
	return length && length <= NAME_MAX && !memchr(name, '/', length) && !memchr(name, 0, length);
}

static bool is_dots(const char *name, size_t length)
{
	return length <= 2 && name[0] == '.' && name[length - 1] == '.';
}

int64_t vu_fuse_until(int64_t now, uint64_t seconds, uint32_t nanoseconds)
{
	if (now == VU_FUSE_NEVER)
		return now;
	if (!seconds && !nanoseconds)
		return 0;
	if (seconds >= (uint64_t)((VU_FUSE_NEVER - now) / SECOND) - 1)
		return VU_FUSE_NEVER;
	if (nanoseconds >= SECOND)
		nanoseconds = SECOND - 1;
	return now + (int64_t)seconds * SECOND + nanoseconds;
}

int vu_fuse_decode_header(const void *message, size_t size, struct fuse_out_header *out)
{
	if (size < sizeof *out)
		return -EPROTO;
	memcpy(out, message, sizeof *out);
	if (out->len != size)
		return -EPROTO;
	if (!out->unique)
		return out->error > 0 && out->error < FUSE_NOTIFY_CODE_MAX ? 0 : -EPROTO;
	/* fuse_dev_do_write: 512 and up are the kernel's own */
	if (out->error <= -512 || out->error > 0 || (out->error && size != sizeof *out))
		return -EPROTO;
	return 0;
}

int vu_fuse_decode_init(const void *data, size_t size, struct vu_fuse_features *out)
{
	struct fuse_init_out init = {};
	/* Before 7.23 it ended with max_write; before 7.5 with `minor`, which is too old for us. */
	if (size < FUSE_COMPAT_22_INIT_OUT_SIZE)
		return -EPROTO;
	memcpy(&init, data, size < sizeof init ? size : sizeof init);
	/* 7.12: the first that has the arguments of mknod and create which we send. */
	if (init.major != FUSE_KERNEL_VERSION || init.minor < 12)
		return -EPROTO;
	*out = (struct vu_fuse_features){
		.minor = init.minor,
		.flags = init.flags,
		.max_write = init.max_write < 4096 ? 4096 : init.max_write,
		.time_gran = init.time_gran && init.time_gran <= SECOND ? init.time_gran : 1,
	};
	if (out->max_write > VU_FUSE_DATA)
		out->max_write = VU_FUSE_DATA;
	return 0;
}

static struct timespec time_of(uint64_t seconds, uint32_t nanoseconds)
{
	return (struct timespec){ .tv_sec = (time_t)seconds,
				  .tv_nsec = nanoseconds < SECOND ? (long)nanoseconds : SECOND - 1 };
}

int vu_fuse_decode_attr(const struct fuse_attr *from, struct vu_fuse_attr *out)
{
	switch (from->mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK: break;
	default: return -EIO;
	}
	if (from->size > INT64_MAX)
		return -EIO;
	*out = (struct vu_fuse_attr){
		.ino = from->ino,
		.size = from->size,
		.blocks = from->blocks,
		.atime = time_of(from->atime, from->atimensec),
		.mtime = time_of(from->mtime, from->mtimensec),
		.ctime = time_of(from->ctime, from->ctimensec),
		.mode = from->mode & (S_IFMT | 07777),
		.nlink = from->nlink,
		.uid = from->uid,
		.gid = from->gid,
		.blksize = from->blksize,
		/* new_decode_dev() of the kernel */
		.rdev = makedev((from->rdev >> 8) & 0xfff, (from->rdev & 0xff) | ((from->rdev >> 12) & 0xfff00)),
	};
	return 0;
}

static int decode_entry_out(const struct fuse_entry_out *from, int64_t now, struct vu_fuse_entry *out)
{
	*out = (struct vu_fuse_entry){
		.nodeid = from->nodeid,
		.generation = from->generation,
		.entry_until = vu_fuse_until(now, from->entry_valid, from->entry_valid_nsec),
		.attr_until = vu_fuse_until(now, from->attr_valid, from->attr_valid_nsec),
	};
	if (!from->nodeid)
		return 0;
	if (from->nodeid == FUSE_ROOT_ID)
		return -EIO; /* the root lies in no directory: it would be its own ancestor */
	return vu_fuse_decode_attr(&from->attr, &out->attr);
}

int vu_fuse_decode_entry(const void *data, size_t size, int64_t now, struct vu_fuse_entry *out)
{
	struct fuse_entry_out entry;
	if (size != sizeof entry)
		return -EIO;
	memcpy(&entry, data, sizeof entry);
	return decode_entry_out(&entry, now, out);
}

int vu_fuse_decode_attr_out(const void *data, size_t size, int64_t now, struct vu_fuse_attr *out, int64_t *until)
{
	struct fuse_attr_out reply;
	if (size != sizeof reply)
		return -EIO;
	memcpy(&reply, data, sizeof reply);
	*until = vu_fuse_until(now, reply.attr_valid, reply.attr_valid_nsec);
	return vu_fuse_decode_attr(&reply.attr, out);
}

int vu_fuse_decode_dirent(const void *data, size_t size, bool plus, int64_t now, size_t *at, struct vu_fuse_dirent *out)
{
	struct fuse_direntplus both = {};
	size_t ahead = plus ? offsetof(struct fuse_direntplus, dirent) : 0;
	size_t least = ahead + FUSE_NAME_OFFSET;
	if (*at > size || size - *at < least)
		return 0; /* as the kernel: a rest that holds no name is nothing */
	const char *from = (const char *)data + *at;
	if (plus)
		memcpy(&both.entry_out, from, sizeof both.entry_out);
	memcpy(&both.dirent, from + ahead, FUSE_NAME_OFFSET);
	size_t length = both.dirent.namelen, rest = size - *at - least;
	if (!length || length > NAME_MAX)
		return -EIO;
	if (rest < length)
		return 0;
	if (!vu_fuse_name_is_good(from + least, length))
		return -EIO;
	*out = (struct vu_fuse_dirent){ .ino = both.dirent.ino,
					.next = both.dirent.off,
					.type = both.dirent.type <= DT_WHT ? (uint8_t)both.dirent.type : DT_UNKNOWN };
	memcpy(out->name, from + least, length);
	/* The server may leave the padding of the last one away. */
	size_t whole = ahead + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + length);
	*at = size - *at < whole ? size : *at + whole;
	if (plus && both.entry_out.nodeid && !is_dots(out->name, length)) {
		int error = decode_entry_out(&both.entry_out, now, &out->entry);
		if (error < 0)
			return error;
		out->known = true;
	}
	return 1;
}

int vu_fuse_decode_names(const char *data, size_t size)
{
	while (size) {
		size_t length = strnlen(data, size);
		if (!length || length == size)
			return -EIO;
		data += length + 1;
		size -= length + 1;
	}
	return 0;
}

int vu_fuse_decode_link(char *data, size_t size)
{
	if (size >= PATH_MAX)
		size = PATH_MAX - 1;
	data[size] = 0;
	size = strlen(data); /* the kernel reads it as a string, too */
	return size ? (int)size : -EIO;
}

int vu_fuse_decode_notice(int32_t code, const void *data, size_t size, struct vu_fuse_notice *out)
{
	*out = (struct vu_fuse_notice){ .kind = VU_FUSE_OTHER };
	struct fuse_notify_delete_out delete;
	size_t head, length;
	switch (code) {
	case FUSE_NOTIFY_INVAL_INODE: {
		struct fuse_notify_inval_inode_out inode;
		if (size != sizeof inode)
			return -EIO;
		memcpy(&inode, data, sizeof inode);
		out->kind = VU_FUSE_INVAL_INODE;
		out->nodeid = inode.ino;
		out->offset = inode.off;
		out->length = inode.len;
		return 0;
	}
	case FUSE_NOTIFY_INVAL_ENTRY: {
		struct fuse_notify_inval_entry_out entry;
		if (size < sizeof entry)
			return -EIO;
		memcpy(&entry, data, sizeof entry);
		head = sizeof entry;
		delete = (struct fuse_notify_delete_out){ .parent = entry.parent, .namelen = entry.namelen };
		break;
	}
	case FUSE_NOTIFY_DELETE:
		if (size < sizeof delete)
			return -EIO;
		memcpy(&delete, data, sizeof delete);
		head = sizeof delete;
		break;
	default: return 0; /* poll, store, retrieve, resend: nothing that an anchor can use */
	}
	length = delete.namelen;
	/* With its NUL: fuse_notify_inval_entry of fs/fuse/dev.c. */
	if (length > NAME_MAX || size - head != length + 1 || ((const char *)data)[head + length] ||
	    !vu_fuse_name_is_good((const char *)data + head, length))
		return -EIO;
	out->kind = VU_FUSE_INVAL_ENTRY;
	out->nodeid = delete.parent;
	out->child = code == FUSE_NOTIFY_DELETE ? delete.child : 0;
	memcpy(out->name, (const char *)data + head, length);
	return 0;
}
