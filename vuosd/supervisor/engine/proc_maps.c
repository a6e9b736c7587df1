/*
 * maps and smaps of /proc/PID: the kernel's lines, with the mapped files where the view shows them. What it does not
 * show is mapped all the same (an inherited library, say), and so keeps its line, without the name.
 */
#include "proc_files.h"

/* One line; a header is the only kind that holds a slash: fs/proc/task_mmu.c show_map_vma. */
static void print_line(struct vu_call *call, FILE *file, char *line)
{
	static const char deleted[] = " (deleted)";
	char *path = strchr(line, '/');
	const struct vu_mount *mount;
	if (!path || strlen(path) >= VU_TEXT) {
		fprintf(file, "%s\n", line);
		return;
	}
	size_t length = strlen(path), tail = sizeof deleted - 1;
	bool gone = length > tail && !strcmp(path + length - tail, deleted);
	strcpy(call->work->host, path);
	if (gone)
		call->work->host[length - tail] = 0;
	*path = 0;
	const struct vu_state *state = vu_state_of(call);
	char *view = call->work->scratch;
	if (vu_table_reverse(call->table, call->work->host, state->cwd_mount, view, &mount, NULL) < 0) {
		/* Shared memory without a file ("/memfd:x", "/dev/zero") has no place in the tree, and keeps its name. */
		fprintf(file, "%s%s%s\n", line, strncmp(call->work->host, "/memfd:", 7) ? "" : call->work->host,
			gone ? deleted : "");
		return;
	}
	size_t root = strlen(state->root);
	const char *seen = root && !strncmp(view, state->root, root) && view[root] == '/' ? view + root : view;
	fprintf(file, "%s%s%s\n", line, seen, gone ? deleted : "");
}

int vu_proc_print_maps(struct vu_call *call, FILE *file, int source)
{
	char *text = NULL;
	int error = vu_proc_read(source, &text);
	if (error < 0)
		return error;
	for (char *line = text, *end; *line; line = end + 1) {
		end = strchrnul(line, '\n');
		bool last = !*end;
		*end = 0;
		print_line(call, file, line);
		if (last)
			break;
	}
	free(text);
	return 0;
}
