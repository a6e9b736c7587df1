/*
 * What every probe shares: a tree to work on, and a print-out in which numbers that no two runs share are named, not printed.
 *
 * A probe runs twice, natively and in a view, in a directory of its own with the same path, and must print the same. So: raw
 * system calls (libc would check arguments first), result and errno of each; inodes and devices as i1, i2, … d1, d2, … in the order
 * met (agreement of stat, fstat and getdents within a run shows, the numbers do not); times as "recent" unless long past.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#ifndef __NR_fchmodat2
#define __NR_fchmodat2 452
#endif
#ifndef __NR_setxattrat
#define __NR_setxattrat 463
#define __NR_getxattrat 464
#define __NR_listxattrat 465
#define __NR_removexattrat 466
#endif
#ifndef AT_EACCESS
#define AT_EACCESS 0x200
#endif
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#define RENAME_WHITEOUT 4
#endif
#ifndef RESOLVE_NO_XDEV
#define RESOLVE_NO_XDEV 1
#endif
#ifndef STATX_BASIC_STATS
#error "a C library with statx is needed"
#endif

#pragma GCC diagnostic ignored "-Wunused-function" /* no probe uses all of this */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define S(name, ...) syscall(__NR_##name, ##__VA_ARGS__)

/* Anybody's rename or mount on the machine lets ".." in a scoped lookup say EAGAIN, and openat2(2) says to try again. */
static long open_surely(int at, const char *path, const struct open_how *how)
{
	long fd;
	int tries = 0;

	do
		fd = S(openat2, at, path, how, sizeof *how);
	while (fd < 0 && errno == EAGAIN && !(how->resolve & RESOLVE_CACHED) && ++tries < 1000);
	return fd;
}

static char home[PATH_MAX]; /* where the tree is: the directory the probe was started in */
static const char *phase = "";
static int light; /* a tree without its chain of symbolic links: half the time */

/* ---- names for numbers ---- */

static struct {
	uint64_t dev, ino;
} met[4096];
static uint64_t met_dev[64];
static int met_count, dev_count;

static void forget_inodes(void)
{
	met_count = 0;
}

static int inode_name(uint64_t dev, uint64_t ino)
{
	for (int i = 0; i < met_count; i++)
		if (met[i].dev == dev && met[i].ino == ino)
			return i + 1;
	if (met_count == COUNT(met))
		return -1;
	met[met_count].dev = dev;
	met[met_count].ino = ino;
	return ++met_count;
}

static int device_name(uint64_t dev)
{
	for (int i = 0; i < dev_count; i++)
		if (met_dev[i] == dev)
			return i + 1;
	if (dev_count == COUNT(met_dev))
		return -1;
	met_dev[dev_count] = dev;
	return ++dev_count;
}

static const char *when(int64_t seconds)
{
	static char text[8][32];
	static int turn;
	char *out = text[turn++ % 8];
	int64_t age = (int64_t)time(NULL) - seconds;

	if (age > -100000 && age < 100000)
		return "recent";
	snprintf(out, 32, "%lld", (long long)seconds);
	return out;
}

/* Text with this directory and this process named: "$HOME", "$PID", "$TID". */
static const char *portable(const char *text, size_t length)
{
	static char out[2 * PATH_MAX + 64];
	char pid[32];
	size_t n = 0, home_length = strlen(home);

	snprintf(pid, sizeof pid, "%d", getpid());
	for (size_t i = 0; i < length && n < sizeof out - 16;) {
		if (!strncmp(text + i, home, home_length) && length - i >= home_length) {
			n += sprintf(out + n, "$HOME");
			i += home_length;
		} else if (!strncmp(text + i, pid, strlen(pid)) && length - i >= strlen(pid)) {
			n += sprintf(out + n, "$PID");
			i += strlen(pid);
		} else if ((unsigned char)text[i] < 32 || (unsigned char)text[i] > 126) {
			n += sprintf(out + n, "\\%02x", (unsigned char)text[i++]);
		} else {
			out[n++] = text[i++];
		}
	}
	out[n] = 0;
	return out;
}

/* ---- printing ---- */

static void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
}

static long result(const char *call, const char *label, long value)
{
	int saved = errno;

	say("%s %s(%s) = %ld", phase, call, label, value);
	if (value < 0)
		say(" %s", strerrorname_np(saved) ? strerrorname_np(saved) : "E?");
	errno = saved;
	return value;
}

/* Sizes of directories and block counts are the file system's business and move with its history: not printed. */
static void show_stat(const struct stat *st)
{
	say(" dev=d%d ino=i%d mode=%o nlink=%lu uid=%u gid=%u rdev=%u:%u", device_name(st->st_dev),
	    inode_name(st->st_dev, st->st_ino), st->st_mode, (unsigned long)st->st_nlink, st->st_uid, st->st_gid,
	    major(st->st_rdev), minor(st->st_rdev));
	if (!S_ISDIR(st->st_mode))
		say(" size=%lld", (long long)st->st_size);
	say(" blksize=%ld atime=%s mtime=%s ctime=%s", (long)st->st_blksize, when(st->st_atime), when(st->st_mtime),
	    when(st->st_ctime));
}

static void show_statx(const struct statx *sx)
{
	say(" mask=%x dev=d%d ino=i%d mode=%o nlink=%u uid=%u gid=%u rdev=%u:%u attributes=%llx/%llx", sx->stx_mask,
	    device_name(makedev(sx->stx_dev_major, sx->stx_dev_minor)),
	    inode_name(makedev(sx->stx_dev_major, sx->stx_dev_minor), sx->stx_ino), sx->stx_mode, sx->stx_nlink,
	    sx->stx_uid, sx->stx_gid, sx->stx_rdev_major, sx->stx_rdev_minor, (unsigned long long)sx->stx_attributes,
	    (unsigned long long)sx->stx_attributes_mask);
	if (!S_ISDIR(sx->stx_mode))
		say(" size=%lld", (long long)sx->stx_size);
	say(" blksize=%u mtime=%s btime=%s", sx->stx_blksize, when(sx->stx_mtime.tv_sec), when(sx->stx_btime.tv_sec));
}

/* What the descriptor is, and its number: the kernel gives the lowest free one, so must we. Closes it. */
static void show_descriptor(int fd)
{
	struct stat st;

	if (fd < 0) {
		say("\n");
		return;
	}
	say(" fl=%o fd=%o", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
	if (S(fstat, fd, &st) == 0)
		show_stat(&st);
	say(" pos=%ld\n", (long)lseek(fd, 0, SEEK_CUR));
	close(fd);
}

/* ---- the tree ---- */

static void must(long value, const char *what)
{
	if (value < 0) {
		say("SETUP %s: %s\n", what, strerrorname_np(errno));
		fflush(stdout);
		exit(3);
	}
}

static void remove_tree(int dirfd, const char *name, int itself)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir;
	struct dirent *entry;

	if (fd < 0 && errno == EACCES) {
		fchmodat(dirfd, name, 0700, 0);
		fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (fd < 0)
		return;
	fchmod(fd, 0700);
	dir = fdopendir(fd);
	while ((entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (unlinkat(fd, entry->d_name, 0) && (errno == EISDIR || errno == EPERM))
			remove_tree(fd, entry->d_name, 1);
		rewinddir(dir);
	}
	closedir(dir);
	if (itself)
		unlinkat(dirfd, name, AT_REMOVEDIR);
}

static void write_file(const char *path, const char *text, int mode)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);

	must(fd, path);
	must(write(fd, text, strlen(text)), path);
	must(fchmod(fd, mode), path);
	close(fd);
}

static void make_tree(void)
{
	char from[32], to[32];
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "sock" };
	int fd;

	forget_inodes(); /* a file system may give a new inode an old one's number */
	chmod(home, 0755);
	must(chdir(home), "chdir home");
	umask(022);
	remove_tree(AT_FDCWD, ".", 0);
	must(chmod(".", 0755), ".");
	write_file("file", "contents\n", 0644);
	write_file("empty", "", 0600);
	write_file("none", "secret\n", 0);
	write_file("program", "#!/bin/sh\nexit 7\n", 0755);
	must(mkdir("dir", 0755), "dir");
	must(mkdir("dir/sub", 0755), "dir/sub");
	write_file("dir/file", "inner\n", 0644);
	write_file("dir/sub/deep", "deep\n", 0640);
	must(mkdir("emptydir", 0755), "emptydir");
	must(mkdir("sticky", 01777), "sticky");
	must(chmod("sticky", 01777), "sticky");
	must(mkdir("setgid", 02775), "setgid");
	must(chmod("setgid", 02775), "setgid");
	must(mkdir("locked", 0700), "locked");
	write_file("locked/file", "x\n", 0644);
	must(chmod("locked", 0), "locked");
	must(mkdir("noread", 0311), "noread");
	write_file("noread/file", "x\n", 0644);
	must(symlink("file", "link"), "link");
	must(symlink("dir", "dirlink"), "dirlink");
	must(symlink("dir/", "dirslash"), "dirslash");
	must(symlink("nowhere", "dangling"), "dangling");
	must(symlink("dir/new", "newlink"), "newlink");
	must(symlink("loop", "loop"), "loop");
	must(symlink("loop2", "loop1"), "loop1");
	must(symlink("loop1", "loop2"), "loop2");
	must(symlink("../dir/./sub/../file", "dir/windinglink"), "windinglink");
	must(symlink("/proc/self/cwd/file", "magiclink"), "magiclink");
	must(symlink("/", "rootlink"), "rootlink");
	must(symlink("/dev/null", "nulllink"), "nulllink");
	must(symlink("..", "dir/uplink"), "uplink");
	must(symlink(home, "homelink"), "homelink");
	if (!light)
		must(symlink("file", "chain1"), "chain");
	for (int i = 2; !light && i <= 42; i++) {
		sprintf(from, "chain%d", i - 1);
		sprintf(to, "chain%d", i);
		must(symlink(from, to), "chain");
	}
	must(link("file", "hard"), "hard");
	must(mkfifo("fifo", 0644), "fifo");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(bind(fd, (struct sockaddr *)&address, sizeof address), "sock");
	close(fd);
	fd = open("sparse", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	must(ftruncate(fd, 1 << 20), "sparse");
	close(fd);
	struct timespec old[2] = { { 100000, 5 }, { 200000, 7 } };
	must(utimensat(AT_FDCWD, "file", old, 0), "times");
	setxattr("file", "user.probe", "value", 5, 0);
	errno = 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The whole tree, sorted: what the calls before have left. */
static void dump_tree(const char *path)
{
	DIR *dir = opendir(path);
	char *names[1024], child[PATH_MAX], target[PATH_MAX];
	int count = 0;
	struct dirent *entry;
	struct stat st;

	if (!dir) {
		say("  %s: %s\n", path, strerrorname_np(errno));
		return;
	}
	while ((entry = readdir(dir)) && count < 1024)
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			names[count++] = strdup(entry->d_name);
	closedir(dir);
	qsort(names, count, sizeof *names, by_name);
	for (int i = 0; i < count; i++) {
		snprintf(child, sizeof child, "%s/%s", path, names[i]);
		say("  %s", portable(child, strlen(child)));
		if (lstat(child, &st) < 0) {
			say(" %s\n", strerrorname_np(errno));
		} else {
			show_stat(&st);
			if (S_ISLNK(st.st_mode)) {
				ssize_t n = readlink(child, target, sizeof target);
				say(" -> %s", n < 0 ? strerrorname_np(errno) : portable(target, n));
			}
			say("\n");
			if (S_ISDIR(st.st_mode))
				dump_tree(child);
		}
		free(names[i]);
	}
}

/* ---- paths, good and bad ---- */

/*
 * Probes run as root too, on the machine of whoever works here. OUTSIDE is not in the tree: never change its attributes. FRAGILE is
 * outside, and nothing but the call's own good sense keeps a call that removes or makes names from harming it: for reading only.
 */
enum { OUTSIDE = 1, ODD_POINTER = 2, FRAGILE = 4 };

struct path {
	const char *label;
	const char *text;
	int kind;
};

static struct path paths[128];
static int path_count;

static void add_path(const char *label, const char *text, int kind)
{
	paths[path_count++] = (struct path){ label ? label : text, text, kind };
}

static char *strings(const char *format, ...)
{
	char *out;
	va_list args;

	va_start(args, format);
	if (vasprintf(&out, format, args) < 0)
		exit(3);
	va_end(args);
	return out;
}

/* `length` bytes of path in all that name `tail`: slashes, as many as needed, in front of a relative name ("./////file"). */
static char *padded(size_t length, const char *tail)
{
	char *out = malloc(length + 1);
	size_t n = strlen(tail);

	memset(out, '/', length);
	out[0] = '.';
	memcpy(out + length - n, tail, n);
	out[length] = 0;
	return out;
}

static void make_paths(void)
{
	static const char *const plain[] = {
		"file",
		"empty",
		"none",
		"program",
		"dir",
		"dir/",
		"dir/.",
		"dir/..",
		"dir/../file",
		"dir/sub/../../file",
		"dir//sub///deep",
		"./file",
		"file/",
		"file/.",
		"file/..",
		"file/x",
		"emptydir",
		"emptydir/",
		"link",
		"link/",
		"dirlink",
		"dirlink/",
		"dirlink/file",
		"dirlink/..",
		"dirslash",
		"dirslash/file",
		"dangling",
		"dangling/",
		"dangling/x",
		"newlink",
		"newlink/",
		"loop",
		"loop/",
		"loop/x",
		"loop1",
		"dir/windinglink",
		"magiclink",
		"chain39",
		"chain40",
		"chain41",
		"homelink/file",
		"dir/uplink/file",
		"missing",
		"missing/",
		"missing/x",
		"missing/..",
		"locked",
		"locked/file",
		"locked/missing",
		"locked/..",
		"noread/file",
		"noread/missing",
		"sticky",
		"setgid",
		"setgid/new",
		"fifo",
		"sock",
		"sparse",
		".",
		"./",
		"hard",
	};
	size_t page = sysconf(_SC_PAGESIZE);
	char *pages = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *long_name = malloc(260);
	int fd;

	munmap(pages + page, page);
	for (size_t i = 0; i < COUNT(plain); i++)
		add_path(plain[i], plain[i], 0);
	add_path("..", "..", OUTSIDE);
	add_path("/", "/", OUTSIDE);
	add_path("//", "//", OUTSIDE);
	add_path("/..", "/..", OUTSIDE);
	add_path("rootlink", "rootlink", OUTSIDE);
	add_path("rootlink/", "rootlink/", OUTSIDE);
	add_path("nulllink", "nulllink", OUTSIDE | FRAGILE);
	add_path("/proc/version", "/proc/version", OUTSIDE); /* not /dev/null: root would remove it */
	add_path("/proc/self", "/proc/self", OUTSIDE | FRAGILE);
	add_path("/proc/self/exe", "/proc/self/exe", OUTSIDE | FRAGILE);
	add_path("/proc/self/fd", "/proc/self/fd", OUTSIDE | FRAGILE);
	add_path("/nonexistent/x", "/nonexistent/x", OUTSIDE | FRAGILE);
	add_path("$HOME/file", strings("%s/file", home), 0);
	add_path("$HOME/link", strings("%s/link", home), 0);
	add_path("$HOME/missing", strings("%s/missing", home), 0);
	add_path("$HOME/dir/", strings("%s/dir/", home), 0);
	add_path("/..$HOME/file", strings("/..%s/file", home), 0);
	add_path("/proc/self/cwd/file", "/proc/self/cwd/file", 0);
	add_path("/proc/thread-self/cwd/file", "/proc/thread-self/cwd/file", 0);
	add_path("/proc/self/root$HOME/file", strings("/proc/self/root%s/file", home), 0);
	add_path("/proc/PID/cwd/file", strings("/proc/%d/cwd/file", getpid()), 0);
	add_path("/proc/self/cwd", "/proc/self/cwd", 0);
	fd = fcntl(open("file", O_RDONLY | O_CLOEXEC), F_DUPFD_CLOEXEC, 90);
	close(3);
	fd = fcntl(open("dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC), F_DUPFD_CLOEXEC, 91);
	close(3);
	(void)fd;
	add_path("/proc/self/fd/90", "/proc/self/fd/90", 0);
	add_path("/dev/fd/90", "/dev/fd/90", 0);
	add_path("/proc/self/fd/91/file", "/proc/self/fd/91/file", 0);
	add_path("/proc/self/fd/91", "/proc/self/fd/91", 0);
	add_path("/proc/self/fd/89", "/proc/self/fd/89", 0);
	memset(long_name, 'n', 259);
	long_name[255] = 0;
	add_path("name of 255", strdup(long_name), 0);
	long_name[255] = 'n';
	long_name[256] = 0;
	add_path("name of 256", strdup(long_name), 0);
	add_path("missing/name of 256", strings("missing/%s", long_name), 0);
	add_path("file/name of 256", strings("file/%s", long_name), 0);
	add_path("PATH_MAX-1 bytes", padded(PATH_MAX - 1, "file"), 0);
	add_path("PATH_MAX bytes", padded(PATH_MAX, "file"), 0);
	add_path("2*PATH_MAX bytes", padded(2 * PATH_MAX, "file"), 0);
	add_path("missing, PATH_MAX bytes", padded(PATH_MAX, "missing"), 0);
	add_path("empty string", "", ODD_POINTER);
	add_path("NULL", NULL, ODD_POINTER);
	paths[path_count - 1].label = "NULL";
	add_path("1", (char *)1, ODD_POINTER);
	add_path("kernel address", (char *)0xffffffff81000000, ODD_POINTER);
	add_path("non-canonical", (char *)0x8000000000000000, ODD_POINTER);
	add_path("unmapped", pages + page, ODD_POINTER);
	memcpy(pages + page - 4, "file", 4);
	add_path("runs into an unmapped page", pages + page - 4, ODD_POINTER);
	memcpy(pages + 2 * page, "file", 5);
	memmove(pages + 3 * page - 5, "file", 5);
	add_path("ends with its page", pages + 3 * page - 5, 0);
}

static void start(void)
{
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	signal(SIGPIPE, SIG_IGN);
	umask(022);
	/* "..", which some calls change, must be nobody else's: work in a directory named tree, made if this is not it. */
	if (!getcwd(home, sizeof home - 5))
		exit(3);
	if (strlen(home) < 5 || strcmp(home + strlen(home) - 5, "/tree")) {
		mkdir("tree", 0755);
		must(chdir("tree"), "tree");
		strcat(home, "/tree");
	}
	make_tree();
}
