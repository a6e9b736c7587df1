/*
 * KEEPER, first half: SETUP from the worker → fork the child, which installs the filter → LISTENER to the worker, STARTED to FRONT
 * → READY from the worker and MOVED from FRONT → let the child go. Whatever fails here is told in one sentence, and nothing runs.
 */
#include "launcher.h"

#include <errno.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SETUP_LANDLOCK = 1, SETUP_KEEP_TREE = 2, SETUP_CWD = 4, SETUP_CHDIR = 8, SETUP_NO_CORES = 16 };

void report_to_front(const struct keeper *k, enum report_kind kind, int value)
{
	struct report r = { kind, value };

	if (k->front >= 0)
		send(k->front, &r, sizeof(r), MSG_NOSIGNAL);
}

/* Before the command runs: the session cannot be. */
noreturn void give_up(const struct keeper *k, int status)
{
	if (k->command > 0)
		kill(k->command, SIGKILL);
	report_to_front(k, REPORT_FAILED, status);
	_exit(status);
}

/* Prints what the daemon says. */
static noreturn void give_up_with(const struct keeper *k, struct message *m)
{
	uint32_t status = EXIT_OURS;
	size_t length = m->header.length;

	if (length >= sizeof(status)) {
		memcpy(&status, m->payload, sizeof(status));
		length -= sizeof(status);
		if (length > 0) {
			char *text = (char *)m->payload + sizeof(status);

			if (text[length - 1] != '\n' && sizeof(status) + length < sizeof(m->payload))
				text[length++] = '\n';
			if (write(STDERR_FILENO, text, length) < 0)
				status = EXIT_OURS;
		}
	}
	give_up(k, status);
}

/* The worker's next message, which must be `type`. While we wait FRONT may go, and we with it. */
static void expect(const struct keeper *k, struct message *m, enum message_type type)
{
	struct pollfd p[2] = { { k->session, POLLIN, 0 }, { k->front, POLLRDHUP, 0 } };

	do {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			give_up(k, EXIT_OURS);
		if (p[1].revents)
			give_up(k, EXIT_OURS);
	} while (!p[0].revents);
	int r = receive_message(k->session, m);
	if (r == 1 && m->header.type == MESSAGE_FAIL)
		give_up_with(k, m);
	if (r == 1 && m->header.type == type)
		return;
	if (r == 0)
		complain(0,
			 k->enters ? "the view ended before it was entered" : "vuosd ended before the session began");
	else if (r == -EPROTO && !memcmp(m->header.magic, "VUOS", 4) && m->header.version != VU_PROTOCOL)
		complain(0, "vuosd speaks protocol %u, vuos-run %d: they are of different versions; run `vuctl stop`",
			 m->header.version, VU_PROTOCOL);
	else
		complain(r < 0 ? -r : 0, "vuosd sent something that is not understood");
	give_up(k, EXIT_OURS);
}

static void read_setup(struct keeper *k)
{
	struct {
		uint32_t flags, filter_length;
		uint64_t tag;
	} payload;
	static struct message m;
	struct setup *s = &k->setup;

	expect(k, &m, MESSAGE_SETUP);
	if (m.header.length != sizeof(payload)) {
		complain(0, "vuosd sent something that is not understood");
		give_up(k, EXIT_OURS);
	}
	memcpy(&payload, m.payload, sizeof(payload));
	bool landlock = payload.flags & SETUP_LANDLOCK, cwd = payload.flags & SETUP_CWD;
	if (m.fd_count != 2 + landlock + cwd) {
		complain(0, "vuosd sent %d descriptors for the set-up, of %d", m.fd_count, 2 + landlock + cwd);
		give_up(k, EXIT_OURS);
	}
	k->keep_tree = payload.flags & SETUP_KEEP_TREE;
	s->no_cores = payload.flags & SETUP_NO_CORES;
	s->tag = payload.tag;
	s->landlock = landlock ? m.fds[2] : -1;
	s->cwd = cwd ? m.fds[2 + landlock] : -1;
	s->filter_length = payload.filter_length;
	s->filter = mmap(NULL, payload.filter_length * sizeof(struct sock_filter), PROT_READ, MAP_PRIVATE, m.fds[0], 0);
	if (s->filter == MAP_FAILED) {
		complain(errno, "cannot map the filter");
		give_up(k, EXIT_OURS);
	}
	int r = read_command(m.fds[1], payload.flags & SETUP_CHDIR ? &s->directory : NULL, &s->command);
	if (r < 0) {
		complain(-r, "cannot read the command");
		give_up(k, EXIT_OURS);
	}
	close(m.fds[0]);
	close(m.fds[1]);
}

static noreturn void setup_failed(const struct keeper *k, const struct progress *p)
{
	switch (p->stage) {
	case STAGE_TAG:
		complain(p->value,
			 "cannot set RLIMIT_LOCKS, which a view needs (its hard limit must be \"unlimited\")");
		break;
	case STAGE_CWD: complain(p->value, "cannot change to the view's working directory"); break;
	case STAGE_PRIVILEGES: complain(p->value, "cannot set no_new_privs"); break;
	case STAGE_LANDLOCK: complain(p->value, "cannot apply the Landlock rules of the view"); break;
	default:
		if (p->value == EBUSY)
			complain(0,
				 "already under a system-call supervisor, and the kernel allows one; a view's profile "
				 "may grant others in it: [control] allow = [\"view\"]");
		else if (p->value == EINVAL || p->value == ENOSYS)
			complain(p->value,
				 "this kernel has no seccomp user notification as needed (Linux 6.1 or newer)");
		else
			complain(p->value, "the kernel refuses the seccomp filter");
	}
	give_up(k, EXIT_OURS);
}

/* Forks the child and waits until its filter is in place. Our end of the socket to it. */
static int start_command(struct keeper *k)
{
	struct progress p = { .stage = STAGE_FILTER, .value = ECANCELED };
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		complain(errno, "cannot make a socket");
		give_up(k, EXIT_OURS);
	}
	pair[0] = above_stdio(pair[0]);
	pair[1] = above_stdio(pair[1]);
	/* One descriptor table: so the listener that the child makes is ours too, without a call that its filter may trap. */
	pid_t pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		become_command(&k->setup, pair[1]);
	if (pid < 0) {
		complain(errno, "cannot fork");
		give_up(k, EXIT_OURS);
	}
	k->command = pid;
	struct pollfd wait[3] = { { pair[0], POLLIN, 0 }, { k->front, POLLRDHUP, 0 }, { k->children, POLLIN, 0 } };
	do
		poll(wait, 3, -1);
	while (!wait[0].revents && !wait[1].revents && !wait[2].revents);
	if (recv(pair[0], &p, sizeof(p), MSG_DONTWAIT) != sizeof(p)) {
		if (!wait[1].revents)
			complain(0, "the command was killed before it began");
		give_up(k, EXIT_OURS);
	}
	if (p.stage != STAGE_LISTENER)
		setup_failed(k, &p);
	k->broker.listener = above_stdio(p.value);
	return pair[0];
}

/* Tells worker and FRONT, and waits for both. */
static void hand_over(struct keeper *k)
{
	int broker[2];
	static struct message m;
	char note;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, broker) < 0 ||
	    (k->broker.done = eventfd(0, EFD_CLOEXEC)) < 0) {
		complain(errno, "cannot make a socket");
		give_up(k, EXIT_OURS);
	}
	k->broker.sock = above_stdio(broker[0]);
	k->broker.done = above_stdio(k->broker.done);
	int theirs = above_stdio(broker[1]);
	uint32_t pids[2] = { k->command, getpid() };
	int fds[2] = { k->broker.listener, theirs };
	int r = send_message(k->session, MESSAGE_LISTENER, pids, sizeof(pids), fds, 2);
	close(theirs);
	/* The command is in the group now; we leave, unless FRONT cannot follow because it leads the session. */
	if (getsid(0) != k->front_pid)
		setpgid(0, 0);
	report_to_front(k, REPORT_STARTED, k->command);
	if (r < 0) {
		complain(-r, "cannot send to vuosd");
		give_up(k, EXIT_OURS);
	}
	expect(k, &m, MESSAGE_READY);
	do
		r = recv(k->front, &note, 1, 0);
	while (r < 0 && errno == EINTR);
	if (r != 1)
		give_up(k, EXIT_OURS);
}

void close_all_but(const int *keep, int count)
{
	int next = 0;
	unsigned flags = CLOSE_RANGE_UNSHARE;

	for (;;) {
		int lowest = -1;

		for (int i = 0; i < count; i++) {
			if (keep[i] >= next && (lowest < 0 || keep[i] < lowest))
				lowest = keep[i];
		}
		if (lowest < 0)
			break;
		if (lowest > next) {
			/* Not ours alone: closing would close for the command, too. */
			if (close_range(next, lowest - 1, flags) < 0)
				return;
			flags = 0;
		}
		next = lowest + 1;
	}
	close_range(next, ~0U, flags);
}

void start_session(struct keeper *k)
{
	read_setup(k);
	int child = start_command(k);
	hand_over(k);
	find_person(&k->person);
	/* The child reads its go-ahead from the table that it still shares: leave that first, then send. */
	const int ours[] = { k->session,         k->front,       k->children,  k->broker.sock,
			     k->broker.listener, k->broker.done, k->person.fd, child };
	close_all_but(ours, sizeof(ours) / sizeof(*ours));
	if (chdir("/") < 0 || send(child, "g", 1, MSG_NOSIGNAL) != 1)
		give_up(k, EXIT_OURS);
	close(child);
}
