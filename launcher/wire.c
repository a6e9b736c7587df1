/* Messages of the session and broker sockets, and words for the person. */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FDS_SPACE CMSG_SPACE(MESSAGE_FDS * sizeof(int))

union fds_control {
	struct cmsghdr header;
	char space[FDS_SPACE];
};

int send_message(int sock, enum message_type type, const void *payload, size_t length, const int *fds, int fd_count)
{
	struct vu_header header = { "VUOS", VU_PROTOCOL, type, length };
	struct iovec parts[2] = { { &header, sizeof(header) }, { (void *)payload, length } };
	union fds_control control = { .header = { CMSG_LEN(fd_count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	ssize_t n;

	if (fd_count) {
		memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
	}
	do
		n = sendmsg(sock, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int receive_message(int sock, struct message *message)
{
	struct iovec parts[2] = { { &message->header, sizeof(message->header) },
				  { message->payload, sizeof(message->payload) } };
	union fds_control control;
	struct msghdr header = {
		.msg_iov = parts, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	ssize_t n;

	message->fd_count = 0;
	/* A peer that ended with something unread resets the socket: that is told once, and before what it sent. */
	do
		n = recvmsg(sock, &header, MSG_CMSG_CLOEXEC);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		int count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (int i = 0; i < count && message->fd_count < MESSAGE_FDS; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			message->fds[message->fd_count++] = above_stdio(fd);
		}
	}
	if (n == 0)
		return 0;
	if ((size_t)n < sizeof(message->header) || memcmp(message->header.magic, "VUOS", 4) ||
	    message->header.version != VU_PROTOCOL || message->header.length != n - sizeof(message->header) ||
	    header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		close_fds(message);
		return -EPROTO;
	}
	return 1;
}

void close_fds(struct message *message)
{
	for (int i = 0; i < message->fd_count; i++)
		close(message->fds[i]);
	message->fd_count = 0;
}

int above_stdio(int fd)
{
	if (fd < 0 || fd > 2)
		return fd;
	int high = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (high < 0)
		return fd;
	close(fd);
	return high;
}

uint64_t set_signal_mask(uint64_t mask)
{
	uint64_t old = 0;

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &old, sizeof(mask));
	return old;
}

void complain(int error, const char *format, ...)
{
	char line[4096] = "vuos-run: ";
	size_t length = strlen(line);
	va_list args;

	va_start(args, format);
	vsnprintf(line + length, sizeof(line) - length, format, args);
	va_end(args);
	length = strlen(line);
	snprintf(line + length, sizeof(line) - length, "%s%s\n", error > 0 ? ": " : "",
		 error > 0 ? strerror(error) : "");
	length = strlen(line);
	line[length - 1] = '\n';
	/* One write: lines of several processes on one terminal stay whole. */
	if (write(STDERR_FILENO, line, length) < 0)
		return;
}
