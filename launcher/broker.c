/*
 * KEEPER as broker: what only an ancestor of the target may do where Yama restricts ptrace.
 *
 * On a thread of its own, started with the first request: a remote call lasts as long as its call does, and KEEPER must go on
 * watching FRONT. The tracer is this thread; Yama asks only that its process is an ancestor.
 */
#include "launcher.h"

#include "../vuosd/supervisor/engine/borrow.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Root in a container has not CAP_SYS_PTRACE. With it nothing of this would be needed, and nothing is harmed. */
static void look_as(pid_t tid, struct vu_borrowed *borrowed)
{
	int proc = geteuid() == 0 ? open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

	if (proc >= 0) {
		vu_borrow(proc, tid, borrowed);
		close(proc);
	}
}

static void serve_memory(int sock, const struct message *message)
{
	struct vu_borrowed borrowed = { 0 };
	char path[32];
	int32_t result = -EPROTO;
	uint32_t tid;
	int fd = -1;

	if (message->header.length == sizeof(tid)) {
		memcpy(&tid, message->payload, sizeof(tid));
		look_as(tid, &borrowed);
		snprintf(path, sizeof(path), "/proc/%u/mem", tid);
		fd = open(path, O_RDWR | O_CLOEXEC);
		result = fd < 0 ? -errno : 0;
		vu_give_back(&borrowed);
	}
	send_message(sock, MESSAGE_MEM, &result, sizeof(result), &fd, fd >= 0);
	if (fd >= 0)
		close(fd);
}

static int64_t call_remotely(const struct broker *broker, const struct message *message, struct vu_remote *call)
{
	struct vu_remote_request request;
	size_t inline_size = message->header.length - sizeof(request);

	if (message->header.length < sizeof(request))
		return -EPROTO;
	memcpy(&request, message->payload, sizeof(request));
	size_t pointers_size = (size_t)request.pointer_count * sizeof(uint32_t);
	size_t size = pointers_size + request.scratch_len;
	const uint8_t *extra = message->payload + sizeof(request);
	void *map = NULL;

	if (message->fd_count) {
		/* pread rather than access the mapping: a memfd that is shorter than said would be SIGBUS. */
		map = malloc(size);
		if (!map || pread(message->fds[0], map, size, 0) != (ssize_t)size) {
			free(map);
			return -EPROTO;
		}
		extra = map;
	} else if (size != inline_size) {
		return -EPROTO;
	}
	*call = (struct vu_remote){
		.tid = request.tid,
		.tgid = request.tgid,
		.nr = request.nr,
		.flags = request.flags,
		.close_fd = request.close_fd,
		.scratch_args = request.scratch_args,
		.scratch = extra + pointers_size,
		.scratch_len = request.scratch_len,
		.pointers = (const uint32_t *)extra,
		.pointer_count = request.pointer_count,
		.scratch_at = request.scratch_at,
	};
	memcpy(call->args, request.args, sizeof(call->args));
	struct vu_borrowed borrowed = { 0 };
	look_as(request.tid, &borrowed);
	int64_t result = vu_remote_call(broker->listener, request.id, call);
	vu_give_back(&borrowed);
	free(map);
	return result;
}

static void serve_remote(struct broker *broker, const struct message *message)
{
	struct vu_remote call = { .outcome = VU_REMOTE_UNTOUCHED };
	struct vu_remote_reply reply = { 0 };
	uint64_t one = 1;

	pthread_mutex_lock(&broker->tracing);
	reply.result = call_remotely(broker, message, &call);
	pthread_mutex_unlock(&broker->tracing);
	reply.outcome = call.outcome;
	reply.scratch_at = call.scratch_at;
	send_message(broker->sock, MESSAGE_REMOTE, &reply, sizeof(reply), NULL, 0);
	if (write(broker->done, &one, sizeof(one)) < 0)
		return;
}

static void *serve(void *arg)
{
	struct broker *broker = arg;
	static struct message message;
	int r;

	while ((r = receive_message(broker->sock, &message)) != 0) {
		if (r < 0 && r != -EPROTO)
			break;
		if (r > 0 && message.header.type == MESSAGE_MEM)
			serve_memory(broker->sock, &message);
		else if (r > 0 && message.header.type == MESSAGE_REMOTE)
			serve_remote(broker, &message);
		close_fds(&message);
	}
	close(broker->sock);
	return NULL;
}

int start_broker(struct broker *broker)
{
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 128 * 1024);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	return -pthread_create(&thread, &attributes, serve, broker);
}
