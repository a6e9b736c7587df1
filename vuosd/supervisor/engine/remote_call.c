/* The engine's side of remote calls: by ptrace ourselves, or by the launcher where only an ancestor may. */
#include "stack.h"
#include "remote_call.h"

#include <sys/socket.h>

#include "create.h"

int vu_remote_result(struct vu_call *call, struct vu_remote *request, int64_t *out)
{
	struct vu_session *session = call->session;
	int64_t result;
	request->tid = call->tid;
	/* Who reads /proc/TID/syscall learns it: so it is in no call that needs none. */
	request->args[5] = session->rows[request->nr].op ? session->options.cookie : 0;
	if (session->options.flags & VU_SESSION_BROKER_MEMORY) {
		pthread_mutex_lock(&call->listener->broker_lock);
		result = vu_remote_ask(call->listener->broker, call->id, request);
		pthread_mutex_unlock(&call->listener->broker_lock);
	} else {
		vu_inspect(call, true);
		result = vu_remote_call(call->listener->fd, call->id, request);
		vu_inspect(call, false);
	}
	*out = result;
	if (request->outcome != VU_REMOTE_UNTOUCHED)
		return VU_SENT;
	char text[PATH_MAX];
	if (result == -EPERM && vu_target_link(call, "cwd", text, sizeof text) == -EACCES)
		return -EACCES; /* not because another process traces it: it may not be looked at */
	vu_log(session, "process %d: call %u cannot be made in it: %s", call->tid, request->nr,
	       result == -EPERM ? "it is traced by another process" : strerror((int)-result));
	return (int)result;
}

int vu_remote(struct vu_call *call, struct vu_remote *request)
{
	int64_t result;
	return vu_remote_result(call, request, &result);
}

static int queue_descriptor(int socket, int fd)
{
	char byte = 0;
	struct iovec vector = { &byte, 1 };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct msghdr header = {
		.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
	};
	memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
	return sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int vu_hand_over(struct vu_call *call, int fd, bool cloexec, unsigned flags, int64_t *result)
{
	struct {
		struct msghdr header;
		struct iovec vector;
		char byte[16];
		struct cmsghdr control;
		int number; /* received; the last of the scratch */
	} scratch = { .number = -EMFILE };
	static const uint32_t pointers[] = {
		offsetof(__typeof__(scratch), header.msg_iov),
		offsetof(__typeof__(scratch), header.msg_control),
		offsetof(__typeof__(scratch), vector.iov_base),
	};
	const uint32_t length = offsetof(__typeof__(scratch), number) + sizeof scratch.number;
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	VU_CLOSE int ours = pair[0];
	VU_CLOSE int theirs = pair[1];
	int error = queue_descriptor(ours, fd);
	int there = error < 0 ? error : vu_inject(call, theirs, true);
	if (there < 0)
		return there;
	scratch.header.msg_iov = (void *)offsetof(__typeof__(scratch), vector);
	scratch.header.msg_iovlen = 1;
	scratch.header.msg_control = (void *)offsetof(__typeof__(scratch), control);
	scratch.header.msg_controllen = CMSG_LEN(sizeof(int));
	scratch.vector = (struct iovec){ (void *)offsetof(__typeof__(scratch), byte), 1 };
	struct vu_remote request = {
		.nr = SYS_recvmsg,
		.flags = VU_REMOTE_INT | flags,
		.args = { (uint64_t)there, 0, MSG_DONTWAIT | (cloexec ? MSG_CMSG_CLOEXEC : 0) },
		.close_fd = there,
		.scratch_args = 1u << 1,
		.scratch = &scratch,
		.scratch_len = length,
		.pointers = pointers,
		.pointer_count = sizeof pointers / sizeof *pointers,
	};
	return vu_remote_result(call, &request, result);
}

int vu_open_parent(struct vu_call *call, const struct vu_place *place)
{
	char *view = call->work->scratch;
	struct vu_spot spot;
	strcpy(view, place->view);
	char *slash = strrchr(view, '/');
	if (!slash)
		return -ENOENT;
	slash[slash == view] = 0;
	vu_table_find(call->table, view, &spot);
	if (spot.mount->kind == VU_HIDE)
		return -ENOENT;
	int base = spot.mount->stack ? spot.mount->stack->trees[place->seen.tree].fd : spot.mount->fd;
	char text[VU_TEXT];
	const char *path = spot.mount->stack ? vu_stack_path(&spot, text) : spot.rest;
	int fd = openat(base, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
