/*
 * Owners that the supervisor's user may not give: kept with the object in the layer, as fuse-overlayfs(1) keeps them
 * (user.fuseoverlayfs.override_stat, "uid:gid:mode"), and told by stat. What may be done with the object is still asked of
 * its real owner, who is the user of the view: an installer that gives a file to root may go on with it.
 */
#include "stack.h"

#include <stdio.h>
#include <sys/xattr.h>

static const char attribute[] = "user.fuseoverlayfs.override_stat";

bool vu_owner_read(int fd, struct stat *st)
{
	char path[32], value[64];
	unsigned uid, gid;
	ssize_t n = getxattr(vu_fd_path(fd, path), attribute, value, sizeof value - 1);
	if (n <= 0)
		return false;
	value[n] = 0;
	if (sscanf(value, "%u:%u", &uid, &gid) != 2)
		return false;
	st->st_uid = uid;
	st->st_gid = gid;
	return true;
}

int vu_owner_set(struct vu_stack *stack, int fd, uid_t uid, gid_t gid)
{
	char path[32], value[64];
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return -EPERM; /* nothing else has attributes of the user */
	vu_owner_read(fd, &st);
	int n = snprintf(value, sizeof value, "%u:%u:%o", uid == (uid_t)-1 ? st.st_uid : uid,
			 gid == (gid_t)-1 ? st.st_gid : gid, st.st_mode & 07777);
	if (setxattr(vu_fd_path(fd, path), attribute, value, (size_t)n, 0) < 0)
		return -errno;
	stack->has_owners = true;
	return 0;
}

int vu_owner_change(struct vu_call *call, struct vu_stack *stack, int fd, uid_t uid, gid_t gid)
{
	char path[32];
	struct stat st = {};
	bool kept = stack && stack->has_owners && vu_owner_read(fd, &st);
	if (!kept && !fchownat(fd, "", uid, gid, AT_EMPTY_PATH))
		return 0;
	if (!kept && (errno != EPERM || !vu_owner_may_keep(call, stack)))
		return -errno;
	/* Back to what the object really is: then there is nothing to keep. */
	struct stat real;
	if (kept && !fstat(fd, &real) && (uid == (uid_t)-1 ? st.st_uid : uid) == real.st_uid &&
	    (gid == (gid_t)-1 ? st.st_gid : gid) == real.st_gid)
		return removexattr(vu_fd_path(fd, path), attribute) < 0 ? -errno : 0;
	return vu_owner_set(stack, fd, uid, gid);
}

bool vu_owner_may_keep(const struct vu_call *call, const struct vu_stack *stack)
{
	return stack && stack->layered && stack->writable && !call->session->privileged;
}
