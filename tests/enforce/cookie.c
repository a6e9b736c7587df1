/*
 * cookie TOP [native]: learn the number by which the filter knows the supervisor's own calls in us, and use it.
 *
 * Prints, a line each: "learnt N" after N looks (or "learnt never"); "genuine yes" if a call with it is no longer answered by
 * the view; "seen-by-WAY N" for each place that it must never come to (a signal's frame, the memory of the thread it is used in,
 * the registers that a tracer of our own sees); and "CALL GOT" or "CALL nothing" of each call that it might open. TOP is the tree of
 * tree.py. With `native` there is nothing to learn, and the calls are made all the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define OWN UINT64_C(0x1111222233334444) /* our own sixth argument */
enum { STACK = 256 * 1024, LOOKS = 20000000, ROUNDS = 3000 };

static const char *top;
static char path[4096];
static atomic_bool stop;
static atomic_int victim;
static uint64_t cookie;
static atomic_ulong in_frames, frames;
static _Alignas(4096) char stack[STACK];

static const char *in(const char *format, ...)
{
	va_list list;
	__builtin_va_start(list, format);
	vsnprintf(path, sizeof path, format, list);
	__builtin_va_end(list);
	return path;
}

/* A socket bound below the entry TOP/mnt: a call that the supervisor has us make ourselves. */
static int binds(uint64_t sixth)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(un.sun_path, sizeof un.sun_path, "%s/mnt/c%d", top, (int)syscall(SYS_gettid));
	int result = syscall(SYS_bind, fd, &un, sizeof un, 0, 0, sixth) ? -errno : 0;
	unlink(un.sun_path);
	close(fd);
	return result;
}

static void *bind_on(void *unused)
{
	atomic_store(&victim, (int)syscall(SYS_gettid));
	while (!atomic_load(&stop))
		binds(OWN);
	return unused;
}

/* The handler is on the stack that it interrupted: it looks at the registers, and at what lies around. */
static void on_signal(int number, siginfo_t *info, void *context)
{
	const ucontext_t *frame = context;
	(void)number, (void)info;
	frames++;
	for (size_t i = 0; i < sizeof frame->uc_mcontext.gregs / sizeof *frame->uc_mcontext.gregs; i++)
		in_frames += (uint64_t)frame->uc_mcontext.gregs[i] == cookie;
}

static long learn(void)
{
	char name[64], text[256];
	while (!atomic_load(&victim))
		;
	snprintf(name, sizeof name, "/proc/self/task/%d/syscall", atomic_load(&victim));
	int fd = open(name, O_RDONLY);
	for (long looks = 1; fd >= 0 && looks < LOOKS; looks++) {
		unsigned long nr, args[6];
		ssize_t n = pread(fd, text, sizeof text - 1, 0);
		text[n < 0 ? 0 : n] = 0;
		if (sscanf(text, "%lu %lx %lx %lx %lx %lx %lx", &nr, args, args + 1, args + 2, args + 3, args + 4,
			   args + 5) == 7 &&
		    nr == SYS_bind && args[5] && args[5] != OWN) {
			cookie = args[5];
			close(fd);
			return looks;
		}
	}
	return 0;
}

static unsigned long seen_in_memory(void)
{
	static char copy[STACK];
	unsigned long seen = 0;
	for (int i = 0; i < ROUNDS; i++) {
		struct iovec local = { copy, STACK }, remote = { stack, STACK };
		syscall(SYS_tgkill, getpid(), atomic_load(&victim), SIGURG);
		if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != STACK)
			return -1;
		seen += !!memmem(copy, STACK, &cookie, sizeof cookie);
	}
	return seen;
}

/* A child that we trace ourselves, from call to call. */
static unsigned long seen_by_tracer(unsigned long *stops)
{
	unsigned long seen = 0;
	int status;
	pid_t pid = fork();
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		for (int i = 0; i < 50; i++)
			binds(OWN);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	while (!ptrace(PTRACE_SYSCALL, pid, 0, 0) && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		struct user_regs_struct regs;
		ptrace(PTRACE_GETREGS, pid, 0, &regs);
		seen += !!memmem(&regs, sizeof regs, &cookie, sizeof cookie);
		++*stops;
	}
	return seen;
}

static bool is_secret(long fd)
{
	char text[8] = "";
	struct stat st;
	bool found = fd >= 0 && (!fstat(fd, &st) &&
				 (S_ISDIR(st.st_mode) || pread(fd, text, 6, 0) <= 0 || !memcmp(text, "SECRET", 6)));
	if (fd >= 0)
		close(fd);
	return found;
}

static void say(const char *call, bool got)
{
	printf("%s %s\n", call, got ? "GOT" : "nothing");
	fflush(stdout);
}

static bool runs(bool at)
{
	static char *const argv[] = { "prog", NULL }, *const envp[] = { NULL };
	int status;
	const char *name = in("%s/sec/prog", top);
	pid_t pid = fork();
	if (!pid) {
		if (at)
			syscall(SYS_execveat, AT_FDCWD, name, argv, envp, 0, cookie);
		else
			syscall(SYS_execve, name, argv, envp, 0, 0, cookie);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) == 42;
}

static bool sends(int how)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct iovec vector = { "x", 1 };
	struct mmsghdr message = {
		.msg_hdr = { .msg_name = &un, .msg_namelen = sizeof un, .msg_iov = &vector, .msg_iovlen = 1 }
	};
	int fd = socket(AF_UNIX, (how == SYS_connect ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK, 0);
	snprintf(un.sun_path, sizeof un.sun_path, "%s/sec/%s", top, how == SYS_connect ? "sock" : "dgram");
	long result = how == SYS_connect   ? syscall(SYS_connect, fd, &un, sizeof un, 0, 0, cookie)
		      : how == SYS_sendmsg ? syscall(SYS_sendmsg, fd, &message.msg_hdr, 0, 0, 0, cookie)
					   : syscall(SYS_sendmmsg, fd, &message, 1, 0, 0, cookie);
	close(fd);
	return result >= 0;
}

static bool binds_there(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(un.sun_path, sizeof un.sun_path, "%s/sec/new", top);
	bool done = !syscall(SYS_bind, fd, &un, sizeof un, 0, 0, cookie);
	unlink(un.sun_path);
	close(fd);
	return done;
}

static void use(void)
{
	struct open_how how = { .flags = O_RDONLY }, only = { .flags = O_PATH };
	struct stat st;
	const char *file = strdup(in("%s/sec/file", top)), *directory = strdup(in("%s/sec", top));
	int watch = inotify_init1(IN_CLOEXEC);

	say("open", is_secret(syscall(SYS_open, file, O_RDONLY, 0, 0, 0, cookie)));
	say("openat", is_secret(syscall(SYS_openat, AT_FDCWD, file, O_RDONLY, 0, 0, cookie)));
	say("openat-path", is_secret(syscall(SYS_openat, AT_FDCWD, file, O_PATH, 0, 0, cookie)));
	say("openat-directory", is_secret(syscall(SYS_openat, AT_FDCWD, directory, O_RDONLY, 0, 0, cookie)));
	say("openat2", is_secret(syscall(SYS_openat2, AT_FDCWD, file, &how, sizeof how, 0, cookie)));
	say("openat2-path", is_secret(syscall(SYS_openat2, AT_FDCWD, file, &only, sizeof only, 0, cookie)));
	say("stat", !syscall(SYS_newfstatat, AT_FDCWD, file, &st, 0, 0, cookie));
	say("truncate-ro", !syscall(SYS_truncate, in("%s/rot/file", top), 3, 0, 0, 0, cookie));
	say("chmod-ro", !syscall(SYS_chmod, in("%s/rot/file", top), 0604, 0, 0, 0, cookie));
	say("inotify_add_watch", syscall(SYS_inotify_add_watch, watch, file, IN_OPEN, 0, 0, cookie) >= 0);
	say("connect", sends(SYS_connect));
	say("sendmsg", sends(SYS_sendmsg));
	say("sendmmsg", sends(SYS_sendmmsg));
	say("bind", binds_there());
	say("execve", runs(false));
	say("execveat", runs(true));
	bool entered = !syscall(SYS_chdir, directory, 0, 0, 0, 0, cookie);
	say("chdir", entered && !stat("file", &st));
	if (chdir("/"))
		exit(3);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
	pthread_attr_t attributes;
	pthread_t thread;
	unsigned long stops = 0, in_memory, traced;

	if (argc < 2)
		return 2;
	top = argv[1];
	if (argc > 2) {
		cookie = OWN;
		use();
		return 0;
	}
	sigaction(SIGURG, &action, NULL);
	pthread_attr_init(&attributes);
	pthread_attr_setstack(&attributes, stack, STACK);
	pthread_create(&thread, &attributes, bind_on, NULL);
	long looks = learn();
	if (!looks) {
		printf("learnt never\n");
		return 0;
	}
	printf("learnt %ld\n", looks);
	in_memory = seen_in_memory();
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	traced = seen_by_tracer(&stops);
	printf("seen-by-memory %ld\nseen-by-frame %lu\nseen-by-tracer %lu\n", in_memory, in_frames, traced);
	printf("# frames %lu stops %lu\n", frames, stops);
	printf("frames %s\n", frames && stops > 100 ? "yes" : "no");
	int own = binds(OWN), with = binds(cookie);
	printf("# bind %d, with it %d\n", own, with);
	printf("genuine %s\n", !own && with < 0 && with != own ? "yes" : "no");
	use();
	return 0;
}
