/* Finds the user's daemon, or starts a private one for this session. */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int connect_to_running(const char *directory)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ucred peer;
	socklen_t size = sizeof(peer);
	int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/vuosd/control", directory);

	if (n >= (int)sizeof(address.sun_path))
		return -ENAMETOOLONG;
	int sock = above_stdio(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
	if (sock < 0)
		return -errno;
	int error = 0;
	if (connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		error = errno;
	else if (peer.uid != geteuid() && peer.uid != 0)
		error = EPERM;
	if (!error)
		return sock;
	close(sock);
	return -error;
}

void exec_ours(const char **argv)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - strlen(argv[0]) - 1);

	if (n > 0) {
		path[n] = 0;
		strcpy(strrchr(path, '/') + 1, argv[0]);
		execv(path, (char **)argv);
	}
	execvp(argv[0], (char **)argv);
}

/* The child that becomes the daemon: not of the terminal nor of its job, and without the command's descriptors but stderr. */
static noreturn void become_daemon(int sock)
{
	static const char text[] = "vuos-run: cannot find vuosd beside vuos-run or in PATH, and none is running\n";
	struct {
		uint32_t status;
		char text[sizeof(text) - 1];
	} failure = { EXIT_OURS, "" };
	char option[32];
	const char *argv[] = { "vuosd", option, NULL };
	int null = open("/dev/null", O_RDWR);

	setsid();
	if (null >= 0) {
		dup2(null, 0);
		dup2(null, 1);
	}
	if (sock > 3)
		close_range(3, sock - 1, 0);
	close_range(sock + 1, UINT_MAX, 0);
	fcntl(sock, F_SETFD, 0);
	snprintf(option, sizeof(option), "--private=%d", sock);
	exec_ours(argv);
	memcpy(failure.text, text, sizeof(failure.text));
	send_message(sock, MESSAGE_FAIL, &failure, sizeof(failure.status) + sizeof(failure.text), NULL, 0);
	_exit(EXIT_OURS);
}

static int start_private(void)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pair[0] = above_stdio(pair[0]);
	pair[1] = above_stdio(pair[1]);
	pid_t pid = fork();
	if (pid == 0)
		become_daemon(pair[1]);
	int error = pid < 0 ? errno : 0;
	close(pair[1]);
	if (!error)
		return pair[0];
	close(pair[0]);
	return -error;
}

int connect_to_daemon(bool start)
{
	const char *directory = getenv("XDG_RUNTIME_DIR");
	int sock = -ENOENT;

	if (directory && *directory == '/')
		sock = connect_to_running(directory);
	if (sock >= 0)
		return sock;
	if (sock == -EPERM) {
		complain(0, "the daemon at %s/vuosd/control belongs to another user", directory);
		return sock;
	}
	if (!start) {
		complain(0, "no vuosd is running, and only a view that it has started can be entered");
		return sock;
	}
	sock = start_private();
	if (sock < 0)
		complain(-sock, "cannot start vuosd");
	return sock;
}
