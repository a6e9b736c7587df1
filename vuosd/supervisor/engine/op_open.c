/* open, creat, openat, openat2: the descriptor the caller gets is a real one, of the anchor. */
#include "stack.h"
#include "wired.h"

#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "create.h"
#include "door.h"
#include "open.h"
#include "proc_files.h"
#include "remote_call.h"

/* What fs/open.c build_open_flags refuses whatever the path is. */
static int check_flags(uint64_t flags)
{
	if ((flags & O_CREAT) && (flags & O_DIRECTORY))
		return -EINVAL;
	if (!(flags & VU_TMPFILE_BIT))
		return 0;
	if ((flags & O_TMPFILE) != O_TMPFILE || (flags & O_CREAT) || (flags & O_ACCMODE) == O_RDONLY)
		return -EINVAL;
	return 0;
}

static bool writes(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

mode_t vu_create_mode(struct vu_call *call, int parent, mode_t mode)
{
	/* The umask does not count where the directory has a default ACL: acl(5). */
	char path[32];
	if (getxattr(vu_fd_path(parent, path), "system.posix_acl_default", NULL, 0) >= 0)
		return mode;
	return mode & ~vu_target_umask(call);
}

/*
 * The descriptor goes to the caller. Who writes relies on his close being the last one (ETXTBSY of what is executed next,
 * IN_CLOSE_WRITE), so ours is gone before he goes on; who only reads is spared the second round trip.
 */
static int give(struct vu_call *call, int *fd, int flags)
{
	if (*fd < 0)
		return *fd;
	if (!writes(flags))
		return vu_inject_result(call, *fd, flags & O_CLOEXEC);
	int there = vu_inject(call, *fd, flags & O_CLOEXEC);
	vu_close(fd);
	return there < 0 ? there : vu_answer(call, there);
}

/* A file of a full layer is opened to be written only if that makes room. */
static int check_room(struct vu_call *call, struct vu_place *place, int flags)
{
	struct stat st;
	struct vu_stack *stack = place->mount->stack;
	if (!(flags & O_TRUNC) || fstat(place->fd, &st) < 0 || !st.st_blocks)
		return vu_quota_check(call, stack);
	vu_quota_freed(stack);
	return 0;
}

/* The kernel's check of the mode bits comes first: what may not be written is not copied. O_TRUNC spares the copy of the data. */
static int take_to_write(struct vu_call *call, struct vu_place *place, int flags)
{
	int mode = ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) ? W_OK : 0) |
		   ((flags & O_ACCMODE) != O_WRONLY ? R_OK : 0);
	struct vu_stack *stack = place->mount->stack;
	int error = stack->minimal ? 0 : vu_rights_ask(stack, place->fd, mode);
	if (error < 0)
		return error;
	bool above = vu_stack_on_top(place);
	error = vu_stack_take(call, place, flags & O_TRUNC ? VU_TAKE_EMPTY : 0);
	return error < 0 || !above ? error : check_room(call, place, flags);
}

/* What the kernel would permit of a copy, whose owner it takes the caller for: fs/namei.c may_open. */
static int may_open(struct vu_call *call, const struct vu_place *place, int flags)
{
	const struct vu_stack *stack = place->mount->stack;
	struct stat st;
	int error = writes(flags) ? 0 : vu_rights_read(stack, place->fd);
	if (error < 0 || !(flags & O_NOATIME))
		return error;
	int kept = vu_owner_stat(stack, place->fd, &st);
	return kept > 0 && !vu_rights_own(call, &st) ? -EPERM : kept < 0 ? kept : 0;
}

/* The descriptor of a directory of a stack is that of another: see stack.h. */
static int open_given(struct vu_call *call, struct vu_place *place, int flags)
{
	struct vu_stack *stack = place->mount->stack;
	int error = flags & O_PATH ? 0 : vu_rights_ask(stack, place->fd, R_OK);
	if (!error && (flags & O_NOATIME))
		error = may_open(call, place, flags);
	if (error < 0)
		return error;
	if (place->mount->upon && !(flags & O_PATH) && place->seen.lowest == (int)stack->count - 1) {
		/* The names get their anchors now, so that the directory does not change while it is read. */
		VU_CLOSE int listed = vu_stack_open_to_list(stack, vu_stack_rest(place), &place->seen);
		if (listed < 0)
			return listed;
	}
	int given = vu_stack_open_given(call, place);
	if (given == -ENOENT)
		return 0;
	if (given < 0)
		return given;
	vu_close(&place->fd);
	place->fd = given;
	return 0;
}

/* The server opens it first; a directory then has all its names. */
static int open_wired(struct vu_call *call, struct vu_place *place, int flags, bool directory)
{
	struct vu_wire_node *held = NULL;
	int mask = ((flags & O_ACCMODE) != O_WRONLY ? R_OK : 0) | (writes(flags) ? W_OK : 0);
	int error = vu_wired_may_access(place, mask); /* before the server truncates it */
	if (error < 0)
		return error;
	error = directory ? vu_wired_prepare(call, place->mount, vu_stack_rest(place), VU_WIRE_LIST)
			  : vu_wired_open(call, place, (unsigned)flags, &held);
	if (error < 0)
		return error;
	VU_CLOSE int fd = vu_reopen(call->session, place->fd, flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW));
	vu_wired_opened(place, held);
	vu_wired_note(call, place);
	return give(call, &fd, flags);
}

/* Of a stack, for reading: its data comes from the server. */
static int open_below(struct vu_call *call, const struct vu_place *below, int flags, struct vu_wire_node **held)
{
	int error = vu_wired_may_access(below, R_OK);
	return error < 0 ? error : vu_wired_open(call, below, (unsigned)flags, held);
}

static int open_existing(struct vu_call *call, struct vu_place *place, int flags)
{
	struct stat st;
	if (fstat(place->fd, &st) < 0)
		return -errno;
	if ((flags & O_CREAT) && (flags & O_EXCL))
		return -EEXIST;
	struct vu_stack *stack = place->magic ? NULL : place->mount->stack;
	int error = 0;
	if (stack && S_ISDIR(st.st_mode) && !writes(flags) && (flags & O_PATH || !(flags & O_CREAT)) &&
	    (error = open_given(call, place, flags)) < 0)
		return error;
	if (flags & O_PATH)
		return vu_open_path_only(call, place, flags);
	if (S_ISLNK(st.st_mode))
		return -ELOOP;
	if (S_ISSOCK(st.st_mode))
		return -ENXIO;
	if (S_ISDIR(st.st_mode) && (writes(flags) || (flags & O_CREAT)))
		return -EISDIR;
	if (place->readonly && writes(flags) && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		return -EROFS;
	if (vu_is_wired(place) && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		return open_wired(call, place, flags, S_ISDIR(st.st_mode));
	if (stack && writes(flags) && S_ISREG(st.st_mode) && (error = take_to_write(call, place, flags)) < 0)
		return error;
	if (stack && stack->has_owners && S_ISREG(st.st_mode) && (error = may_open(call, place, flags)) < 0)
		return error;
	bool device = S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode);
	if (device && vu_is_wired(place) && (error = vu_wired_may_open_device(place)) < 0)
		return error;
	/* Under enforcement not with flags that lie in memory: they could become O_PATH. */
	bool fixed = !call->session->enforce || call->row->op == VU_OP_OPEN;
	/* The Landlock floor governs opens. These may wait, make a controlling terminal, or (/proc/sys/net) mean the opener. */
	if (stack && writes(flags))
		fixed &= !call->session->enforce; /* the floor lets nobody write below a stack */
	if (place->native && fixed && (device || S_ISFIFO(st.st_mode) || vu_is_procfs(place->fd, &st)))
		return VU_CONTINUE;
	if (stack && S_ISDIR(st.st_mode) && flags & O_NOFOLLOW) { /* by its name another would be found */
		VU_CLOSE int same = openat(place->fd, ".", (flags & ~O_CREAT) | O_CLOEXEC);
		if (same >= 0)
			return give(call, &same, flags);
		flags &= ~O_NOFOLLOW; /* it may be listed, but not be searched: F_GETFL tells one flag less */
	}
	if (place->listing)
		return give(call, &place->fd, flags);
	if (S_ISFIFO(st.st_mode) && !(flags & O_NONBLOCK))
		return vu_slow_open(call, place->fd, flags);
	struct vu_place below;
	struct vu_wire_node *held = NULL;
	bool wired = stack && vu_stack_below(place, &below);
	if (wired && device && (error = vu_wired_may_open_device(&below)) < 0)
		return error;
	if (wired && S_ISREG(st.st_mode) && (error = open_below(call, &below, flags, &held)) < 0)
		return error;
	VU_CLOSE int fd = flags & O_NOFOLLOW ? vu_open_by_name(call, place, flags)
					     : vu_reopen(call->session, place->fd, flags & ~(O_CREAT | O_EXCL));
	if (wired) {
		vu_wired_opened(&below, held);
		vu_wired_note(call, place);
	}
	return give(call, &fd, flags);
}

static int open_new(struct vu_call *call, struct vu_place *place, int flags, mode_t mode)
{
	if (place->trailing)
		return -EISDIR;
	if (place->hidden)
		return -EACCES;
	if (place->readonly)
		return -EROFS;
	if (vu_is_wired(place)) {
		VU_CLOSE int made = vu_wired_create(call, place, (unsigned)flags, mode);
		if (made == -EEXIST && !(flags & O_EXCL))
			return -EAGAIN;
		return give(call, &made, flags);
	}
	struct vu_room room;
	int error = vu_room_open(call, place, &room);
	if (error < 0)
		return error == -EEXIST && !(flags & O_EXCL) ? -EAGAIN : error;
	VU_CLOSE int fd = vu_result(openat(room.dir, room.name, flags | O_EXCL | O_CLOEXEC | O_NOCTTY,
					   vu_create_mode(call, place->parent, mode & 07777)));
	if ((error = vu_room_close(call, place, &room, fd)) < 0)
		return error == -EEXIST && !(flags & O_EXCL) ? -EAGAIN : error;
	int verdict = give(call, &fd, flags);
	if (verdict == -EMFILE)
		unlinkat(place->parent, place->name, 0); /* the kernel takes a number before it makes a file */
	return verdict;
}

static int open_temporary(struct vu_call *call, struct vu_place *place, int flags, mode_t mode)
{
	if (place->readonly)
		return -EROFS;
	if (vu_is_wired(place))
		return -EOPNOTSUPP; /* FUSE has it from 7.37 on, which is not offered */
	char path[32];
	int error = 0;
	if (place->mount->stack) /* else the kernel checks it, in its own order */
		error = vu_rights_ask(place->mount->stack, place->fd, W_OK | X_OK);
	if (error < 0 || (error = vu_stack_take(call, place, 0)) < 0)
		return error;
	if (place->mount->stack && vu_stack_on_top(place) && (error = vu_quota_check(call, place->mount->stack)) < 0)
		return error;
	VU_CLOSE int fd = open(vu_fd_path(place->fd, path), (flags & ~O_NOFOLLOW) | O_CLOEXEC,
			       vu_create_mode(call, place->fd, mode & 07777));
	if (fd < 0 || (error = vu_owner_inherit(place->magic ? NULL : place->mount->stack, place->fd, fd)) < 0)
		return fd < 0 ? -errno : error;
	return give(call, &fd, flags);
}

/* The device by which FUSE servers are connected: char-major-10-229, FUSE_MINOR of include/linux/miscdevice.h. */
static bool is_fuse(int fd)
{
	struct stat st;
	return fd >= 0 && !fstat(fd, &st) && S_ISCHR(st.st_mode) && st.st_rdev == makedev(10, 229);
}

/* Where the machine has no such device, its name is all there is. */
static bool names_fuse(const struct vu_call *call)
{
	return call->session->options.flags & VU_SESSION_MOUNTS && !strcmp(call->work->path[0], "/dev/fuse");
}

static int do_open(struct vu_call *call, int flags, mode_t mode, unsigned walk)
{
	bool create = (flags & O_CREAT) && !(flags & O_PATH);
	bool temporary = (flags & O_TMPFILE) == O_TMPFILE && !(flags & O_PATH);
	if (flags & O_PATH)
		flags &= VU_OPEN_PATH_FLAGS;
	int error = check_flags((unsigned)flags);
	if (error < 0)
		return error;
	if (!(flags & O_NOFOLLOW) && !(create && (flags & O_EXCL)))
		walk |= VU_FOLLOW;
	if (create && !temporary)
		walk |= VU_WANT_PARENT | VU_ABSENT_OK;
	else if (flags & O_DIRECTORY)
		walk |= VU_DIRECTORY;
	if (!create && !temporary && !writes(flags)) {
		walk |= VU_READS;
		/*
		 * What is opened with O_DIRECTORY can be opened before it is known what it is: everything else fails before its
		 * driver hears of it (ENOTDIR in do_open, fs/namei.c).
		 */
		if ((flags & (O_DIRECTORY | O_PATH)) == O_DIRECTORY)
			call->listing = ((uint64_t)flags | O_CLOEXEC | O_NOCTTY) & VU_OPEN_FLAGS;
	}
	VU_PLACE place;
	bool both = (flags & (O_ACCMODE | O_PATH)) == O_RDWR;
	error = vu_walk_argument(call, walk, &place);
	if (both && error == -ENOENT && names_fuse(call))
		return vu_ask(call, "open_fuse", (unsigned)flags);
	if (error < 0)
		return error;
	if (place.held)
		return VU_CONTINUE;
	if (both && call->session->options.flags & VU_SESSION_MOUNTS && is_fuse(place.fd))
		return vu_ask(call, "open_fuse", (unsigned)flags);
	if (!(flags & O_PATH) && vu_proc_guarded(call, place.fd, writes(flags)))
		return -EACCES;
	VU_CLOSE int listing = create || (flags & (O_ACCMODE | O_PATH)) ? -ENOSYS : vu_proc_file(call, &place);
	if (listing != -ENOSYS)
		return listing < 0 ? listing : vu_inject_result(call, listing, flags & O_CLOEXEC);
	bool missing = create && place.fd < 0 && !place.magic;
	/* O_CREAT on "", "." or ".." has no name to make: the kernel says what is wrong with it. */
	bool directory = create && (!strcmp(place.name, ".") || !strcmp(place.name, "..") || !strcmp(place.name, "/"));
	if (vu_may_continue(call, &place, writes(flags) || missing || temporary))
		return VU_CONTINUE;
	if (directory)
		return flags & O_EXCL ? -EEXIST : -EISDIR;
	if (missing)
		return open_new(call, &place, flags, mode);
	if (temporary)
		return open_temporary(call, &place, flags, mode);
	if (create && place.trailing)
		return -EISDIR;
	return open_existing(call, &place, flags);
}

int vu_op_open(struct vu_call *call)
{
	int flags = (int)vu_argument(call, call->row->flags) | (int)call->row->implied;
	if (call->nr == __NR_openat && call->args[4] == VU_DOOR && call->session->options.flags & VU_SESSION_MOUNTS &&
	    flags == (O_RDWR | O_CLOEXEC))
		return vu_ask(call, "door", 0);
	return do_open(call, flags, (mode_t)vu_argument(call, call->row->mode), 0);
}

int vu_op_openat2(struct vu_call *call)
{
	/* The checks of copy_struct_from_user and build_open_flags, fs/open.c. */
	size_t size = vu_argument(call, call->row->size);
	uint64_t address = vu_argument(call, call->row->buf);
	struct open_how how = {};
	if (size < sizeof how)
		return -EINVAL;
	if (size > 4096)
		return -E2BIG;
	int error = vu_read(call, address, call->work->data, size);
	if (error < 0)
		return error;
	memcpy(&how, call->work->data, sizeof how);
	for (size_t i = sizeof how; i < size; i++)
		if (call->work->data[i])
			return -E2BIG;
	bool creates = how.flags & (O_CREAT | VU_TMPFILE_BIT);
	if ((how.flags & ~(uint64_t)VU_OPEN_FLAGS) || (how.resolve & ~UINT64_C(0x3f)))
		return -EINVAL;
	if ((how.resolve & RESOLVE_BENEATH) && (how.resolve & RESOLVE_IN_ROOT))
		return -EINVAL;
	if (creates ? how.mode & ~UINT64_C(07777) : how.mode)
		return -EINVAL;
	if ((how.flags & O_PATH) && (how.flags & ~(uint64_t)VU_OPEN_PATH_FLAGS))
		return -EINVAL;
	if ((error = check_flags(how.flags)) < 0)
		return error;
	if ((how.resolve & RESOLVE_CACHED) && (how.flags & (O_TRUNC | O_CREAT | VU_TMPFILE_BIT)))
		return -EAGAIN;
	unsigned walk = (how.resolve & RESOLVE_NO_SYMLINKS ? VU_NO_LINKS : 0) |
			(how.resolve & RESOLVE_NO_MAGICLINKS ? VU_NO_MAGIC : 0) |
			(how.resolve & RESOLVE_NO_XDEV ? VU_NO_MOUNTS : 0) |
			(how.resolve & RESOLVE_BENEATH ? VU_BENEATH : 0) |
			(how.resolve & RESOLVE_IN_ROOT ? VU_IN_ROOT : 0);
	return do_open(call, (int)how.flags, (mode_t)how.mode, walk);
}
