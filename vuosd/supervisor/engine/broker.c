/* Requests to the launcher's keeper, one at a time: a message and its answer. */
#include "broker.h"

#include <sys/socket.h>

struct message {
	char magic[4];
	uint32_t version, type, length;
	int32_t body;
};

enum { MESSAGE_MEMORY = 8 };

int vu_broker_memory(struct vu_listener *listener, pid_t tid)
{
	struct message message = { "VUOS", 1, MESSAGE_MEMORY, sizeof message.body, tid };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec vector = { &message, sizeof message };
	struct msghdr header = {
		.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
	};
	int fd = -EPERM;
	pthread_mutex_lock(&listener->broker_lock);
	if (send(listener->broker, &message, sizeof message, MSG_NOSIGNAL) < 0 ||
	    recvmsg(listener->broker, &header, MSG_CMSG_CLOEXEC) < (ssize_t)sizeof message) {
		fd = -EPERM; /* the launcher has gone: nobody may look any more */
	} else if (message.body < 0) {
		fd = message.body;
	} else {
		struct cmsghdr *first = CMSG_FIRSTHDR(&header);
		if (first && first->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(first), sizeof fd);
	}
	pthread_mutex_unlock(&listener->broker_lock);
	return fd;
}
