/* A session, and a call: one notification that is being answered. */
#ifndef VUOSD_ENGINE_CALL_H
#define VUOSD_ENGINE_CALL_H

#include "borrow.h"
#include "table.h"

#include <sched.h>

struct vu_state {
	char *root; /* view path of the root directory; "" for "/" */
	const struct vu_mount *cwd_mount; /* where one host directory is seen twice: the mount it was entered by */
	const struct vu_mount
		*opened_by; /* where a wire server is shown twice: the mount of it that was last opened something of */
	int64_t euid, egid; /* what it believes to be its effective ids, or -1: op_ids.c */
	bool undumpable; /* it has been told so: see vu_op_dumpable */
	unsigned space; /* its mount namespace */
	struct vu_state *before; /* that had this number until its namespace ended */
};

/* memory.c: a descriptor of /proc/TID/mem that the launcher has opened. */
struct vu_kept {
	atomic_flag taken; /* somebody uses what follows */
	int fd;
	pid_t tid;
	int64_t since; /* CLOCK_MONOTONIC_COARSE, ns */
};
#define VU_KEPT 64

/*
 * Where the notifications arrive of what one launcher has started, and the threads that receive them (threads.c). The first is the
 * session's own, others are those of launchers that have entered it. A notification's id means something to its listener only.
 */
struct vu_listener {
	struct vu_session *session;
	struct vu_listener *next;
	unsigned number; /* by which Python knows it */
	int fd;
	int broker, keeper; /* sockets to the launcher's keeper, or -1 */
	pthread_mutex_t broker_lock;
	atomic_uint users; /* one for the session, and one for each call that goes on after its turn on the thread */
	atomic_bool stopping;
	atomic_uint leader, taken; /* number of the turn at receiving, and of the last turn that a thread has taken */
	atomic_uint beat; /* counts calls received */
	atomic_uint serving; /* the last turn to have begun a call, times 2; odd while that call is being served */
	atomic_uint guard_asleep;
	struct vu_thread *threads;
	unsigned thread_count;
	pthread_t guard;
	bool guarded;
	bool crowded; /* it has been said that there can be no thread more */
	atomic_uint idle; /* threads that wait for a turn */
	atomic_uint wanted; /* counts how often nobody was left to lead: the guard looks */
};

struct vu_session {
	struct vu_options options;
	struct vu_row rows[VU_MAX_NR];
	struct vu_namespace names;
	bool enforce, privileged;
	bool borrows; /* privileged, but without CAP_SYS_PTRACE: borrow.h */
	int proc, self_fd; /* O_PATH of /proc and of /proc/self/fd */
	struct vu_state *states[VU_SPACES];
	atomic_uint state_count;
	pthread_mutex_t state_lock, listener_lock;
	struct vu_listener *listeners; /* under its lock */
	unsigned listener_count; /* as many have been */
	atomic_bool credentials_differ; /* a privileged member has changed its ids: read them for each call */
	atomic_bool stopping;
	_Atomic(struct vu_twin *) twins[1024]; /* twins.c */
	atomic_bool has_twins;
	atomic_uint moves; /* how often a directory of a layer has got another path, or none */
	_Atomic(struct vu_again *) again; /* again.c: what threads that make their call anew come back for */
	_Atomic(struct vu_peers *) peers; /* peers.c: for whom we have connected which socket */
	_Atomic(struct vu_socket_names *) socket_names; /* socket_names.c */
	struct vu_slow *slow; /* calls that may block for ever, each with a thread of its own */
	pthread_mutex_t slow_lock;
	_Atomic(struct vu_stack *)
		limited; /* quota.c: the first of those with a size; none goes before the session does */
	pthread_t watcher;
	bool watched;
	cpu_set_t processors; /* that our cpuset has */
	struct vu_kept kept[VU_KEPT];
	atomic_int_fast64_t nothing_kept; /* what was kept until then is not used */
	pthread_mutex_t asked_lock;
	uint64_t announced[VU_MAX_NR / 64]; /* calls that are trapped because of modules: claims.c */
	struct vu_ordinary *ordinary;
	uint32_t ordinary_count;
	struct vu_parked *parked; /* asked.c: calls that Python answers, the oldest first */
	uint64_t parked_count; /* as many have been: their ids */
	int asked_event;
	atomic_uint_fast64_t notifications, continued, acted, failed, stale, slow_count, asked;
	uint64_t told[128]; /* digests of the warnings that were given: warn.c, under state_lock */
};

/* callers.c */
enum vu_caller_file { VU_CALLER_CWD, VU_CALLER_DESCRIPTORS, VU_CALLER_STATUS, VU_CALLER_FILES };
enum { VU_CALLERS = 16 };
struct vu_caller {
	pid_t tid;
	int files[VU_CALLER_FILES]; /* 1 + the descriptor, so that 0 is none */
};

/* A call names two paths at most. */
enum { VU_PASSED = 2 };

/* One thread's memory: nothing on the hot path allocates. */
struct vu_work {
	char path[2][PATH_MAX + 1];
	char view[2][VU_TEXT + PATH_MAX];
	char rest[2 * VU_TEXT];
	char text[2 * VU_TEXT];
	char link[PATH_MAX + 1];
	char host[VU_TEXT];
	char scratch[VU_TEXT];
	_Alignas(16) char data[65536 + 64];
	struct vu_caller callers[VU_CALLERS];
	int near; /* descriptors that are still to be handed over on this processor: inject.c */
};

struct vu_credentials {
	bool known;
	uid_t ruid, euid, suid, fsuid;
	gid_t rgid, egid, sgid, fsgid;
	uint64_t effective, permitted; /* capabilities */
	mode_t umask;
	pid_t tgid;
	int group_count;
	gid_t groups[256];
};

struct vu_call {
	struct vu_session *session;
	struct vu_listener *listener;
	const struct vu_table *table; /* the version that it began with */
	struct vu_work *work;
	const struct vu_row *row;
	uint64_t id;
	const uint64_t *args;
	pid_t tid;
	pid_t tgid; /* 0 until vu_tgid() */
	const struct vu_state *state;
	int64_t value;
	struct vu_credentials credentials;
	int nr;
	struct vu_borrowed borrowed;
	bool assumed; /* acting with the caller's credentials, and with these capabilities: */
	uint64_t acting;
	bool native_error; /* the walk failed where the caller's kernel fails as well, and says it best */
	uint64_t listing; /* not 0: a directory is opened at once with these flags, not with O_PATH (vu_op_open) */
	bool aside; /* another thread receives meanwhile */
	const char *asks; /* with VU_ASK: what for */
	unsigned asks_flags;
	uint32_t claim; /* with "module": whose; by which path, if it is by one */
	const char *claimed;
	bool passed; /* modules are not asked: they have been */
	const char *const *passed_paths; /* about these; NULL: about the call, whatever its paths are */
	struct vu_wired *waits; /* nothing can be done before this mount's server has been asked */
	bool elsewhere; /* made anew by a thread that may wait for one */
	struct vu_need *needs; /* what is missing of trees that are mounted by wire: stack_wired.c */
	bool blind; /* its memory, or what it has open, may not be looked at: nothing can be answered but an error */
};

/* What an operation returns; a negative number is an errno for the caller. */
enum vu_verdict {
	VU_REPLY = 0, /* call->value */
	VU_CONTINUE = 1, /* the kernel does it */
	VU_SENT = 2, /* the reply has gone: ADDFD with SEND, a remote call */
	VU_ASK = 3, /* Python answers it: vu_ask() */
};

typedef int vu_operation(struct vu_call *call);

static inline int vu_answer(struct vu_call *call, int64_t value)
{
	call->value = value;
	return VU_REPLY;
}

static inline uint64_t vu_argument(const struct vu_call *call, int index)
{
	return index < 0 ? 0 : call->args[index];
}

static inline int vu_result(long result)
{
	return result < 0 ? -errno : (int)result;
}

static inline void vu_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}
#define VU_CLOSE __attribute__((cleanup(vu_close)))

#endif
