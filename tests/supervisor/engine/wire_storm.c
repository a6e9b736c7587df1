/*
 * A wire mount over a server that says anything: wire_storm SEED COUNT CACHE. The server is a thread that answers each request
 * as the protocol wants it, but with nodes, types, sizes, names and errors by chance, directories that lie in themselves and
 * notices in between. Four threads use the mount meanwhile. What must hold: nothing is read or written that is not ours
 * (the sanitizers), nobody waits for ever, no anchor lies outside of the cache, and at the end the cache is empty.
 */
#include "wire_inside.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static uint64_t seeds;
static unsigned count;
static struct vu_wire *wire;
static int tree;

struct dice {
	uint64_t state;
};

static uint64_t draw(struct dice *dice, uint64_t below)
{
	dice->state ^= dice->state << 13;
	dice->state ^= dice->state >> 7;
	dice->state ^= dice->state << 17;
	return (dice->state >> 11) % below;
}

static const char *name_of(uint64_t which, char out[32])
{
	static const char *const names[] = { "a", "b", "c", "d", "..", ".", "a/b", "" };
	return strcpy(out, names[which]);
}

static struct fuse_attr attr_of(struct dice *dice, uint64_t node)
{
	static const uint32_t types[] = { S_IFDIR, S_IFDIR, S_IFREG, S_IFREG, S_IFLNK, S_IFIFO, S_IFCHR, 0 };
	uint64_t type = draw(dice, 40) ? node % 6 : draw(dice, 8);
	return (struct fuse_attr){ .ino = node,
				   .size = draw(dice, 30) ? draw(dice, 300000) : UINT64_MAX >> draw(dice, 3),
				   .mtime = draw(dice, 3),
				   .mtimensec = (uint32_t)draw(dice, UINT32_MAX),
				   .mode = types[type] | (uint32_t)draw(dice, 010000),
				   .nlink = 1,
				   .uid = geteuid(),
				   .gid = getegid() };
}

static struct fuse_entry_out entry_of(struct dice *dice)
{
	uint64_t node = draw(dice, 50) ? 2 + draw(dice, 20) : draw(dice, 2);
	return (struct fuse_entry_out){ .nodeid = node,
					.generation = !draw(dice, 20),
					.entry_valid = draw(dice, 2),
					.attr_valid = draw(dice, 2),
					.attr = attr_of(dice, node) };
}

static size_t list(struct dice *dice, char *out, bool plus)
{
	char *at = out, name[32];
	for (uint64_t left = draw(dice, 6); left; left--) {
		struct fuse_entry_out entry = entry_of(dice);
		name_of(draw(dice, 30) ? draw(dice, 6) : draw(dice, 8), name);
		struct fuse_dirent head = {
			.ino = 1, .off = left, .namelen = (uint32_t)strlen(name), .type = (uint32_t)draw(dice, 15)
		};
		if (plus)
			at = (char *)memcpy(at, &entry, sizeof entry) + sizeof entry;
		memcpy(at, &head, FUSE_NAME_OFFSET);
		memset(at + FUSE_NAME_OFFSET, 0, 8);
		memcpy(at + FUSE_NAME_OFFSET, name, strlen(name));
		at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + strlen(name));
	}
	return draw(dice, 3) ? (size_t)(at - out) : 0;
}

/* What follows the header of a reply; a negative number is the error. */
static ssize_t answer(struct dice *dice, const struct fuse_in_header *in, const char *arguments, char *out)
{
	struct fuse_entry_out entry = entry_of(dice);
	struct fuse_attr_out attr = { .attr_valid = draw(dice, 2),
				      .attr = attr_of(dice, in->nodeid == 1 ? 6 : in->nodeid) };
	struct fuse_open_out open = { .fh = draw(dice, 5), .open_flags = (uint32_t)draw(dice, 4) };
	struct fuse_write_out written = {};
	if (!draw(dice, 12))
		return -(ssize_t)(1 + draw(dice, 40));
#define SAY(what) (memcpy(out, &(what), sizeof(what)), (ssize_t)sizeof(what))
	switch (in->opcode) {
	case FUSE_LOOKUP:
	case FUSE_MKDIR:
	case FUSE_MKNOD:
	case FUSE_SYMLINK:
	case FUSE_LINK: return SAY(entry);
	case FUSE_CREATE: memcpy(out + sizeof entry, &open, sizeof open); return SAY(entry) + (ssize_t)sizeof open;
	case FUSE_GETATTR:
	case FUSE_SETATTR: return SAY(attr);
	case FUSE_OPEN:
	case FUSE_OPENDIR: return SAY(open);
	case FUSE_READLINK: return strlen(strcpy(out, "../../etc/passwd"));
	case FUSE_READDIR:
	case FUSE_READDIRPLUS: return (ssize_t)list(dice, out, in->opcode == FUSE_READDIRPLUS);
	case FUSE_READ: return (ssize_t)draw(dice, ((const struct fuse_read_in *)arguments)->size + 1);
	case FUSE_WRITE: written.size = ((const struct fuse_write_in *)arguments)->size; return SAY(written);
	default: return draw(dice, 30) ? 0 : 7;
	}
}

static void notify(struct dice *dice, int fd)
{
	struct {
		struct fuse_out_header header;
		struct fuse_notify_inval_entry_out out;
		char name[2];
	} entry = { .header = { .len = sizeof(struct fuse_out_header) + sizeof entry.out + 2,
				.error = FUSE_NOTIFY_INVAL_ENTRY },
		    .out = { .parent = draw(dice, 10), .namelen = 1 },
		    .name = "a" };
	struct {
		struct fuse_out_header header;
		struct fuse_notify_inval_inode_out out;
	} inode = { .header = { .len = sizeof inode, .error = FUSE_NOTIFY_INVAL_INODE },
		    .out = { .ino = draw(dice, 10) } };
	if (draw(dice, 2))
		send(fd, &entry, entry.header.len, MSG_DONTWAIT);
	else
		send(fd, &inode, sizeof inode, MSG_DONTWAIT);
}

static void *serve(void *argument)
{
	int fd = (int)(intptr_t)argument;
	struct dice dice = { seeds * 77 + 1 };
	static _Alignas(8) char request[VU_FUSE_MESSAGE], reply[VU_FUSE_MESSAGE + 64];
	bool begun = false;
	for (ssize_t n; (n = recv(fd, request, sizeof request, 0)) > 0;) {
		struct fuse_in_header in;
		struct fuse_out_header *out = (void *)reply;
		memcpy(&in, request, sizeof in);
		if (in.opcode == FUSE_FORGET || in.opcode == FUSE_BATCH_FORGET || in.opcode == FUSE_INTERRUPT)
			continue;
		*out = (struct fuse_out_header){ .unique = in.unique };
		ssize_t size;
		if (!begun) {
			struct fuse_init_out init = { .major = 7,
						      .minor = 31,
						      .max_write = 65536,
						      .flags = (uint32_t)(draw(&dice, 2) ? FUSE_DO_READDIRPLUS : 0) };
			struct fuse_attr_out attr = { .attr.mode = S_IFDIR | 0755 };
			begun = in.opcode == FUSE_GETATTR;
			size = begun ? sizeof attr : sizeof init;
			memcpy(out + 1, begun ? (void *)&attr : (void *)&init, (size_t)size);
		} else {
			size = answer(&dice, &in, request + sizeof in, (char *)(out + 1));
		}
		out->error = size < 0 ? (int32_t)size : 0;
		out->len = (uint32_t)(sizeof *out + (size < 0 ? 0 : (size_t)size));
		if (begun && !draw(&dice, 10))
			notify(&dice, fd);
		if (begun && !draw(&dice, 2000))
			continue; /* never answered */
		send(fd, reply, out->len, MSG_NOSIGNAL);
	}
	return NULL;
}

static void path_by_chance(struct dice *dice, char out[64])
{
	static const char *const names[] = { "a", "b", "c", "d" };
	*out = 0;
	for (uint64_t left = draw(dice, 5); left; left--) {
		strcat(out, names[draw(dice, 4)]);
		if (left > 1)
			strcat(out, "/");
	}
}

static void use_file(struct dice *dice, const char *path, const struct vu_fuse_caller *caller)
{
	static const int flags[] = { O_RDONLY, O_RDWR, O_WRONLY | O_TRUNC };
	struct vu_wire_node *held = NULL;
	int how = flags[draw(dice, 3)];
	int error = draw(dice, 2) ? vu_wire_open(wire, caller, path, (unsigned)how, &held)
				  : vu_wire_create(wire, caller, path, (unsigned)(how | O_CREAT), 0644, &held);
	if (error < 0)
		return;
	int fd = openat(tree, *path ? path : ".", how | O_NOFOLLOW | O_NONBLOCK);
	vu_wire_opened(wire, held);
	if (fd < 0)
		return;
	/* It may be a FIFO by now. */
	if (how != O_RDONLY && pwrite(fd, "data", 4, (off_t)draw(dice, 200000)) < 0 && errno != ESPIPE)
		abort();
	if (draw(dice, 2))
		vu_wire_sync(wire, caller, path, false);
	close(fd);
}

/* It is another mount's root for a while. */
static void use_root(struct dice *dice, const char *path, const struct vu_fuse_caller *caller)
{
	char below[PATH_MAX];
	struct vu_wire_node *node;
	int fd = openat(tree, *path ? path : ".", O_PATH | O_NOFOLLOW);
	if (fd >= 0 && !vu_wire_hold(wire, path, fd, &node)) {
		for (uint64_t left = draw(dice, 4); left; left--)
			if (!vu_wire_below(wire, node, draw(dice, 2) ? "a" : "", below))
				vu_wire_prepare(wire, caller, below, VU_WIRE_LIST);
		vu_wire_let_go(wire, node);
	}
	if (fd >= 0)
		close(fd);
}

static void evict(struct dice *dice)
{
	vu_wire_lock(wire);
	vu_wire_evict(wire, draw(dice, 1000000));
	vu_wire_unlock(wire);
}

static void *use(void *argument)
{
	struct dice dice = { seeds * 1000003 + (uintptr_t)argument };
	const struct vu_fuse_caller self = { .uid = geteuid() }, *caller = &self;
	char path[64], other[64], value[256];
	struct vu_fuse_attr set = {};
	for (unsigned i = 0; i < count; i++) {
		path_by_chance(&dice, path);
		path_by_chance(&dice, other);
		set.size = draw(&dice, 300000);
		set.mode = S_IFREG | (mode_t)draw(&dice, 010000);
		switch (draw(&dice, 16)) {
		case 0: vu_wire_mkdir(wire, caller, path, 0755); break;
		case 1: vu_wire_mknod(wire, caller, path, S_IFIFO | 0644, 0); break;
		case 2: vu_wire_symlink(wire, caller, path, "x"); break;
		case 3: vu_wire_link(wire, caller, path, other); break;
		case 4: vu_wire_remove(wire, caller, path, draw(&dice, 2)); break;
		case 5: vu_wire_rename(wire, caller, path, other, (unsigned)draw(&dice, 3)); break;
		case 6: vu_wire_setattr(wire, caller, path, FATTR_SIZE, &set); break;
		case 7: vu_wire_setattr(wire, caller, path, FATTR_MODE, &set); break;
		case 8: vu_wire_getxattr(wire, caller, path, "user.x", value, sizeof value); break;
		case 9: vu_wire_prepare(wire, caller, path, VU_WIRE_LIST); break;
		case 10: vu_wire_prepare(wire, caller, path, VU_WIRE_CACHED); break;
		case 11:
		case 12: use_file(&dice, path, caller); break;
		case 13: use_root(&dice, path, caller); break;
		case 14: evict(&dice); break;
		default: vu_wire_prepare(wire, caller, path, VU_WIRE_PARENT); break;
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t server, users[4];
	int pair[2];
	sigset_t all;
	if (argc != 4 || vu_fuse_pair(pair) < 0)
		return 2;
	sigfillset(&all); /* as in the engine: that of a lease, where a name is another file's by now */
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	seeds = strtoull(argv[1], NULL, 0) + 1;
	count = (unsigned)atoi(argv[2]);
	int cache = open(argv[3], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct vu_wire_options options = { .deadline = 300000000, .largest = 1 << 20, .gives_owners = !geteuid() };
	const struct vu_fuse_caller self = { .uid = geteuid() };
	pthread_create(&server, NULL, serve, (void *)(intptr_t)pair[1]);
	int error = vu_wire_mount(pair[0], dup(cache), &options, &self, &wire, &tree);
	if (error < 0) {
		fprintf(stderr, "mount: %s\n", strerror(-error));
		return 3;
	}
	for (uintptr_t i = 0; i < 4; i++)
		pthread_create(&users[i], NULL, use, (void *)(i + 1));
	for (int i = 0; i < 4; i++)
		pthread_join(users[i], NULL);
	printf("lost %u\n", vu_wire_unmount(wire, NULL));
	pthread_join(server, NULL);
	close(pair[1]);
	DIR *left = fdopendir(cache);
	for (struct dirent *entry; (entry = readdir(left));)
		if (*entry->d_name != '.') {
			fprintf(stderr, "left in the cache: %s\n", entry->d_name);
			return 4;
		}
	closedir(left);
	return 0;
}
