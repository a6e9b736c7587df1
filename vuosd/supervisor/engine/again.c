/*
 * Calls that take two steps: the thread does something for us, goes back, makes its call anew, and finds here what the
 * first step gave.
 *
 * The first step is a remote call with VU_REMOTE_AGAIN. One entry a thread, entered before the thread is let go, because
 * its new notification may be read by another engine thread before the remote call has returned here. A thread that
 * dies on the way leaves its entry; a later one takes the room.
 */
#include "again.h"

#include <sys/socket.h>
#include <time.h>

enum { ROOM = 64, PENDING = -1000000 };

struct entry {
	pid_t tid;
	int nr;
	int value; /* a descriptor of ours, or (handles) one of the thread's; PENDING until the first step has ended */
	bool handle;
	uint64_t age;
};

struct vu_again {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	uint64_t clock;
	struct entry entries[ROOM];
};

static struct vu_again *store(struct vu_session *session)
{
	struct vu_again *again = atomic_load(&session->again), *none = NULL;
	if (again)
		return again;
	if (!(again = calloc(1, sizeof *again)))
		return NULL;
	pthread_mutex_init(&again->lock, NULL);
	pthread_cond_init(&again->filled, NULL);
	if (atomic_compare_exchange_strong(&session->again, &none, again))
		return again;
	free(again);
	return none;
}

static void drop(struct entry *entry)
{
	if (entry->tid && !entry->handle && entry->value >= 0)
		close(entry->value);
	*entry = (struct entry){};
}

static struct entry *find(struct vu_again *again, const struct vu_call *call, bool handle)
{
	for (unsigned i = 0; i < ROOM; i++) {
		struct entry *entry = &again->entries[i];
		if (entry->tid != call->tid)
			continue;
		if (entry->nr == call->nr && entry->handle == handle)
			return entry;
		drop(entry); /* of a thread that never came back for it */
	}
	return NULL;
}

/* What the first step gave, once; -ENOENT: there was none. */
static int take(struct vu_call *call, bool handle)
{
	struct vu_again *again = atomic_load(&call->session->again);
	struct timespec deadline;
	if (!again)
		return -ENOENT;
	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += 2;
	pthread_mutex_lock(&again->lock);
	struct entry *entry;
	while ((entry = find(again, call, handle)) && entry->value == PENDING)
		if (pthread_cond_timedwait(&again->filled, &again->lock, &deadline))
			break;
	int value = -ENOENT;
	if (entry) {
		value = entry->value == PENDING ? -ENOENT : entry->value;
		*entry = (struct entry){};
	}
	pthread_mutex_unlock(&again->lock);
	return value;
}

static int begin(struct vu_call *call, bool handle)
{
	struct vu_again *again = store(call->session);
	if (!again)
		return -ENOMEM;
	pthread_mutex_lock(&again->lock);
	struct entry *oldest = &again->entries[0];
	for (unsigned i = 0; i < ROOM; i++)
		if (again->entries[i].age < oldest->age)
			oldest = &again->entries[i];
	drop(oldest);
	*oldest = (struct entry){ call->tid, call->nr, PENDING, handle, ++again->clock };
	pthread_mutex_unlock(&again->lock);
	return 0;
}

/* The first step has ended: `value`, or an -errno that the thread gets when it comes back. */
static void finish(struct vu_call *call, bool handle, int value)
{
	struct vu_again *again = atomic_load(&call->session->again);
	pthread_mutex_lock(&again->lock);
	struct entry *entry = find(again, call, handle);
	if (entry && entry->value == PENDING)
		entry->value = value;
	else if (!handle && value >= 0)
		close(value);
	pthread_cond_broadcast(&again->filled);
	pthread_mutex_unlock(&again->lock);
}

static void forget(struct vu_call *call, bool handle)
{
	struct vu_again *again = atomic_load(&call->session->again);
	pthread_mutex_lock(&again->lock);
	struct entry *entry = find(again, call, handle);
	if (entry)
		*entry = (struct entry){};
	pthread_cond_broadcast(&again->filled);
	pthread_mutex_unlock(&again->lock);
}

/* The caller sends its descriptor through `socket`, which is already its own. Offsets are those of the struct. */
static int send_away(struct vu_call *call, int socket, int fd, int64_t *result)
{
	struct {
		struct msghdr header;
		struct iovec vector;
		char byte;
		union {
			struct cmsghdr header;
			char space[CMSG_SPACE(sizeof(int))];
		} control;
	} scratch = {};
	static const uint32_t pointers[] = {
		offsetof(__typeof__(scratch), header.msg_iov),
		offsetof(__typeof__(scratch), header.msg_control),
		offsetof(__typeof__(scratch), vector.iov_base),
	};
	scratch.header.msg_iov = (void *)offsetof(__typeof__(scratch), vector);
	scratch.header.msg_iovlen = 1;
	scratch.header.msg_control = (void *)offsetof(__typeof__(scratch), control);
	scratch.header.msg_controllen = sizeof scratch.control.space;
	scratch.vector = (struct iovec){ (void *)offsetof(__typeof__(scratch), byte), 1 };
	scratch.control.header = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(&scratch.control.header), &fd, sizeof fd);
	struct vu_remote request = {
		.nr = SYS_sendmsg,
		.flags = VU_REMOTE_AGAIN,
		.args = { (uint64_t)socket, 0, MSG_NOSIGNAL | MSG_DONTWAIT },
		.close_fd = socket,
		.scratch_args = 1u << 1,
		.scratch = &scratch,
		.scratch_len = sizeof scratch,
		.pointer_count = sizeof pointers / sizeof *pointers,
		.pointers = pointers,
	};
	return vu_remote_result(call, &request, result);
}

static int receive(int socket)
{
	char byte;
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec vector = { &byte, 1 };
	struct msghdr header = {
		.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
	};
	if (recvmsg(socket, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0)
		return -EBADF; /* it could not be sent: there is no such descriptor */
	struct cmsghdr *first = CMSG_FIRSTHDR(&header);
	int fd = -EBADF;
	if (first && first->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(first), sizeof fd);
	return fd;
}

int vu_again_descriptor(struct vu_call *call, int fd, int *verdict)
{
	int pair[2], result = vu_target_descriptor(call, fd);
	if (result != -EPERM)
		return result;
	if ((result = take(call, false)) != -ENOENT)
		return result;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	int there = vu_inject(call, pair[1], true);
	if (there < 0 || (result = begin(call, false)) < 0) {
		close(pair[0]);
		close(pair[1]);
		return there < 0 ? there : result;
	}
	int64_t sent = -ESRCH;
	*verdict = send_away(call, there, fd, &sent);
	if (*verdict < 0 || sent == -EAGAIN || sent == -ESRCH)
		forget(call, false); /* it was not made; the thread tries anew, or is dead */
	else
		finish(call, false, receive(pair[0]));
	close(pair[0]);
	close(pair[1]);
	return *verdict < 0 ? *verdict : -EAGAIN;
}

static bool same(struct vu_call *call, int number, int object)
{
	struct stat theirs, ours;
	char name[24];
	VU_CLOSE int fd = vu_target_open(call, vu_descriptor_name(number, name));
	return fd >= 0 && !fstat(fd, &theirs) && !fstat(object, &ours) && theirs.st_dev == ours.st_dev &&
	       theirs.st_ino == ours.st_ino;
}

int vu_again_handle(struct vu_call *call, int object, const char *host, int *verdict)
{
	int number = take(call, true);
	if (number >= 0 && same(call, number, object))
		return number;
	if (number < 0 && number != -ENOENT)
		return number;
	int64_t result = -ESRCH;
	int error = begin(call, true);
	if (error < 0)
		return error;
	/*
	 * By its text: no directory of the host is lent to a caller that may not see it. But a text can be exchanged, and need not
	 * lead there for the caller.
	 */
	struct vu_remote request = {
		.nr = SYS_openat,
		.flags = VU_REMOTE_AGAIN,
		.args = { (uint64_t)AT_FDCWD, 0, O_PATH | O_NOFOLLOW | O_CLOEXEC },
		.close_fd = -1,
		.scratch_args = 1u << 1,
		.scratch = host,
		.scratch_len = host ? (uint32_t)strlen(host) + 1 : 0,
	};
	*verdict = call->session->enforce || !host ? vu_hand_over(call, object, true, VU_REMOTE_AGAIN, &result)
						   : vu_remote_result(call, &request, &result);
	if (*verdict < 0)
		forget(call, true);
	else
		finish(call, true, result == -EAGAIN ? -ENOENT : (int)result);
	return *verdict < 0 ? *verdict : -EAGAIN;
}

void vu_again_free(struct vu_session *session)
{
	struct vu_again *again = atomic_load(&session->again);
	for (unsigned i = 0; again && i < ROOM; i++)
		drop(&again->entries[i]);
	free(again);
}
