/*
 * What concerns the process and not the tree: the limit in which its state is kept, its memory's readability, its ids.
 */
#include "remote_call.h"

#include <sys/prctl.h>
#include <sys/resource.h>

/* RLIMIT_LOCKS has had no effect since Linux 2.4; the caller sees it unlimited, and may set it to no effect. */
static const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };

static int check_limit(struct vu_call *call, uint64_t address)
{
	struct rlimit wanted;
	int error = vu_read(call, address, &wanted, sizeof wanted);
	return error < 0 ? error : wanted.rlim_cur > wanted.rlim_max ? -EINVAL : 0;
}

int vu_op_getrlimit(struct vu_call *call)
{
	int error = vu_write(call, vu_argument(call, call->row->buf), &unlimited, sizeof unlimited);
	return error < 0 ? error : vu_answer(call, 0);
}

int vu_op_setrlimit(struct vu_call *call)
{
	int error = check_limit(call, vu_argument(call, call->row->buf));
	return error < 0 ? error : vu_answer(call, 0);
}

int vu_op_prlimit(struct vu_call *call)
{
	uint64_t wanted = vu_argument(call, call->row->buf), old = vu_argument(call, call->row->size);
	pid_t pid = (pid_t)vu_argument(call, call->row->extra);
	struct rlimit limit;
	int error;
	if (wanted && (error = check_limit(call, wanted)) < 0)
		return error;
	if (pid && prlimit(pid, RLIMIT_LOCKS, NULL, &limit) < 0)
		return -errno; /* ESRCH, EPERM */
	if (old && (error = vu_write(call, old, &unlimited, sizeof unlimited)) < 0)
		return error;
	return vu_answer(call, 0);
}

/*
 * A process that makes itself undumpable (ssh-agent, gpg) closes its memory to us as well, unless we are privileged. It
 * is told yes, and told so when it asks, and stays readable for its own user. Execution makes it dumpable again.
 */
int vu_op_dumpable(struct vu_call *call)
{
	if (vu_argument(call, call->row->extra) == PR_GET_DUMPABLE)
		return vu_state_of(call)->undumpable ? vu_answer(call, 0) : VU_CONTINUE;
	uint64_t value = vu_argument(call, call->row->mode);
	struct vu_state wanted = *vu_state_of(call);
	if ((call->session->privileged && !call->session->borrows) || value > 1)
		return VU_CONTINUE; /* 2 is EINVAL */
	wanted.undumpable = !value;
	int error = vu_state_set(call, &wanted);
	return error < 0 ? error : vu_answer(call, 0);
}

/* What a call of these leaves of three ids: real, effective, saved. kernel/sys.c; whether it is permitted, the kernel says. */
static void change(const struct vu_call *call, uint32_t ids[3])
{
	uint32_t first = (uint32_t)call->args[0], second = (uint32_t)call->args[1], third = (uint32_t)call->args[2];
	const uint32_t same = UINT32_MAX;
	switch (call->nr) {
	case SYS_setuid:
	case SYS_setgid:
		if (!ids[1] || call->nr == SYS_setgid)
			ids[0] = ids[2] = first;
		ids[1] = first;
		break;
	case SYS_setreuid:
	case SYS_setregid:
		if (first != same || (second != same && second != ids[0]))
			ids[2] = second != same ? second : ids[1];
		ids[0] = first != same ? first : ids[0];
		ids[1] = second != same ? second : ids[1];
		break;
	case SYS_setresuid:
	case SYS_setresgid:
		ids[0] = first != same ? first : ids[0];
		ids[1] = second != same ? second : ids[1];
		ids[2] = third != same ? third : ids[2];
		break;
	}
}

/* Would the caller's ids differ from one another? Then nobody without CAP_SYS_PTRACE may look at it: borrow.h. */
static bool becomes_opaque(struct vu_call *call)
{
	const struct vu_credentials *c = &call->credentials;
	bool groups = call->nr == SYS_setgid || call->nr == SYS_setregid || call->nr == SYS_setresgid;
	if (vu_target_credentials(call) < 0)
		return false;
	uint32_t users[3] = { c->ruid, c->euid, c->suid }, gids[3] = { c->rgid, c->egid, c->sgid };
	change(call, groups ? gids : users);
	return users[0] != users[1] || users[0] != users[2] || gids[0] != gids[1] || gids[0] != gids[2];
}

/*
 * From now on members may have different ids: each call reads its caller's. A supervisor that has to borrow them sees to it that
 * the caller stays one that it may look at.
 */
int vu_op_credentials(struct vu_call *call)
{
	struct vu_session *session = call->session;
	atomic_store(&session->credentials_differ, true);
	if (!session->borrows)
		return VU_CONTINUE;
	if (!call->table->empty && becomes_opaque(call)) {
		vu_warn(call, VU_WARN_OPAQUE,
			"it may not have real and effective ids that differ (\"Operation not permitted\"): without "
			"CAP_SYS_PTRACE the view could not answer it; a container is given that with "
			"--cap-add=SYS_PTRACE");
		return -EPERM;
	}
	struct vu_remote request = { .nr = (uint32_t)call->nr, .flags = VU_REMOTE_DUMPABLE, .close_fd = -1 };
	memcpy(request.args, call->args, sizeof request.args);
	int64_t result;
	int verdict = vu_remote_result(call, &request, &result);
	if (verdict >= 0)
		return verdict;
	call->blind = false; /* the change itself goes on all the same */
	return VU_CONTINUE;
}
