/*
 * What a hostile FUSE server may send, through the decoder. As libFuzzer wants it (clang -fsanitize=fuzzer,address), and with
 * a driver that needs no clang: fuse_fuzz SEED COUNT mutates whole messages of each kind, the same ones for the same seed.
 *
 * The invariant: whatever comes, each function says 0 or more, or an error; reads only what it was given (ASan: the input
 * lies in memory of exactly its size); and what it has said yes to is what fuse.h promises.
 */
#include "fuse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROMISE(what)                                                                                                  \
	do {                                                                                                           \
		if (!(what)) {                                                                                         \
			fprintf(stderr, "broken: %s\n", #what);                                                        \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static void check_attr(const struct vu_fuse_attr *attr)
{
	PROMISE(attr->size <= INT64_MAX);
	PROMISE(attr->mtime.tv_nsec >= 0 && attr->mtime.tv_nsec < 1000000000);
	PROMISE(S_ISREG(attr->mode) || S_ISDIR(attr->mode) || S_ISLNK(attr->mode) || S_ISFIFO(attr->mode) ||
		S_ISSOCK(attr->mode) || S_ISCHR(attr->mode) || S_ISBLK(attr->mode));
}

static void check_name(const char *name)
{
	PROMISE(vu_fuse_name_is_good(name, strlen(name)));
	PROMISE(strlen(name) <= NAME_MAX && !strchr(name, '/'));
}

static void check_dirents(const char *data, size_t size, bool plus)
{
	struct vu_fuse_dirent entry;
	size_t at = 0, before = 0;
	while (vu_fuse_decode_dirent(data, size, plus, 5, &at, &entry) > 0) {
		PROMISE(at > before && at <= size);
		before = at;
		check_name(entry.name);
		if (entry.known) {
			PROMISE(entry.entry.nodeid > FUSE_ROOT_ID && strcmp(entry.name, ".") &&
				strcmp(entry.name, ".."));
			check_attr(&entry.entry.attr);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct fuse_out_header header;
	struct vu_fuse_features features;
	struct vu_fuse_entry entry;
	struct vu_fuse_attr attr;
	struct vu_fuse_notice notice;
	int64_t until;
	if (!size)
		return 0;
	int kind = *input++ % 8;
	char *data = malloc(--size + 1), *text; /* one more for a link's NUL, which is the only one that may write */
	memcpy(data, input, size);
	text = data;
	if (kind != 6)
		data = realloc(memcpy(malloc(size ? size : 1), data, size), size ? size : 1), free(text);
	switch (kind) {
	case 0:
		if (!vu_fuse_decode_header(data, size, &header))
			PROMISE(header.len == size && header.error <= FUSE_NOTIFY_CODE_MAX && header.error > -512);
		break;
	case 1:
		if (!vu_fuse_decode_init(data, size, &features))
			PROMISE(features.max_write >= 4096 && features.max_write <= VU_FUSE_DATA &&
				features.minor >= 12);
		break;
	case 2:
		if (!vu_fuse_decode_entry(data, size, 5, &entry) && entry.nodeid) {
			PROMISE(entry.nodeid != FUSE_ROOT_ID && entry.entry_until >= 0 && entry.attr_until >= 0);
			check_attr(&entry.attr);
		}
		break;
	case 3:
		if (!vu_fuse_decode_attr_out(data, size, 5, &attr, &until)) {
			check_attr(&attr);
			PROMISE(until >= 0);
		}
		break;
	case 4: check_dirents(data, size, false); break;
	case 5: check_dirents(data, size, true); break;
	case 6: {
		int length = vu_fuse_decode_link(data, size);
		PROMISE(length == -EIO || (length > 0 && length < PATH_MAX && strlen(data) == (size_t)length));
		break;
	}
	case 7:
		vu_fuse_decode_names(data, size);
		if (size >= 4) {
			int32_t code;
			memcpy(&code, data, sizeof code);
			if (!vu_fuse_decode_notice(code % 8, data + 4, size - 4, &notice) &&
			    notice.kind == VU_FUSE_INVAL_ENTRY)
				check_name(notice.name);
		}
		break;
	}
	free(data);
	return 0;
}

#ifndef LIBFUZZER
static uint64_t state;

static uint64_t draw(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

/* A sound message of a kind, from which the mutations start. */
static size_t seed_of(int kind, uint8_t *out)
{
	uint8_t *at = out;
	struct fuse_entry_out entry = { .nodeid = 7, .entry_valid = 1, .attr.mode = S_IFREG | 0644, .attr.size = 5 };
	struct fuse_attr_out attr = { .attr.mode = S_IFDIR | 0755 };
	struct fuse_out_header header = { .len = 16, .unique = 4 };
	struct fuse_init_out init = { .major = 7, .minor = 31, .max_write = 131072 };
	struct fuse_notify_inval_entry_out notice = { .parent = 1, .namelen = 4 };
	int32_t code = FUSE_NOTIFY_INVAL_ENTRY;
	*at++ = (uint8_t)kind;
#define PUT(what, size) (memcpy(at, (what), (size)), at += (size))
	switch (kind) {
	case 0: PUT(&header, sizeof header); break;
	case 1: PUT(&init, sizeof init); break;
	case 2: PUT(&entry, sizeof entry); break;
	case 3: PUT(&attr, sizeof attr); break;
	case 4:
	case 5:
		for (unsigned i = 1; i < 9; i++) {
			struct fuse_dirent head = { .ino = i, .off = i, .namelen = i * 3, .type = i };
			char name[32] = "abcdefghijklmnopqrstuvwxyz";
			if (kind == 5)
				PUT(&entry, sizeof entry);
			PUT(&head, FUSE_NAME_OFFSET);
			PUT(name, (i * 3 + 7) & ~7u);
		}
		break;
	case 6: PUT("../some/where", 13); break;
	case 7:
		PUT(&code, sizeof code);
		PUT(&notice, sizeof notice);
		PUT("name", 5);
		break;
	}
	return (size_t)(at - out);
}

static size_t mutate(uint8_t *data, size_t size, size_t room)
{
	static const uint64_t odd[] = { 0,          1,         255,        256, 0x7fffffff, 0x80000000,
					0xffffffff, INT64_MAX, UINT64_MAX, '/', '.' };
	for (int changes = 1 + (int)(draw() % 4); changes; changes--) {
		size_t at = 1 + draw() % size;
		switch (draw() % 5) {
		case 0:
			if (at < size)
				data[at] ^= (uint8_t)(1 << draw() % 8);
			break;
		case 1:
			if (at < size)
				data[at] = (uint8_t)draw();
			break;
		case 2: /* a number that lies on a border */
			at &= ~(size_t)3;
			if (at + 9 <= size)
				memcpy(data + at + 1, &odd[draw() % (sizeof odd / sizeof *odd)], draw() & 1 ? 4 : 8);
			break;
		case 3: size = at; break;
		case 4:
			for (size_t grow = draw() % 64; grow && size < room; grow--)
				data[size++] = (uint8_t)draw();
			break;
		}
	}
	return size;
}

int main(int argc, char **argv)
{
	static uint8_t data[8192];
	if (argc != 3)
		return 2;
	state = strtoull(argv[1], NULL, 0) * 2654435761u + 88172645463325252u;
	for (long left = atol(argv[2]); left > 0; left--) {
		size_t size = seed_of((int)(draw() % 8), data);
		LLVMFuzzerTestOneInput(data, size);
		LLVMFuzzerTestOneInput(data, mutate(data, size, sizeof data));
	}
	return 0;
}
#endif
