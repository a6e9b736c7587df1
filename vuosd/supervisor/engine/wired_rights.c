/*
 * What a caller may do in a wire mount, as of one by the kernel with default_permissions (fs/namei.c, fs/attr.c, fs/xattr.c). The
 * anchors have the server's owners and modes, so the kernel is asked of them, as the caller; the server is asked as root may
 * ask it, and need not look.
 */
#include "wired.h"

#include <linux/capability.h>
#include <sys/syscall.h>

#include "stack.h"

int vu_wired_may_access(const struct vu_place *place, int mask)
{
	return vu_rights_ask(NULL, place->fd, mask);
}

int vu_wired_may_add(const struct vu_place *place)
{
	struct stat st;
	if (!fstatat(place->parent, place->name, &st, AT_SYMLINK_NOFOLLOW))
		return 0; /* -EEXIST, which is told first */
	if (errno != ENOENT)
		return -errno;
	return vu_rights_ask(NULL, place->parent, W_OK | X_OK);
}

int vu_wired_may_delete(struct vu_call *call, const struct vu_place *place)
{
	struct stat above, st;
	if (fstatat(place->parent, place->name, &st, AT_SYMLINK_NOFOLLOW) < 0 || fstat(place->parent, &above) < 0)
		return errno == ENOENT ? 0 : -errno; /* that there is none the server says */
	int error = vu_rights_ask(NULL, place->parent, W_OK | X_OK);
	if (error < 0)
		return error;
	return !(above.st_mode & S_ISVTX) || vu_rights_own(call, &above) || vu_rights_own(call, &st) ? 0 : -EPERM;
}

/* fs/namei.c may_linkat */
int vu_wired_may_link(struct vu_call *call, const struct vu_place *place)
{
	struct stat st;
	if (!(call->session->options.flags & VU_SESSION_PROTECTED_HARDLINKS))
		return 0;
	if (fstat(place->fd, &st) < 0)
		return -errno;
	if (vu_rights_own(call, &st))
		return 0;
	bool runs_as_group = (st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
	if (!S_ISREG(st.st_mode) || (st.st_mode & S_ISUID) || runs_as_group)
		return -EPERM;
	return vu_rights_ask(NULL, place->fd, R_OK | W_OK) < 0 ? -EPERM : 0;
}

static int may_write_to(const struct vu_place *place)
{
	return vu_result(syscall(SYS_faccessat2, place->parent, place->name, W_OK, AT_SYMLINK_NOFOLLOW | AT_EACCESS));
}

int vu_wired_may_rename(struct vu_call *call, const struct vu_place *old, const struct vu_place *new, bool exchange)
{
	struct stat st, from, to;
	int error = vu_wired_may_delete(call, old);
	if (error < 0 || fstatat(old->parent, old->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error;
	bool replaces = !fstatat(new->parent, new->name, &to, AT_SYMLINK_NOFOLLOW);
	error = replaces ? vu_wired_may_delete(call, new) : vu_rights_ask(NULL, new->parent, W_OK | X_OK);
	if (error < 0 || fstat(old->parent, &from) < 0)
		return error;
	struct stat above;
	if (fstat(new->parent, &above) < 0 || (above.st_dev == from.st_dev && above.st_ino == from.st_ino))
		return 0;
	/* A directory that moves is written to: its "..". */
	if (S_ISDIR(st.st_mode) && (error = may_write_to(old)) < 0)
		return error;
	return exchange && replaces && S_ISDIR(to.st_mode) ? may_write_to(new) : 0;
}

int vu_wired_may_time(struct vu_call *call, const struct vu_place *place, bool now)
{
	struct stat st;
	if (fstat(place->fd, &st) < 0)
		return -errno;
	if (vu_rights_own(call, &st))
		return 0;
	return now ? vu_rights_ask(NULL, place->fd, W_OK) : -EPERM;
}

/* fs/xattr.c xattr_permission */
int vu_wired_may_xattr(struct vu_call *call, const struct vu_place *place, const char *name, int mask)
{
	struct stat st;
	if (fstat(place->fd, &st) < 0)
		return -errno;
	bool own = vu_rights_own(call, &st);
	if (!strncmp(name, "trusted.", 8)) {
		bool may =
			!call->session->privileged || (!vu_target_credentials(call) &&
						       (call->credentials.effective & (UINT64_C(1) << CAP_SYS_ADMIN)));
		return may ? 0 : mask == W_OK ? -EPERM : -ENODATA;
	}
	if (strncmp(name, "user.", 5))
		return mask != W_OK || own ? 0 : -EPERM;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return mask == W_OK ? -EPERM : -ENODATA;
	if (S_ISDIR(st.st_mode) && (st.st_mode & S_ISVTX) && mask == W_OK && !own)
		return -EPERM;
	return vu_rights_ask(NULL, place->fd, mask);
}
