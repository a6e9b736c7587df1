/*
 * KEEPER: words for the person while the command runs. It may not hold the command's stderr open: a reader at the other end of a
 * pipe waits for the last writer. So of a pipe or terminal it keeps an O_PATH descriptor, which is no writer, and opens that anew when
 * there is something to say. Whatever else stderr is (a file, whose position is shared; a socket, which cannot be opened; what this
 * user may not open) is kept as it is until the command has ended.
 */
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Never waits: a pipe may be full, a terminal stopped. */
static int open_anew(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

void find_person(struct person *person)
{
	struct stat st;

	*person = (struct person){ .fd = -1 };
	if (fstat(STDERR_FILENO, &st) < 0)
		return;
	if (S_ISFIFO(st.st_mode) || isatty(STDERR_FILENO)) {
		int weak = above_stdio(open("/proc/self/fd/2", O_PATH | O_CLOEXEC));
		int tried = weak < 0 ? -1 : open_anew(weak);

		if (tried >= 0) {
			close(tried);
			*person = (struct person){ weak, true };
			return;
		}
		if (weak >= 0)
			close(weak);
	}
	person->fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
}

int open_person(const struct person *person)
{
	if (!person->anew)
		return person->fd < 0 ? -1 : fcntl(person->fd, F_DUPFD_CLOEXEC, 3);
	int fd = above_stdio(open_anew(person->fd));

	if (fd >= 0)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	return fd;
}

void warn_person(const struct person *person, const struct message *message)
{
	char line[sizeof("vuos-run: \n") + 1024];
	int length = snprintf(line, sizeof(line), "vuos-run: %.*s\n", (int)message->header.length,
			      (const char *)message->payload);
	int fd = person->anew ? open_anew(person->fd) : person->fd;

	if (length >= (int)sizeof(line)) {
		length = sizeof(line) - 1;
		line[length - 1] = '\n';
	}
	/* A terminal that somebody else writes to at the moment says EAGAIN. What stays full or is gone loses it; the daemon's log has
	 * it too. */
	for (int tries = 0; fd >= 0 && tries < 20; tries++) {
		bool ready = poll(&(struct pollfd){ fd, POLLOUT, 0 }, 1, 5) == 1;

		if ((ready || person->anew) && (write(fd, line, (size_t)length) >= 0 || errno != EAGAIN))
			break;
		if (ready)
			poll(NULL, 0, 5);
	}
	if (person->anew && fd >= 0)
		close(fd);
}

void leave_person(struct person *person)
{
	if (person->fd >= 0 && !person->anew) {
		close(person->fd);
		person->fd = -1;
	}
}
