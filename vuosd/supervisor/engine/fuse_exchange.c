/*
 * One request to a FUSE server and its reply, from many threads at a time.
 *
 * Nobody is there only to receive: of the threads that wait, one reads the socket, straight into the room for its own
 * reply, hands the others theirs, and when it has its own makes another the reader. A lone request so costs one send and
 * one receive, and no thread is woken but by the server (measured: a thread of its own costs half as much again).
 *
 * A thread may have several requests under way, and waits for one after the other; what comes meanwhile, and nobody reads,
 * stays in the socket.
 *
 * Who waits looks every tenth of a second whether its time is up or its caller has gone. Then it sends FUSE_INTERRUPT and
 * goes at once, where a thread in the kernel would wait for the server's consent; the request stays in the table, so that
 * what a late reply has given can be given back.
 */
#include "fuse_inside.h"

#include <poll.h>
#include <sys/socket.h>

int64_t vu_fuse_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t vu_fuse_valid_from(const struct vu_fuse *fuse)
{
	return fuse->options.fixed ? VU_FUSE_NEVER : vu_fuse_now();
}

void vu_fuse_tell(struct vu_fuse *fuse, unsigned kind, const char *line)
{
	if (fuse->options.log && !(atomic_fetch_or(&fuse->told, kind) & kind))
		fuse->options.log(fuse->options.data, line);
}

static struct vu_fuse_request **bucket(struct vu_fuse *fuse, uint64_t unique)
{
	return &fuse->requests[(unique >> 1) & (VU_FUSE_BUCKETS - 1)];
}

void vu_fuse_enter(struct vu_fuse *fuse, struct vu_fuse_request *request)
{
	struct vu_fuse_request **head = bucket(fuse, request->unique = fuse->last_unique += 2);
	request->next = *head;
	*head = request;
}

struct vu_fuse_request *vu_fuse_take_out(struct vu_fuse *fuse, uint64_t unique)
{
	for (struct vu_fuse_request **link = bucket(fuse, unique), *request; (request = *link); link = &request->next)
		if (request->unique == unique) {
			*link = request->next;
			return request;
		}
	return NULL;
}

/* Another of those who wait reads from now on. The lock is held. */
static void hand_over(struct vu_fuse *fuse)
{
	fuse->receiving = false;
	for (int i = 0; i < VU_FUSE_BUCKETS; i++)
		for (struct vu_fuse_request *request = fuse->requests[i]; request; request = request->next)
			if (request->awaited && !request->done) {
				pthread_cond_signal(&request->changed);
				return;
			}
}

void vu_fuse_die(struct vu_fuse *fuse)
{
	if (!atomic_exchange(&fuse->dead, true))
		vu_fuse_tell(fuse, VU_TOLD_GONE,
			     "the server has gone: its files are not connected any more (ENOTCONN)");
	shutdown(fuse->fd, SHUT_RDWR); /* whoever reads or writes returns */
	for (int i = 0; i < VU_FUSE_BUCKETS; i++)
		for (struct vu_fuse_request **link = &fuse->requests[i], *request; (request = *link);) {
			*link = request->next;
			if (request->unattended) {
				fuse->unattended--;
				free(request);
				continue;
			}
			request->error = -ENOTCONN;
			request->done = true;
			pthread_cond_signal(&request->changed);
		}
}

static bool is_late(const struct vu_fuse *fuse, const struct vu_fuse_request *request)
{
	return fuse->options.deadline && vu_fuse_now() - request->since >= fuse->options.deadline;
}

static bool has_gone(const struct vu_fuse_request *request)
{
	return request->caller && request->caller->gone && request->caller->gone(request->caller->data);
}

int vu_fuse_send(struct vu_fuse *fuse, const struct vu_fuse_request *request, bool wait)
{
	const struct vu_fuse_caller *caller = request->caller;
	struct fuse_in_header header = { .len = sizeof header,
					 .opcode = request->opcode,
					 .unique = request->unique,
					 .nodeid = request->nodeid,
					 .uid = caller ? caller->uid : 0,
					 .gid = caller ? caller->gid : 0,
					 .pid = caller ? (uint32_t)caller->pid : 0 };
	struct iovec parts[VU_FUSE_PARTS + 1] = { { &header, sizeof header } };
	for (unsigned i = 0; i < request->count; i++) {
		parts[i + 1] = request->parts[i];
		header.len += (uint32_t)request->parts[i].iov_len;
	}
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = request->count + 1 };
	for (;;) {
		if (sendmsg(fuse->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			return 0;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM)
			return errno == EMSGSIZE ? -E2BIG : -ENOTCONN;
		if (!wait)
			return -EAGAIN;
		/* It does not read: its queue is full. */
		struct pollfd poller = { .fd = fuse->fd, .events = POLLOUT };
		poll(&poller, 1, (int)(VU_FUSE_LOOK_NS / 1000000));
		if (is_late(fuse, request)) {
			vu_fuse_tell(fuse, VU_TOLD_LATE, "the server does not answer in time: EIO");
			return -EIO;
		}
		if (has_gone(request))
			return -EINTR;
	}
}

/* What was read lies in two pieces, the first of `split` bytes: make it one, in fuse->overflow. */
static const char *join(struct vu_fuse *fuse, const void *first, size_t split, size_t size)
{
	if (!split)
		return fuse->overflow;
	if (size <= split)
		return first;
	memmove(fuse->overflow + split, fuse->overflow, size - split);
	memcpy(fuse->overflow, first, split);
	return fuse->overflow;
}

static void hear_notice(struct vu_fuse *fuse, int32_t code, const void *data, size_t size)
{
	struct vu_fuse_notice notice;
	if (vu_fuse_decode_notice(code, data, size, &notice) < 0)
		vu_fuse_tell(fuse, VU_TOLD_MALFORMED, "the server has sent a message that makes no sense");
	else if (fuse->options.notice)
		fuse->options.notice(fuse->options.data, &notice);
}

/* The reply of a request that somebody waits for. The lock is held, the request taken out. */
static void settle(struct vu_fuse *fuse, struct vu_fuse_request *request, int error, bool own, const void *first,
		   size_t split, size_t size)
{
	request->error = error;
	request->length = size;
	if (!error && (size < request->least || size > request->room)) {
		vu_fuse_tell(fuse, VU_TOLD_WRONG, "the server has sent a reply of a wrong length: EIO");
		request->error = -EIO;
	} else if (!error && !own) {
		size_t ahead = size < split ? size : split;
		if (ahead)
			memcpy(request->reply, first, ahead);
		if (size > ahead)
			memcpy((char *)request->reply + ahead, fuse->overflow, size - ahead);
	}
	request->done = true;
}

/*
 * Read one message; `own` may be NULL. The lock is not held, fuse->receiving is ours. Returns 0, -EAGAIN when there was
 * none within a look (or now, with MSG_DONTWAIT).
 */
static int receive(struct vu_fuse *fuse, struct vu_fuse_request *own, int flags)
{
	struct fuse_out_header header;
	char message[sizeof header];
	size_t split = own ? own->room : 0;
	struct iovec parts[] = { { message, sizeof message },
				 { own ? own->reply : NULL, split },
				 { fuse->overflow, VU_FUSE_MESSAGE } };
	struct msghdr receiver = { .msg_iov = parts, .msg_iovlen = 3 };
	ssize_t n = recvmsg(fuse->fd, &receiver, flags);
	if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOMEM))
		return -EAGAIN;
	if (n <= 0) {
		pthread_mutex_lock(&fuse->lock);
		vu_fuse_die(fuse);
		pthread_mutex_unlock(&fuse->lock);
		return 0;
	}
	size_t size = (size_t)n < sizeof message ? 0 : (size_t)n - sizeof message;
	bool sound = !vu_fuse_decode_header(message, (size_t)n, &header) && !(receiver.msg_flags & MSG_TRUNC);
	if ((size_t)n < sizeof message || (!sound && !header.unique)) {
		vu_fuse_tell(fuse, VU_TOLD_MALFORMED, "the server has sent a message that makes no sense");
		return 0;
	}
	if (!header.unique) {
		hear_notice(fuse, header.error, join(fuse, own ? own->reply : NULL, split, size), size);
		return 0;
	}
	if (header.unique & 1) { /* to FUSE_INTERRUPT: -ENOSYS, or -EAGAIN, which those who have gone do not heed */
		if (header.error == -ENOSYS)
			vu_fuse_note_lack(fuse, VU_NO_INTERRUPT);
		return 0;
	}
	struct vu_fuse_late late = {};
	pthread_mutex_lock(&fuse->lock);
	struct vu_fuse_request *request = vu_fuse_take_out(fuse, header.unique);
	if (!request || !sound)
		vu_fuse_tell(fuse, VU_TOLD_MALFORMED, "the server has sent a message that makes no sense");
	if (!request) {
		pthread_mutex_unlock(&fuse->lock);
		return 0;
	}
	int error = sound ? header.error : -EIO;
	if (request->unattended) {
		late = vu_fuse_late_reply(fuse, request, error, join(fuse, own ? own->reply : NULL, split, size), size);
	} else {
		settle(fuse, request, error, request == own, own ? own->reply : NULL, split, size);
		if (request != own)
			pthread_cond_signal(&request->changed);
	}
	pthread_mutex_unlock(&fuse->lock);
	vu_fuse_undo(fuse, &late);
	return 0;
}

bool vu_fuse_hear(struct vu_fuse *fuse)
{
	if (atomic_load_explicit(&fuse->dead, memory_order_relaxed))
		return false;
	pthread_mutex_lock(&fuse->lock);
	bool ours = !fuse->receiving && !atomic_load(&fuse->dead);
	fuse->receiving |= ours;
	pthread_mutex_unlock(&fuse->lock);
	if (!ours)
		return false; /* whoever receives hears it */
	int left = 64; /* a server that never stops talking must not keep us */
	while (left && receive(fuse, NULL, MSG_DONTWAIT) == 0 && !atomic_load(&fuse->dead))
		left--;
	pthread_mutex_lock(&fuse->lock);
	hand_over(fuse);
	pthread_mutex_unlock(&fuse->lock);
	return !left;
}

static void interrupt(struct vu_fuse *fuse, uint64_t unique, const struct vu_fuse_caller *caller)
{
	struct fuse_interrupt_in in = { .unique = unique };
	VU_REQUEST(request, FUSE_INTERRUPT, 0);
	if (vu_fuse_lacks(fuse, VU_NO_INTERRUPT))
		return;
	request.unique = unique | 1;
	vu_fuse_part(&request, &in, sizeof in);
	vu_fuse_send(fuse, &request, false);
}

/* Until the reply is there, read by us or by somebody else. The lock is held; `done` on return, or the request is nobody's. */
static int await(struct vu_fuse *fuse, struct vu_fuse_request *request)
{
	int64_t look = vu_fuse_now() + VU_FUSE_LOOK_NS;
	while (!request->done) {
		if (!fuse->receiving) {
			fuse->receiving = true;
			pthread_mutex_unlock(&fuse->lock);
			while (!request->done && vu_fuse_now() < look && receive(fuse, request, 0) == 0) {
			}
			pthread_mutex_lock(&fuse->lock);
			hand_over(fuse);
		} else {
			struct timespec until = { look / 1000000000, look % 1000000000 };
			pthread_cond_clockwait(&request->changed, &fuse->lock, CLOCK_MONOTONIC, &until);
		}
		if (request->done || vu_fuse_now() < look)
			continue;
		look = vu_fuse_now() + VU_FUSE_LOOK_NS;
		pthread_mutex_unlock(&fuse->lock);
		bool gone = has_gone(request);
		pthread_mutex_lock(&fuse->lock);
		if (request->done)
			break;
		if (gone || is_late(fuse, request)) {
			vu_fuse_abandon(fuse, request);
			return gone ? -EINTR : -EIO;
		}
	}
	return 0;
}

int vu_fuse_submit(struct vu_fuse *fuse, struct vu_fuse_request *request)
{
	request->since = vu_fuse_now();
	request->done = request->unattended = request->awaited = false;
	pthread_cond_init(&request->changed, NULL);
	pthread_mutex_lock(&fuse->lock);
	if (atomic_load(&fuse->dead)) {
		pthread_mutex_unlock(&fuse->lock);
		return -ENOTCONN;
	}
	vu_fuse_enter(fuse, request);
	pthread_mutex_unlock(&fuse->lock);
	int error = vu_fuse_send(fuse, request, true);
	if (!error)
		return 0;
	pthread_mutex_lock(&fuse->lock);
	if (!request->done)
		vu_fuse_take_out(fuse, request->unique);
	if (error == -ENOTCONN)
		vu_fuse_die(fuse);
	pthread_mutex_unlock(&fuse->lock);
	return error;
}

ssize_t vu_fuse_collect(struct vu_fuse *fuse, struct vu_fuse_request *request, int submitted)
{
	int error = submitted;
	if (!submitted) {
		pthread_mutex_lock(&fuse->lock);
		request->awaited = true;
		error = await(fuse, request);
		request->awaited = false;
		if (!error)
			error = request->error;
		pthread_mutex_unlock(&fuse->lock);
	}
	pthread_cond_destroy(&request->changed);
	if (!submitted && !request->done) {
		interrupt(fuse, request->unique, request->caller);
		if (error == -EIO)
			vu_fuse_tell(fuse, VU_TOLD_LATE, "the server does not answer in time: EIO");
	}
	return error ? error : (ssize_t)request->length;
}

ssize_t vu_fuse_exchange(struct vu_fuse *fuse, struct vu_fuse_request *request)
{
	return vu_fuse_collect(fuse, request, vu_fuse_submit(fuse, request));
}
