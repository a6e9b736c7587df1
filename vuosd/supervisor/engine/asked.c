/*
 * Calls that Python answers. An operation says VU_ASK; the notification is *parked*: it is kept here and not answered, and
 * the engine thread goes on to the next. The caller waits in the kernel, where a fatal signal ends it at once. Python
 * takes the call when the eventfd says that there is one, looks at the caller as the engine does, and answers by its id.
 */
#include "stack.h"
#include "walk.h"

#include <sys/eventfd.h>
#include <sys/ioctl.h>

struct vu_parked {
	struct vu_parked *next;
	struct vu_asked asked; /* with an id of ours */
	struct vu_listener *listener; /* shared */
	uint64_t notification;
	char *path; /* by which it is a module's, or NULL */
	char *passed[VU_PASSED]; /* others, by which it was before: claims.c */
	bool taken;
};

int vu_asked_init(struct vu_session *session)
{
	pthread_mutex_init(&session->asked_lock, NULL);
	if (!(session->options.flags & VU_SESSION_MOUNTS))
		return 0;
	session->asked_event = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
	return session->asked_event < 0 ? -errno : 0;
}

static int send_answer(const struct vu_parked *parked, int64_t value, int error)
{
	struct seccomp_notif_resp response = { .id = parked->notification, .val = error ? 0 : value, .error = -error };
	return ioctl(parked->listener->fd, SECCOMP_IOCTL_NOTIF_SEND, &response) < 0 ? -errno : 0;
}

static void discard(struct vu_parked *parked)
{
	vu_listener_release(parked->listener);
	free(parked->path);
	for (int i = 0; i < VU_PASSED; i++)
		free(parked->passed[i]);
	free(parked);
}

void vu_asked_stop(struct vu_session *session)
{
	for (struct vu_parked *parked = session->parked, *next; parked; parked = next) {
		next = parked->next;
		send_answer(parked, 0, EIO); /* else it would be ENOSYS, when the listener closes */
		discard(parked);
	}
	session->parked = NULL;
	vu_close(&session->asked_event);
}

int vu_ask(struct vu_call *call, const char *what, unsigned flags)
{
	if (!(call->session->options.flags & VU_SESSION_MOUNTS))
		return -EPERM;
	call->asks = what;
	call->asks_flags = flags;
	return VU_ASK;
}

int vu_op_mount(struct vu_call *call)
{
	return vu_ask(call, "mount", 0);
}

int vu_op_umount(struct vu_call *call)
{
	return vu_ask(call, "umount", 0);
}

/* By which path it is a module's, and by which it was when that let it go on. */
static bool note_paths(struct vu_parked *parked, const struct vu_call *call)
{
	for (int i = 0; call->passed_paths && i < VU_PASSED; i++)
		if (call->passed_paths[i] && !(parked->passed[i] = strdup(call->passed_paths[i])))
			return false;
	return (parked->path = strdup(call->claimed));
}

int vu_asked_park(struct vu_call *call)
{
	static const uint64_t one = 1;
	struct vu_session *session = call->session;
	struct vu_parked *parked = calloc(1, sizeof *parked), **last;
	if (!parked)
		return -ENOMEM;
	parked->notification = call->id;
	parked->listener = call->listener;
	parked->asked = (struct vu_asked){
		.tid = call->tid,
		.tgid = vu_tgid(call),
		.nr = call->nr,
		.flags = call->asks_flags,
		.claim = call->claim,
		.space = vu_space_of(call),
	};
	vu_listener_share(parked->listener);
	if (call->claim && call->claimed && !note_paths(parked, call)) {
		discard(parked);
		return -ENOMEM;
	}
	memcpy(parked->asked.args, call->args, sizeof parked->asked.args);
	strncpy(parked->asked.op, call->asks, sizeof parked->asked.op - 1);
	pthread_mutex_lock(&session->asked_lock);
	parked->asked.id = ++session->parked_count;
	for (last = &session->parked; *last; last = &(*last)->next)
		;
	*last = parked;
	pthread_mutex_unlock(&session->asked_lock);
	if (write(session->asked_event, &one, sizeof one) < 0)
		return 0; /* the counter is full: there are 2^64 - 2 others to be taken first */
	return 0;
}

static bool alive(const struct vu_parked *parked)
{
	uint64_t id = parked->notification;
	return !ioctl(parked->listener->fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id);
}

/* The lock is held. Of one that is not taken the event is read, too: false, it is just being parked, and that follows. */
static bool drop(struct vu_session *session, struct vu_parked **link)
{
	uint64_t count;
	struct vu_parked *parked = *link;
	if (!parked->taken && read(session->asked_event, &count, sizeof count) < 0)
		return false;
	*link = parked->next;
	discard(parked);
	return true;
}

void vu_asked_forget(struct vu_session *session, const struct vu_listener *listener)
{
	pthread_mutex_lock(&session->asked_lock);
	for (struct vu_parked **link = &session->parked, *parked; (parked = *link);)
		if (parked->listener != listener || alive(parked) || !drop(session, link))
			link = &parked->next;
	pthread_mutex_unlock(&session->asked_lock);
}

int vu_session_asked_fd(vu_session *session)
{
	return session->asked_event < 0 ? -EINVAL : session->asked_event;
}

int vu_session_take(vu_session *session, struct vu_asked *out)
{
	uint64_t count;
	int found = 0;
	pthread_mutex_lock(&session->asked_lock);
	for (struct vu_parked **link = &session->parked, *parked; !found && (parked = *link);) {
		if (!parked->taken && read(session->asked_event, &count, sizeof count) < 0)
			break; /* it is just being parked: the event follows */
		if (!alive(parked)) { /* taken or not */
			*link = parked->next;
			discard(parked);
			continue;
		}
		if (!parked->taken) {
			parked->taken = true;
			*out = parked->asked;
			found = 1;
		}
		link = &parked->next;
	}
	pthread_mutex_unlock(&session->asked_lock);
	return found;
}

/* The lock is held. */
static struct vu_parked **find(struct vu_session *session, uint64_t id)
{
	struct vu_parked **link = &session->parked;
	while (*link && !((*link)->taken && (*link)->asked.id == id))
		link = &(*link)->next;
	return *link ? link : NULL;
}

/* Takes it off the list, so that nobody else answers it; it is the caller's to discard. NULL if it is not there. */
static struct vu_parked *claim(struct vu_session *session, uint64_t id)
{
	struct vu_parked *parked = NULL;
	pthread_mutex_lock(&session->asked_lock);
	struct vu_parked **link = find(session, id);
	if (link) {
		parked = *link;
		*link = parked->next;
	}
	pthread_mutex_unlock(&session->asked_lock);
	return parked;
}

int vu_session_answer(vu_session *session, uint64_t id, int64_t value, int error)
{
	struct vu_parked *parked = claim(session, id);
	if (!parked)
		return 0;
	bool answered = !send_answer(parked, value, error);
	discard(parked);
	return answered;
}

int vu_session_answer_descriptor(vu_session *session, uint64_t id, int fd, int cloexec)
{
	sigset_t before;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || (flags & O_PATH)) /* which ADDFD refuses */
		return -EBADF;
	struct vu_parked *parked = claim(session, id);
	if (!parked)
		return 0;
	struct seccomp_notif_addfd add = { .id = parked->notification,
					   .srcfd = (unsigned)fd,
					   .newfd_flags = cloexec ? O_CLOEXEC : 0 };
	vu_undisturbed(&before); /* in two steps: see inject.c */
	int there = vu_result(ioctl(parked->listener->fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add));
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	/* EMFILE is the caller's */
	bool answered = there != -ENOENT && !send_answer(parked, there, there < 0 ? -there : 0);
	discard(parked);
	return answered;
}

static void let_go(struct vu_call *call)
{
	if (call->table)
		vu_table_release(&call->session->names, call->table);
	vu_listener_release(call->listener);
}

/* The call as an operation has it, for a thread of Python. It holds a version of the table, and the listener, until end(). */
static int begin(vu_session *session, uint64_t id, struct vu_asked *asked, struct vu_call *call)
{
	struct vu_listener *listener = NULL;
	uint64_t notification = 0;
	pthread_mutex_lock(&session->asked_lock);
	struct vu_parked **link = find(session, id);
	if (link) {
		*asked = (*link)->asked;
		listener = (*link)->listener;
		notification = (*link)->notification;
		vu_listener_share(listener);
	}
	pthread_mutex_unlock(&session->asked_lock);
	if (!listener)
		return -ESRCH;
	*call = (struct vu_call){
		.session = session,
		.listener = listener,
		.table = vu_table_hold(&session->names, asked->space),
		.row = &session->rows[asked->nr],
		.id = notification,
		.args = asked->args,
		.tid = asked->tid,
		.tgid = asked->tgid,
		.nr = asked->nr,
	};
	if (call->table)
		return 0;
	let_go(call);
	return -ESRCH;
}

/* What was seen was the caller's, if it still waits. */
static int end(struct vu_call *call, int result)
{
	bool alive = !vu_notify_alive(call);
	let_go(call);
	if (!alive)
		return -ESRCH;
	return result < 0 && call->blind ? -EACCES : result;
}

int vu_session_read(vu_session *session, uint64_t id, uint64_t address, void *out, uint64_t size)
{
	struct vu_asked asked;
	struct vu_call call;
	int error = begin(session, id, &asked, &call);
	return error < 0 ? error : end(&call, vu_read(&call, address, out, size));
}

int vu_session_write(vu_session *session, uint64_t id, uint64_t address, const void *data, uint64_t size)
{
	struct vu_asked asked;
	struct vu_call call;
	int error = begin(session, id, &asked, &call);
	return error < 0 ? error : end(&call, vu_write(&call, address, data, size));
}

int vu_session_claimed_path(vu_session *session, uint64_t id, char *out, uint64_t room)
{
	int length = -ESRCH;
	pthread_mutex_lock(&session->asked_lock);
	struct vu_parked **link = find(session, id);
	if (link) {
		const char *path = (*link)->path ? (*link)->path : "";
		length = strlen(path) < room ? (int)strlen(path) : -ENAMETOOLONG;
		if (length >= 0)
			strcpy(out, path);
	}
	pthread_mutex_unlock(&session->asked_lock);
	return length;
}

int vu_session_proceed(vu_session *session, uint64_t id)
{
	struct vu_asked asked;
	struct vu_call call;
	sigset_t before;
	struct vu_parked *parked = NULL;
	struct vu_work *work = calloc(1, sizeof *work);
	int error = work ? begin(session, id, &asked, &call) : -ENOMEM;
	if (error < 0 || !(parked = claim(session, id))) {
		if (!error)
			let_go(&call);
		free(work);
		return error == -ESRCH ? 0 : error;
	}
	/* The latest path, and the one before: what was asked about earlier is asked about again. */
	const char *const passed[VU_PASSED] = { parked->path, parked->passed[0] };
	call.work = work;
	call.passed = true;
	call.passed_paths = parked->path ? passed : NULL;
	vu_undisturbed(&before);
	int verdict = vu_notify_run(&call);
	vu_table_release(&session->names, call.table);
	vu_notify_reply(&call, verdict);
	vu_listener_release(call.listener);
	discard(parked);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	vu_callers_free(work);
	free(work);
	return 1;
}

int vu_session_read_string(vu_session *session, uint64_t id, uint64_t address, char *out, uint64_t room)
{
	struct vu_asked asked;
	struct vu_call call;
	int error = begin(session, id, &asked, &call);
	return error < 0 ? error : end(&call, vu_read_string(&call, address, out, room));
}

/* Where open(2) with O_RDWR would lead: of a stack, to the copy that it would make. */
static int take_to_write(struct vu_call *call, struct vu_place *place)
{
	struct vu_stack *stack = place->magic ? NULL : place->mount->stack;
	if (place->readonly)
		return -EROFS;
	int error = stack && stack->minimal ? 0 : vu_rights_ask(stack, place->fd, R_OK | W_OK);
	return error < 0 ? error : vu_stack_take(call, place, 0);
}

/* The descriptor is the receiver's then. */
static int tell(struct vu_place *place, struct vu_resolved *out)
{
	if (place->fd < 0)
		return -ENOENT; /* no path leads there, as from a directory that has been removed */
	if (!place->magic && strlen(*place->view ? place->view : "/") >= sizeof out->view)
		return -ENAMETOOLONG;
	strcpy(out->view, place->magic ? "" : *place->view ? place->view : "/");
	out->readonly = place->readonly;
	out->served = place->mount->served;
	out->special = place->mount->stack || place->mount->wired;
	out->fd = place->fd;
	place->fd = -1;
	return 0;
}

static int resolve(struct vu_call *call, int dirfd, const char *path, unsigned flags, struct vu_resolved *out)
{
	VU_PLACE place;
	int error = vu_walk(call, 0, dirfd, path, flags & VU_RESOLVE_FOLLOW ? VU_FOLLOW : 0, &place);
	if (!error && (flags & VU_RESOLVE_WRITE))
		error = take_to_write(call, &place);
	return error < 0 ? error : tell(&place, out);
}

static int look(struct vu_call *call, struct vu_spot *spot, uint32_t flags, struct vu_place *place,
		const struct vu_tree *wired)
{
	vu_close(&place->fd);
	if (spot->mount->wired && !(flags & VU_RESOLVE_WIRED))
		return -EXDEV;
	if (spot->mount->wired) { /* with our own rights: there is no caller */
		int error = vu_tree_prepare(wired, spot->rest, 0);
		place->fd = error < 0     ? error
			    : *spot->rest ? vu_walk_open_below(spot->mount->fd, spot->rest, O_NOFOLLOW)
					  : vu_result(fcntl(spot->mount->fd, F_DUPFD_CLOEXEC, 0));
		return place->fd < 0 ? place->fd : 0;
	}
	place->fd = vu_walk_open_spot(call, spot, O_NOFOLLOW);
	place->seen = spot->seen;
	if (place->fd < 0 || !(flags & VU_RESOLVE_WRITE))
		return place->fd < 0 ? place->fd : 0;
	return place->readonly ? -EROFS : vu_stack_take(call, place, 0);
}

int vu_session_look(vu_session *session, uint32_t space, const char *view, uint32_t flags, struct vu_resolved *out)
{
	static const uint64_t nothing[6];
	if (strlen(view) >= VU_TEXT)
		return -ENAMETOOLONG;
	struct vu_call call = {
		.session = session,
		.table = vu_table_hold(&session->names, space),
		.work = calloc(1, sizeof *call.work),
		.args = nothing,
		.aside = true,
		.elsewhere = true,
	};
	VU_PLACE place = { .parent = -1, .fd = -1, .view = (char *)view };
	struct vu_spot spot = {};
	int error = !call.table ? -ESRCH : !call.work ? -ENOMEM : 0;
	out->fd = -1;
	if (!error) {
		vu_table_find(call.table, view, &spot);
		place.mount = spot.mount;
		place.readonly = spot.mount->readonly;
		const struct vu_tree wired = { .wired = spot.mount };
		vu_needs_of(&call);
		do
			error = look(&call, &spot, flags, &place, &wired);
		while (error < 0 && call.waits && !vu_needs_meet(&call));
		vu_needs_of(NULL);
		vu_needs_free(&call);
	}
	if (!error)
		error = tell(&place, out);
	if (call.table)
		vu_table_release(&session->names, call.table);
	free(call.work);
	return error;
}

int vu_session_enter(vu_session *session, uint64_t id, uint32_t space)
{
	struct vu_asked asked;
	struct vu_call call;
	int error = begin(session, id, &asked, &call);
	if (error < 0)
		return error;
	struct vu_state wanted = *vu_state_of(&call);
	wanted.space = space;
	wanted.cwd_mount = wanted.opened_by = NULL; /* as it was shown in the namespace that the caller leaves */
	return end(&call, vu_state_set(&call, &wanted));
}

int vu_session_resolve(vu_session *session, uint64_t id, int dirfd, const char *path, uint32_t flags,
		       struct vu_resolved *out)
{
	struct vu_asked asked;
	struct vu_call call;
	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	struct vu_work *work = calloc(1, sizeof *work);
	int error = work ? begin(session, id, &asked, &call) : -ENOMEM;
	if (error < 0) {
		free(work);
		return error;
	}
	call.work = work;
	call.elsewhere = true; /* a thread of Python's, which may wait for a server */
	out->fd = -1;
	if (!(error = vu_assume(&call))) {
		vu_needs_of(&call);
		do {
			error = resolve(&call, dirfd, path, flags, out);
			if (error < 0 && call.waits && !vu_needs_meet_acting(&call))
				error = -EAGAIN;
		} while (error == -EAGAIN &&
			 !vu_notify_alive(&call)); /* a rename on the way has made the walk invalid */
		vu_needs_of(NULL);
		vu_needs_free(&call);
		vu_resign(&call);
	}
	if ((error = end(&call, error)) < 0)
		vu_close(&out->fd);
	vu_callers_free(work);
	free(work);
	return error;
}
