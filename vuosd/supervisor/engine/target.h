/* The calling thread: its memory, credentials, working directory and descriptors, and the state that its process is in. */
#ifndef VUOSD_ENGINE_TARGET_H
#define VUOSD_ENGINE_TARGET_H

#include "call.h"

/* callers.c: descriptors of what procfs has of the caller; -1: there is none yet, so open it by its path */
int vu_caller_file(struct vu_call *call, enum vu_caller_file file);
/* What they told was an error: the thread that they were of may have gone. */
void vu_caller_forget(struct vu_call *call);
void vu_callers_free(struct vu_work *work);

/* target.c */
/* With our own capabilities from `begin` on, then again with those that we act with. */
void vu_own_rights(struct vu_call *call, bool begin);
/* The same to look at the target (its memory, links, ptrace), which may take its ids: borrow.h. */
void vu_inspect(struct vu_call *call, bool begin);
bool vu_may_trace_others(void);
/* No directory keeps any member from what is below it: all are root, with that capability. */
bool vu_searches_all(const struct vu_session *session); /* CAP_SYS_PTRACE */
int vu_read(struct vu_call *call, uint64_t address, void *out, size_t size);
int vu_write(struct vu_call *call, uint64_t address, const void *data, size_t size);
/* A path or name: its length, -EFAULT, or -ENAMETOOLONG when it has no end within `room` bytes. */
int vu_read_string(struct vu_call *call, uint64_t address, char *out, size_t room);
pid_t vu_tgid(struct vu_call *call);
/* Text of a magic link of the caller ("cwd", "fd/7") as the supervisor sees it. */
int vu_target_link(struct vu_call *call, const char *name, char *out, size_t room);
/* O_PATH of the object behind such a link. */
int vu_target_open(struct vu_call *call, const char *name);
/* "cwd" for AT_FDCWD, else "fd/N". */
const char *vu_descriptor_name(int fd, char buffer[24]);
/* A duplicate of the caller's descriptor; -EPERM where the machine does not allow it (Docker: then a remote call). */
int vu_target_descriptor(struct vu_call *call, int fd);
int vu_target_credentials(struct vu_call *call);
mode_t vu_target_umask(struct vu_call *call);
/* Act as the caller would (fsuid, fsgid, groups, capabilities) until vu_resign; nothing to do unless the supervisor is root. */
int vu_assume(struct vu_call *call);
int vu_assume_real(struct vu_call *call); /* the same with the real ids: access(2) */
void vu_resign(struct vu_call *call);

/* state.c */
const struct vu_state *vu_state_of(struct vu_call *call);
/* Give the caller the state `wanted`, whose root is copied if it is new. */
/* Where the view shows an object at several places: the mount by which the working directory, or a descriptor, is meant; NULL. */
const struct vu_mount *vu_state_meant(const struct vu_state *state, bool cwd);
int vu_state_set(struct vu_call *call, const struct vu_state *wanted);
/* No process is left in that namespace: the numbers of its states are free. */
void vu_states_end(struct vu_session *session, unsigned space);
void vu_states_free(struct vu_session *session);
/* The namespace of the caller. */
unsigned vu_space_of(struct vu_call *call);
/* Of RLIMIT_LOCKS, RLIMIT_FSIZE: a process's limit, whatever its ids; the caller's. */
struct rlimit;
int vu_limit_of(const struct vu_session *session, pid_t pid, int resource, struct rlimit *out);
int vu_target_limit(struct vu_call *call, int resource, struct rlimit *out);

#endif
