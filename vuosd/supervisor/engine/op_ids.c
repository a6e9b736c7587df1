/*
 * Ids that a process changes. A supervisor that is root acts with those of each caller, so it has to know; one that has not
 * CAP_SYS_PTRACE sees to it that it may look at the caller afterwards, too (borrow.h):
 *
 *  - ids that are all the same: the call is made remotely, and then prctl(PR_SET_DUMPABLE).
 *  - an effective id that differs for a while, as apt-get, sshd and cron do: such a process is closed to all but CAP_SYS_PTRACE. It gets
 *    the *file system* id instead, by which the kernel judges files all the same, and its state remembers what it asked for. It keeps
 *    those capabilities that do not concern files.
 *  - other differences are refused, and the person is told.
 */
#include "remote_call.h"

#include <linux/capability.h>

struct ids {
	uint32_t real, effective, saved;
};

static bool equal(const struct ids *ids)
{
	return ids->real == ids->effective && ids->real == ids->saved;
}

static bool of_groups(int nr)
{
	return nr == SYS_setgid || nr == SYS_setregid || nr == SYS_setresgid;
}

/* The caller's ids as it knows them. */
static struct ids ids_of(struct vu_call *call, bool groups)
{
	const struct vu_credentials *c = &call->credentials;
	const struct vu_state *state = vu_state_of(call);
	struct ids ids = groups ? (struct ids){ c->rgid, c->egid, c->sgid } : (struct ids){ c->ruid, c->euid, c->suid };
	int64_t carried = groups ? state->egid : state->euid;
	if (carried >= 0)
		ids.effective = (uint32_t)carried;
	return ids;
}

/* Has the caller, as it knows itself, the capability? While its effective user is carried it would have none. */
static bool capable(struct vu_call *call, int capability)
{
	return vu_state_of(call)->euid < 0 && call->credentials.effective >> capability & 1;
}

static bool may_have(struct vu_call *call, bool groups, const struct ids *now, uint32_t effective)
{
	return effective == now->real || effective == now->effective || effective == now->saved ||
	       capable(call, groups ? CAP_SETGID : CAP_SETUID);
}

/* What the call makes of them. kernel/sys.c; whether it is permitted, the kernel says. */
static struct ids changed(struct vu_call *call, struct ids ids)
{
	const uint32_t first = (uint32_t)call->args[0], second = (uint32_t)call->args[1],
		       third = (uint32_t)call->args[2];
	const uint32_t same = UINT32_MAX;
	switch (call->nr) {
	case SYS_setuid:
	case SYS_setgid:
		if (capable(call, call->nr == SYS_setuid ? CAP_SETUID : CAP_SETGID))
			ids.real = ids.saved = first;
		ids.effective = first;
		break;
	case SYS_setreuid:
	case SYS_setregid:
		if (first != same || (second != same && second != ids.real))
			ids.saved = second != same ? second : ids.effective;
		ids.real = first != same ? first : ids.real;
		ids.effective = second != same ? second : ids.effective;
		break;
	case SYS_setresuid:
	case SYS_setresgid:
		ids.real = first != same ? first : ids.real;
		ids.effective = second != same ? second : ids.effective;
		ids.saved = third != same ? third : ids.saved;
		break;
	}
	return ids;
}

static int remember(struct vu_call *call, bool groups, int64_t effective)
{
	struct vu_state wanted = *vu_state_of(call);
	*(groups ? &wanted.egid : &wanted.euid) = effective;
	return vu_state_set(call, &wanted);
}

static int make(struct vu_call *call, struct vu_remote *request)
{
	int64_t result;
	request->close_fd = -1;
	request->flags |= VU_REMOTE_DUMPABLE;
	int verdict = vu_remote_result(call, request, &result);
	if (verdict >= 0)
		return verdict;
	call->blind = false; /* it is traced, say: the change itself goes on all the same */
	return VU_CONTINUE;
}

static int as_it_is(struct vu_call *call)
{
	struct vu_remote request = { .nr = (uint32_t)call->nr };
	memcpy(request.args, call->args, sizeof request.args);
	return make(call, &request);
}

static int refuse(struct vu_call *call)
{
	vu_warn(call, VU_WARN_OPAQUE,
		"it may not have ids that differ from one another in this way (\"Operation not permitted\"): without "
		"CAP_SYS_PTRACE the view could not answer it; a container is given that with --cap-add=SYS_PTRACE");
	return -EPERM;
}

int vu_op_credentials(struct vu_call *call)
{
	struct vu_session *session = call->session;
	atomic_store(&session->credentials_differ, true);
	if (!session->borrows)
		return VU_CONTINUE;
	if (call->table->empty || vu_target_credentials(call) < 0)
		return as_it_is(call);
	bool groups = of_groups(call->nr);
	struct ids now = ids_of(call, groups), next = changed(call, now);
	bool temporary = next.real == now.real && next.saved == now.saved && now.real == now.saved;
	if (!equal(&next) && !temporary)
		return refuse(call);
	if (temporary && !may_have(call, groups, &now, next.effective))
		return -EPERM;
	int error = remember(call, groups, equal(&next) ? -1 : (int64_t)next.effective);
	if (error < 0)
		return error;
	if (equal(&next) && (equal(&now) || !temporary))
		return as_it_is(call);
	/* Also to return: it is this call that gives back the capabilities that it has taken. */
	struct vu_remote request = {
		.nr = groups ? SYS_setfsgid : SYS_setfsuid,
		.flags = VU_REMOTE_ZERO,
		.args = { next.effective },
	};
	return make(call, &request);
}

/* An effective id that is carried by the file system id would come through execve(2) as root's. */
int vu_ids_may_execute(struct vu_call *call)
{
	const struct vu_state *state = vu_state_of(call);
	return state->euid >= 0 || state->egid >= 0 ? refuse(call) : 0;
}

int vu_op_ids(struct vu_call *call)
{
	const struct vu_state *state = vu_state_of(call);
	bool groups = call->nr == SYS_getegid || call->nr == SYS_getresgid;
	int64_t carried = groups ? state->egid : state->euid;
	if (carried < 0)
		return VU_CONTINUE;
	if (call->nr == SYS_geteuid || call->nr == SYS_getegid)
		return vu_answer(call, carried);
	int error = vu_target_credentials(call);
	if (error < 0)
		return error;
	const struct ids ids = ids_of(call, groups);
	const uint32_t values[] = { ids.real, ids.effective, ids.saved };
	for (int i = 0; i < 3; i++)
		if ((error = vu_write(call, call->args[i], &values[i], sizeof values[i])) < 0)
			return error;
	return vu_answer(call, 0);
}
