/* Requests to a FUSE server that list a directory. */
#include "fuse_inside.h"

#include <fcntl.h>

int vu_fuse_opendir(VU_WHO, uint64_t nodeid, struct vu_fuse_file *file)
{
	struct fuse_open_in in = { .flags = O_RDONLY | O_DIRECTORY };
	VU_REQUEST(request, FUSE_OPENDIR, nodeid);
	*file = (struct vu_fuse_file){ .nodeid = nodeid, .flags = in.flags, .absent = true };
	return vu_fuse_open_handle(fuse, &request, &in, VU_NO_OPENDIR, file);
}

ssize_t vu_fuse_readdir(VU_WHO, const struct vu_fuse_file *file, uint64_t offset, bool plus, void *data)
{
	struct fuse_read_in in = { .fh = file->fh, .offset = offset, .size = VU_FUSE_DATA, .flags = file->flags };
	VU_REQUEST(request, plus ? FUSE_READDIRPLUS : FUSE_READDIR, file->nodeid);
	vu_fuse_part(&request, &in, sizeof in);
	request.reply = data;
	request.room = VU_FUSE_DATA;
	return vu_fuse_exchange(fuse, &request);
}
