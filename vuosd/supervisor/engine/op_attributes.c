/* What is known of an object, and changed of it, without opening it: stat, access, chmod, chown, times, size, xattrs. */
#include "again.h"

#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <utime.h>

static unsigned at_flags(const struct vu_call *call)
{
	return (unsigned)vu_argument(call, call->row->flags) | call->row->implied;
}

static unsigned walk_flags(unsigned at)
{
	return (at & AT_SYMLINK_NOFOLLOW ? 0 : VU_FOLLOW) | (at & AT_EMPTY_PATH ? VU_EMPTY_OK : 0);
}

/*
 * The place of the call's path argument, for a call that changes nothing (`changes` false) or something.
 * FOUND: go on with place->fd; else what the operation returns. What the kernel checks before it looks at the path is
 * checked here only when the kernel is not asked itself: see first().
 */
enum { FOUND = 3 };

static int find(struct vu_call *call, unsigned at, unsigned allowed, bool changes, struct vu_place *place)
{
	int error = vu_walk_argument(call, walk_flags(at) | (changes || call->row->op == VU_OP_ACCESS ? 0 : VU_READS),
				     place);
	if (error < 0)
		return at & ~allowed ? -EINVAL : error;
	if (vu_may_continue(call, place, changes))
		return VU_CONTINUE;
	if (at & ~allowed)
		return -EINVAL;
	if (place->held && call->row->op >= VU_OP_GETXATTRAT && call->row->op <= VU_OP_REMOVEXATTRAT &&
	    (int)vu_argument(call, call->row->dirfd) == AT_FDCWD)
		return -EBADF; /* these want a descriptor: fs/xattr.c path_getxattrat */
	if (changes && place->covered)
		return -EPERM; /* handed in from outside of an enforcing view, which does not show it */
	return changes && place->readonly ? -EROFS : FOUND;
}

/* `verdict` of find(), unless the answer is ours and another check comes before it. */
static int first(const struct vu_call *call, int verdict, int check)
{
	return vu_ours(call, verdict) && check < 0 ? check : verdict;
}

/* The same for a descriptor that is given instead of a path, to change its object. */
static int held(struct vu_call *call, struct vu_place *place)
{
	int error = vu_walk_descriptor(call, 0, (int)vu_argument(call, call->row->dirfd), place);
	if (error < 0)
		return error;
	if (vu_may_continue(call, place, true))
		return VU_CONTINUE;
	return place->covered ? -EPERM : place->readonly ? -EROFS : FOUND;
}

#define AT_STATX_SYNC (AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC)

int vu_op_stat(struct vu_call *call)
{
	VU_PLACE place;
	struct stat st;
	int verdict = find(call, at_flags(call), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC,
			   false, &place);
	if (verdict != FOUND)
		return verdict;
	if (fstat(place.fd, &st) < 0)
		return -errno;
	verdict = vu_write(call, vu_argument(call, call->row->buf), &st, sizeof st);
	return verdict < 0 ? verdict : vu_answer(call, 0);
}

int vu_op_statx(struct vu_call *call)
{
	VU_PLACE place;
	struct statx st;
	unsigned at = at_flags(call), mask = (unsigned)vu_argument(call, call->row->extra);
	int verdict =
		find(call, at, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC, false, &place);
	bool bad = (at & AT_STATX_SYNC) == AT_STATX_SYNC || (mask & STATX__RESERVED);
	verdict = first(call, verdict, bad ? -EINVAL : 0);
	if (verdict != FOUND)
		return verdict;
	if (syscall(SYS_statx, place.fd, "", AT_EMPTY_PATH | (at & AT_STATX_SYNC), mask, &st) < 0)
		return -errno;
	verdict = vu_write(call, vu_argument(call, call->row->buf), &st, sizeof st);
	return verdict < 0 ? verdict : vu_answer(call, 0);
}

int vu_op_access(struct vu_call *call)
{
	VU_PLACE place;
	unsigned at = at_flags(call);
	int mode = (int)vu_argument(call, call->row->mode);
	int verdict = find(call, at, AT_SYMLINK_NOFOLLOW | AT_EACCESS | AT_EMPTY_PATH, false, &place);
	verdict = first(call, verdict, mode & ~(R_OK | W_OK | X_OK) ? -EINVAL : 0);
	if (verdict != FOUND && !((mode & W_OK) && place.readonly && verdict == VU_CONTINUE))
		return verdict;
	if (!(at & AT_EACCESS) && (verdict = vu_assume_real(call)) < 0)
		return verdict;
	if (place.fd < 0) {
		char name[24];
		place.fd = vu_target_open(call, vu_descriptor_name((int)vu_argument(call, call->row->dirfd), name));
		if (place.fd < 0)
			return place.fd;
	}
	int fd = place.fd;
	/* The ids to judge by are the thread's own by now, so the effective ones are asked. */
	if (syscall(SYS_faccessat2, fd, "", mode, AT_EMPTY_PATH | AT_EACCESS) < 0)
		return -errno;
	struct stat st;
	if ((mode & W_OK) && place.readonly && !fstat(fd, &st) && !S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode) &&
	    !S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode))
		return -EROFS; /* only after the mode bits have allowed it: fs/open.c do_faccessat */
	return vu_answer(call, 0);
}

int vu_op_statfs(struct vu_call *call)
{
	VU_PLACE place;
	struct statfs fs;
	int verdict = find(call, 0, 0, false, &place);
	if (verdict != FOUND)
		return verdict;
	if (fstatfs(place.fd, &fs) < 0)
		return -errno;
	if (place.readonly)
		fs.f_flags |= 1 /* ST_RDONLY */;
	verdict = vu_write(call, vu_argument(call, call->row->buf), &fs, sizeof fs);
	return verdict < 0 ? verdict : vu_answer(call, 0);
}

int vu_op_chmod(struct vu_call *call)
{
	VU_PLACE place;
	mode_t mode = (mode_t)vu_argument(call, call->row->mode) & 07777;
	char path[32];
	int verdict = find(call, at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, true, &place);
	if (verdict != FOUND)
		return verdict;
	struct stat st;
	if (fstat(place.fd, &st) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return -EOPNOTSUPP;
	return chmod(vu_fd_path(place.fd, path), mode) < 0 ? -errno : vu_answer(call, 0);
}

int vu_op_chown(struct vu_call *call)
{
	VU_PLACE place;
	uid_t uid = (uid_t)vu_argument(call, call->row->mode);
	gid_t gid = (gid_t)vu_argument(call, call->row->extra);
	int verdict = find(call, at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, true, &place);
	if (verdict != FOUND)
		return verdict;
	return fchownat(place.fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : vu_answer(call, 0);
}

static int set_times(struct vu_call *call, const struct vu_place *place, const struct timespec *times)
{
	return syscall(SYS_utimensat, place->fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : vu_answer(call, 0);
}

int vu_op_utime(struct vu_call *call)
{
	VU_PLACE place;
	struct utimbuf buffer;
	struct timespec times[2] = {};
	uint64_t address = vu_argument(call, call->row->buf);
	int verdict = find(call, 0, 0, true, &place), error;
	if (vu_ours(call, verdict) && address && (error = vu_read(call, address, &buffer, sizeof buffer)) < 0)
		return error;
	if (verdict != FOUND)
		return verdict;
	if (address) {
		times[0].tv_sec = buffer.actime;
		times[1].tv_sec = buffer.modtime;
	}
	return set_times(call, &place, address ? times : NULL);
}

int vu_op_utimes(struct vu_call *call)
{
	VU_PLACE place;
	struct timeval given[2];
	struct timespec times[2];
	uint64_t address = vu_argument(call, call->row->buf);
	int verdict;
	if (call->row->dirfd >= 0 && !vu_argument(call, call->row->path) &&
	    (int)vu_argument(call, call->row->dirfd) != AT_FDCWD)
		verdict = held(call, &place); /* futimesat(fd, NULL, …) */
	else
		verdict = find(call, 0, 0, true, &place);
	if (!vu_ours(call, verdict))
		return verdict;
	int error = address ? vu_read(call, address, given, sizeof given) : 0;
	if (error < 0)
		return error;
	for (int i = 0; address && i < 2; i++) {
		if (given[i].tv_usec < 0 || given[i].tv_usec >= 1000000)
			return -EINVAL;
		times[i] = (struct timespec){ given[i].tv_sec, given[i].tv_usec * 1000 };
	}
	if (verdict != FOUND)
		return verdict;
	return set_times(call, &place, address ? times : NULL);
}

int vu_op_utimensat(struct vu_call *call)
{
	VU_PLACE place = { .parent = -1, .fd = -1 };
	struct timespec times[2];
	uint64_t address = vu_argument(call, call->row->buf);
	int verdict;
	if (address && !vu_read(call, address, times, sizeof times) && times[0].tv_nsec == UTIME_OMIT &&
	    times[1].tv_nsec == UTIME_OMIT) /* says 0 without a look at the path: fs/utimes.c */
		return call->session->enforce ? vu_answer(call, 0) : VU_CONTINUE;
	if (!vu_argument(call, call->row->path) && (int)vu_argument(call, call->row->dirfd) != AT_FDCWD)
		verdict = at_flags(call) ? -EINVAL : held(call, &place); /* futimens(3) */
	else
		verdict = find(call, at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, true, &place);
	int error = vu_ours(call, verdict) && address ? vu_read(call, address, times, sizeof times) : 0;
	if (error < 0 || verdict != FOUND)
		return error < 0 ? error : verdict;
	return set_times(call, &place, address ? times : NULL);
}

/* RLIMIT_FSIZE is the caller's, and so is the signal: inode_newsize_ok, fs/attr.c. */
static int within_limit(struct vu_call *call, int fd, off_t length)
{
	struct stat st;
	struct rlimit limit;
	if (vu_target_limit(call, RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
	    (rlim_t)length <= limit.rlim_cur || fstat(fd, &st) < 0 || length <= st.st_size)
		return 0;
	if (faccessat(fd, "", W_OK, AT_EMPTY_PATH | AT_EACCESS) < 0)
		return -errno;
	vu_inspect(call, true);
	syscall(SYS_tgkill, vu_tgid(call), call->tid, SIGXFSZ);
	vu_inspect(call, false);
	return -EFBIG;
}

int vu_op_truncate(struct vu_call *call)
{
	VU_PLACE place;
	char path[32];
	off_t length = (off_t)vu_argument(call, call->row->extra);
	int verdict = first(call, find(call, 0, 0, true, &place), length < 0 ? -EINVAL : 0);
	if (verdict != FOUND)
		return verdict;
	if ((verdict = within_limit(call, place.fd, length)) < 0)
		return verdict;
	return truncate(vu_fd_path(place.fd, path), length) < 0 ? -errno : vu_answer(call, 0);
}

/* Extended attributes: by the magic link of our own descriptor, which leads to the object itself, also to a link. */

static int read_name(struct vu_call *call, char name[256])
{
	int length = vu_read_string(call, vu_argument(call, call->row->extra), name, 256);
	return length == -ENAMETOOLONG || length == 0 ? -ERANGE : length;
}

static int get_value(struct vu_call *call, struct vu_place *place, const char *name, uint64_t buffer, size_t size)
{
	char path[32];
	if (size > XATTR_SIZE_MAX)
		size = XATTR_SIZE_MAX;
	ssize_t n = getxattr(vu_fd_path(place->fd, path), name, size ? call->work->data : NULL, size);
	if (n < 0)
		return -errno;
	int error = size ? vu_write(call, buffer, call->work->data, (size_t)n) : 0;
	return error < 0 ? error : vu_answer(call, n);
}

static int set_value(struct vu_call *call, struct vu_place *place, const char *name, size_t size, int flags)
{
	char path[32];
	return setxattr(vu_fd_path(place->fd, path), name, call->work->data, size, flags) < 0 ? -errno
											      : vu_answer(call, 0);
}

static int list_names(struct vu_call *call, struct vu_place *place, uint64_t buffer, size_t size)
{
	char path[32];
	if (size > XATTR_LIST_MAX)
		size = XATTR_LIST_MAX;
	ssize_t n = listxattr(vu_fd_path(place->fd, path), size ? call->work->data : NULL, size);
	if (n < 0)
		return -errno;
	int error = size ? vu_write(call, buffer, call->work->data, (size_t)n) : 0;
	return error < 0 ? error : vu_answer(call, n);
}

static int remove_name(struct vu_call *call, struct vu_place *place, const char *name)
{
	char path[32];
	return removexattr(vu_fd_path(place->fd, path), name) < 0 ? -errno : vu_answer(call, 0);
}

/* The arguments that setxattr checks before it looks at the path: fs/xattr.c setxattr_copy. */
static int read_value(struct vu_call *call, char name[256], uint64_t address, size_t size, int flags)
{
	if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	int error = read_name(call, name);
	if (error < 0)
		return error;
	if (size > XATTR_SIZE_MAX)
		return -E2BIG;
	return vu_read(call, address, call->work->data, size);
}

int vu_op_getxattr(struct vu_call *call)
{
	VU_PLACE place;
	char name[256];
	int verdict = find(call, at_flags(call), AT_SYMLINK_NOFOLLOW, false, &place);
	int error = vu_ours(call, verdict) ? read_name(call, name) : 0;
	if (error < 0 || verdict != FOUND)
		return error < 0 ? error : verdict;
	return get_value(call, &place, name, vu_argument(call, call->row->buf), vu_argument(call, call->row->size));
}

int vu_op_setxattr(struct vu_call *call)
{
	VU_PLACE place;
	char name[256];
	int flags = (int)vu_argument(call, call->row->mode);
	size_t size = vu_argument(call, call->row->size);
	int verdict = find(call, at_flags(call), AT_SYMLINK_NOFOLLOW, true, &place);
	if (!vu_ours(call, verdict))
		return verdict;
	int error = read_value(call, name, vu_argument(call, call->row->buf), size, flags);
	if (error < 0 || verdict != FOUND)
		return error < 0 ? error : verdict;
	return set_value(call, &place, name, size, flags);
}

int vu_op_listxattr(struct vu_call *call)
{
	VU_PLACE place;
	int verdict = find(call, at_flags(call), AT_SYMLINK_NOFOLLOW, false, &place);
	if (verdict != FOUND)
		return verdict;
	return list_names(call, &place, vu_argument(call, call->row->buf), vu_argument(call, call->row->size));
}

int vu_op_removexattr(struct vu_call *call)
{
	VU_PLACE place;
	char name[256];
	int verdict = find(call, at_flags(call), AT_SYMLINK_NOFOLLOW, true, &place);
	int error = vu_ours(call, verdict) ? read_name(call, name) : 0;
	if (error < 0 || verdict != FOUND)
		return error < 0 ? error : verdict;
	return remove_name(call, &place, name);
}

/* struct xattr_args of setxattrat and getxattrat, include/uapi/linux/xattr.h (Linux 6.13). */
struct xattr_arguments {
	uint64_t value;
	uint32_t size, flags;
};

static int read_arguments(struct vu_call *call, struct xattr_arguments *out)
{
	size_t size = vu_argument(call, call->row->size);
	if (size < sizeof *out)
		return -EINVAL;
	if (size > 4096)
		return -E2BIG;
	int error = vu_read(call, vu_argument(call, call->row->buf), call->work->data, size);
	if (error < 0)
		return error;
	memcpy(out, call->work->data, sizeof *out);
	for (size_t i = sizeof *out; i < size; i++)
		if (call->work->data[i])
			return -E2BIG;
	return 0;
}

int vu_op_getxattrat(struct vu_call *call)
{
	VU_PLACE place;
	struct xattr_arguments given;
	char name[256];
	int verdict = find(call, at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, false, &place), error;
	if (!vu_ours(call, verdict))
		return verdict;
	if ((error = read_arguments(call, &given)) < 0)
		return error;
	if (given.flags)
		return -EINVAL;
	if ((error = read_name(call, name)) < 0 || verdict != FOUND)
		return error < 0 ? error : verdict;
	return get_value(call, &place, name, given.value, given.size);
}

int vu_op_setxattrat(struct vu_call *call)
{
	VU_PLACE place;
	struct xattr_arguments given;
	char name[256];
	int verdict = find(call, at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, true, &place), error;
	if (!vu_ours(call, verdict))
		return verdict;
	if ((error = read_arguments(call, &given)) < 0 ||
	    (error = read_value(call, name, given.value, given.size, (int)given.flags)) < 0)
		return error;
	if (verdict != FOUND)
		return verdict;
	return set_value(call, &place, name, given.size, (int)given.flags);
}

int vu_op_listxattrat(struct vu_call *call)
{
	VU_PLACE place;
	int verdict = find(call, at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, false, &place);
	if (verdict != FOUND)
		return verdict;
	return list_names(call, &place, vu_argument(call, call->row->buf), vu_argument(call, call->row->size));
}

int vu_op_removexattrat(struct vu_call *call)
{
	VU_PLACE place;
	char name[256];
	int verdict = find(call, at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, true, &place);
	int error = vu_ours(call, verdict) ? read_name(call, name) : 0;
	if (error < 0 || verdict != FOUND)
		return error < 0 ? error : verdict;
	return remove_name(call, &place, name);
}

/* file_getattr(2) and file_setattr(2), Linux 6.17: fixed-size structs that we need not understand. */
static int file_attributes(struct vu_call *call, bool set)
{
	VU_PLACE place;
	size_t size = vu_argument(call, call->row->size);
	uint64_t address = vu_argument(call, call->row->buf);
	char path[32];
	int verdict = find(call, at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, set, &place);
	if (verdict != FOUND)
		return verdict;
	if (size > 4096)
		return -E2BIG;
	if (set && (verdict = vu_read(call, address, call->work->data, size)) < 0)
		return verdict;
	if (syscall(set ? SYS_file_setattr : SYS_file_getattr, AT_FDCWD, vu_fd_path(place.fd, path), call->work->data,
		    size, 0) < 0)
		return -errno;
	if (!set && (verdict = vu_write(call, address, call->work->data, size)) < 0)
		return verdict;
	return vu_answer(call, 0);
}

int vu_op_file_getattr(struct vu_call *call)
{
	return file_attributes(call, false);
}

int vu_op_file_setattr(struct vu_call *call)
{
	return file_attributes(call, true);
}

/*
 * ioctls that change an inode without a descriptor that writes: on our duplicate, where that is simple. The others
 * (encryption, verity, the subvolumes of btrfs) have arguments with paths, keys or pointers: not under enforcement.
 */
static int set_by_ioctl(struct vu_call *call, int fd)
{
	unsigned code = (unsigned)call->args[1];
	size_t size = code == FS_IOC_FSSETXATTR                              ? sizeof(struct fsxattr)
		      : code == FS_IOC_SETFLAGS || code == FS_IOC_SETVERSION ? sizeof(long)
									     : 0;
	if (!size)
		return -EPERM;
	/* The kernel reads an int for what is declared long. */
	int error = vu_read(call, call->args[2], call->work->data, size == sizeof(long) ? sizeof(int) : size);
	if (error < 0)
		return error;
	return ioctl(fd, code, call->work->data) < 0 ? -errno : vu_answer(call, 0);
}

/* As the kernel would, on a duplicate of the caller's descriptor. */
static int change(struct vu_call *call, int fd)
{
	char name[256];
	const uint64_t *args = call->args;
	int error;
	switch (call->row->op) {
	case VU_OP_FCHMOD: return fchmod(fd, (mode_t)args[1] & 07777) < 0 ? -errno : vu_answer(call, 0);
	case VU_OP_FCHOWN: return fchown(fd, (uid_t)args[1], (gid_t)args[2]) < 0 ? -errno : vu_answer(call, 0);
	case VU_OP_IOCTL_SETFLAGS: return set_by_ioctl(call, fd);
	default: break;
	}
	int length = vu_read_string(call, args[1], name, sizeof name);
	if (length <= 0)
		return length == -EFAULT ? length : -ERANGE;
	if (call->row->op == VU_OP_FREMOVEXATTR)
		return fremovexattr(fd, name) < 0 ? -errno : vu_answer(call, 0);
	if ((int)args[4] & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	if (args[3] > XATTR_SIZE_MAX)
		return -E2BIG;
	if ((error = vu_read(call, args[2], call->work->data, args[3])) < 0)
		return error;
	return fsetxattr(fd, name, call->work->data, args[3], (int)args[4]) < 0 ? -errno : vu_answer(call, 0);
}

/* The place of one of our own descriptors, which came from the caller. */
static int judge_change(struct vu_call *call, int fd)
{
	char number[16];
	const struct vu_mount *mount;
	snprintf(number, sizeof number, "%d", fd);
	ssize_t n = readlinkat(call->session->self_fd, number, call->work->host, sizeof call->work->host - 1);
	if (n < 0)
		return -errno;
	call->work->host[n] = 0;
	if (*call->work->host != '/')
		return 0;
	struct stat st;
	if (vu_table_reverse(&call->session->table, call->work->host, NULL, call->work->scratch, &mount) < 0)
		return !fstat(fd, &st) && !st.st_nlink ? 0 : -EPERM;
	return mount->readonly ? -EROFS : 0;
}

/*
 * fchmod, fchown, f*xattr, FS_IOC_SETFLAGS: a descriptor opened for reading by a read-only entry changes nothing. Landlock
 * does not govern these, so under enforcement they are made on a duplicate: the number may mean another file by now.
 */
int vu_op_descriptor_write(struct vu_call *call)
{
	int number = (int)vu_argument(call, call->row->fd), verdict = -1;
	if (call->session->enforce) {
		VU_CLOSE int fd = vu_again_descriptor(call, number, &verdict);
		if (fd < 0)
			return verdict >= 0 ? verdict : fd;
		int error = judge_change(call, fd);
		return error < 0 ? error : change(call, fd);
	}
	VU_PLACE place;
	int error = vu_walk_descriptor(call, 0, number, &place);
	if (error == -ENOENT)
		return VU_CONTINUE; /* an object outside the view, which the caller was given */
	return error < 0 ? error : place.readonly ? -EROFS : VU_CONTINUE;
}
