/*
 * The links of /proc/PID: the kernel tells host paths; the caller is to see where that is in the view.
 */
#include "proc_links.h"

#include <ctype.h>
#include <stdio.h>

/*
 * A program of a foreign root was started through that root's loader (op_execve.c): the link leads to the loader, the
 * command line tells which program it was given. Returns whether it was so.
 */
static bool started_by_loader(struct vu_call *call, const struct vu_place *place, char *out, size_t room)
{
	char path[64], *text = call->work->data;
	struct vu_spot spot;
	size_t length = strlen(place->view) - strlen("exe");
	if (snprintf(path, sizeof path, "%.*scmdline", (int)length, place->view) >= (int)sizeof path)
		return false;
	vu_table_find(call->table, path, &spot);
	VU_CLOSE int fd = openat(spot.mount->fd, spot.rest, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, 2 * PATH_MAX);
	if (n <= 0)
		return false;
	text[n] = 0;
	const char *arguments[4] = { text };
	for (int i = 1; i < 4; i++) {
		arguments[i] = arguments[i - 1] + strlen(arguments[i - 1]) + 1;
		if (arguments[i] >= text + n)
			return false;
	}
	if (strcmp(arguments[1], "--argv0") || *arguments[3] != '/')
		return false;
	snprintf(out, room, "%s", arguments[3]);
	return true;
}

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
	const struct vu_mount *meant = vu_state_meant(state, !strcmp(name, "cwd"));
	int error = vu_table_reverse(call->table, host, meant, view, &mount, NULL);
	if (error == -ENOENT)
		error = vu_table_covered(call->table, host, NULL, view, &mount);
	else if (!error && state->cwd_mount && mount != state->cwd_mount && !strcmp(name, "cwd") &&
		 !vu_table_covered(call->table, host, state->cwd_mount, call->work->text, &mount))
		view = call->work->text;
	const struct vu_mount *lost = error < 0 && call->table->reduced
					      ? vu_namespace_lost(&call->session->names, call->table, host, NULL)
					      : NULL;
	if (lost) /* as fs/d_path.c says it of what has been detached */
		return snprintf(out, room, "%s", host[lost->source_length] ? host + lost->source_length : "/");
	if (error < 0) /* hidden; or an object of its own that entries lie over, which keeps its name */
		return error == -EACCES || !strcmp(name, "cwd") ? -EACCES : 0;
	size_t root = strlen(state->root);
	const char *seen = view;
	if (root && !strncmp(seen, state->root, root) && (!seen[root] || seen[root] == '/'))
		seen += root;
	if (!strcmp(name, "exe") && !mount->identity && started_by_loader(call, place, out, room))
		return (int)strlen(out);
	if (!strcmp(seen, host) && place->native)
		return 0;
	int length = snprintf(out, room, "%s%s", *seen ? seen : "/", gone ? deleted : "");
	return length >= (int)room ? -ENAMETOOLONG : length;
}
