/*
 * Files of procfs that tell paths: where the view differs from the host, the caller gets its own version, in a sealed
 * memfd. It is a snapshot, as one read of the kernel's file is.
 */
#include "proc_files.h"

#include <ctype.h>
#include <sys/mman.h>

int vu_proc_read(int fd, char **out)
{
	size_t have = 0, room = 0;
	char *text = NULL;
	for (;;) {
		if (room - have < 4096) {
			char *more = realloc(text, room = room ? room * 2 : 16384);
			if (!more) {
				free(text);
				return -ENOMEM;
			}
			text = more;
		}
		ssize_t n = read(fd, text + have, room - have - 1);
		if (n <= 0) {
			int error = n < 0 ? -errno : 0;
			text[have] = 0;
			if (error < 0)
				free(text);
			else
				*out = text;
			return error;
		}
		have += (size_t)n;
	}
}

/* Is this /proc/PID/NAME or /proc/PID/task/TID/NAME, of a NAME that we know? */
static int format_of(const struct vu_place *place)
{
	static const struct {
		const char *name;
		enum vu_proc_format format;
	} names[] = {
		{ "mountinfo", VU_PROC_MOUNTINFO }, { "mounts", VU_PROC_MOUNTS }, { "mountstats", VU_PROC_MOUNTSTATS },
		{ "maps", VU_PROC_MAPS },           { "smaps", VU_PROC_MAPS },
	};
	const char *slash = strrchr(place->view, '/');
	if (!slash || slash == place->view || !isdigit(slash[-1]))
		return -ENOSYS;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(slash + 1, names[i].name))
			return vu_on_procfs(place->fd) ? (int)names[i].format : -ENOSYS;
	return -ENOSYS;
}

int vu_proc_file(struct vu_call *call, const struct vu_place *place)
{
	int format;
	if (place->magic || place->fd < 0 || call->table->count < 2 || (format = format_of(place)) < 0)
		return -ENOSYS;
	VU_CLOSE int source = vu_reopen(call->session, place->fd, O_RDONLY);
	if (source < 0)
		return source;
	VU_CLOSE int memory = memfd_create(strrchr(place->view, '/') + 1, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int copy = memory < 0 ? -1 : fcntl(memory, F_DUPFD_CLOEXEC, 0);
	FILE *file = copy < 0 ? NULL : fdopen(copy, "w");
	if (!file) {
		int error = -errno;
		vu_close(&copy);
		return error;
	}
	int error = format == VU_PROC_MAPS ? vu_proc_print_maps(call, file, source)
					   : vu_proc_print_mounts(call, file, (enum vu_proc_format)format, source);
	if (fclose(file) && !error)
		error = -errno;
	if (!error && fcntl(memory, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		error = -errno;
	return error < 0 ? error : vu_reopen(call->session, memory, O_RDONLY);
}
