/*
 * Calls that may wait for ever: the open of a FIFO that is not where the caller's kernel would find it, a connect that we
 * make. Each gets a thread, which answers when the call returns. A watcher thread, there while such calls are, looks
 * whether their callers still live, and interrupts the calls of those that do not, or that have a signal to handle: the
 * kernel would do that, but while we hold the notification only a fatal signal wakes the caller.
 */
#include "remote_call.h"

#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>

#define WAKE_SIGNAL (SIGRTMAX - 2)
#define LOOK_EVERY_NS 100000000

struct vu_slow {
	struct vu_slow *next;
	struct vu_call call;
	pthread_t thread;
	int fd, flags;
	bool done;
	vu_slow_work *work; /* NULL: an open */
	void *data;
	void (*drop)(void *data);
	atomic_bool signalled;
};

static bool keeps_on(struct vu_slow *slow)
{
	return !vu_notify_alive(&slow->call) && !atomic_load(&slow->call.session->stopping) &&
	       !atomic_load(&slow->signalled);
}

/* Has the caller a signal that it will take as soon as it can? */
static bool has_signal(const struct vu_call *call)
{
	char name[64], text[4096];
	unsigned long pending = 0, blocked = 0, ignored = 0, bits;
	snprintf(name, sizeof name, "%d/status", call->tid);
	VU_CLOSE int fd = openat(call->session->proc, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (n < 0)
		return false;
	text[n] = 0;
	for (char *line = text; line; line = (line = strchr(line, '\n')) ? line + 1 : NULL) {
		if (sscanf(line, "SigPnd: %lx", &bits) == 1 || sscanf(line, "ShdPnd: %lx", &bits) == 1)
			pending |= bits;
		else if (sscanf(line, "SigBlk: %lx", &bits) == 1)
			blocked = bits;
		else if (sscanf(line, "SigIgn: %lx", &bits) == 1)
			ignored = bits;
	}
	return pending & ~blocked & ~ignored;
}

static void *slow_thread(void *argument)
{
	struct vu_slow *slow = argument;
	struct vu_call *call = &slow->call;
	struct seccomp_notif_resp response = { .id = call->id };
	if (slow->work) {
		int result = -EINTR;
		while (result == -EINTR && keeps_on(slow))
			result = slow->work(call, slow->fd, slow->data);
		/* Before the reply: the caller's close is to be the last, and it may make a thousand such calls until we reap. */
		vu_close(&slow->fd);
		if (slow->drop)
			slow->drop(slow->data);
		slow->drop = NULL;
		response.error = result < 0 ? result : 0;
		response.val = result < 0 ? 0 : call->value;
		vu_table_release(&call->session->names, call->table);
		ioctl(call->listener->fd, SECCOMP_IOCTL_NOTIF_SEND, &response);
		pthread_mutex_lock(&call->session->slow_lock);
		slow->done = true;
		pthread_mutex_unlock(&call->session->slow_lock);
		return NULL;
	}
	int fd = -EINTR;
	call->work = NULL; /* the engine thread's, which has gone on */
	while (fd == -EINTR && !vu_notify_alive(call) && !atomic_load(&call->session->stopping))
		fd = vu_reopen(call->session, slow->fd, slow->flags & ~(O_CREAT | O_NOFOLLOW));
	sigset_t before;
	vu_undisturbed(&before); /* the watcher may take the caller for gone, once it is answered: see inject.c */
	int verdict = fd < 0 ? fd : vu_inject_result(call, fd, slow->flags & O_CLOEXEC);
	vu_close(&fd);
	vu_table_release(&call->session->names, call->table);
	if (verdict < 0) {
		response.error = verdict;
		ioctl(call->listener->fd, SECCOMP_IOCTL_NOTIF_SEND, &response);
	}
	pthread_mutex_lock(&call->session->slow_lock);
	slow->done = true;
	pthread_mutex_unlock(&call->session->slow_lock);
	return NULL;
}

/* Interrupt the opens whose callers have died, and reap those that have ended. Returns whether any is left. */
static bool look(struct vu_session *session)
{
	bool stopping = atomic_load(&session->stopping), left = false;
	pthread_mutex_lock(&session->slow_lock);
	for (struct vu_slow **link = &session->slow, *slow; (slow = *link);) {
		if (slow->done) {
			*link = slow->next;
			pthread_join(slow->thread, NULL);
			vu_close(&slow->fd);
			if (slow->drop)
				slow->drop(slow->data);
			vu_listener_release(slow->call.listener);
			free(slow);
			continue;
		}
		if (slow->work && has_signal(&slow->call))
			atomic_store(&slow->signalled, true);
		if (stopping || atomic_load(&slow->signalled) || vu_notify_alive(&slow->call))
			pthread_kill(slow->thread, WAKE_SIGNAL);
		left = true;
		link = &slow->next;
	}
	pthread_mutex_unlock(&session->slow_lock);
	return left;
}

static void *watch_thread(void *argument)
{
	struct vu_session *session = argument;
	static const struct timespec pause = { .tv_nsec = LOOK_EVERY_NS };
	while (look(session) || !atomic_load(&session->stopping))
		nanosleep(&pause, NULL);
	return NULL;
}

void vu_slow_stop(struct vu_session *session)
{
	pthread_mutex_lock(&session->slow_lock);
	bool watched = session->watched;
	pthread_mutex_unlock(&session->slow_lock);
	if (watched)
		pthread_join(session->watcher, NULL);
}

static int begin(struct vu_call *call, int fd, struct vu_slow *slow)
{
	struct vu_session *session = call->session;
	slow->call = *call;
	vu_table_share(call->table);
	vu_listener_share(call->listener);
	slow->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	int error = slow->fd < 0 ? errno : 0;
	pthread_mutex_lock(&session->slow_lock);
	if (!error && !session->watched && !(error = pthread_create(&session->watcher, NULL, watch_thread, session)))
		session->watched = true;
	if (!error && !(error = pthread_create(&slow->thread, NULL, slow_thread, slow))) {
		slow->next = session->slow;
		session->slow = slow;
	}
	pthread_mutex_unlock(&session->slow_lock);
	atomic_fetch_add(&session->slow_count, 1);
	if (!error)
		return VU_SENT;
	vu_table_release(&session->names, call->table);
	vu_listener_release(call->listener);
	vu_close(&slow->fd);
	if (slow->drop)
		slow->drop(slow->data);
	free(slow);
	return -error;
}

int vu_slow_open(struct vu_call *call, int fd, int flags)
{
	struct vu_slow *slow = calloc(1, sizeof *slow);
	if (!slow)
		return -ENOMEM;
	slow->flags = flags;
	return begin(call, fd, slow);
}

int vu_slow_run(struct vu_call *call, int fd, vu_slow_work *work, void *data, void (*drop)(void *data))
{
	struct vu_slow *slow = calloc(1, sizeof *slow);
	if (!slow) {
		drop(data);
		return -ENOMEM;
	}
	slow->work = work;
	slow->data = data;
	slow->drop = drop;
	return begin(call, fd, slow);
}
