/* Every call with a dirfd, with every kind of descriptor there, on the names where it matters; and the calls on descriptors alone. */
#include "probe.h"

static struct {
	const char *label;
	int fd;
} bases[16];
static int base_count;

static void add_base(const char *label, int fd)
{
	bases[base_count].label = label;
	bases[base_count].fd = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 100 + base_count);
	base_count++;
	if (fd > 2)
		close(fd);
}

static const char *const names[] = {
	"file",        "sub", "sub/", "missing",       ".",           "..",  "../file",
	"../dir/file", "",    "/",    "/proc/version", "uplink/file", "new", NULL,
};

#define EACH(call, expression)                                                                                         \
	for (int b = 0; b < base_count; b++)                                                                           \
		for (size_t n = 0; n < COUNT(names); n++) {                                                            \
			const char *path = names[n];                                                                   \
			int at = bases[b].fd;                                                                          \
			char label[128];                                                                               \
			snprintf(label, sizeof label, "%s, %s", bases[b].label, path ? path : "NULL");                 \
			errno = 0;                                                                                     \
			result(call, label, expression);                                                               \
			after(path, at);                                                                               \
		}

static struct stat st;
static struct statx sx;
static void (*after)(const char *, int);
static void newline(const char *path, int at)
{
	(void)path;
	(void)at;
	say("\n");
}
static void undo(const char *path, int at)
{
	(void)at;
	say("\n");
	if (path && (!strcmp(path, "new") || !strcmp(path, "missing")))
		make_tree();
}
static long shut(long fd)
{
	if (fd > 2)
		close(fd);
	return fd;
}
static long stat_of(int at, const char *path, int flags)
{
	long r = S(newfstatat, at, path, &st, flags);
	return r < 0 ? r : inode_name(st.st_dev, st.st_ino);
}
static long statx_of(int at, const char *path, int flags)
{
	long r = S(statx, at, path, flags, STATX_BASIC_STATS, &sx);
	return r < 0 ? r : inode_name(makedev(sx.stx_dev_major, sx.stx_dev_minor), sx.stx_ino);
}

int main(void)
{
	char buffer[PATH_MAX], handle[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	struct file_handle *h = (void *)handle;
	struct open_how how = { .flags = O_RDONLY | O_NONBLOCK };
	struct timespec ts[2] = { { 1, 1 }, { 2, 2 } };
	static const uint64_t resolves[] = { 0, RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS,
					     RESOLVE_NO_XDEV };
	static const char *const made[] = { "locked/file", "locked/new", "locked/other", "locked/sub",
					    "new",         "other",      "sub" };
	int pipes[2], mount;

	start();
	phase = "dirfd";
	add_base("dir", open("dir", O_RDONLY | O_DIRECTORY));
	add_base("dir O_PATH", open("dir", O_PATH));
	add_base("file", open("file", O_RDONLY));
	add_base("file O_PATH", open("file", O_PATH));
	add_base("link O_PATH", open("dirlink", O_PATH | O_NOFOLLOW));
	add_base("/", open("/", O_PATH));
	must(pipe2(pipes, 0), "pipe");
	close(pipes[1]);
	add_base("pipe", pipes[0]);
	add_base("socket", socket(AF_UNIX, SOCK_STREAM, 0));
	must(mkdir("emptydir/gone", 0755), "gone");
	add_base("removed", open("emptydir/gone", O_RDONLY | O_DIRECTORY));
	must(rmdir("emptydir/gone"), "gone");
	add_base("locked", open("locked", O_PATH));
	add_base("AT_FDCWD", AT_FDCWD);
	add_base("-1", -1);
	add_base("-200", -200);
	bases[base_count].label = "9999";
	bases[base_count++].fd = 9999;
	bases[base_count].label = "closed";
	bases[base_count++].fd = 80;

	/* The tree keeps its inodes here, so that the descriptors stay in it: make_tree would put a new one beside them. */
	after = newline;
	/* All that can be met has its number first, so that one call's error shifts nothing. */
	for (int b = 0; b < base_count; b++)
		if (!fstat(bases[b].fd, &st))
			inode_name(st.st_dev, st.st_ino);
	stat_of(AT_FDCWD, "..", 0);
	stat_of(AT_FDCWD, "/proc/version", 0);
	dump_tree(".");
	EACH("newfstatat", stat_of(at, path, 0));
	EACH("newfstatat EMPTY", stat_of(at, path, AT_EMPTY_PATH));
	EACH("newfstatat EMPTY|NOFOLLOW", stat_of(at, path, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
	EACH("statx", statx_of(at, path, 0));
	EACH("statx EMPTY", statx_of(at, path, AT_EMPTY_PATH));
	EACH("openat", shut(S(openat, at, path, O_RDONLY | O_NONBLOCK)));
	EACH("openat PATH|NOFOLLOW", shut(S(openat, at, path, O_PATH | O_NOFOLLOW)));
	for (size_t i = 0; i < COUNT(resolves); i++) {
		how.resolve = resolves[i];
		say("resolve %lx\n", (long)resolves[i]);
		EACH("openat2", shut(open_surely(at, path, &how)));
	}
	EACH("faccessat", S(faccessat, at, path, R_OK));
	EACH("faccessat2 EMPTY", S(faccessat2, at, path, R_OK, AT_EMPTY_PATH));
	EACH("readlinkat", S(readlinkat, at, path, buffer, sizeof buffer));
	EACH("name_to_handle_at EMPTY",
	     (h->handle_bytes = MAX_HANDLE_SZ, S(name_to_handle_at, at, path, h, &mount, AT_EMPTY_PATH)));
	EACH("utimensat EMPTY", path && path[0] == '/' ? 0
				: at == bases[5].fd    ? 0
						       : S(utimensat, at, path, ts, AT_EMPTY_PATH));
	EACH("fchownat EMPTY", path && path[0] == '/' ? 0 : S(fchownat, at, path, -1, -1, AT_EMPTY_PATH));
	EACH("fchmodat2 EMPTY", path && path[0] == '/' ? 0
				: at == bases[5].fd    ? 0
						       : S(fchmodat2, at, path, 0755, AT_EMPTY_PATH));
	EACH("fchdir-like", path ? 0 : S(fchdir, at));
	must(chdir(home), "home");
	EACH("mkdirat", at == bases[5].fd ? 0 : S(mkdirat, at, path, 0700));
	EACH("unlinkat", at == bases[5].fd               ? 0
			 : path && !strcmp(path, "file") ? 0
							 : S(unlinkat, at, path, AT_REMOVEDIR));
	EACH("mknodat", at == bases[5].fd ? 0 : S(mknodat, at, path, S_IFIFO | 0600, 0));
	EACH("symlinkat", at == bases[5].fd ? 0 : S(symlinkat, "text", at, path));
	EACH("linkat", at == bases[5].fd ? 0 : S(linkat, at, path, AT_FDCWD, "linked", 0) ?: unlink("linked"));
	EACH("linkat EMPTY", at == bases[5].fd ? 0 : S(linkat, at, path, AT_FDCWD, "linked", AT_EMPTY_PATH) ?: unlink("linked"));
	EACH("renameat2",
	     at == bases[5].fd || (path && path[0] != 'm') ? 0 : S(renameat2, at, path, at, "other", RENAME_NOREPLACE));
	EACH("execveat", path && !strcmp(path, "/proc/version")
				 ? S(execveat, at, path, NULL, NULL, 0)
				 : S(execveat, at, path, NULL, NULL, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | 1));
	(void)undo;
	phase = "fd";
	for (int b = 0; b < base_count; b++) {
		int at = bases[b].fd;
		ssize_t n;
		char link[64];
		result("fstat", bases[b].label, S(fstat, at, &st));
		result("fchmod", bases[b].label, at == bases[5].fd ? 0 : S(fchmod, at, 0755));
		result("fchown", bases[b].label, S(fchown, at, -1, -1));
		result("fgetxattr", bases[b].label, S(fgetxattr, at, "user.probe", buffer, sizeof buffer));
		result("fsetxattr", bases[b].label, at == bases[5].fd ? 0 : S(fsetxattr, at, "user.x", "y", 1, 0));
		result("fremovexattr", bases[b].label, S(fremovexattr, at, "user.x"));
		result("ftruncate", bases[b].label, S(ftruncate, at, 1L));
		result("getdents64", bases[b].label, S(getdents64, at, buffer, sizeof buffer) < 0 ? -1 : 0);
		snprintf(link, sizeof link, "/proc/self/fd/%d", at);
		n = at < 0 ? -1 : readlink(link, buffer, sizeof buffer);
		say(" %s\n", n < 0 ? "-" : strchr(portable(buffer, n), '[') ? "[…]" : portable(buffer, n));
	}
	/* What was made by way of a removed directory lies in emptydir, which comes before these. */
	for (size_t i = 0; i < COUNT(made); i++)
		stat_of(AT_FDCWD, made[i], AT_SYMLINK_NOFOLLOW);
	dump_tree(".");
	return 0;
}
