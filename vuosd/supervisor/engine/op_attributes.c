/*
 * What is known of an object, and changed of it, without opening it: stat, access, chmod, chown, times, size, attributes.
 */
#include "attributes.h"
#include "stack.h"
#include "wired.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <utime.h>

unsigned vu_at_flags(const struct vu_call *call)
{
	return (unsigned)vu_argument(call, call->row->flags) | call->row->implied;
}

static unsigned walk_flags(unsigned at)
{
	return (at & AT_SYMLINK_NOFOLLOW ? 0 : VU_FOLLOW) | (at & AT_EMPTY_PATH ? VU_EMPTY_OK : 0);
}

/* The object of a place in a stack: that of a descriptor too; what is changed lies in the topmost tree then. */
static int find_in_stack(struct vu_call *call, struct vu_place *place, bool changes)
{
	struct vu_stack *stack = place->mount->stack;
	if (vu_is_wired(place) && place->held && place->fd < 0) {
		char name[24];
		place->fd = vu_target_open(call, vu_descriptor_name((int)vu_argument(call, call->row->dirfd), name));
		return place->fd < 0 ? place->fd : 0;
	}
	if (!stack || place->magic)
		return 0;
	if (place->held && place->merged) /* the caller's own is that of a tree below, or a handle */
		vu_close(&place->fd);
	if (place->fd < 0 && (place->fd = vu_stack_object_of(call, place)) < 0)
		return place->fd;
	if (!changes || (vu_stack_on_top(place) && !stack->has_owners))
		return 0;
	int error = vu_rights_change(call, stack, place->fd, vu_stack_on_top(place));
	return error < 0 || vu_stack_on_top(place) ? error : vu_stack_take(call, place, 0);
}

/* The place's stack, if the kernel may count other names of its files than it shows. */
static struct vu_stack *stack_with_lost_names(const struct vu_place *place)
{
	struct vu_stack *stack = place->magic ? NULL : place->mount->stack;
	return stack && atomic_load_explicit(&stack->has_lost, memory_order_relaxed) ? stack : NULL;
}

/*
 * The caller's own descriptor, which the kernel is to be asked about: may be of a file that goes by the numbers of another,
 * or whose names are not those that the kernel counts. Then place->fd is that file.
 */
static bool held_differs(struct vu_call *call, struct vu_place *place, int fd)
{
	struct stat st;
	char name[24];
	bool twins = atomic_load_explicit(&call->session->has_twins, memory_order_relaxed);
	struct vu_stack *stack = stack_with_lost_names(place);
	if (!twins && !stack)
		return false;
	if (place->fd < 0)
		place->fd = vu_target_open(call, vu_descriptor_name(fd, name));
	if (place->fd < 0 || fstat(place->fd, &st) < 0)
		return false;
	return (stack && vu_links_lost(stack, &st)) || (twins && vu_twins_identify(call->session, place->fd, &st));
}

/* The same for what is found by a path. */
static bool found_differs(struct vu_call *call, struct vu_place *place)
{
	struct stat st;
	struct vu_stack *stack = stack_with_lost_names(place);
	if (!stack || !place->seen.tree || find_in_stack(call, place, false) < 0 || fstat(place->fd, &st) < 0)
		return false;
	return vu_links_lost(stack, &st);
}

int vu_find(struct vu_call *call, unsigned at, unsigned allowed, bool changes, struct vu_place *place)
{
	/* A read-only entry denies W_OK as it denies changes. */
	bool denies = call->row->op == VU_OP_ACCESS && (vu_argument(call, call->row->mode) & W_OK);
	int error = vu_walk_argument(call, walk_flags(at) | (changes || denies ? 0 : VU_READS), place);
	if (error < 0)
		return at & ~allowed ? -EINVAL : error;
	bool identified = call->row->op == VU_OP_STAT || call->row->op == VU_OP_STATX;
	if (vu_may_continue(call, place, changes) && !place->merged &&
	    !(identified && (place->held ? held_differs(call, place, (int)vu_argument(call, call->row->dirfd))
					 : found_differs(call, place))))
		return VU_CONTINUE;
	if (at & ~allowed)
		return -EINVAL;
	if (place->held && call->row->op >= VU_OP_GETXATTRAT && call->row->op <= VU_OP_REMOVEXATTRAT &&
	    (int)vu_argument(call, call->row->dirfd) == AT_FDCWD)
		return -EBADF; /* these want a descriptor: fs/xattr.c path_getxattrat */
	if (changes && place->covered)
		return -EPERM; /* handed in from outside of an enforcing view, which does not show it */
	if (changes && place->readonly)
		return -EROFS;
	error = find_in_stack(call, place, changes);
	return error < 0 ? error : VU_FOUND;
}

int vu_first(const struct vu_call *call, int verdict, int check)
{
	return vu_ours(call, verdict) && check < 0 ? check : verdict;
}

/* The same for a descriptor that is given instead of a path, to change its object. */
static int find_held(struct vu_call *call, struct vu_place *place)
{
	int error = vu_walk_descriptor(call, 0, (int)vu_argument(call, call->row->dirfd), place);
	if (error < 0)
		return error;
	if (vu_may_continue(call, place, true))
		return VU_CONTINUE;
	if (place->covered || place->readonly)
		return place->covered ? -EPERM : -EROFS;
	error = find_in_stack(call, place, true);
	return error < 0 ? error : VU_FOUND;
}

#define AT_STATX_SYNC (AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC)

static bool stands_for_device(const struct vu_place *place, mode_t mode, dev_t rdev)
{
	return (S_ISCHR(mode) || S_ISBLK(mode)) && !rdev && vu_is_wired(place);
}

/*
 * What a stack tells of an object, beside what its topmost tree does: the owner that is kept for it; that a file which link(2)
 * copied up is the one below; how many names it shows of a file; and a directory that several trees show is the same one whichever has its attributes: the lowest.
 */
static int identify(struct vu_call *call, const struct vu_place *place, struct stat *st)
{
	struct stat lowest;
	if (stands_for_device(place, st->st_mode, st->st_rdev))
		vu_wired_device(place, st);
	if (place->merged && place->mount->stack->has_owners)
		vu_owner_read(place->fd, st);
	struct vu_stack *stack = stack_with_lost_names(place);
	if (stack)
		st->st_nlink -= vu_links_lost(stack, st);
	if (vu_twins_identify(call->session, place->fd, st) || !place->merged || !vu_seen_merged(&place->seen))
		return 0;
	VU_CLOSE int fd = vu_stack_lowest_of(call, place);
	if (fd < 0 || fstat(fd, &lowest) < 0)
		return -1;
	st->st_dev = lowest.st_dev;
	st->st_ino = lowest.st_ino;
	st->st_nlink = 1; /* how many directories it has is not counted: as overlayfs, and what find(1) understands */
	return 0;
}

int vu_op_stat(struct vu_call *call)
{
	VU_PLACE place;
	struct stat st;
	int verdict = vu_find(call, vu_at_flags(call),
			      AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC, false, &place);
	if (verdict != VU_FOUND)
		return verdict;
	if (fstat(place.fd, &st) < 0 || identify(call, &place, &st) < 0)
		return -errno;
	verdict = vu_write(call, vu_argument(call, call->row->buf), &st, sizeof st);
	return verdict < 0 ? verdict : vu_answer(call, 0);
}

/* Only a directory that several trees show, and a file of which held_differs() knows, is other than the caller's descriptor. */
int vu_op_fstat(struct vu_call *call)
{
	VU_PLACE place = { .parent = -1, .fd = -1 };
	struct stat st;
	int fd = (int)vu_argument(call, call->row->fd);
	if (fd < 0)
		return VU_CONTINUE; /* EBADF: AT_FDCWD is none here */
	int error = vu_walk_descriptor(call, 0, fd, &place);
	if (error < 0 || (!place.merged && !held_differs(call, &place, fd)))
		return VU_CONTINUE;
	if (place.merged && (error = find_in_stack(call, &place, false)) < 0)
		return VU_CONTINUE; /* it has gone: what the caller holds is all there is */
	if (fstat(place.fd, &st) < 0 || identify(call, &place, &st) < 0)
		return -errno;
	error = vu_write(call, vu_argument(call, call->row->buf), &st, sizeof st);
	return error < 0 ? error : vu_answer(call, 0);
}

int vu_op_statx(struct vu_call *call)
{
	VU_PLACE place;
	struct statx st;
	unsigned at = vu_at_flags(call), mask = (unsigned)vu_argument(call, call->row->extra);
	int verdict =
		vu_find(call, at, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC, false, &place);
	bool bad = (at & AT_STATX_SYNC) == AT_STATX_SYNC || (mask & STATX__RESERVED);
	verdict = vu_first(call, verdict, bad ? -EINVAL : 0);
	if (verdict != VU_FOUND)
		return verdict;
	if (syscall(SYS_statx, place.fd, "", AT_EMPTY_PATH | (at & AT_STATX_SYNC), mask, &st) < 0)
		return -errno;
	struct stat plain;
	if (place.merged || stack_with_lost_names(&place) ||
	    stands_for_device(&place, st.stx_mode, st.stx_rdev_major | st.stx_rdev_minor) ||
	    atomic_load_explicit(&call->session->has_twins, memory_order_relaxed)) {
		if (fstat(place.fd, &plain) < 0 || identify(call, &place, &plain) < 0)
			return -errno;
		st.stx_dev_major = major(plain.st_dev);
		st.stx_dev_minor = minor(plain.st_dev);
		st.stx_ino = plain.st_ino;
		st.stx_nlink = (uint32_t)plain.st_nlink;
		st.stx_mode = (uint16_t)plain.st_mode;
		st.stx_rdev_major = major(plain.st_rdev);
		st.stx_rdev_minor = minor(plain.st_rdev);
		st.stx_uid = plain.st_uid;
		st.stx_gid = plain.st_gid;
	}
	verdict = vu_write(call, vu_argument(call, call->row->buf), &st, sizeof st);
	return verdict < 0 ? verdict : vu_answer(call, 0);
}

int vu_op_access(struct vu_call *call)
{
	VU_PLACE place;
	unsigned at = vu_at_flags(call);
	int mode = (int)vu_argument(call, call->row->mode);
	int verdict = vu_find(call, at, AT_SYMLINK_NOFOLLOW | AT_EACCESS | AT_EMPTY_PATH, false, &place);
	verdict = vu_first(call, verdict, mode & ~(R_OK | W_OK | X_OK) ? -EINVAL : 0);
	if (verdict != VU_FOUND && !((mode & W_OK) && place.readonly && verdict == VU_CONTINUE))
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
	if ((verdict = vu_rights_ask(place.magic ? NULL : place.mount->stack, fd, mode)) < 0)
		return verdict;
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
	int verdict = vu_find(call, 0, 0, false, &place);
	if (verdict != VU_FOUND)
		return verdict;
	struct vu_place below;
	if (vu_is_wired(&place))
		verdict = vu_wired_statfs(call, &place, &fs);
	else if (vu_stack_below(&place, &below))
		verdict = vu_wired_statfs(call, &below, &fs);
	else
		verdict = vu_result(fstatfs(place.fd, &fs));
	if (verdict < 0)
		return verdict;
	if (place.readonly)
		fs.f_flags |= 1 /* ST_RDONLY */;
	verdict = vu_write(call, vu_argument(call, call->row->buf), &fs, sizeof fs);
	return verdict < 0 ? verdict : vu_answer(call, 0);
}

int vu_op_chmod(struct vu_call *call)
{
	VU_PLACE place;
	mode_t mode = (mode_t)vu_argument(call, call->row->mode) & 07777;
	int verdict = vu_find(call, vu_at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, true, &place);
	if (verdict != VU_FOUND)
		return verdict;
	struct stat st;
	if (fstat(place.fd, &st) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return -EOPNOTSUPP;
	if (vu_is_wired(&place))
		return vu_wired_chmod(call, &place, mode);
	struct vu_stack *stack = place.magic ? NULL : place.mount->stack;
	verdict = vu_owner_mode(stack, place.fd, mode);
	return verdict < 0 ? verdict : vu_answer(call, 0);
}

int vu_op_chown(struct vu_call *call)
{
	VU_PLACE place;
	uid_t uid = (uid_t)vu_argument(call, call->row->mode);
	gid_t gid = (gid_t)vu_argument(call, call->row->extra);
	int verdict = vu_find(call, vu_at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, true, &place);
	if (verdict != VU_FOUND)
		return verdict;
	if (vu_is_wired(&place))
		return vu_wired_chown(call, &place, uid, gid);
	int error = vu_owner_change(call, place.magic ? NULL : place.mount->stack, place.fd, uid, gid);
	return error < 0 ? error : vu_answer(call, 0);
}

static int set_times(struct vu_call *call, const struct vu_place *place, const struct timespec *times)
{
	if (vu_is_wired(place))
		return vu_wired_times(call, place, times);
	return syscall(SYS_utimensat, place->fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : vu_answer(call, 0);
}

int vu_op_utime(struct vu_call *call)
{
	VU_PLACE place;
	struct utimbuf buffer;
	struct timespec times[2] = {};
	uint64_t address = vu_argument(call, call->row->buf);
	int verdict = vu_find(call, 0, 0, true, &place), error;
	if (vu_ours(call, verdict) && address && (error = vu_read(call, address, &buffer, sizeof buffer)) < 0)
		return error;
	if (verdict != VU_FOUND)
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
		verdict = find_held(call, &place); /* futimesat(fd, NULL, …) */
	else
		verdict = vu_find(call, 0, 0, true, &place);
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
	if (verdict != VU_FOUND)
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
		verdict = vu_at_flags(call) ? -EINVAL : find_held(call, &place); /* futimens(3) */
	else
		verdict = vu_find(call, vu_at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, true, &place);
	int error = vu_ours(call, verdict) && address ? vu_read(call, address, times, sizeof times) : 0;
	if (error < 0 || verdict != VU_FOUND)
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
	vu_own_rights(call, true);
	syscall(SYS_tgkill, vu_tgid(call), call->tid, SIGXFSZ);
	vu_own_rights(call, false);
	return -EFBIG;
}

int vu_op_truncate(struct vu_call *call)
{
	VU_PLACE place;
	char path[32];
	off_t length = (off_t)vu_argument(call, call->row->extra);
	int verdict = vu_first(call, vu_find(call, 0, 0, true, &place), length < 0 ? -EINVAL : 0);
	if (verdict != VU_FOUND)
		return verdict;
	if ((verdict = within_limit(call, place.fd, length)) < 0)
		return verdict;
	if (vu_is_wired(&place))
		return vu_wired_truncate(call, &place, length);
	if (truncate(vu_fd_path(place.fd, path), length) < 0)
		return -errno;
	if (place.mount->stack)
		vu_quota_freed(place.mount->stack);
	return vu_answer(call, 0);
}

/* file_getattr(2) and file_setattr(2), Linux 6.17: fixed-size structs that we need not understand. */
static int file_attributes(struct vu_call *call, bool set)
{
	VU_PLACE place;
	size_t size = vu_argument(call, call->row->size);
	uint64_t address = vu_argument(call, call->row->buf);
	char path[32];
	int verdict = vu_find(call, vu_at_flags(call), AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, set, &place);
	if (verdict != VU_FOUND)
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
