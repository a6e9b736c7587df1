/*
 * Several trees shown as one: copy-on-write layers (VU_COW) and merged directories (VU_MERGE).
 *
 *	dirs.c		which directories a layer has, in memory, so that what a layer does not touch costs one look-up
 *	facts.c		and which names are no directories and known, so that it costs none
 *	stack_new.c	a stack comes, and goes
 *	stack.c		a path below a stack → the object that it shows
 *	copy_up.c	bring an object, and the directories that lead to it, into the topmost tree, with copy.c
 *	links.c		files with several names
 *	owners.c	owners that are told, but not given
 *	rights.c	what a caller may do, also where an owner is kept
 *	twins.c		copies that go by the inode number of what they were copied from
 *	quota.c		how much a layer may hold
 *	room.c		make a new name: in its place, or, where a whiteout is, in the work directory and then moved over it
 *	stack_remove.c	take names away
 *	stack_rename.c	and move them
 *	stack_moved.c	what is held of a directory that has been renamed
 *	stack_list.c	list a directory that several trees show
 *	stack_wired.c	a tree whose file system is mounted by wire
 *
 * On disk a layer is what the kernel's overlayfs makes with -o userxattr: Documentation/filesystems/overlayfs.rst. A
 * directory that several trees show is given to programs as the *lowest* tree's, whatever happens above: so its
 * descriptor, device and inode number stay what they were before anything was copied up. Its attributes are the topmost's.
 *
 * Where the lowest tree is seen at a place of its own as well, its descriptor would mean that place. There programs get a
 * *handle*: an empty directory of the session, at the same path below `handles`, which stands for the one of the stack.
 */
#ifndef VUOSD_ENGINE_STACK_H
#define VUOSD_ENGINE_STACK_H

#include "engine.h"

enum { VU_TREES = 64, VU_LISTINGS = 8 };

struct vu_hashes { /* a set, open-addressed */
	uint64_t *table;
	unsigned count, room; /* a power of two */
};

/* A directory of a layer. */
struct vu_dir {
	char *name;
	unsigned length;
	struct vu_dir *parent, *next; /* next: in the parent's bucket */
	struct vu_dir **buckets;
	unsigned bucket_count, child_count;
	bool opaque; /* nothing below it shows through */
	bool alone; /* nothing was below it when it was made: no need to look, and nothing to say on disk */
	bool attribute_whiteouts; /* whiteouts in it may be files with an attribute */
	bool closed; /* its kept owner lets the user not search it, which the kernel would permit */
	bool counted; /* what is not `touched` is not in it (facts.c) */
	struct vu_hashes touched;
	uint64_t number; /* that no other has; 0: others make names in it, so nothing is kept of them (facts.c) */
	unsigned changes; /* of its names */
	char *redirect; /* the trees below have it by another name: one of the same directory, or a path from the root */
};

struct vu_tree {
	int fd; /* O_PATH */
	char *path;
	size_t length;
	struct vu_dir *dirs; /* of a layer; NULL for an ordinary tree, which may change at any time */
	struct vu_recent *recent;
	const struct vu_mount
		*wired; /* NULL, or its file system is mounted by wire: what has anchors is what was asked for */
};

struct vu_link { /* a file with several names in a tree below, of which one or more have been copied up, or covered */
	dev_t dev;
	ino_t ino;
	bool copied;
	nlink_t lost; /* names that have been covered without a copy: they show no more, but the tree below counts them */
	unsigned spare; /* names that nobody has looked up yet */
	/* While the book is read: the names below that the layer has taken, one after the other, and how many there were. */
	char *names;
	size_t length;
	nlink_t taken, total;
	struct vu_link *next;
};

struct vu_quota {
	uint64_t size; /* bytes; 0: no limit */
	_Atomic uint64_t charged; /* by copies since the last look began */
	atomic_bool freed; /* since the last look began names have gone */
	pthread_mutex_t lock; /* of what follows; one looks at a time */
	uint64_t found, left; /* by the last look: bytes in the layer, and free on its file system */
	int64_t looked, took; /* ns: when (CLOCK_MONOTONIC), and for how long */
	bool closed; /* it has been unmounted */
	_Atomic(struct vu_stack *) next; /* of the session's that have a size */
};

struct vu_stack {
	unsigned count; /* topmost first */
	struct vu_tree trees[VU_TREES];
	struct vu_tree handles; /* fd -1: there are none. As a tree it has the number `count` */
	const struct vu_session *session;
	bool layered; /* changes to trees below go to the topmost; else they are EROFS */
	bool writable; /* the topmost may be written */
	bool minimal; /* what the tree at the bottom permits is changed there */
	bool sync, attribute_whiteouts;
	int work, origins;
	unsigned last_temporary;
	pthread_mutex_t
		lock; /* dirs of trees[0], links, last_temporary, and every change of the topmost tree's names */
	struct vu_names *listings[VU_LISTINGS];
	unsigned next_listing;
	struct vu_link *links[256];
	bool has_links;
	atomic_bool has_lost; /* one of the links has lost a name */
	struct vu_fact *facts;
	struct vu_hashes noted; /* paths that the book has from this session */
	struct vu_quota quota;
	struct vu_renamed *moved; /* stack_moved.c */
	pthread_mutex_t moved_lock;
	atomic_bool has_moved;
	bool has_owners; /* objects of the topmost tree may have an owner that is kept in an attribute */
};

/* dirs.c */
struct vu_way { /* how far the directories of a layer lead along a path */
	size_t known; /* length of the path that they cover */
	size_t stop; /* and with one name more: what is there is no directory of the layer, or nothing */
	bool opaque; /* what lies below the layer does not show there */
	bool attribute_whiteouts; /* of the last directory */
	bool redirected;
	bool closed; /* one of the directories that lead there is */
	const struct vu_dir *last; /* directory: while the lock is held */
	uint64_t number; /* of that directory, and its changes */
	unsigned changes;
};

struct vu_dir *vu_dirs_new(void);
void vu_dirs_free(struct vu_dir *root);
/* Read them from disk: `fd` is the root of the layer. */
int vu_dirs_read(struct vu_dir *root, int fd);
struct vu_dir *vu_dirs_find(struct vu_dir *root, const char *path, struct vu_way *way);
/* The path by which the trees below know `path`; -ENAMETOOLONG. */
int vu_dirs_below(const struct vu_dir *root, const char *path, char out[VU_TEXT]);
struct vu_dir *vu_dirs_add(struct vu_dir *root, const char *path);
void vu_dirs_remove(struct vu_dir *root, const char *path);
void vu_dirs_move(struct vu_dir *root, const char *from, const char *to);

/* facts.c. The lock is held, but for vu_facts_add(). */
enum vu_fact_kind { VU_FACT_NONE, VU_FACT_ABSENT, VU_FACT_WHITEOUT };
/* What is where the directories of the layer end along `path`? */
enum vu_fact_kind vu_facts_find(const struct vu_stack *stack, const char *path, const struct vu_way *way);
/* That has been seen, after `seen` was found. */
void vu_facts_add(struct vu_stack *stack, unsigned tree, const char *path, const struct vu_way *seen,
		  enum vu_fact_kind kind);
/* A name of the topmost tree has been made, moved or removed. */
void vu_facts_changed(struct vu_stack *stack, const char *path);
/* A name that was found there when the directory was read; false without memory. */
bool vu_facts_touch(struct vu_dir *dir, const char *name);
/* And there is a whiteout now. */
void vu_facts_covered(struct vu_stack *stack, const char *path);
/* Whether the book has a record of the path; that it has. */
bool vu_facts_noted(const struct vu_stack *stack, const char *path);
void vu_facts_note(struct vu_stack *stack, const char *path);
void vu_facts_free(struct vu_stack *stack);

/* stack_new.c */
void vu_stack_free(struct vu_stack *stack);
/* Its descriptors: no version of the table has it any more. States refer to it until the session ends. */
void vu_stack_close(struct vu_stack *stack);

/* stack_moved.c */
/* A directory has got another name, or two have exchanged theirs. `old_shows`, `new_shows`: till now it was the lowest tree's, too. */
void vu_moved_note(struct vu_stack *stack, const char *old, bool old_shows, const char *new, bool new_shows,
		   bool exchange);
/* What the directory that the lowest tree has at `path`, or one that it is in, is called now. False: as ever. */
bool vu_moved_to(struct vu_stack *stack, char *path, size_t room);
void vu_moved_free(struct vu_stack *stack);

/* stack.c */
/* O_PATH of what `path` (plain names) shows below the stack; *seen says where it was found. */
int vu_stack_open(struct vu_stack *stack, const char *path, uint64_t flags, struct vu_seen *seen);
/* The same without a look at which tree is the lowest: seen->lowest says the last, whatever that has. */
int vu_stack_open_first(struct vu_stack *stack, const char *path, uint64_t flags, struct vu_seen *seen);
/* The same from tree `from` on: what a name would show without the trees above. */
int vu_stack_open_below(struct vu_stack *stack, unsigned from, const char *path, struct vu_seen *seen);
/* The object of a place that has been come to, opened again. */
int vu_stack_object_of(struct vu_call *call, struct vu_place *place);
/* What a program gets for the directory of a place, O_PATH; -ENOENT: place->fd itself. */
int vu_stack_open_given(struct vu_call *call, const struct vu_place *place);
/* Of a directory that `seen` says several trees show: the lowest tree's, O_PATH. */
int vu_stack_open_lowest(struct vu_stack *stack, const char *path, const struct vu_seen *seen);
int vu_stack_lowest_of(struct vu_call *call, const struct vu_place *place);
/* The same, with all its names. */
int vu_stack_open_to_list(struct vu_stack *stack, const char *path, const struct vu_seen *seen);
/* The path by which tree number `tree` has what the stack shows at `path`; NULL: it is too long. */
const char *vu_stack_path_in(struct vu_stack *stack, const char *path, int tree, char texts[2][VU_TEXT]);
/* `attributes`: the directory may have those that are files. */
bool vu_stack_is_whiteout(int fd, const struct stat *st, bool attributes);
/* The directory `path` of one tree. *covers: those below show nothing of it; `below`: "", or its path there. */
int vu_stack_open_tree(struct vu_stack *stack, unsigned index, const char *path, bool *covers, bool *attributes,
		       char below[VU_TEXT]);
/* To read an O_PATH directory, which takes no right to search it. Returns a descriptor, or -1 and errno. */
int vu_stack_read_directory(int fd);
/* The path below the stack of a place: good until the thread has asked about four others. */
const char *vu_stack_rest(const struct vu_place *place);
/* The same of a spot; `buffer` may be used. */
const char *vu_stack_path(const struct vu_spot *spot, char buffer[VU_TEXT]);
/* The stack's bottom shows the object, and nothing above changes what it is: the host's own. */
static inline bool vu_stack_is_bottom(const struct vu_stack *stack, const struct vu_seen *seen)
{
	return seen->lowest == (int)stack->count - 1 && !seen->redirected;
}
static inline bool vu_seen_merged(const struct vu_seen *seen)
{
	return seen->lowest != seen->tree;
}
/* Whether stat(2) of the object, by any tree, would tell something else than the view does. */
bool vu_stack_tells(struct vu_stack *stack, const struct vu_seen *seen);
/* Whether a change of the place is one of the topmost tree, where the object lies already. */
static inline bool vu_stack_on_top(const struct vu_place *place)
{
	return place->seen.tree == 0 && place->mount->stack->writable;
}

/* Whether `host` is where `path` is shown from. */
bool vu_stack_judge(struct vu_stack *stack, const char *path, const struct vu_seen *seen, const char *host);
/* Whether the topmost tree and one below show the directory `path`: known without a look at the disk. */
bool vu_stack_is_merged(struct vu_stack *stack, const char *path);

/* copy.c: data and attributes, from any object to one that is new */
struct vu_work;
int vu_copy_data(struct vu_work *work, int from, int to, off_t size);
/* Those by which a layer keeps its own accounts: no program sees them. */
bool vu_is_private_attribute(const char *name);
struct vu_attributes;
/*
 * Owner, mode, extended attributes (those of `from`, if `attributes` is NULL), times; `to` is O_PATH or not. 1: the owner could
 * not be given.
 */
int vu_copy_attributes(struct vu_work *work, int from, const struct stat *st, int to,
		       const struct vu_attributes *attributes);

/* Of a directory of tree `tree`: no other tree has anything to do with it. Without a look at the disk; false if not known. */
bool vu_stack_untouched(struct vu_stack *stack, const char *path, unsigned tree);

/* copy_up.c */
enum { VU_TAKE_EMPTY = 1 /* without its data */ };
/* Make place->fd the object in the topmost tree, copied if need be. -EROFS where the stack is not to be written. */
int vu_stack_take(struct vu_call *call, struct vu_place *place, unsigned how);
/* The object at `path`, which was found where `seen` says, in the topmost tree. The lock is not held. */
int vu_stack_take_found(struct vu_call *call, struct vu_stack *stack, const char *path, int fd,
			const struct vu_seen *seen);
/* The directory `path` in the topmost tree, O_PATH, made with all that lead to it. The lock is held. */
int vu_stack_take_directory(struct vu_call *call, struct vu_stack *stack, const char *path);
/* Note what lies below at `path`, before it is covered. */
int vu_stack_note_origin(struct vu_stack *stack, const char *path, const struct stat *st);
/* A name in the work directory that is not taken. The lock is held. */
void vu_stack_temporary(struct vu_stack *stack, char name[32]);
/* Everything below the directory `path`, into the topmost tree, and make it opaque. The lock is held. */
int vu_stack_take_tree(struct vu_call *call, struct vu_stack *stack, const char *path);
int vu_stack_set_opaque(int fd);
/* A directory of an ordinary user, which was as `before`, is open to him from the one to the other, which restores its times. */
void vu_stack_open_up(int dir, const struct stat *before);
void vu_stack_shut(int dir, const struct stat *before);
/* links.c: a file with several names below stays one file when one of them is copied up. The lock is held. */
bool vu_links_knows(const struct vu_stack *stack, const struct stat *below);
/* twins.c: from now on `copy` goes by the device and inode number of `below`, where that is known to be safe. */
int vu_twins_add(struct vu_session *session, int copy, const struct stat *below);
/* Of `fd`, which is `st`: false, or the numbers that it goes by, in `st`. */
bool vu_twins_identify(struct vu_session *session, int fd, struct stat *st);
void vu_twins_free(struct vu_session *session);
/* `copy` is a regular file that will be the copy of `below`. */
int vu_links_mark(int copy, const struct stat *below);
/* `below` is now the file at `path` of the topmost tree. */
int vu_links_add(struct vu_stack *stack, const struct stat *below, const char *path);
/* Give it the name `name` in `dir` as well. */
int vu_links_join(struct vu_stack *stack, const struct stat *below, int dir, const char *name);
/* One of its names, which nobody had copied, is covered. */
int vu_links_lose(struct vu_stack *stack, const struct stat *below);
/* How many names of a file below have been covered, for st_nlink. Takes the lock. */
nlink_t vu_links_lost(struct vu_stack *stack, const struct stat *below);
void vu_links_free(struct vu_stack *stack);
/* Of a layer that is used again: what its book says. */
int vu_links_read(struct vu_stack *stack);
/* As vu_stack_open(); another name of a file that has been copied up leads to the copy, and becomes one of its names. */
int vu_stack_open_joined(struct vu_call *call, struct vu_stack *stack, const char *path, uint64_t flags,
			 struct vu_seen *seen);

/* owners.c */
/* May owners be kept, which the kernel would refuse to give? */
bool vu_owner_may_keep(const struct vu_call *call, const struct vu_stack *stack);
/* What is told of the object's owner and mode where that is kept, into *st. */
bool vu_owner_read(int fd, struct stat *st);
/* fstat(2) as it counts for rights. 1: by what is kept of a copy's owner, not as the kernel judges; `stack` may be NULL. */
int vu_owner_stat(const struct vu_stack *stack, int fd, struct stat *st);
/* Of a directory of a layer: struct vu_dir, `closed`. */
bool vu_owner_closes(int fd);
/* `fd` is the copy of `from`, whose owner (`told`) could not be given. */
int vu_owner_keep(struct vu_stack *stack, int from, const struct stat *told, int fd);
/* `fd` has been made in the directory `parent`, which may hand on a group that is kept: fs/inode.c inode_init_owner. */
int vu_owner_inherit(struct vu_stack *stack, int parent, int fd);
/* chmod(2); `stack` may be NULL. */
int vu_owner_mode(struct vu_stack *stack, int fd, mode_t mode);
/* That something else has changed the mode. */
int vu_owner_mode_changed(struct vu_stack *stack, int fd);
/* chown(2); `stack` may be NULL. */
int vu_owner_change(struct vu_call *call, struct vu_stack *stack, int fd, uid_t uid, gid_t gid);

/*
 * stack_wired.c: trees that are mounted by wire. Whatever needs what only the server knows is -VU_LATER, with call->waits and a note
 * of what is needed in call->needs: so it may be under the lock, where nobody waits for a server. Whoever may wait has that
 * met, and begins anew; so nothing may have happened until then that must not happen twice.
 */
/* The tree is what `mount` shows; and is no more. */
int vu_tree_wire(struct vu_tree *tree, const struct vu_mount *mount);
void vu_tree_unwire(struct vu_tree *tree);
/* The call that this thread makes, NULL: none; to be said wherever there is such a tree. */
void vu_needs_of(struct vu_call *call);
/* Asks the server for what is missing, with our own rights. No lock is held. -EIO: nothing is missing. */
int vu_needs_meet(struct vu_call *call);
/* The same for who acts as the caller. */
int vu_needs_meet_acting(struct vu_call *call);
void vu_needs_free(struct vu_call *call);
/* See to it that the anchors on the way to `path` are there; `want`: VU_WIRE_LIST. */
int vu_tree_ask(const struct vu_tree *tree, const char *path, unsigned want);
static inline int vu_tree_prepare(const struct vu_tree *tree, const char *path, unsigned want)
{
	return tree->wired ? vu_tree_ask(tree, path, want) : 0;
}
/* Of what is to be copied from where `seen` says: attributes, and with `data` that, which is to be held until it is open. */
struct vu_fetched {
	const struct vu_mount *mount; /* NULL: not by wire, and nothing of what follows */
	const struct vu_attributes *attributes; /* good as long as the call */
	struct vu_wire_node *held;
};
int vu_stack_fetch(struct vu_call *call, struct vu_stack *stack, const char *path, const struct vu_seen *seen,
		   bool data, struct vu_fetched *fetched);
void vu_stack_fetched(struct vu_fetched *fetched);
#define VU_FETCHED __attribute__((cleanup(vu_stack_fetched))) struct vu_fetched
int vu_attributes_set(const struct vu_attributes *attributes, const char *path);
/* Whether the object of the place lies in such a tree: *below is its place there, for what wired.h has. One at a time in each thread. */
bool vu_stack_below(const struct vu_place *place, struct vu_place *below);
/* All that lies in such a tree below a directory, into the topmost, before the lock is taken. */
int vu_stack_take_ahead(struct vu_call *call, struct vu_stack *stack, const struct vu_place *place);

/* quota.c: a layer without a limit has room for everything. */
void vu_quota_set(vu_session *session, struct vu_stack *stack, uint64_t size);
/* -ENOSPC unless the layer has room for `bytes` more, and for one byte at least. Our own capabilities must be in force. */
int vu_quota_charge(struct vu_call *call, struct vu_stack *stack, uint64_t bytes);
/* The same for what needs room that is not known; for any caller. */
int vu_quota_check(struct vu_call *call, struct vu_stack *stack);
/* Names have gone, or files got shorter: what was found before says nothing. */
void vu_quota_freed(struct vu_stack *stack);
/* What a layer with a limit holds, and may have held some 20 ms ago. */
int vu_quota_used(struct vu_stack *stack, uint64_t *used);

/* rights.c; 0 or -errno. `stack` may be NULL, but for vu_rights_change() */
/* access(2) with the effective ids: may the caller do what `mask` (R_OK, W_OK, X_OK) says? */
int vu_rights_ask(const struct vu_stack *stack, int fd, int mask);
/* May it be read, as far as the kernel would not judge by the same owner? */
int vu_rights_read(const struct vu_stack *stack, int fd);
/* May the directories that lead to `path` be searched, as far as owners are kept for them? */
int vu_rights_search(struct vu_stack *stack, const char *path);
/* Is the caller the owner, or as good as the owner? */
bool vu_rights_own(struct vu_call *call, const struct stat *st);
/* May the caller take away the object `fd` of directory `parent`? As may_delete() of fs/namei.c, before anything is copied. */
int vu_rights_delete(struct vu_call *call, const struct vu_stack *stack, int parent, int fd);
/* May it get another name? As may_linkat() of fs/namei.c. */
int vu_rights_link(struct vu_call *call, const struct vu_stack *stack, int fd);
/* May it be changed as the call says? `above`: it lies in the topmost tree. */
int vu_rights_change(struct vu_call *call, const struct vu_stack *stack, int fd, bool above);
/* Is the caller of an unprivileged session in the group? May it do what `wanted` says with `fd`, which has status `st`? */
bool vu_rights_member(gid_t gid);
bool vu_rights_permit(int fd, const struct stat *st, unsigned wanted);

/* room.c */
struct vu_room { /* where a new name is made */
	int dir; /* O_PATH */
	const char *name;
	int own; /* `dir` if it is to be closed */
	bool covered; /* a whiteout is in the place: `dir` is the work directory */
	bool locked;
	bool bottom; /* of a minimal stack, where that is permitted */
	char temporary[32];
};

/* For any place (VU_WANT_PARENT) that has no object. Outside of stacks it is place->parent and place->name. */
int vu_room_open(struct vu_call *call, struct vu_place *place, struct vu_room *room);
/* `result` is that of the call that made it: >= 0 or -errno. Returns it, or the error that comes last. */
int vu_room_close(struct vu_call *call, struct vu_place *place, struct vu_room *room, int result);

/* The directory of a place is of the topmost tree, and still has the path that it was found by. The lock is held. */
bool vu_room_stays(const struct vu_call *call, const struct vu_place *place);

/* stack_remove.c, stack_rename.c */
/* A whiteout in the work directory. The lock is held. */
int vu_stack_make_whiteout(struct vu_stack *stack, int parent, char temporary[32]);
int vu_stack_remove(struct vu_call *call, struct vu_place *place, bool directory);
int vu_stack_rename(struct vu_call *call, struct vu_place *old, struct vu_place *new, unsigned flags);

/* stack_list.c */
struct vu_name { /* a name that other trees say something about than the one that is being read */
	uint32_t position; /* ascending, all different; the same for a name as long as no other has the same hash */
	bool hidden; /* a whiteout: the tree's own name does not show */
	bool extra; /* the tree that is read does not have it */
	bool below; /* of a tree below the one that is read: what that one has itself comes first */
	bool alone; /* a directory that shows nothing of those below */
	uint8_t type;
	uint64_t ino;
	char *name;
};

struct vu_names {
	unsigned users;
	unsigned count, room;
	bool settled;
	struct vu_name *names;
	bool whiteouts, attribute_whiteouts; /* the tree that is read may have such */
	bool plain; /* the tree's own listing is all there is */
	bool handle; /* nothing is there but what is said here */
	char *path; /* what it is kept under: large ones are, so that they are not read for every part of a listing */
	unsigned tree;
};

/*
 * What shows in the directory `path` beside what tree `tree` lists, whose descriptor `fd` is. `fresh`: a listing begins. To
 * be given back with vu_names_put(). -ENOENT: the stack shows no such directory any more.
 */
int vu_names_get(struct vu_stack *stack, const char *path, unsigned tree, int fd, bool fresh, struct vu_names **names);
void vu_names_put(struct vu_stack *stack, struct vu_names *names);
const struct vu_name *vu_names_find(const struct vu_names *names, const char *name);

#endif
