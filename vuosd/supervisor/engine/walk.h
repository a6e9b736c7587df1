/* The state of one path resolution, shared by place.c and walk*.c. */
#ifndef VUOSD_ENGINE_WALK_H
#define VUOSD_ENGINE_WALK_H

#include "engine.h"

struct vu_walk {
	struct vu_call *call;
	const struct vu_state *state;
	unsigned flags;
	char *view; /* canonical so far, in a buffer of the work area; "" is the view's root */
	size_t length;
	const char *rest; /* what is still to be resolved, in work->rest */
	size_t scope; /* RESOLVE_BENEATH, RESOLVE_IN_ROOT: ".." does not go above view[0..scope) */
	unsigned links;
	bool withheld; /* the view shows no such object: not what the caller's kernel would say */
	bool clean; /* every jump so far happened where view and host agree */
	bool absolute; /* the caller's kernel began at the host's root */
	bool trailing; /* what was resolved last ended with a slash, "." or "..": it must be a directory */
	bool trailing_path; /* … because the path itself ended so, before a last link was replaced by its text */
	struct vu_seen seen; /* where in a stack the last object was found */
	bool shallow; /* of the last directory it need not be known which tree is the lowest that shows it */
	const struct vu_mount *start; /* mount of the directory that a relative path started in */
	size_t begun; /* view[0..begun), and what lies below, has been come to from that directory; 0: nothing has */
	unsigned ups; /* by so many ".." from it */
	int dirfd; /* the caller's, of that directory */
};

/* The spot of the canonical path so far. */
void vu_walk_find(const struct vu_walk *walk, struct vu_spot *spot);
/* Called before each jump: `clean` holds only while view and host agree where it happens. */
void vu_walk_note_jump(struct vu_walk *walk);
void vu_walk_go_root(struct vu_walk *walk);
/* Put `text` in front of `rest` (which may lie in work->rest). */
int vu_walk_prepend(struct vu_walk *walk, const char *text, const char *rest);

/* O_PATH below `base`, with no link on the way. */
int vu_walk_open(int base, const char *path, uint64_t flags);
/* The same for a `path` of any length. */
int vu_walk_open_below(int base, const char *path, uint64_t flags);
/* The object at a spot; -ENOENT for what the view hides. Fills in spot->seen. */
int vu_walk_open_spot(struct vu_call *call, struct vu_spot *spot, uint64_t flags);
/* The same for the canonical path of a walk, from where it began if the way there is closed to the caller (walk_start.c). */
int vu_walk_open_on(struct vu_walk *walk, struct vu_spot *spot, uint64_t flags);
int vu_walk_from_start(struct vu_walk *walk, struct vu_spot *spot, uint64_t flags);
/* Whether the caller's kernel, having come the same way, stands on the object that `mount` shows (in a stack: walk->seen). */
bool vu_walk_agrees(const struct vu_walk *walk, const struct vu_mount *mount);
/*
 * May the last link of a path be followed, which has this status and lies in this directory (of a stack, or NULL)? As fs/namei.c may_follow_link, where
 * fs.protected_symlinks is set: 0 or -EACCES.
 */
int vu_walk_may_follow(const struct vu_walk *walk, const struct stat *link, const struct vu_stack *stack,
		       int directory);
bool vu_walk_is_dot(const char *name, const char *end);
bool vu_walk_is_dot_dot(const char *name, const char *end);
/* Resolve walk->rest. Leaves the object in place->fd. */
int vu_walk_resolve(struct vu_walk *walk, bool follow, bool directory, struct vu_place *place);

/* walk_start.c: where a path relative to `dirfd` starts. 0, or -errno, or: */
enum {
	VU_ONLY_KERNEL = 1, /* only the kernel can go on from there: engine.h */
	VU_LOST, /* its mount has gone: likewise */
	VU_COVERED, /* something has been mounted over it since */
};
int vu_walk_start(struct vu_walk *walk, int dirfd, int *object);

/* walk_parent.c: resolve all but the last name. Leaves the directory in place->parent. */
int vu_walk_parent(struct vu_walk *walk, const char *path, struct vu_place *place);
/* Fill in what the canonical path says of the place. */
void vu_walk_describe(struct vu_walk *walk, struct vu_place *place);
/* An enforcing view judges the object, not the text it was found by: 0 or -EAGAIN. */
int vu_walk_judge(struct vu_walk *walk, int fd);
/* The text of a link in /proc/self/fd. */
int vu_own_link(struct vu_session *session, int fd, char *out, size_t room);

/* What vu_walk_proc and expand() say, beside -errno. */
enum { VU_EXPANDED = 0, VU_COMPLETE = 1, VU_NO_LINK = 2 };
/*
 * `link` (O_PATH) is a link whose name begins at view[before + 1]. If it is one of procfs whose meaning depends on the
 * caller, or that leads to an object and not through a text, go there. VU_NO_LINK: it is an ordinary link.
 */
int vu_walk_proc(struct vu_walk *walk, const struct vu_spot *spot, int link, size_t before, const char *rest,
		 struct vu_place *place);

#endif
