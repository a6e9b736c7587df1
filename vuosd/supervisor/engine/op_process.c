/*
 * What concerns the process and not the tree: the limit in which its state is kept, its memory's readability.
 */
#include "engine.h"

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
