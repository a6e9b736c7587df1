/* Calls that change one name or one inode, each over every path on a fresh tree; then the tree is shown. */
#include "probe.h"

enum { ATTRIBUTES = 1 }; /* changes the object itself, so never one outside of the tree */

#define EACH(name, what, expression)                                                                                   \
	do {                                                                                                           \
		forget_inodes();                                                                                       \
		make_tree();                                                                                           \
		for (struct path *p = paths; p < paths + path_count; p++) {                                            \
			const char *path = p->text;                                                                    \
			if ((p->kind & FRAGILE) || ((what) == ATTRIBUTES && (p->kind & OUTSIDE)))                      \
				continue;                                                                              \
			errno = 0;                                                                                     \
			result(name, p->label, expression);                                                            \
			say("\n");                                                                                     \
		}                                                                                                      \
		dump_tree(".");                                                                                        \
	} while (0)

static void names(void)
{
	EACH("mkdir", 0, S(mkdir, path, 0751));
	EACH("mkdir 07777", 0, S(mkdir, path, 07777));
	EACH("mkdirat", 0, S(mkdirat, AT_FDCWD, path, 0700));
	EACH("mknod FIFO", 0, S(mknod, path, S_IFIFO | 0644, 0));
	EACH("mknod regular", 0, S(mknod, path, S_IFREG | 0644, 0));
	EACH("mknod 0", 0, S(mknod, path, 0600, 0));
	EACH("mknod socket", 0, S(mknod, path, S_IFSOCK | 0644, 0));
	EACH("mknod directory", 0, S(mknod, path, S_IFDIR | 0644, 0));
	EACH("mknod symlink", 0, S(mknod, path, S_IFLNK | 0644, 0));
	EACH("mknod bad type", 0, S(mknod, path, 0170000, 0));
	EACH("mknodat FIFO", 0, S(mknodat, AT_FDCWD, path, S_IFIFO | 0600, 0));
	EACH("unlink", 0, S(unlink, path));
	EACH("rmdir", 0, S(rmdir, path));
	EACH("unlinkat 0", 0, S(unlinkat, AT_FDCWD, path, 0));
	EACH("unlinkat REMOVEDIR", 0, S(unlinkat, AT_FDCWD, path, AT_REMOVEDIR));
	EACH("unlinkat bad flag", 0, S(unlinkat, AT_FDCWD, path, 1));
	EACH("symlink", 0, S(symlink, "target", path));
	EACH("symlink to self text", 0, S(symlink, path, "newname"));
	EACH("symlink empty", 0, S(symlink, "", path));
	EACH("symlink NULL", 0, S(symlink, NULL, path));
	EACH("symlinkat", 0, S(symlinkat, "other", AT_FDCWD, path));
	EACH("link file", 0, S(link, "file", path));
	EACH("rename file", 0, S(rename, "file", path));
	EACH("rename dir", 0, S(rename, "emptydir", path));
}

static void attributes(void)
{
	struct timeval tv[2] = { { 1000000, 1 }, { 2000000, 2 } }, tv_bad[2] = { { 1, 1000000 }, { 1, 0 } };
	struct timespec ts[2] = { { 3000000, 3 }, { 4000000, 4 } }, omit[2] = { { 0, UTIME_OMIT }, { 5, 5 } },
			both_omit[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } },
			now[2] = { { 0, UTIME_NOW }, { 0, UTIME_NOW } }, bad[2] = { { 0, 1000000000 }, { 0, 0 } };
	struct utimbuf ut = { 5000000, 6000000 };
	static const int at_flags[] = {
		0, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, AT_SYMLINK_FOLLOW, 1
	};
	struct {
		uint64_t value;
		uint32_t size, flags;
	} args = { (uintptr_t)"new", 3, 0 };

	EACH("chmod", ATTRIBUTES, S(chmod, path, 0641));
	EACH("chmod 07777", ATTRIBUTES, S(chmod, path, 07777));
	EACH("chmod type bits", ATTRIBUTES, S(chmod, path, 0100755));
	EACH("fchmodat", ATTRIBUTES, S(fchmodat, AT_FDCWD, path, 0600));
	for (size_t i = 0; i < COUNT(at_flags); i++) {
		say("flags %x\n", at_flags[i]);
		EACH("fchmodat2", ATTRIBUTES, S(fchmodat2, AT_FDCWD, path, 0604, at_flags[i]));
		EACH("fchownat -1", ATTRIBUTES, S(fchownat, AT_FDCWD, path, -1, -1, at_flags[i]));
		EACH("utimensat", ATTRIBUTES, S(utimensat, AT_FDCWD, path, ts, at_flags[i]));
	}
	EACH("chown self", ATTRIBUTES, S(chown, path, getuid(), getgid()));
	EACH("chown 1", ATTRIBUTES, S(chown, path, 1, -1));
	EACH("chown group 1", ATTRIBUTES, S(chown, path, -1, 1));
	EACH("lchown 1", ATTRIBUTES, S(lchown, path, 1, 1));
	EACH("truncate 3", ATTRIBUTES, S(truncate, path, 3));
	EACH("truncate 5000", ATTRIBUTES, S(truncate, path, 5000));
	EACH("truncate -1", ATTRIBUTES, S(truncate, path, -1L));
	EACH("truncate huge", ATTRIBUTES, S(truncate, path, 1L << 62));
	EACH("utime", ATTRIBUTES, S(utime, path, &ut));
	EACH("utime NULL", ATTRIBUTES, S(utime, path, NULL));
	EACH("utime bad pointer", ATTRIBUTES, S(utime, path, 1));
	EACH("utimes", ATTRIBUTES, S(utimes, path, tv));
	EACH("utimes NULL", ATTRIBUTES, S(utimes, path, NULL));
	EACH("utimes bad", ATTRIBUTES, S(utimes, path, tv_bad));
	EACH("futimesat", ATTRIBUTES, S(futimesat, AT_FDCWD, path, tv));
	EACH("utimensat NULL", ATTRIBUTES, S(utimensat, AT_FDCWD, path, NULL, 0));
	EACH("utimensat OMIT", ATTRIBUTES, S(utimensat, AT_FDCWD, path, omit, 0));
	EACH("utimensat both OMIT", ATTRIBUTES, S(utimensat, AT_FDCWD, path, both_omit, 0));
	EACH("utimensat NOW", ATTRIBUTES, S(utimensat, AT_FDCWD, path, now, AT_SYMLINK_NOFOLLOW));
	EACH("utimensat bad", ATTRIBUTES, S(utimensat, AT_FDCWD, path, bad, 0));
	EACH("utimensat bad pointer", ATTRIBUTES, S(utimensat, AT_FDCWD, path, 1, 0));
	EACH("setxattr", ATTRIBUTES, S(setxattr, path, "user.new", "abc", 3, 0));
	EACH("setxattr CREATE", ATTRIBUTES, S(setxattr, path, "user.probe", "abc", 3, XATTR_CREATE));
	EACH("setxattr REPLACE", ATTRIBUTES, S(setxattr, path, "user.probe", "abc", 3, XATTR_REPLACE));
	EACH("setxattr bad flags", ATTRIBUTES, S(setxattr, path, "user.probe", "abc", 3, 8));
	EACH("setxattr too big", ATTRIBUTES, S(setxattr, path, "user.probe", "abc", 65537, 0));
	EACH("setxattr NULL value", ATTRIBUTES, S(setxattr, path, "user.probe", NULL, 3, 0));
	EACH("setxattr long name", ATTRIBUTES, S(setxattr, path, strings("user.%0300d", 1), "a", 1, 0));
	EACH("setxattr empty value", ATTRIBUTES, S(setxattr, path, "user.e", NULL, 0, 0));
	EACH("lsetxattr", ATTRIBUTES, S(lsetxattr, path, "user.new", "abcd", 4, 0));
	EACH("removexattr", ATTRIBUTES, S(removexattr, path, "user.probe"));
	EACH("lremovexattr", ATTRIBUTES, S(lremovexattr, path, "user.probe"));
	EACH("removexattr missing", ATTRIBUTES, S(removexattr, path, "user.none"));
	EACH("setxattrat", ATTRIBUTES, S(setxattrat, AT_FDCWD, path, 0, "user.new", &args, sizeof args));
	EACH("setxattrat NOFOLLOW", ATTRIBUTES,
	     S(setxattrat, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, "user.new", &args, sizeof args));
	EACH("setxattrat bad", ATTRIBUTES, S(setxattrat, AT_FDCWD, path, 1 << 20, "user.new", &args, sizeof args));
	EACH("removexattrat", ATTRIBUTES, S(removexattrat, AT_FDCWD, path, 0, "user.probe"));
}

int main(int argc, char **argv)
{
	start();
	make_paths();
	for (int i = 0; i < 2; i++)
		if (argc < 2 || !strcmp(argv[1], i ? "attributes" : "names")) {
			phase = i ? "attributes" : "names";
			(i ? attributes : names)();
		}
	return 0;
}
