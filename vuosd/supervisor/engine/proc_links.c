/*
 * The links of /proc/PID: the kernel tells host paths; the caller is to see where that is in the view.
 */
#include "proc_links.h"

#include <ctype.h>
#include <stdio.h>

int vu_proc_link(struct vu_call *call, const struct vu_place *place, char *out, size_t room)
{
	char *host = call->work->host, *view = call->work->scratch;
	const char *name = strrchr(place->view, '/') + 1;
	const struct vu_mount *mount;
	ssize_t n = readlinkat(place->fd, "", host, VU_TEXT - 1);
	if (n < 0)
		return -errno;
	host[n] = 0;
	if (!strcmp(name, "self") && isdigit(*host))
		return snprintf(out, room, "%d", vu_tgid(call));
	if (!strcmp(name, "thread-self"))
		return snprintf(out, room, "%d/task/%d", vu_tgid(call), call->tid);
	if (*host != '/')
		return 0; /* pipe:[…], a namespace, an ordinary relative link */
	if (!strcmp(name, "root"))
		return snprintf(out, room, "/");
	static const char deleted[] = " (deleted)";
	size_t tail = sizeof deleted - 1;
	bool gone = (size_t)n > tail && !strcmp(host + n - tail, deleted);
	if (gone)
		host[n - (ssize_t)tail] = 0;
	const struct vu_state *state = vu_state_of(call);
	int error = vu_table_reverse(&call->session->table, host, strcmp(name, "cwd") ? NULL : state->cwd_mount, view, &mount);
	if (error < 0)
		return -EACCES; /* it lies where the view shows nothing */
	size_t root = strlen(state->root);
	const char *seen = view;
	if (root && !strncmp(seen, state->root, root) && (!seen[root] || seen[root] == '/'))
		seen += root;
	if (!strcmp(seen, host) && place->native)
		return 0;
	int length = snprintf(out, room, "%s%s", *seen ? seen : "/", gone ? deleted : "");
	return length >= (int)room ? -ENAMETOOLONG : length;
}
