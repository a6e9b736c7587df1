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

static const char usage[] = "usage: vuos-run [-v|--view=PROFILE] [-n|--name=NAME] [--] COMMAND [ARGUMENT...]\n";
static const char help[] =
	"\n"
	"Run COMMAND in a view: its own picture of files, made by vuosd, which is started when none is running.\n"
	"\n"
	"  -v, --view=PROFILE  the view, a TOML file; without it, one in which everything is as outside\n"
	"  -n, --name=NAME     the session's name in `vuctl ps`\n"
	"      --help          print this and exit\n"
	"      --version       print the version and exit\n"
	"\n"
	"Signals, job control and exit status are those of COMMAND. 125: vuos-run or vuosd failed;\n"
	"126: COMMAND cannot be executed; 127: COMMAND is not found.\n";

struct options {
	const char *profile, *name;
	char **command;
};

static struct options parse(int argc, char **argv)
{
	static const struct option names[] = {
		{ "view", required_argument, NULL, 'v' },
		{ "name", required_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	struct options o = { "", "", NULL };
	int c;

	/* "+": the command's options are its own. */
	while ((c = getopt_long(argc, argv, "+v:n:", names, NULL)) != -1) {
		switch (c) {
		case 'v': o.profile = optarg; break;
		case 'n': o.name = optarg; break;
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
	o.command = argv + optind;
	return o;
}

static int send_request(int sock, const struct options *o)
{
	int fds[2] = { make_request(o->profile, o->name, o->command, environ) };

	if (fds[0] < 0)
		return fds[0];
	fds[1] = above_stdio(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
	int r = fds[1] < 0 ? -errno : send_message(sock, MESSAGE_RUN, NULL, 0, fds, 2);
	close(fds[0]);
	if (fds[1] >= 0)
		close(fds[1]);
	return r;
}

int main(int argc, char **argv)
{
	struct options options = parse(argc, argv);
	int pair[2];

	int session = connect_to_daemon();
	if (session < 0)
		return EXIT_OURS;
	int r = send_request(session, &options);
	if (r < 0) {
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
		keep(session, pair[1], mask);
	}
	set_signal_mask(mask);
	if (keeper < 0) {
		complain(errno, "cannot fork");
		return EXIT_OURS;
	}
	close(session);
	close(pair[1]);
	be_front(pair[0], keeper);
}
