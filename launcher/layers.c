/*
 * FRONT: what becomes of the view's layers. The worker tells of each over a socket of its own: before the command starts that it is
 * open, and when nobody writes to it any more what it holds. So it does of what is mounted: with the first mount that there are such, and
 * at the end what could not be written to them. Until it has told of something FRONT does not hold stderr open, as nobody does without
 * a view: a reader of a pipe sees its end when the command closes it. And at the end it waits for nothing then.
 */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct record {
	char text[8192];
	const char *what, *name, *store, *sentence;
};

/* 1, 0 at the end of what there is. */
static int receive_record(int sock, struct record *r, int flags)
{
	ssize_t n;

	do
		n = recv(sock, r->text, sizeof(r->text) - 1, flags);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return 0;
	const char **words[] = { &r->what, &r->name, &r->store, &r->sentence };
	char *at = r->text, *end = r->text + n;
	*end = 0;
	for (int i = 0; i < 4; i++) {
		*words[i] = at;
		at += strlen(at) + 1;
		if (at > end)
			at = end;
	}
	return 1;
}

void hold_layers(struct layers *l)
{
	if (l->report < 0)
		return;
	find_person(&l->person);
	if (l->ask)
		l->cwd = above_stdio(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
}

static void let_go(struct layers *l)
{
	int *const fds[] = { &l->report, &l->person.fd, &l->cwd };

	for (int i = 0; i < 3; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

void hear_of_layers(struct layers *l)
{
	char c;
	ssize_t n = recv(l->report, &c, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n > 0) {
		int fd = l->known ? -1 : open_person(&l->person);

		if (fd >= 0) {
			close(l->person.fd);
			l->person = (struct person){ fd, false };
		}
		l->known = true;
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		let_go(l);
}

/* Into the job that our shell knows, and where its terminal is, so that somebody can be asked. All signals are blocked. */
static void join_job(const struct layers *l, pid_t group)
{
	if (setpgid(0, group) == 0 || setpgid(0, 0) < 0)
		return;
	/* The last process of that group has gone. */
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (tty < 0)
		return;
	if (tcgetpgrp(tty) == group && tcsetpgrp(tty, getpid()) < 0)
		dprintf(l->person.fd, "vuos-run: cannot take the terminal: %s\n", strerror(errno));
	close(tty);
}

static noreturn void become_vuctl(const struct layers *l, const struct record *r)
{
	char store[sizeof(r->text) + 16], view[PATH_MAX + 16];
	const char *argv[8] = { "vuctl", "ask" };
	int n = 2, null = open("/dev/null", O_RDONLY);

	snprintf(store, sizeof(store), "--store=%s", r->store);
	snprintf(view, sizeof(view), "--view=%s", l->profile);
	if (*r->store)
		argv[n++] = store;
	if (*l->profile)
		argv[n++] = view;
	argv[n++] = "--";
	argv[n++] = r->name;
	if (null >= 0)
		dup2(null, STDIN_FILENO);
	dup2(l->person.fd, STDOUT_FILENO);
	dup2(l->person.fd, STDERR_FILENO);
	if (l->cwd < 0 || fchdir(l->cwd) < 0)
		complain(errno, "cannot go back to the working directory");
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	exec_ours(argv);
	complain(errno, "cannot run vuctl, beside vuos-run or in PATH");
	_exit(EXIT_OURS);
}

/* True if it did: else the sentence is to be printed. */
static bool ask(const struct layers *l, const struct record *r)
{
	int status = -1;

	/* As system(3): what is typed at the question is for vuctl. */
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	pid_t pid = fork();
	if (pid == 0)
		become_vuctl(l, r);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status == 0;
}

void tell_of_layers(struct layers *l, pid_t group, bool stays)
{
	struct record r;
	bool mounts = false;
	int open = 0;

	if (l->report >= 0)
		hear_of_layers(l);
	if (l->report < 0 || l->person.fd < 0 || !l->known)
		return;
	if (l->ask && !stays) {
		join_job(l, group);
		set_signal_mask(l->mask);
	}
	bool others = false;
	while (receive_record(l->report, &r, stays ? MSG_DONTWAIT : 0)) {
		if (!strcmp(r.what, "open")) {
			open++;
			continue;
		}
		if (!strcmp(r.what, "wait"))
			continue;
		if (!strcmp(r.what, "mounts") || !strcmp(r.what, "unmounted")) {
			mounts = *r.what == 'm';
			continue;
		}
		if (!strcmp(r.what, "lost")) {
			dprintf(l->person.fd, "vuos-run: %s\n", r.sentence);
			continue;
		}
		open--;
		if (!strcmp(r.what, "stays")) {
			others = true;
		} else if (!strcmp(r.what, "same")) {
			if (l->ask)
				dprintf(l->person.fd, "vuos-run: nothing was changed\n");
		} else if (!l->ask || !ask(l, &r)) {
			dprintf(l->person.fd, "vuos-run: %s\n", r.sentence);
		}
	}
	if (others || (open > 0 && stays))
		dprintf(l->person.fd,
			"vuos-run: processes of the view still run; what they change goes to its layer (vuctl ps, "
			"vuctl layers)\n");
	else if (open > 0)
		dprintf(l->person.fd,
			"vuos-run: vuosd ended before it could say what is in the view's layer; vuctl layers lists "
			"it\n");
	if (mounts && !stays)
		dprintf(l->person.fd,
			"vuos-run: vuosd ended before it could say whether all is there that was written to what is "
			"mounted "
			"in the view\n");
	let_go(l);
}
