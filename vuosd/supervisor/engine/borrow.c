#include "borrow.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc's wrappers would change all threads. The file system ids become the effective ones: kernel/sys.c. */
static void set_real(uid_t uid, gid_t gid)
{
	syscall(SYS_setresgid, gid, -1, -1);
	syscall(SYS_setresuid, uid, -1, -1);
}

/* Leaving user 0 has taken some from the effective set; the target may have them: security/commoncap.c cap_ptrace_access_check. */
static void raise_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return;
	for (int i = 0; i < 2; i++)
		data[i].effective = data[i].permitted;
	syscall(SYS_capset, &header, data);
}

void vu_borrow(int proc, pid_t tid, struct vu_borrowed *borrowed)
{
	char path[32], text[1024]; /* Uid and Gid are among the first lines: fs/proc/array.c */
	unsigned uid[3], gid[3];

	borrowed->taken = false;
	snprintf(path, sizeof(path), "%d/status", tid);
	int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	const char *users = strstr(text, "\nUid:"), *groups = strstr(text, "\nGid:");
	if (!users || sscanf(users, "\nUid: %u %u %u", &uid[0], &uid[1], &uid[2]) != 3 || !groups ||
	    sscanf(groups, "\nGid: %u %u %u", &gid[0], &gid[1], &gid[2]) != 3)
		return;
	if (uid[0] != uid[1] || uid[0] != uid[2] || gid[0] != gid[1] || gid[0] != gid[2])
		return;
	borrowed->fsgid = (int)syscall(SYS_setfsgid, -1);
	borrowed->fsuid = (int)syscall(SYS_setfsuid, -1);
	if (uid[0] == getuid() && gid[0] == getgid() && (int)uid[0] == borrowed->fsuid &&
	    (int)gid[0] == borrowed->fsgid)
		return;
	borrowed->taken = true;
	set_real(uid[0], gid[0]);
	syscall(SYS_setfsgid, gid[0]);
	syscall(SYS_setfsuid, uid[0]);
	raise_capabilities();
}

void vu_give_back(struct vu_borrowed *borrowed)
{
	if (!borrowed->taken)
		return;
	int saved = errno;

	set_real(geteuid(), getegid());
	syscall(SYS_setfsgid, borrowed->fsgid);
	syscall(SYS_setfsuid, borrowed->fsuid);
	borrowed->taken = false;
	errno = saved;
}
