/* What a copy of a file consists of. */
#include "stack.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

static int copy_by_hand(struct vu_work *work, int from, int to, off_t at, off_t end)
{
	while (at < end) {
		size_t room = sizeof work->data;
		ssize_t n = pread(from, work->data, (off_t)room < end - at ? room : (size_t)(end - at), at);
		if (n <= 0)
			return n < 0 ? -errno : 0;
		for (ssize_t done = 0, m; done < n; done += m)
			if ((m = pwrite(to, work->data + done, (size_t)(n - done), at + done)) < 0)
				return -errno;
		at += n;
	}
	return 0;
}

static int copy_range(struct vu_work *work, int from, int to, off_t at, off_t end)
{
	while (at < end) {
		off_t in = at, out = at;
		ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - at), 0);
		if (n < 0 && (errno == ENOSPC || errno == EIO || errno == EDQUOT || errno == EFBIG))
			return -errno;
		if (n <= 0) /* not between these file systems, or not of such a file */
			return copy_by_hand(work, from, to, at, end);
		at += n;
	}
	return 0;
}

int vu_copy_data(struct vu_work *work, int from, int to, off_t size)
{
	off_t at = 0, hole;
	int error = 0;
	if (!size || !ioctl(to, FICLONE, from))
		return 0;
	while (!error && at < size) {
		off_t data = lseek(from, at, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			break; /* nothing but a hole from here on */
		if (data < 0 || (hole = lseek(from, data, SEEK_HOLE)) < 0) {
			data = at;
			hole = size;
		}
		error = copy_range(work, from, to, data, hole);
		at = hole;
	}
	return error < 0 ? error : vu_result(ftruncate(to, size));
}

bool vu_is_private_attribute(const char *name)
{
	return !strncmp(name, "user.overlay.", 13) || !strncmp(name, "trusted.overlay.", 16) ||
	       !strncmp(name, "user.fuseoverlayfs.", 19);
}

static int copy_xattrs(struct vu_work *work, const char *from, const char *to)
{
	char *names = work->scratch;
	ssize_t length = listxattr(from, names, sizeof work->scratch);
	if (length < 0)
		return errno == EOPNOTSUPP || errno == ENOSYS || errno == EPERM ? 0 : -errno;
	for (const char *name = names; name < names + length; name += strlen(name) + 1) {
		if (vu_is_private_attribute(name) || !strcmp(name, "security.selinux"))
			continue;
		ssize_t n = getxattr(from, name, work->data, XATTR_SIZE_MAX);
		if (n < 0)
			continue; /* gone, or not ours to read */
		if (setxattr(to, name, work->data, (size_t)n, 0) < 0 && errno != EPERM && errno != EOPNOTSUPP &&
		    errno != EACCES)
			return -errno;
	}
	return 0;
}

int vu_copy_attributes(struct vu_work *work, int from, const struct stat *st, int to,
		       const struct vu_attributes *attributes)
{
	struct timespec times[2] = { st->st_atim, st->st_mtim };
	char source[32], target[32];
	struct stat now;
	mode_t mode = st->st_mode & 07777;
	bool lost = false;
	vu_fd_path(from, source);
	vu_fd_path(to, target);
	if (fstat(to, &now) < 0)
		return -errno;
	if (now.st_gid != st->st_gid && fchownat(to, "", (uid_t)-1, st->st_gid, AT_EMPTY_PATH) < 0)
		lost = true;
	if (now.st_uid != st->st_uid && fchownat(to, "", st->st_uid, (gid_t)-1, AT_EMPTY_PATH) < 0)
		lost = true;
	if (lost && !S_ISDIR(st->st_mode))
		mode &= ~(mode_t)(S_ISUID | S_ISGID);
	int error = S_ISLNK(st->st_mode) ? 0
		    : attributes         ? vu_attributes_set(attributes, target)
					 : copy_xattrs(work, source, target);
	if (error < 0)
		return error;
	if (!S_ISLNK(st->st_mode) && chmod(target, mode) < 0)
		return -errno;
	return syscall(SYS_utimensat, to, "", times, AT_EMPTY_PATH) < 0 ? -errno : lost;
}
