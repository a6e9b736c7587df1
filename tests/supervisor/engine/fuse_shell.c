/*
 * A shell for the FUSE client: one request a line, one JSON object as the answer. The tests are the person at it.
 *
 *	fuse_shell DEADLINE_MS FD                 the socket FD leads to the server
 *	fuse_shell DEADLINE_MS -- SERVER ARG…     start it, with @ replaced by /dev/fd/N
 */
#include "fuse.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static struct vu_fuse *fuse;
static struct vu_fuse_file files[64];
static int64_t gone_at;
static atomic_int notices[3];
static char last_name[NAME_MAX + 1], last_line[256];
static char data[2 * 1024 * 1024];

static bool gone(void *unused)
{
	(void)unused;
	return gone_at && vu_fuse_now() >= gone_at;
}
static struct vu_fuse_caller self = { .gone = gone };

static void hear(void *unused, const struct vu_fuse_notice *notice)
{
	(void)unused;
	notices[notice->kind]++;
	strcpy(last_name, notice->name);
}

static void say(void *unused, const char *line)
{
	(void)unused;
	snprintf(last_line, sizeof last_line, "%s", line);
}

static void print_text(const char *text, size_t size)
{
	putchar('"');
	for (size_t i = 0; i < size; i++)
		printf("\\u%04x", (unsigned char)text[i]);
	putchar('"');
}

static void print_attr(const struct vu_fuse_attr *a)
{
	printf(", \"ino\": %ju, \"mode\": %u, \"size\": %ju, \"nlink\": %u, \"uid\": %u, \"gid\": %u, \"mtime\": %jd, "
	       "\"nsec\": %ld, \"rdev\": %ju",
	       a->ino, a->mode, a->size, a->nlink, a->uid, a->gid, (intmax_t)a->mtime.tv_sec, a->mtime.tv_nsec,
	       (uintmax_t)a->rdev);
}

static void print_entry(const struct vu_fuse_entry *e)
{
	printf(", \"node\": %ju, \"entry_left\": %f, \"attr_left\": %f", e->nodeid,
	       e->entry_until ? (double)(e->entry_until - vu_fuse_now()) / 1e9 : 0.0,
	       e->attr_until ? (double)(e->attr_until - vu_fuse_now()) / 1e9 : 0.0);
	if (e->nodeid)
		print_attr(&e->attr);
}

static int list(struct vu_fuse_file *file, bool plus)
{
	static char part[VU_FUSE_DATA];
	struct vu_fuse_dirent entry;
	uint64_t offset = 0;
	const char *comma = "";
	int error = 0;
	printf(", \"names\": [");
	for (ssize_t size; !error && (size = vu_fuse_readdir(fuse, &self, file, offset, plus, part));) {
		if (size < 0) {
			error = (int)size;
			break;
		}
		int more;
		for (size_t at = 0;
		     (more = vu_fuse_decode_dirent(part, (size_t)size, plus, vu_fuse_now(), &at, &entry)) > 0;) {
			printf("%s[", comma);
			print_text(entry.name, strlen(entry.name));
			printf(", %u, %s]", entry.type, entry.known ? "true" : "false");
			comma = ", ";
			offset = entry.next;
		}
		error = more;
	}
	printf("]");
	return error;
}

static atomic_int storm_error;
static void *storm(void *text)
{
	unsigned seed = (unsigned)(uintptr_t)text;
	for (unsigned i = 0; i < 400; i++) {
		struct vu_fuse_entry entry;
		char name[32];
		unsigned which = (seed * 7919 + i * 31) % 50;
		snprintf(name, sizeof name, "f%u", which);
		int error = vu_fuse_lookup(fuse, &self, 1, name, &entry);
		struct vu_fuse_file file;
		if (!error)
			error = vu_fuse_open(fuse, &self, entry.nodeid, O_RDONLY, &file);
		if (!error) {
			char *room = malloc(VU_FUSE_DATA);
			ssize_t n = vu_fuse_read(fuse, &self, &file, 0, room, VU_FUSE_DATA);
			if (n != (ssize_t)(which * 1000))
				error = n < 0 ? (int)n : -EBADMSG;
			for (ssize_t k = 0; k < n; k++)
				if (room[k] != (char)which)
					error = -EBADMSG;
			free(room);
			vu_fuse_release(fuse, &self, &file);
			vu_fuse_forget(fuse, &(struct vu_fuse_forgotten){ entry.nodeid, 1 }, 1);
		}
		if (error)
			storm_error = error;
	}
	return NULL;
}

static int run_storm(void)
{
	pthread_t threads[8];
	for (uintptr_t i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, storm, (void *)(i + 1));
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	return storm_error;
}

static void bench(uint64_t node, const char *name)
{
	struct vu_fuse_entry entry;
	struct vu_fuse_attr attr;
	int64_t until, start = vu_fuse_now();
	for (int i = 0; i < 5000; i++)
		vu_fuse_getattr(fuse, &self, 1, NULL, &attr, &until);
	int64_t middle = vu_fuse_now();
	for (int i = 0; i < 5000; i++)
		vu_fuse_lookup(fuse, &self, node, name, &entry);
	printf(", \"getattr_us\": %.2f, \"lookup_us\": %.2f", (double)(middle - start) / 5e6,
	       (double)(vu_fuse_now() - middle) / 5e6);
}

static size_t unhex(const char *hex, char *out)
{
	size_t n = 0;
	for (; hex[0] && hex[1]; hex += 2) {
		unsigned byte;
		sscanf(hex, "%2x", &byte);
		out[n++] = (char)byte;
	}
	return n;
}

#define IS(word) !strcmp(w[0], word)
static int run(char **w)
{
	struct vu_fuse_entry entry;
	struct vu_fuse_attr attr = {};
	int64_t until;
	uint64_t n[7] = {};
	for (int i = 1; i < 7 && w[i]; i++)
		n[i] = strtoull(w[i], NULL, 0);
	struct vu_fuse_file *file = &files[n[1] % 64];
	int error;
	ssize_t size;
	if (IS("begin"))
		return vu_fuse_begin(fuse, &self);
	if (IS("storm"))
		return run_storm();
	if (IS("bench"))
		return bench(n[1], w[2]), 0;
	if (IS("gone"))
		return gone_at = n[1] ? vu_fuse_now() + (int64_t)n[1] * 1000000 : 0, 0;
	if (IS("hear")) {
		while (vu_fuse_hear(fuse)) {
		}
		printf(", \"notices\": [%d, %d, %d], \"name\": \"%s\", \"line\": \"%s\"", notices[0], notices[1],
		       notices[2], last_name, last_line);
		return 0;
	}
	if (IS("flights")) {
		struct vu_fuse_flight flights[4];
		unsigned count = vu_fuse_flights(fuse, flights, 4);
		printf(", \"count\": %u, \"opcode\": %u", count, count ? flights[0].opcode : 0);
		return 0;
	}
	if (IS("getattr") || IS("setattr") || IS("truncate") || IS("times")) {
		attr.mode = (mode_t)n[2];
		attr.size = n[2];
		attr.mtime.tv_sec = attr.atime.tv_sec = (time_t)n[2];
		attr.mtime.tv_nsec = (long)n[3];
		if (IS("getattr"))
			error = vu_fuse_getattr(fuse, &self, n[1], NULL, &attr, &until);
		else
			error = vu_fuse_setattr(fuse, &self, n[1], NULL,
						IS("setattr")    ? FATTR_MODE
						: IS("truncate") ? FATTR_SIZE
								 : FATTR_MTIME | FATTR_ATIME,
						&attr, &attr, &until);
		if (!error)
			print_attr(&attr);
		return error;
	}
	if (IS("lookup") || IS("mkdir") || IS("mknod") || IS("symlink") || IS("link") || IS("create")) {
		entry = (struct vu_fuse_entry){};
		error = IS("lookup")    ? vu_fuse_lookup(fuse, &self, n[1], w[2], &entry)
			: IS("mkdir")   ? vu_fuse_mkdir(fuse, &self, n[1], w[2], (mode_t)n[3], &entry)
			: IS("mknod")   ? vu_fuse_mknod(fuse, &self, n[1], w[2], (mode_t)n[3], n[4], &entry)
			: IS("symlink") ? vu_fuse_symlink(fuse, &self, n[1], w[2], w[3], &entry)
			: IS("link")    ? vu_fuse_link(fuse, &self, n[3], n[1], w[2], &entry)
					: vu_fuse_create(fuse, &self, n[1], w[2], (unsigned)n[3], (mode_t)n[4], &entry,
							 &files[n[5]]);
		print_entry(&entry);
		return error;
	}
	if (IS("unlink"))
		return vu_fuse_unlink(fuse, &self, n[1], w[2]);
	if (IS("rmdir"))
		return vu_fuse_rmdir(fuse, &self, n[1], w[2]);
	if (IS("rename"))
		return vu_fuse_rename(fuse, &self, n[1], w[2], n[3], w[4], (unsigned)n[5]);
	if (IS("forget"))
		return vu_fuse_forget(fuse, &(struct vu_fuse_forgotten){ n[1], n[2] }, 1), 0;
	if (IS("open"))
		return vu_fuse_open(fuse, &self, n[2], (unsigned)n[3], file);
	if (IS("opendir"))
		return vu_fuse_opendir(fuse, &self, n[2], file);
	if (IS("list"))
		return list(file, n[2]);
	if (IS("release"))
		return vu_fuse_release(fuse, &self, file), 0;
	if (IS("releasedir"))
		return vu_fuse_releasedir(fuse, &self, file), 0;
	if (IS("flush"))
		return vu_fuse_flush(fuse, &self, file);
	if (IS("fsync"))
		return vu_fuse_fsync(fuse, &self, file, n[2]);
	if (IS("fsyncdir"))
		return vu_fuse_fsyncdir(fuse, &self, file, n[2]);
	if (IS("fallocate"))
		return vu_fuse_fallocate(fuse, &self, file, (unsigned)n[2], n[3], n[4]);
	if (IS("access"))
		return vu_fuse_access(fuse, &self, n[1], (unsigned)n[2]);
	if (IS("write"))
		return vu_fuse_write(fuse, &self, file, n[2], data, unhex(w[3], data));
	if (IS("fill")) {
		memset(data, (int)n[4], n[3]);
		return vu_fuse_write(fuse, &self, file, n[2], data, n[3]);
	}
	if (IS("setxattr"))
		return vu_fuse_setxattr(fuse, &self, n[1], w[2], data, unhex(w[3], data), (unsigned)n[4]);
	if (IS("removexattr"))
		return vu_fuse_removexattr(fuse, &self, n[1], w[2]);
	if (IS("lseek")) {
		int64_t offset = vu_fuse_lseek(fuse, &self, file, n[2], (int)n[3]);
		printf(", \"offset\": %jd", (intmax_t)offset);
		return offset < 0 ? (int)offset : 0;
	}
	if (IS("statfs")) {
		struct fuse_kstatfs st = {};
		error = vu_fuse_statfs(fuse, &self, n[1], &st);
		printf(", \"blocks\": %ju, \"bsize\": %u, \"namelen\": %u", (uintmax_t)st.blocks, st.bsize, st.namelen);
		return error;
	}
	size = IS("read")        ? vu_fuse_read(fuse, &self, file, n[2], data, n[3])
	       : IS("readlink")  ? vu_fuse_readlink(fuse, &self, n[1], data)
	       : IS("getxattr")  ? vu_fuse_getxattr(fuse, &self, n[1], w[2], data, n[3])
	       : IS("listxattr") ? vu_fuse_listxattr(fuse, &self, n[1], data, n[2])
				 : -EDOM;
	if (size < 0)
		return (int)size;
	bool asked = IS("getxattr") ? !n[3] : IS("listxattr") && !n[2];
	printf(", \"size\": %zd, \"data\": ", size);
	print_text(data, asked ? 0 : (size_t)size);
	return 0;
}

static pid_t server;

static int start(char **command)
{
	int pair[2];
	char path[32];
	if (vu_fuse_pair(pair) < 0)
		exit(3);
	if (!(server = fork())) {
		int end = dup(pair[1]);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		snprintf(path, sizeof path, "/dev/fd/%d", end);
		for (char **word = command; *word; word++)
			if (!strcmp(*word, "@"))
				*word = path;
		dup2(2, 1);
		execvp(*command, command);
		_exit(127);
	}
	close(pair[1]);
	return pair[0];
}

int main(int argc, char **argv)
{
	static char line[1 << 20];
	if (argc < 3)
		return 2;
	struct vu_fuse_options options = { .deadline = atoll(argv[1]) * 1000000, .notice = hear, .log = say };
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	self.pid = getpid();
	self.uid = getuid();
	self.gid = getgid();
	fuse = vu_fuse_new(!strcmp(argv[2], "--") ? start(argv + 3) : atoi(argv[2]), &options);
	while (fuse && fgets(line, sizeof line, stdin)) {
		char *words[8] = {};
		int count = 0;
		for (char *word = strtok(line, " \n"); word && count < 7; word = strtok(NULL, " \n"))
			words[count++] = word;
		if (!count)
			continue;
		if (!strcmp(words[0], "kill")) {
			kill(server, SIGKILL);
			waitpid(server, NULL, 0);
			server = 0;
			puts("{\"errno\": 0}");
		} else {
			printf("{\"request\": \"%s\"", words[0]);
			int64_t since = vu_fuse_now();
			int error = run(words);
			printf(", \"errno\": %d, \"us\": %.1f}\n", error < 0 ? -error : 0,
			       (double)(vu_fuse_now() - since) / 1e3);
		}
		fflush(stdout);
	}
	vu_fuse_free(fuse, true);
	if (server > 0)
		waitpid(server, NULL, 0);
	return 0;
}
