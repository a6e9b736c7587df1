/* Lists of strings in memfds: the request that goes to the daemon, the command that comes back. */
#include "launcher.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct writer {
	char *text;
	size_t length;
};

/* With text NULL it only measures. */
static void put(struct writer *w, const char *string)
{
	size_t n = strlen(string) + 1;

	if (w->text)
		memcpy(w->text + w->length, string, n);
	w->length += n;
}

static void put_list(struct writer *w, const char *key, char **list)
{
	char number[16];
	unsigned count = 0;

	while (list[count])
		count++;
	snprintf(number, sizeof(number), "%u", count);
	put(w, key);
	put(w, number);
	for (unsigned i = 0; i < count; i++)
		put(w, list[i]);
}

static void put_request(struct writer *w, const struct asked *asked)
{
	put(w, "profile");
	put(w, asked->profile);
	put(w, "name");
	put(w, asked->name);
	if (*asked->layer)
		put_list(w, "layer", asked->layer);
	put_list(w, "argc", asked->argv);
	put_list(w, "envc", asked->envp);
}

char *request_text(const struct asked *asked, size_t *length)
{
	struct writer w = { 0 };

	put_request(&w, asked);
	*length = w.length;
	w.text = malloc(w.length);
	w.length = 0;
	if (w.text)
		put_request(&w, asked);
	return w.text;
}

int make_request(const struct asked *asked)
{
	size_t size;
	char *text = request_text(asked, &size);

	if (!text)
		return -ENOMEM;
	int fd = above_stdio(memfd_create("vuos-run-request", MFD_CLOEXEC));
	ssize_t n = fd < 0 ? -1 : write(fd, text, size);
	int error = n < 0 ? errno : n == (ssize_t)size ? 0 : ENOSPC;
	free(text);
	if (!error)
		return fd;
	if (fd >= 0)
		close(fd);
	return -error;
}

struct reader {
	char *at, *end;
};

static char *take(struct reader *r)
{
	char *string = r->at;
	char *nul = r->at < r->end ? memchr(r->at, 0, r->end - r->at) : NULL;

	if (!nul)
		return NULL;
	r->at = nul + 1;
	return string;
}

static int take_list(struct reader *r, const char *key, char ***list)
{
	const char *found = take(r), *number = take(r);

	if (!found || !number || strcmp(found, key))
		return -EPROTO;
	unsigned long count = strtoul(number, NULL, 10);
	if (count > (unsigned long)(r->end - r->at))
		return -EPROTO;
	*list = calloc(count + 1, sizeof(char *));
	if (!*list)
		return -ENOMEM;
	for (unsigned long i = 0; i < count; i++) {
		(*list)[i] = take(r);
		if (!(*list)[i])
			return -EPROTO;
	}
	return count;
}

static int take_command(struct reader *r, struct strings *command)
{
	command->argc = take_list(r, "argc", &command->argv);
	if (command->argc < 1)
		return command->argc < 0 ? command->argc : -EPROTO;
	command->envc = take_list(r, "envc", &command->envp);
	return command->envc < 0 ? command->envc : 0;
}

int read_nested(char *text, size_t size, const char **cwd, struct strings *command)
{
	struct reader r = { text, text + size };
	const char *key = take(&r);

	*cwd = take(&r);
	return key && *cwd && !strcmp(key, "cwd") ? take_command(&r, command) : -EPROTO;
}

int read_command(int fd, const char **cwd, struct strings *command)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	char *text = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (text == MAP_FAILED)
		return -errno;
	if (cwd)
		return read_nested(text, st.st_size, cwd, command);
	struct reader r = { text, text + st.st_size };
	return take_command(&r, command);
}
