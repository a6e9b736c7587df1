/*
 * The engine's threads: who receives, who looks after it, and how there come to be more of them.
 *
 * One thread, the leader, blocks in RECV and serves what it got to the end: with several in RECV the kernel wakes them
 * in turn, and a round trip costs half as much again (6.6 against 9.1 us). The others are there for the case that the
 * leader is held up, by a slow file system or an exec: the guard looks every few milliseconds, while there is work,
 * whether the leader still serves the call that it served at the last look, and then makes one of them the leader.
 * A call that is known to take its time steps aside by itself.
 *
 * When all are held up the guard makes another. For the leader may wait for a file server whose own calls it has to
 * receive: whatever the number of threads, with one more caller than that nothing would ever go on. It is bounded by the
 * number of the view's own threads, each of which waits for one call.
 *
 * With SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV a caller that has been received can only be killed, not interrupted, so
 * receiving early keeps EINTR away from calls that never return it. What may block for ever leaves the thread (slow.c).
 */
#include "broker.h"

#include <linux/futex.h>
#include <poll.h>
#include <malloc.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#define WAKE_SIGNAL (SIGRTMAX - 2)
#define GUARD_TICK_NS 5000000
#define GUARD_IDLE_TICKS 20
#define MOST_THREADS 4096

struct vu_thread {
	struct vu_thread *next;
	struct vu_listener *listener;
	struct vu_work *work;
	struct vu_pin pin;
	pthread_t id;
};

static bool hung_up(int listener)
{
	struct pollfd poller = { .fd = listener };
	return poll(&poller, 1, 0) == 1 && (poller.revents & POLLHUP);
}

static void futex_wait(atomic_uint *word, unsigned value, const struct timespec *timeout)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout, NULL, 0);
}

static void futex_wake(atomic_uint *word, int count)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* Somebody else receives from now on. */
static void pass_on(struct vu_listener *listener)
{
	atomic_fetch_add(&listener->leader, 1);
	if (atomic_load(&listener->idle)) {
		futex_wake(&listener->leader, 1);
	} else { /* nobody is left: the guard makes another */
		atomic_fetch_add(&listener->wanted, 1);
		futex_wake(&listener->wanted, 1);
	}
}

static _Thread_local unsigned own_turn; /* the last that this thread has taken */

void vu_notify_step_aside(struct vu_call *call)
{
	struct vu_listener *listener = call->listener;
	/* A thread that looks for nobody (vu_session_look) has none; else somebody else receives already. */
	if (listener && atomic_load(&listener->leader) == own_turn)
		pass_on(listener);
}

void vu_notify_comes_to(struct vu_call *call, const struct vu_mount *mount)
{
	if (!mount->served || call->aside)
		return;
	call->aside = true;
	vu_notify_step_aside(call);
}

/* A thread that has been the leader may still receive one call: it does not speak for its successor. */
static void begin_serving(struct vu_listener *listener, unsigned turn)
{
	unsigned now = turn << 1 | 1, was = atomic_load_explicit(&listener->serving, memory_order_relaxed);
	while ((int)(now - was) > 0 && !atomic_compare_exchange_weak(&listener->serving, &was, now))
		;
}

static void end_serving(struct vu_listener *listener, unsigned turn)
{
	unsigned now = turn << 1 | 1;
	atomic_compare_exchange_strong(&listener->serving, &now, turn << 1);
}

/* Receive and serve for as long as `turn` is the leader's. Returns false when there is nothing left to receive. */
static bool lead(struct vu_thread *thread, unsigned turn)
{
	struct vu_listener *listener = thread->listener;
	struct seccomp_notif notification;
	own_turn = turn;
	while (atomic_load_explicit(&listener->leader, memory_order_relaxed) == turn &&
	       !atomic_load(&listener->stopping)) {
		memset(&notification, 0, sizeof notification);
		if (!ioctl(listener->fd, SECCOMP_IOCTL_NOTIF_RECV, &notification)) {
			begin_serving(listener, turn);
			atomic_fetch_add_explicit(&listener->beat, 1, memory_order_relaxed);
			if (atomic_load_explicit(&listener->guard_asleep, memory_order_relaxed)) {
				atomic_store(&listener->guard_asleep, 0);
				futex_wake(&listener->guard_asleep, 1);
			}
			vu_notify_serve(listener, thread->work, &thread->pin, &notification);
			end_serving(listener, turn);
		} else if (errno == ENOENT ? hung_up(listener->fd) : errno != EINTR) {
			return false;
		}
	}
	return true;
}

static void set_up(const char *name)
{
	sigset_t all;
	prctl(PR_SET_NAME, name);
	sigfillset(&all);
	sigdelset(&all, WAKE_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
}

/* A turn at leading is a number, taken by whoever gets to it first. */
static void *engine_thread(void *argument)
{
	struct vu_thread *thread = argument;
	struct vu_listener *listener = thread->listener;
	set_up("vu-engine");
	while (!atomic_load(&listener->stopping)) {
		/* Turns may be skipped: two step aside, or the guard does, before anybody has taken the first. */
		unsigned taken = atomic_load(&listener->taken), turn = atomic_load(&listener->leader);
		if (taken == turn || !atomic_compare_exchange_strong(&listener->taken, &taken, turn)) {
			atomic_fetch_add(&listener->idle, 1);
			futex_wait(&listener->leader, turn, NULL);
			atomic_fetch_sub(&listener->idle, 1);
			continue;
		}
		if (!lead(thread, turn))
			break;
	}
	return NULL;
}

/* Not by a thread that acts with a caller's credentials, which the new one would inherit: before the start, and by the guard. */
static int spawn(struct vu_listener *listener)
{
	struct vu_thread *thread = aligned_alloc(_Alignof(struct vu_thread), sizeof *thread);
	struct vu_work *work = calloc(1, sizeof *work);
	if (!thread || !work) {
		free(thread);
		free(work);
		return -ENOMEM;
	}
	*thread = (struct vu_thread){ .listener = listener, .work = work, .next = listener->threads };
	vu_namespace_add_pin(&listener->session->names, &thread->pin);
	int error = pthread_create(&thread->id, NULL, engine_thread, thread);
	if (!error) {
		listener->threads = thread;
		listener->thread_count++;
		return 0;
	}
	vu_namespace_remove_pin(&listener->session->names, &thread->pin);
	free(thread);
	free(work);
	return -error;
}

/* Somebody is to lead, and all are held up. */
static void add_leader(struct vu_listener *listener)
{
	if (atomic_load(&listener->taken) == atomic_load(&listener->leader) || atomic_load(&listener->idle))
		return;
	int error = listener->thread_count < MOST_THREADS ? spawn(listener) : -EAGAIN;
	if (error < 0 && !listener->crowded) {
		listener->crowded = true;
		vu_log(listener->session,
		       "%u calls wait for file systems, and there can be no thread more (%s): other calls wait too",
		       listener->thread_count, strerror(-error));
	}
}

/* Looks after the leader while there is work; sleeps when there has been none for a while. */
static void *guard_thread(void *argument)
{
	static const struct timespec tick = { .tv_nsec = GUARD_TICK_NS };
	struct vu_listener *listener = argument;
	unsigned last = 0, quiet = 0, wanted = 0;
	set_up("vu-guard");
	while (!atomic_load(&listener->stopping)) {
		futex_wait(&listener->wanted, wanted, &tick);
		bool ticked = atomic_load(&listener->wanted) == wanted;
		wanted = atomic_load(&listener->wanted);
		add_leader(listener);
		if (!ticked)
			continue;
		if (listener->session->options.flags & VU_SESSION_BROKER_MEMORY)
			vu_memory_sweep(listener->session, false);
		unsigned beat = atomic_load(&listener->beat);
		if (beat != last)
			quiet = 0;
		else if (atomic_load(&listener->serving) == (atomic_load(&listener->leader) << 1 | 1))
			pass_on(listener);
		else if (++quiet > GUARD_IDLE_TICKS) {
			atomic_store(&listener->guard_asleep, 1);
			if (atomic_load(&listener->beat) == beat && !atomic_load(&listener->stopping))
				futex_wait(&listener->guard_asleep, 1, NULL);
			atomic_store(&listener->guard_asleep, 0);
			quiet = 0;
		}
		last = beat;
	}
	return NULL;
}

void vu_listener_share(struct vu_listener *listener)
{
	atomic_fetch_add(&listener->users, 1);
}

void vu_listener_release(struct vu_listener *listener)
{
	if (atomic_fetch_sub(&listener->users, 1) > 1)
		return;
	vu_close(&listener->fd);
	vu_close(&listener->broker);
	vu_close(&listener->keeper);
	pthread_mutex_destroy(&listener->broker_lock);
	free(listener);
}

static int copy(int fd, int *out)
{
	*out = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd >= 0 && *out < 0 ? -errno : 0;
}

static int new_listener(struct vu_session *session, int fd, int broker, int keeper, struct vu_listener **out)
{
	struct vu_listener *listener = calloc(1, sizeof *listener);
	if (!listener)
		return -ENOMEM;
	listener->session = session;
	listener->fd = listener->broker = listener->keeper = -1;
	pthread_mutex_init(&listener->broker_lock, NULL);
	atomic_store(&listener->users, 1);
	atomic_store(&listener->leader, 1);
	int error = copy(fd, &listener->fd);
	if (!error)
		error = copy(broker, &listener->broker);
	if (!error)
		error = copy(keeper, &listener->keeper);
	if (error < 0)
		vu_listener_release(listener);
	else
		*out = listener;
	return error;
}

/* The signal may come just before the thread enters RECV, so it is sent until the thread has gone. */
static void join(struct vu_listener *listener, pthread_t id)
{
	for (;;) {
		struct timespec deadline;
		pthread_kill(id, WAKE_SIGNAL);
		futex_wake(&listener->leader, INT_MAX);
		clock_gettime(CLOCK_REALTIME, &deadline);
		deadline.tv_nsec += 1000000;
		if (deadline.tv_nsec >= 1000000000) {
			deadline.tv_nsec -= 1000000000;
			deadline.tv_sec++;
		}
		if (pthread_timedjoin_np(id, NULL, &deadline) != ETIMEDOUT)
			break;
	}
}

/* Its threads end, and it does, when the last call has that goes on without them. */
static void end_listener(struct vu_listener *listener)
{
	atomic_store(&listener->stopping, true);
	atomic_fetch_add(&listener->leader, 1);
	if (listener->guarded)
		join(listener, listener->guard);
	for (struct vu_thread *thread = listener->threads; thread; thread = thread->next)
		join(listener, thread->id);
	for (struct vu_thread *thread = listener->threads, *next; thread; thread = next) {
		next = thread->next;
		vu_namespace_remove_pin(&listener->session->names, &thread->pin);
		vu_callers_free(thread->work);
		free(thread->work);
		free(thread);
	}
	vu_listener_release(listener);
}

static int start_threads(struct vu_listener *listener)
{
	for (unsigned i = 1; i < listener->session->options.threads; i++) {
		int error = spawn(listener);
		if (error < 0)
			return error;
	}
	int error = pthread_create(&listener->guard, NULL, guard_thread, listener);
	listener->guarded = !error;
	return -error;
}

int vu_session_listen(vu_session *session, int fd, int broker, int keeper)
{
	uint64_t flags = SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP;
	struct vu_listener *listener;
	int error = new_listener(session, fd, broker, keeper, &listener);
	if (error < 0)
		return error;
	/* Linux 6.6; without it a round trip costs three times as much, and nothing else changes. */
	ioctl(listener->fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags);
	if ((error = start_threads(listener)) < 0) {
		end_listener(listener);
		return error;
	}
	pthread_mutex_lock(&session->listener_lock);
	listener->number = ++session->listener_count;
	listener->next = session->listeners;
	session->listeners = listener;
	pthread_mutex_unlock(&session->listener_lock);
	return (int)listener->number;
}

int vu_session_unlisten(vu_session *session, uint32_t number)
{
	pthread_mutex_lock(&session->listener_lock);
	struct vu_listener **link = &session->listeners, *listener;
	while ((listener = *link) && listener->number != number)
		link = &listener->next;
	if (listener)
		*link = listener->next;
	pthread_mutex_unlock(&session->listener_lock);
	if (!listener)
		return -EINVAL;
	vu_asked_forget(session, listener);
	end_listener(listener);
	return 0;
}

static void wake(int signal)
{
	(void)signal; /* only to interrupt RECV */
}

int vu_session_start(vu_session *session, int listener)
{
	struct sigaction action = { .sa_handler = wake }, children;
	umask(0); /* creating calls apply the caller's */
	/* What threads had goes back when they end: struct vu_work is mapped for itself, and not in an arena of theirs. */
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);
	mallopt(M_ARENA_MAX, 2);
	sigaction(WAKE_SIGNAL, &action, NULL);
	/* Each stop of a thread that is traced for a remote call would be one. */
	if (!sigaction(SIGCHLD, NULL, &children) && !(children.sa_flags & SA_NOCLDSTOP)) {
		children.sa_flags |= SA_NOCLDSTOP;
		sigaction(SIGCHLD, &children, NULL);
	}
	vu_inject_init(session);
	return vu_session_listen(session, listener, session->options.broker, session->options.keeper);
}

void vu_threads_stop(struct vu_session *session)
{
	atomic_store(&session->stopping, true);
	for (struct vu_listener *listener = session->listeners, *next; listener; listener = next) {
		next = listener->next;
		end_listener(listener);
	}
	session->listeners = NULL;
}
