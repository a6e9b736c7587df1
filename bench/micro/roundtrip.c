/*
 * What one notification costs on this machine, with nobody's engine: getppid, received and let go on.
 *
 *     roundtrip [MILLISECONDS]
 *
 * Prints nanoseconds: the round trip with SYNC_WAKE_UP and without; with the caller's memory read as well; with a
 * descriptor given back (ADDFD with SEND, closed by the caller); and the window between a call's begin and RECV, in which a
 * signal still interrupts it (minimum, median, 99th percentile); getpid without a filter and with one of four instructions.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1UL
#endif
#define WINDOWS 20000
#define BATCH 200

struct shared {
	atomic_int_fast64_t begun;
	double best, getpid;
	char path[64];
};

enum { PLAIN = 1, SYNC = 2, MEMORY = 4, DESCRIPTOR = 8 };

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static int filter(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof code / sizeof *code, code };
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			    SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
}

static double getpid_ns(void)
{
	double best = 1e18;
	for (int batch = 0; batch < 20; batch++) {
		int64_t begin = now();
		for (int i = 0; i < 10000; i++)
			syscall(SYS_getpid);
		double each = (double)(now() - begin) / 10000;
		if (each < best)
			best = each;
	}
	return best;
}

static _Noreturn void target(struct shared *shared, int pipe, int64_t budget, int mode)
{
	int listener = filter();
	if (listener < 0)
		fail("seccomp");
	if (write(pipe, &listener, sizeof listener) < 0 || read(pipe, &listener, 1) < 0)
		fail("pipe");
	shared->best = 1e18;
	shared->getpid = getpid_ns();
	for (int64_t end = now() + budget; now() < end;) {
		int64_t begin = now();
		for (int i = 0; i < BATCH; i++) {
			atomic_store_explicit(&shared->begun, now(), memory_order_relaxed);
			long result = syscall(SYS_getppid, shared->path);
			if (mode & DESCRIPTOR)
				close((int)result);
		}
		double each = (double)(now() - begin) / BATCH;
		if (each < shared->best)
			shared->best = each;
	}
	_exit(0);
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static double filtered;

static double measure(int mode, int64_t budget, int64_t *windows, int *count)
{
	int pair[2], child_number, null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct shared *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	strcpy(shared->path, "/usr/share/doc/some/path/of/usual/length");
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		fail("socketpair");
	/* One descriptor table, so that the listener is ours too; as the launcher does it. */
	pid_t child = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (child < 0)
		fail("clone");
	if (!child)
		target(shared, pair[1], budget, mode);
	if (read(pair[0], &child_number, sizeof child_number) != sizeof child_number)
		exit(1);
	int listener = child_number;
	if (mode & SYNC)
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	if (write(pair[0], "", 1) < 0)
		fail("write");
	for (;;) {
		struct seccomp_notif n = { 0 };
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n) < 0) {
			struct pollfd poller = { .fd = listener };
			if (errno == ENOENT && poll(&poller, 1, 0) == 1 && (poller.revents & POLLHUP))
				break;
			if (errno != EINTR && errno != ENOENT)
				break;
			continue;
		}
		if (windows && *count < WINDOWS)
			windows[(*count)++] = now() - atomic_load_explicit(&shared->begun, memory_order_relaxed);
		if (mode & MEMORY) {
			char path[64];
			struct iovec local = { path, sizeof path },
				     remote = { (void *)(uintptr_t)n.data.args[0], sizeof path };
			if (process_vm_readv((pid_t)n.pid, &local, 1, &remote, 1, 0) < 0)
				fail("process_vm_readv");
		}
		if (mode & DESCRIPTOR) {
			struct seccomp_notif_addfd add = { .id = n.id,
							   .flags = SECCOMP_ADDFD_FLAG_SEND,
							   .srcfd = (unsigned)null };
			ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
		} else {
			struct seccomp_notif_resp response = { .id = n.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };
			ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
		}
	}
	waitpid(child, NULL, 0);
	close(listener);
	close(pair[0]);
	close(pair[1]);
	close(null);
	double best = shared->best;
	filtered = shared->getpid;
	munmap(shared, 4096);
	return best;
}

int main(int argc, char **argv)
{
	static int64_t windows[WINDOWS];
	int count = 0;
	int64_t budget = (argc > 1 ? atoll(argv[1]) : 300) * 1000000;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	double sync = measure(SYNC, budget, NULL, NULL), plain = measure(PLAIN, budget, NULL, NULL);
	double memory = measure(SYNC | MEMORY, budget, NULL, NULL),
	       descriptor = measure(SYNC | DESCRIPTOR, budget, NULL, NULL);
	measure(SYNC, budget, windows, &count);
	qsort(windows, (size_t)count, sizeof *windows, compare);
	printf("{\"sync\": %.0f, \"plain\": %.0f, \"memory\": %.0f, \"descriptor\": %.0f, \"window_min\": %ld, "
	       "\"window_median\": %ld, \"window_99\": %ld, \"getpid\": %.0f, \"getpid_filtered\": %.0f}\n",
	       sync, plain, memory, descriptor, (long)windows[0], (long)windows[count / 2],
	       (long)windows[count - count / 100 - 1], getpid_ns(), filtered);
	return 0;
}
