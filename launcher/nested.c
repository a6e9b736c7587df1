/*
 * vuos-run inside a view: the kernel lets no second filter have a listener (EBUSY), so the view's own supervisor makes a namespace for us,
 * moves this process into it, and tells what to execute. We become the command: signals, job control and exit status are its own.
 */
#include "launcher.h"

#include "../vuosd/supervisor/engine/door.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* All of a descriptor; the length, which a NUL follows. */
static ssize_t read_all(int fd, char **text)
{
	struct stat st;
	off_t at = 0;
	ssize_t n = 1;

	if (fstat(fd, &st) < 0 || !(*text = malloc((size_t)st.st_size + 1)))
		return -errno;
	while (at < st.st_size && (n = pread(fd, *text + at, (size_t)(st.st_size - at), at)) > 0)
		at += n;
	(*text)[at] = 0;
	return n < 0 ? -errno : at;
}

void run_nested(const struct asked *asked, bool ask)
{
	struct strings command;
	const char *cwd;
	size_t length;
	char *request = request_text(asked, &length), *text = NULL;
	int32_t error = EPROTO;

	if (!request) {
		complain(ENOMEM, "cannot begin");
		exit(EXIT_OURS);
	}
	struct vu_door door = { .source = (uintptr_t)request, .type = (uintptr_t)"vuos:run", .flags = length };
	int answer = (int)syscall(SYS_openat, AT_FDCWD, "", O_RDWR | O_CLOEXEC, 0, VU_DOOR, &door);
	free(request);
	if (answer < 0 && errno == ENOENT)
		return;
	ssize_t n = answer < 0 ? -errno : read_all(answer, &text);
	if (n < 0) {
		complain((int)-n, "the view's supervisor does not answer");
		exit(EXIT_OURS);
	}
	close(answer);
	if (n >= (ssize_t)sizeof error)
		memcpy(&error, text, sizeof error);
	if (error) {
		if (n > (ssize_t)sizeof error)
			fprintf(stderr, "%s\n", text + sizeof error);
		else
			complain(error, "cannot begin a view inside this one");
		exit(EXIT_OURS);
	}
	if (read_nested(text + sizeof error, (size_t)n - sizeof error, &cwd, &command) < 0) {
		complain(0, "the view's supervisor sent something that is not understood");
		exit(EXIT_OURS);
	}
	if (ask) {
		complain(0, "--ask: a view inside another has no layers to ask about");
		exit(EXIT_OURS);
	}
	if (*cwd && chdir(cwd) < 0) {
		complain(errno, "cannot change to the view's working directory");
		exit(EXIT_OURS);
	}
	execute_command(&command);
}
