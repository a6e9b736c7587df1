/*
 * KEEPER, second half: the ancestor of all that the command starts. It tells FRONT and the worker what becomes of the command, reaps
 * orphans, and ends with the last of them.
 *
 * It keeps the listener to its end: while one descriptor of it is open, the death of the worker makes the view's processes
 * wait, not fail.
 */
#include "launcher.h"

#include <errno.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int wait_status(const siginfo_t *info)
{
	if (info->si_code == CLD_EXITED)
		return (info->si_status & 0xff) << 8;
	return info->si_status | (info->si_code == CLD_DUMPED ? 0x80 : 0);
}

static void look_for_stops(struct keeper *k)
{
	siginfo_t info = { 0 };

	while (waitid(P_PID, k->command, &info, WSTOPPED | WCONTINUED | WNOHANG | __WNOTHREAD) == 0 && info.si_pid) {
		if (info.si_code == CLD_STOPPED)
			k->stopped = info.si_status;
		else if (info.si_code == CLD_CONTINUED)
			k->stopped = 0;
		info.si_pid = 0;
	}
}

/*
 * FRONT stops when it is told that the command did, and says when it runs again, whoever woke it. We wake it when the command
 * continues; that may come before it has stopped, so until it says so. Never later: it could undo the next stop. Whether to do so
 * again soon.
 */
static bool tell_stops(struct keeper *k)
{
	if (k->front < 0)
		return false;
	if (k->stopped) {
		if (!k->told_stopped)
			report_to_front(k, REPORT_STOPPED, k->stopped);
		k->told_stopped = true;
		return false;
	}
	if (!k->told_stopped || getppid() != k->front_pid)
		return false;
	kill(k->front_pid, SIGCONT);
	return true;
}

/* What the worker says: warnings, and nothing else, until it ends. */
static void hear_worker(struct keeper *k)
{
	static struct message m;
	int r = receive_message(k->session, &m);

	close_fds(&m);
	if (r > 0 && m.header.type == MESSAGE_WARNING)
		warn_person(&k->person, &m);
	if (r > 0 || r == -EPROTO)
		return;
	/* The listener stays: its processes wait for whoever takes up the session. */
	close(k->session);
	k->session = -1;
}

static void command_exited(struct keeper *k, const siginfo_t *info)
{
	int status = wait_status(info);
	uint32_t payload[2] = { k->command, status };

	/* A warning was sent before the call that it is about was answered. It is printed before the shell goes on. */
	while (k->session >= 0 && poll(&(struct pollfd){ k->session, POLLIN, 0 }, 1, 0) == 1)
		hear_worker(k);
	k->exited = true;
	k->stopped = 0; /* whether it was, or went on without our having seen it: FRONT does not stay stopped */
	report_to_front(k, REPORT_EXITED, status);
	if (k->session >= 0)
		send_message(k->session, MESSAGE_EXITED, payload, sizeof(payload), NULL, 0);
}

/*
 * Reaps orphans, and the command once FRONT has said goodbye: until then its zombie keeps pid and process group from being reused.
 * FRONT then waits to hear whether we stay; if not, it reaps us: a container's first process may reap nobody.
 */
static bool reap(struct keeper *k)
{
	if (!k->exited)
		look_for_stops(k);
	for (;;) {
		siginfo_t info = { 0 };

		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL | __WNOTHREAD) < 0)
			return errno == ECHILD;
		if (!info.si_pid) {
			if (k->goodbye && !k->stays)
				report_to_front(k, REPORT_STAYS, 0);
			k->stays = k->goodbye;
			return false;
		}
		if (info.si_pid == k->command && !k->command_reaped) {
			if (!k->exited)
				command_exited(k, &info);
			if (k->front >= 0 && !k->goodbye)
				return false;
			k->command_reaped = true;
		}
		waitid(P_PID, info.si_pid, &info, WEXITED | WNOHANG | __WALL | __WNOTHREAD);
	}
}

/*
 * A child that the broker's thread traces reports its ptrace stops to every waiter of this process, even to one who asked for
 * exits only (wait_task_stopped() in kernel/exit.c). So nobody waits meanwhile; it is taken up again when the call is over.
 */
static bool nobody_left(struct keeper *k)
{
	if (pthread_mutex_trylock(&k->broker.tracing) != 0)
		return false;
	bool nobody = reap(k);

	pthread_mutex_unlock(&k->broker.tracing);
	return nobody;
}

/* Notes of FRONT, or its end. */
static void hear_front(struct keeper *k)
{
	char note;
	ssize_t n = recv(k->front, &note, 1, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == 1) {
		k->goodbye |= note == NOTE_GOODBYE;
		if (k->goodbye)
			leave_person(&k->person);
		k->told_stopped &= note != NOTE_AWAKE;
		return;
	}
	close(k->front);
	k->front = -1;
	if (!k->goodbye && !k->keep_tree)
		kill_tree();
}

static noreturn void watch(struct keeper *k)
{
	enum { SESSION, FRONT, CHILDREN, DONE, BROKER, COUNT };

	while (!nobody_left(k)) {
		struct pollfd p[COUNT] = {
			[SESSION] = { k->session, POLLIN, 0 },
			[FRONT] = { k->front, POLLIN, 0 },
			[CHILDREN] = { k->children, POLLIN, 0 },
			[DONE] = { k->broker.done, POLLIN, 0 },
			[BROKER] = { k->broker_started ? -1 : k->broker.sock, POLLIN, 0 },
		};
		uint64_t drained[64];

		if (poll(p, COUNT, tell_stops(k) ? 10 : -1) < 0)
			continue;
		if (p[CHILDREN].revents || p[DONE].revents) {
			if (read(p[CHILDREN].revents ? k->children : k->broker.done, drained, sizeof(drained)) < 0)
				continue;
		}
		if (p[FRONT].revents)
			hear_front(k);
		if (p[SESSION].revents)
			hear_worker(k);
		if (p[BROKER].revents)
			k->broker_started = start_broker(&k->broker) == 0;
	}
	if (k->session >= 0)
		send_message(k->session, MESSAGE_BYE, NULL, 0, NULL, 0);
	_exit(0);
}

noreturn void keep(int session, int front, uint64_t mask, bool enters)
{
	static struct keeper k;
	struct sigaction on_child = { .sa_handler = SIG_DFL };
	sigset_t set;

	k.session = session;
	k.front = front;
	k.enters = enters;
	k.front_pid = getppid();
	k.setup.mask = mask;
	k.setup.keeper = getpid();
	pthread_mutex_init(&k.broker.tracing, NULL);
	/* An inherited SIG_IGN would reap our children behind our back; the command gets it back. */
	sigaction(SIGCHLD, &on_child, &k.setup.on_child);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	k.children = above_stdio(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
	if (k.children < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0) {
		complain(errno, "cannot watch over the command");
		give_up(&k, EXIT_OURS);
	}
	start_session(&k);
	watch(&k);
}
