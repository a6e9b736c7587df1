/* A path of the caller's becomes a place: place.c, and the walk (walk.h). */
#ifndef VUOSD_ENGINE_PLACE_H
#define VUOSD_ENGINE_PLACE_H

#include "call.h"

/* A place: where a path of the caller leads. Descriptors belong to the call and are closed by vu_place_close. */
struct vu_place {
	const struct vu_mount *mount;
	struct vu_seen
		seen; /* of the object, or with VU_WANT_PARENT of what has the name, if anything; in a stack only */
	const struct vu_node *node; /* entries at or below: the directory needs merging, may not be renamed */
	int parent; /* O_PATH of the directory, VU_WANT_PARENT only; else -1 */
	int fd; /* O_PATH of the object; -1 when it does not exist or was not wanted */
	bool native; /* the caller's kernel would arrive at this same object: may be continued */
	bool held; /* one of the caller's own descriptors: judged when it was opened */
	bool covered; /* nameless, because the view shows something else there */
	bool nameless; /* no path leads there: see vu_walk */
	bool beneath; /* nameless, because something is mounted over it; `view` is its path all the same */
	bool lost; /* nameless, because its mount is gone; `view` is the path below that */
	bool readonly;
	bool hidden; /* VU_WANT_PARENT: the last name is hidden by the view */
	bool mountpoint; /* the place is an entry's own target */
	bool magic; /* reached by a magic link of /proc and without a path: pipe, memfd, deleted file */
	bool top; /* VU_WANT_PARENT: `parent` is of the topmost tree of a stack */
	unsigned moves; /* those of the session when `parent` was looked up */
	bool merged; /* of a stack, which tells other attributes than the kernel: a directory of several trees, a kept owner */
	bool trailing; /* VU_WANT_PARENT: the name has a trailing slash, kept in `name` */
	bool listing; /* `fd` is no O_PATH descriptor, but what the caller wants */
	char name[NAME_MAX + 8]; /* VU_WANT_PARENT: last component, with its trailing slash if it had one */
	char *view; /* canonical path in the view, of the object (or of parent/name) */
};

/* walk.c, and place.c for what begins and ends a walk */
enum {
	VU_FOLLOW = 1, /* follow a last symbolic link */
	VU_WANT_PARENT = 2, /* resolve the directory; the last name may not exist */
	VU_EMPTY_OK = 4, /* AT_EMPTY_PATH */
	VU_ABSENT_OK = 8, /* with VU_WANT_PARENT: open the object too if it is there */
	VU_DIRECTORY = 16, /* the object must be a directory */
	VU_NO_LINKS = 32, /* RESOLVE_NO_SYMLINKS */
	VU_NO_MAGIC = 64, /* RESOLVE_NO_MAGICLINKS */
	VU_BENEATH = 128, /* RESOLVE_BENEATH */
	VU_IN_ROOT = 256, /* RESOLVE_IN_ROOT */
	VU_NO_MOUNTS = 512, /* RESOLVE_NO_XDEV */
	VU_READS = 1024, /* the call changes nothing: where no entry can matter, there is nothing to look up */
};
/*
 * A place that no path names (a deleted working directory, one deeper than PATH_MAX) is held and native, with no
 * descriptor: only the kernel can go on from there. An enforcing view answers -ENOENT.
 * `slot` (0 or 1) selects the work buffers, for calls with two paths. */
int vu_walk(struct vu_call *call, int slot, int dirfd, const char *path, unsigned flags, struct vu_place *place);
/* Read the path at the row's `path` (or `path2`) argument and walk it. -EFAULT etc. as the kernel would say. */
int vu_walk_argument(struct vu_call *call, unsigned flags, struct vu_place *place);
int vu_walk_second(struct vu_call *call, unsigned flags, struct vu_place *place);
/* The place of one of the caller's descriptors. An enforcing view's has the object in `fd` as well. */
int vu_walk_descriptor(struct vu_call *call, int slot, int fd, struct vu_place *place);
/* The same by `own`, our duplicate of the caller's `fd`; what is said is of that object, and place->fd stays -1. */
int vu_walk_duplicate(struct vu_call *call, int fd, int own, struct vu_place *place);
void vu_place_close(struct vu_place *place);
#define VU_PLACE __attribute__((cleanup(vu_place_close))) struct vu_place
/*
 * May this call simply continue? True for the native object of a view that does not enforce. Under enforcement never: the
 * kernel would read the path again, and it need not be the one that was judged, not even an empty one.
 */
static inline bool vu_may_continue(const struct vu_call *call, const struct vu_place *place, bool writes)
{
	if ((writes && (place->readonly || ((place->mount->stack || place->mount->wired) && !place->magic))) ||
	    place->hidden)
		return false;
	return (place->held || place->native) && !call->session->enforce;
}
/*
 * Is the answer ours, and not the kernel's? Then the arguments are checked here, and before the error of the walk is
 * returned where the kernel checks them before it looks at the path.
 */
static inline bool vu_ours(const struct vu_call *call, int verdict)
{
	return verdict != VU_CONTINUE && !(verdict < 0 && call->native_error && !call->session->enforce);
}
/* "/proc/self/fd/N" for system calls that know no descriptor form. */
const char *vu_fd_path(int fd, char buffer[32]);
/*
 * Is it of procfs? That lies on no block device (major 0: set_anon_super in fs/super.c), which fstat(2) tells more cheaply
 * than fstatfs(2), for which some file systems count their blocks.
 */
bool vu_on_procfs(int fd);
bool vu_is_procfs(int fd, const struct stat *st);
/* Open the object of an O_PATH descriptor anew with real flags; never blocks on a FIFO (checked by the caller). */
int vu_reopen(struct vu_session *session, int fd, int flags);

#endif
