/*
 * Remote calls: a system call made by a thread that waits in a notification, with its own credentials, files and memory.
 *
 * Some calls cannot be made on behalf of another task: chdir, execve, an O_PATH open. For those the answer to the
 * notification is a call that the thread makes itself, under ptrace, and whose result it gets as the result of the call it asked for.
 *
 * Compiled into the engine and into the launcher: where only ancestors may trace (Yama), the launcher's keeper makes the
 * call on request, see vu_remote_ask.
 */
#ifndef VUOSD_ENGINE_REMOTE_H
#define VUOSD_ENGINE_REMOTE_H

#include <stdbool.h>
#include <stdint.h>

enum {
	VU_REMOTE_EXEC = 1, /* the call is execve or execveat: follow it through a success */
	VU_REMOTE_MAP = 2, /* put the scratch into a mapping made for it, not below the stack pointer */
	VU_REMOTE_AT = 4, /* put the scratch at scratch_at: memory of the target that the caller knows to be free */
	VU_REMOTE_AGAIN =
		8, /* the result is for us: the thread then makes its own call anew, and a new notification comes */
	VU_REMOTE_INT =
		32, /* what counts, after a success, is the int at the end of the scratch: the number of a received descriptor */
	VU_REMOTE_DUMPABLE = 64, /* after a success the process is made dumpable, which changing its ids has ended */
	VU_REMOTE_ZERO = 128, /* a success is 0 to the caller, whatever the call says */
	VU_REMOTE_BREAK =
		16, /* the call may wait for ever: after a while break it off and have the thread make its own anew */
};

/* What became of the notification. The result alone cannot tell EPERM of a call from EPERM of ptrace. */
enum vu_remote_outcome {
	VU_REMOTE_UNTOUCHED = 0, /* not answered: the thread still waits, the caller must answer */
	VU_REMOTE_DONE = 1, /* answered: the thread runs again and has seen the returned value as its result */
	VU_REMOTE_RESTARTED =
		2, /* answered, and the thread makes its call anew: a new notification will come. Nothing was done */
	VU_REMOTE_GONE = 3, /* the thread died, or its notification is no longer there: nothing to answer */
};

struct vu_remote {
	int32_t tid; /* of the thread, as in the notification */
	int32_t tgid; /* with VU_REMOTE_EXEC: its thread group, where a successful exec reappears; 0: looked up */
	uint32_t nr;
	uint32_t flags;
	/* The session's cookie is the caller's to place (in args[5]). It is never in a register while code of the target runs. */
	uint64_t args[6];
	int32_t close_fd; /* closed in the target afterwards unless an exec succeeded, or -1 */
	uint32_t scratch_args; /* bit n: args[n] is an offset into the scratch */
	const void *scratch; /* bytes the call needs in the target's memory, or NULL */
	uint32_t scratch_len;
	uint32_t pointer_count;
	const uint32_t
		*pointers; /* offsets, in the scratch, of 64-bit values to which the scratch's address is added */
	uint64_t scratch_at; /* in with VU_REMOTE_AT; out: where the scratch was placed */
	enum vu_remote_outcome outcome; /* out */
};

/*
 * Makes the call in the thread that waits in notification `id` of `listener`, whose filter was made with
 * SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV and allows the call. Everything happens on the calling thread, which is the
 * tracer; it waits for that one thread only, so other waiters of the process are not disturbed, unless one of them waits
 * for any child without __WNOTHREAD and is the target's parent.
 *
 * Returns the result of the call (0 for an exec that succeeded), or -errno; call->outcome says whose:
 *   UNTOUCHED  -EPERM: the thread is traced already, or we may not trace it; -errno of another failure before the reply
 *   DONE       the call's own result, which the thread has seen; also -ENOMEM, -EFAULT when the scratch found no place
 *   RESTARTED  -EAGAIN: the thread could not be led to the call (its code changed under it), or VU_REMOTE_BREAK broke it off
 *   GONE       -ESRCH
 *
 * Signals: all but SIGKILL and SIGSTOP are held back until the call is over and then delivered as ever. A job-control
 * stop takes effect when the call is over. The scratch is taken back (bytes restored, or mapping removed), except
 * after a successful exec: then the memory is gone, or belongs to a vfork parent, where what lies below the stack of a
 * child that has gone is dead, but a mapping stays (scratch_at tells where, for use with VU_REMOTE_AT).
 */
int64_t vu_remote_call(int listener, uint64_t id, struct vu_remote *call);

/* Do the offsets lie in the scratch? */
bool vu_remote_well_formed(const struct vu_remote *call);

/* The same by way of the launcher's keeper. One request at a time on one broker socket: callers take turns. */
int64_t vu_remote_ask(int broker, uint64_t id, struct vu_remote *call);

/* Every message between launcher and daemon begins with this. */
struct vu_header {
	char magic[4]; /* "VUOS" */
	uint32_t version;
	uint32_t type;
	uint32_t length; /* of what follows */
};

/* WARNING: a sentence for the person, without an end of line. */
enum { VU_PROTOCOL = 1, VU_MESSAGE_REMOTE = 9, VU_MESSAGE_WARNING = 10 };

/* Message REMOTE on the broker socket, answered by a vu_remote_reply of the same type. After it the pointers (32 bits each) and the scratch, in the payload, or, when
 * they would make it longer than VU_REMOTE_INLINE, in a memfd that comes with it. */
struct vu_remote_request {
	uint64_t id;
	int32_t tid, tgid;
	uint32_t nr, flags;
	uint64_t args[6];
	int32_t close_fd;
	uint32_t scratch_args, scratch_len, pointer_count;
	uint64_t scratch_at;
};

struct vu_remote_reply {
	int64_t result;
	uint64_t scratch_at;
	uint32_t outcome;
	uint32_t reserved;
};

enum { VU_REMOTE_INLINE = 16384 };

#endif
