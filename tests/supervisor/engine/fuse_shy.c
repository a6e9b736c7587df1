/*
 * A libfuse 3 server of one file, "f", whose LOOKUP and listing tell its type and nothing else, valid for no time, as libfuse's memfs_ll
 * does: the attributes are GETATTR's. Who knows it still has it when it has been removed. fuse_shy [SOURCE] MOUNTPOINT [OPTION…]
 */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_NODE = 2, ROOM = 1 << 20 };

static char data[ROOM];
static size_t size;
static time_t changed = 1000000000;
static bool removed;

static struct stat told(fuse_ino_t node)
{
	if (node == FUSE_ROOT_ID)
		return (struct stat){ .st_ino = node, .st_mode = S_IFDIR | 0755, .st_nlink = 2 };
	return (struct stat){ .st_ino = node,
			      .st_mode = S_IFREG | 0640,
			      .st_nlink = !removed,
			      .st_size = (off_t)size,
			      .st_mtime = changed };
}

static void s_getattr(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *file)
{
	(void)file;
	struct stat st = told(node);
	fuse_reply_attr(request, &st, 0);
}

static struct fuse_entry_param entry(void)
{
	return (struct fuse_entry_param){ .ino = FILE_NODE, .attr.st_mode = S_IFREG, .attr.st_ino = FILE_NODE };
}

static void s_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param found = entry();
	if (parent != FUSE_ROOT_ID || removed || strcmp(name, "f"))
		fuse_reply_err(request, ENOENT);
	else
		fuse_reply_entry(request, &found);
}

static void s_setattr(fuse_req_t request, fuse_ino_t node, struct stat *st, int valid, struct fuse_file_info *file)
{
	(void)file;
	if (valid & FUSE_SET_ATTR_SIZE)
		size = (size_t)st->st_size;
	if (valid & FUSE_SET_ATTR_MTIME)
		changed = st->st_mtime;
	struct stat now = told(node);
	fuse_reply_attr(request, &now, 0);
}

static void s_read(fuse_req_t request, fuse_ino_t node, size_t want, off_t offset, struct fuse_file_info *file)
{
	(void)node, (void)file;
	size_t at = (size_t)offset < size ? (size_t)offset : size;
	fuse_reply_buf(request, data + at, size - at < want ? size - at : want);
}

static void s_write(fuse_req_t request, fuse_ino_t node, const char *from, size_t count, off_t offset,
		    struct fuse_file_info *file)
{
	(void)node, (void)file;
	if ((size_t)offset + count > ROOM) {
		fuse_reply_err(request, ENOSPC);
		return;
	}
	memcpy(data + offset, from, count);
	if ((size_t)offset + count > size)
		size = (size_t)offset + count;
	fuse_reply_write(request, count);
}

static void s_readdirplus(fuse_req_t request, fuse_ino_t node, size_t room, off_t offset, struct fuse_file_info *file)
{
	(void)node, (void)file;
	char names[1024];
	struct fuse_entry_param found = entry();
	size_t used = offset || removed ? 0 : fuse_add_direntry_plus(request, names, sizeof names, "f", &found, 1);
	fuse_reply_buf(request, names, used < room ? used : 0);
}

static void s_unlink(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	(void)parent, (void)name;
	removed = true;
	fuse_reply_err(request, 0);
}

static const struct fuse_lowlevel_ops calls = {
	.unlink = s_unlink,
	.lookup = s_lookup,
	.getattr = s_getattr,
	.setattr = s_setattr,
	.read = s_read,
	.write = s_write,
	.readdirplus = s_readdirplus,
};

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_session *session = argc > 1 ? fuse_session_new(&args, &calls, sizeof calls, NULL) : NULL;
	if (!session || fuse_session_mount(session, argv[argc > 2 && *argv[2] != '-' ? 2 : 1]))
		return 1;
	int status = fuse_session_loop(session);
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	return !!status;
}
