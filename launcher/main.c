/* vuos-run: options, the request to the daemon, and the split into FRONT and KEEPER. */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef VUOSD_VERSION
#define VUOSD_VERSION "unknown"
#endif

extern char **environ;

static const char usage[] =
	"usage: vuos-run [-v|--view=PROFILE] [-n|--name=NAME] [--cow[=DIR]] [--on=LAYER] [--ask]\n"
	"                [--store=DIR] [--] COMMAND [ARGUMENT...]\n"
	"       vuos-run --enter=VIEW [--] COMMAND [ARGUMENT...]\n";
static const char help[] =
	"\n"
	"Run COMMAND in a view: its own picture of files, made by vuosd, which is started when none is running.\n"
	"\n"
	"  -v, --view=PROFILE  the view, a TOML file; without it, one in which everything is as outside\n"
	"  -n, --name=NAME     the session's name in `vuctl ps`\n"
	"\n"
	"      --cow[=DIR]     copy-on-write: DIR, or the current directory, stays as it is; what is changed is kept "
	"in a\n"
	"                      layer, named by --name or the view, for `vuctl diff`, `commit` and `drop`\n"
	"      --on=LAYER      go on in an existing layer\n"
	"      --ask           at the end show what was changed and ask: commit, drop, keep or a shell\n"
	"      --store=DIR     where layers are kept; without it $XDG_STATE_HOME/vuos or ~/.local/state/vuos\n"
	"\n"
	"      --enter=VIEW    in a view that runs, by its name or the number of a process in it; `vuctl enter` is the "
	"same\n"
	"\n"
	"      --help          print this and exit\n"
	"      --version       print the version and exit\n"
	"\n"
	"Signals, job control and exit status are those of COMMAND. 125: vuos-run or vuosd failed;\n"
	"126: COMMAND cannot be executed; 127: COMMAND is not found.\n";

enum { OPTION_COW = 256, OPTION_ON, OPTION_ASK, OPTION_STORE, OPTION_ENTER };

struct options {
	struct asked asked;
	int layer_count;
	bool ask;
	const char *enter; /* the view that is to be entered, or NULL */
};

static void add_layer(struct options *o, const char *key, const char *value)
{
	char *word = NULL;

	if (!*value) {
		complain(0, "--%s needs a value", key);
		exit(EXIT_OURS);
	}
	o->asked.layer = realloc(o->asked.layer, (o->layer_count + 2) * sizeof(char *));
	if (!o->asked.layer || asprintf(&word, "%s=%s", key, value) < 0) {
		complain(ENOMEM, "cannot begin");
		exit(EXIT_OURS);
	}
	o->asked.layer[o->layer_count++] = word;
	o->asked.layer[o->layer_count] = NULL;
}

static struct options parse(int argc, char **argv)
{
	static const struct option names[] = {
		{ "view", required_argument, NULL, 'v' },
		{ "name", required_argument, NULL, 'n' },
		{ "cow", optional_argument, NULL, OPTION_COW },
		{ "on", required_argument, NULL, OPTION_ON },
		{ "ask", no_argument, NULL, OPTION_ASK },
		{ "enter", required_argument, NULL, OPTION_ENTER },
		{ "store", required_argument, NULL, OPTION_STORE },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	static char *no_layer[1];
	struct options o = { .asked = { .profile = "", .name = "", .envp = environ } };
	int c;

	/* "+": the command's options are its own. */
	while ((c = getopt_long(argc, argv, "+v:n:", names, NULL)) != -1) {
		switch (c) {
		case 'v': o.asked.profile = optarg; break;
		case 'n': o.asked.name = optarg; break;
		case OPTION_COW: add_layer(&o, "cow", optarg ? optarg : "."); break;
		case OPTION_ON: add_layer(&o, "on", optarg); break;
		case OPTION_STORE: add_layer(&o, "store", optarg); break;
		case OPTION_ASK: o.ask = true; break;
		case OPTION_ENTER: o.enter = optarg; break;
		case 'h': printf("%s%s", usage, help); exit(fflush(stdout) ? EXIT_OURS : 0);
		case 'V': printf("vuos-run %s\n", VUOSD_VERSION); exit(fflush(stdout) ? EXIT_OURS : 0);
		default: fputs(usage, stderr); exit(EXIT_OURS);
		}
	}
	if (optind == argc) {
		complain(0, "a command is missing");
		fputs(usage, stderr);
		exit(EXIT_OURS);
	}
	if (o.enter && (*o.asked.profile || *o.asked.name || o.layer_count || o.ask)) {
		complain(0, "--enter takes no other option: the view is as it was begun");
		exit(EXIT_OURS);
	}
	if (!*o.asked.profile && !o.layer_count && o.ask) {
		complain(0, "--ask without --cow, --on or a view: there is no layer to ask about");
		exit(EXIT_OURS);
	}
	o.asked.argv = argv + optind;
	if (!o.asked.layer)
		o.asked.layer = no_layer;
	return o;
}

/* `report`: where the worker tells at the end of the view's layers and mounts. */
static int send_request(int sock, const struct options *o, int report)
{
	int fds[3] = { make_request(&o->asked), -1, report };

	if (fds[0] < 0)
		return fds[0];
	fds[1] = above_stdio(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
	int r = -errno;
	if (fds[1] >= 0)
		r = send_message(sock, o->enter ? MESSAGE_ENTER : MESSAGE_RUN, o->enter,
				 o->enter ? strlen(o->enter) : 0, fds, 3);
	close(fds[0]);
	if (fds[1] >= 0)
		close(fds[1]);
	return r;
}

int main(int argc, char **argv)
{
	struct options options = parse(argc, argv);
	struct layers layers = {
		.report = -1, .person = { .fd = -1 }, .cwd = -1, .ask = options.ask, .profile = options.asked.profile
	};
	int pair[2], report[2] = { -1, -1 };

	if (!options.enter)
		run_nested(&options.asked, options.ask);
	int session = connect_to_daemon(!options.enter);
	if (session < 0)
		return EXIT_OURS;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0) {
		complain(errno, "cannot make a socket");
		return EXIT_OURS;
	}
	layers.report = above_stdio(report[0]);
	report[1] = above_stdio(report[1]);
	int r = send_request(session, &options, report[1]);
	close(report[1]);
	if (r < 0 && r != -EPIPE) { /* who ended at once has said why: KEEPER reads it */
		complain(-r, "cannot ask vuosd for a session");
		return EXIT_OURS;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		complain(errno, "cannot make a socket");
		return EXIT_OURS;
	}
	pair[0] = above_stdio(pair[0]);
	pair[1] = above_stdio(pair[1]);
	/* KEEPER is deaf from its first instruction; FRONT is not, until the command exists. */
	uint64_t mask = set_signal_mask(ALL_SIGNALS);
	pid_t keeper = fork();
	if (keeper == 0) {
		close(pair[0]);
		close(layers.report);
		keep(session, pair[1], mask, options.enter);
	}
	set_signal_mask(mask);
	if (keeper < 0) {
		complain(errno, "cannot fork");
		return EXIT_OURS;
	}
	close(session);
	close(pair[1]);
	be_front(pair[0], keeper, &layers);
}
