/*
 * vuos-run: the launcher. It gets a view's filter from the daemon, starts the command under it and stays as its ancestor. With
 * --enter (vuctl enter) the view is that of a session which runs; several launchers then have processes in it.
 *
 *	main.c		options; asks the daemon for a session, splits in two
 *	daemon.c	finds the daemon, or starts a private one
 *	request.c	what goes to the daemon and what comes back: lists of strings in memfds
 *	wire.c		messages of the session and broker sockets
 *	front.c		FRONT, the process the shell knows: passes signals on, stops, continues and ends as the command does
 *	layers.c	FRONT: says at the end what the view's layers hold, or asks what shall become of them; and what could not be
 *			written to mounted file systems
 *	keeper.c	KEEPER, its child: the tree's subreaper, tells FRONT and the worker what becomes of the command
 *	start.c		KEEPER: from the worker's set-up to the running command
 *	tree.c		KEEPER: kills every member of the session
 *	broker.c	KEEPER: what only an ancestor may do for the worker: memory descriptors and remote calls
 *	nested.c	instead of all that, when vuos-run itself runs in a view
 *	warn.c		KEEPER: what the worker has to tell the person, on a stderr that may long be closed
 *	command.c	the child that becomes the command
 *	inside.c	not vuos-run: vumount, vuumount, vu_insmod, vu_rmmod, vu_lsmod
 *	serving.c	part of that: a server that vumount starts itself
 *	fusermount.c	not either: stands in for fusermount3 where mount(2) is refused
 *
 * The processes, the groups they are in and the socket between them (P is the process group vuos-run was started in):
 *
 *	shell ── FRONT (K) ── KEEPER (K) ── command (P) ── …
 *	           └─ front socket ─┘
 *
 * What the terminal or kill(-P) sends reaches the command once, because FRONT has left P; what is sent to FRONT alone is
 * passed on. Every descriptor of ours is CLOEXEC and above 2; FRONT and KEEPER drop the inherited ones when the command runs,
 * so that a reader of a pipe sees its end when the command closes it.
 *
 * Functions return >= 0 or -errno, or say otherwise.
 */
#ifndef VUOSD_LAUNCHER_H
#define VUOSD_LAUNCHER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <linux/filter.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>
#include <sys/types.h>

#include "../vuosd/supervisor/engine/remote.h"

enum { EXIT_OURS = 125, EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };

/* ---- wire.c ---- */

enum message_type {
	MESSAGE_RUN = 1,
	MESSAGE_SETUP = 2,
	MESSAGE_FAIL = 3,
	MESSAGE_LISTENER = 4,
	MESSAGE_READY = 5,
	MESSAGE_EXITED = 6,
	MESSAGE_BYE = 7,
	MESSAGE_MEM = 8,
	MESSAGE_REMOTE = VU_MESSAGE_REMOTE,
	MESSAGE_WARNING = VU_MESSAGE_WARNING,
	MESSAGE_ENTER = 11,
};

enum { MESSAGE_FDS = 4 };

struct message {
	struct vu_header header;
	uint8_t payload[sizeof(struct vu_remote_request) + VU_REMOTE_INLINE];
	int fds[MESSAGE_FDS];
	int fd_count;
};

int send_message(int sock, enum message_type type, const void *payload, size_t length, const int *fds, int fd_count);
/* 1, 0 at the end of the stream, -EPROTO for what is not a message of ours. */
int receive_message(int sock, struct message *message);
void close_fds(struct message *message);
/* The same descriptor with a number above 2, whatever of 0, 1 and 2 was closed when we started; negative values pass through. */
int above_stdio(int fd);
/* "vuos-run: …" and the text of `error` (if positive) on stderr. */
void complain(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* rt_sigprocmask itself: glibc's keeps two real-time signals for its own use, which are the command's here. Returns the old mask. */
uint64_t set_signal_mask(uint64_t mask);
#define ALL_SIGNALS (~UINT64_C(0))

/* ---- warn.c ---- */

/* Where warnings go, that keeps nobody from seeing the end of a pipe. */
struct person {
	int fd; /* or -1 */
	bool anew; /* an O_PATH descriptor, opened anew for each warning */
};

/* Takes stderr, before it is closed. */
void find_person(struct person *person);
/* A descriptor to write to for longer, or -1. */
int open_person(const struct person *person);
/* "vuos-run: " and the text of the message. */
void warn_person(const struct person *person, const struct message *message);
/* The command has ended, and nobody waits for our words any more. */
void leave_person(struct person *person);

/* ---- request.c ---- */

struct strings {
	int argc, envc;
	char **argv, **envp; /* NULL-terminated */
};

/* What is asked of the worker. `layer`: the options of layers as "cow=PATH", "on=NAME", "store=DIR", then NULL. */
struct asked {
	const char *profile, *name; /* "" for none, and for the default */
	char **layer, **argv, **envp;
};

/* A memfd that says so. */
int make_request(const struct asked *asked);
/* `cwd`: where to be told the directory to go to, of a command for a session that runs; else NULL. */
int read_command(int fd, const char **cwd, struct strings *command);
/* What such a memfd holds, the caller's to free; NULL without memory. */
char *request_text(const struct asked *asked, size_t *length);
/* The answer for a nested view: the directory to go to, "" for none, and the command. They point into `text`. */
int read_nested(char *text, size_t size, const char **cwd, struct strings *command);

/* ---- nested.c ---- */

/* Returns when this is no view, or one that lets nothing be changed. `ask`: --ask was given. */
void run_nested(const struct asked *asked, bool ask);

/* ---- daemon.c ---- */

/* A connected socket; complains and returns < 0 if there can be none. `start`: a private one, where none is running. */
int connect_to_daemon(bool start);
/* Another program of ours, argv[0]: beside us, else in PATH. Returns only on failure, with errno. */
void exec_ours(const char **argv);

/* ---- command.c ---- */

struct setup {
	uint64_t tag;
	const struct sock_filter *filter;
	uint32_t filter_length;
	struct strings command;
	int landlock, cwd; /* or -1 */
	bool no_cores;
	const char *directory; /* where to go once the filter is in place, a path in the view; or NULL */
	pid_t keeper;
	uint64_t mask; /* as FRONT got it */
	struct sigaction on_child; /* likewise */
};

/* What the child tells KEEPER before it waits for one byte: the listener, or where it failed. */
enum stage { STAGE_LISTENER, STAGE_TAG, STAGE_CWD, STAGE_PRIVILEGES, STAGE_LANDLOCK, STAGE_FILTER };

struct progress {
	int32_t stage;
	int32_t value; /* the listener, or a positive errno */
};

/* The child: sets itself up, tells `sock`, waits, becomes the command. */
noreturn void become_command(const struct setup *setup, int sock);
/* Executes it, or says why not and exits with 126 or 127. */
noreturn void execute_command(const struct strings *command);

/* ---- layers.c ---- */

struct layers {
	int report; /* from the worker; -1: it has nothing to tell at the end */
	struct person person; /* our stderr; of a pipe or terminal no writer before there is something to be told */
	int cwd; /* where we were started, if we may have to ask; or -1 */
	bool ask, known; /* --ask; the worker has said that there are layers, or mounts */
	const char *profile; /* "" for none */
	uint64_t mask; /* of signals, as we got it */
};

/* Takes what is needed at the end, before descriptors are closed. */
void hold_layers(struct layers *layers);
/* The report socket is readable for the first time. */
void hear_of_layers(struct layers *layers);
/* The command has ended, and with it the session, unless it `stays`. `group`: that our shell knows us by. */
void tell_of_layers(struct layers *layers, pid_t group, bool stays);

/* ---- keeper.c, start.c, front.c, tree.c, broker.c ---- */

/* On the front socket, KEEPER to FRONT; GONE stands for its end. */
enum report_kind { REPORT_STARTED, REPORT_STOPPED, REPORT_EXITED, REPORT_STAYS, REPORT_FAILED, REPORT_GONE };

struct report {
	int32_t kind;
	int32_t value; /* pid, signal, wait status, -, exit status */
};

/* And FRONT to KEEPER: one byte each. */
enum { NOTE_MOVED = 'm', NOTE_AWAKE = 'a', NOTE_GOODBYE = 'g' };

noreturn void keep(int session, int front, uint64_t mask, bool enters);
noreturn void be_front(int keeper_sock, pid_t keeper, struct layers *layers);
/* Closes all descriptors but `keep`, in a table of our own from now on. */
void close_all_but(const int *keep, int count);

/* Kills everything that descends from us, until nothing is left. */
void kill_tree(void);

struct broker {
	int sock;
	int listener;
	int done; /* eventfd: a remote call is over */
	/* Held during a remote call. Then no wait of ours may ask for stops: it would take those that the tracer waits for, since to
	 * the kernel a parent whose own thread traces its child is that child's tracer (wait_consider_task() in kernel/exit.c). */
	pthread_mutex_t tracing;
};

struct keeper {
	int session; /* to the worker; -1: it is gone */
	int front; /* to FRONT; -1: it is gone */
	int children; /* signalfd of SIGCHLD */
	pid_t front_pid, command;
	bool enters; /* a session that others have begun */
	bool keep_tree, goodbye, exited, command_reaped, stays, broker_started;
	int stopped; /* the signal that stopped the command, or 0 */
	bool told_stopped; /* FRONT was told, and has not said since that it runs again */
	struct setup setup;
	struct broker broker;
	struct person person;
};

/* start.c: until the command runs. */
void start_session(struct keeper *keeper);
noreturn void give_up(const struct keeper *keeper, int status);
void report_to_front(const struct keeper *keeper, enum report_kind kind, int value);

/* Serves the broker socket on a thread of its own, until it ends. */
int start_broker(struct broker *broker);

#endif
