/* The child that becomes the command. After the filter is in place it makes no call that a view may trap, but execve. */
#include "launcher.h"

#include <errno.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static noreturn void fail(int sock, enum stage stage)
{
	struct progress p = { stage, errno };

	if (write(sock, &p, sizeof(p)) < 0)
		_exit(EXIT_OURS);
	_exit(EXIT_OURS);
}

/* The hard limit stays: of the tag the filter answers for both. */
static int set_soft_limit(int resource, rlim_t soft)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0)
		return -1;
	limit.rlim_cur = soft;
	return setrlimit(resource, &limit);
}

static const char *variable(char **envp, const char *name)
{
	size_t n = strlen(name);

	for (; *envp; envp++) {
		if (!strncmp(*envp, name, n) && (*envp)[n] == '=')
			return *envp + n + 1;
	}
	return NULL;
}

/* execve, and like execvp(3) a file of no known format is a script for sh. */
static void execute(const char *path, const struct strings *command)
{
	execve(path, command->argv, command->envp);
	if (errno != ENOEXEC)
		return;
	char **argv = calloc(command->argc + 2, sizeof(char *));
	if (argv) {
		argv[0] = "/bin/sh";
		argv[1] = (char *)path;
		memcpy(argv + 2, command->argv + 1, command->argc * sizeof(char *));
		execve(argv[0], argv, command->envp);
	}
	errno = ENOEXEC;
}

/* In the order of PATH, each tried by execve itself: the view decides what is there. */
static void search_and_execute(const struct strings *command)
{
	const char *name = command->argv[0];
	const char *path = variable(command->envp, "PATH");
	bool denied = false;
	char file[PATH_MAX];

	if (strchr(name, '/') || !*name) {
		if (*name)
			execute(name, command);
		else
			errno = ENOENT;
		return;
	}
	for (path = path ? path : "/bin:/usr/bin"; path; path = *path ? path + 1 : NULL) {
		size_t n = strcspn(path, ":");

		errno = ENAMETOOLONG;
		if (n + strlen(name) + 2 <= sizeof(file)) {
			memcpy(file, path, n);
			file[n] = '/';
			strcpy(file + n + (n > 0), name);
			execute(file, command);
		}
		if (errno == EACCES)
			denied = true;
		else if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG && errno != ESTALE &&
			 errno != ENODEV && errno != ETIMEDOUT)
			return;
		path += n;
	}
	errno = denied ? EACCES : ENOENT;
}

noreturn void execute_command(const struct strings *command)
{
	search_and_execute(command);
	int error = errno;
	complain(error, "%s", command->argv[0]);
	_exit(error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

noreturn void become_command(const struct setup *setup, int sock)
{
	struct sock_fprog program = { setup->filter_length, (struct sock_filter *)setup->filter };
	struct progress ready = { .stage = STAGE_LISTENER };
	char go;

	/* We hold both ends of `sock`, the table being shared: KEEPER's death would not show there. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != setup->keeper)
		_exit(EXIT_OURS);
	if (set_soft_limit(RLIMIT_LOCKS, setup->tag) < 0 || (setup->no_cores && set_soft_limit(RLIMIT_CORE, 0) < 0))
		fail(sock, STAGE_TAG);
	if (setup->cwd >= 0 && fchdir(setup->cwd) < 0)
		fail(sock, STAGE_CWD);
	sigaction(SIGCHLD, &setup->on_child, NULL);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail(sock, STAGE_PRIVILEGES);
	if (setup->landlock >= 0 && syscall(SYS_landlock_restrict_self, setup->landlock, 0) < 0)
		fail(sock, STAGE_LANDLOCK);
	ready.value = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			      SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
	if (ready.value < 0)
		fail(sock, STAGE_FILTER);
	if (write(sock, &ready, sizeof(ready)) != sizeof(ready) || read(sock, &go, 1) != 1)
		_exit(EXIT_OURS);
	prctl(PR_SET_PDEATHSIG, 0);
	set_signal_mask(setup->mask);
	/* Only now is it the view's. */
	if (setup->directory && chdir(setup->directory) < 0) {
		complain(errno,
			 "cannot begin in %s, as the view shows it (it is the current directory, or the view's cwd)",
			 setup->directory);
		_exit(EXIT_OURS);
	}
	execute_command(&setup->command);
}
