/*
 * Socket addresses that are paths: connect, sendto, sendmsg, sendmmsg with AF_UNIX. (bind: op_bind.c.)
 *
 * The kernel resolves such a path itself, with the credentials that the peer then sees (SO_PEERCRED, SCM_CREDENTIALS), so
 * the caller makes the call, with another address: the host's path of the anchor, which also means something to peers
 * outside of the view, or, where it does not fit into sun_path or does not lead there, /proc/self/fd/N.
 *
 * An enforcing view cannot leave an address in the caller's memory, where another thread may exchange it: Landlock does
 * not govern these sockets. sockets_ours.c is for that.
 */
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "again.h"
#include "sockets_ours.h"
#include "wired.h"

enum { MESSAGES = 1024 }; /* UIO_MAXIOV: more are not looked at, __sys_sendmmsg in net/socket.c */

int vu_socket_path(struct vu_call *call, uint64_t address, uint64_t length, char *path)
{
	struct sockaddr_un un;
	const size_t head = offsetof(struct sockaddr_un, sun_path);
	int size = (int)length;
	if (!address || size <= (int)head || size > (int)sizeof un || vu_read(call, address, &un, (size_t)size) < 0)
		return 0;
	if (un.sun_family != AF_UNIX || !un.sun_path[0])
		return 0;
	size_t n = strnlen(un.sun_path, (size_t)size - head);
	memcpy(path, un.sun_path, n);
	path[n] = 0;
	return (int)n;
}

bool vu_socket_address(struct vu_socket_target *target, const char *directory, const char *name)
{
	target->address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	int n = snprintf(target->address.sun_path, sizeof target->address.sun_path, "%s%s%s", directory,
			 *name ? "/" : "", name);
	target->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n + 1);
	target->close_fd = -1;
	return n < (int)sizeof target->address.sun_path;
}

bool vu_socket_host_path(struct vu_call *call, int fd)
{
	struct stat named, object;
	char number[16];
	snprintf(number, sizeof number, "%d", fd);
	ssize_t n = readlinkat(call->session->self_fd, number, call->work->host, sizeof call->work->host - 1);
	if (n <= 0)
		return false;
	call->work->host[n] = 0;
	return !lstat(call->work->host, &named) && !fstat(fd, &object) && named.st_dev == object.st_dev &&
	       named.st_ino == object.st_ino;
}

/* A name of the place for the caller. -EAGAIN with *verdict: it has gone back first. */
static int name_target(struct vu_call *call, const struct vu_place *place, struct vu_socket_target *target,
		       int *verdict)
{
	char path[32];
	bool named = vu_socket_host_path(call, place->fd);
	if (named && vu_socket_address(target, call->work->host, ""))
		return 0;
	struct stat st;
	if (!named && (fstat(place->fd, &st) < 0 || !st.st_nlink))
		return -ECONNREFUSED; /* deleted: nobody can listen there any more */
	int number = vu_again_handle(call, place->fd, named ? call->work->host : NULL, verdict);
	if (number < 0)
		return number;
	vu_socket_address(target, vu_fd_path(number, path), "");
	target->close_fd = number;
	return 0;
}

int vu_socket_refused(struct vu_call *call, int error)
{
	int verdict = -1, domain = 0;
	socklen_t length = sizeof domain;
	if (error == -EAGAIN || error == -VU_LATER) /* the call is made anew */
		return error;
	VU_CLOSE int fd = vu_again_descriptor(call, (int)vu_argument(call, call->row->fd), &verdict);
	if (fd < 0)
		return verdict >= 0 ? verdict : fd == -EBADF ? fd : error;
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0)
		return errno == ENOTSOCK ? -ENOTSOCK : error;
	return domain == AF_UNIX ? error : VU_CONTINUE;
}

/* The kernel's text of a socket that was bound here leads to that, if to nothing else. */
int vu_socket_walk(struct vu_call *call, const char *path, struct vu_place *place)
{
	char view[VU_TEXT];
	int error = vu_walk(call, 0, AT_FDCWD, path, VU_FOLLOW, place);
	if ((error == -ENOENT || error == -ENOTDIR) && vu_socket_names_view(call->session, path, view))
		error = vu_walk(call, 0, AT_FDCWD, view, VU_FOLLOW, place);
	return error;
}

int vu_op_connect(struct vu_call *call)
{
	if (call->session->enforce)
		return vu_connect_ours(call);
	char path[sizeof(struct sockaddr_un)];
	struct vu_socket_target target;
	int verdict = -1;
	VU_PLACE place = { .parent = -1, .fd = -1 };
	if (!vu_socket_path(call, vu_argument(call, call->row->buf), vu_argument(call, call->row->size), path))
		return VU_CONTINUE;
	int error = vu_socket_walk(call, path, &place);
	if (error < 0)
		return vu_socket_refused(call, error);
	if (vu_may_continue(call, &place, false))
		return VU_CONTINUE;
	vu_notify_step_aside(call); /* it blocks while the listener's backlog is full */
	if ((error = name_target(call, &place, &target, &verdict)) < 0)
		return verdict >= 0 ? verdict : error;
	struct vu_remote request = {
		.nr = SYS_connect,
		.flags = VU_REMOTE_BREAK,
		.args = { vu_argument(call, call->row->fd), 0, target.length },
		.close_fd = target.close_fd,
		.scratch_args = 1u << 1,
		.scratch = &target.address,
		.scratch_len = sizeof target.address,
	};
	return vu_remote(call, &request);
}

/*
 * The place that an address of a message names: true if that is where it is to go. Else *verdict is what the call comes to, which
 * goes on if nothing is to be done here.
 */
static bool aim(struct vu_call *call, uint64_t address, uint64_t length, struct vu_place *place, int *verdict)
{
	char path[sizeof(struct sockaddr_un)];
	*verdict = VU_CONTINUE;
	if (!vu_socket_path(call, address, length, path))
		return false;
	int error = vu_socket_walk(call, path, place);
	if (error < 0)
		*verdict = vu_socket_refused(call, error);
	return !error && !vu_may_continue(call, place, false);
}

/* nr is sendmsg, or sendmmsg with one message (which is what a struct mmsghdr begins with). */
static int send_to(struct vu_call *call, const struct vu_place *place, const struct msghdr *message,
		   const struct iovec *own, unsigned nr, uint64_t flags)
{
	struct {
		struct mmsghdr message;
		struct iovec vector;
		struct sockaddr_un address;
	} scratch = { .message = { .msg_hdr = *message } };
	static const uint32_t pointers[] = { offsetof(struct msghdr, msg_name), offsetof(struct msghdr, msg_iov) };
	struct vu_socket_target target;
	int verdict = -1, error = name_target(call, place, &target, &verdict);
	if (error < 0)
		return verdict >= 0 ? verdict : error;
	scratch.address = target.address;
	scratch.message.msg_hdr.msg_name = (void *)offsetof(__typeof__(scratch), address);
	scratch.message.msg_hdr.msg_namelen = target.length;
	if (own) {
		scratch.vector = *own;
		scratch.message.msg_hdr.msg_iov = (void *)offsetof(__typeof__(scratch), vector);
		scratch.message.msg_hdr.msg_iovlen = 1;
	}
	vu_notify_step_aside(call); /* it blocks while the receiver's queue is full */
	struct vu_remote request = {
		.nr = nr,
		.flags = VU_REMOTE_BREAK,
		.args = { vu_argument(call, call->row->fd), 0, nr == SYS_sendmsg ? flags : 1, flags },
		.close_fd = target.close_fd,
		.scratch_args = 1u << 1,
		.scratch = &scratch,
		.scratch_len = sizeof scratch,
		.pointers = pointers,
		.pointer_count = own ? 2 : 1,
	};
	return vu_remote(call, &request);
}

int vu_op_sendto(struct vu_call *call)
{
	if (call->session->enforce)
		return vu_sendto_ours(call);
	VU_PLACE place = { .parent = -1, .fd = -1 };
	int verdict;
	if (!aim(call, vu_argument(call, call->row->buf), vu_argument(call, call->row->size), &place, &verdict))
		return verdict;
	/* sendto needs its sixth argument; sendmsg leaves it to the cookie. */
	const struct iovec vector = { (void *)call->args[1], call->args[2] };
	return send_to(call, &place, &(struct msghdr){}, &vector, SYS_sendmsg, call->args[3]);
}

int vu_op_sendmsg(struct vu_call *call)
{
	if (call->session->enforce)
		return vu_sendmsg_ours(call);
	struct msghdr message;
	VU_PLACE place = { .parent = -1, .fd = -1 };
	if (vu_read(call, vu_argument(call, call->row->buf), &message, sizeof message) < 0 || !message.msg_namelen)
		return VU_CONTINUE;
	int verdict;
	if (!aim(call, (uint64_t)message.msg_name, message.msg_namelen, &place, &verdict))
		return verdict;
	return send_to(call, &place, &message, NULL, SYS_sendmsg, vu_argument(call, call->row->flags));
}

/* What one datagram holds: all of it is sent or nothing. */
static int set_length(struct vu_call *call, uint64_t at, const struct msghdr *message)
{
	struct iovec *vector = (struct iovec *)call->work->data;
	unsigned total = 0;
	if (message->msg_iovlen > MESSAGES)
		return -EMSGSIZE;
	int error = vu_read(call, (uint64_t)message->msg_iov, vector, message->msg_iovlen * sizeof *vector);
	if (error < 0)
		return error;
	for (size_t i = 0; i < message->msg_iovlen; i++)
		total += (unsigned)vector[i].iov_len;
	return vu_write(call, at + offsetof(struct mmsghdr, msg_len), &total, sizeof total);
}

/* It may send fewer than it was given: up to the first that concerns us, or that one alone. */
int vu_op_sendmmsg(struct vu_call *call)
{
	if (call->session->enforce)
		return vu_sendmmsg_ours(call);
	uint64_t address = vu_argument(call, call->row->buf), flags = vu_argument(call, call->row->flags);
	unsigned count = (unsigned)vu_argument(call, call->row->size);
	struct mmsghdr *messages = (struct mmsghdr *)call->work->data;
	if (count > MESSAGES)
		count = MESSAGES;
	if (vu_read(call, address, messages, count * sizeof *messages) < 0)
		return VU_CONTINUE;
	for (unsigned i = 0; i < count; i++) {
		const struct msghdr message = messages[i].msg_hdr;
		VU_PLACE place = { .parent = -1, .fd = -1 };
		if (!message.msg_namelen)
			continue;
		int verdict;
		bool aimed = aim(call, (uint64_t)message.msg_name, message.msg_namelen, &place, &verdict);
		if (!aimed && verdict == VU_CONTINUE)
			continue;
		if (i) {
			struct vu_remote request = {
				.nr = SYS_sendmmsg,
				.flags = VU_REMOTE_BREAK,
				.args = { vu_argument(call, call->row->fd), address, i, flags },
				.close_fd = -1,
			};
			return vu_remote(call, &request);
		}
		if (!aimed)
			return verdict;
		struct stat st;
		if (!fstat(place.fd, &st) && !S_ISSOCK(st.st_mode))
			return vu_socket_refused(call, -ECONNREFUSED);
		int error = set_length(call, address, &message);
		if (error < 0)
			return error;
		return send_to(call, &place, &message, NULL, SYS_sendmmsg, flags);
	}
	return VU_CONTINUE;
}
