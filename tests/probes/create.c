/* What a new inode gets: mode under umask, group in a setgid directory, the same for every way of making one; sticky directories. */
#include "probe.h"

static void make_all(const char *directory)
{
	static const int modes[] = { 0666, 0777, 0600, 07777, 02755, 04755, 01777, 0 };
	char path[256];
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	for (size_t i = 0; i < COUNT(modes); i++) {
		snprintf(path, sizeof path, "%s/open%zu", directory, i);
		show_descriptor(result("open", path, S(open, path, O_CREAT | O_WRONLY, modes[i])));
		snprintf(path, sizeof path, "%s/creat%zu", directory, i);
		show_descriptor(result("creat", path, S(creat, path, modes[i])));
		snprintf(path, sizeof path, "%s/mkdir%zu", directory, i);
		result("mkdir", path, S(mkdir, path, modes[i]));
		snprintf(path, sizeof path, "%s/mkdir%zu/below", directory, i);
		result("mkdir", path, S(mkdir, path, 0755));
		snprintf(path, sizeof path, "%s/fifo%zu", directory, i);
		result("mknod", path, S(mknod, path, S_IFIFO | modes[i], 0));
		snprintf(path, sizeof path, "%s/node%zu", directory, i);
		result("mknod", path, S(mknod, path, S_IFREG | modes[i], 0));
		say("\n");
		show_descriptor(result("TMPFILE", directory, S(open, directory, O_TMPFILE | O_RDWR, modes[i])));
		forget_inodes();
	}
	snprintf(path, sizeof path, "%s/symlink", directory);
	result("symlink", path, S(symlink, "text", path));
	snprintf(path, sizeof path, "%s/null", directory);
	result("mknod device", path, S(mknod, path, S_IFCHR | 0666, makedev(1, 3)));
	result("mknod whiteout", path,
	       (snprintf(path, sizeof path, "%s/white", directory), S(mknod, path, S_IFCHR | 0666, 0)));
	snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", directory);
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	result("bind", address.sun_path, S(bind, fd, &address, sizeof address));
	close(fd);
	say("\n");
}

int main(void)
{
	static const int masks[] = { 022, 0, 077, 0777, 027 };

	start();
	for (size_t i = 0; i < COUNT(masks); i++) {
		forget_inodes();
		make_tree();
		umask(masks[i]);
		say("umask %o\n", masks[i]);
		phase = "umask";
		make_all("emptydir");
		make_all("setgid");
		make_all("sticky");
		umask(022);
		dump_tree(".");
	}
	/* Threads have one umask for the process; a thread of its own fs_struct (unshare) has another. */
	make_tree();
	if (unshare(CLONE_FS) == 0) {
		umask(0);
		show_descriptor(
			result("open", "after unshare(CLONE_FS)", S(open, "unshared", O_CREAT | O_WRONLY, 0666)));
	}
	/* The file's mode does not bind the descriptor that made it. */
	umask(022);
	show_descriptor(result("open", "mode 0, RDWR", S(open, "nomode", O_CREAT | O_RDWR, 0)));
	show_descriptor(result("open", "mode 0, again", S(open, "nomode", O_CREAT | O_RDWR, 0)));
	return 0;
}
