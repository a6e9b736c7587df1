/* A file's data, read from the server into its anchor. The lock is not held. */
#include "wire_inside.h"

static bool is_zero(const char *data, size_t size)
{
	return !size || (!data[0] && !memcmp(data, data + 1, size - 1));
}

static int write_block(int fd, const char *block, size_t size, off_t offset)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pwrite(fd, block + done, size - done, offset + (off_t)done);
		if (n < 0)
			return -errno; /* ENOSPC: the cache is full */
		done += (size_t)n;
	}
	return 0;
}

/* A hole, where the file system of the cache makes such. */
static bool dig(int fd, size_t size, off_t offset)
{
	return !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, (off_t)size);
}

/* Blocks that have been asked for, in their order: the server reads the next while we store one. */
struct ahead {
	struct {
		struct vu_fuse_reading *reading;
		char *block;
	} slots[VU_WIRE_AHEAD];
	unsigned depth; /* how many may be under way */
	uint64_t first, next; /* blocks: to be taken, to be asked for */
};

static void ask_ahead(VU_WIRE_WHO, const struct vu_fuse_file *file, struct ahead *ahead, uint64_t size)
{
	for (; ahead->next - ahead->first < ahead->depth && ahead->next * VU_WIRE_BLOCK < size; ahead->next++) {
		uint64_t offset = ahead->next * VU_WIRE_BLOCK;
		size_t want = size - offset < VU_WIRE_BLOCK ? (size_t)(size - offset) : VU_WIRE_BLOCK;
		unsigned slot = ahead->next % ahead->depth;
		if (!ahead->slots[slot].block && !(ahead->slots[slot].block = malloc(VU_WIRE_BLOCK)))
			return;
		ahead->slots[slot].reading =
			vu_fuse_read_begin(wire->fuse, caller, file, offset, ahead->slots[slot].block, want);
	}
}

/* The block that is next, as much of it as there is. -errno. */
static ssize_t take_block(VU_WIRE_WHO, const struct vu_fuse_file *file, struct ahead *ahead, size_t want, char **block)
{
	if (ahead->first == ahead->next)
		return -ENOMEM;
	uint64_t offset = ahead->first * VU_WIRE_BLOCK;
	unsigned slot = ahead->first++ % ahead->depth;
	*block = ahead->slots[slot].block;
	ssize_t n = vu_fuse_read_end(wire->fuse, ahead->slots[slot].reading);
	size_t have = n > 0 ? (size_t)n : 0;
	/* A short answer is the end of the file (fuse_short_read), but for FOPEN_DIRECT_IO. */
	while (n > 0 && have < want && (file->open_flags & FOPEN_DIRECT_IO)) {
		n = vu_fuse_read(wire->fuse, caller, file, offset + have, *block + have, want - have);
		have += n > 0 ? (size_t)n : 0;
	}
	return n < 0 ? n : (ssize_t)have;
}

static void end_ahead(struct vu_wire *wire, struct ahead *ahead)
{
	for (; ahead->first < ahead->next; ahead->first++)
		vu_fuse_read_end(wire->fuse, ahead->slots[ahead->first % ahead->depth].reading);
	for (unsigned i = 0; i < ahead->depth; i++)
		free(ahead->slots[i].block);
}

/* The anchor may be in use: it never shows less than before. */
int vu_wire_fetch(VU_WIRE_WHO, const struct vu_fuse_file *file, int fd, uint64_t size, uint64_t *sums, uint64_t *got)
{
	struct ahead ahead = { .depth = vu_fuse_features(wire->fuse)->flags & FUSE_ASYNC_READ ? VU_WIRE_AHEAD : 1 };
	uint64_t offset = 0;
	int error = 0;
	struct stat st;
	/* What had data before may have had some where there are zeros now. */
	bool empty = !fstat(fd, &st) && !st.st_blocks;
	while (!error && offset < size) {
		size_t want = size - offset < VU_WIRE_BLOCK ? (size_t)(size - offset) : VU_WIRE_BLOCK;
		char *block;
		ask_ahead(wire, caller, file, &ahead, size);
		ssize_t have = take_block(wire, caller, file, &ahead, want, &block);
		if (have < 0) {
			error = (int)have;
			break;
		}
		sums[offset / VU_WIRE_BLOCK] = vu_wire_sum(wire, block, (size_t)have);
		if (have && !(is_zero(block, (size_t)have) && (empty || dig(fd, (size_t)have, (off_t)offset))))
			error = write_block(fd, block, (size_t)have, (off_t)offset);
		offset += (uint64_t)have;
		if ((size_t)have < want)
			break;
	}
	end_ahead(wire, &ahead);
	*got = offset;
	return error;
}

int vu_wire_fetch_unsized(VU_WIRE_WHO, const struct vu_fuse_file *file, int fd, uint64_t *got)
{
	char *block = malloc(VU_WIRE_BLOCK);
	int error = block ? 0 : -ENOMEM;
	*got = 0;
	while (!error) {
		ssize_t n = vu_fuse_read(wire->fuse, caller, file, *got, block, VU_WIRE_BLOCK);
		if (n <= 0) {
			error = (int)n;
			break;
		}
		error = write_block(fd, block, (size_t)n, (off_t)*got);
		*got += (uint64_t)n;
		if (wire->options.largest && *got > wire->options.largest)
			error = -EFBIG;
	}
	free(block);
	return error;
}
