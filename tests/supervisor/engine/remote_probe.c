/*
 * Target and supervisor of test_remote.py in one program: a child under a raw filter does what MODE says, two threads answer
 * its chdir, open, execve and execveat by remote calls. Exit status 0 and a line of counts: all was well.
 */
#define _GNU_SOURCE
#include "remote.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COOKIE UINT64_C(0x5eed5eedc0ffee11)
#define CHECK(x)                                                                                                       \
	do {                                                                                                           \
		if (!(x)) {                                                                                            \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #x, strerror(errno));                   \
			fflush(stderr);                                                                                \
			_exit(99);                                                                                     \
		}                                                                                                      \
	} while (0)

extern char **environ;
static char self[4096];

/* ---- supervisor ---- */

static int listener, broker = -1;
static unsigned outcomes[4], errors;
static uint32_t extra_flags;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static int64_t remote(uint64_t id, struct vu_remote *call)
{
	int64_t r;

	if (broker < 0) {
		r = vu_remote_call(listener, id, call);
	} else {
		pthread_mutex_lock(&turn);
		r = vu_remote_ask(broker, id, call);
		pthread_mutex_unlock(&turn);
	}
	__atomic_add_fetch(&outcomes[call->outcome], 1, __ATOMIC_RELAXED);
	return r;
}

static int read_string(pid_t tid, uint64_t address, char *out, size_t size)
{
	struct iovec local = { out, size }, there = { (void *)address, size };
	size_t room = 4096 - address % 4096;

	if (there.iov_len > room)
		there.iov_len = room;
	ssize_t n = process_vm_readv(tid, &local, 1, &there, 1, 0);
	return n > 0 && memchr(out, 0, n) ? 0 : -EFAULT;
}

static int give(uint64_t id, int fd)
{
	struct seccomp_notif_addfd add = { .id = id, .srcfd = fd, .newfd_flags = O_CLOEXEC };

	return ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
}

static void answer(const struct seccomp_notif *n)
{
	struct vu_remote call = { .tid = n->pid, .close_fd = -1, .flags = extra_flags };
	struct seccomp_notif_resp resp = { .id = n->id };
	const __u64 *a = n->data.args;
	char path[4096];
	uint8_t scratch[4200];
	int fd = -1;
	uint32_t pointers[1] = { 16 };

	if (n->data.nr == SYS_execveat) {
		fd = -1;
		strcpy(path, self);
	} else if (read_string(n->pid, a[0], path, sizeof(path)) < 0) {
		resp.error = -EFAULT;
		goto reply;
	}
	call.args[5] = COOKIE;
	if (n->data.nr == SYS_open) {
		call.nr = SYS_openat;
		call.args[0] = AT_FDCWD;
		call.scratch = path;
		call.scratch_len = strlen(path) + 1;
		call.scratch_args = 1 << 1;
		call.args[2] = O_PATH | O_CLOEXEC;
	} else {
		fd = open(path, n->data.nr == SYS_chdir ? O_RDONLY | O_DIRECTORY | O_CLOEXEC : O_RDONLY | O_CLOEXEC);
		if (fd < 0) {
			resp.error = -errno;
			goto reply;
		}
		call.close_fd = give(n->id, fd);
		if (call.close_fd < 0) {
			resp.error = -errno;
			goto reply;
		}
		call.nr = n->data.nr == SYS_chdir ? SYS_fchdir : SYS_execveat;
		call.args[0] = call.close_fd;
		if (call.nr == SYS_execveat) {
			/* An empty string, and (with SYS_execveat as the call) argv = { self, NULL } through two relocations. */
			memset(scratch, 0, sizeof(scratch));
			call.flags |= VU_REMOTE_EXEC;
			call.scratch = scratch;
			call.scratch_len = 1;
			call.scratch_args = 1 << 1;
			call.args[2] = a[1];
			call.args[3] = a[2];
			call.args[4] = AT_EMPTY_PATH;
			if (n->data.nr == SYS_execveat) {
				uint64_t offset = 32;

				memcpy(scratch + 16, &offset, sizeof(offset));
				strcpy((char *)scratch + 32, "relocated");
				call.scratch_len = 64;
				call.args[2] = 16;
				call.args[3] = a[3];
				call.scratch_args |= 1 << 2;
				call.pointers = pointers;
				call.pointer_count = 1;
			}
		}
	}
	int64_t r = remote(n->id, &call);
	if (fd >= 0)
		close(fd);
	if (call.outcome != VU_REMOTE_UNTOUCHED)
		return;
	resp.error = r;
	fd = -1;
reply:
	if (fd >= 0)
		close(fd);
	fprintf(stderr, "call %d was not made: %s\n", n->data.nr, strerror(-resp.error));
	__atomic_add_fetch(&errors, 1, __ATOMIC_RELAXED);
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

static void *serve(void *unused)
{
	(void)unused;
	for (;;) {
		struct pollfd p = { listener, POLLIN, 0 };
		struct seccomp_notif n = { 0 };

		if (poll(&p, 1, -1) < 0)
			continue;
		if (p.revents & POLLHUP)
			return NULL;
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n) == 0)
			answer(&n);
	}
}

/* ---- target ---- */

static volatile sig_atomic_t ticks;
static void on_tick(int s)
{
	(void)s;
	ticks++;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void expect_cwd(const char *where)
{
	char cwd[4096];

	CHECK(syscall(SYS_getcwd, cwd, sizeof(cwd)) > 0);
	CHECK(strcmp(cwd, where) == 0);
}

static const char *const places[2] = { "/usr", "/tmp" };

static int chdir_bench(int count)
{
	int first = open("/", O_RDONLY | O_CLOEXEC), fd;
	double start = now();

	for (int i = 0; i < count; i++)
		CHECK(chdir(places[i & 1]) == 0);
	printf("%.1f us per remote fchdir and close\n", (now() - start) / count * 1e6);
	fflush(stdout);
	fd = open("/", O_RDONLY | O_CLOEXEC);
	CHECK(fd == first + 1);
	return 0;
}

static int run(const char *what, int *status)
{
	char *argv[] = { self, "echo", (char *)what, NULL };
	pid_t pid;
	int r = posix_spawn(&pid, self, NULL, NULL, argv, environ);

	if (r)
		return r;
	while (waitpid(pid, status, 0) < 0)
		CHECK(errno == EINTR);
	return 0;
}

static void *spawn_storm(void *arg)
{
	long count = (long)arg;
	int status;

	for (int i = 0; i < count; i++) {
		char text[16];
		int r;

		snprintf(text, sizeof(text), "%d", i % 100);
		/* A signal before RECV is EINTR, which the kernel gives: only ours must not be lost. */
		do
			r = run(text, &status);
		while (r == EINTR);
		errno = r;
		CHECK(r == 0);
		CHECK(WIFEXITED(status));
		CHECK(WEXITSTATUS(status) == i % 100);
		/* In a vfork child: chdir, then exec. */
		posix_spawn_file_actions_t actions;
		char *argv[] = { self, "cwd", (char *)places[i & 1], NULL };
		pid_t pid;

		posix_spawn_file_actions_init(&actions);
		posix_spawn_file_actions_addchdir_np(&actions, places[i & 1]);
		do
			r = posix_spawn(&pid, self, &actions, NULL, argv, environ);
		while (r == EINTR);
		CHECK(r == 0);
		posix_spawn_file_actions_destroy(&actions);
		while (waitpid(pid, &status, 0) < 0)
			CHECK(errno == EINTR);
		CHECK(status == 0);
		/* A failing exec leaves the memory of the vfork parent as it was. */
		volatile uint64_t canary[64];
		for (int k = 0; k < 64; k++)
			canary[k] = k * UINT64_C(0x0101010101010101);
		CHECK(posix_spawn(&pid, "/etc/passwd", NULL, NULL, argv, environ) != 0);
		for (int k = 0; k < 64; k++)
			CHECK(canary[k] == k * UINT64_C(0x0101010101010101));
	}
	return NULL;
}

static int spawn_test(int count, int hz)
{
	pthread_t threads[8];

	if (hz) {
		struct sigaction sa = { .sa_handler = on_tick };
		struct itimerval t = { { 0, 1000000 / hz }, { 0, 1000000 / hz } };

		sigaction(SIGALRM, &sa, NULL);
		setitimer(ITIMER_REAL, &t, NULL);
	}
	for (int i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, spawn_storm, (void *)(long)count);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

static int signals_test(int count)
{
	struct sigaction sa = { .sa_handler = on_tick };
	struct itimerval t = { { 0, 1000 }, { 0, 1000 } };
	int early = 0;

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
	for (int i = 0; i < count; i++) {
		if (chdir(places[i & 1]) < 0) {
			CHECK(errno == EINTR);
			early++;
			continue;
		}
		expect_cwd(places[i & 1]);
	}
	printf("%d ticks, %d EINTR\n", (int)ticks, early);
	CHECK(ticks > 10);
	CHECK(early < ticks / 4);
	return 0;
}

struct frame {
	uint64_t in[13], out[13], rax;
};

/* One call with every register loaded; the ABI lets the kernel change rax, rcx and r11 only. */
static void __attribute__((noinline)) call_with_registers(struct frame *f)
{
	asm volatile(
		"push %%rbp\n\tpush %%rbx\n\tpush %%r12\n\tpush %%r13\n\tpush %%r14\n\tpush %%r15\n\t"
		"push %0\n\tmov %0, %%rax\n\t"
		"mov 0(%%rax), %%rdi\n\tmov 8(%%rax), %%rsi\n\tmov 16(%%rax), %%rdx\n\tmov 24(%%rax), %%r10\n\t"
		"mov 32(%%rax), %%r8\n\tmov 40(%%rax), %%r9\n\tmov 48(%%rax), %%rbx\n\tmov 56(%%rax), %%rbp\n\t"
		"mov 64(%%rax), %%r12\n\tmov 72(%%rax), %%r13\n\tmov 80(%%rax), %%r14\n\tmov 88(%%rax), %%r15\n\t"
		"mov $80, %%eax\n\tsyscall\n\t"
		"push %%rax\n\tmov 8(%%rsp), %%rax\n\t"
		"mov %%rdi, 104(%%rax)\n\tmov %%rsi, 112(%%rax)\n\tmov %%rdx, 120(%%rax)\n\tmov %%r10, 128(%%rax)\n\t"
		"mov %%r8, 136(%%rax)\n\tmov %%r9, 144(%%rax)\n\tmov %%rbx, 152(%%rax)\n\tmov %%rbp, 160(%%rax)\n\t"
		"mov %%r12, 168(%%rax)\n\tmov %%r13, 176(%%rax)\n\tmov %%r14, 184(%%rax)\n\tmov %%r15, 192(%%rax)\n\t"
		"pop %%rcx\n\tmov %%rcx, 208(%%rax)\n\tpop %%rax\n\t"
		"pop %%r15\n\tpop %%r14\n\tpop %%r13\n\tpop %%r12\n\tpop %%rbx\n\tpop %%rbp\n\t"
		:
		: "r"(f)
		: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
}

static int registers_test(void)
{
	for (int i = 0; i < 100; i++) {
		struct frame f;
		sigset_t set, after;

		memset(&f, 0, sizeof(f));
		f.in[0] = (uint64_t)places[i & 1];
		for (int k = 1; k < 12; k++)
			f.in[k] = UINT64_C(0x9e3779b97f4a7c15) * (k + i);
		sigemptyset(&set);
		sigaddset(&set, i % 2 ? SIGUSR1 : SIGUSR2);
		sigprocmask(SIG_SETMASK, &set, NULL);
		call_with_registers(&f);
		CHECK((int64_t)f.rax == 0);
		CHECK(memcmp(f.in, f.out, 12 * 8) == 0);
		expect_cwd(places[i & 1]);
		sigprocmask(SIG_SETMASK, NULL, &after);
		CHECK(sigismember(&after, SIGUSR1) == i % 2 && sigismember(&after, SIGUSR2) == !(i % 2));
		CHECK(!sigismember(&after, SIGHUP) && !sigismember(&after, SIGTERM));
	}
	return 0;
}

static void *exec_here(void *unused)
{
	char *argv[] = { self, "echo", "7", NULL };

	(void)unused;
	usleep(1000);
	execve(self, argv, environ);
	CHECK(!"exec");
	return NULL;
}

static void *spin(void *unused)
{
	(void)unused;
	for (;;)
		chdir("/tmp");
	return NULL;
}

/* exec by a thread that is not the leader, among threads that are in remote calls of their own. */
static int exec_thread_test(int count)
{
	for (int i = 0; i < count; i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			pthread_t t;

			for (int k = 0; k < 4; k++)
				pthread_create(&t, NULL, spin, NULL);
			if (i % 3 == 2)
				exec_here(NULL);
			pthread_create(&t, NULL, exec_here, NULL);
			if (i % 3)
				spin(NULL);
			else
				pthread_join(t, NULL);
		}
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	}
	return 0;
}

static int kill_test(int count)
{
	for (int i = 0; i < count; i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			pthread_t t;
			char *argv[] = { self, "echo", "7", NULL };

			if (i % 2)
				pthread_create(&t, NULL, spin, NULL);
			for (;;) {
				if (i % 3)
					chdir("/usr");
				else if (vfork() == 0) {
					execve(self, argv, environ);
					_exit(1);
				}
			}
		}
		usleep(i * 37 % 1500);
		kill(pid, SIGKILL);
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
	while (waitpid(-1, NULL, 0) > 0)
		;
	return 0;
}

static int stop_test(int count, int sig)
{
	int status;
	volatile long *done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid = fork();

	if (pid == 0) {
		/* Not in an orphaned group, where SIGTSTP does nothing. */
		setpgid(0, 0);
		for (int i = 0;; i++) {
			if (chdir(places[i & 1]) < 0) {
				CHECK(errno == EINTR);
				continue;
			}
			expect_cwd(places[i & 1]);
			done[0]++;
		}
	}
	setpgid(pid, pid); /* here as well: the first signal may come before the child has run */
	for (int i = 0; i < count; i++) {
		usleep(i * 13 % 300);
		CHECK(kill(pid, sig) == 0);
		CHECK(waitpid(pid, &status, WUNTRACED) == pid);
		CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == sig);
		usleep(300);
		long before = done[0];
		usleep(300);
		CHECK(done[0] == before);
		kill(pid, SIGCONT);
		CHECK(waitpid(pid, &status, WCONTINUED) == pid);
		CHECK(WIFCONTINUED(status));
		for (double start = now(); done[0] == before;)
			CHECK(now() - start < 5);
	}
	/* And as fast as they come, with no one waiting. */
	for (int i = 0; i < count * 10; i++) {
		kill(pid, i & 1 ? SIGCONT : sig);
		if (i % 7 == 0)
			usleep(i * 13 % 60);
	}
	kill(pid, SIGCONT);
	long before = done[0];
	for (double start = now(); done[0] == before;)
		CHECK(now() - start < 5);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return 0;
}

/* A thread that is traced already keeps waiting for an answer, which is EPERM here. */
static int traced_test(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		int r = chdir("/usr");
		_exit(r < 0 && errno == EPERM ? 42 : 1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
	return 0;
}

static int open_test(void)
{
	for (int i = 0; i < 200; i++) {
		const char *path = i & 1 ? "/usr/bin" : "/etc/passwd";
		struct stat a, b;
		int fd = syscall(SYS_open, path, O_RDONLY);

		CHECK(fd >= 0);
		CHECK(fcntl(fd, F_GETFL) & O_PATH);
		CHECK(fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_ino == b.st_ino);
		close(fd);
		CHECK(syscall(SYS_open, "/none", O_RDONLY) < 0 && errno == ENOENT);
	}
	return 0;
}

/* At the very bottom of its stack: the scratch has no room there. */
static void *bottom(void *stack)
{
	long r;

	asm volatile("mov %%rsp, %%r12\n\tlea 64(%1), %%rsp\n\tsyscall\n\tmov %%r12, %%rsp"
		     : "=a"(r)
		     : "r"(stack), "0"((long)SYS_open), "D"("/etc/passwd"), "S"(0L)
		     : "r12", "rcx", "r11", "memory");
	return (void *)r;
}

static int small_stack_test(void)
{
	char *area = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(mprotect(area + 4096, 4096, PROT_READ | PROT_WRITE) == 0);
	memset(area + 4096, 0x5a, 4096);
	for (int i = 0; i < 50; i++) {
		long fd = (long)bottom(area + 4096);

		CHECK(fd >= 0 && fcntl(fd, F_GETFL) & O_PATH);
		close(fd);
	}
	for (int i = 0; i < 4096; i++)
		CHECK(area[4096 + i] == 0x5a);
	return 0;
}

static int relocate_test(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		syscall(SYS_execveat, AT_FDCWD, "x", NULL, environ, 0);
		_exit(1);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 55);
	return 0;
}

/* The code of the waiting call is rewritten: the supervisor must not wait for ever, nor show its cookie. */
static volatile uint64_t seen[6];
static void *waits_in_code(void *code)
{
	return (void *)((long (*)(const char *))code)("/usr");
}

static int rewritten_test(void)
{
	/* mov $80,%eax; syscall; ret, or loop: jmp loop in place of the syscall. */
	static const uint8_t text[] = { 0xb8, 80, 0, 0, 0, 0x0f, 0x05, 0xc3 };
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t t;
	void *r;

	memcpy(code, text, sizeof(text));
	__atomic_store_n(&code[5], 0x0f, __ATOMIC_SEQ_CST);
	pthread_create(&t, NULL, waits_in_code, code);
	/* The supervisor sleeps half a second before its answer in this mode. */
	usleep(200000);
	uint16_t loop = 0xfeeb;
	__atomic_store_n((uint16_t *)(code + 5), loop, __ATOMIC_SEQ_CST);
	sleep(4);
	uint16_t back = 0x050f;
	__atomic_store_n((uint16_t *)(code + 5), back, __ATOMIC_SEQ_CST);
	pthread_join(t, &r);
	CHECK(r == 0);
	expect_cwd("/usr");
	return 0;
}

static int target(const char *mode)
{
	if (!strcmp(mode, "bench"))
		return chdir_bench(20000);
	if (!strcmp(mode, "spawn"))
		return spawn_test(20, 0);
	if (!strcmp(mode, "spawn-signals"))
		return spawn_test(20, 1000);
	if (!strcmp(mode, "signals"))
		return signals_test(20000);
	if (!strcmp(mode, "registers"))
		return registers_test();
	if (!strcmp(mode, "exec-thread"))
		return exec_thread_test(60);
	if (!strcmp(mode, "kill"))
		return kill_test(400);
	if (!strcmp(mode, "stop"))
		return stop_test(200, SIGSTOP);
	if (!strcmp(mode, "tstp"))
		return stop_test(200, SIGTSTP);
	if (!strcmp(mode, "traced"))
		return traced_test();
	if (!strcmp(mode, "open"))
		return open_test();
	if (!strcmp(mode, "small-stack"))
		return small_stack_test();
	if (!strcmp(mode, "relocate"))
		return relocate_test();
	if (!strcmp(mode, "rewritten"))
		return rewritten_test();
	return 98;
}

static int install(void)
{
#define TRAP(n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (n), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF)
#define LOAD(o) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (o))
	struct sock_filter code[] = {
		LOAD(offsetof(struct seccomp_data, args[5])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, COOKIE & 0xffffffff, 0, 3),
		LOAD(offsetof(struct seccomp_data, args[5]) + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, COOKIE >> 32, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		LOAD(offsetof(struct seccomp_data, nr)),
		TRAP(SYS_chdir),
		TRAP(SYS_fchdir),
		TRAP(SYS_open),
		TRAP(SYS_execve),
		TRAP(SYS_execveat),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		       SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &prog);
}

static void send_fd(int sock, int fd)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .h = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec iov = { "x", 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};

	memcpy(CMSG_DATA(&control.h), &fd, sizeof(fd));
	CHECK(sendmsg(sock, &m, 0) == 1);
}

static int take_fd(int sock)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	char c;
	struct iovec iov = { &c, 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	int fd;

	CHECK(recvmsg(sock, &m, MSG_CMSG_CLOEXEC) == 1);
	memcpy(&fd, CMSG_DATA(&control.h), sizeof(fd));
	return fd;
}

static void *serve_slowly(void *unused)
{
	struct seccomp_notif n = { 0 };

	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n) == 0) {
		usleep(500000);
		answer(&n);
	}
	return serve(unused);
}

static int supervise(int sock, void *(*first)(void *))
{
	pthread_t threads[2];

	listener = take_fd(sock);
	/* ioctl 4: SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP: as the engine does. */
	ioctl(listener, SECCOMP_IOW(4, __u64), 1UL);
	CHECK(write(sock, "x", 1) == 1);
	for (int i = 0; i < 2; i++)
		CHECK(pthread_create(&threads[i], NULL, i ? serve : first, NULL) == 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	/* Nothing of ours is left: no tracee. */
	CHECK(waitpid(-1, NULL, __WALL) < 0 && errno == ECHILD);
	printf("untouched %u done %u restarted %u gone %u errors %u\n", outcomes[0], outcomes[1], outcomes[2],
	       outcomes[3], errors);
	return 0;
}

int main(int argc, char **argv)
{
	CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	if (argc == 1 && !strcmp(argv[0], "relocated"))
		return 55;
	if (argc == 3 && !strcmp(argv[1], "echo"))
		return atoi(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "cwd"))
		return expect_cwd(argv[2]), 0;
	CHECK(argc >= 2);
	if (argc > 2 && !strcmp(argv[2], "map"))
		extra_flags = VU_REMOTE_MAP;

	int pair[2], status, served;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		int fd = install();

		CHECK(fd >= 0);
		send_fd(pair[1], fd);
		close(fd);
		char c;
		CHECK(read(pair[1], &c, 1) == 1);
		close(pair[0]);
		close(pair[1]);
		exit(target(argv[1]));
	}
	/* In a process of its own: a parent that waits for its child sees the stops of a thread of its own that traces it. */
	pid_t supervisor = fork();
	if (supervisor == 0)
		return supervise(pair[0], !strcmp(argv[1], "rewritten") ? serve_slowly : serve);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(waitpid(supervisor, &served, 0) == supervisor);
	printf("status %x\n", status);
	return WIFEXITED(status) && served == 0 ? WEXITSTATUS(status) : 97;
}
