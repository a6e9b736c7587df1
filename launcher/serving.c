/*
 * vumount starts the server of a file system itself where that must be confined as whoever mounts is: in a view that enforces, and of a
 * directory, which could show what the view hides. The supervisor says how (vuosd/supervisor/mounting/confined.py); the server is a
 * process of the view, in the namespace below its mount, so that it does not meet itself.
 *
 * What takes a descriptor gets one of a /dev/fuse that is opened and mounted here. A socket is mounted by who speaks to it, so its
 * server runs by then; the kernel wants the mount first.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "inside.h"

#include "../vuosd/supervisor/engine/door.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { DEVICE = VU_DOOR_DEVICE, SECONDS = 30 };

struct server {
	const char *token; /* by which the supervisor knows this mount */
	bool descriptor, below;
	const char *type, *data; /* of the mount that we make */
	char **argv, **envp;
	pid_t pid;
};

struct reader {
	char *at, *end;
};

static char *take(struct reader *r)
{
	char *field = r->at, *nul = memchr(r->at, 0, (size_t)(r->end - r->at));

	if (!nul)
		return NULL;
	r->at = nul + 1;
	return field;
}

static char **take_list(struct reader *r)
{
	const char *number = take(r);
	size_t count = number ? strtoul(number, NULL, 10) : 0;
	char **list = number && count <= (size_t)(r->end - r->at) ? calloc(count + 1, sizeof *list) : NULL;

	for (size_t i = 0; list && i < count; i++)
		if (!(list[i] = take(r)))
			return NULL;
	return list;
}

static bool parse(char *text, size_t length, struct server *server)
{
	struct reader r = { text, text + length };
	const char *how;

	take(&r); /* "serve" */
	server->token = take(&r);
	how = take(&r);
	server->type = take(&r);
	server->data = take(&r);
	if (!server->data || !(server->argv = take_list(&r)) || !(server->envp = take_list(&r)) || !server->argv[0])
		return false;
	server->descriptor = strchr(how, 'd');
	server->below = strchr(how, 'b');
	return true;
}

/* The child becomes the server. */
static void become(const struct server *server, int device, int output)
{
	int null = open("/dev/null", O_RDWR);

	setsid();
	if (server->below && tell("vuos:below", server->token, "/", 0, "", NULL, NULL) != 0)
		_exit(127);
	dup2(null, 0);
	dup2(output, 1);
	dup2(output, 2);
	if (device >= 0)
		dup2(device, DEVICE); /* which is not `device`: that is above */
	close_range(3, DEVICE - 1, 0);
	close_range(DEVICE + (device >= 0), ~0U, 0);
	execve(server->argv[0], server->argv, server->envp);
	dprintf(2, "%s: %s\n", server->argv[0], strerror(errno));
	_exit(127);
}

static int start(struct server *server, int device)
{
	int output = door("vuos:output", server->token, "/", 0, "");

	if (output < 0)
		return -errno;
	output = fcntl(output, F_DUPFD_CLOEXEC, DEVICE + 1);
	server->pid = fork();
	if (server->pid == 0)
		become(server, device, output);
	close(output);
	return server->pid < 0 ? -errno : 0;
}

static int mount_device(const struct server *server, const char *source, const char *target, unsigned long flags)
{
	char options[OPTIONS_MAX];
	struct stat st;

	if (stat(target, &st) < 0)
		return failed(strerror(errno));
	if (snprintf(options, sizeof options, "fd=%d,rootmode=%o,user_id=%u,group_id=%u%s%s", DEVICE,
		     st.st_mode & S_IFMT, geteuid(), getegid(), *server->data ? "," : "",
		     server->data) >= (int)sizeof options)
		return failed("the options are longer than mount(2) takes, a page");
	return ask(server->type, source, target, flags | VU_DOOR_STARTS, options);
}

/* Why it is not there, as the supervisor and the server say it. */
static int give_up(const struct server *server, const char *otherwise)
{
	if (server->pid > 0)
		kill(server->pid, SIGTERM);
	return ask("vuos:failed", server->token, "/", 0, otherwise);
}

static time_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec;
}

/* Until it is mounted and answers. Each look waits until there is something to be seen. */
static int await(const struct server *server, const char *target)
{
	const time_t begun = now();
	bool ended = false;
	struct stat st;
	int status;

	while (now() - begun <= SECONDS) {
		int there = tell("vuos:mounted", server->token, target, 0, "", NULL, NULL);

		if (!there)
			return stat(target, &st) < 0 ? give_up(server, strerror(errno)) : 0;
		if (there != EAGAIN)
			return give_up(server, strerror(there));
		if (ended && (!WIFEXITED(status) || WEXITSTATUS(status)))
			return give_up(server, "its server has failed");
		/* One that goes into the background ends with 0. */
		ended = ended || waitpid(server->pid, &status, WNOHANG) == server->pid;
	}
	return give_up(server, "its server does not answer");
}

int serve(char *text, size_t length, const char *source, const char *target, unsigned long flags)
{
	struct server server = { 0 };
	struct stat st;
	int device = -1, status;

	if (!parse(text, length, &server))
		return failed("the view's supervisor sent something that is not understood");
	if (server.descriptor) {
		int opened = open("/dev/fuse", O_RDWR | O_CLOEXEC);

		/* Above what the server gets it as: the number DEVICE is ours, and its, by then. */
		device = opened < 0 ? -1 : fcntl(opened, F_DUPFD_CLOEXEC, DEVICE + 1);
		if (device < 0 || dup2(opened, DEVICE) < 0 || fstat(DEVICE, &st) < 0)
			return failed(strerror(errno));
		if (opened != DEVICE)
			close(opened);
	}
	bool late = device >= 0 && !S_ISSOCK(st.st_mode);
	if (late && (status = mount_device(&server, source, target, flags))) {
		tell("vuos:failed", server.token, "/", 0, "", NULL, NULL);
		return status;
	}
	int error = start(&server, device);
	if (device >= 0)
		close(device);
	if (error < 0)
		return give_up(&server, strerror(-error));
	if (device >= 0 && !late && (status = mount_device(&server, source, target, flags))) {
		kill(server.pid, SIGTERM);
		tell("vuos:failed", server.token, "/", 0, "", NULL, NULL);
		return status;
	}
	if (device >= 0)
		close(DEVICE); /* the server's end of it is the last */
	return await(&server, target);
}
