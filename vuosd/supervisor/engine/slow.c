/*
 * Opens that may wait for ever: a FIFO that is not where the caller's kernel would find it. Each gets a thread, which
 * answers when the open returns. A watcher thread, there while such opens are, looks whether their callers still live
 * and interrupts the opens of those that do not.
 */
#include "remote_call.h"

#include <signal.h>
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
};

static void *slow_thread(void *argument)
{
	struct vu_slow *slow = argument;
	struct vu_call *call = &slow->call;
	struct seccomp_notif_resp response = {.id = call->id};
	int fd = -EINTR;
	while (fd == -EINTR && !vu_notify_alive(call) && !atomic_load(&call->session->stopping))
		fd = vu_reopen(call->session, slow->fd, slow->flags & ~(O_CREAT | O_NOFOLLOW));
	int verdict = fd < 0 ? fd : vu_notify_descriptor(call, fd, slow->flags & O_CLOEXEC);
	vu_close(&fd);
	if (verdict < 0) {
		response.error = verdict;
		ioctl(call->session->listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
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
			close(slow->fd);
			free(slow);
			continue;
		}
		if (stopping || vu_notify_alive(&slow->call))
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
	static const struct timespec pause = {.tv_nsec = LOOK_EVERY_NS};
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

int vu_slow_open(struct vu_call *call, int fd, int flags)
{
	struct vu_session *session = call->session;
	struct vu_slow *slow = calloc(1, sizeof *slow);
	if (!slow)
		return -ENOMEM;
	slow->call = *call;
	slow->flags = flags;
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
	vu_close(&slow->fd);
	free(slow);
	return -error;
}
