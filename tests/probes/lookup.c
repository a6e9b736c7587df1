/* Calls that change nothing, on every path: the order of the kernel's checks is most of what shows here. */
#include "probe.h"

#define EACH(name, expression)                                                                                         \
	for (struct path *p = paths; p < paths + path_count; p++) {                                                    \
		const char *path = p->text;                                                                            \
		errno = 0;                                                                                             \
		result(name, p->label, expression);                                                                    \
		say("\n");                                                                                             \
	}

static void stat_calls(void)
{
	struct stat st;
	struct statx sx;
	static const struct {
		const char *name;
		int flags;
	} flags[] = {
		{ "0", 0 },
		{ "NOFOLLOW", AT_SYMLINK_NOFOLLOW },
		{ "EMPTY_PATH", AT_EMPTY_PATH },
		{ "EMPTY_PATH|NOFOLLOW", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW },
		{ "NO_AUTOMOUNT", AT_NO_AUTOMOUNT },
		{ "REMOVEDIR", AT_REMOVEDIR },
		{ "SYMLINK_FOLLOW", AT_SYMLINK_FOLLOW },
		{ "DONT_SYNC", AT_STATX_DONT_SYNC },
		{ "FORCE|DONT_SYNC", AT_STATX_DONT_SYNC | AT_STATX_FORCE_SYNC },
		{ "1<<30", 1 << 30 },
	};
	static const unsigned masks[] = { 0,         STATX_TYPE, STATX_INO,  STATX_BASIC_STATS,
					  STATX_ALL, 0x1000,     0x7fffffff, 1u << 31 };

	for (struct path *p = paths; p < paths + path_count; p++) {
		errno = 0;
		if (result("stat", p->label, S(stat, p->text, &st)) == 0)
			show_stat(&st);
		say("\n");
		if (result("lstat", p->label, S(lstat, p->text, &st)) == 0)
			show_stat(&st);
		say("\n");
		result("stat to NULL", p->label, S(stat, p->text, NULL));
		say("\n");
		for (size_t i = 0; i < COUNT(flags); i++) {
			say("%s: ", flags[i].name);
			if (result("newfstatat", p->label, S(newfstatat, AT_FDCWD, p->text, &st, flags[i].flags)) == 0)
				show_stat(&st);
			say("\n%s: ", flags[i].name);
			memset(&sx, 0, sizeof sx);
			if (result("statx", p->label,
				   S(statx, AT_FDCWD, p->text, flags[i].flags, STATX_BASIC_STATS | STATX_BTIME, &sx)) ==
			    0)
				show_statx(&sx);
			say("\n");
		}
		for (size_t i = 0; i < COUNT(masks); i++) {
			say("mask %x: ", masks[i]);
			memset(&sx, 0, sizeof sx);
			if (result("statx", p->label,
				   S(statx, AT_FDCWD, p->text, AT_SYMLINK_NOFOLLOW, masks[i], &sx)) == 0)
				say(" mask=%x mode=%o", sx.stx_mask & 0xfff, sx.stx_mode);
			say("\n");
		}
		result("statx to NULL", p->label, S(statx, AT_FDCWD, p->text, 0, STATX_ALL, NULL));
		say("\n");
	}
}

static void access_calls(void)
{
	static const int modes[] = { F_OK, R_OK, W_OK, X_OK, R_OK | W_OK | X_OK, 8, -1 };
	static const int flags[] = {
		0, AT_EACCESS, AT_SYMLINK_NOFOLLOW, AT_EACCESS | AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW,
		1
	};

	for (size_t i = 0; i < COUNT(modes); i++) {
		say("mode %d\n", modes[i]);
		EACH("access", S(access, path, modes[i]));
		EACH("faccessat", S(faccessat, AT_FDCWD, path, modes[i]));
		for (size_t j = 0; j < COUNT(flags); j++) {
			say("flags %x\n", flags[j]);
			EACH("faccessat2", S(faccessat2, AT_FDCWD, path, modes[i], flags[j]));
		}
	}
}

static void readlink_calls(void)
{
	static const int sizes[] = { 4096, 4, 1, 0, -1 };
	char buffer[4096];

	for (size_t i = 0; i < COUNT(sizes); i++)
		for (struct path *p = paths; p < paths + path_count; p++) {
			long n;
			if (!strcmp(p->label, "/proc/self") && sizes[i] < 4096)
				continue; /* half a process id */
			say("size %d ", sizes[i]);
			n = S(readlink, p->text, buffer, sizes[i]);
			if (n > 0 && strstr(p->label, "/proc"))
				say("readlink(%s) = %s\n", p->label, portable(buffer, n));
			else {
				result("readlink", p->label, n);
				say(" %s\n", n > 0 && strcmp(p->label, "homelink") ? portable(buffer, n) : "");
			}
			n = S(readlinkat, AT_FDCWD, p->text, buffer, sizes[i]);
			if (n <= 0) {
				result("readlinkat", p->label, n);
				say("\n");
			}
		}
	EACH("readlink to NULL", S(readlink, path, NULL, 100));
	EACH("readlink to 1", S(readlink, path, 1, 100));
}

static void statfs_calls(void)
{
	struct statfs fs;

	for (struct path *p = paths; p < paths + path_count; p++) {
		if (result("statfs", p->label, S(statfs, p->text, &fs)) == 0)
			say(" type=%lx bsize=%ld namelen=%ld frsize=%ld flags=%lx", (long)fs.f_type, (long)fs.f_bsize,
			    (long)fs.f_namelen, (long)fs.f_frsize, (long)fs.f_flags);
		say("\n");
	}
	EACH("statfs to NULL", S(statfs, path, NULL));
}

static void xattr_calls(void)
{
	char value[256];
	struct {
		uint64_t value;
		uint32_t size, flags;
	} args = { (uintptr_t)value, sizeof value, 0 };

	EACH("getxattr", S(getxattr, path, "user.probe", value, sizeof value));
	EACH("lgetxattr", S(lgetxattr, path, "user.probe", value, sizeof value));
	EACH("getxattr size 0", S(getxattr, path, "user.probe", NULL, 0));
	EACH("getxattr size 2", S(getxattr, path, "user.probe", value, 2));
	EACH("getxattr missing", S(getxattr, path, "user.missing", value, sizeof value));
	EACH("getxattr no namespace", S(getxattr, path, "probe", value, sizeof value));
	EACH("getxattr empty name", S(getxattr, path, "", value, sizeof value));
	EACH("getxattr NULL name", S(getxattr, path, NULL, value, sizeof value));
	EACH("getxattr to NULL", S(getxattr, path, "user.probe", NULL, 10));
	EACH("listxattr", S(listxattr, path, value, sizeof value));
	EACH("llistxattr", S(llistxattr, path, value, sizeof value));
	EACH("listxattr size 0", S(listxattr, path, NULL, 0));
	EACH("listxattr size 2", S(listxattr, path, value, 2));
	EACH("getxattrat", S(getxattrat, AT_FDCWD, path, 0, "user.probe", &args, sizeof args));
	EACH("getxattrat NOFOLLOW",
	     S(getxattrat, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, "user.probe", &args, sizeof args));
	EACH("getxattrat bad size", S(getxattrat, AT_FDCWD, path, 0, "user.probe", &args, 3));
	EACH("getxattrat huge size", S(getxattrat, AT_FDCWD, path, 0, "user.probe", &args, 1 << 20));
	EACH("getxattrat bad flags", S(getxattrat, AT_FDCWD, path, 1 << 20, "user.probe", &args, sizeof args));
	args.flags = 1;
	EACH("getxattrat args.flags", S(getxattrat, AT_FDCWD, path, 0, "user.probe", &args, sizeof args));
	EACH("listxattrat", S(listxattrat, AT_FDCWD, path, 0, value, sizeof value));
	EACH("listxattrat EMPTY_PATH", S(listxattrat, AT_FDCWD, path, AT_EMPTY_PATH, value, sizeof value));
}

static void handle_calls(void)
{
	static const int flags[] = { 0, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, 0x200 };
	char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	struct file_handle *handle = (void *)space;
	int mount;

	for (size_t i = 0; i < COUNT(flags); i++) {
		say("flags %x\n", flags[i]);
		EACH("name_to_handle_at", (handle->handle_bytes = MAX_HANDLE_SZ,
					   S(name_to_handle_at, AT_FDCWD, path, handle, &mount, flags[i])));
	}
	EACH("name_to_handle_at small",
	     (handle->handle_bytes = 0, S(name_to_handle_at, AT_FDCWD, path, handle, &mount, 0)));
	EACH("name_to_handle_at NULL", S(name_to_handle_at, AT_FDCWD, path, NULL, &mount, 0));
	EACH("name_to_handle_at huge",
	     (handle->handle_bytes = 1000, S(name_to_handle_at, AT_FDCWD, path, handle, &mount, 0)));
}

static void inotify_calls(void)
{
	int fd = S(inotify_init1, IN_CLOEXEC | IN_NONBLOCK);

	EACH("inotify_add_watch", S(inotify_add_watch, fd, path, 0x100));
	EACH("inotify_add_watch DONT_FOLLOW", S(inotify_add_watch, fd, path, 0x100 | 0x02000000));
	EACH("inotify_add_watch ONLYDIR", S(inotify_add_watch, fd, path, 0x100 | 0x01000000));
	EACH("inotify_add_watch mask 0", S(inotify_add_watch, fd, path, 0));
	EACH("inotify_add_watch MASK_CREATE", S(inotify_add_watch, fd, path, 0x100 | 0x10000000));
	EACH("inotify_add_watch bad fd", S(inotify_add_watch, 77, path, 0x100));
	EACH("inotify_add_watch stdin", S(inotify_add_watch, 0, path, 0x100));
	close(fd);
}

static void chdir_calls(void)
{
	char buffer[PATH_MAX];
	long n;

	say("here: %s\n", home);
	for (struct path *p = paths; p < paths + path_count; p++) {
		result("chdir", p->label, S(chdir, p->text));
		n = S(getcwd, buffer, sizeof buffer);
		say(" getcwd = %ld %s", n < 0 ? n : 0,
		    n < 0 ? strerrorname_np(errno) : portable(buffer, strlen(buffer)));
		n = S(readlink, "/proc/self/cwd", buffer, sizeof buffer);
		say(" link = %s\n", n < 0 ? strerrorname_np(errno) : portable(buffer, n));
		must(chdir(home), "home");
	}
	for (int size = 0; size < 6; size++) {
		result("getcwd", "small", S(getcwd, buffer, size));
		say("\n");
	}
	result("getcwd", "NULL", S(getcwd, NULL, 4096));
	say("\n");
	result("getcwd", "exact", S(getcwd, buffer, strlen(home) + 1) < 0 ? -1 : 0);
	say("\n");
	result("getcwd", "one less", S(getcwd, buffer, strlen(home)));
	say("\n");
	must(mkdir("emptydir/gone", 0755), "gone");
	must(chdir("emptydir/gone"), "gone");
	must(rmdir("../gone"), "gone");
	result("getcwd", "removed", S(getcwd, buffer, sizeof buffer));
	say("\n");
	n = S(readlink, "/proc/self/cwd", buffer, sizeof buffer);
	say("link of removed = %s\n", n < 0 ? strerrorname_np(errno) : portable(buffer, n));
	result("open", ". in removed", S(open, "new", O_CREAT | O_WRONLY, 0600));
	result("chdir", ".. of removed", S(chdir, ".."));
	n = S(getcwd, buffer, sizeof buffer);
	say(" %s\n", n < 0 ? strerrorname_np(errno) : portable(buffer, strlen(buffer)));
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} parts[] = {
		{ "stat", stat_calls },       { "access", access_calls }, { "readlink", readlink_calls },
		{ "statfs", statfs_calls },   { "xattr", xattr_calls },   { "handle", handle_calls },
		{ "inotify", inotify_calls }, { "chdir", chdir_calls },
	};

	start();
	make_paths();
	for (size_t i = 0; i < COUNT(parts); i++) {
		if (argc > 1 && strcmp(argv[1], parts[i].name))
			continue;
		phase = parts[i].name;
		parts[i].run();
		must(chdir(home), "home");
	}
	fflush(stdout);
	return 0;
}
