/* chroot: with the privilege and without; what it does to paths, .., getcwd and /proc. */
#include "probe.h"

static void in_child(const char *label, void (*run)(void))
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		phase = label;
		run();
		fflush(stdout);
		_exit(0);
	}
	waitpid(child, &status, 0);
	if (status)
		say("%s ended with %x\n", label, status);
}

static void errors(void)
{
	for (struct path *p = paths; p < paths + path_count; p++) {
		if (p->kind & OUTSIDE)
			continue;
		fflush(stdout);
		if (!fork()) {
			result("chroot", p->label, S(chroot, p->text));
			say("\n");
			fflush(stdout);
			_exit(0);
		}
		wait(NULL);
	}
}

static void inside(void)
{
	char buffer[PATH_MAX];
	long n;
	struct stat a, b;
	int outside = open(".", O_PATH | O_DIRECTORY);

	if (result("chroot", "dir", S(chroot, "dir")) < 0) {
		say("\n");
		return;
	}
	say("\n");
	n = S(getcwd, buffer, sizeof buffer);
	say("getcwd of outside: %s\n", n < 0              ? strerrorname_np(errno)
				       : buffer[0] == '(' ? "(unreachable)"
							  : portable(buffer, strlen(buffer)));
	result("open", "file by cwd", S(open, "file", O_RDONLY) < 0 ? -1 : 0);
	result("chdir", "/", S(chdir, "/"));
	n = S(getcwd, buffer, sizeof buffer);
	say(" getcwd: %s\n", n < 0 ? strerrorname_np(errno) : portable(buffer, strlen(buffer)));
	result("access", "/file", S(access, "/file", F_OK));
	result("access", "/../file", S(access, "/../../../file", F_OK));
	result("access", "/sub/deep", S(access, "/sub/deep", F_OK));
	result("access", "/windinglink", S(access, "/windinglink", F_OK));
	result("access", "/uplink/file", S(access, "/uplink/file", F_OK));
	result("access", "/dev/null", S(access, "/dev/null", F_OK));
	say("\n");
	stat("/", &a);
	stat("/..", &b);
	say("same root: %d\n", a.st_ino == b.st_ino);
	result("openat", "by old directory", S(openat, outside, "file", O_RDONLY) < 0 ? -1 : 0);
	result("openat", "..", S(openat, outside, "..", O_PATH) < 0 ? -1 : 0);
	result("execve", "/program", S(execve, "/program", NULL, NULL));
	result("mkdir", "/made", S(mkdir, "/made", 0755));
	say("\n");
	fflush(stdout);
	if (!fork()) {
		result("access in a child", "/file", S(access, "/file", F_OK));
		say("\n");
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
}

int main(void)
{
	start();
	make_paths();
	in_child("errors", errors);
	in_child("inside", inside);
	dump_tree("dir");
	return 0;
}
