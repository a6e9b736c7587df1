/* /proc as a program sees itself and its relatives in it. */
#include "probe.h"

static void show_link(const char *path)
{
	char buffer[PATH_MAX];
	ssize_t n = S(readlink, path, buffer, sizeof buffer);
	struct stat a, b;

	say("%s %s -> %s", phase, portable(path, strlen(path)), n < 0 ? strerrorname_np(errno) : "");
	if (n >= 0) {
		char *text = strdup(portable(buffer, n)), *colon = strchr(text, '[');
		if (colon)
			*colon = 0; /* pipe:[123]: the number is nobody's business */
		say("%s", text);
	}
	/* The link's text must name what the link leads to. */
	buffer[n < 0 ? 0 : n] = 0;
	if (n > 0 && buffer[0] == '/' && stat(path, &a) == 0)
		say(" %s", stat(buffer, &b)                               ? strerrorname_np(errno)
			   : a.st_dev == b.st_dev && a.st_ino == b.st_ino ? "same"
									  : "OTHER");
	say("\n");
}

static void links_of(const char *base)
{
	static const char *const names[] = { "cwd",   "root",  "fd/0",  "fd/90", "fd/91",   "fd/92",
					     "fd/93", "fd/94", "fd/89", "fd/x",  "ns/mnt-", "task/1x" };
	char path[PATH_MAX];

	for (size_t i = 0; i < COUNT(names); i++) {
		snprintf(path, sizeof path, "%s/%s", base, names[i]);
		show_link(path);
	}
}

static void show_open(const char *path, int flags)
{
	result("open", portable(path, strlen(path)), -(S(open, path, flags) < 0 ? errno : 0));
	close(3);
	say("\n");
}

/* Lines of a file of /proc that name our tree: maps names what is mapped, as paths that exist. */
static void grep(const char *path, const char *what)
{
	FILE *file = fopen(path, "re");
	char line[8192], *at;
	int count = 0;

	if (!file) {
		say("%s %s: %s\n", phase, path, strerrorname_np(errno));
		return;
	}
	while (fgets(line, sizeof line, file))
		if ((at = strstr(line, what)) && !count++)
			say("%s %s: %s\n", phase, portable(path, strlen(path)), portable(at, strcspn(at, "\n")));
	say("%s %s: %d lines\n", phase, portable(path, strlen(path)), count);
	fclose(file);
}

int main(void)
{
	static const char *const bases[] = { "/proc/self", "/proc/thread-self" };
	char base[64], buffer[PATH_MAX], path[PATH_MAX];
	int ready[2], done[2], fd, ppid = getpid();
	ssize_t n;
	pid_t child;

	start();
	phase = "self";
	fd = fcntl(open("file", O_RDONLY), F_DUPFD, 90), close(3);
	fd = fcntl(open("dir/sub", O_PATH), F_DUPFD, 91), close(3);
	fd = fcntl(open("link", O_PATH | O_NOFOLLOW), F_DUPFD, 92), close(3);
	must(pipe(ready), "pipe");
	fcntl(ready[0], F_DUPFD, 93);
	close(ready[0]), close(ready[1]);
	fd = fcntl(open("empty", O_RDONLY), F_DUPFD, 94), close(3);
	must(unlink("empty"), "empty");
	n = readlink("/proc/self", buffer, sizeof buffer);
	say("/proc/self -> %s\n", portable(buffer, n));
	n = readlink("/proc/thread-self", buffer, sizeof buffer);
	say("/proc/thread-self -> %s\n", portable(buffer, n));
	for (size_t i = 0; i < COUNT(bases); i++)
		links_of(bases[i]);
	snprintf(base, sizeof base, "/proc/%d", getpid());
	links_of(base);
	snprintf(base, sizeof base, "/proc/%d/task/%d", getpid(), getpid());
	links_of(base);
	show_open("/proc/self/fd/90", O_RDONLY);
	show_open("/proc/self/fd/90", O_WRONLY);
	show_open("/proc/self/fd/91", O_RDONLY);
	show_open("/proc/self/fd/91/deep", O_RDONLY);
	show_open("/proc/self/fd/91/../file", O_RDONLY);
	show_open("/proc/self/fd/92", O_RDONLY);
	show_open("/proc/self/fd/92", O_PATH);
	show_open("/proc/self/fd/93", O_RDONLY | O_NONBLOCK);
	show_open("/proc/self/fd/94", O_RDONLY);
	show_open("/proc/self/fd/94", O_RDWR);
	show_open("/proc/self/fd/89", O_RDONLY);
	show_open("/proc/self/fd/90", O_RDONLY | O_NOFOLLOW);
	show_open("/proc/self/fd/90/", O_RDONLY);
	show_open("/proc/self/cwd", O_RDONLY | O_NOFOLLOW);
	show_open("/proc/self/cwd/..", O_RDONLY);
	show_open("/proc/self/root/..", O_RDONLY);
	show_open("/proc/self/exe", O_RDONLY);
	show_open("/proc/self/exe", O_WRONLY);
	show_open("/proc/self/nothing", O_RDONLY);
	show_open("/proc/1x", O_RDONLY);
	show_open("/proc/999999999/cwd", O_RDONLY);
	show_open("/proc/self/../self/cwd/file", O_RDONLY);
	fd = open("/proc/self", O_RDONLY | O_DIRECTORY);
	say("through a dirfd of /proc/self: %d\n", openat(fd, "cwd/file", O_RDONLY) >= 0);
	n = readlinkat(fd, "cwd", buffer, sizeof buffer);
	say("readlinkat: %s\n", n < 0 ? strerrorname_np(errno) : portable(buffer, n));
	close(fd);

	phase = "maps";
	fd = open("sparse", O_RDWR);
	mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	grep("/proc/self/maps", home);
	grep("/proc/thread-self/maps", home);
	grep("/proc/self/fdinfo/90", "flags");
	grep("/proc/self/status", "Name:");
	grep("/proc/self/status", "Umask:");
	grep("/proc/self/stat", "(proc)");
	grep("/proc/self/limits", "Max file locks");
	grep("/proc/self/limits", "Max open files");

	phase = "parent";
	must(pipe(ready), "pipe");
	must(pipe(done), "pipe");
	fflush(stdout);
	child = fork();
	if (!child) {
		must(chdir("dir"), "dir");
		must(write(ready[1], "r", 1), "ready");
		read(done[0], buffer, 1);
		/* Of its parent, whose place differs from its own. */
		snprintf(path, sizeof path, "/proc/%d/cwd", ppid);
		n = readlink(path, buffer, sizeof buffer);
		say("parent's cwd -> %s\n", portable(buffer, n < 0 ? 0 : n));
		snprintf(path, sizeof path, "/proc/%d/cwd/file", ppid);
		say("its file: %d\n", access(path, F_OK));
		fflush(stdout);
		_exit(0);
	}
	read(ready[0], buffer, 1);
	phase = "child";
	snprintf(path, sizeof path, "/proc/%d/cwd", child);
	n = readlink(path, buffer, sizeof buffer);
	say("child's cwd -> %s\n", n < 0 ? strerrorname_np(errno) : portable(buffer, n));
	snprintf(path, sizeof path, "/proc/%d/cwd/sub/deep", child);
	say("its file: %d\n", access(path, F_OK));
	snprintf(path, sizeof path, "/proc/%d/root%s/file", child, home);
	say("by its root: %d\n", access(path, F_OK));
	snprintf(path, sizeof path, "/proc/%d/fd/90", child);
	n = readlink(path, buffer, sizeof buffer);
	say("its fd 90 -> %s\n", n < 0 ? strerrorname_np(errno) : portable(buffer, n));
	fflush(stdout);
	must(write(done[1], "d", 1), "done");
	waitpid(child, NULL, 0);
	snprintf(path, sizeof path, "/proc/%d/cwd", child);
	result("readlink", "of the dead", S(readlink, path, buffer, sizeof buffer));
	say("\n");

	phase = "limits";
	{
		struct rlimit limit = { 1, 1 };
		result("getrlimit", "LOCKS", S(getrlimit, 10, &limit));
		say(" unlimited %d\n", limit.rlim_cur == RLIM_INFINITY);
		result("prlimit64", "LOCKS", S(prlimit64, 0, 10, NULL, &limit));
		say(" unlimited %d\n", limit.rlim_cur == RLIM_INFINITY);
		result("getrlimit", "LOCKS NULL", S(getrlimit, 10, NULL));
		result("getrlimit", "bad", S(getrlimit, 99, &limit));
		result("prlimit64", "nobody", S(prlimit64, 999999999, 10, NULL, &limit));
		result("setrlimit", "LOCKS NULL", S(setrlimit, 10, NULL));
		limit.rlim_cur = 10, limit.rlim_max = 5;
		result("setrlimit", "LOCKS backwards", S(setrlimit, 10, &limit));
		say("\n");
	}
	result("prctl", "SET_DUMPABLE 2", S(prctl, 4, 2, 0, 0, 0));
	result("prctl", "SET_DUMPABLE 0", S(prctl, 4, 0, 0, 0, 0));
	result("prctl", "GET_DUMPABLE", S(prctl, 3, 0, 0, 0, 0));
	result("open", "after it", S(open, "file", O_RDONLY) < 0 ? -1 : 0);
	result("prctl", "SET_DUMPABLE 1", S(prctl, 4, 1, 0, 0, 0));
	result("prctl", "GET_DUMPABLE", S(prctl, 3, 0, 0, 0, 0));
	say("\n");
	return 0;
}
