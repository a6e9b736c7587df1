/* The state of a process: its number is kept by the kernel, in RLIMIT_LOCKS. Asking for limits, and setting that one. */
#include "engine.h"

#include <stdio.h>
#include <sys/resource.h>

/* prlimit(2) of a process with other ids takes CAP_SYS_RESOURCE, which root has not in a container; procfs tells anybody. */
static int read_limit(const struct vu_session *session, pid_t pid, int resource, struct rlimit *out)
{
	char path[64], text[4096], *line;
	snprintf(path, sizeof path, "%d/limits", pid);
	VU_CLOSE int fd = openat(session->proc, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (n < 0)
		return -errno;
	text[n] = 0;
	const char *name = resource == RLIMIT_LOCKS ? "\nMax file locks" : "\nMax file size";
	if (!(line = strstr(text, name)))
		return -ESRCH;
	line += strlen(name);
	for (int i = 0; i < 2; i++) {
		line += strspn(line, " ");
		*(i ? &out->rlim_max : &out->rlim_cur) = *line == 'u' ? RLIM_INFINITY : strtoull(line, NULL, 10);
		line += strcspn(line, " \n");
	}
	return 0;
}

int vu_limit_of(const struct vu_session *session, pid_t pid, int resource, struct rlimit *out)
{
	int error = prlimit(pid, resource, NULL, out) < 0 ? -errno : 0;
	return error == -EPERM ? read_limit(session, pid, resource, out) : error;
}

int vu_target_limit(struct vu_call *call, int resource, struct rlimit *out)
{
	vu_inspect(call, true);
	int error = vu_limit_of(call->session, call->tid, resource, out);
	vu_inspect(call, false);
	return error;
}

const struct vu_state *vu_state_of(struct vu_call *call)
{
	struct vu_session *session = call->session;
	if (call->state)
		return call->state;
	unsigned number = 0, count = atomic_load_explicit(&session->state_count, memory_order_acquire);
	if (count > 1) {
		struct rlimit limit;
		if (!vu_target_limit(call, RLIMIT_LOCKS, &limit)) {
			number = limit.rlim_cur & VU_STATE_MASK;
			if (number >= count)
				number = 0;
		}
	}
	return call->state = session->states[number];
}

static bool same(const struct vu_state *one, const struct vu_state *other)
{
	return one->space == other->space && one->cwd_mount == other->cwd_mount && one->opened_by == other->opened_by &&
	       one->undumpable == other->undumpable && one->euid == other->euid && one->egid == other->egid &&
	       !strcmp(one->root, other->root);
}

/* The number of such a state, made if it is new. Rare: chroot, and chdir into a tree that the view shows twice. */
static int intern(struct vu_session *session, const struct vu_state *wanted)
{
	pthread_mutex_lock(&session->state_lock);
	unsigned count = atomic_load(&session->state_count), i, free_one = count;
	for (i = 0; i < count; i++)
		if (same(session->states[i], wanted))
			break;
		else if (session->states[i]->space == VU_GONE)
			free_one = i;
	int result = (int)i;
	if (i == count) {
		result = (int)(i = free_one);
		struct vu_state *state = NULL;
		if (i == sizeof session->states / sizeof *session->states)
			result = -ENOSPC;
		else if (!(state = calloc(1, sizeof *state)) || !(state->root = strdup(wanted->root)))
			result = -ENOMEM;
		if (result < 0) {
			free(state);
		} else {
			state->cwd_mount = wanted->cwd_mount;
			state->opened_by = wanted->opened_by;
			state->undumpable = wanted->undumpable;
			state->euid = wanted->euid;
			state->egid = wanted->egid;
			state->space = wanted->space;
			state->before =
				session->states
					[i]; /* a call that its last process had made may still be looking at it */
			session->states[i] = state;
			if (i == count)
				atomic_store_explicit(&session->state_count, count + 1, memory_order_release);
		}
	}
	pthread_mutex_unlock(&session->state_lock);
	return result;
}

int vu_session_state(vu_session *session, uint32_t space)
{
	struct vu_state wanted = { .root = "", .euid = -1, .egid = -1, .space = space };
	if (!space)
		return 0;
	return space < VU_SPACES && atomic_load(&session->names.tables[space]) ? intern(session, &wanted) : -ESRCH;
}

void vu_states_end(struct vu_session *session, unsigned space)
{
	pthread_mutex_lock(&session->state_lock);
	for (unsigned i = 0; i < atomic_load(&session->state_count); i++)
		if (session->states[i]->space == space)
			session->states[i]->space = VU_GONE;
	pthread_mutex_unlock(&session->state_lock);
}

void vu_states_free(struct vu_session *session)
{
	for (unsigned i = 0; i < atomic_load(&session->state_count); i++)
		for (struct vu_state *state = session->states[i], *before; state; state = before) {
			before = state->before;
			free(state->root);
			free(state);
		}
}

const struct vu_mount *vu_state_meant(const struct vu_state *state, bool cwd)
{
	return !cwd && state->opened_by ? state->opened_by : state->cwd_mount;
}

int vu_state_set(struct vu_call *call, const struct vu_state *wanted)
{
	if (same(vu_state_of(call), wanted))
		return 0;
	int number = intern(call->session, wanted);
	if (number < 0)
		return number;
	struct rlimit limit = { (call->session->options.tag & ~VU_STATE_MASK) | (unsigned)number, RLIM_INFINITY };
	struct rlimit old;
	struct vu_borrowed borrowed = {};
	vu_inspect(call, true);
	/* It would take CAP_SYS_RESOURCE, which fewer containers give than CAP_SYS_PTRACE. */
	if (call->session->privileged && atomic_load(&call->session->credentials_differ) && !call->borrowed.taken)
		vu_borrow(call->session->proc, call->tid, &borrowed);
	int error = prlimit(call->tid, RLIMIT_LOCKS, NULL, &old) < 0 ? -errno : 0;
	limit.rlim_max = old.rlim_max;
	if (!error && prlimit(call->tid, RLIMIT_LOCKS, &limit, NULL) < 0)
		error = -errno;
	vu_give_back(&borrowed);
	vu_inspect(call, false);
	if (error < 0)
		return error;
	call->state = call->session->states[number];
	return 0;
}
