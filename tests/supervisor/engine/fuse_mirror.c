/*
 * A libfuse 3 server that shows a directory: fuse_mirror DIRECTORY MOUNTPOINT [-o …]. As plain as they come, and with
 * every operation that the client can ask for. SIGUSR1 makes the next request hang.
 */
#define FUSE_USE_VERSION 31
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

static char root[PATH_MAX];
static volatile sig_atomic_t hang;

struct where {
	char path[PATH_MAX * 2];
};

static struct where at(const char *path)
{
	struct where where;
	while (hang)
		pause();
	snprintf(where.path, sizeof where.path, "%s%s", root, path);
	return where;
}
#define AT(of) at(of).path
#define RESULT(call) ((call) < 0 ? -errno : 0)

static int m_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	return RESULT(fi ? fstat((int)fi->fh, st) : lstat(AT(path), st));
}
static int m_readlink(const char *path, char *text, size_t room)
{
	ssize_t n = readlink(AT(path), text, room - 1);
	if (n >= 0)
		text[n] = 0;
	return RESULT(n);
}
static int m_mknod(const char *path, mode_t mode, dev_t device)
{
	return mode & S_IFMT ? RESULT(mknod(AT(path), mode, device)) : -EINVAL; /* the kernel names the type always */
}
static int m_mkdir(const char *path, mode_t mode)
{
	return RESULT(mkdir(AT(path), mode));
}
static int m_unlink(const char *path)
{
	return RESULT(unlink(AT(path)));
}
static int m_rmdir(const char *path)
{
	return RESULT(rmdir(AT(path)));
}
static int m_symlink(const char *text, const char *path)
{
	return RESULT(symlink(text, AT(path)));
}
static int m_rename(const char *from, const char *to, unsigned flags)
{
	return RESULT(syscall(SYS_renameat2, AT_FDCWD, AT(from), AT_FDCWD, AT(to), flags));
}
static int m_link(const char *from, const char *to)
{
	return RESULT(linkat(AT_FDCWD, AT(from), AT_FDCWD, AT(to), 0));
}
static int m_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	(void)fi;
	return RESULT(chmod(AT(path), mode));
}
static int m_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
	(void)fi;
	return RESULT(lchown(AT(path), uid, gid));
}
static int m_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	return RESULT(fi ? ftruncate((int)fi->fh, size) : truncate(AT(path), size));
}
static int m_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *fi)
{
	(void)fi;
	return RESULT(utimensat(AT_FDCWD, AT(path), times, AT_SYMLINK_NOFOLLOW));
}
static int m_open(const char *path, struct fuse_file_info *fi)
{
	int fd = open(AT(path), fi->flags & ~O_APPEND);
	fi->fh = (uint64_t)fd;
	return RESULT(fd);
}
static int m_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	int fd = open(AT(path), (fi->flags & ~O_APPEND) | O_CREAT, mode);
	fi->fh = (uint64_t)fd;
	return RESULT(fd);
}
static int m_read(const char *path, char *data, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)path;
	while (hang)
		pause();
	ssize_t n = pread((int)fi->fh, data, size, offset);
	return n < 0 ? -errno : (int)n;
}
static int m_write(const char *path, const char *data, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)path;
	while (hang)
		pause();
	ssize_t n = pwrite((int)fi->fh, data, size, offset);
	return n < 0 ? -errno : (int)n;
}
static int m_statfs(const char *path, struct statvfs *out)
{
	return RESULT(statvfs(AT(path), out));
}
static int m_release(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	return RESULT(close((int)fi->fh));
}
static int m_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
	(void)path;
	return RESULT(data_only ? fdatasync((int)fi->fh) : fsync((int)fi->fh));
}
static int m_setxattr(const char *path, const char *name, const char *value, size_t size, int flags)
{
	return RESULT(lsetxattr(AT(path), name, value, size, flags));
}
static int m_getxattr(const char *path, const char *name, char *value, size_t room)
{
	ssize_t n = lgetxattr(AT(path), name, value, room);
	return n < 0 ? -errno : (int)n;
}
static int m_listxattr(const char *path, char *names, size_t room)
{
	ssize_t n = llistxattr(AT(path), names, room);
	return n < 0 ? -errno : (int)n;
}
static int m_removexattr(const char *path, const char *name)
{
	return RESULT(lremovexattr(AT(path), name));
}
static int m_readdir(const char *path, void *room, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *fi,
		     enum fuse_readdir_flags flags)
{
	(void)fi;
	DIR *directory = opendir(AT(path));
	if (!directory)
		return -errno;
	if (offset)
		seekdir(directory, offset);
	for (struct dirent *entry; (entry = readdir(directory));) {
		struct stat st = { .st_ino = entry->d_ino, .st_mode = DTTOIF(entry->d_type) };
		bool full = (flags & FUSE_READDIR_PLUS) &&
			    !fstatat(dirfd(directory), entry->d_name, &st, AT_SYMLINK_NOFOLLOW);
		if (fill(room, entry->d_name, &st, telldir(directory), full ? FUSE_FILL_DIR_PLUS : 0))
			break;
	}
	closedir(directory);
	return 0;
}
static int m_fallocate(const char *path, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
	(void)path;
	return RESULT(fallocate((int)fi->fh, mode, offset, length));
}
static off_t m_lseek(const char *path, off_t offset, int whence, struct fuse_file_info *fi)
{
	(void)path;
	off_t result = lseek((int)fi->fh, offset, whence);
	return result < 0 ? -errno : result;
}

static void *m_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
	(void)connection;
	config->use_ino = 1;
	return NULL;
}

static const struct fuse_operations operations = {
	.init = m_init,
	.getattr = m_getattr,
	.readlink = m_readlink,
	.mknod = m_mknod,
	.mkdir = m_mkdir,
	.unlink = m_unlink,
	.rmdir = m_rmdir,
	.symlink = m_symlink,
	.rename = m_rename,
	.link = m_link,
	.chmod = m_chmod,
	.chown = m_chown,
	.truncate = m_truncate,
	.utimens = m_utimens,
	.open = m_open,
	.create = m_create,
	.read = m_read,
	.write = m_write,
	.statfs = m_statfs,
	.release = m_release,
	.fsync = m_fsync,
	.setxattr = m_setxattr,
	.getxattr = m_getxattr,
	.listxattr = m_listxattr,
	.removexattr = m_removexattr,
	.readdir = m_readdir,
	.fallocate = m_fallocate,
	.lseek = m_lseek,
};

static void start_to_hang(int signal)
{
	(void)signal;
	hang = 1;
}

int main(int argc, char **argv)
{
	if (argc < 3 || !realpath(argv[1], root))
		return 2;
	signal(SIGUSR1, start_to_hang);
	umask(0);
	argv[1] = argv[0];
	return fuse_main(argc - 1, argv + 1, &operations, NULL);
}
