/* open, creat, openat and openat2 on every path with every flag that matters, and what comes out. */
#include "probe.h"

static const struct {
	const char *name;
	int flags;
} sets[] = {
	{ "RDONLY", O_RDONLY },
	{ "WRONLY", O_WRONLY },
	{ "RDWR", O_RDWR },
	{ "3", O_ACCMODE },
	{ "CLOEXEC", O_CLOEXEC },
	{ "DIRECTORY", O_DIRECTORY },
	{ "DIRECTORY|WRONLY", O_DIRECTORY | O_WRONLY },
	{ "NOFOLLOW", O_NOFOLLOW },
	{ "NOFOLLOW|DIRECTORY", O_NOFOLLOW | O_DIRECTORY },
	{ "PATH", O_PATH },
	{ "PATH|NOFOLLOW", O_PATH | O_NOFOLLOW },
	{ "PATH|DIRECTORY", O_PATH | O_DIRECTORY },
	{ "PATH|CREAT|WRONLY", O_PATH | O_CREAT | O_WRONLY },
	{ "PATH|NOFOLLOW|CLOEXEC", O_PATH | O_NOFOLLOW | O_CLOEXEC },
	{ "APPEND|WRONLY", O_APPEND | O_WRONLY },
	{ "TRUNC", O_TRUNC },
	{ "TRUNC|WRONLY", O_TRUNC | O_WRONLY },
	{ "TRUNC|APPEND|RDWR", O_TRUNC | O_APPEND | O_RDWR },
	{ "CREAT", O_CREAT },
	{ "CREAT|WRONLY", O_CREAT | O_WRONLY },
	{ "CREAT|EXCL", O_CREAT | O_EXCL | O_WRONLY },
	{ "CREAT|TRUNC", O_CREAT | O_TRUNC | O_WRONLY },
	{ "CREAT|NOFOLLOW", O_CREAT | O_NOFOLLOW | O_WRONLY },
	{ "CREAT|DIRECTORY", O_CREAT | O_DIRECTORY },
	{ "CREAT|EXCL|NOFOLLOW", O_CREAT | O_EXCL | O_NOFOLLOW },
	{ "EXCL", O_EXCL },
	{ "NOATIME", O_NOATIME },
	{ "TMPFILE|RDWR", O_TMPFILE | O_RDWR },
	{ "TMPFILE|WRONLY|EXCL", O_TMPFILE | O_WRONLY | O_EXCL },
	{ "TMPFILE|RDONLY", O_TMPFILE },
	{ "__O_TMPFILE alone", 020000000 | O_RDWR },
	{ "SYNC|DSYNC", O_SYNC | O_DSYNC | O_WRONLY },
	{ "DIRECT", O_DIRECT },
	{ "ASYNC", O_ASYNC },
	{ "unknown bit", 1 << 30 },
	{ "NOCTTY", O_NOCTTY },
};

static const struct {
	const char *name;
	uint64_t resolve;
} resolves[] = {
	{ "0", 0 },
	{ "NO_SYMLINKS", RESOLVE_NO_SYMLINKS },
	{ "NO_MAGICLINKS", RESOLVE_NO_MAGICLINKS },
	{ "BENEATH", RESOLVE_BENEATH },
	{ "IN_ROOT", RESOLVE_IN_ROOT },
	{ "BENEATH|IN_ROOT", RESOLVE_BENEATH | RESOLVE_IN_ROOT },
	{ "BENEATH|NO_SYMLINKS", RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS },
	{ "NO_XDEV", RESOLVE_NO_XDEV },
	{ "CACHED", 0x20 },
	{ "unknown", 1 << 20 },
};

/* A cached-only open may say EAGAIN or not, as the dentry cache will: only whether it is wrong can be compared. */
static long settle(long fd, uint64_t resolve)
{
	if (!(resolve & 0x20))
		return fd;
	if (fd >= 0)
		close(fd);
	errno = EAGAIN;
	return -1;
}

static void with_flags(void)
{
	for (size_t i = 0; i < COUNT(sets); i++) {
		forget_inodes();
		make_tree();
		for (struct path *p = paths; p < paths + path_count; p++) {
			int flags = sets[i].flags | O_NONBLOCK; /* there is a FIFO in the tree */
			if ((p->kind & OUTSIDE) && (flags & (O_CREAT | O_TRUNC)))
				continue;
			say("%s: ", sets[i].name);
			show_descriptor(result("open", p->label, S(open, p->text, flags, 0640)));
		}
		if (sets[i].flags & (O_CREAT | O_TRUNC))
			dump_tree(".");
	}
	forget_inodes();
	make_tree();
	for (struct path *p = paths; p < paths + path_count; p++)
		if (!(p->kind & OUTSIDE) && strcmp(p->label, "fifo"))
			show_descriptor(result("creat", p->label, S(creat, p->text, 0666)));
	dump_tree(".");
}

static void with_resolve(void)
{
	struct open_how how;

	for (size_t r = 0; r < COUNT(resolves); r++) {
		forget_inodes();
		make_tree();
		for (int create = 0; create < 3; create++)
			for (struct path *p = paths; p < paths + path_count; p++) {
				if ((p->kind & OUTSIDE) && create == 1)
					continue;
				how = (struct open_how){ .resolve = resolves[r].resolve };
				how.flags = create == 1   ? O_CREAT | O_WRONLY | O_NONBLOCK
					    : create == 2 ? O_PATH | O_NOFOLLOW
							  : O_NONBLOCK;
				how.mode = create == 1 ? 0600 : 0;
				say("%s create=%d: ", resolves[r].name, create);
				show_descriptor(result("openat2", p->label,
						       settle(open_surely(AT_FDCWD, p->text, &how), how.resolve)));
			}
	}
}

static void bad_how(void)
{
	struct {
		struct open_how how;
		char more[8192];
	} big = { 0 };
	struct open_how how = { .flags = O_RDONLY };
	static const size_t sizes[] = { 0, 1, 8, 16, 23, 24, 25, 32, 64, 4096, 4097, 8192 };

	forget_inodes();
	make_tree();
	for (size_t i = 0; i < COUNT(sizes); i++) {
		big.how = how;
		memset(big.more, 0, sizeof big.more);
		say("size %zu: ", sizes[i]);
		show_descriptor(result("openat2", "file", S(openat2, AT_FDCWD, "file", &big, sizes[i])));
		big.more[0] = 1;
		say("size %zu, next byte set: ", sizes[i]);
		show_descriptor(result("openat2", "file", S(openat2, AT_FDCWD, "file", &big, sizes[i])));
		say("size %zu, missing: ", sizes[i]);
		show_descriptor(result("openat2", "missing", S(openat2, AT_FDCWD, "missing", &big, sizes[i])));
		say("size %zu, NULL path: ", sizes[i]);
		show_descriptor(result("openat2", "NULL", S(openat2, AT_FDCWD, NULL, &big, sizes[i])));
	}
	show_descriptor(result("openat2", "NULL how", S(openat2, AT_FDCWD, "file", NULL, sizeof how)));
	show_descriptor(result("openat2", "NULL both", S(openat2, AT_FDCWD, NULL, NULL, sizeof how)));
#define HOW(label, ...)                                                                                                \
	do {                                                                                                           \
		struct open_how h = { __VA_ARGS__ };                                                                   \
		show_descriptor(result("openat2", label, S(openat2, AT_FDCWD, "file", &h, sizeof h)));                 \
		show_descriptor(result("openat2 missing", label, S(openat2, AT_FDCWD, "missing", &h, sizeof h)));      \
	} while (0)
	HOW("mode without CREAT", .mode = 0600);
	HOW("mode bits beyond 07777", .flags = O_CREAT | O_WRONLY, .mode = 0100600);
	HOW("high flag", .flags = 1ull << 40);
	HOW("unknown low flag", .flags = 1u << 30);
	HOW("PATH|RDWR", .flags = O_PATH | O_RDWR);
	HOW("PATH|TRUNC", .flags = O_PATH | O_TRUNC);
	HOW("CREAT|DIRECTORY", .flags = O_CREAT | O_DIRECTORY);
	HOW("high resolve", .resolve = 1ull << 40);
	HOW("TMPFILE RDONLY", .flags = O_TMPFILE);
	HOW("CACHED|CREAT", .flags = O_CREAT, .resolve = 0x20);
	HOW("CACHED|TRUNC", .flags = O_TRUNC | O_WRONLY, .resolve = 0x20);
	HOW("sticky mode", .flags = O_CREAT | O_WRONLY, .mode = 07777);
	dump_tree(".");
}

/* A FIFO's open waits for the other end, fails or not as O_NONBLOCK says; whoever waits must not stop the others. */
static void fifos(void)
{
	int reader, writer;
	pid_t child;
	char c = 0;

	make_tree();
	show_descriptor(result("open WRONLY|NONBLOCK", "fifo", S(open, "fifo", O_WRONLY | O_NONBLOCK)));
	reader = result("open RDONLY|NONBLOCK", "fifo", S(open, "fifo", O_RDONLY | O_NONBLOCK));
	writer = result("open WRONLY", "fifo", S(open, "fifo", O_WRONLY));
	say(" write %zd read %zd\n", write(writer, "x", 1), read(reader, &c, 1));
	close(reader);
	close(writer);
	fflush(stdout);
	child = fork();
	if (!child) {
		writer = S(open, "fifo", O_WRONLY);
		_exit(writer >= 0 && write(writer, "y", 1) == 1 ? 0 : 1);
	}
	reader = S(open, "fifo", O_RDONLY);
	say("met: read %zd %c\n", read(reader, &c, 1), c);
	close(reader);
	waitpid(child, NULL, 0);
	show_descriptor(result("open RDWR", "fifo", S(open, "fifo", O_RDWR)));
}

/* RLIMIT_NOFILE: the lowest number is taken; at the limit EMFILE comes before the path is looked at. */
static void numbers(void)
{
	int opened[64], count = 0;

	make_tree();
	must(prlimit(0, RLIMIT_NOFILE, &(struct rlimit){ 24, 4096 }, NULL), "prlimit");
	while (count < 64 && (opened[count] = S(open, "file", O_RDONLY)) >= 0)
		say("%d ", opened[count++]);
	result("open at the limit", "file", -1);
	say("\n");
	result("open at the limit", "missing", S(open, "missing", O_RDONLY));
	result("open at the limit", "NULL", S(open, NULL, O_RDONLY));
	result("open CREAT at the limit", "new", S(open, "new", O_CREAT | O_WRONLY, 0600));
	result("open PATH at the limit", "dir", S(open, "dir", O_PATH));
	say("\n");
	while (count)
		close(opened[--count]);
	must(prlimit(0, RLIMIT_NOFILE, &(struct rlimit){ 4096, 4096 }, NULL), "prlimit");
	dump_tree(".");
}

int main(void)
{
	start();
	make_paths();
	phase = "flags";
	with_flags();
	phase = "resolve";
	with_resolve();
	phase = "how";
	bad_how();
	phase = "fifo";
	fifos();
	phase = "numbers";
	numbers();
	return 0;
}
