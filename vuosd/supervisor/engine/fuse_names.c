/* Requests to a FUSE server that concern the names of a directory. */
#include "fuse_inside.h"

#include <fcntl.h>
#include <stdio.h>

static void name_part(struct vu_fuse_request *request, const char *name)
{
	vu_fuse_part(request, name, strlen(name) + 1);
}

static int good(const char *name)
{
	size_t length = strlen(name);
	if (length > NAME_MAX)
		return -ENAMETOOLONG;
	return vu_fuse_name_is_good(name, length) ? 0 : -EINVAL;
}

/* Requests that are answered with an entry; `type` is what it must be (0: anything). */
static int entry_request(struct vu_fuse *fuse, struct vu_fuse_request *request, mode_t type,
			 struct vu_fuse_entry *entry)
{
	struct fuse_entry_out out;
	vu_fuse_expect(request, &out, sizeof out);
	*entry = (struct vu_fuse_entry){};
	int64_t now = vu_fuse_valid_from(fuse);
	ssize_t size = vu_fuse_exchange(fuse, request);
	if (size < 0)
		return (int)size;
	int error = vu_fuse_decode_entry(&out, (size_t)size, now, entry);
	if (!error && !entry->nodeid)
		return request->opcode == FUSE_LOOKUP ? -ENOENT : -EIO;
	if (!error && type && (entry->attr.mode & S_IFMT) != type)
		error = -EIO;
	if (error && out.nodeid > FUSE_ROOT_ID)
		vu_fuse_forget(fuse, &(struct vu_fuse_forgotten){ out.nodeid, 1 }, 1);
	return error;
}

int vu_fuse_lookup(VU_WHO, uint64_t parent, const char *name, struct vu_fuse_entry *entry)
{
	VU_REQUEST(request, FUSE_LOOKUP, parent);
	int error = good(name);
	name_part(&request, name);
	return error < 0 ? error : entry_request(fuse, &request, 0, entry);
}

int vu_fuse_mkdir(VU_WHO, uint64_t parent, const char *name, mode_t mode, struct vu_fuse_entry *entry)
{
	struct fuse_mkdir_in in = { .mode = mode, .umask = caller->umask };
	VU_REQUEST(request, FUSE_MKDIR, parent);
	int error = good(name);
	vu_fuse_part(&request, &in, sizeof in);
	name_part(&request, name);
	return error < 0 ? error : entry_request(fuse, &request, S_IFDIR, entry);
}

/* new_encode_dev() of the kernel */
static uint32_t encode_device(dev_t device)
{
	uint32_t major = (uint32_t)(device >> 8) & 0xfff,
		 minor = (uint32_t)((device & 0xff) | ((device >> 12) & 0xfff00));
	return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
}

int vu_fuse_mknod(VU_WHO, uint64_t parent, const char *name, mode_t mode, dev_t rdev, struct vu_fuse_entry *entry)
{
	struct fuse_mknod_in in = { .mode = mode, .rdev = encode_device(rdev), .umask = caller->umask };
	VU_REQUEST(request, FUSE_MKNOD, parent);
	int error = good(name);
	vu_fuse_part(&request, &in, sizeof in);
	name_part(&request, name);
	return error < 0 ? error : entry_request(fuse, &request, mode & S_IFMT ? mode & S_IFMT : S_IFREG, entry);
}

int vu_fuse_symlink(VU_WHO, uint64_t parent, const char *name, const char *text, struct vu_fuse_entry *entry)
{
	VU_REQUEST(request, FUSE_SYMLINK, parent);
	int error = good(name);
	name_part(&request, name);
	name_part(&request, text);
	return error < 0 ? error : entry_request(fuse, &request, S_IFLNK, entry);
}

int vu_fuse_link(VU_WHO, uint64_t nodeid, uint64_t parent, const char *name, struct vu_fuse_entry *entry)
{
	struct fuse_link_in in = { .oldnodeid = nodeid };
	VU_REQUEST(request, FUSE_LINK, parent);
	int error = good(name);
	vu_fuse_part(&request, &in, sizeof in);
	name_part(&request, name);
	return error < 0 ? error : entry_request(fuse, &request, 0, entry);
}

static int remove_name(VU_WHO, uint32_t opcode, uint64_t parent, const char *name)
{
	VU_REQUEST(request, opcode, parent);
	int error = good(name);
	name_part(&request, name);
	return error < 0 ? error : (int)vu_fuse_exchange(fuse, &request);
}

int vu_fuse_unlink(VU_WHO, uint64_t parent, const char *name)
{
	return remove_name(fuse, caller, FUSE_UNLINK, parent, name);
}

int vu_fuse_rmdir(VU_WHO, uint64_t parent, const char *name)
{
	return remove_name(fuse, caller, FUSE_RMDIR, parent, name);
}

int vu_fuse_rename(VU_WHO, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name, unsigned flags)
{
	struct fuse_rename2_in in = { .newdir = new_parent, .flags = flags };
	VU_REQUEST(request, flags ? FUSE_RENAME2 : FUSE_RENAME, parent);
	int error = good(name);
	if (!error)
		error = good(new_name);
	/* fuse_rename2 of fs/fuse/dir.c */
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	if (flags && (fuse->features.minor < 23 || vu_fuse_lacks(fuse, VU_NO_RENAME2)))
		return -EINVAL;
	vu_fuse_part(&request, &in, flags ? sizeof in : sizeof(struct fuse_rename_in));
	/* Two names, but one part: there are three at most, and the header is no part. */
	char names[2 * (NAME_MAX + 1)];
	int length = error ? 0 : snprintf(names, sizeof names, "%s%c%s", name, 0, new_name);
	vu_fuse_part(&request, names, (size_t)length + 1);
	if (error < 0)
		return error;
	error = (int)vu_fuse_exchange(fuse, &request);
	if (flags && error == -ENOSYS) {
		vu_fuse_note_lack(fuse, VU_NO_RENAME2);
		return -EINVAL;
	}
	return error;
}

int vu_fuse_create(VU_WHO, uint64_t parent, const char *name, unsigned flags, mode_t mode, struct vu_fuse_entry *entry,
		   struct vu_fuse_file *file)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;
	struct fuse_create_in in = { .flags = flags & ~(unsigned)O_NOCTTY, .mode = mode, .umask = caller->umask };
	VU_REQUEST(request, FUSE_CREATE, parent);
	int error = good(name);
	if (error < 0)
		return error;
	if (vu_fuse_lacks(fuse, VU_NO_CREATE))
		return -ENOSYS;
	*entry = (struct vu_fuse_entry){};
	vu_fuse_part(&request, &in, sizeof in);
	name_part(&request, name);
	vu_fuse_expect(&request, &out, sizeof out);
	int64_t now = vu_fuse_valid_from(fuse);
	ssize_t size = vu_fuse_exchange(fuse, &request);
	if (size == -ENOSYS)
		vu_fuse_note_lack(fuse, VU_NO_CREATE);
	if (size < 0)
		return (int)size;
	*file = (struct vu_fuse_file){
		.nodeid = out.entry.nodeid, .fh = out.open.fh, .flags = flags, .open_flags = out.open.open_flags
	};
	error = vu_fuse_decode_entry(&out.entry, sizeof out.entry, now, entry);
	if (!error && (!entry->nodeid || !S_ISREG(entry->attr.mode)))
		error = -EIO;
	if (!error)
		return 0;
	vu_fuse_release(fuse, caller, file);
	if (out.entry.nodeid > FUSE_ROOT_ID)
		vu_fuse_forget(fuse, &(struct vu_fuse_forgotten){ out.entry.nodeid, 1 }, 1);
	return error;
}

static void send_forgotten(struct vu_fuse *fuse, const struct vu_fuse_forgotten *nodes, unsigned count)
{
	static const struct vu_fuse_caller nobody, *const caller = &nobody;
	struct fuse_batch_forget_in batch = { .count = count };
	struct fuse_forget_in one = { .nlookup = nodes->count };
	_Static_assert(sizeof *nodes == sizeof(struct fuse_forget_one), "they are sent as they are");
	VU_REQUEST(request, count > 1 ? FUSE_BATCH_FORGET : FUSE_FORGET, count > 1 ? 0 : nodes->nodeid);
	if (!count)
		return;
	if (count > 1) {
		vu_fuse_part(&request, &batch, sizeof batch);
		vu_fuse_part(&request, nodes, count * sizeof *nodes);
	} else {
		vu_fuse_part(&request, &one, sizeof one);
	}
	pthread_mutex_lock(&fuse->lock);
	request.unique = fuse->last_unique += 2;
	pthread_mutex_unlock(&fuse->lock);
	request.since = vu_fuse_now();
	vu_fuse_send(fuse, &request, true);
}

void vu_fuse_forget(struct vu_fuse *fuse, const struct vu_fuse_forgotten *nodes, unsigned count)
{
	enum { AT_ONCE = 256 };
	struct vu_fuse_forgotten now[AT_ONCE];
	unsigned most = fuse->features.minor < 16 ? 1 : AT_ONCE, held = 0;
	for (; count && !vu_fuse_is_dead(fuse); nodes++, count--) {
		if (vu_fuse_forget_later(fuse, nodes))
			continue;
		now[held++] = *nodes;
		if (held < most)
			continue;
		send_forgotten(fuse, now, held);
		held = 0;
	}
	if (!vu_fuse_is_dead(fuse))
		send_forgotten(fuse, now, held);
}
