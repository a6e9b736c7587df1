/* A connection to a FUSE server: how it begins and ends, and what is known of it. */
#include "fuse_inside.h"

#include <sys/socket.h>
#include <sys/time.h>

/*
 * What we offer. Not: FUSE_MAX_PAGES, whose messages no socket takes; FUSE_INIT_EXT and all that needs it; locks, which
 * the kernel keeps on the anchors; FUSE_WRITEBACK_CACHE, by which the server would leave it to us to tell times.
 */
#define OFFERED                                                                                                        \
	(FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_DONT_MASK | FUSE_AUTO_INVAL_DATA |             \
	 FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_NO_OPEN_SUPPORT | FUSE_PARALLEL_DIROPS |  \
	 FUSE_NO_OPENDIR_SUPPORT | FUSE_CACHE_SYMLINKS)
/* The last minor version whose arguments have the form that we send. Servers answer with what they know. */
#define OFFERED_MINOR 31
#define DESTROY_NS INT64_C(10000000000) /* how long a server may take to put its things in order */

int vu_fuse_pair(int pair[2])
{
	int size = 2 * VU_FUSE_MESSAGE;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	/* Enough by default (net.core.wmem_default is 212992), but a machine may have been told otherwise. */
	for (int i = 0; i < 2; i++)
		setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	return 0;
}

struct vu_fuse *vu_fuse_new(int fd, const struct vu_fuse_options *options)
{
	struct timeval look = { .tv_usec = VU_FUSE_LOOK_NS / 1000 };
	struct vu_fuse *fuse = calloc(1, sizeof *fuse);
	/* Twice: a message in two pieces is put together here. */
	char *overflow = malloc((size_t)2 * VU_FUSE_MESSAGE);
	if (!fuse || !overflow) {
		free(fuse);
		free(overflow);
		close(fd);
		return NULL;
	}
	fuse->fd = fd;
	fuse->options = *options;
	fuse->overflow = overflow;
	fuse->features.max_write = 4096;
	pthread_mutex_init(&fuse->lock, NULL);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &look, sizeof look);
	return fuse;
}

int vu_fuse_begin(struct vu_fuse *fuse, const struct vu_fuse_caller *caller)
{
	struct {
		uint32_t major, minor, max_readahead, flags;
	} in = { FUSE_KERNEL_VERSION, OFFERED_MINOR, VU_FUSE_DATA, OFFERED };
	struct fuse_init_out out;
	VU_REQUEST(request, FUSE_INIT, 0);
	vu_fuse_part(&request, &in, sizeof in);
	request.reply = &out;
	request.room = sizeof out;
	ssize_t size = vu_fuse_exchange(fuse, &request);
	if (size < 0)
		return (int)size;
	int error = vu_fuse_decode_init(&out, (size_t)size, &fuse->features);
	if (!error)
		fuse->features.flags &= OFFERED;
	return error;
}

static bool is_over(void *until)
{
	return vu_fuse_now() >= *(int64_t *)until;
}

void vu_fuse_free(struct vu_fuse *fuse, bool destroy)
{
	int64_t until = vu_fuse_now() + DESTROY_NS;
	struct vu_fuse_caller patient = { .gone = is_over, .data = &until }, *const caller = &patient;
	if (!fuse)
		return;
	if (destroy) {
		VU_REQUEST(request, FUSE_DESTROY, 0);
		vu_fuse_exchange(fuse, &request);
	}
	pthread_mutex_lock(&fuse->lock);
	atomic_fetch_or(&fuse->told, VU_TOLD_GONE); /* it is we who go */
	vu_fuse_die(fuse);
	pthread_mutex_unlock(&fuse->lock);
	close(fuse->fd);
	pthread_mutex_destroy(&fuse->lock);
	free(fuse->overflow);
	free(fuse);
}

void vu_fuse_abort(struct vu_fuse *fuse)
{
	pthread_mutex_lock(&fuse->lock);
	vu_fuse_die(fuse);
	pthread_mutex_unlock(&fuse->lock);
}

bool vu_fuse_is_dead(const struct vu_fuse *fuse)
{
	return atomic_load_explicit(&fuse->dead, memory_order_relaxed);
}

const struct vu_fuse_features *vu_fuse_features(const struct vu_fuse *fuse)
{
	return &fuse->features;
}

int vu_fuse_descriptor(const struct vu_fuse *fuse)
{
	return fuse->fd;
}

unsigned vu_fuse_flights(struct vu_fuse *fuse, struct vu_fuse_flight *out, unsigned room)
{
	unsigned count = 0;
	pthread_mutex_lock(&fuse->lock);
	for (int i = 0; i < VU_FUSE_BUCKETS; i++)
		for (struct vu_fuse_request *request = fuse->requests[i]; request; request = request->next, count++)
			if (count < room)
				out[count] = (struct vu_fuse_flight){ request->opcode, request->nodeid,
								      request->unattended || !request->caller
									      ? 0
									      : request->caller->pid,
								      request->since };
	pthread_mutex_unlock(&fuse->lock);
	return count;
}
