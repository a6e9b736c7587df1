/* Requests to a FUSE server that concern the attributes of a node. */
#include "fuse_inside.h"

static int attr_reply(struct vu_fuse *fuse, struct vu_fuse_request *request, struct vu_fuse_attr *attr, int64_t *until)
{
	struct fuse_attr_out out;
	vu_fuse_expect(request, &out, sizeof out);
	int64_t now = vu_fuse_valid_from(fuse);
	ssize_t size = vu_fuse_exchange(fuse, request);
	return size < 0 ? (int)size : vu_fuse_decode_attr_out(&out, (size_t)size, now, attr, until);
}

int vu_fuse_getattr(VU_WHO, uint64_t nodeid, const struct vu_fuse_file *file, struct vu_fuse_attr *attr, int64_t *until)
{
	bool by_file = file && !file->absent;
	struct fuse_getattr_in in = { .getattr_flags = by_file ? FUSE_GETATTR_FH : 0, .fh = by_file ? file->fh : 0 };
	VU_REQUEST(request, FUSE_GETATTR, nodeid);
	vu_fuse_part(&request, &in, sizeof in);
	return attr_reply(fuse, &request, attr, until);
}

int vu_fuse_setattr(VU_WHO, uint64_t nodeid, const struct vu_fuse_file *file, uint32_t valid,
		    const struct vu_fuse_attr *set, struct vu_fuse_attr *attr, int64_t *until)
{
	bool by_file = file && !file->absent;
	struct fuse_setattr_in in = {
		.valid = valid | (by_file ? FATTR_FH : 0),
		.fh = by_file ? file->fh : 0,
		.size = set->size,
		.atime = (uint64_t)set->atime.tv_sec,
		.atimensec = (uint32_t)set->atime.tv_nsec,
		.mtime = (uint64_t)set->mtime.tv_sec,
		.mtimensec = (uint32_t)set->mtime.tv_nsec,
		.ctime = (uint64_t)set->ctime.tv_sec,
		.ctimensec = (uint32_t)set->ctime.tv_nsec,
		.mode = set->mode,
		.uid = set->uid,
		.gid = set->gid,
	};
	VU_REQUEST(request, FUSE_SETATTR, nodeid);
	vu_fuse_part(&request, &in, sizeof in);
	return attr_reply(fuse, &request, attr, until);
}

int vu_fuse_readlink(VU_WHO, uint64_t nodeid, char text[PATH_MAX])
{
	VU_REQUEST(request, FUSE_READLINK, nodeid);
	request.reply = text;
	request.room = PATH_MAX - 1;
	ssize_t size = vu_fuse_exchange(fuse, &request);
	return size < 0 ? (int)size : vu_fuse_decode_link(text, (size_t)size);
}

int vu_fuse_access(VU_WHO, uint64_t nodeid, unsigned mask)
{
	struct fuse_access_in in = { .mask = mask };
	VU_REQUEST(request, FUSE_ACCESS, nodeid);
	if (vu_fuse_lacks(fuse, VU_NO_ACCESS))
		return 0;
	vu_fuse_part(&request, &in, sizeof in);
	int error = (int)vu_fuse_exchange(fuse, &request);
	if (error == -ENOSYS) { /* nothing to say against it: fuse_access of fs/fuse/dir.c */
		vu_fuse_note_lack(fuse, VU_NO_ACCESS);
		return 0;
	}
	return error;
}

int vu_fuse_statfs(VU_WHO, uint64_t nodeid, struct fuse_kstatfs *out)
{
	struct fuse_statfs_out reply;
	VU_REQUEST(request, FUSE_STATFS, nodeid);
	vu_fuse_expect(&request, &reply, sizeof reply);
	ssize_t size = vu_fuse_exchange(fuse, &request);
	if (size < 0)
		return (int)size;
	*out = reply.st;
	return 0;
}

/* Requests whose reply is either a size (room 0) or as many bytes. */
static ssize_t sized(struct vu_fuse *fuse, struct vu_fuse_request *request, const char *name, void *value, size_t room)
{
	union {
		struct fuse_getxattr_out out;
		char data[sizeof(struct fuse_getxattr_out)];
	} told;
	/* XATTR_SIZE_MAX and XATTR_LIST_MAX are the same */
	if (room > XATTR_SIZE_MAX)
		room = XATTR_SIZE_MAX;
	struct fuse_getxattr_in in = { .size = (uint32_t)room };
	vu_fuse_part(request, &in, sizeof in);
	if (name)
		vu_fuse_part(request, name, strlen(name) + 1);
	if (room) {
		request->reply = value;
		request->room = room;
	} else {
		vu_fuse_expect(request, &told, sizeof told.out);
	}
	ssize_t size = vu_fuse_exchange(fuse, request);
	if (size < 0 || room)
		return size;
	return told.out.size > XATTR_SIZE_MAX ? -E2BIG : (ssize_t)told.out.size;
}

static ssize_t lack(struct vu_fuse *fuse, unsigned what, ssize_t result)
{
	if (result != -ENOSYS)
		return result;
	vu_fuse_note_lack(fuse, what);
	return -EOPNOTSUPP;
}

ssize_t vu_fuse_getxattr(VU_WHO, uint64_t nodeid, const char *name, void *value, size_t room)
{
	VU_REQUEST(request, FUSE_GETXATTR, nodeid);
	if (vu_fuse_lacks(fuse, VU_NO_GETXATTR))
		return -EOPNOTSUPP;
	return lack(fuse, VU_NO_GETXATTR, sized(fuse, &request, name, value, room));
}

ssize_t vu_fuse_listxattr(VU_WHO, uint64_t nodeid, char *names, size_t room)
{
	VU_REQUEST(request, FUSE_LISTXATTR, nodeid);
	if (vu_fuse_lacks(fuse, VU_NO_LISTXATTR))
		return -EOPNOTSUPP;
	ssize_t size = lack(fuse, VU_NO_LISTXATTR, sized(fuse, &request, NULL, names, room));
	if (size > 0 && room && vu_fuse_decode_names(names, (size_t)size) < 0)
		return -EIO;
	return size;
}

int vu_fuse_setxattr(VU_WHO, uint64_t nodeid, const char *name, const void *value, size_t size, unsigned flags)
{
	/* Without FUSE_SETXATTR_EXT, which is not offered, the arguments end after `flags`. */
	struct {
		uint32_t size, flags;
	} in = { (uint32_t)size, flags };
	_Static_assert(sizeof in == FUSE_COMPAT_SETXATTR_IN_SIZE, "struct fuse_setxattr_in before 7.33");
	VU_REQUEST(request, FUSE_SETXATTR, nodeid);
	if (vu_fuse_lacks(fuse, VU_NO_SETXATTR))
		return -EOPNOTSUPP;
	if (size > XATTR_SIZE_MAX)
		return -E2BIG;
	vu_fuse_part(&request, &in, sizeof in);
	vu_fuse_part(&request, name, strlen(name) + 1);
	vu_fuse_part(&request, value, size);
	return (int)lack(fuse, VU_NO_SETXATTR, vu_fuse_exchange(fuse, &request));
}

int vu_fuse_removexattr(VU_WHO, uint64_t nodeid, const char *name)
{
	VU_REQUEST(request, FUSE_REMOVEXATTR, nodeid);
	if (vu_fuse_lacks(fuse, VU_NO_REMOVEXATTR))
		return -EOPNOTSUPP;
	vu_fuse_part(&request, name, strlen(name) + 1);
	return (int)lack(fuse, VU_NO_REMOVEXATTR, vu_fuse_exchange(fuse, &request));
}
