/*
 * A shell for wire mounts: wire_shell DEADLINE_MS CACHE FD | -- SERVER ARG…, as fuse_shell. The anchors are in CACHE/tree, where
 * the test looks at them, and opens them, as a program in a view would.
 */
#include "wire.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static struct vu_wire *wire;
static struct vu_wire_node *held[64];
static struct vu_fuse_caller self;
static char last_line[512], data[1 << 20];
static pid_t server;
static int64_t gone_at;

static bool gone(void *unused)
{
	(void)unused;
	return gone_at && vu_fuse_now() >= gone_at;
}

static void say(void *unused, const char *line)
{
	(void)unused;
	snprintf(last_line, sizeof last_line, "%s", line);
}

static void print_text(const char *text, size_t size)
{
	putchar('"');
	for (size_t i = 0; i < size; i++)
		printf("\\u%04x", (unsigned char)text[i]);
	putchar('"');
}

static size_t unhex(const char *hex, char *out)
{
	size_t n = 0;
	for (unsigned byte; hex[0] && hex[1]; hex += 2, out[n++] = (char)byte)
		sscanf(hex, "%2x", &byte);
	return n;
}

/* "/" is the root; else paths are given without it. */
static const char *at(const char *path)
{
	return path && strcmp(path, "/") ? path : "";
}

static int bench(const char *path, unsigned want, uint64_t times)
{
	int error = 0;
	int64_t start = vu_fuse_now();
	for (uint64_t i = 0; i < times && !error; i++)
		error = vu_wire_prepare(wire, &self, path, want);
	printf(", \"each_us\": %.3f", (double)(vu_fuse_now() - start) / 1e3 / (double)times);
	return error;
}

#define IS(word) !strcmp(w[0], word)
static int run(char **w)
{
	uint64_t n[7] = {};
	for (int i = 1; i < 7 && w[i]; i++)
		n[i] = strtoull(w[i], NULL, 0);
	const char *path = at(w[1]);
	struct vu_fuse_attr set = {};
	ssize_t size;
	if (IS("prepare"))
		return vu_wire_prepare(wire, &self, path, (unsigned)n[2]);
	if (IS("bench"))
		return bench(path, (unsigned)n[2], n[3]);
	if (IS("open"))
		return vu_wire_open(wire, &self, path, (unsigned)n[2], &held[n[3]]);
	if (IS("create"))
		return vu_wire_create(wire, &self, path, (unsigned)n[2], (mode_t)n[4], &held[n[3]]);
	if (IS("opened"))
		return vu_wire_opened(wire, held[n[1]]), 0;
	if (IS("sync"))
		return vu_wire_sync(wire, &self, path, false);
	if (IS("mkdir"))
		return vu_wire_mkdir(wire, &self, path, (mode_t)n[2]);
	if (IS("mknod"))
		return vu_wire_mknod(wire, &self, path, (mode_t)n[2], n[3]);
	if (IS("symlink"))
		return vu_wire_symlink(wire, &self, path, w[2]);
	if (IS("link"))
		return vu_wire_link(wire, &self, w[2], path);
	if (IS("unlink") || IS("rmdir"))
		return vu_wire_remove(wire, &self, path, IS("rmdir"));
	if (IS("rename"))
		return vu_wire_rename(wire, &self, path, w[2], (unsigned)n[3]);
	if (IS("chmod") || IS("truncate") || IS("utime")) {
		set.mode = (mode_t)n[2];
		set.size = n[2];
		set.mtime.tv_sec = set.atime.tv_sec = (time_t)n[2];
		return vu_wire_setattr(wire, &self, path,
				       IS("chmod")      ? FATTR_MODE
				       : IS("truncate") ? FATTR_SIZE
							: FATTR_MTIME | FATTR_ATIME,
				       &set);
	}
	if (IS("setxattr"))
		return vu_wire_setxattr(wire, &self, path, w[2], data, unhex(w[3], data), 0);
	if (IS("removexattr"))
		return vu_wire_removexattr(wire, &self, path, w[2]);
	if (IS("line")) {
		printf(", \"line\": ");
		print_text(last_line, strlen(last_line));
		return 0;
	}
	if (IS("gone"))
		return gone_at = n[1] ? vu_fuse_now() + (int64_t)n[1] * 1000000 : 0, 0;
	if (IS("kill"))
		return kill(server, (int)n[1]);
	if (IS("unmount")) {
		printf(", \"failed\": %u", vu_wire_unmount(wire, NULL));
		wire = NULL;
		return 0;
	}
	size = IS("getxattr")    ? vu_wire_getxattr(wire, &self, path, w[2], data, n[3])
	       : IS("listxattr") ? vu_wire_listxattr(wire, &self, path, data, n[2])
				 : -EDOM;
	if (size < 0)
		return (int)size;
	printf(", \"data\": ");
	print_text(data, (size_t)size);
	return 0;
}

static int start(char **command)
{
	int pair[2];
	char path[32];
	if (vu_fuse_pair(pair) < 0)
		exit(3);
	if (!(server = fork())) {
		snprintf(path, sizeof path, "/dev/fd/%d", dup(pair[1]));
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (char **word = command; *word; word++)
			if (!strcmp(*word, "@"))
				*word = path;
		dup2(2, 1);
		execvp(*command, command);
		_exit(127);
	}
	close(pair[1]);
	return pair[0];
}

int main(int argc, char **argv)
{
	static char line[1 << 20];
	int tree;
	if (argc < 4)
		return 2;
	struct vu_wire_options options = { .deadline = atoll(argv[1]) * 1000000,
					   .gives_owners = !geteuid(),
					   .largest = UINT64_C(1) << 40,
					   .log = say };
	umask(0);
	self = (struct vu_fuse_caller){ getuid(), getgid(), getpid(), 022, gone, NULL };
	int cache = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int error = vu_wire_mount(!strcmp(argv[3], "--") ? start(argv + 4) : atoi(argv[3]), cache, &options, &self,
				  &wire, &tree);
	printf("{\"errno\": %d}\n", -error);
	fflush(stdout);
	while (!error && fgets(line, sizeof line, stdin)) {
		char *words[8] = {};
		int count = 0;
		for (char *word = strtok(line, " \n"); word && count < 7; word = strtok(NULL, " \n"))
			words[count++] = word;
		if (!count)
			continue;
		printf("{\"request\": \"%s\"", words[0]);
		int64_t since = vu_fuse_now();
		int result = run(words);
		printf(", \"errno\": %d, \"us\": %.1f}\n", result < 0 ? -result : 0,
		       (double)(vu_fuse_now() - since) / 1e3);
		fflush(stdout);
	}
	if (wire)
		vu_wire_unmount(wire, NULL);
	if (server > 0)
		waitpid(server, NULL, 0);
	return 0;
}
