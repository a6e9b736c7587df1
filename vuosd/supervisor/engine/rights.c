/*
 * What a caller may do with an object of a stack, as fs/namei.c, fs/attr.c and fs/xattr.c say. The kernel is asked where it judges
 * by the same owner; not of a copy whose true owner is kept (owners.c), nor before something is copied up, by when it belongs to
 * another.
 */
#include "stack.h"

#include <linux/capability.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

bool vu_rights_member(gid_t gid)
{
	gid_t few[256], *groups = few;
	bool member = gid == getegid();
	int count = getgroups(256, groups), room = getgroups(0, NULL);
	if (count < 0 && room > 0 && (groups = malloc((size_t)room * sizeof *groups)))
		count = getgroups(room, groups);
	for (int i = 0; i < count && !member; i++)
		member = groups[i] == gid;
	if (groups != few)
		free(groups);
	return member;
}

/* As fs/posix_acl.c posix_acl_permission, for who is not the owner. -1: there is no list. */
static int ask_list(int fd, const struct stat *st, unsigned wanted)
{
	char path[32];
	struct {
		struct posix_acl_xattr_header header;
		struct posix_acl_xattr_entry entries[512];
	} list;
	ssize_t n = getxattr(vu_fd_path(fd, path), "system.posix_acl_access", &list, sizeof list);
	if (n < 0 && errno == ERANGE)
		return 0; /* longer than a file system keeps in a block: what it permits is not known */
	if (n < (ssize_t)sizeof list.header)
		return -1;
	size_t count = ((size_t)n - sizeof list.header) / sizeof *list.entries;
	unsigned mask = 7;
	bool member = false, permitted = false;
	for (size_t i = 0; i < count; i++)
		if (le16toh(list.entries[i].e_tag) == ACL_MASK)
			mask = le16toh(list.entries[i].e_perm);
	for (size_t i = 0; i < count; i++) {
		unsigned tag = le16toh(list.entries[i].e_tag), bits = le16toh(list.entries[i].e_perm);
		uint32_t id = le32toh(list.entries[i].e_id);
		bool enough = (bits & wanted) == wanted;
		if (tag == ACL_USER && id == geteuid())
			return (bits & mask & wanted) == wanted;
		if ((tag == ACL_GROUP_OBJ && vu_rights_member(st->st_gid)) ||
		    (tag == ACL_GROUP && vu_rights_member(id))) {
			member = true;
			permitted |= enough;
		}
		if (tag == ACL_OTHER)
			return member ? permitted && (mask & wanted) == wanted : enough;
	}
	return -1;
}

/* As fs/namei.c acl_permission_check, of a process without capabilities. */
bool vu_rights_permit(int fd, const struct stat *st, unsigned wanted)
{
	if (st->st_uid == geteuid())
		return (st->st_mode >> 6 & wanted) == wanted;
	int said = st->st_mode & S_IRWXG ? ask_list(fd, st, wanted) : -1;
	if (said >= 0)
		return said;
	return ((vu_rights_member(st->st_gid) ? st->st_mode >> 3 : st->st_mode) & wanted) == wanted;
}

static bool overrides(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {};
	return !syscall(SYS_capget, &header, data) && data[0].effective >> CAP_DAC_OVERRIDE & 1;
}

/* What lies on a file system that is read-only may be copied, and the copy written: fs/overlayfs/inode.c ovl_permission. */
static int ask_to_copy(int fd, int mask)
{
	struct stat st;
	int error = vu_result(syscall(SYS_faccessat2, fd, "", mask & ~W_OK, AT_EMPTY_PATH | AT_EACCESS));
	if (error < 0 || fstat(fd, &st) < 0)
		return error < 0 ? error : -errno;
	return overrides() || vu_rights_permit(fd, &st, W_OK) ? 0 : -EACCES;
}

int vu_rights_ask(const struct vu_stack *stack, int fd, int mask)
{
	struct stat st;
	int kept = stack && stack->has_owners ? vu_owner_stat(stack, fd, &st) : 0;
	if (kept < 0)
		return kept;
	if (kept)
		return vu_rights_permit(fd, &st, (unsigned)mask) ? 0 : -EACCES;
	int error = vu_result(syscall(SYS_faccessat2, fd, "", mask, AT_EMPTY_PATH | AT_EACCESS));
	return error == -EROFS && stack && stack->layered ? ask_to_copy(fd, mask) : error;
}

int vu_rights_search(struct vu_stack *stack, const char *path)
{
	bool closed = false;
	if (!stack->has_owners || stack->minimal)
		return 0;
	pthread_mutex_lock(&stack->lock);
	for (unsigned i = 0; i < stack->count && stack->trees[i].dirs; i++) {
		struct vu_way way;
		vu_dirs_find(stack->trees[i].dirs, path, &way);
		closed |= way.closed;
	}
	pthread_mutex_unlock(&stack->lock);
	return closed ? -EACCES : 0;
}

int vu_rights_read(const struct vu_stack *stack, int fd)
{
	struct stat st;
	int kept = vu_owner_stat(stack, fd, &st);
	return kept > 0 ? vu_rights_ask(stack, fd, R_OK) : kept;
}

bool vu_rights_own(struct vu_call *call, const struct stat *st)
{
	if (!call->session->privileged)
		return st->st_uid == geteuid();
	if (vu_target_credentials(call) < 0)
		return false;
	return st->st_uid == call->credentials.fsuid || (call->credentials.effective & (UINT64_C(1) << CAP_FOWNER));
}

int vu_rights_delete(struct vu_call *call, const struct vu_stack *stack, int parent, int fd)
{
	struct stat above, st;
	int error = vu_rights_ask(stack, parent, W_OK | X_OK);
	if (error < 0 || (error = vu_owner_stat(stack, parent, &above)) < 0 ||
	    (error = vu_owner_stat(stack, fd, &st)) < 0)
		return error;
	return !(above.st_mode & S_ISVTX) || vu_rights_own(call, &above) || vu_rights_own(call, &st) ? 0 : -EPERM;
}

int vu_rights_link(struct vu_call *call, const struct vu_stack *stack, int fd)
{
	struct stat st;
	if (!(call->session->options.flags & VU_SESSION_PROTECTED_HARDLINKS) || !stack || stack->minimal)
		return 0;
	int kept = vu_owner_stat(stack, fd, &st);
	if (kept < 0 || vu_rights_own(call, &st))
		return kept < 0 ? kept : 0;
	bool runs_as_group = (st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
	if (!S_ISREG(st.st_mode) || (st.st_mode & S_ISUID) || runs_as_group)
		return -EPERM;
	return vu_rights_ask(stack, fd, R_OK | W_OK) < 0 ? -EPERM : 0;
}

/* fs/xattr.c xattr_permission, of the attribute whose name is at `address`. */
static int set_attribute(struct vu_call *call, const struct vu_stack *stack, int fd, const struct stat *st,
			 uint64_t address)
{
	char name[256];
	bool own = vu_rights_own(call, st);
	if (vu_read_string(call, address, name, sizeof name) <= 0 || strncmp(name, "user.", 5))
		return own ? 0 : -EPERM;
	if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
		return -EPERM;
	if (S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX) && !own)
		return -EPERM;
	return vu_rights_ask(stack, fd, W_OK);
}

int vu_rights_change(struct vu_call *call, const struct vu_stack *stack, int fd, bool above)
{
	const struct vu_row *row = call->row;
	const uint64_t *args = call->args;
	struct stat st;
	bool now, owner = true;
	int kept = stack->minimal ? 0 : vu_owner_stat(stack, fd, &st);
	if (kept < 0 || stack->minimal || (above && !kept))
		return kept; /* what lies in the topmost tree, the kernel judges when it is changed */
	switch (row->op) {
	case VU_OP_TRUNCATE: /* fs/open.c vfs_truncate */
		if (!S_ISREG(st.st_mode))
			return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
		return vu_rights_ask(stack, fd, W_OK);
	case VU_OP_UTIME:
	case VU_OP_UTIMES:
	case VU_OP_UTIMENSAT: /* now: whoever may write */
		now = !vu_argument(call, row->buf);
		if (now && !vu_rights_ask(stack, fd, W_OK))
			return 0;
		return vu_rights_own(call, &st) ? 0 : now ? -EACCES : -EPERM;
	case VU_OP_SETXATTR:
	case VU_OP_SETXATTRAT:
	case VU_OP_REMOVEXATTR:
	case VU_OP_REMOVEXATTRAT: return set_attribute(call, stack, fd, &st, vu_argument(call, row->extra));
	case VU_OP_FSETXATTR:
	case VU_OP_FREMOVEXATTR: return set_attribute(call, stack, fd, &st, args[1]);
	case VU_OP_CHOWN: /* fs/attr.c chown_ok, chgrp_ok; to whom does not matter: owners.c */
		owner = (uid_t)vu_argument(call, row->mode) != (uid_t)-1 ||
			(gid_t)vu_argument(call, row->extra) != (gid_t)-1;
		break;
	case VU_OP_FCHOWN: owner = (uid_t)args[1] != (uid_t)-1 || (gid_t)args[2] != (gid_t)-1; break;
	default: break;
	}
	return !owner || vu_rights_own(call, &st) ? 0 : -EPERM;
}
