/*
 * A wire mount's threads, which make the calls that have to wait for its server, and its life in a session. A thread is
 * started when there is a call and none is free, up to a bound; what comes on top of that waits its turn. Whose caller has
 * been killed leaves by itself: fuse_exchange.c looks.
 */
#include "stack.h"
#include "wired.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>

enum { MOST_THREADS = 16 };

struct deferred {
	struct deferred *next;
	struct vu_call call;
	uint64_t args[6];
};

struct vu_wired {
	struct vu_wire *wire;
	struct vu_session *session;
	pthread_mutex_t lock;
	pthread_cond_t come;
	struct deferred *first, **last;
	unsigned waiting, idle, count; /* calls, free threads, threads */
	bool ending;
	bool settling; /* under the namespace's lock: somebody writes back what is left */
	pthread_t threads[MOST_THREADS];
};

struct vu_wire *vu_wired_wire(struct vu_wired *wired)
{
	return wired->wire;
}

static void serve(struct vu_wired *wired, struct deferred *deferred, struct vu_work *work)
{
	struct vu_call *call = &deferred->call;
	struct vu_namespace *names = &wired->session->names;
	call->work = work;
	/* A dead caller's call is not made: its server would be asked for nobody. */
	bool alive = !vu_notify_alive(call);
	if (alive && call->needs)
		vu_needs_meet(call);
	int verdict = alive ? vu_notify_run(call) : -ESRCH;
	vu_needs_free(call);
	/* What is replied to may be the last thing that the session does: the table is given back before. */
	vu_table_release(names, call->table);
	vu_notify_reply(call, verdict);
	vu_listener_release(call->listener);
	free(deferred);
}

static void *pool_thread(void *argument)
{
	struct vu_wired *wired = argument;
	struct vu_work *work = calloc(1, sizeof *work);
	prctl(PR_SET_NAME, "vu-wired");
	pthread_mutex_lock(&wired->lock);
	while (work) {
		struct deferred *deferred = wired->first;
		if (!deferred) {
			if (wired->ending)
				break;
			wired->idle++;
			pthread_cond_wait(&wired->come, &wired->lock);
			wired->idle--;
			continue;
		}
		if (!(wired->first = deferred->next))
			wired->last = &wired->first;
		wired->waiting--;
		pthread_mutex_unlock(&wired->lock);
		serve(wired, deferred, work);
		pthread_mutex_lock(&wired->lock);
	}
	pthread_mutex_unlock(&wired->lock);
	if (work)
		vu_callers_free(work);
	free(work);
	return NULL;
}

/* The lock is held. */
static int see_to_threads(struct vu_wired *wired)
{
	sigset_t all, before;
	if (wired->idle >= wired->waiting || wired->count == MOST_THREADS)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&wired->threads[wired->count], NULL, pool_thread, wired);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	wired->count += !error;
	return wired->count ? 0 : -error;
}

int vu_wired_defer(struct vu_call *call)
{
	struct vu_wired *wired = call->waits;
	struct deferred *deferred = calloc(1, sizeof *deferred);
	if (!deferred) {
		vu_needs_free(call);
		return -ENOMEM;
	}
	deferred->call = *call;
	memcpy(deferred->args, call->args, sizeof deferred->args);
	deferred->call.args = deferred->args;
	deferred->call.work = NULL;
	deferred->call.state = NULL;
	deferred->call.waits = NULL;
	deferred->call.elsewhere = true;
	deferred->call.native_error = deferred->call.blind = false;
	deferred->call.listing = 0;
	vu_table_share(call->table);
	vu_listener_share(call->listener);
	pthread_mutex_lock(&wired->lock);
	wired->waiting++;
	int error = see_to_threads(wired);
	if (error < 0) {
		wired->waiting--;
	} else {
		*wired->last = deferred;
		wired->last = &deferred->next;
		pthread_cond_signal(&wired->come);
	}
	pthread_mutex_unlock(&wired->lock);
	if (error < 0)
		vu_needs_free(call);
	call->needs = NULL;
	if (!error)
		return VU_SENT;
	vu_table_release(&call->session->names, call->table);
	vu_listener_release(call->listener);
	free(deferred);
	return error;
}

static void say(void *argument, const char *line)
{
	struct vu_wired *wired = argument;
	vu_log(wired->session, "file system: %s", line);
}

unsigned vu_wired_end(struct vu_wired *wired, struct vu_wire_lost *lost)
{
	pthread_mutex_lock(&wired->lock);
	wired->ending = true;
	pthread_cond_broadcast(&wired->come);
	pthread_mutex_unlock(&wired->lock);
	for (unsigned i = 0; i < wired->count; i++)
		pthread_join(wired->threads[i], NULL);
	unsigned count = wired->wire ? vu_wire_unmount(wired->wire, lost) : 0;
	pthread_mutex_destroy(&wired->lock);
	pthread_cond_destroy(&wired->come);
	free(wired);
	return count;
}

static int begin(struct vu_session *session, const struct vu_wire_mount *options, struct vu_wired **out, int *tree)
{
	struct vu_wired *wired = calloc(1, sizeof *wired);
	if (!wired) {
		close(options->socket);
		close(options->cache);
		return -ENOMEM;
	}
	struct vu_wire_options wire = { .deadline = (int64_t)options->deadline_ms * 1000000,
					.largest = options->largest,
					.fixed = options->fixed,
					.file = options->file,
					.no_devices = options->no_devices,
					.gives_owners = session->privileged,
					.log = say,
					.data = wired };
	struct vu_fuse_caller caller = { .uid = geteuid(), .gid = getegid(), .pid = getpid() };
	wired->session = session;
	wired->last = &wired->first;
	pthread_mutex_init(&wired->lock, NULL);
	pthread_cond_init(&wired->come, NULL);
	int error = vu_wire_mount(options->socket, options->cache, &wire, &caller, &wired->wire, tree);
	if (!error && (*tree = fcntl(*tree, F_DUPFD_CLOEXEC, 0)) < 0)
		error = -errno;
	if (error < 0)
		vu_wired_end(wired, NULL);
	else
		*out = wired;
	return error;
}

int vu_session_wire(struct vu_session *session, const struct vu_wire_mount *options)
{
	struct vu_wired *wired;
	char link[32], path[PATH_MAX];
	int tree, error = begin(session, options, &wired, &tree);
	if (error < 0)
		return error;
	ssize_t n = readlink(vu_fd_path(tree, link), path, sizeof path - 1);
	path[n < 0 ? 0 : n] = 0;
	struct vu_mount_options mount = { .target = options->target,
					  .space = options->space,
					  .kind = VU_WIRE,
					  .flags = options->flags,
					  .source = tree,
					  .source_path = path,
					  .type = options->type,
					  .name = options->name,
					  .options = options->options };
	int number = vu_namespace_mount(session, &mount, wired, NULL);
	if (number >= 0)
		return number;
	close(tree);
	vu_wired_end(wired, NULL);
	return number;
}

bool *vu_wired_settling(struct vu_wired *wired)
{
	return &wired->settling;
}

int vu_session_wire_settle(struct vu_session *session, int number, char *lost, size_t room)
{
	struct vu_wire_lost names = { .text = lost, .room = room };
	struct vu_wired *wired = NULL;
	int error = vu_namespace_settle_wired(&session->names, number, &wired);
	if (error < 0)
		return error;
	int count = (int)vu_wire_settle(wired->wire, &names);
	vu_namespace_settled_wired(&session->names, wired);
	return count;
}

int vu_session_wire_end(struct vu_session *session, int number, char *lost, size_t room)
{
	struct vu_wire_lost names = { .text = lost, .room = room };
	struct vu_wired *wired = NULL;
	int error = vu_namespace_take_wired(&session->names, number, &wired);
	return error < 0 ? error : wired ? (int)vu_wired_end(wired, &names) : 0;
}

int vu_session_wire_flights(struct vu_session *session, int number, struct vu_wire_flight *out, uint32_t room)
{
	struct vu_fuse_flight flights[64];
	struct vu_wired *wired = vu_namespace_hold_wired(&session->names, number);
	if (!wired)
		return -EINVAL;
	int64_t now = vu_fuse_now();
	unsigned count = vu_fuse_flights(vu_wire_fuse(wired->wire), flights, 64);
	vu_namespace_release_wired(&session->names);
	for (unsigned i = 0; i < count && i < room && i < 64; i++)
		out[i] = (struct vu_wire_flight){ .opcode = flights[i].opcode,
						  .pid = flights[i].pid,
						  .node = flights[i].nodeid,
						  .age_ns = now - flights[i].since };
	return (int)count;
}
