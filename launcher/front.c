/* FRONT: what the shell sees. It ends, stops and continues as the command does, and passes on the signals that it gets. */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct front {
	int sock;
	int signals; /* signalfd */
	pid_t keeper, command, group;
	struct layers *layers;
	bool in_group; /* of the command still, as we lead the session: signals for the group reach the command without us */
};

static void note(const struct front *f, char c)
{
	send(f->sock, &c, 1, MSG_NOSIGNAL);
}

static struct report receive_report(const struct front *f)
{
	struct report r;
	ssize_t n;

	/* A KEEPER that ends with notes unread resets the socket: that is told once, and before what it sent. */
	do
		n = recv(f->sock, &r, sizeof(r), 0);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	return n == sizeof(r) ? r : (struct report){ REPORT_GONE, 0 };
}

static uint64_t all_but(int signal_number)
{
	return ~(UINT64_C(1) << (signal_number - 1));
}

/* As the command ended. Its core dump, if any, is its own. */
static noreturn void end_like(struct front *f, int status)
{
	int signal_number = status & 0x7f, kind;

	note(f, NOTE_GOODBYE);
	do
		kind = receive_report(f).kind;
	while (kind != REPORT_STAYS && kind != REPORT_GONE);
	if (kind == REPORT_GONE)
		waitpid(f->keeper, NULL, 0);
	tell_of_layers(f->layers, f->group, kind == REPORT_STAYS);
	if (!signal_number)
		_exit(status >> 8 & 0xff);
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
	prctl(PR_SET_DUMPABLE, 0);
	signal(signal_number, SIG_DFL);
	kill(getpid(), signal_number);
	set_signal_mask(all_but(signal_number));
	_exit(128 + signal_number);
}

/* What the shell gave to the group it knows is meant for the one that the command is in: a shell there reads nothing otherwise. */
static void hand_on_terminal(const struct front *f)
{
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

	if (tty < 0)
		return;
	/* We are in the background or not: SIGTTOU is blocked. */
	if (tcgetpgrp(tty) == f->group)
		tcsetpgrp(tty, getpgid(f->command));
	close(tty);
}

/*
 * As the command stopped, and by the same signal, so that the shell says the same. If the command has made itself another process
 * group (a shell with job control), nobody may be left in the one that our shell will continue: then we stop in that one.
 */
static void stop_like(struct front *f, int signal_number)
{
	bool back = !f->in_group && getpgid(f->command) != f->group && setpgid(0, f->group) == 0;

	signal(signal_number, SIG_DFL);
	kill(getpid(), signal_number);
	set_signal_mask(all_but(signal_number));
	/* Stopped here. */
	set_signal_mask(ALL_SIGNALS);
	if (back) {
		hand_on_terminal(f);
		setpgid(0, f->keeper);
	}
}

static void pass_on(const struct front *f, const struct signalfd_siginfo *s)
{
	bool sent = s->ssi_code == SI_USER || s->ssi_code == SI_QUEUE || s->ssi_code == SI_TKILL;
	siginfo_t info = { 0 };

	if (s->ssi_signo == SIGCHLD && !sent)
		return;
	if (s->ssi_signo == SIGCONT && s->ssi_pid == (uint32_t)f->keeper)
		return;
	/* The end of the terminal is told to the session's leader alone (tty_signal_session_leader() in drivers/tty/tty_jobctrl.c). */
	if (f->in_group && !sent && s->ssi_signo != SIGHUP)
		return;
	if (s->ssi_code != SI_QUEUE) {
		kill(f->command, s->ssi_signo);
		return;
	}
	info.si_signo = s->ssi_signo;
	info.si_code = SI_QUEUE;
	info.si_pid = s->ssi_pid;
	info.si_uid = s->ssi_uid;
	info.si_ptr = (void *)s->ssi_ptr;
	syscall(SYS_rt_sigqueueinfo, f->command, s->ssi_signo, &info);
}

static void hear_signals(const struct front *f)
{
	struct signalfd_siginfo s[8];
	ssize_t n = read(f->signals, s, sizeof(s));

	for (ssize_t i = 0; i < n / (ssize_t)sizeof(*s); i++)
		pass_on(f, &s[i]);
}

static void hear_keeper(struct front *f)
{
	struct report r = receive_report(f);

	switch (r.kind) {
	case REPORT_STOPPED:
		stop_like(f, r.value);
		/* Who woke us alone means the command, too. Before KEEPER hears of it, or it would send us back. */
		hear_signals(f);
		note(f, NOTE_AWAKE);
		break;
	case REPORT_EXITED: end_like(f, r.value);
	case REPORT_FAILED: _exit(r.value);
	/* KEEPER was killed. The worker sees that too, and ends the session. */
	case REPORT_GONE: end_like(f, SIGKILL);
	default: break;
	}
}

noreturn void be_front(int sock, pid_t keeper, struct layers *layers)
{
	struct front f = { .sock = sock, .keeper = keeper, .layers = layers };
	/* Until the command exists signals mean us, and act as they did when we were started. */
	struct report r = receive_report(&f);

	if (r.kind != REPORT_STARTED)
		_exit(r.kind == REPORT_FAILED ? r.value : EXIT_OURS);
	f.command = r.value;
	f.group = getpgrp();
	uint64_t all = ALL_SIGNALS;
	layers->mask = set_signal_mask(all);
	f.signals = above_stdio(syscall(SYS_signalfd4, -1, &all, sizeof(all), SFD_CLOEXEC | SFD_NONBLOCK));
	f.in_group = setpgid(0, keeper) < 0;
	hold_layers(layers);
	const int ours[] = { f.sock, f.signals, layers->report, layers->person.fd, layers->cwd };
	close_all_but(ours, sizeof(ours) / sizeof(*ours));
	if (chdir("/") == 0)
		note(&f, NOTE_MOVED);
	for (;;) {
		struct pollfd p[3] = { { f.signals, POLLIN, 0 }, { f.sock, POLLIN, 0 }, { layers->report, POLLIN, 0 } };

		if (poll(p, layers->known ? 2 : 3, -1) < 0)
			continue;
		if (!layers->known && p[2].revents)
			hear_of_layers(layers);
		if (p[0].revents)
			hear_signals(&f);
		if (p[1].revents)
			hear_keeper(&f);
	}
}
