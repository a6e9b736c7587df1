/*
 * getdents64 and getdents: a directory in which entries of the view lie.
 *
 * The kernel reads, into our memory, by a duplicate of the caller's descriptor: so it also keeps the position, and dup,
 * fork and lseek need no code. What it gives is filtered in place: hidden names go, and names that a mount covers get the
 * inode number and type that lstat says. Names that only the view has come after the kernel's last.
 *
 * Which of them are still to come is kept in the position as well: ADDED + n is "the n-th child of the table is next".
 * The kernel is never asked to read there, and lets any file system be moved there (all accept 31 bits; a directory of
 * sysfs not a bit more). So telldir, seekdir and rewinddir are right, in any process that shares the description, with any
 * size of buffer. A file system whose own positions are 31-bit hashes (kernfs) has one in that range, which is as wide as
 * there are children, with a chance of entries * children / 2^31. The order is that in which entries
 * were added, to which a mount at run time comes last.
 */
#include "again.h"
#include "stack.h"

#include <dirent.h>

#define ADDED 0x7ED05EED
/* And from here to ADDED: names that other trees of a stack have, by their positions there. */
#define STACKED 0x40000000

/* Both records begin with inode, position and length; struct linux_dirent has its type in its last byte. */
struct record {
	uint64_t ino;
	int64_t off;
	uint16_t length;
	char tail[]; /* getdents64: type, name; getdents: name, …, type */
};

enum { HEAD = offsetof(struct record, tail) };

struct listing {
	struct vu_call *call;
	const struct vu_node *node;
	int fd; /* the caller's description */
	const struct vu_names *names; /* of a stack; or NULL */
	bool old;
	char *data; /* what the caller gets */
	size_t room;
};

static const char *name_of(const struct listing *listing, const struct record *record)
{
	return record->tail + (listing->old ? 0 : 1);
}

static void set_type(const struct listing *listing, struct record *record, const struct stat *st)
{
	record->ino = st->st_ino;
	record->tail[listing->old ? record->length - HEAD - 1 : 0] = IFTODT(st->st_mode);
}

static uint8_t type_of(const struct listing *listing, const struct record *record)
{
	return (uint8_t)record->tail[listing->old ? record->length - HEAD - 1 : 0];
}

/* A name of the tree that the kernel reads: does the stack show it? If as something else, say so. */
static bool shows(const struct listing *listing, struct record *record, const char *name)
{
	const struct vu_name *other = vu_names_find(listing->names, name);
	uint8_t type = type_of(listing, record);
	struct stat st;
	if (other && other->hidden)
		return false;
	if (other) {
		record->ino = other->ino;
		record->tail[listing->old ? record->length - HEAD - 1 : 0] = (char)other->type;
		return true;
	}
	if (listing->names->handle)
		return !strcmp(name, ".") || !strcmp(name, "..");
	if (!listing->names->whiteouts ||
	    (type != DT_CHR && type != DT_UNKNOWN && !(type == DT_REG && listing->names->attribute_whiteouts)))
		return true;
	VU_CLOSE int fd = openat(listing->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 || fstat(fd, &st) < 0 || !vu_stack_is_whiteout(fd, &st, listing->names->attribute_whiteouts);
}

/* Take out what is hidden, correct what is covered. The length of what remains. */
static size_t filter(const struct listing *listing, size_t length)
{
	size_t kept = 0, step;
	for (size_t at = 0; at < length; at += step) {
		struct record *record = (struct record *)(listing->data + at);
		const char *name = name_of(listing, record);
		const struct vu_node *child = vu_node_child(listing->node, name, strlen(name));
		struct stat st;
		step = record->length;
		if (child && child->mount && child->mount->kind == VU_HIDE)
			continue;
		if (listing->names && !shows(listing, record, name))
			continue;
		if (child && child->mount && !fstat(child->mount->fd, &st))
			set_type(listing, record, &st);
		memmove(listing->data + kept, record, step);
		kept += step;
	}
	return kept;
}

static bool adds(const struct vu_node *child)
{
	return child->mount && child->mount->kind != VU_HIDE;
}

/* One name that only the view has. Its length, 0 if there is no room for it, -ENOENT when the directory lists it itself. */
static int put(const struct listing *listing, size_t at, const struct vu_node *child, int64_t next)
{
	struct stat st;
	size_t length = (HEAD + 1 + child->length + 1 + 7) & ~(size_t)7;
	struct record *record = (struct record *)(listing->data + at);
	if (!fstatat(listing->fd, child->name, &st, AT_SYMLINK_NOFOLLOW))
		return -ENOENT;
	if (fstat(child->mount->fd, &st) < 0)
		return -ENOENT;
	if (length > listing->room - at)
		return 0;
	memset(record, 0, length);
	record->length = (uint16_t)length;
	record->off = next;
	memcpy((char *)name_of(listing, record), child->name, child->length);
	set_type(listing, record, &st);
	return (int)length;
}

/* What other trees of the stack have, from the `first` position on. The length; *next is where to go on. */
static int stacked(const struct listing *listing, unsigned first, unsigned *next)
{
	const struct vu_names *names = listing->names;
	size_t at = 0;
	for (unsigned i = 0; names && i < names->count; i++) {
		const struct vu_name *name = &names->names[i];
		size_t size = strlen(name->name), length = (HEAD + 1 + size + 1 + 7) & ~(size_t)7;
		const struct vu_node *child = vu_node_child(listing->node, name->name, size);
		if (!name->extra || name->position < first || (child && child->mount))
			continue;
		if (length > listing->room - at) {
			*next = name->position;
			return at ? (int)at : -EINVAL;
		}
		struct record *record = (struct record *)(listing->data + at);
		memset(record, 0, length);
		record->length = (uint16_t)length;
		record->ino = name->ino;
		record->off = STACKED + (int64_t)name->position + 1;
		memcpy((char *)name_of(listing, record), name->name, size);
		record->tail[listing->old ? length - HEAD - 1 : 0] = (char)name->type;
		at += length;
	}
	*next = ADDED - STACKED;
	return (int)at;
}

/* The view's own names from the `first` on. The length; *next is where to go on. -EINVAL: no room for a single one. */
static int added(const struct listing *listing, unsigned first, unsigned *next)
{
	unsigned number = 0;
	size_t at = 0;
	for (const struct vu_node *child = listing->node->first; child; child = child->sibling) {
		if (!adds(child) || number++ < first)
			continue;
		int length = put(listing, at, child, ADDED + (int64_t)number);
		if (!length) {
			*next = number - 1;
			return at ? (int)at : -EINVAL;
		}
		at += length < 0 ? 0 : (size_t)length;
	}
	*next = number;
	return (int)at;
}

static unsigned count(const struct vu_node *node)
{
	unsigned number = 0;
	for (const struct vu_node *child = node->first; child; child = child->sibling)
		number += adds(child);
	return number;
}

/* What the kernel lists next: its filtered length, 0 at the end. */
static int listed(const struct listing *listing)
{
	for (;;) {
		long n = syscall(listing->call->nr, listing->fd, listing->data, listing->room);
		if (n <= 0)
			return vu_result(n);
		size_t kept = filter(listing, (size_t)n);
		if (kept)
			return (int)kept;
	}
}

static int answer(const struct listing *listing, int length, off_t before)
{
	struct vu_call *call = listing->call;
	int error = length > 0 ? vu_write(call, vu_argument(call, call->row->buf), listing->data, (size_t)length) : 0;
	if (error < 0) {
		lseek(listing->fd, before, SEEK_SET);
		return error;
	}
	return vu_answer(call, length);
}

/* Three parts, one after the other: what the kernel lists, what other trees of a stack have, what only the view has. */
static int merge(const struct listing *listing)
{
	unsigned total = count(listing->node), next = 0;
	off_t before = lseek(listing->fd, 0, SEEK_CUR), at = before;
	int length = 0;
	if (before < 0)
		return errno == ESPIPE ? -ENOTDIR : -errno; /* a pipe is no directory in the first place */
	bool ours = before >= ADDED ? (total || listing->names) && before <= ADDED + (off_t)total
				    : listing->names && before >= STACKED;
	if (!ours) {
		if ((length = listed(listing)))
			return length < 0 ? length : answer(listing, length, before);
		at = listing->names ? STACKED : ADDED;
	}
	if (at < ADDED) {
		length = stacked(listing, (unsigned)(at - STACKED), &next);
		if (!length)
			at = ADDED;
		else if (length > 0 && lseek(listing->fd, STACKED + (off_t)next, SEEK_SET) < 0)
			return -errno;
	}
	if (at >= ADDED) {
		if (!total)
			return answer(listing, 0, before);
		length = added(listing, (unsigned)(at - ADDED), &next);
		if (length >= 0 && lseek(listing->fd, ADDED + (off_t)next, SEEK_SET) < 0)
			return -errno;
	}
	return length < 0 ? length : answer(listing, length, before);
}

/*
 * Landlock does not govern the listing of a directory that is open, so an enforcing view always lists it here: the number
 * could mean a withheld one, handed in from outside, by the time the kernel looks.
 */
static int getdents(struct vu_call *call, bool old)
{
	int fd = (int)vu_argument(call, call->row->fd), verdict = -1;
	static const struct vu_node nothing;
	size_t room = (unsigned)vu_argument(call, call->row->size); /* unsigned int in both calls */
	VU_PLACE place = { .parent = -1, .fd = -1 };
	int error = 0;
	struct vu_stack *stack = NULL;
	if (!call->session->enforce) {
		error = vu_walk_descriptor(call, 0, fd, &place);
		stack = error < 0 || place.nameless ? NULL : place.mount->stack;
		bool entries = error == 0 && place.node && place.node->child_count;
		if (!stack && !entries)
			return VU_CONTINUE; /* also one from outside of the view, which shows nothing there */
		if (stack && !entries && vu_stack_untouched(stack, vu_stack_rest(&place), (unsigned)place.seen.tree))
			return VU_CONTINUE;
	}
	VU_CLOSE int copy = vu_again_descriptor(call, fd, &verdict);
	if (copy < 0)
		return verdict >= 0 ? verdict : copy;
	if (call->session->enforce) { /* what is listed is what was judged, whatever the number means by now */
		error = vu_walk_duplicate(call, fd, copy, &place);
		if (error < 0 || place.covered)
			return error < 0 ? error : -ENOENT; /* withheld, and handed in: its names are withheld too */
		stack = place.nameless ? NULL : place.mount->stack;
	}
	struct vu_names *names = NULL;
	struct stat st;
	if (stack && !fstat(copy, &st) && !S_ISDIR(st.st_mode))
		return fcntl(copy, F_GETFL) & O_PATH ? -EBADF : -ENOTDIR;
	if (stack) {
		bool fresh = lseek(copy, 0, SEEK_CUR) == 0;
		const char *path = vu_stack_rest(&place);
		vu_own_rights(call, true); /* the caller was asked when he opened it */
		error = vu_names_get(stack, path, (unsigned)place.seen.tree, copy, fresh, &names);
		vu_own_rights(call, false);
		if (error < 0)
			return error;
		if (names->plain && !names->whiteouts && !call->session->enforce &&
		    (!place.node || !place.node->child_count)) {
			vu_names_put(stack, names);
			return VU_CONTINUE;
		}
	}
	struct listing listing = { .call = call,
				   .node = place.node ? place.node : &nothing,
				   .fd = copy,
				   .names = names,
				   .old = old,
				   .data = call->work->data,
				   .room = room < sizeof call->work->data ? room : sizeof call->work->data };
	int result = merge(&listing);
	if (stack)
		vu_names_put(stack, names);
	return result;
}

int vu_op_getdents64(struct vu_call *call)
{
	return getdents(call, false);
}

int vu_op_getdents(struct vu_call *call)
{
	return getdents(call, true);
}
