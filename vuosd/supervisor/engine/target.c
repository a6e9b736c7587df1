/*
 * The calling thread: its memory, its state, its credentials, its descriptors.
 *
 * While a thread waits in its notification nothing of it changes but what other threads of its process change, so
 * everything here is read once and used. Memory goes through process_vm_readv(2): always the image that the thread runs
 * now, and only what the thread itself may read. A kept /proc/PID/mem descriptor costs a fifth less, but goes stale when a
 * vfork child executes, and reads pages without PROT_READ, for which the kernel says EFAULT (FOLL_FORCE, mem_rw in
 * fs/proc/base.c). Where only an ancestor may look (Yama) it is all there is: memory.c.
 */
#include "engine.h"

#include <dirent.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "broker.h"

#define PAGE 4096
#define FIRST 256 /* bytes of a path that are read at first: longer ones are rare, and each line of the cache counts */
#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

/* These act on the calling thread alone, unlike glibc's wrappers: that is the point. */
static void set_effective(uint64_t effective, uint64_t permitted)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	for (int i = 0; i < 2; i++)
		data[i] = (struct __user_cap_data_struct){ .effective = (uint32_t)(effective >> 32 * i),
							   .permitted = (uint32_t)(permitted >> 32 * i) };
	syscall(SYS_capset, &header, data);
}

static uint64_t own_capabilities(void)
{
	static _Thread_local uint64_t permitted;
	if (!permitted) {
		struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
		struct __user_cap_data_struct data[2] = {};
		syscall(SYS_capget, &header, data);
		permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	}
	return permitted;
}

bool vu_may_trace_others(void)
{
	return own_capabilities() >> CAP_SYS_PTRACE & 1;
}

bool vu_searches_all(const struct vu_session *session)
{
	const uint64_t wanted = UINT64_C(1) << CAP_DAC_OVERRIDE | UINT64_C(1) << CAP_DAC_READ_SEARCH;
	return session->privileged && (own_capabilities() & wanted) &&
	       !atomic_load_explicit(&session->credentials_differ, memory_order_relaxed);
}

void vu_own_rights(struct vu_call *call, bool begin)
{
	if (call->assumed) {
		uint64_t own = own_capabilities();
		int saved = errno;
		set_effective(begin ? own : call->acting & own, own);
		errno = saved;
	}
}

/*
 * Looking at a target takes our own capabilities, also while we act with the caller's: CAP_SYS_PTRACE must not count
 * for the paths that the caller opens under /proc.
 */
void vu_inspect(struct vu_call *call, bool begin)
{
	struct vu_session *session = call->session;
	bool borrows = session->borrows && atomic_load_explicit(&session->credentials_differ, memory_order_relaxed);
	if (borrows && !begin)
		vu_give_back(&call->borrowed);
	vu_own_rights(call, begin);
	if (borrows && begin)
		vu_borrow(session->proc, call->tid, &call->borrowed);
}

static ssize_t try_transfer(struct vu_call *call, uint64_t address, void *data, size_t size, bool out)
{
	if (!(call->session->options.flags & VU_SESSION_BROKER_MEMORY)) {
		struct iovec local = { data, size }, remote = { (void *)(uintptr_t)address, size };
		ssize_t n = out ? process_vm_writev(call->tid, &local, 1, &remote, 1, 0)
				: process_vm_readv(call->tid, &local, 1, &remote, 1, 0);
		return n < 0 ? -errno : n;
	}
	return vu_memory_transfer(call, address, data, size, out);
}

static ssize_t transfer(struct vu_call *call, uint64_t address, void *data, size_t size, bool out)
{
	vu_inspect(call, true);
	ssize_t n = try_transfer(call, address, data, size, out);
	vu_inspect(call, false);
	if (n == -EPERM || n == -EACCES)
		call->blind = true;
	return n;
}

int vu_read(struct vu_call *call, uint64_t address, void *out, size_t size)
{
	if (!size)
		return 0;
	ssize_t n = transfer(call, address, out, size, false);
	return n < 0 ? (int)n : (size_t)n == size ? 0 : -EFAULT;
}

int vu_write(struct vu_call *call, uint64_t address, const void *data, size_t size)
{
	if (!size)
		return 0;
	if (vu_notify_alive(call) < 0)
		return -ESRCH; /* never write into whoever has got the number since */
	ssize_t n = transfer(call, address, (void *)data, size, true);
	return n < 0 ? (int)n : (size_t)n == size ? 0 : -EFAULT;
}

int vu_read_string(struct vu_call *call, uint64_t address, char *out, size_t room)
{
	size_t have = 0;
	while (have < room) {
		/* Never ask across a page end before the string is known to go on there: the next page may be unmapped. */
		size_t want = PAGE - (address + have) % PAGE;
		if (!have && want > FIRST)
			want = FIRST;
		if (want > room - have)
			want = room - have;
		ssize_t n = transfer(call, address + have, out + have, want, false);
		if (n <= 0)
			return n < 0 ? (int)n : -EFAULT;
		char *end = memchr(out + have, 0, (size_t)n);
		if (end)
			return (int)(end - out);
		if ((size_t)n < want)
			return -EFAULT;
		have += (size_t)n;
	}
	return -ENAMETOOLONG;
}

/* One line of /proc/TID/status, read into the work area; NULL if it has no such line. */
static const char *status_field(const char *status, const char *name)
{
	const char *line = strstr(status, name);
	return line ? line + strlen(name) : NULL;
}

static int read_status(struct vu_call *call)
{
	char name[64], *out = call->work->scratch;
	size_t room = sizeof call->work->scratch - 1;
	/* One read has all of it that there is room for: a file of single_open(), fs/seq_file.c seq_read_iter. */
	int kept = vu_caller_file(call, VU_CALLER_STATUS);
	ssize_t n = kept < 0 ? -1 : pread(kept, out, room, 0);
	if (n <= 0) {
		if (kept >= 0)
			vu_caller_forget(call);
		snprintf(name, sizeof name, "%d/status", call->tid);
		VU_CLOSE int fd = openat(call->session->proc, name, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		n = read(fd, out, room);
	}
	if (n < 0)
		return -errno;
	call->work->scratch[n] = 0;
	return 0;
}

int vu_target_credentials(struct vu_call *call)
{
	struct vu_credentials *c = &call->credentials;
	if (c->known)
		return 0;
	int error = read_status(call);
	if (error < 0)
		return error;
	const char *status = call->work->scratch, *line;
	if (!(line = status_field(status, "\nUmask:")) || sscanf(line, "%o", &c->umask) != 1)
		return -ESRCH;
	if (!(line = status_field(status, "\nTgid:")) || sscanf(line, "%d", &c->tgid) != 1)
		return -ESRCH;
	if (!(line = status_field(status, "\nUid:")) ||
	    sscanf(line, "%u %u %u %u", &c->ruid, &c->euid, &c->suid, &c->fsuid) != 4)
		return -ESRCH;
	if (!(line = status_field(status, "\nGid:")) ||
	    sscanf(line, "%u %u %u %u", &c->rgid, &c->egid, &c->sgid, &c->fsgid) != 4)
		return -ESRCH;
	if (!(line = status_field(status, "\nCapPrm:")) || sscanf(line, "%lx", &c->permitted) != 1)
		return -ESRCH;
	if (!(line = status_field(status, "\nCapEff:")) || sscanf(line, "%lx", &c->effective) != 1)
		return -ESRCH;
	c->group_count = 0;
	if ((line = status_field(status, "\nGroups:"))) {
		int used;
		while (*line != '\n' && c->group_count < (int)(sizeof c->groups / sizeof *c->groups) &&
		       sscanf(line, " %u%n", &c->groups[c->group_count], &used) == 1) {
			line += used;
			c->group_count++;
			while (*line == ' ')
				line++;
		}
	}
	c->known = true;
	return 0;
}

mode_t vu_target_umask(struct vu_call *call)
{
	unsigned umask;
	const char *line;
	if (call->credentials.known)
		return call->credentials.umask;
	if (read_status(call) < 0 || !(line = status_field(call->work->scratch, "\nUmask:")) ||
	    sscanf(line, "%o", &umask) != 1)
		return 077;
	return umask;
}

pid_t vu_tgid(struct vu_call *call)
{
	if (!call->tgid) {
		int error = vu_target_credentials(call);
		call->tgid = error < 0 ? call->tid : call->credentials.tgid;
	}
	return call->tgid;
}

/* Credentials ---------------------------------------------------------------------------------------------------- */

static int assume(struct vu_call *call, bool real)
{
	struct vu_session *session = call->session;
	if (!session->privileged || !atomic_load_explicit(&session->credentials_differ, memory_order_relaxed))
		return 0;
	int error = vu_target_credentials(call);
	if (error < 0)
		return error;
	struct vu_credentials *c = &call->credentials;
	uint64_t own = own_capabilities();
	if (call->assumed) /* the effective ids, and now the real ones */
		set_effective(own, own);
	if (syscall(SYS_setgroups, c->group_count, c->groups) < 0)
		return -errno;
	syscall(SYS_setfsgid, real ? c->rgid : c->fsgid);
	syscall(SYS_setfsuid, real ? c->ruid : c->fsuid);
	/* setfsuid(2) drops the file capabilities with the root id; what the caller holds of them is set as it is. */
	uint64_t wanted = real ? (c->ruid ? 0 : c->permitted) : c->effective;
	set_effective(wanted & own, own);
	call->acting = wanted;
	call->assumed = true;
	return 0;
}

int vu_assume(struct vu_call *call)
{
	return assume(call, false);
}

int vu_assume_real(struct vu_call *call)
{
	return assume(call, true);
}

void vu_resign(struct vu_call *call)
{
	struct vu_session *session = call->session;
	if (!session->privileged || !atomic_load_explicit(&session->credentials_differ, memory_order_relaxed))
		return;
	int saved = errno;
	uint64_t own = own_capabilities();
	call->assumed = false;
	set_effective(own, own);
	syscall(SYS_setfsuid, geteuid());
	syscall(SYS_setfsgid, getegid());
	syscall(SYS_setgroups, 0, NULL);
	set_effective(own, own);
	errno = saved;
}

/* /proc/TID ---------------------------------------------------------------------------------------------------------- */

const char *vu_descriptor_name(int fd, char buffer[24])
{
	if (fd == AT_FDCWD)
		return "cwd";
	snprintf(buffer, 24, "fd/%d", fd);
	return buffer;
}

int vu_target_link(struct vu_call *call, const char *name, char *out, size_t room)
{
	char path[64];
	bool cwd = !strcmp(name, "cwd");
	vu_inspect(call, true);
	int kept = vu_caller_file(call, cwd ? VU_CALLER_CWD : VU_CALLER_DESCRIPTORS);
	ssize_t n = kept < 0 ? -1 : readlinkat(kept, cwd ? "" : name + strlen("fd/"), out, room - 1);
	if (n < 0) {
		if (kept >= 0)
			vu_caller_forget(call);
		snprintf(path, sizeof path, "%d/%s", call->tid, name);
		n = readlinkat(call->session->proc, path, out, room - 1);
	}
	vu_inspect(call, false);
	if (n < 0) {
		call->blind |= errno == EACCES; /* fs/proc/base.c proc_fd_access_allowed */
		return -errno;
	}
	out[n] = 0;
	return (int)n;
}

int vu_target_open(struct vu_call *call, const char *name)
{
	char path[64];
	snprintf(path, sizeof path, "%d/%s", call->tid, name);
	vu_inspect(call, true);
	int fd = openat(call->session->proc, path, O_PATH | O_CLOEXEC);
	vu_inspect(call, false);
	call->blind |= fd < 0 && errno == EACCES;
	return fd < 0 ? -errno : fd;
}

int vu_target_descriptor(struct vu_call *call, int fd)
{
	/* Of the thread itself (Linux 6.9), which may have a descriptor table of its own; else of its process. */
	VU_CLOSE int process = (int)syscall(SYS_pidfd_open, call->tid, PIDFD_THREAD);
	if (process < 0 && errno == EINVAL) {
		if (vu_tgid(call) != call->tid && syscall(SYS_kcmp, call->tid, vu_tgid(call), KCMP_FILES, 0, 0))
			return -EPERM;
		process = (int)syscall(SYS_pidfd_open, vu_tgid(call), 0);
	}
	if (process < 0)
		return -errno;
	vu_inspect(call, true);
	int copy = (int)syscall(SYS_pidfd_getfd, process, fd, 0);
	vu_inspect(call, false);
	return copy < 0 ? -errno : copy;
}
