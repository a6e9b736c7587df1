/* Requests to a FUSE server that concern an open file. */
#include "fuse_inside.h"

#include <fcntl.h>

/* fuse_file_open, fs/fuse/file.c: what creat(2) and the terminal are about is not the server's. */
#define NOT_THE_SERVERS ((unsigned)(O_CREAT | O_EXCL | O_NOCTTY))

int vu_fuse_open_handle(struct vu_fuse *fuse, struct vu_fuse_request *request, const struct fuse_open_in *in,
			unsigned lack, struct vu_fuse_file *file)
{
	struct fuse_open_out out;
	if (vu_fuse_lacks(fuse, lack))
		return 0;
	vu_fuse_part(request, in, sizeof *in);
	vu_fuse_expect(request, &out, sizeof out);
	ssize_t size = vu_fuse_exchange(fuse, request);
	if (size == -ENOSYS) {
		vu_fuse_note_lack(fuse, lack);
		return 0;
	}
	if (size < 0)
		return (int)size;
	file->absent = false;
	file->fh = out.fh;
	file->open_flags = out.open_flags;
	return 0;
}

int vu_fuse_open(VU_WHO, uint64_t nodeid, unsigned flags, struct vu_fuse_file *file)
{
	unsigned given = flags & ~NOT_THE_SERVERS;
	if (!(fuse->features.flags & FUSE_ATOMIC_O_TRUNC))
		given &= ~(unsigned)O_TRUNC;
	struct fuse_open_in in = { .flags = given };
	VU_REQUEST(request, FUSE_OPEN, nodeid);
	*file = (struct vu_fuse_file){
		.nodeid = nodeid, .flags = given, .open_flags = FOPEN_KEEP_CACHE, .absent = true
	};
	return vu_fuse_open_handle(fuse, &request, &in, VU_NO_OPEN, file);
}

struct vu_fuse_reading {
	struct vu_fuse_request request;
	struct fuse_read_in in;
	int submitted;
};

struct vu_fuse_reading *vu_fuse_read_begin(VU_WHO, const struct vu_fuse_file *file, uint64_t offset, void *data,
					   size_t size)
{
	struct vu_fuse_reading *reading = malloc(sizeof *reading);
	if (!reading)
		return NULL;
	VU_REQUEST(request, FUSE_READ, file->nodeid);
	reading->in =
		(struct fuse_read_in){ .fh = file->fh, .offset = offset, .size = (uint32_t)size, .flags = file->flags };
	vu_fuse_part(&request, &reading->in, sizeof reading->in);
	request.reply = data;
	request.room = size;
	memcpy(&reading->request, &request, sizeof request);
	reading->submitted = vu_fuse_submit(fuse, &reading->request);
	return reading;
}

ssize_t vu_fuse_read_end(struct vu_fuse *fuse, struct vu_fuse_reading *reading)
{
	ssize_t n = reading ? vu_fuse_collect(fuse, &reading->request, reading->submitted) : -ENOMEM;
	free(reading);
	return n;
}

ssize_t vu_fuse_read(VU_WHO, const struct vu_fuse_file *file, uint64_t offset, void *data, size_t size)
{
	if (size > VU_FUSE_DATA)
		size = VU_FUSE_DATA;
	struct fuse_read_in in = { .fh = file->fh, .offset = offset, .size = (uint32_t)size, .flags = file->flags };
	VU_REQUEST(request, FUSE_READ, file->nodeid);
	vu_fuse_part(&request, &in, sizeof in);
	request.reply = data;
	request.room = size;
	return vu_fuse_exchange(fuse, &request);
}

int vu_fuse_write(VU_WHO, const struct vu_fuse_file *file, uint64_t offset, const void *data, size_t size)
{
	while (size) {
		size_t part = size < fuse->features.max_write ? size : fuse->features.max_write;
		struct fuse_write_in in = {
			.fh = file->fh, .offset = offset, .size = (uint32_t)part, .flags = file->flags
		};
		struct fuse_write_out out;
		VU_REQUEST(request, FUSE_WRITE, file->nodeid);
		vu_fuse_part(&request, &in, sizeof in);
		vu_fuse_part(&request, data, part);
		vu_fuse_expect(&request, &out, sizeof out);
		ssize_t got = vu_fuse_exchange(fuse, &request);
		if (got < 0)
			return (int)got;
		if (!out.size || out.size > part)
			return -EIO;
		data = (const char *)data + out.size;
		offset += out.size;
		size -= out.size;
	}
	return 0;
}

int vu_fuse_flush(VU_WHO, const struct vu_fuse_file *file)
{
	struct fuse_flush_in in = { .fh = file->fh };
	VU_REQUEST(request, FUSE_FLUSH, file->nodeid);
	if (vu_fuse_lacks(fuse, VU_NO_FLUSH) || file->absent)
		return 0;
	vu_fuse_part(&request, &in, sizeof in);
	int error = (int)vu_fuse_exchange(fuse, &request);
	if (error == -ENOSYS) {
		vu_fuse_note_lack(fuse, VU_NO_FLUSH);
		return 0;
	}
	return error;
}

static int sync_request(VU_WHO, const struct vu_fuse_file *file, bool data_only, uint32_t opcode, unsigned lack)
{
	struct fuse_fsync_in in = { .fh = file->fh, .fsync_flags = data_only ? FUSE_FSYNC_FDATASYNC : 0 };
	VU_REQUEST(request, opcode, file->nodeid);
	if (vu_fuse_lacks(fuse, lack))
		return 0;
	vu_fuse_part(&request, &in, sizeof in);
	int error = (int)vu_fuse_exchange(fuse, &request);
	if (error == -ENOSYS) {
		vu_fuse_note_lack(fuse, lack);
		return 0;
	}
	return error;
}

int vu_fuse_fsync(VU_WHO, const struct vu_fuse_file *file, bool data_only)
{
	return sync_request(fuse, caller, file, data_only, FUSE_FSYNC, VU_NO_FSYNC);
}

int vu_fuse_fsyncdir(VU_WHO, const struct vu_fuse_file *file, bool data_only)
{
	return sync_request(fuse, caller, file, data_only, FUSE_FSYNCDIR, VU_NO_FSYNCDIR);
}

int vu_fuse_fallocate(VU_WHO, const struct vu_fuse_file *file, unsigned mode, uint64_t offset, uint64_t length)
{
	struct fuse_fallocate_in in = { .fh = file->fh, .offset = offset, .length = length, .mode = mode };
	VU_REQUEST(request, FUSE_FALLOCATE, file->nodeid);
	if (vu_fuse_lacks(fuse, VU_NO_FALLOCATE) || fuse->features.minor < 19)
		return -EOPNOTSUPP;
	vu_fuse_part(&request, &in, sizeof in);
	int error = (int)vu_fuse_exchange(fuse, &request);
	if (error == -ENOSYS) {
		vu_fuse_note_lack(fuse, VU_NO_FALLOCATE);
		return -EOPNOTSUPP;
	}
	return error;
}

int64_t vu_fuse_lseek(VU_WHO, const struct vu_fuse_file *file, uint64_t offset, int whence)
{
	struct fuse_lseek_in in = { .fh = file->fh, .offset = offset, .whence = (uint32_t)whence };
	struct fuse_lseek_out out;
	VU_REQUEST(request, FUSE_LSEEK, file->nodeid);
	if (vu_fuse_lacks(fuse, VU_NO_LSEEK) || fuse->features.minor < 24)
		return -EOPNOTSUPP;
	vu_fuse_part(&request, &in, sizeof in);
	vu_fuse_expect(&request, &out, sizeof out);
	ssize_t size = vu_fuse_exchange(fuse, &request);
	if (size == -ENOSYS) {
		vu_fuse_note_lack(fuse, VU_NO_LSEEK);
		return -EOPNOTSUPP;
	}
	if (size < 0)
		return size;
	return out.offset > INT64_MAX ? -EIO : (int64_t)out.offset;
}

static void release(VU_WHO, const struct vu_fuse_file *file, uint32_t opcode)
{
	struct fuse_release_in in = { .fh = file->fh, .flags = file->flags };
	VU_REQUEST(request, opcode, file->nodeid);
	if (file->absent)
		return;
	vu_fuse_part(&request, &in, sizeof in);
	vu_fuse_leave(fuse, &request);
}

void vu_fuse_release(VU_WHO, const struct vu_fuse_file *file)
{
	release(fuse, caller, file, FUSE_RELEASE);
}

void vu_fuse_releasedir(VU_WHO, const struct vu_fuse_file *file)
{
	release(fuse, caller, file, FUSE_RELEASEDIR);
}
