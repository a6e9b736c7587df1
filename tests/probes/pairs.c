/* Calls on two names: rename and link in all their forms, every first name with every second. */
#include "probe.h"

static const char *const names[] = {
	"file",
	"empty",
	"dir",
	"dir/",
	"emptydir",
	"emptydir/",
	"dir/sub",
	"dir/file",
	"link",
	"link/",
	"dirlink",
	"dirlink/",
	"dangling",
	"loop",
	"missing",
	"missing/",
	"missing/x",
	"file/",
	"file/x",
	".",
	"dir/..",
	"dir/.",
	"/",
	"",
	"locked/file",
	"sticky",
	"sock",
	"fifo",
	"hard",
	"nowhere",
	"homelink/newname",
	"dir/new",
	"dir/sub/new",
	"dirlink/new",
};

/* A fresh tree for each pair would be most of the time: the tree is made anew only when a call succeeded. */
static void pairs(const char *name, long (*call)(const char *, const char *, unsigned), unsigned flags)
{
	char label[600];

	forget_inodes();
	make_tree();
	for (size_t i = 0; i < COUNT(names); i++)
		for (size_t j = 0; j < COUNT(names); j++) {
			struct stat st;
			errno = 0;
			snprintf(label, sizeof label, "%s, %s, %x", names[i], names[j], flags);
			if (result(name, label, call(names[i], names[j], flags)) < 0) {
				say("\n");
				continue;
			}
			for (int k = 0; k < 2; k++)
				if (S(lstat, k ? names[j] : names[i], &st) < 0)
					say(" [%s]", strerrorname_np(errno));
				else
					say(" [mode=%o nlink=%lu]", st.st_mode, (unsigned long)st.st_nlink);
			say("\n");
			make_tree();
		}
}

static long do_rename(const char *a, const char *b, unsigned flags)
{
	(void)flags;
	return S(rename, a, b);
}
static long do_renameat2(const char *a, const char *b, unsigned flags)
{
	return S(renameat2, AT_FDCWD, a, AT_FDCWD, b, flags);
}
static long do_link(const char *a, const char *b, unsigned flags)
{
	(void)flags;
	return S(link, a, b);
}
static long do_linkat(const char *a, const char *b, unsigned flags)
{
	return S(linkat, AT_FDCWD, a, AT_FDCWD, b, flags);
}

static void by_descriptor(void)
{
	char path[64], buffer[16];
	int fd, dir;

	make_tree();
	fd = S(open, ".", O_TMPFILE | O_RDWR, 0640);
	must(fd, "TMPFILE");
	must(write(fd, "tmp", 3), "write");
	sprintf(path, "/proc/self/fd/%d", fd);
	result("linkat /proc/self/fd", "NOFOLLOW", S(linkat, AT_FDCWD, path, AT_FDCWD, "named", 0));
	result("linkat /proc/self/fd", "FOLLOW", S(linkat, AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
	result("linkat", "EMPTY_PATH", S(linkat, fd, "", AT_FDCWD, "named2", AT_EMPTY_PATH));
	result("linkat", "empty, no flag", S(linkat, fd, "", AT_FDCWD, "named3", 0));
	close(fd);
	fd = S(open, ".", O_TMPFILE | O_RDWR | O_EXCL, 0640);
	sprintf(path, "/proc/self/fd/%d", fd);
	result("linkat", "O_EXCL", S(linkat, AT_FDCWD, path, AT_FDCWD, "named4", AT_SYMLINK_FOLLOW));
	close(fd);
	fd = S(open, "dir/file", O_PATH);
	dir = S(open, "dir", O_PATH | O_DIRECTORY);
	sprintf(path, "/proc/self/fd/%d", fd);
	result("linkat O_PATH", "FOLLOW", S(linkat, AT_FDCWD, path, dir, "again", AT_SYMLINK_FOLLOW));
	result("open of /proc/self/fd", "O_PATH", S(open, path, O_RDONLY));
	result("chmod of /proc/self/fd", "O_PATH", S(chmod, path, 0600));
	result("fchmod", "O_PATH", S(fchmod, fd, 0600));
	result("readlinkat", "EMPTY on file", S(readlinkat, fd, "", buffer, sizeof buffer));
	close(fd);
	fd = S(open, "link", O_PATH | O_NOFOLLOW);
	result("readlinkat", "EMPTY on link", S(readlinkat, fd, "", buffer, sizeof buffer));
	result("renameat", "in the tree", S(renameat, AT_FDCWD, "empty", AT_FDCWD, "dir/empty"));
	result("renameat", "through dirfd", S(renameat, dir, "file", AT_FDCWD, "moved"));
	result("renameat", "bad dirfds", S(renameat, 77, "file", 78, "moved"));
	result("renameat", "file as dirfd", S(renameat, fd, "file", AT_FDCWD, "moved"));
	result("renameat2", "NULLs", S(renameat2, AT_FDCWD, NULL, AT_FDCWD, NULL, 0));
	result("renameat2", "NULLs, bad flags", S(renameat2, AT_FDCWD, NULL, AT_FDCWD, NULL, 99));
	result("linkat", "NULLs, bad flags", S(linkat, AT_FDCWD, NULL, AT_FDCWD, NULL, 1));
	result("symlinkat", "bad dirfd, NULL", S(symlinkat, NULL, 77, NULL));
	say("\n");
	dump_tree(".");
}

int main(void)
{
	static const unsigned flags[] = { 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_NOREPLACE | RENAME_EXCHANGE, 8 };

	light = 1;
	start();
	phase = "rename";
	pairs("rename", do_rename, 0);
	for (size_t i = 0; i < COUNT(flags); i++)
		pairs("renameat2", do_renameat2, flags[i]);
	phase = "link";
	pairs("link", do_link, 0);
	pairs("linkat", do_linkat, 0);
	pairs("linkat", do_linkat, AT_SYMLINK_FOLLOW);
	pairs("linkat", do_linkat, AT_EMPTY_PATH);
	pairs("linkat", do_linkat, 1);
	phase = "descriptors";
	by_descriptor();
	return 0;
}
