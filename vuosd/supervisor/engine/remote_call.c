/* The engine's side of remote calls: by ptrace ourselves, or by the launcher where only an ancestor may. */
#include "remote_call.h"

#include "create.h"

int vu_remote_result(struct vu_call *call, struct vu_remote *request, int64_t *out)
{
	struct vu_session *session = call->session;
	int64_t result;
	request->tid = call->tid;
	request->args[5] = session->options.cookie;
	if (session->options.flags & VU_SESSION_BROKER_MEMORY) {
		pthread_mutex_lock(&session->broker_lock);
		result = vu_remote_ask(session->options.broker, call->id, request);
		pthread_mutex_unlock(&session->broker_lock);
	} else {
		vu_inspect(call, true);
		result = vu_remote_call(session->listener, call->id, request);
		vu_inspect(call, false);
	}
	*out = result;
	if (request->outcome != VU_REMOTE_UNTOUCHED)
		return VU_SENT;
	vu_log(session, "process %d: call %u cannot be made in it: %s", call->tid, request->nr,
	       result == -EPERM ? "it is traced by another process" : strerror((int)-result));
	return (int)result;
}

int vu_remote(struct vu_call *call, struct vu_remote *request)
{
	int64_t result;
	return vu_remote_result(call, request, &result);
}

int vu_remote_at(struct vu_call *call, unsigned nr, int dirfd, const char *name, uint64_t flags)
{
	int there = vu_notify_inject(call, dirfd, true);
	if (there < 0)
		return there;
	struct vu_remote request = {
		.nr = nr,
		.args = {(uint64_t)there, 0, flags},
		.close_fd = there,
		.scratch_args = 1u << 1,
		.scratch = name,
		.scratch_len = (uint32_t)strlen(name) + 1,
	};
	return vu_remote(call, &request);
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
	vu_table_find(&call->session->table, view, &spot);
	if (spot.mount->kind == VU_HIDE)
		return -ENOENT;
	int fd = openat(spot.mount->fd, *spot.rest ? spot.rest : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
