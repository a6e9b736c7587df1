/*
 * Owners that the supervisor's user may not give: kept with the object in the layer, as fuse-overlayfs(1) keeps them
 * (user.fuseoverlayfs.override_stat, "uid:gid:mode"), and told by stat. There are two kinds.
 *
 * What chown(2) gave away in the view ("0:0:644") is still its real owner's, who is the user of the view, when it is asked what
 * may be done with it: an installer that gives a file to root may go on with it.
 *
 * A copy of what belongs to somebody else ("0:0:0644", with a zero before the mode) is that owner's in all respects. The kernel
 * takes the user for the owner and would permit more, or less, than it does of the original. So rights are judged by what
 * is kept (rights.c); and of the real mode's bits for the owner those are set that anybody has (lend()), so that what was judged can be
 * done. They are not told: the mode that is kept says which of them are meant.
 */
#include "stack.h"

#include <stdio.h>
#include <sys/xattr.h>

static const char attribute[] = "user.fuseoverlayfs.override_stat";

struct kept {
	uid_t uid;
	gid_t gid;
	mode_t mode;
	bool given; /* by chown(2) in the view */
};

static bool read_kept(int fd, struct kept *kept)
{
	char path[32], value[64];
	unsigned mode = 07777;
	int at = 0;
	ssize_t n = getxattr(vu_fd_path(fd, path), attribute, value, sizeof value - 1);
	if (n <= 0)
		return false;
	value[n] = 0;
	if (sscanf(value, "%u:%u:%n%o", &kept->uid, &kept->gid, &at, &mode) < 2)
		return false;
	kept->mode = mode & 07777;
	kept->given = !at || value[at] != '0' || !value[at + 1];
	return true;
}

static void tell(const struct kept *kept, struct stat *st)
{
	st->st_uid = kept->uid;
	st->st_gid = kept->gid;
	st->st_mode &= ~(mode_t)S_IRWXU | kept->mode;
}

bool vu_owner_read(int fd, struct stat *st)
{
	struct kept kept;
	if (!read_kept(fd, &kept))
		return false;
	tell(&kept, st);
	return true;
}

/* Those bits for the owner that somebody else has, and the one that it takes to read the attribute. */
static mode_t lend(const struct kept *kept)
{
	mode_t others = (kept->mode >> 3 | kept->mode) & 7;
	return S_IRUSR | (kept->given || kept->uid == geteuid() ? 0 : others << 6);
}

/* Extended attributes of the user take a mode by which he may write. */
static int set_attribute(int fd, mode_t mode, const char *value)
{
	char path[32];
	vu_fd_path(fd, path);
	if (!(mode & S_IWUSR) && chmod(path, mode | S_IWUSR) < 0)
		return -errno;
	int error =
		vu_result(value ? setxattr(path, attribute, value, strlen(value), 0) : removexattr(path, attribute));
	if (!(mode & S_IWUSR) && chmod(path, mode) < 0 && !error)
		error = -errno;
	return error;
}

static int keep(struct vu_stack *stack, int fd, const struct kept *kept)
{
	char path[32], value[64];
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return -EPERM; /* nothing else has attributes of the user */
	mode_t mode = st.st_mode & 07777, wanted = (mode & ~(mode_t)S_IRWXU) | (kept->mode & S_IRWXU) | lend(kept);
	snprintf(value, sizeof value, "%u:%u:%s%o", kept->uid, kept->gid, kept->given ? "" : "0", kept->mode);
	int error = set_attribute(fd, mode, value);
	if (!error && mode != wanted)
		error = vu_result(chmod(vu_fd_path(fd, path), wanted));
	if (!error)
		stack->has_owners = true;
	return error;
}

static int forget(int fd, const struct kept *kept)
{
	char path[32];
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	int error = set_attribute(fd, st.st_mode & 07777, NULL);
	tell(kept, &st);
	return !error && chmod(vu_fd_path(fd, path), st.st_mode & 07777) < 0 ? -errno : error;
}

int vu_owner_keep(struct vu_stack *stack, int from, const struct stat *told, int fd)
{
	struct kept kept = { told->st_uid, told->st_gid, told->st_mode & 07777, false };
	if (stack->has_owners)
		read_kept(from, &kept); /* by a layer below: it stays as it is */
	return keep(stack, fd, &kept);
}

int vu_owner_inherit(struct vu_stack *stack, int parent, int fd)
{
	struct kept above;
	struct stat st;
	if (!stack || !stack->has_owners || stack->minimal || fstat(parent, &st) < 0 || !(st.st_mode & S_ISGID) ||
	    !read_kept(parent, &above) || above.given || fstat(fd, &st) < 0 || st.st_gid == above.gid)
		return 0;
	struct kept kept = { st.st_uid, above.gid, st.st_mode & 07777, false };
	int error = keep(stack, fd, &kept);
	return error == -EPERM ? 0 : error; /* of a link, pipe or socket it cannot be kept */
}

int vu_owner_stat(const struct vu_stack *stack, int fd, struct stat *st)
{
	struct kept kept;
	if (fstat(fd, st) < 0)
		return -errno;
	if (!stack || !stack->has_owners || stack->minimal || !read_kept(fd, &kept) || kept.given)
		return 0;
	tell(&kept, st);
	return 1;
}

bool vu_owner_closes(int fd)
{
	struct kept kept;
	struct stat st;
	if (!read_kept(fd, &kept) || kept.given || fstat(fd, &st) < 0)
		return false;
	tell(&kept, &st);
	return !vu_rights_permit(fd, &st, X_OK);
}

int vu_owner_mode(struct vu_stack *stack, int fd, mode_t mode)
{
	char path[32];
	struct kept kept;
	bool is_kept = stack && stack->has_owners && read_kept(fd, &kept);
	if (is_kept && !kept.given && !stack->minimal) { /* fs/attr.c setattr_prepare */
		if (kept.uid != geteuid())
			return -EPERM;
		if (!vu_rights_member(kept.gid))
			mode &= ~(mode_t)S_ISGID;
	}
	if (chmod(vu_fd_path(fd, path), mode) < 0)
		return -errno;
	if (!is_kept)
		return 0;
	kept.mode = mode;
	return keep(stack, fd, &kept);
}

/* An access list says what the mode is: fs/posix_acl.c. */
int vu_owner_mode_changed(struct vu_stack *stack, int fd)
{
	struct kept kept;
	struct stat st;
	if (!stack || !stack->has_owners || !read_kept(fd, &kept) || fstat(fd, &st) < 0)
		return 0;
	kept.mode = st.st_mode & 07777;
	return keep(stack, fd, &kept);
}

int vu_owner_change(struct vu_call *call, struct vu_stack *stack, int fd, uid_t uid, gid_t gid)
{
	struct kept kept;
	struct stat st;
	bool is_kept = stack && stack->has_owners && read_kept(fd, &kept);
	if (is_kept && !kept.given && !stack->minimal && kept.uid != geteuid()) /* fs/attr.c chown_ok, chgrp_ok */
		return uid == (uid_t)-1 && gid == (gid_t)-1 ? 0 : -EPERM;
	if (!is_kept && !fchownat(fd, "", uid, gid, AT_EMPTY_PATH))
		return 0;
	if (!is_kept && (errno != EPERM || !vu_owner_may_keep(call, stack)))
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!is_kept)
		kept = (struct kept){ .uid = st.st_uid, .gid = st.st_gid, .mode = st.st_mode & 07777, .given = true };
	kept.uid = uid == (uid_t)-1 ? kept.uid : uid;
	kept.gid = gid == (gid_t)-1 ? kept.gid : gid;
	if (is_kept && kept.uid == st.st_uid && kept.gid != st.st_gid &&
	    !fchownat(fd, "", (uid_t)-1, kept.gid, AT_EMPTY_PATH))
		st.st_gid = kept.gid;
	/* Back to what the object really is: then there is nothing to keep. */
	if (is_kept && kept.uid == st.st_uid && kept.gid == st.st_gid)
		return forget(fd, &kept);
	kept.given |= uid != (uid_t)-1 || gid != (gid_t)-1;
	return keep(stack, fd, &kept);
}

bool vu_owner_may_keep(const struct vu_call *call, const struct vu_stack *stack)
{
	return stack && stack->layered && stack->writable && !call->session->privileged;
}
