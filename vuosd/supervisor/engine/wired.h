/*
 * Wire mounts (wire.h) in the engine: the mount's server is asked for what a call needs, and the call made on the anchor.
 *
 *	wired.c		what the operations call
 *	wired_pool.c	a mount's threads, and its life
 *	wired_root.c	mounts of a part of it
 *	wired_rights.c	what a caller may do
 *
 * The thread that receives notifications never waits for a server. What can be answered from what is known is; else the
 * operation gives up with -VU_LATER, nothing having happened, and is made anew, from the beginning, on a thread of the mount's,
 * which may wait. There are few of them: a server that hangs holds up its own users, and a server inside the view, whose own
 * calls come while it is waited for, finds the receiving thread free.
 */
#ifndef VUOSD_ENGINE_WIRED_H
#define VUOSD_ENGINE_WIRED_H

#include "wire.h"

#include "engine.h"

#define VU_LATER 1000 /* no errno of the kernel's: never seen by a caller */

struct vu_wired;

/* wired_pool.c */
/* The call is made anew by a thread of `call->waits`. VU_SENT or -errno. */
int vu_wired_defer(struct vu_call *call);
struct vu_wire *vu_wired_wire(struct vu_wired *wired);
/* Whether what is left is being written back, and so it does not end: guarded by the namespace's lock. */
bool *vu_wired_settling(struct vu_wired *wired);
/* No call uses it any more. How many files could not be written back. */
unsigned vu_wired_end(struct vu_wired *wired, struct vu_wire_lost *lost);

/* wired_root.c. The namespace's lock is held. */
/* The root of `mount`, which has the object and its origin. -ENOENT: it is not there any more. */
int vu_wired_root(struct vu_namespace *names, struct vu_mount *mount);
/* It is in no version any more, or the server ends: its root is let go. */
void vu_wired_leave(struct vu_mount *mount);
/* Something has been renamed: where the roots of its mounts lie by now. Takes that lock. */
void vu_wired_follow(struct vu_session *session, const struct vu_wired *wired);
/* Something of the place's mount is opened: descriptors of what others show as well are meant by it. */
void vu_wired_note(struct vu_call *call, const struct vu_place *place);
/* What mountinfo tells as the root, allocated; NULL without memory. */
char *vu_wired_root_path(const struct vu_mount *mount);

/* wired.c. `place` is in such a mount, and has its path in place->view; with VU_WANT_PARENT its name in place->name. */
/* The anchors on the way to a spot, up to the first that is no directory. `want`: VU_WIRE_* */
int vu_wired_prepare(struct vu_call *call, const struct vu_mount *mount, const char *rest, unsigned want);
/* The same for place->name in the directory that place->view names. */
int vu_wired_prepare_name(struct vu_call *call, const struct vu_place *place);
/* Before the anchor is opened, and after. */
int vu_wired_open(struct vu_call *call, const struct vu_place *place, unsigned flags, struct vu_wire_node **held);
void vu_wired_opened(const struct vu_place *place, struct vu_wire_node *held);
/* A new file: a descriptor of its anchor. */
int vu_wired_create(struct vu_call *call, const struct vu_place *place, unsigned flags, mode_t mode);
int vu_wired_mkdir(struct vu_call *call, const struct vu_place *place, mode_t mode);
/* 0, or -VU_LATER where the server cannot be asked: for who cannot do twice what comes before. */
int vu_wired_wait(struct vu_call *call, const struct vu_place *place);
/* A socket, whose anchor is made by bind(2) between the two. */
int vu_wired_begin_socket(struct vu_call *call, const struct vu_place *place, mode_t mode);
void vu_wired_end_socket(struct vu_call *call, const struct vu_place *place);
int vu_wired_mknod(struct vu_call *call, const struct vu_place *place, mode_t mode, dev_t device);
int vu_wired_symlink(struct vu_call *call, const struct vu_place *place, const char *text);
int vu_wired_remove(struct vu_call *call, const struct vu_place *place, bool directory);
int vu_wired_link(struct vu_call *call, const struct vu_place *old, const struct vu_place *new);
int vu_wired_rename(struct vu_call *call, const struct vu_place *old, const struct vu_place *new, unsigned flags);
int vu_wired_chmod(struct vu_call *call, const struct vu_place *place, mode_t mode);
int vu_wired_chown(struct vu_call *call, const struct vu_place *place, uid_t uid, gid_t gid);
int vu_wired_times(struct vu_call *call, const struct vu_place *place, const struct timespec *times);
int vu_wired_truncate(struct vu_call *call, const struct vu_place *place, off_t size);
/* 0 or -EACCES: it is mounted nodev. */
int vu_wired_may_open_device(const struct vu_place *place);
/* Of an anchor that stands for a device: what the server says of it. */
void vu_wired_device(const struct vu_place *place, struct stat *st);
struct statfs;
int vu_wired_statfs(struct vu_call *call, const struct vu_place *place, struct statfs *out);
/* As the calls of these names; the result goes to `value`. */
ssize_t vu_wired_getxattr(struct vu_call *call, const struct vu_place *place, const char *name, void *value,
			  size_t size);
ssize_t vu_wired_listxattr(struct vu_call *call, const struct vu_place *place, char *names, size_t size);
int vu_wired_setxattr(struct vu_call *call, const struct vu_place *place, const char *name, const void *value,
		      size_t size, int flags);
int vu_wired_removexattr(struct vu_call *call, const struct vu_place *place, const char *name);
int vu_wired_sync(struct vu_call *call, const struct vu_place *place, bool data_only);
int vu_wired_sync_all(struct vu_call *call, const struct vu_place *place);

/* Where `rest` below the root of `mount` is for the server: in `text`, or as it stands. NULL with errno. */
const char *vu_wired_path_in(const struct vu_mount *mount, const char *rest, char text[PATH_MAX]);

/* wired_rights.c: 0 or -errno. The call acts as its caller (vu_assume). `mask`: R_OK, W_OK, X_OK */
int vu_wired_may_access(const struct vu_place *place, int mask);
/* place->name in place->parent */
int vu_wired_may_add(const struct vu_place *place);
int vu_wired_may_delete(struct vu_call *call, const struct vu_place *place);
int vu_wired_may_link(struct vu_call *call, const struct vu_place *place);
int vu_wired_may_rename(struct vu_call *call, const struct vu_place *old, const struct vu_place *new, bool exchange);
/* `now`: both times are the present, as of touch(1) */
int vu_wired_may_time(struct vu_call *call, const struct vu_place *place, bool now);
int vu_wired_may_xattr(struct vu_call *call, const struct vu_place *place, const char *name, int mask);

static inline bool vu_is_wired(const struct vu_place *place)
{
	return place->mount && place->mount->wired && !place->magic && !place->nameless;
}

#endif
