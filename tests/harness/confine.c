/*
 * confine PLACE... -- COMMAND: run a command as in another place than this machine, without changing the machine for others.
 *
 * no-userns   user namespaces cannot be made (as under user.max_user_namespaces=0)
 * no-fuse     /dev has no fuse (a private mount namespace; needs root or a user namespace)
 * fuse        everybody may open /dev/fuse, as on most machines (the same; needs root where it is not so)
 * docker      Docker's default seccomp profile and, for root, its capabilities
 * ancestors   memory and ptrace of others are refused, as Yama's ptrace_scope 1 does to one who is no ancestor. For the
 *             daemon, which is no ancestor of anything in a view; the launcher, which is, runs outside of this
 *
 * The last wants /proc/PID/mem refused too, which no filter can tell from another open: a supervisor of our own (a seccomp
 * listener again, over openat) looks at the path. Landlock's ptrace rule would be simpler, but it also refuses what Yama lets
 * through: reading /proc/PID/cwd, maps, exe.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void die(const char *what)
{
	fprintf(stderr, "confine: %s: %s\n", what, strerror(errno));
	exit(125);
}

/* ---- filters ---- */

static struct sock_filter code[4096];
static unsigned code_length;

static void emit(uint16_t op, uint32_t k, uint8_t jt, uint8_t jf)
{
	code[code_length++] = (struct sock_filter)BPF_JUMP(op, k, jt, jf);
}

static void load(size_t offset)
{
	emit(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void begin(void)
{
	code_length = 0;
	load(offsetof(struct seccomp_data, arch));
	emit(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	emit(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	load(offsetof(struct seccomp_data, nr));
}

static void on_call(uint32_t nr, uint32_t action)
{
	emit(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1);
	emit(BPF_RET | BPF_K, action, 0, 0);
}

/* When argument `argument` has one of `bits`. */
static void on_bits(uint32_t nr, int argument, uint32_t bits, uint32_t action)
{
	emit(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4);
	load(offsetof(struct seccomp_data, args) + 8 * (size_t)argument);
	emit(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
	emit(BPF_RET | BPF_K, action, 0, 0);
	load(offsetof(struct seccomp_data, nr));
}

static int install(unsigned flags)
{
	struct sock_fprog program = { (unsigned short)code_length, code };
	int fd;

	emit(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
	program.len = (unsigned short)code_length;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die("no_new_privs");
	fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
	if (fd < 0)
		die("seccomp");
	return fd;
}

#define FAIL(number) (SECCOMP_RET_ERRNO | (number))
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

static void no_userns(void)
{
	begin();
	on_bits(__NR_unshare, 0, CLONE_NEWUSER, FAIL(ENOSPC));
	on_bits(__NR_clone, 0, CLONE_NEWUSER, FAIL(ENOSPC));
	on_call(__NR_clone3, FAIL(ENOSYS)); /* its flags are in memory */
	install(0);
}

static void docker(void)
{
	/* What moby's profiles/seccomp/default.json leaves out, or allows only with a capability that Docker does not give. */
	static const uint32_t refused[] = {
		__NR_acct,
		__NR_add_key,
		__NR_bpf,
		__NR_clock_settime,
		__NR_create_module,
		__NR_delete_module,
		__NR_fanotify_init,
		__NR_finit_module,
		__NR_fsconfig,
		__NR_fsmount,
		__NR_fsopen,
		__NR_fspick,
		__NR_get_kernel_syms,
		__NR_get_mempolicy,
		__NR_init_module,
		__NR_io_uring_enter,
		__NR_io_uring_register,
		__NR_io_uring_setup,
		__NR_ioperm,
		__NR_iopl,
		__NR_kcmp,
		__NR_kexec_file_load,
		__NR_kexec_load,
		__NR_keyctl,
		__NR_lookup_dcookie,
		__NR_mbind,
		__NR_mount,
		__NR_mount_setattr,
		__NR_move_mount,
		__NR_move_pages,
		__NR_migrate_pages,
		__NR_nfsservctl,
		__NR_open_by_handle_at,
		__NR_open_tree,
		__NR_perf_event_open,
		__NR_pidfd_getfd,
		__NR_pivot_root,
		__NR_process_madvise,
		__NR_query_module,
		__NR_quotactl,
		__NR_quotactl_fd,
		__NR_reboot,
		__NR_request_key,
		__NR_set_mempolicy,
		__NR_setdomainname,
		__NR_sethostname,
		__NR_setns,
		__NR_settimeofday,
		__NR_swapoff,
		__NR_swapon,
		__NR_syslog,
		__NR_sysfs,
		__NR_umount2,
		__NR_unshare,
		__NR_uselib,
		__NR_userfaultfd,
		__NR_ustat,
		__NR_vhangup,
		__NR__sysctl,
		__NR_adjtimex + 0x100000,
	};
	static const int kept[] = {
		/* capabilities(7) of a container */
		CAP_CHOWN,   CAP_DAC_OVERRIDE, CAP_FSETID,           CAP_FOWNER,
		CAP_MKNOD,   CAP_NET_RAW,      CAP_SETGID,           CAP_SETUID,
		CAP_SETFCAP, CAP_SETPCAP,      CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT,
		CAP_KILL,    CAP_AUDIT_WRITE,
	};
	uint64_t keep = 0;
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	if (geteuid() == 0) {
		for (size_t i = 0; i < COUNT(kept); i++)
			keep |= 1ull << kept[i];
		for (int capability = 0; capability < 64; capability++)
			if (!(keep >> capability & 1))
				prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
		for (int i = 0; i < 2; i++) {
			data[i].effective = data[i].permitted = (uint32_t)(keep >> (32 * i));
			data[i].inheritable = 0;
		}
		if (syscall(SYS_capset, &header, data) < 0)
			die("capset");
	}
	begin();
	for (size_t i = 0; i < COUNT(refused); i++)
		on_call(refused[i], FAIL(EPERM));
	on_call(__NR_clone3, FAIL(ENOSYS));
	on_bits(__NR_clone, 0,
		CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |
			CLONE_NEWCGROUP,
		FAIL(EPERM));
	/* Calls younger than the profile: runc answers ENOSYS so that libraries fall back. */
	emit(BPF_JMP | BPF_JGE | BPF_K, 462, 0, 1);
	emit(BPF_RET | BPF_K, FAIL(ENOSYS), 0, 0);
	install(0);
}

/* ---- ancestors ---- */

static int is_memory_of_another(pid_t target, const char *path)
{
	char *end;
	const char *rest = path;

	if (!strncmp(rest, "/proc/", 6))
		rest += 6;
	if (!strncmp(rest, "self/", 5) || !strncmp(rest, "thread-self/", 12))
		return 0;
	if (strtol(rest, &end, 10) == target)
		return 0;
	if (end != rest && *end == '/')
		rest = end + 1;
	if (!strncmp(rest, "task/", 5)) {
		strtol(rest + 5, &end, 10);
		rest = *end == '/' ? end + 1 : end;
	}
	return !strcmp(rest, "mem");
}

static void watch(int listener)
{
	struct seccomp_notif request;
	struct seccomp_notif_resp answer;
	struct pollfd wait = { listener, POLLIN, 0 };
	char path[256];

	for (;;) {
		if (poll(&wait, 1, -1) < 0 || (wait.revents & (POLLHUP | POLLERR | POLLNVAL)))
			_exit(0);
		memset(&request, 0, sizeof request);
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request) < 0)
			continue;
		int argument = request.data.nr == __NR_open ? 0 : 1;
		uint64_t address = request.data.args[argument];
		size_t room = 4096 - address % 4096;
		struct iovec local = { path, sizeof path - 1 < room ? sizeof path - 1 : room },
			     remote = { (void *)(uintptr_t)address, local.iov_len };
		ssize_t n = process_vm_readv((pid_t)request.pid, &local, 1, &remote, 1, 0);
		path[n < 0 ? 0 : n] = 0;
		memset(&answer, 0, sizeof answer);
		answer.id = request.id;
		if (is_memory_of_another((pid_t)request.pid, path))
			answer.error = -EACCES; /* what open(2) of /proc/PID/mem says */
		else
			answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

static void ancestors(void)
{
	static const uint32_t calls[] = { __NR_process_vm_readv, __NR_process_vm_writev, __NR_pidfd_getfd };
	int number[2], listener;
	pid_t watcher;

	/* The watcher is the child, so that COMMAND keeps the process id; a table shared until exec gives it the listener. */
	if (pipe2(number, O_CLOEXEC) < 0)
		die("pipe");
	watcher = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
	if (watcher < 0)
		die("clone");
	if (watcher == 0) {
		if (read(number[0], &listener, sizeof listener) != sizeof listener)
			_exit(1);
		unshare(CLONE_FILES);
		/* Only the listener stays: an end of somebody's pipe kept here would never give its EOF. */
		if (dup2(listener, 0) < 0 || syscall(SYS_close_range, 1, ~0u, 0) < 0)
			_exit(1);
		setsid();
		watch(0);
	}
	begin();
	for (size_t i = 0; i < COUNT(calls); i++)
		on_call(calls[i], FAIL(EPERM));
	/* Of its own children a process may: but nothing of ours traces those, so all is refused. TRACEME asks for it, and may. */
	emit(BPF_JMP | BPF_JEQ | BPF_K, __NR_ptrace, 0, 4);
	load(offsetof(struct seccomp_data, args));
	emit(BPF_JMP | BPF_JEQ | BPF_K, PTRACE_TRACEME, 1, 0);
	emit(BPF_RET | BPF_K, FAIL(EPERM), 0, 0);
	load(offsetof(struct seccomp_data, nr));
	on_call(__NR_open, SECCOMP_RET_USER_NOTIF);
	on_call(__NR_openat, SECCOMP_RET_USER_NOTIF);
	on_call(__NR_openat2, SECCOMP_RET_USER_NOTIF);
	listener = install(SECCOMP_FILTER_FLAG_NEW_LISTENER);
	if (write(number[1], &listener, sizeof listener) != sizeof listener)
		die("write");
	/* The child's close of its copy is the child's alone only after its unshare; the exec below unshares ours. */
}

/* ---- no-fuse ---- */

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

static void no_fuse(void)
{
	char place[] = "/tmp/confine-dev-XXXXXX", from[PATH_MAX], to[PATH_MAX], text[PATH_MAX], map[64];
	struct dirent *entry;
	struct stat st;
	uid_t uid = geteuid();
	gid_t gid = getegid();
	DIR *dev;

	if (access("/dev/fuse", F_OK) < 0)
		return;
	if (unshare(CLONE_NEWNS) < 0) {
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
			die("unshare");
		write_text("/proc/self/setgroups", "deny");
		snprintf(map, sizeof map, "%u %u 1", uid, uid);
		write_text("/proc/self/uid_map", map);
		snprintf(map, sizeof map, "%u %u 1", gid, gid);
		write_text("/proc/self/gid_map", map);
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		die("private");
	if (!mkdtemp(place) || mount("confine", place, "tmpfs", MS_NOSUID, "mode=755") < 0)
		die("tmpfs");
	dev = opendir("/dev");
	while ((entry = readdir(dev))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || !strcmp(entry->d_name, "fuse"))
			continue;
		snprintf(from, sizeof from, "/dev/%s", entry->d_name);
		snprintf(to, sizeof to, "%s/%s", place, entry->d_name);
		if (lstat(from, &st) < 0)
			continue;
		if (S_ISLNK(st.st_mode)) {
			ssize_t n = readlink(from, text, sizeof text - 1);
			text[n < 0 ? 0 : n] = 0;
			if (symlink(text, to) < 0)
				die(to);
			continue;
		}
		if (S_ISDIR(st.st_mode))
			mkdir(to, 0755);
		else
			close(open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		if (mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0)
			die(from);
	}
	closedir(dev);
	if (mount(place, "/dev", NULL, MS_MOVE, NULL) < 0)
		die("/dev");
	rmdir(place);
}

/* ---- fuse ---- */

static void fuse(void)
{
	char place[] = "/tmp/confine-fuse-XXXXXX", node[PATH_MAX];
	struct stat st;

	if (stat("/dev/fuse", &st) < 0)
		die("/dev/fuse");
	if ((st.st_mode & 0666) == 0666)
		return;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		die("private");
	if (!mkdtemp(place) || mount("confine", place, "tmpfs", MS_NOSUID, "mode=755") < 0)
		die(place);
	snprintf(node, sizeof node, "%s/fuse", place);
	if (mknod(node, S_IFCHR, st.st_rdev) < 0 || chmod(node, 0666) < 0 ||
	    mount(node, "/dev/fuse", NULL, MS_BIND, NULL) < 0)
		die(node);
	if (umount2(place, MNT_DETACH) < 0 || rmdir(place) < 0)
		die(place);
}

/* ---- who ---- */

static void become(const char *ids)
{
	char *end;
	uid_t uid = (uid_t)strtoul(ids, &end, 10);
	gid_t gid = (gid_t)strtoul(end + 1, NULL, 10);

	if (syscall(SYS_setgroups, 0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		die("setuid");
}

int main(int argc, char **argv)
{
	int i = 1;

	for (; i < argc && strcmp(argv[i], "--"); i++) {
		if (!strcmp(argv[i], "no-userns"))
			no_userns();
		else if (!strcmp(argv[i], "no-fuse"))
			no_fuse();
		else if (!strcmp(argv[i], "fuse"))
			fuse();
		else if (!strcmp(argv[i], "docker"))
			docker();
		else if (!strcmp(argv[i], "ancestors"))
			ancestors();
		else if (!strncmp(argv[i], "user=", 5))
			become(argv[i] + 5);
		else
			break;
	}
	if (i + 1 >= argc || strcmp(argv[i], "--")) {
		fprintf(stderr,
			"usage: confine [no-fuse|fuse] [user=UID:GID] [no-userns] [docker] [ancestors] -- COMMAND "
			"[ARG…]\n");
		return 125;
	}
	execvp(argv[i + 1], argv + i + 1);
	die(argv[i + 1]);
}
