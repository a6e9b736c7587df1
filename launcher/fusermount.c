/*
 * Stands in for fusermount and fusermount3, fusermount3(1), in views in a container whose own filter refuses mount(2): the engine executes
 * it by whatever path a program of that name is asked for (op_execve.c). It needs no privilege, since it is the view's supervisor that mounts.
 *
 * A FUSE library starts it with a socket's number in _FUSE_COMMFD and the options of the mount, and is sent the /dev/fuse that it is to
 * serve, with one byte. With auto_unmount it stays, and unmounts when the other end of the socket closes: the server has ended.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct options {
	char type[OPTIONS_MAX], source[OPTIONS_MAX];
	char rest[OPTIONS_MAX]; /* the mount's and the file system's own */
	bool auto_unmount;
};

/* Up to the next comma that no backslash stands before; copied without the backslashes if `plain`. */
static const char *word(const char *text, char *out, bool plain)
{
	while (*text && *text != ',') {
		if (*text == '\\' && text[1]) {
			if (!plain)
				*out++ = *text;
			text++;
		}
		*out++ = *text++;
	}
	*out = '\0';
	return *text ? text + 1 : text;
}

/* Those that name the mount are said otherwise to mount(2); fusermount3 drops the same others. */
static int sort(const char *list, const char *device, struct options *options)
{
	char subtype[OPTIONS_MAX] = "", one[OPTIONS_MAX];
	const char *kind = "fuse";

	if (strlen(list) >= OPTIONS_MAX - 64)
		return failed("the options are longer than mount(2) takes, a page");
	snprintf(options->rest, sizeof options->rest, "%s", device);
	while (*list) {
		const char *here = list;
		list = word(here, one, false);
		if (!strncmp(one, "fsname=", 7))
			word(here + 7, options->source, true);
		else if (!strncmp(one, "subtype=", 8))
			word(here + 8, subtype, true);
		else if (!strcmp(one, "blkdev"))
			kind = "fuseblk";
		else if (!strcmp(one, "auto_unmount"))
			options->auto_unmount = true;
		else if (*one && strcmp(one, "nonempty") && strncmp(one, "x-", 2))
			strcat(strcat(options->rest, ","), one); /* all of them are shorter than the list */
	}
	snprintf(options->type, sizeof options->type, "%s%s%.4000s", kind, *subtype ? "." : "", subtype);
	if (!*options->source)
		snprintf(options->source, sizeof options->source, "%s", *subtype ? subtype : "/dev/fuse");
	return 0;
}

static int send_device(int sock, int device)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof device)];
	} control = {
		.header = { .cmsg_len = CMSG_LEN(sizeof device), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS }
	};
	char byte = 0;
	struct iovec one = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &one, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room
	};

	memcpy(CMSG_DATA(&control.header), &device, sizeof device);
	return sendmsg(sock, &message, MSG_NOSIGNAL) < 0 ? failed(strerror(errno)) : 0;
}

/*
 * Whatever ends the server: signals of its terminal are not for us. A descriptor that only names the device, and does not keep it open, tells
 * the supervisor that we belong to the server, and are no reason for the session to go on.
 */
static int unmount_at_the_end(int sock, int device, const char *target)
{
	char path[32], byte;
	ssize_t got;

	snprintf(path, sizeof path, "/proc/self/fd/%d", device);
	if (open(path, O_PATH | O_CLOEXEC) < 0)
		return failed(strerror(errno));
	close(device);
	(void)setsid();
	for (int number = 1; number < NSIG; number++)
		if (number != SIGTERM && number != SIGCHLD)
			signal(number, SIG_IGN);
	if (chdir("/") < 0)
		return failed(strerror(errno));
	do
		got = recv(sock, &byte, 1, 0);
	while (got > 0 || (got < 0 && errno == EINTR));
	if (!freopen("/dev/null", "w", stderr)) /* it is no mistake when somebody has unmounted it */
		return 1;
	return ask("vuos:umount", "", target, MNT_DETACH | UMOUNT_NOFOLLOW, "");
}

static int mount_for(const char *list, const char *target)
{
	static struct options options;
	const char *number = getenv("_FUSE_COMMFD");
	char device[64], *end, *full;
	struct stat st;
	int sock = number ? (int)strtol(number, &end, 10) : -1, fd, status;

	if (!number || end == number || *end)
		return failed("a FUSE library calls this, with a socket's number in _FUSE_COMMFD");
	if (stat(target, &st) < 0 || !(full = realpath(target, NULL))) {
		fprintf(stderr, "%s: %s: %s\n", name, target, strerror(errno));
		return 1;
	}
	if ((fd = open("/dev/fuse", O_RDWR | O_CLOEXEC)) < 0) {
		fprintf(stderr, "%s: /dev/fuse: %s\n", name, strerror(errno));
		return 1;
	}
	snprintf(device, sizeof device, "fd=%d,rootmode=%o,user_id=%u,group_id=%u", fd, st.st_mode & S_IFMT, getuid(),
		 getgid());
	if ((status = sort(list, device, &options)) ||
	    (status = ask(options.type, options.source, full, MS_NOSUID | MS_NODEV, options.rest)) ||
	    (status = send_device(sock, fd)))
		return status;
	if (options.auto_unmount)
		return unmount_at_the_end(sock, fd, full);
	return 0;
}

int fusermount(int argc, char **argv)
{
	static const char text[] =
		"[-o OPTION,…] TARGET | -u [-q] [-z] TARGET\n\n"
		"Mount for a FUSE library in this view, by its supervisor, or unmount.\n\n"
		"  -o OPTION,…  of the mount\n"
		"  -u           unmount\n"
		"  -q           say nothing when that fails\n"
		"  -z           whoever uses it may go on\n"
		"  -V           version\n";
	static const struct option names[] = {
		{ "unmount", no_argument, NULL, 'u' }, { "lazy", no_argument, NULL, 'z' },
		{ "quiet", no_argument, NULL, 'q' },   { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' }, { NULL, 0, NULL, 0 },
	};
	const char *list = "";
	bool unmounts = false, quiet = false;
	unsigned long flags = 0;
	int option;

	while ((option = getopt_long(argc, argv, "o:uqzhV", names, NULL)) != -1) {
		if (option == 'o')
			list = optarg;
		else if (option == 'u')
			unmounts = true;
		else if (option == 'q')
			quiet = true;
		else if (option == 'z')
			flags = MNT_DETACH;
		else if (option == 'V') {
			printf("%s version: 3 (vuosd %s)\n", name, VUOSD_VERSION);
			return 0;
		} else {
			fprintf(option == 'h' ? stdout : stderr, "usage: %s %s", name, text);
			return option != 'h';
		}
	}
	if (argc - optind != 1)
		return failed("one TARGET is wanted (-h)");
	if (!unmounts)
		return mount_for(list, argv[optind]);
	if (quiet && !freopen("/dev/null", "w", stderr))
		return 1;
	return ask("vuos:umount", "", argv[optind], flags | UMOUNT_NOFOLLOW, "");
}
