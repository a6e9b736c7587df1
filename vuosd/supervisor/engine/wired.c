/* What operations do in a wire mount: the server first, with the caller's ids, then the anchor, with our own rights. */
#include "wired.h"

#include <stdio.h>
#include <sys/statfs.h>

#include "create.h"

enum { RETRIES = 16 }; /* where the root of a mount is renamed meanwhile */

static bool has_gone(void *call)
{
	return vu_notify_alive(call) < 0;
}

/* On whose behalf the server is asked. */
static struct vu_fuse_caller caller_of(struct vu_call *call)
{
	struct vu_fuse_caller caller = {
		.uid = geteuid(), .gid = getegid(), .pid = vu_tgid(call), .gone = has_gone, .data = call
	};
	if (call->session->privileged && !vu_target_credentials(call)) {
		caller.uid = call->credentials.fsuid;
		caller.gid = call->credentials.fsgid;
	}
	return caller;
}

static int later(struct vu_call *call, struct vu_wired *wired)
{
	call->waits = wired;
	return -VU_LATER;
}

/* Ask the server, which takes a thread that may wait, and rights over the cache that the caller has not. */
#define ASK_OF(call, shown, request)                                                                                   \
	__extension__({                                                                                                \
		long result_ = -VU_LATER;                                                                              \
		struct vu_wired *wired_ = (shown)->wired;                                                              \
		if (!(call)->elsewhere) {                                                                              \
			later((call), wired_);                                                                         \
		} else {                                                                                               \
			struct vu_wire *wire = vu_wired_wire(wired_);                                                  \
			const struct vu_fuse_caller self_ = caller_of(call);                                           \
			const struct vu_fuse_caller *const caller __attribute__((unused)) = &self_;                    \
			vu_resign(call);                                                                               \
			result_ = (request);                                                                           \
			int error_ = vu_assume(call);                                                                  \
			if (error_ < 0)                                                                                \
				result_ = error_;                                                                      \
		}                                                                                                      \
		result_;                                                                                               \
	})

const char *vu_wired_path_in(const struct vu_mount *mount, const char *rest, char text[PATH_MAX])
{
	if (!mount->node)
		return rest;
	int error = vu_wire_name(vu_wired_wire(mount->wired), mount->node, rest, text);
	errno = -error;
	return error < 0 ? NULL : text;
}

static const char *path_of(const struct vu_place *place, char text[PATH_MAX])
{
	const char *rest = place->view + place->mount->target_length;
	return vu_wired_path_in(place->mount, rest + strspn(rest, "/"), text);
}

/* Is the root of a mount elsewhere than it was when `path` below it was made? Then that nothing was found there says nothing. */
static bool has_moved(const struct vu_mount *mount, const char *path)
{
	char text[PATH_MAX];
	const char *root = mount->node ? vu_wired_path_in(mount, "", text) : NULL;
	size_t length = root ? strlen(root) : 0;
	return root && (strncmp(path, root, length) || (path[length] && path[length] != '/'));
}

/* The same of a place, whose `path` the request may name. */
#define ASK(call, place, request)                                                                                      \
	__extension__({                                                                                                \
		char text_[PATH_MAX];                                                                                  \
		const char *path;                                                                                      \
		long answer_ = -ENOENT;                                                                                \
		for (int i_ = 0; i_ < RETRIES && answer_ == -ENOENT; i_++) {                                           \
			path = path_of((place), text_);                                                                \
			answer_ = path ? ASK_OF((call), (place)->mount, request) : -errno;                             \
			if (!path || !has_moved((place)->mount, path))                                                 \
				break;                                                                                 \
		}                                                                                                      \
		answer_;                                                                                               \
	})

static int prepare(struct vu_call *call, const struct vu_mount *mount, const char *rest, unsigned want, bool *moved)
{
	static const struct vu_fuse_caller nobody;
	struct vu_wire *known = vu_wired_wire(mount->wired);
	char text[PATH_MAX];
	const char *path = vu_wired_path_in(mount, rest, text);
	/* A directory that has been removed is there for whom it is mounted, and nothing below it: the anchor says that. */
	if (!path && errno == ENOENT)
		return vu_fuse_is_dead(vu_wire_fuse(known)) ? -ENOTCONN : 0;
	if (!path)
		return -errno;
	int error = vu_wire_prepare(known, &nobody, path, want | VU_WIRE_CACHED);
	if (error == -EWOULDBLOCK)
		error = (int)ASK_OF(call, mount, vu_wire_prepare(wire, caller, path, want));
	*moved = error != -VU_LATER && has_moved(mount, path);
	return error;
}

int vu_wired_prepare(struct vu_call *call, const struct vu_mount *mount, const char *rest, unsigned want)
{
	bool moved = true;
	int error = 0;
	for (int i = 0; i < RETRIES && moved; i++) {
		moved = false;
		error = prepare(call, mount, rest, want, &moved);
	}
	return error;
}

int vu_wired_prepare_name(struct vu_call *call, const struct vu_place *place)
{
	char rest[PATH_MAX];
	const char *above = place->view + place->mount->target_length;
	above += strspn(above, "/");
	int length = snprintf(rest, sizeof rest, "%s%s%s", above, *above ? "/" : "", place->name);
	if (length >= (int)sizeof rest)
		return -ENAMETOOLONG;
	return vu_wired_prepare(call, place->mount, rest, VU_WIRE_PARENT);
}

int vu_wired_open(struct vu_call *call, const struct vu_place *place, unsigned flags, struct vu_wire_node **held)
{
	char text[PATH_MAX];
	const char *known = path_of(place, text);
	*held = NULL;
	if (known && (flags & (O_ACCMODE | O_TRUNC)) == O_RDONLY &&
	    vu_wire_is_here(vu_wired_wire(place->mount->wired), known, held))
		return 0;
	return (int)ASK(call, place, vu_wire_open(wire, caller, path, flags, held));
}

void vu_wired_opened(const struct vu_place *place, struct vu_wire_node *held)
{
	vu_wire_opened(vu_wired_wire(place->mount->wired), held);
}

int vu_wired_create(struct vu_call *call, const struct vu_place *place, unsigned flags, mode_t mode)
{
	struct vu_wire_node *held = NULL;
	mode = vu_create_mode(call, place->parent, mode & 07777);
	int refused = vu_wired_may_add(place);
	if (refused < 0)
		return refused;
	int error = (int)ASK(call, place, vu_wire_create(wire, caller, path, flags, mode, &held));
	if (error < 0)
		return error;
	/* Whatever its mode: who makes a file may write to it, that once. */
	int fd = (int)ASK(call, place, vu_wire_descriptor(wire, path, (int)(flags & ~(unsigned)(O_CREAT | O_EXCL))));
	vu_wired_opened(place, held);
	vu_wired_note(call, place);
	return fd;
}

static int answer(struct vu_call *call, long result)
{
	return result < 0 ? (int)result : vu_answer(call, 0);
}

int vu_wired_mkdir(struct vu_call *call, const struct vu_place *place, mode_t mode)
{
	int refused = vu_wired_may_add(place);
	if (refused < 0)
		return refused;
	return answer(call, ASK(call, place, vu_wire_mkdir(wire, caller, path, mode)));
}

int vu_wired_mknod(struct vu_call *call, const struct vu_place *place, mode_t mode, dev_t device)
{
	int refused = vu_wired_may_add(place);
	if (refused < 0)
		return refused;
	if (!(mode & S_IFMT)) /* fs/namei.c do_mknodat: servers see none without a type */
		mode |= S_IFREG;
	return answer(call, ASK(call, place, vu_wire_mknod(wire, caller, path, mode, device)));
}

int vu_wired_wait(struct vu_call *call, const struct vu_place *place)
{
	return call->elsewhere ? 0 : later(call, place->mount->wired);
}

int vu_wired_begin_socket(struct vu_call *call, const struct vu_place *place, mode_t mode)
{
	int refused = vu_wired_may_add(place);
	if (refused < 0)
		return refused;
	return (int)ASK(call, place, vu_wire_mknod(wire, caller, path, mode, 0) ?: vu_wire_vacate(wire, path));
}

void vu_wired_end_socket(struct vu_call *call, const struct vu_place *place)
{
	ASK(call, place, vu_wire_occupied(wire, caller, path));
}

int vu_wired_symlink(struct vu_call *call, const struct vu_place *place, const char *text)
{
	int refused = vu_wired_may_add(place);
	if (refused < 0)
		return refused;
	return answer(call, ASK(call, place, vu_wire_symlink(wire, caller, path, text)));
}

int vu_wired_remove(struct vu_call *call, const struct vu_place *place, bool directory)
{
	int refused = vu_wired_may_delete(call, place);
	if (refused < 0)
		return refused;
	return answer(call, ASK(call, place, vu_wire_remove(wire, caller, path, directory)));
}

int vu_wired_link(struct vu_call *call, const struct vu_place *old, const struct vu_place *new)
{
	if (old->mount != new->mount || old->magic || old->nameless)
		return -EXDEV;
	int refused = vu_wired_may_link(call, old);
	if (refused < 0 || (refused = vu_wired_may_add(new)) < 0)
		return refused;
	char text[PATH_MAX];
	const char *from = path_of(old, text);
	return from ? answer(call, ASK(call, new, vu_wire_link(wire, caller, from, path))) : -errno;
}

int vu_wired_rename(struct vu_call *call, const struct vu_place *old, const struct vu_place *new, unsigned flags)
{
	if (old->mount != new->mount)
		return -EXDEV;
	int refused = vu_wired_may_rename(call, old, new, flags & RENAME_EXCHANGE);
	if (refused < 0)
		return refused;
	char text[PATH_MAX];
	const char *from = path_of(old, text);
	if (!from)
		return -errno;
	long result = ASK(call, new, vu_wire_rename(wire, caller, from, path, flags));
	if (!result && call->table->shared)
		vu_wired_follow(call->session, new->mount->wired);
	return answer(call, result);
}

static int set(struct vu_call *call, const struct vu_place *place, uint32_t valid, const struct vu_fuse_attr *attr)
{
	return answer(call, ASK(call, place, vu_wire_setattr(wire, caller, path, valid, attr)));
}

/*
 * The anchor first, as the caller: so the kernel judges, and takes set-id bits away. `st` is what it was before, which it becomes
 * again if the server refuses.
 */
static int set_rights(struct vu_call *call, const struct vu_place *place, uint32_t valid, struct vu_fuse_attr *attr,
		      const struct stat *st)
{
	struct stat now;
	char path[32];
	if (fstat(place->fd, &now) < 0)
		return -errno;
	if ((valid & FATTR_MODE) || now.st_mode != st->st_mode) {
		valid |= FATTR_MODE;
		attr->mode = now.st_mode;
	}
	int verdict = set(call, place, valid, attr);
	if (verdict < 0) {
		vu_resign(call);
		if (fchownat(place->fd, "", st->st_uid, st->st_gid, AT_EMPTY_PATH) < 0 ||
		    chmod(vu_fd_path(place->fd, path), st->st_mode & 07777) < 0)
			vu_log(call->session, "an anchor of a wire mount cannot be set right: %s", strerror(errno));
		int error = vu_assume(call);
		return error < 0 ? error : verdict;
	}
	return verdict;
}

int vu_wired_chmod(struct vu_call *call, const struct vu_place *place, mode_t mode)
{
	struct stat st;
	char path[32];
	if (!call->elsewhere)
		return later(call, place->mount->wired);
	if (fstat(place->fd, &st) < 0 || chmod(vu_fd_path(place->fd, path), mode) < 0)
		return -errno;
	return set_rights(call, place, FATTR_MODE, &(struct vu_fuse_attr){}, &st);
}

int vu_wired_chown(struct vu_call *call, const struct vu_place *place, uid_t uid, gid_t gid)
{
	uint32_t valid = (uid == (uid_t)-1 ? 0 : FATTR_UID) | (gid == (gid_t)-1 ? 0 : FATTR_GID);
	struct vu_fuse_attr attr = { .uid = uid, .gid = gid };
	struct stat st;
	if (!call->elsewhere)
		return later(call, place->mount->wired);
	if (!call->session->privileged) /* all anchors are ours: the server knows whose its files are */
		return set(call, place, valid, &attr);
	if (fstat(place->fd, &st) < 0 || fchownat(place->fd, "", uid, gid, AT_EMPTY_PATH) < 0)
		return -errno;
	return set_rights(call, place, valid, &attr, &st);
}

int vu_wired_times(struct vu_call *call, const struct vu_place *place, const struct timespec *times)
{
	static const struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_NOW } };
	struct vu_fuse_attr attr = {};
	uint32_t valid = 0;
	if (!times)
		times = now;
	clock_gettime(CLOCK_REALTIME, &attr.atime);
	attr.mtime = attr.atime;
	if (times[0].tv_nsec == UTIME_NOW)
		valid |= FATTR_ATIME | FATTR_ATIME_NOW;
	else if (times[0].tv_nsec != UTIME_OMIT)
		valid |= FATTR_ATIME, attr.atime = times[0];
	if (times[1].tv_nsec == UTIME_NOW)
		valid |= FATTR_MTIME | FATTR_MTIME_NOW;
	else if (times[1].tv_nsec != UTIME_OMIT)
		valid |= FATTR_MTIME, attr.mtime = times[1];
	for (int i = 0; i < 2; i++) /* fs/utimes.c nsec_valid */
		if (times[i].tv_nsec != UTIME_NOW && times[i].tv_nsec != UTIME_OMIT &&
		    (times[i].tv_nsec < 0 || times[i].tv_nsec > 999999999))
			return -EINVAL;
	if (times[0].tv_nsec == UTIME_OMIT && times[1].tv_nsec == UTIME_OMIT)
		return vu_answer(call, 0);
	bool present = times[0].tv_nsec == UTIME_NOW && times[1].tv_nsec == UTIME_NOW;
	int refused = vu_wired_may_time(call, place, present);
	if (refused < 0)
		return refused;
	return set(call, place, valid, &attr);
}

int vu_wired_truncate(struct vu_call *call, const struct vu_place *place, off_t size)
{
	struct stat st;
	if (fstat(place->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode)) /* fs/open.c vfs_truncate */
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	int refused = vu_wired_may_access(place, W_OK);
	if (refused < 0)
		return refused;
	return set(call, place, FATTR_SIZE, &(struct vu_fuse_attr){ .size = (uint64_t)size });
}

/* The flags of a mount as statfs(2) tells them: include/linux/statfs.h. */
static long flags_of(const struct vu_mount *mount)
{
	static const struct {
		const char *name;
		long flag;
	} known[] = { { "nosuid", 2 },        { "nodev", 4 },       { "sync", 16 },         { "noatime", 1024 },
		      { "nodiratime", 2048 }, { "relatime", 4096 }, { "nosymfollow", 8192 } };
	long flags = mount->readonly;
	for (const char *text = mount->options ? mount->options : ""; *text; text += *text == ',') {
		size_t length = strcspn(text, ",");
		for (size_t i = 0; i < sizeof known / sizeof *known; i++)
			if (length == strlen(known[i].name) && !memcmp(text, known[i].name, length))
				flags |= known[i].flag;
		text += length;
	}
	return flags;
}

void vu_wired_device(const struct vu_place *place, struct stat *st)
{
	char text[PATH_MAX];
	const char *path = path_of(place, text);
	if (path)
		vu_wire_device(vu_wired_wire(place->mount->wired), path, &st->st_mode, &st->st_rdev);
}

int vu_wired_may_open_device(const struct vu_place *place)
{
	return flags_of(place->mount) & 4 ? -EACCES : 0;
}

int vu_wired_statfs(struct vu_call *call, const struct vu_place *place, struct statfs *out)
{
	struct fuse_kstatfs st;
	int error = (int)ASK(call, place, vu_wire_statfs(wire, caller, path, &st));
	if (error == -ENOSYS) { /* fuse_statfs of libfuse; the kernel passes it on, but df(1) wants something */
		memset(&st, 0, sizeof st);
		st.bsize = st.frsize = 512;
		st.namelen = NAME_MAX;
		error = 0;
	}
	if (error < 0)
		return error;
	/* convert_fuse_statfs, fs/fuse/inode.c */
	*out = (struct statfs){ .f_type = 0x65735546 /* FUSE_SUPER_MAGIC */,
				.f_bsize = st.bsize,
				.f_frsize = st.frsize,
				.f_blocks = st.blocks,
				.f_bfree = st.bfree,
				.f_bavail = st.bavail,
				.f_files = st.files,
				.f_ffree = st.ffree,
				.f_namelen = st.namelen,
				.f_flags = 0x20 /* ST_VALID */ | flags_of(place->mount) };
	return 0;
}

ssize_t vu_wired_getxattr(struct vu_call *call, const struct vu_place *place, const char *name, void *value,
			  size_t size)
{
	int refused = vu_wired_may_xattr(call, place, name, R_OK);
	if (refused < 0)
		return refused;
	return ASK(call, place, vu_wire_getxattr(wire, caller, path, name, value, size));
}

ssize_t vu_wired_listxattr(struct vu_call *call, const struct vu_place *place, char *names, size_t size)
{
	return ASK(call, place, vu_wire_listxattr(wire, caller, path, names, size));
}

int vu_wired_setxattr(struct vu_call *call, const struct vu_place *place, const char *name, const void *value,
		      size_t size, int flags)
{
	int refused = vu_wired_may_xattr(call, place, name, W_OK);
	if (refused < 0)
		return refused;
	return answer(call, ASK(call, place, vu_wire_setxattr(wire, caller, path, name, value, size, (unsigned)flags)));
}

int vu_wired_removexattr(struct vu_call *call, const struct vu_place *place, const char *name)
{
	int refused = vu_wired_may_xattr(call, place, name, W_OK);
	if (refused < 0)
		return refused;
	return answer(call, ASK(call, place, vu_wire_removexattr(wire, caller, path, name)));
}

int vu_wired_sync(struct vu_call *call, const struct vu_place *place, bool data_only)
{
	return answer(call, ASK(call, place, vu_wire_sync(wire, caller, path, data_only)));
}

int vu_wired_sync_all(struct vu_call *call, const struct vu_place *place)
{
	return answer(call, ASK_OF(call, place->mount, vu_wire_sync_all(wire)));
}
