/* execve and execveat of binaries, scripts, scripts of scripts and of what cannot be run; what the new program finds. */
#include "probe.h"
#include <sys/auxv.h>

static char self[PATH_MAX];

/* The program that is run: this one, as "report". */
static int report(int argc, char **argv, char **envp)
{
	char buffer[PATH_MAX];
	ssize_t n;
	struct stat exe, named;

	if (!getcwd(home, sizeof home))
		home[0] = 0;
	if (getenv("PROBE_HOME"))
		strcpy(home, getenv("PROBE_HOME"));
	say("    argc=%d", argc);
	for (int i = 0; i < argc; i++)
		say(" [%s]", argv[i] ? portable(argv[i], strlen(argv[i])) : "NULL");
	for (n = 0; envp[n]; n++)
		say(" {%s}", portable(envp[n], strlen(envp[n])));
	n = readlink("/proc/self/exe", buffer, sizeof buffer - 1);
	say(" exe=%s", n < 0 ? strerrorname_np(errno) : portable(buffer, n));
	if (n > 0) {
		buffer[n] = 0;
		say(" %s", stat("/proc/self/exe", &exe) || stat(buffer, &named) ? "-"
			   : exe.st_ino == named.st_ino                         ? "same"
										: "OTHER");
	}
	say(" execfn=%s", portable((char *)getauxval(AT_EXECFN), strlen((char *)getauxval(AT_EXECFN))));
	FILE *comm = fopen("/proc/self/comm", "re");
	if (comm && fgets(buffer, sizeof buffer, comm))
		say(" comm=%s", portable(buffer, strcspn(buffer, "\n")));
	if (comm)
		fclose(comm);
	say(" secure=%lu fds=", getauxval(AT_SECURE));
	for (int fd = 0; fd < 128; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			say("%d,", fd);
	say("\n");
	fflush(stdout);
	return 7;
}

typedef long call(const char *path, char **argv, char **envp);

static long by_execve(const char *path, char **argv, char **envp)
{
	return S(execve, path, argv, envp);
}
static long by_execveat(const char *path, char **argv, char **envp)
{
	return S(execveat, AT_FDCWD, path, argv, envp, 0);
}
static long by_nofollow(const char *path, char **argv, char **envp)
{
	return S(execveat, AT_FDCWD, path, argv, envp, AT_SYMLINK_NOFOLLOW);
}
static long by_bad_flags(const char *path, char **argv, char **envp)
{
	return S(execveat, AT_FDCWD, path, argv, envp, 1);
}
static long by_dirfd(const char *path, char **argv, char **envp)
{
	return S(execveat, open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), path, argv, envp, 0);
}
static long by_descriptor(const char *path, char **argv, char **envp)
{
	return S(execveat, open(path, O_PATH | O_NONBLOCK), "", argv, envp, AT_EMPTY_PATH);
}
static long by_cloexec(const char *path, char **argv, char **envp)
{
	return S(execveat, open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), "", argv, envp, AT_EMPTY_PATH);
}
static long by_proc(const char *path, char **argv, char **envp)
{
	char name[64];
	snprintf(name, sizeof name, "/proc/self/fd/%d", open(path, O_RDONLY | O_NONBLOCK));
	return S(execve, name, argv, envp);
}
static long by_null_argv(const char *path, char **argv, char **envp)
{
	(void)argv;
	return S(execve, path, NULL, envp);
}
static long by_bad_argv(const char *path, char **argv, char **envp)
{
	(void)argv;
	return S(execve, path, (char **)1, envp);
}
static long by_bad_envp(const char *path, char **argv, char **envp)
{
	(void)envp;
	return S(execve, path, argv, (char **)1);
}

static char probe_home[PATH_MAX];

static void run(const char *name, call *how, const char *label, const char *path)
{
	char *argv[] = { "argv0", "one", "two words", NULL }, *envp[] = { "A=1", probe_home, NULL };
	int status;
	pid_t child;

	say("%s %s(%s)\n", phase, name, label);
	fflush(stdout);
	child = fork();
	if (!child) {
		how(path, argv, envp);
		say("    %s\n", strerrorname_np(errno) ? strerrorname_np(errno) : "E?");
		fflush(stdout);
		_exit(1);
	}
	waitpid(child, &status, 0);
	if (WIFSIGNALED(status))
		say("    killed by %d\n", WTERMSIG(status));
	else if (WEXITSTATUS(status) != 1)
		say("    exit %d\n", WEXITSTATUS(status));
}

static void script(const char *name, const char *first_line)
{
	char *text = strings("%s\nexit 9\n", first_line);

	write_file(name, text, 0755);
	free(text);
}

static void copy_self(const char *to, int mode)
{
	char buffer[65536];
	int in = open(self, O_RDONLY | O_CLOEXEC), out = open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0700);
	ssize_t n;

	must(in, self);
	must(out, to);
	while ((n = read(in, buffer, sizeof buffer)) > 0)
		must(write(out, buffer, n), to);
	close(in);
	must(fchmod(out, mode), to);
	close(out);
}

int main(int argc, char **argv, char **envp)
{
	static const struct {
		const char *name;
		call *how;
	} hows[] = {
		{ "execve", by_execve },
		{ "execveat", by_execveat },
		{ "execveat NOFOLLOW", by_nofollow },
		{ "execveat bad flags", by_bad_flags },
		{ "execveat dirfd", by_dirfd },
		{ "fexecve O_PATH", by_descriptor },
		{ "fexecve CLOEXEC", by_cloexec },
		{ "/proc/self/fd", by_proc },
		{ "NULL argv", by_null_argv },
		{ "bad argv", by_bad_argv },
		{ "bad envp", by_bad_envp },
	};
	char *long_line = malloc(600);
	ssize_t n;

	if (getenv("PROBE_HOME"))
		return report(argc, argv, envp);
	n = readlink("/proc/self/exe", self, sizeof self - 1);
	must(n, "self");
	start();
	snprintf(probe_home, sizeof probe_home, "PROBE_HOME=%s", home);
	copy_self("report", 0755);
	copy_self("dir/report", 0755);
	copy_self("noexec", 0644);
	copy_self("execonly", 0111);
	must(symlink("report", "reportlink"), "reportlink");
	must(symlink("dir", "dirlink2"), "dirlink2");
	script("s-plain", "#!./report");
	script("s-argument", "#! ./report  -x  and more ");
	script("s-absolute", strings("#!%s/report", home));
	script("s-nested", "#!./s-argument second");
	script("s-nested2", "#!./s-nested");
	script("s-nested3", "#!./s-nested2");
	script("s-nested4", "#!./s-nested3");
	script("s-nested5", "#!./s-nested4");
	script("s-link", "#!./reportlink");
	script("s-missing", "#!./missing");
	script("s-directory", "#!./dir");
	script("s-noexec", "#!./noexec");
	script("s-itself", "#!./s-itself");
	script("s-empty", "#!");
	script("s-blank", "#!   ");
	script("s-crlf", "#!./report\r");
	script("s-sh", "#!/bin/sh -e");
	script("s-tab", "#!\t./report\targ\t");
	memset(long_line, 'x', 599);
	long_line[599] = 0;
	memcpy(long_line, "#!./report ", 11);
	script("s-long-argument", long_line);
	memset(long_line, '/', 599);
	memcpy(long_line, "#!./", 4);
	strcpy(long_line + 560, "report");
	script("s-long-path", long_line);
	write_file("noshebang", "exit 5\n", 0755);
	write_file("one", "#", 0755);
	write_file("justshebang", "#!./report", 0755);
	write_file("elfmagic", "\177ELF garbage", 0755);
	write_file("unreadable", "#!./report\n", 0111);
	forget_inodes();
	{
		static const char *const files[] = {
			"report",
			"dir/report",
			"reportlink",
			"dirlink2/report",
			"dirlink2/../report",
			"report/",
			"noexec",
			"execonly",
			"s-plain",
			"s-argument",
			"s-absolute",
			"s-nested",
			"s-nested2",
			"s-nested3",
			"s-nested4",
			"s-nested5",
			"s-link",
			"s-missing",
			"s-directory",
			"s-noexec",
			"s-itself",
			"s-empty",
			"s-blank",
			"s-crlf",
			"s-sh",
			"s-tab",
			"s-long-argument",
			"s-long-path",
			"noshebang",
			"one",
			"justshebang",
			"elfmagic",
			"unreadable",
			"empty",
			"dir",
			"dir/",
			"missing",
			"missing/x",
			"file/x",
			"fifo",
			"sock",
			"loop",
			"dangling",
			"locked/x",
			"",
			"/dev/null",
			"/",
			"/proc/self/exe",
			"/proc/self/cwd/report",
			"program",
		};
		for (size_t i = 0; i < COUNT(hows); i++) {
			phase = hows[i].name;
			for (size_t j = 0; j < COUNT(files); j++)
				run(hows[i].name, hows[i].how, files[j], files[j]);
		}
	}
	phase = "pointers";
	make_paths();
	for (struct path *p = paths; p < paths + path_count; p++)
		if (p->kind == ODD_POINTER)
			run("execve", by_execve, p->label, p->text);
	run("execve", by_execve, "absolute", strings("%s/report", home));
	run("execve", by_execve, "absolute script", strings("%s/s-plain", home));
	phase = "vfork";
	for (int i = 0; i < 50; i++) {
		char *child_argv[] = { "true", NULL };
		int status;
		pid_t child = vfork();
		if (!child) {
			execve("./program", child_argv, child_argv + 1);
			_exit(99);
		}
		waitpid(child, &status, 0);
		if (WEXITSTATUS(status) != 7)
			say("vfork %d: %x\n", i, status);
	}
	/* A file open for writing cannot be run, one that runs cannot be opened for writing. */
	phase = "busy";
	n = open("report", O_WRONLY);
	run("execve", by_execve, "open for writing", "report");
	close(n);
	result("open", "running", open(self, O_WRONLY) >= 0 ? 0 : -1);
	say("\n");
	return 0;
}
