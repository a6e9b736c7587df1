/*
 * How often a call that never returns EINTR does so: a handler without SA_RESTART runs a thousand times a second while a
 * regular file is looked at, opened and removed.
 *
 *     eintr DIRECTORY [-m MILLISECONDS]
 *
 * Prints "EINTRS CALLS TICKS". A signal finds a call in its window with probability window * rate, so
 * EINTRS / TICKS is the part of the time that calls spend in the window, and EINTRS / CALLS / rate the window's length.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t ticks;
static unsigned long calls, interrupted;

static void tick(int signal)
{
	(void)signal;
	ticks++;
}

/* Whether the call has to be made again. */
static int again(long result, const char *what)
{
	calls++;
	if (result >= 0)
		return 0;
	if (errno != EINTR) {
		fprintf(stderr, "%s: %s\n", what, strerror(errno));
		exit(1);
	}
	interrupted++;
	return 1;
}

int main(int argc, char **argv)
{
	char file[4096], other[4096];
	struct stat st;
	struct sigaction action = { .sa_handler = tick };
	struct itimerval timer = { { 0, 1000 }, { 0, 1000 } };
	long budget = argc > 3 ? atol(argv[3]) : 200;
	snprintf(file, sizeof file, "%s/a/b/c/file", argc > 1 ? argv[1] : ".");
	snprintf(other, sizeof other, "%s/eintr-%d", argc > 1 ? argv[1] : ".", (int)getpid());
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	while (ticks < budget) {
		int fd;
		while (again(stat(file, &st), "stat"))
			;
		while (again(fd = open(file, O_RDONLY | O_CLOEXEC), "open"))
			;
		close(fd);
		while (again(fd = open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), "create"))
			;
		close(fd);
		while (again(unlink(other), "unlink"))
			;
	}
	printf("%lu %lu %ld\n", interrupted, calls, (long)ticks);
	return 0;
}
