/*
 * Kills every process that the command has left. They are known by descent: KEEPER is their subreaper, so an orphan becomes its child
 * and nobody leaves. Other members of the session, started by launchers that have entered it, live on.
 */
#include "launcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct process {
	pid_t pid, parent;
	bool ours, dead;
};

/* Its parent, and whether it is a zombie: one that is not ours to reap must not keep us. */
static pid_t parent_of(pid_t pid, bool *dead)
{
	char path[32], text[512], state = 0;
	int parent = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	/* The name, in parentheses, may hold any character. */
	const char *name_end = strrchr(text, ')');
	if (!name_end || sscanf(name_end + 1, " %c %d", &state, &parent) != 2)
		return 0;
	*dead = state == 'Z' || state == 'X';
	return parent;
}

static size_t list_processes(struct process **list)
{
	DIR *proc = opendir("/proc");
	size_t count = 0, room = 0;
	struct dirent *entry;

	*list = NULL;
	while (proc && (entry = readdir(proc))) {
		pid_t pid = atoi(entry->d_name);

		if (pid <= 0 || pid == getpid())
			continue;
		if (count == room) {
			struct process *more = realloc(*list, (room = room * 2 + 256) * sizeof(**list));

			if (!more)
				break;
			*list = more;
		}
		struct process *p = &(*list)[count++];

		*p = (struct process){ .pid = pid };
		p->parent = parent_of(pid, &p->dead);
	}
	if (proc)
		closedir(proc);
	return count;
}

static void mark_descendants(struct process *list, size_t count)
{
	bool changed;

	do {
		changed = false;
		for (size_t i = 0; i < count; i++) {
			bool ours = list[i].parent == getpid();

			for (size_t k = 0; k < count && !ours; k++)
				ours = list[k].ours && list[k].pid == list[i].parent;
			changed |= ours && !list[i].ours;
			list[i].ours |= ours;
		}
	} while (changed);
}

void kill_tree(void)
{
	struct process *list;
	pid_t pid;

	for (;;) {
		size_t count = list_processes(&list), left = 0;

		mark_descendants(list, count);
		for (size_t i = 0; i < count; i++) {
			left += list[i].ours && !list[i].dead && kill(list[i].pid, SIGKILL) == 0;
		}
		free(list);
		do
			pid = waitpid(-1, NULL, WNOHANG | __WALL | __WNOTHREAD);
		while (pid > 0);
		/* No child is left: then, of a subreaper, no descendant either. */
		if (pid < 0 && (errno == ECHILD || errno == EINVAL) && left == 0)
			return;
		poll(NULL, 0, 1);
	}
}
