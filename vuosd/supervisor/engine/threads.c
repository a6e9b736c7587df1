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
	struct vu_session *session;
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
static void pass_on(struct vu_session *session)
{
	atomic_fetch_add(&session->leader, 1);
	if (atomic_load(&session->idle)) {
		futex_wake(&session->leader, 1);
	} else { /* nobody is left: the guard makes another */
		atomic_fetch_add(&session->wanted, 1);
		futex_wake(&session->wanted, 1);
	}
}

static _Thread_local unsigned own_turn; /* the last that this thread has taken */

void vu_notify_step_aside(struct vu_session *session)
{
	if (atomic_load(&session->leader) == own_turn) /* else somebody else receives already */
		pass_on(session);
}

void vu_notify_comes_to(struct vu_call *call, const struct vu_mount *mount)
{
	if (!mount->served || call->aside)
		return;
	call->aside = true;
	vu_notify_step_aside(call->session);
}

/* A thread that has been the leader may still receive one call: it does not speak for its successor. */
static void begin_serving(struct vu_session *session, unsigned turn)
{
	unsigned now = turn << 1 | 1, was = atomic_load_explicit(&session->serving, memory_order_relaxed);
	while ((int)(now - was) > 0 && !atomic_compare_exchange_weak(&session->serving, &was, now))
		;
}

static void end_serving(struct vu_session *session, unsigned turn)
{
	unsigned now = turn << 1 | 1;
	atomic_compare_exchange_strong(&session->serving, &now, turn << 1);
}

/* Receive and serve for as long as `turn` is the leader's. Returns false when there is nothing left to receive. */
static bool lead(struct vu_thread *thread, unsigned turn)
{
	struct vu_session *session = thread->session;
	struct seccomp_notif notification;
	own_turn = turn;
	while (atomic_load_explicit(&session->leader, memory_order_relaxed) == turn &&
	       !atomic_load(&session->stopping)) {
		memset(&notification, 0, sizeof notification);
		if (!ioctl(session->listener, SECCOMP_IOCTL_NOTIF_RECV, &notification)) {
			begin_serving(session, turn);
			atomic_fetch_add_explicit(&session->beat, 1, memory_order_relaxed);
			if (atomic_load_explicit(&session->guard_asleep, memory_order_relaxed)) {
				atomic_store(&session->guard_asleep, 0);
				futex_wake(&session->guard_asleep, 1);
			}
			vu_notify_serve(session, thread->work, &thread->pin, &notification);
			end_serving(session, turn);
		} else if (errno == ENOENT ? hung_up(session->listener) : errno != EINTR) {
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
	struct vu_session *session = thread->session;
	set_up("vu-engine");
	while (!atomic_load(&session->stopping)) {
		/* Turns may be skipped: two step aside, or the guard does, before anybody has taken the first. */
		unsigned taken = atomic_load(&session->taken), turn = atomic_load(&session->leader);
		if (taken == turn || !atomic_compare_exchange_strong(&session->taken, &taken, turn)) {
			atomic_fetch_add(&session->idle, 1);
			futex_wait(&session->leader, turn, NULL);
			atomic_fetch_sub(&session->idle, 1);
			continue;
		}
		if (!lead(thread, turn))
			break;
	}
	return NULL;
}

/* Not by a thread that acts with a caller's credentials, which the new one would inherit: before the start, and by the guard. */
static int spawn(struct vu_session *session)
{
	struct vu_thread *thread = aligned_alloc(_Alignof(struct vu_thread), sizeof *thread);
	struct vu_work *work = calloc(1, sizeof *work);
	if (!thread || !work) {
		free(thread);
		free(work);
		return -ENOMEM;
	}
	*thread = (struct vu_thread){ .session = session, .work = work, .next = session->threads };
	vu_namespace_add_pin(&session->names, &thread->pin);
	int error = pthread_create(&thread->id, NULL, engine_thread, thread);
	if (!error) {
		session->threads = thread;
		session->thread_count++;
		return 0;
	}
	vu_namespace_remove_pin(&session->names, &thread->pin);
	free(thread);
	free(work);
	return -error;
}

/* Somebody is to lead, and all are held up. */
static void add_leader(struct vu_session *session)
{
	if (atomic_load(&session->taken) == atomic_load(&session->leader) || atomic_load(&session->idle))
		return;
	int error = session->thread_count < MOST_THREADS ? spawn(session) : -EAGAIN;
	if (error < 0 && !session->crowded) {
		session->crowded = true;
		vu_log(session,
		       "%u calls wait for file systems, and there can be no thread more (%s): other calls wait too",
		       session->thread_count, strerror(-error));
	}
}

/* Looks after the leader while there is work; sleeps when there has been none for a while. */
static void *guard_thread(void *argument)
{
	static const struct timespec tick = { .tv_nsec = GUARD_TICK_NS };
	struct vu_session *session = argument;
	unsigned last = 0, quiet = 0, wanted = 0;
	set_up("vu-guard");
	while (!atomic_load(&session->stopping)) {
		futex_wait(&session->wanted, wanted, &tick);
		bool ticked = atomic_load(&session->wanted) == wanted;
		wanted = atomic_load(&session->wanted);
		add_leader(session);
		if (!ticked)
			continue;
		if (session->options.flags & VU_SESSION_BROKER_MEMORY)
			vu_memory_sweep(session, false);
		unsigned beat = atomic_load(&session->beat);
		if (beat != last)
			quiet = 0;
		else if (atomic_load(&session->serving) == (atomic_load(&session->leader) << 1 | 1))
			pass_on(session);
		else if (++quiet > GUARD_IDLE_TICKS) {
			atomic_store(&session->guard_asleep, 1);
			if (atomic_load(&session->beat) == beat && !atomic_load(&session->stopping))
				futex_wait(&session->guard_asleep, 1, NULL);
			atomic_store(&session->guard_asleep, 0);
			quiet = 0;
		}
		last = beat;
	}
	return NULL;
}

static void wake(int signal)
{
	(void)signal; /* only to interrupt RECV */
}

int vu_session_start(vu_session *session, int listener)
{
	uint64_t flags = SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP;
	struct sigaction action = { .sa_handler = wake }, children;
	session->listener = listener;
	umask(0); /* creating calls apply the caller's */
	/* Linux 6.6; without it a round trip costs three times as much, and nothing else changes. */
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags);
	sigaction(WAKE_SIGNAL, &action, NULL);
	/* Each stop of a thread that is traced for a remote call would be one. */
	if (!sigaction(SIGCHLD, NULL, &children) && !(children.sa_flags & SA_NOCLDSTOP)) {
		children.sa_flags |= SA_NOCLDSTOP;
		sigaction(SIGCHLD, &children, NULL);
	}
	atomic_store(&session->leader, 1);
	for (unsigned i = 1; i < session->options.threads; i++) {
		int error = spawn(session);
		if (error < 0)
			return error;
	}
	int error = pthread_create(&session->guard, NULL, guard_thread, session);
	session->guarded = !error;
	return -error;
}

/* The signal may come just before the thread enters RECV, so it is sent until the thread has gone. */
static void join(struct vu_session *session, pthread_t id)
{
	for (;;) {
		struct timespec deadline;
		pthread_kill(id, WAKE_SIGNAL);
		futex_wake(&session->leader, INT_MAX);
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

void vu_threads_stop(struct vu_session *session)
{
	atomic_store(&session->stopping, true);
	atomic_fetch_add(&session->leader, 1);
	if (session->guarded)
		join(session, session->guard);
	for (struct vu_thread *thread = session->threads; thread; thread = thread->next)
		join(session, thread->id);
	for (struct vu_thread *thread = session->threads, *next; thread; thread = next) {
		next = thread->next;
		vu_namespace_remove_pin(&session->names, &thread->pin);
		vu_callers_free(thread->work);
		free(thread->work);
		free(thread);
	}
	session->threads = NULL;
}
