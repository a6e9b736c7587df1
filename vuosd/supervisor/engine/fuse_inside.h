/* What the files of the FUSE client share; fuse.h is what others see. */
#ifndef VUOSD_ENGINE_FUSE_INSIDE_H
#define VUOSD_ENGINE_FUSE_INSIDE_H

#include "fuse.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { VU_FUSE_BUCKETS = 64, VU_FUSE_PARTS = 3, VU_FUSE_MAX_UNATTENDED = 4096 };
#define VU_FUSE_LOOK_NS INT64_C(100000000) /* how often who waits looks after deadline and caller */

/* One request. On the stack of the thread that waits; on the heap when nobody does (fuse_unattended.c). */
struct vu_fuse_request {
	uint32_t opcode;
	uint64_t nodeid;
	const struct vu_fuse_caller *caller;
	struct iovec parts[VU_FUSE_PARTS]; /* what follows the header */
	unsigned count;
	void *reply; /* room for what follows the header of the reply */
	size_t room, least; /* how much that may be at most, and must be at least */
	/* From here on fuse_exchange.c's. */
	size_t length; /* of the reply */
	uint64_t unique;
	int64_t since;
	uint64_t forget; /* unattended: how often the node is to be forgotten when the reply has come */
	int error;
	bool unattended, awaited; /* awaited: a thread waits for it now */
	atomic_bool done;
	pthread_cond_t changed; /* of `done`, or nobody receives: under fuse->lock */
	struct vu_fuse_request *next;
};

/* What of a late reply must be undone: the reply itself would have told somebody who has gone. */
struct vu_fuse_late {
	uint32_t opcode; /* 0: nothing */
	uint64_t nodeid, fh;
	struct vu_fuse_forgotten then;
};

enum vu_fuse_missing { /* what the server has answered ENOSYS to once */
		       VU_NO_OPEN = 1,
		       VU_NO_OPENDIR = 2,
		       VU_NO_CREATE = 4,
		       VU_NO_ACCESS = 8,
		       VU_NO_FLUSH = 16,
		       VU_NO_FSYNC = 32,
		       VU_NO_FSYNCDIR = 64,
		       VU_NO_RENAME2 = 128,
		       VU_NO_FALLOCATE = 256,
		       VU_NO_LSEEK = 512,
		       VU_NO_SETXATTR = 1024,
		       VU_NO_GETXATTR = 2048,
		       VU_NO_LISTXATTR = 4096,
		       VU_NO_REMOVEXATTR = 8192,
		       VU_NO_INTERRUPT = 16384,
		       VU_NO_STATFS = 32768,
};

struct vu_fuse {
	int fd;
	struct vu_fuse_options options;
	struct vu_fuse_features features;
	pthread_mutex_t lock; /* of what follows, up to `missing` */
	uint64_t last_unique;
	struct vu_fuse_request *requests[VU_FUSE_BUCKETS];
	unsigned unattended;
	bool receiving; /* somebody reads the socket: all others wait */
	atomic_bool dead;
	atomic_uint missing, told;
	char *overflow; /* who receives: what does not fit into the room of its own request */
};

/* fuse_exchange.c. The reply: its length, or -errno. */
ssize_t vu_fuse_exchange(struct vu_fuse *fuse, struct vu_fuse_request *request);
/* The same in two steps. What the first returns goes to the second, which must follow. */
int vu_fuse_submit(struct vu_fuse *fuse, struct vu_fuse_request *request);
ssize_t vu_fuse_collect(struct vu_fuse *fuse, struct vu_fuse_request *request, int submitted);
/* Send what needs no reply, or whose request is in the table already. -EAGAIN only with `wait` false. */
int vu_fuse_send(struct vu_fuse *fuse, const struct vu_fuse_request *request, bool wait);
/* The lock is held. */
void vu_fuse_enter(struct vu_fuse *fuse, struct vu_fuse_request *request);
struct vu_fuse_request *vu_fuse_take_out(struct vu_fuse *fuse, uint64_t unique);
void vu_fuse_die(struct vu_fuse *fuse);
/* Say `line` to the person, once for each bit of `kind`. */
void vu_fuse_tell(struct vu_fuse *fuse, unsigned kind, const char *line);
enum { VU_TOLD_MALFORMED = 1, VU_TOLD_WRONG = 2, VU_TOLD_LATE = 4, VU_TOLD_GONE = 8, VU_TOLD_STUCK = 16 };

/* fuse_unattended.c */
/* Make the request and let nobody wait; its parts are copied into the message at once. */
void vu_fuse_leave(struct vu_fuse *fuse, struct vu_fuse_request *request);
/* The waiting request becomes one that nobody waits for. The lock is held. */
void vu_fuse_abandon(struct vu_fuse *fuse, struct vu_fuse_request *request);
/* A reply to `request`, unattended, has come; frees it. The lock is held. */
struct vu_fuse_late vu_fuse_late_reply(struct vu_fuse *fuse, struct vu_fuse_request *request, int error,
				       const void *data, size_t size);
/* Forget the node when the last unattended request that names it is answered. False: there is none. */
bool vu_fuse_forget_later(struct vu_fuse *fuse, const struct vu_fuse_forgotten *node);
/* … and what it takes to undo it, without the lock. */
void vu_fuse_undo(struct vu_fuse *fuse, const struct vu_fuse_late *late);

static inline bool vu_fuse_lacks(struct vu_fuse *fuse, unsigned what)
{
	return atomic_load_explicit(&fuse->missing, memory_order_relaxed) & what;
}

static inline void vu_fuse_note_lack(struct vu_fuse *fuse, unsigned what)
{
	atomic_fetch_or_explicit(&fuse->missing, what, memory_order_relaxed);
}

static inline void vu_fuse_part(struct vu_fuse_request *request, const void *data, size_t size)
{
	request->parts[request->count++] = (struct iovec){ (void *)data, size };
}

#define VU_REQUEST(name, op, node) struct vu_fuse_request name = { .opcode = (op), .nodeid = (node), .caller = caller }

/* A reply of exactly this size. */
static inline void vu_fuse_expect(struct vu_fuse_request *request, void *reply, size_t size)
{
	request->reply = reply;
	request->room = request->least = size;
}

/* fuse_files.c: FUSE_OPEN or FUSE_OPENDIR. A server that does not know it needs no handle, and is not asked again (`lack`). */
int vu_fuse_open_handle(struct vu_fuse *fuse, struct vu_fuse_request *request, const struct fuse_open_in *in,
			unsigned lack, struct vu_fuse_file *file);

#endif
