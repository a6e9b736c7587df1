/*
 * Run a command and account for all it has started.
 *
 *     runner SECONDS FILE COMMAND [ARGUMENT…]
 *
 * FILE gets "WALL CPU STATUS": nanoseconds until the command ended, nanoseconds of CPU of it and of every process below
 * it, its wait status. As a child subreaper (prctl(2)) it has orphans for children, so that getrusage(2) of RUSAGE_CHILDREN
 * counts daemons as well. After SECONDS, or on SIGTERM, the whole tree is killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LINGER 5 /* seconds for what outlives the command */

static volatile sig_atomic_t stop;

static void note(int signal)
{
	(void)signal;
	stop = 1;
}

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Everything below `pid`, leaves last: orphans come to us and are found in the next round. */
static void kill_below(pid_t pid)
{
	char path[64];
	int child;
	snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
	FILE *children = fopen(path, "re");
	while (children && fscanf(children, "%d", &child) == 1) {
		kill(child, SIGKILL);
		kill_below(child);
	}
	if (children)
		fclose(children);
}

static void kill_all(void)
{
	struct timespec pause = { .tv_nsec = 2000000 };
	for (int i = 0; i < 2000; i++) {
		kill_below(getpid());
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD)
			return;
		nanosleep(&pause, NULL);
	}
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = note };
	struct rusage usage;
	int status = 0, result = -1;
	if (argc < 4)
		return 2;
	int out = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (out < 0)
		return 2;
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	alarm((unsigned)atoi(argv[1]));
	int64_t begin = now(), end = 0;
	pid_t child = fork();
	if (!child) {
		execvp(argv[3], argv + 3);
		fprintf(stderr, "%s: %s\n", argv[3], strerror(errno));
		_exit(127);
	}
	for (;;) {
		pid_t pid = waitpid(-1, &status, 0);
		if (pid == child) {
			end = now();
			result = status;
			alarm(LINGER);
		} else if (pid < 0 && errno == ECHILD) {
			break;
		} else if (pid < 0 && stop) {
			kill_all();
			break;
		}
	}
	getrusage(RUSAGE_CHILDREN, &usage);
	int64_t cpu = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * INT64_C(1000000000) +
		      (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * INT64_C(1000);
	dprintf(out, "%ld %ld %d\n", (long)((end ? end : now()) - begin), (long)cpu, result);
	return result ? 1 : 0;
}
