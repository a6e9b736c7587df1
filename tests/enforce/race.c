/*
 * race HOW DIR FILE_INODE DIRECTORY_INODE TRIES MILLISECONDS [CALL…]
 *
 * One thread flips what a path means between DIR/pub, which may be seen, and a name that may not; another makes each path
 * call on it, at most TRIES times and MILLISECONDS long, and looks whether it got what is not to be had. HOW:
 *
 *	sec mnt tmp rot	the bytes of the path change in memory: DIR/pub/… and DIR/sec/… and so on
 *	stall		the same as sec, on a page that is taken away again and again: who reads it waits meanwhile (fallocate(2) with
 *			FALLOC_FL_PUNCH_HOLE holds up faults, mm/shmem.c shmem_falloc_wait)
 *	empty		the same, between "" with AT_EMPTY_PATH and DIR/sec/…
 *	number		a descriptor's number means DIR/pub, and DIR/sec, which was handed in (the variable DIRECTORY), in turns
 *	link		a symbolic link, DIR/flip, is exchanged with another
 *	exchange	the directories DIR/x and DIR/y on the way to DIR/x/d change places
 *
 * Prints "CALL TRIES FOUND" for each call. What calls do to a withheld object shows outside, where the test compares.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static const char *how, *top;
static ino_t secret_file, secret_directory;
static bool empty, number, stall;
static atomic_bool stop;

/* Paths that flip: the word at `at` is stored at once. */
struct flipping {
	_Alignas(8) char text[512];
	size_t at;
};
enum { FILE_PATH, DIRECTORY, LINK, PROGRAM, STREAM, DATAGRAM, NEW, COUNT };
static const char *const names[COUNT] = { "file", "dir", "link", "prog", "sock", "dgram", "new" };
enum { PAGE = 4096, STALL = 1024 * PAGE };
static _Alignas(PAGE) union {
	struct flipping paths[COUNT];
	char page[PAGE];
} memory;
#define paths memory.paths
static int behind; /* the file that the paths are in, for `stall` */
static int base = AT_FDCWD; /* where an empty path leads, or a name alone */
static int allowed_directory, withheld_directory;
static struct {
	struct sockaddr_un address;
	size_t at;
} stream, datagram, fresh;
static struct sockaddr_un family; /* AF_INET and AF_UNIX with a path in turns */
static struct msghdr message;
static struct timespec omitted[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } };
static char here[512], other[512], source[512]; /* what may be had: by its own name, and by that of the bind's source */
static uint32_t allowed_word, withheld_word;

static void flip_word(void *where, uint32_t word)
{
	atomic_store_explicit((_Atomic uint32_t *)where, word, memory_order_relaxed);
}

/* The text stands on the first of many pages, all of which are taken away at once, and is there again a moment later. */
static void flip_slowly(uint32_t word)
{
	static char texts[PAGE], rest[STALL];
	if (!*texts)
		memcpy(texts, memory.page, PAGE);
	for (int i = 0; i < COUNT; i++)
		memcpy(texts + ((char *)(paths[i].text + paths[i].at) - memory.page), &word, 4);
	fallocate(behind, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, STALL);
	memcpy(memory.page, texts, PAGE);
	pwrite(behind, rest + PAGE, STALL - PAGE, PAGE);
}

static void *flip(void *unused)
{
	char a[512], b[512];
	bool linking = !strcmp(how, "link");

	snprintf(a, sizeof a, "%s/%s", top, linking ? "flip" : "x");
	snprintf(b, sizeof b, "%s/%s", top, linking ? "flop" : "y");
	for (unsigned n = 0; !atomic_load(&stop); n++) {
		if (linking || !strcmp(how, "exchange")) {
			syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2);
			continue;
		}
		if (number)
			dup2(n & 1 ? withheld_directory : allowed_directory, base);
		for (int i = 0; i < COUNT && !number && !stall; i++) {
			if (empty)
				*(volatile char *)paths[i].text = n & 1 ? '/' : 0;
			else
				flip_word(paths[i].text + paths[i].at, n & 1 ? withheld_word : allowed_word);
		}
		if (stall)
			flip_slowly(n & 1 ? withheld_word : allowed_word);
		flip_word(stream.address.sun_path + stream.at, n & 1 ? withheld_word : allowed_word);
		flip_word(datagram.address.sun_path + datagram.at, n & 1 ? withheld_word : allowed_word);
		flip_word(fresh.address.sun_path + fresh.at, n & 1 ? withheld_word : allowed_word);
		*(volatile long *)&omitted[0].tv_nsec = n & 1 ? UTIME_NOW : UTIME_OMIT;
		*(volatile sa_family_t *)&family.sun_family = n & 1 ? AF_UNIX : AF_INET;
		*(volatile socklen_t *)&message.msg_namelen = n & 1 ? sizeof family : 0;
		for (volatile int i = 0; i < (int)(n % 64) * 8; i++)
			;
	}
	return unused;
}

static int is_secret(int fd)
{
	struct stat st;
	int found = fd >= 0 && !fstat(fd, &st) && (st.st_ino == secret_file || st.st_ino == secret_directory);
	if (fd >= 0)
		close(fd);
	return found;
}

static int stat_is(int result, const struct stat *st)
{
	return !result && (st->st_ino == secret_file || st->st_ino == secret_directory);
}

#define AT (empty ? AT_EMPTY_PATH : 0)
#define F paths[FILE_PATH].text
#define D paths[DIRECTORY].text

static int c_open(void)
{
	return is_secret(openat(base, F, O_RDONLY | O_NONBLOCK));
}
static int c_open_path(void)
{
	return is_secret(openat(base, F, O_PATH));
}
static int c_open_directory(void)
{
	return is_secret(openat(base, D, O_PATH | O_DIRECTORY));
}
static int c_openat(void)
{
	return is_secret(openat(base, D, O_RDONLY | O_DIRECTORY));
}
static int c_creat(void)
{
	return is_secret(openat(base, paths[NEW].text, O_WRONLY | O_CREAT, 0600));
}
static int c_openat2(void)
{
	struct open_how open_how = { .flags = O_RDONLY };
	return is_secret(syscall(SYS_openat2, base, F, &open_how, sizeof open_how));
}
static int c_openat2_path(void)
{
	struct open_how open_how = { .flags = O_PATH };
	return is_secret(syscall(SYS_openat2, base, F, &open_how, sizeof open_how));
}
static int c_stat(void)
{
	struct stat st;
	return stat_is(syscall(SYS_newfstatat, base, F, &st, AT), &st);
}
static int c_lstat(void)
{
	struct stat st;
	return stat_is(syscall(SYS_lstat, D, &st), &st);
}
static int c_statx(void)
{
	struct statx st;
	return !syscall(SYS_statx, base, F, AT, STATX_BASIC_STATS, &st) &&
	       (st.stx_ino == secret_file || st.stx_ino == secret_directory);
}
/* Only the withheld one may be executed. */
static int c_access(void)
{
	return !syscall(SYS_faccessat2, base, paths[PROGRAM].text, X_OK, AT);
}
static int c_readlink(void)
{
	char text[64];
	ssize_t n = empty || number ? readlinkat(base, paths[LINK].text, text, sizeof text)
				    : readlink(paths[LINK].text, text, sizeof text);
	return n > 0 && !memcmp(text, "SECRET", 6);
}
/* Where we have got to is withheld when not even "." is there. */
static int c_chdir(void)
{
	char text[512];
	int found = 0;
	if (chdir(D))
		return 0;
	int fd = open(".", O_PATH | O_DIRECTORY);
	found = fd < 0 ? errno == ENOENT : is_secret(fd);
	found |= getcwd(text, sizeof text) && strstr(text, "/sec/");
	fd = open("inner", O_RDONLY);
	if (fd >= 0) {
		found |= read(fd, text, 6) == 6 && !memcmp(text, "SECRET", 6);
		close(fd);
	}
	if (chdir("/"))
		return found;
	return found;
}
static int c_statfs(void)
{
	struct statfs fs;
	return statfs(F, &fs), 0;
}
static int c_getxattr(void)
{
	char text[64];
	return getxattr(F, "user.secret", text, sizeof text) == 6;
}
static int c_listxattr(void)
{
	char text[256];
	ssize_t n = listxattr(F, text, sizeof text);
	return n > 0 && memmem(text, n, "user.secret", 11);
}
static int c_inotify(void)
{
	static int fd = -1, first = -1, second = -1;
	if (fd < 0) {
		fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
		first = inotify_add_watch(fd, here, IN_OPEN);
		second = inotify_add_watch(fd, source, IN_OPEN);
	}
	int wd = inotify_add_watch(fd, F, IN_OPEN);
	return wd >= 0 && wd != first && wd != second;
}
static int c_handle(void)
{
	static struct {
		struct file_handle handle;
		char bytes[128];
	} allowed, bound, got;
	int id;
	if (!allowed.handle.handle_bytes) {
		allowed.handle.handle_bytes = bound.handle.handle_bytes = 128;
		name_to_handle_at(AT_FDCWD, source, &bound.handle, &id, 0);
		if (name_to_handle_at(AT_FDCWD, here, &allowed.handle, &id, 0) < 0)
			return 0;
	}
	got.handle.handle_bytes = 128;
	return !name_to_handle_at(base, F, &got.handle, &id, AT) &&
	       memcmp(allowed.handle.f_handle, got.handle.f_handle, got.handle.handle_bytes) != 0 &&
	       memcmp(bound.handle.f_handle, got.handle.f_handle, got.handle.handle_bytes) != 0;
}
/* These show outside. */
static int c_chmod(void)
{
	return syscall(SYS_fchmodat2, base, F, 0604, AT), 0;
}
static int c_chmod_plain(void)
{
	return chmod(F, 0604), 0;
}
static int c_chown(void)
{
	return fchownat(base, F, -1, getegid(), AT), 0;
}
static int c_utimensat(void)
{
	return syscall(SYS_utimensat, base, F, NULL, AT), 0;
}
static int c_utime_omit(void)
{
	omitted[0].tv_nsec = omitted[1].tv_nsec = UTIME_OMIT; /* the flipping thread takes one away */
	return syscall(SYS_utimensat, AT_FDCWD, F, omitted, 0), 0;
}
static int c_utimes(void)
{
	return utimes(F, NULL), 0;
}
static int c_setxattr(void)
{
	return setxattr(F, "user.mark", "x", 1, 0), 0;
}
static int c_removexattr(void)
{
	return removexattr(F, "user.secret"), 0;
}
static int c_truncate(void)
{
	return truncate(F, 3), 0;
}
static int c_link(void)
{
	int result = linkat(base, F, AT_FDCWD, other, 0);
	if (!result) {
		struct stat st;
		result = stat_is(stat(other, &st), &st);
		unlink(other);
		return result;
	}
	return 0;
}
static int c_rename(void)
{
	if (rename(paths[NEW].text, other))
		return close(open(paths[NEW].text, O_WRONLY | O_CREAT | O_NONBLOCK, 0600)), 0;
	return rename(other, paths[NEW].text), 0;
}
static int c_unlink(void)
{
	return unlink(F) == 0 ? close(open(here, O_WRONLY | O_CREAT, 0644)), 0 : 0;
}
static int c_rmdir(void)
{
	return rmdir(paths[NEW].text), 0;
}
static int c_mkdir(void)
{
	return mkdir(paths[NEW].text, 0700), rmdir(paths[NEW].text), 0;
}
static int c_mknod(void)
{
	return mknod(paths[NEW].text, S_IFIFO | 0600, 0), unlink(paths[NEW].text), 0;
}
static int c_symlink(void)
{
	return symlink("x", paths[NEW].text), unlink(paths[NEW].text), 0;
}
/* By the number alone. */
static int c_getdents(void)
{
	char text[4096];
	lseek(base, 0, SEEK_SET);
	ssize_t n = syscall(SYS_getdents64, base, text, sizeof text);
	return n > 0 && memmem(text, n, "marker", 6);
}
static int c_fchdir(void)
{
	struct stat st;
	int found = !fchdir(base) && stat_is(stat("file", &st), &st);
	if (chdir("/"))
		return found;
	return found;
}
static int c_fchmod(void)
{
	return fchmod(base, 0705), 0;
}
static int c_fchown(void)
{
	return fchown(base, -1, getegid()), 0;
}
static int c_fsetxattr(void)
{
	return fsetxattr(base, "user.mark", "x", 1, 0), 0;
}
static int c_unlinkat(void)
{
	return unlinkat(base, "file", 0) == 0 ? close(open(here, O_WRONLY | O_CREAT, 0644)), 0 : 0;
}
static int c_mkdirat(void)
{
	return mkdirat(base, "new", 0700), unlinkat(base, "new", AT_REMOVEDIR), 0;
}
static int c_renameat(void)
{
	return renameat(base, "file", base, "moved") == 0 ? renameat(base, "moved", base, "file"), 0 : 0;
}
static int spawn(bool at)
{
	static char *const argv[] = { "prog", NULL }, *const envp[] = { NULL };
	int status = 0;
	pid_t pid = vfork();
	if (!pid) {
		if (at)
			syscall(SYS_execveat, base, paths[PROGRAM].text, argv, envp, AT);
		else
			execve(paths[PROGRAM].text, argv, envp);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) == 42;
}
static int c_execve(void)
{
	return spawn(false);
}
static int c_execveat(void)
{
	return spawn(true);
}
static int c_exec_check(void)
{
	static char *const none[] = { NULL };
	return syscall(SYS_execveat, AT_FDCWD, paths[PROGRAM].text, none, none, 0x10000 /* AT_EXECVE_CHECK */) == 0;
}
static int c_connect(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	char text[8];
	int found = !connect(fd, (void *)&stream.address, sizeof stream.address) && recv(fd, text, 6, 0) == 6 &&
		    !memcmp(text, "SECRET", 6);
	close(fd);
	return found;
}
/* What is no path when it is looked at. */
static int c_connect_family(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int found = !connect(fd, (void *)&family, sizeof family);
	close(fd);
	return found;
}
static int c_bind(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bind(fd, (void *)&fresh.address, sizeof fresh.address);
	unlink(fresh.address.sun_path);
	close(fd);
	return 0;
}
static int dgram_socket(void)
{
	static int fd = -1;
	return fd >= 0 ? fd : (fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}
static int c_sendto(void)
{
	return sendto(dgram_socket(), "x", 1, 0, (void *)&datagram.address, sizeof datagram.address), 0;
}
static int c_sendto_family(void)
{
	return sendto(dgram_socket(), "x", 1, 0, (void *)&family, sizeof family), 0;
}
static int c_sendmsg(void)
{
	struct msghdr m = message;
	m.msg_name = &datagram.address;
	m.msg_namelen = sizeof datagram.address;
	return sendmsg(dgram_socket(), &m, 0), 0;
}
/* Nothing at all when it is looked at. */
static int c_sendmsg_name(void)
{
	return sendmsg(dgram_socket(), &message, 0), 0;
}
static int c_sendmmsg(void)
{
	struct mmsghdr m[2] = { { .msg_hdr = message }, { .msg_hdr = message } };
	for (int i = 0; i < 2; i++) {
		m[i].msg_hdr.msg_name = &datagram.address;
		m[i].msg_hdr.msg_namelen = sizeof datagram.address;
	}
	return sendmmsg(dgram_socket(), m, 2, 0), 0;
}

static const struct {
	const char *name;
	int (*run)(void);
	const char *
		kinds; /* p: a path; e: also an empty one; n: a name below a number, or a number; s: addresses, which flip */
} calls[] = {
	{ "open", c_open, "pn" },
	{ "open_path", c_open_path, "pn" },
	{ "open_directory", c_open_directory, "pn" },
	{ "openat", c_openat, "pn" },
	{ "creat", c_creat, "pn" },
	{ "openat2", c_openat2, "pn" },
	{ "openat2_path", c_openat2_path, "pn" },
	{ "stat", c_stat, "pen" },
	{ "lstat", c_lstat, "p" },
	{ "statx", c_statx, "pen" },
	{ "access", c_access, "pen" },
	{ "readlink", c_readlink, "pn" },
	{ "chdir", c_chdir, "p" },
	{ "statfs", c_statfs, "p" },
	{ "getxattr", c_getxattr, "p" },
	{ "listxattr", c_listxattr, "p" },
	{ "inotify", c_inotify, "p" },
	{ "handle", c_handle, "pen" },
	{ "chmod", c_chmod, "pen" },
	{ "chmod_plain", c_chmod_plain, "p" },
	{ "chown", c_chown, "pen" },
	{ "utimensat", c_utimensat, "pen" },
	{ "utime_omit", c_utime_omit, "p" },
	{ "utimes", c_utimes, "p" },
	{ "setxattr", c_setxattr, "p" },
	{ "removexattr", c_removexattr, "p" },
	{ "truncate", c_truncate, "p" },
	{ "link", c_link, "pn" },
	{ "rename", c_rename, "p" },
	{ "rmdir", c_rmdir, "p" },
	{ "mkdir", c_mkdir, "p" },
	{ "mknod", c_mknod, "p" },
	{ "symlink", c_symlink, "p" },
	{ "execve", c_execve, "p" },
	{ "execveat", c_execveat, "pen" },
	{ "exec_check", c_exec_check, "p" },
	{ "connect", c_connect, "s" },
	{ "connect_family", c_connect_family, "s" },
	{ "bind", c_bind, "s" },
	{ "sendto", c_sendto, "s" },
	{ "sendto_family", c_sendto_family, "s" },
	{ "sendmsg", c_sendmsg, "s" },
	{ "sendmsg_name", c_sendmsg_name, "s" },
	{ "sendmmsg", c_sendmmsg, "s" },
	{ "getdents", c_getdents, "n" },
	{ "fchdir", c_fchdir, "n" },
	{ "fchmod", c_fchmod, "n" },
	{ "fchown", c_fchown, "n" },
	{ "fsetxattr", c_fsetxattr, "n" },
	{ "mkdirat", c_mkdirat, "n" },
	{ "renameat", c_renameat, "n" },
	{ "unlinkat", c_unlinkat, "n" },
	{ "unlink", c_unlink, "p" },
};

static void address(struct sockaddr_un *un, size_t *at, const char *middle, const char *name)
{
	un->sun_family = AF_UNIX;
	/* The word has to be aligned in memory: sun_path begins at 2. */
	int n = snprintf(un->sun_path, sizeof un->sun_path, "%s", top);
	while ((offsetof(struct sockaddr_un, sun_path) + n + 1) % 4)
		un->sun_path[n++] = '/';
	*at = n + 1;
	snprintf(un->sun_path + n, sizeof un->sun_path - n, "/%s/%s", middle, name);
}

static long long now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static bool chosen(const char *name, char **list)
{
	for (char **p = list; *p; p++)
		if (!strcmp(*p, name))
			return true;
	return !*list;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc < 7)
		return 2;
	how = argv[1];
	top = argv[2];
	secret_file = strtoull(argv[3], NULL, 10);
	secret_directory = strtoull(argv[4], NULL, 10);
	long tries = atol(argv[5]), limit = atol(argv[6]);
	empty = !strcmp(how, "empty");
	number = !strcmp(how, "number");
	stall = !strcmp(how, "stall");
	const char *withheld = strlen(how) == 3 ? how : "sec";
	/* What is raced with: an empty path, a number, else a path, and the addresses of sockets where there are such. */
	const char kind = empty    ? 'e'
			  : number ? 'n'
				   : 'p',
		   *both = strlen(how) == 3 || stall ? "ps" : (char[]){ kind, 0 };
	const char *middle = !strcmp(how, "link") ? "flip" : !strcmp(how, "exchange") ? "x/d" : empty ? "sec" : "pub";
	char word[8];
	snprintf(word, sizeof word, "pub/");
	memcpy(&allowed_word, word, 4);
	snprintf(word, sizeof word, "%s/", withheld);
	memcpy(&withheld_word, word, 4);
	if (stall) {
		behind = memfd_create("paths", 0);
		ftruncate(behind, STALL);
		mmap(&memory, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, behind, 0);
	}
	for (int i = 0; i < COUNT; i++) {
		if (number) {
			strcpy(paths[i].text, names[i]);
			continue;
		}
		int n = snprintf(paths[i].text, sizeof paths[i].text, "%s", top);
		while ((n + 1) % 4)
			paths[i].text[n++] = '/';
		paths[i].at = n + 1;
		snprintf(paths[i].text + n, sizeof paths[i].text - n, "/%s/%s", middle, names[i]);
	}
	address(&stream.address, &stream.at, middle, "sock");
	address(&datagram.address, &datagram.at, middle, "dgram");
	address(&fresh.address, &fresh.at, middle, "new");
	size_t at;
	address(&family, &at, withheld, "dgram");
	static struct iovec vector = { "x", 1 };
	message.msg_iov = &vector;
	message.msg_iovlen = 1;
	message.msg_name = &family;
	snprintf(here, sizeof here, "%s/%s/file", top, strcmp(how, "exchange") ? "pub" : "x/d");
	snprintf(source, sizeof source, "%s/src/file", top);
	/* What the allowed object's watch and handle are, while nothing flips yet. */
	c_inotify();
	c_handle();
	snprintf(other, sizeof other, "%s/pub/other", top);
	if (empty)
		base = open(here, O_RDONLY);
	if (number) {
		snprintf(other, sizeof other, "%s/pub", top);
		allowed_directory = open(other, O_RDONLY | O_DIRECTORY);
		snprintf(other, sizeof other, "%s/pub/other", top);
		withheld_directory = atoi(getenv("DIRECTORY"));
		base = dup(allowed_directory);
	}
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		long n = 0, found = 0;
		if (!chosen(calls[i].name, argv + 7) || !strpbrk(calls[i].kinds, both))
			continue;
		if (!strcmp(calls[i].name, "connect_family"))
			address(&family, &at, withheld, "sock");
		if (!strcmp(calls[i].name, "sendmsg_name") || !strcmp(calls[i].name, "sendto_family"))
			address(&family, &at, withheld, "dgram");
		atomic_store(&stop, false);
		pthread_create(&thread, NULL, flip, NULL);
		long long end = now_ms() + limit;
		for (; n < tries && (n % 64 || now_ms() < end); n++)
			found += calls[i].run();
		atomic_store(&stop, true);
		pthread_join(thread, NULL);
		if (!strcmp(calls[i].name, "sendmsg_name"))
			family.sun_family = AF_UNIX;
		printf("%s %ld %ld\n", calls[i].name, n, found);
		fflush(stdout);
	}
	return 0;
}
