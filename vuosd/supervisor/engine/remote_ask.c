/* A remote call that the launcher's keeper makes on request. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "remote.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static int put_in_memfd(const void *pointers, size_t pointers_size, const void *scratch, size_t scratch_len)
{
	struct iovec parts[2] = { { (void *)pointers, pointers_size }, { (void *)scratch, scratch_len } };
	int fd = memfd_create("vuosd-remote", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (pwritev(fd, parts, 2, 0) != (ssize_t)(pointers_size + scratch_len)) {
		close(fd);
		return -EIO;
	}
	return fd;
}

int64_t vu_remote_ask(int broker, uint64_t id, struct vu_remote *call)
{
	struct vu_remote_request request = {
		.id = id,
		.tid = call->tid,
		.tgid = call->tgid,
		.nr = call->nr,
		.flags = call->flags,
		.close_fd = call->close_fd,
		.scratch_args = call->scratch_args,
		.scratch_len = call->scratch_len,
		.pointer_count = call->pointer_count,
		.scratch_at = call->scratch_at,
	};
	struct vu_header header = { "VUOS", VU_PROTOCOL, VU_MESSAGE_REMOTE, sizeof(request) };
	size_t pointers_size = (size_t)call->pointer_count * sizeof(uint32_t);
	struct vu_remote_reply reply;
	struct iovec parts[4] = {
		{ &header, sizeof(header) },
		{ &request, sizeof(request) },
		{ (void *)call->pointers, pointers_size },
		{ (void *)call->scratch, call->scratch_len },
	};
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 4 };
	struct msghdr answer = { .msg_iov = (struct iovec[]){ { &header, sizeof(header) }, { &reply, sizeof(reply) } },
				 .msg_iovlen = 2 };
	int fd = -1;
	ssize_t n;

	call->outcome = VU_REMOTE_UNTOUCHED;
	memcpy(request.args, call->args, sizeof(request.args));
	if (!vu_remote_well_formed(call))
		return -EINVAL;
	if (pointers_size + call->scratch_len > VU_REMOTE_INLINE) {
		fd = put_in_memfd(call->pointers, pointers_size, call->scratch, call->scratch_len);
		if (fd < 0)
			return fd;
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		message.msg_iovlen = 2;
	} else {
		header.length += pointers_size + call->scratch_len;
	}
	do
		n = sendmsg(broker, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	int error = n < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	if (error)
		return error;
	do
		n = recvmsg(broker, &answer, 0);
	while (n < 0 && errno == EINTR);
	/* The keeper died: so will its tree. */
	if (n != sizeof(header) + sizeof(reply) || header.type != VU_MESSAGE_REMOTE) {
		call->outcome = VU_REMOTE_GONE;
		return -ESRCH;
	}
	call->scratch_at = reply.scratch_at;
	call->outcome = reply.outcome;
	return reply.result;
}
