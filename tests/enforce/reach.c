/*
 * reach TOP OUTSIDE: every way but racing to what a view withholds; one line "ATTACK what came of it" each.
 *
 * "GOT" is what an attack says when it has reached something. TOP is the tree of tree.py; OUTSIDE a process of the same user
 * outside of the view, which has TOP/sec as its working directory and TOP/sec/file open as descriptor 9, and readable memory
 * at the address in the variable AT. DIRECTORY and PATHONLY are descriptors of TOP/sec that were handed in, the second
 * with O_PATH. With KEEPERS those who keep up the view are attacked, too. CONTROL names the daemon's socket.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static const char *top;
static char path[4096];

static const char *in(const char *format, ...)
{
	va_list list;
	__builtin_va_start(list, format);
	vsnprintf(path, sizeof path, format, list);
	__builtin_va_end(list);
	return path;
}

static void say(const char *attack, int got)
{
	printf("%s %s\n", attack, got > 0 ? "GOT" : "nothing");
	fflush(stdout);
}

static int secret_in(int fd)
{
	char text[4096];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
	if (fd >= 0)
		close(fd);
	return n > 0 && memmem(text, n, "SECRET", 6);
}

static int opens(const char *name)
{
	return secret_in(open(name, O_RDONLY));
}

static int lists(int fd)
{
	char text[4096];
	if (fd < 0)
		return 0;
	lseek(fd, 0, SEEK_SET);
	ssize_t n = syscall(SYS_getdents64, fd, text, sizeof text);
	return n > 0 && memmem(text, n, "prog", 4);
}

/* In a child, which may spoil itself. */
static int child(int (*attack)(const char *), const char *argument)
{
	int status;
	pid_t pid = fork();
	if (!pid)
		_exit(attack(argument) > 0 ? 42 : 0);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) == 42;
}

static int any_secret(const char *unused)
{
	(void)unused;
	struct stat st;
	return opens(in("%s/sec/file", top)) || !stat(in("%s/sec", top), &st) || opens("file");
}

static int in_user_namespace(const char *how)
{
	if (!strcmp(how, "clone3")) {
		struct clone_args args = { .flags = CLONE_NEWUSER | CLONE_NEWNS, .exit_signal = SIGCHLD };
		int status;
		pid_t pid = syscall(SYS_clone3, &args, sizeof args);
		if (pid < 0)
			return 0;
		if (pid) {
			waitpid(pid, &status, 0);
			return WIFEXITED(status) && WEXITSTATUS(status) == 42;
		}
	} else if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
		return any_secret(NULL);
	}
	int got = 0;
	mkdir(in("%s/pub/at", top), 0755);
	char at[4096], from[4096];
	strcpy(at, path);
	snprintf(from, sizeof from, "%s/sec", top);
	got |= !mount(from, at, NULL, MS_BIND | MS_REC, NULL);
	got |= !mount(top, at, NULL, MS_BIND, NULL);
	got |= syscall(SYS_open_tree, AT_FDCWD, top, 1) >= 0;
	got |= !mount("tmpfs", at, "tmpfs", 0, NULL);
	got |= !umount2(in("%s/mnt", top), MNT_DETACH);
	chroot(top);
	got |= opens("/sec/file") || opens("sec/file") || opens("../sec/file");
	_exit(got || any_secret(NULL) ? 42 : 0);
}

static int chroot_tricks(const char *unused)
{
	(void)unused;
	int here = open("/", O_RDONLY | O_DIRECTORY), got = 0;
	if (chroot(in("%s/pub", top)) == 0) {
		fchdir(here);
		for (int i = 0; i < 20; i++)
			chdir("..");
		got = opens(in("%s/sec/file", top + 1)) || opens("sec/file") || opens("../sec/file");
	}
	return got || any_secret(NULL);
}

static int handed_in(int fd)
{
	struct stat st;
	int got = secret_in(openat(fd, "file", O_RDONLY)) || lists(fd) || !fstatat(fd, "file", &st, 0);
	got |= secret_in(openat(fd, "../sec/file", O_RDONLY));
	got |= secret_in(open(in("/proc/self/fd/%d/file", fd), O_RDONLY)) ||
	       lists(open(in("/dev/fd/%d", fd), O_RDONLY));
	got |= lists(openat(fd, ".", O_RDONLY | O_DIRECTORY));
	if (fchdir(fd) == 0) {
		got |= opens("file") || opens("../sec/file") || lists(open(".", O_RDONLY)) || !chmod("file", 0600) ||
		       !link("file", in("%s/pub/stolen", top)) || !stat("file", &st);
		chdir("/");
	}
	return got;
}

static int process_memory(pid_t pid, uintptr_t at)
{
	char text[8] = "";
	struct iovec local = { text, 6 }, remote = { (void *)at, 6 };
	return process_vm_readv(pid, &local, 1, &remote, 1, 0) == 6;
}

static int descriptors_of(pid_t pid)
{
	int fd = syscall(SYS_pidfd_open, pid, 0), got = 0;
	for (int i = 0; i < 64; i++)
		got |= syscall(SYS_pidfd_getfd, fd, i, 0) >= 0;
	return got;
}

static int files_of(pid_t pid)
{
	static const char *const names[] = { "mem",   "environ", "maps",  "auxv",        "syscall",
					     "stack", "pagemap", "io",    "personality", "map_files",
					     "fd",    "fdinfo",  "smaps", "task/%d/mem", "task/%d/environ" };
	char name[64], text[64];
	int got = 0;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(name, sizeof name, names[i], pid);
		int fd = open(in("/proc/%d/%s", pid, name), O_RDONLY);
		if (fd >= 0 && (strstr(name, "mem") || strstr(name, "map_files") || !strcmp(name, "fd") ||
				read(fd, text, sizeof text) > 0)) {
			printf("# /proc/%d/%s\n", pid, name);
			got = 1;
		}
	}
	got |= open(in("/proc/%d/mem", pid), O_RDWR) >= 0;
	for (int i = 0; i < 64; i++) {
		got |= open(in("/proc/%d/fd/%d", pid, i), O_RDONLY | O_NONBLOCK) >= 0;
		got |= open(in("/proc/%d/fd/%d", pid, i), O_PATH) >= 0;
		got |= readlink(path, text, sizeof text) >= 0;
	}
	return got;
}

static int signals(pid_t pid)
{
	int fd = syscall(SYS_pidfd_open, pid, 0);
	union sigval value = { 0 };
	return !kill(pid, SIGURG) || !syscall(SYS_tgkill, pid, pid, SIGURG) || !syscall(SYS_tkill, pid, SIGURG) ||
	       !sigqueue(pid, SIGURG, value) || !syscall(SYS_pidfd_send_signal, fd, SIGURG, NULL, 0);
}

static int traces(pid_t pid)
{
	if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0 || ptrace(PTRACE_ATTACH, pid, 0, 0) == 0) {
		ptrace(PTRACE_DETACH, pid, 0, 0);
		return 1;
	}
	return 0;
}

/* A connection is had even where the daemon then refuses: whether it obeys is the test's to see. */
static int control(const char *name)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	snprintf(un.sun_path, sizeof un.sun_path, "%s", name);
	return !connect(fd, (void *)&un, sizeof un);
}

static int tag_can_change(void)
{
	struct rlimit none = { 7, RLIM_INFINITY }, now = { 0 }, parents;
	setrlimit(RLIMIT_LOCKS, &none);
	prlimit(0, RLIMIT_LOCKS, &none, NULL);
	prlimit(getppid(), RLIMIT_LOCKS, &none, &parents);
	prlimit(getppid(), RLIMIT_LOCKS, &parents, NULL); /* natively it is the test runner's own */
	prlimit(getpid(), RLIMIT_LOCKS, &none, NULL);
	/* The file is not the call: it tells the truth. */
	char line[256];
	FILE *file = fopen("/proc/self/limits", "r");
	while (file && fgets(line, sizeof line, file))
		if (!strncmp(line, "Max file locks", 14) && strtoull(line + 14, NULL, 10) == 7)
			now.rlim_cur = 7;
	return now.rlim_cur == 7;
}

static int second_filter(const char *listener)
{
	struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog program = { 1, code };
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (*listener)
		return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program) >= 0;
	syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
	return any_secret(NULL);
}

/* getpid, open of the i386 table, and of x32's. */
static int foreign_calls(const char *unused)
{
	(void)unused;
	long result;
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(20), "b"(0), "c"(0), "d"(0)
			 : "memory", "r8", "r9", "r10", "r11");
	return result == getpid() || syscall(0x40000000 | SYS_getppid) == getppid();
}

static int makes_hard_link(void)
{
	char from[4096], to[4096];
	snprintf(from, sizeof from, "%s/sec/file", top);
	snprintf(to, sizeof to, "%s/pub/stolen", top);
	return (!link(from, to) || !linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW)) && opens(to);
}

/* What is read-only stays so under another name, too. */
static int writes_read_only(void)
{
	char from[4096], to[4096];
	snprintf(from, sizeof from, "%s/rot/file", top);
	snprintf(to, sizeof to, "%s/pub/rw", top);
	link(from, to);
	int fd = open(to, O_WRONLY), got = fd >= 0 && write(fd, "x", 1) == 1;
	fd = open(from, O_RDONLY);
	got |= open(in("/proc/self/fd/%d", fd), O_WRONLY) >= 0 || open(from, O_WRONLY) >= 0 || !rename(from, to);
	got |= !fchmod(fd, 0600) || !syscall(SYS_utimensat, fd, NULL, NULL, 0) || !fchown(fd, -1, getegid());
	return got | !syscall(SYS_fchmodat2, fd, "", 0600, AT_EMPTY_PATH);
}

static int by_names(void)
{
	static const char *const forms[] = {
		"%s/sec/file",
		"/proc/self/root%s/sec/file",
		"/proc/thread-self/root%s/sec/file",
		"/proc/1/root%s/sec/file",
		"/proc/self/task/../root%s/sec/file",
		"/proc/self/cwd/../../../../../../..%s/sec/file",
		"%s/pub/../sec/file",
		"%s/flop/file",
		"%s/pub/to",
		"%s/./sec//file",
		"%s/sec/dir/../file",
		"%s/y/d/file",
		"%s/mnt/file",
		"%s/tmp/file",
	};
	int got = 0;
	symlink("../sec/file", in("%s/pub/to", top));
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		struct open_how how = { .flags = O_RDONLY };
		in(forms[i], top);
		int found = opens(path) || secret_in(syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how));
		if (found)
			printf("# %s\n", path);
		got |= found;
	}
	return got;
}

static int moves_ancestor(void)
{
	char from[4096], to[4096];
	snprintf(from, sizeof from, "%s", top);
	snprintf(to, sizeof to, "%s2", top);
	int got = 0;
	if (!rename(from, to)) {
		got = opens(in("%s2/sec/file", top));
		rename(to, from);
	}
	snprintf(from, sizeof from, "%s/y", top);
	snprintf(to, sizeof to, "%s/z", top);
	if (!rename(from, to)) {
		got |= opens(in("%s/z/d/file", top));
		rename(to, from);
	}
	return got;
}

static int reopens(void)
{
	int fd = open(in("%s/sec", top), O_PATH), got = fd >= 0;
	got |= open(in("%s/sec/file", top), O_PATH) >= 0;
	got |= lists(open(in("/proc/self/fd/%d", fd), O_RDONLY));
	return got;
}

static int exec_exists(void)
{
	char *none[] = { NULL };
	return !syscall(SYS_execveat, AT_FDCWD, in("%s/sec/prog", top), none, none, 0x10000);
}

static void attack_process(const char *who, pid_t pid, const char *at)
{
	char name[64];
	snprintf(name, sizeof name, "signal-%s", who);
	say(name, signals(pid));
	snprintf(name, sizeof name, "ptrace-%s", who);
	say(name, traces(pid));
	snprintf(name, sizeof name, "memory-%s", who);
	/* Only of the one process the address is known; of the others any readable page would do. */
	say(name, process_memory(pid, at ? strtoull(at, NULL, 0) : 0x400000));
	snprintf(name, sizeof name, "pidfd_getfd-%s", who);
	say(name, descriptors_of(pid));
	snprintf(name, sizeof name, "proc-%s", who);
	say(name, files_of(pid));
}

static pid_t parent_of(pid_t pid)
{
	char text[512];
	int parent = 0, fd = open(in("/proc/%d/stat", pid), O_RDONLY);
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n > 0) {
		text[n] = 0;
		sscanf(strrchr(text, ')') + 2, "%*c %d", &parent);
	}
	return parent;
}

/* Who keeps up the view: the keeper, the front, and all that is called vuosd. */
static void attack_keepers(const char *at)
{
	char comm[32];
	pid_t keeper = getppid();
	attack_process("keeper", keeper, at);
	attack_process("front", parent_of(keeper), at);
	DIR *directory = opendir("/proc");
	for (struct dirent *entry; (entry = readdir(directory));) {
		int fd = open(in("/proc/%s/comm", entry->d_name), O_RDONLY);
		ssize_t n = fd < 0 ? 0 : read(fd, comm, sizeof comm - 1);
		if (fd >= 0)
			close(fd);
		if (n <= 0)
			continue;
		comm[n - 1] = 0;
		if (!strncmp(comm, "vuosd", 5))
			attack_process(comm, atoi(entry->d_name), at);
	}
	closedir(directory);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	top = argv[1];
	pid_t outside = atoi(argv[2]);
	const char *at = getenv("AT"), *socket_name = getenv("CONTROL");
	say("names", by_names());
	say("outside-cwd", opens(in("/proc/%d/cwd/file", outside)));
	say("outside-root", opens(in("/proc/%d/root%s/sec/file", outside, top)));
	say("outside-fd", opens(in("/proc/%d/fd/9", outside)));
	say("reopen", reopens());
	say("hard-link", makes_hard_link());
	say("read-only", writes_read_only());
	say("ancestor", moves_ancestor());
	say("exec-check", exec_exists());
	say("user-namespace", child(in_user_namespace, "unshare"));
	say("user-namespace-clone3", child(in_user_namespace, "clone3"));
	say("chroot", child(chroot_tricks, ""));
	say("io_uring", syscall(SYS_io_uring_setup, 4, (char[128]){ 0 }) >= 0);
	say("second-filter", child(second_filter, ""));
	say("foreign-calls", child(foreign_calls, ""));
	say("tag", tag_can_change());
	say("handed-in", handed_in(atoi(getenv("DIRECTORY"))));
	say("handed-in-path", handed_in(atoi(getenv("PATHONLY"))));
	for (int i = 2; i < argc; i++)
		attack_process(i == 2 ? "outside" : "more", atoi(argv[i]), at);
	if (getenv("KEEPERS"))
		attack_keepers(at);
	if (socket_name)
		say("control", control(socket_name));
	return 0;
}
