/*
 * What the person must be told of a program: in the log, and by way of the launcher's keeper on its stderr. Once for each
 * program (by its name: of one that may not be read nothing else is known) and each thing to say.
 */
#include "engine.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include "remote.h"

enum { LINE = 400 };

/* The name of the caller's program, without what a terminal might obey. */
static void program_name(struct vu_call *call, char out[16])
{
	char path[32];
	snprintf(path, sizeof path, "%d/comm", vu_tgid(call));
	VU_CLOSE int fd = openat(call->session->proc, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, out, 15);
	while (n > 0 && out[n - 1] == '\n')
		n--;
	for (ssize_t i = 0; i < n; i++)
		if (!isprint((unsigned char)out[i]))
			out[i] = '?';
	strcpy(out + (n < 0 ? 0 : n), n > 0 ? "" : "?");
}

static uint64_t digest(enum vu_warning kind, const char *text)
{
	uint64_t hash = UINT64_C(14695981039346656037) + kind; /* FNV-1a */
	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * UINT64_C(1099511628211);
	return hash | 1;
}

/* Is this the first time? `*last`: the last thing that is told at all, for a session has room for so many. */
static bool first_time(struct vu_session *session, uint64_t key, bool *last)
{
	const unsigned room = sizeof session->told / sizeof *session->told;
	unsigned i = 0;
	pthread_mutex_lock(&session->state_lock);
	while (i < room && session->told[i] && session->told[i] != key)
		i++;
	bool first = i < room && !session->told[i];
	if (first)
		session->told[i] = key;
	pthread_mutex_unlock(&session->state_lock);
	*last = i == room - 1;
	return first;
}

static void tell_keeper(const struct vu_listener *listener, const char *text)
{
	struct vu_header header = { "VUOS", VU_PROTOCOL, VU_MESSAGE_WARNING, (uint32_t)strlen(text) };
	struct iovec parts[2] = { { &header, sizeof header }, { (void *)text, header.length } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	if (listener->keeper >= 0)
		sendmsg(listener->keeper, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void vu_warn(struct vu_call *call, enum vu_warning kind, const char *format, ...)
{
	char text[LINE], name[16];
	va_list arguments;
	bool last;
	if (vu_notify_alive(call) < 0)
		return; /* whose number it is now, nobody knows */
	program_name(call, name);
	if (!first_time(call->session, digest(kind, name), &last))
		return;
	int length = snprintf(text, sizeof text, "%s (process %d): ", name, vu_tgid(call));
	va_start(arguments, format);
	vsnprintf(text + length, sizeof text - (size_t)length, format, arguments);
	va_end(arguments);
	vu_log(call->session, "%s", text);
	tell_keeper(call->listener, text);
	if (last)
		tell_keeper(call->listener, "of more programs than these nothing is said");
}
