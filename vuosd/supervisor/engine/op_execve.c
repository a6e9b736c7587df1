/*
 * execve, execveat: the program that the view shows, started by the interpreter that the view shows.
 *
 * While every object on the way (the program, a script's interpreter, an ELF's loader) is where the caller's kernel
 * finds it as well, the call continues: the Landlock floor governs execution. Otherwise the caller executes a descriptor
 * of the anchor (remote.h). The kernel would look for interpreters in the host's tree, so they are put in front of the
 * argument vector here: a script's as the kernel does it, and the loader of a dynamic program by its own command line
 * (`ld.so --argv0 NAME PROGRAM …`, glibc 2.33, musl 1.1.19), which proc_links.c undoes for /proc/PID/exe.
 */
#include "broker.h"
#include "program.h"
#include "remote_call.h"
#include "stack.h"
#include "wired.h"

#include <stdio.h>
#include <sys/mman.h>

#define EXECVE_CHECK 0x10000u /* AT_EXECVE_CHECK, include/uapi/linux/fcntl.h since Linux 6.14 */

enum { DEPTH = 5 }; /* of interpreters that are scripts: fs/exec.c exec_binprm */
enum { MOST_ARGUMENTS = 1 << 20 };

/* What goes in front of the caller's own arguments, of which `dropped` are left out. Strings of ours, or addresses there. */
struct vector {
	struct {
		const char *text;
		uint64_t address;
	} items[4 * DEPTH + 8];
	unsigned count, dropped;
};

struct exec {
	struct vu_call *call;
	struct vector vector;
	bool native; /* so far the kernel would do the same */
	bool taken; /* the program itself may be executed, and the arguments are copied next */
	int fd; /* what is executed, readable; or -1: */
	int parent; /* … by its name here, when it may be executed but not read */
	char name[NAME_MAX + 1];
	uint64_t argv;
	int descriptor; /* of the caller, by which it names the program; or -1 */
	struct vu_program programs[DEPTH + 1];
	char paths[DEPTH + 2][PATH_MAX + 32]; /* of the programs and the loader, as the caller would name them */
	char first[PATH_MAX];
};

static void push(struct vector *vector, const char *text, uint64_t address)
{
	memmove(vector->items + 1, vector->items, vector->count * sizeof *vector->items);
	vector->items[0].text = text;
	vector->items[0].address = address;
	vector->count++;
}

static void drop_first(struct vector *vector)
{
	if (vector->count)
		memmove(vector->items, vector->items + 1, --vector->count * sizeof *vector->items);
	else
		vector->dropped = 1;
}

/* The view path as the caller names it, below its root. */
static const char *seen(struct vu_call *call, const char *view)
{
	const char *root = vu_state_of(call)->root;
	size_t length = strlen(root);
	return length && !strncmp(view, root, length) ? view + length : view;
}

/* May it be executed, is it a file? Keeps a readable descriptor of it in exec->fd. */
static int take(struct exec *exec, struct vu_place *place)
{
	struct vu_call *call = exec->call;
	struct stat st;
	exec->native = exec->native && place->native;
	if (fstat(place->fd, &st) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return -ELOOP;
	if (!S_ISREG(st.st_mode))
		return -EACCES;
	int error = vu_rights_ask(place->magic ? NULL : place->mount->stack, place->fd, X_OK);
	if (error < 0)
		return error;
	struct vu_wire_node *held = NULL;
	struct vu_place below;
	const struct vu_place *wired = vu_is_wired(place) ? place : vu_stack_below(place, &below) ? &below : NULL;
	if (wired && (error = vu_wired_open(call, wired, O_RDONLY, &held)) < 0)
		return error;
	vu_close(&exec->fd);
	vu_close(&exec->parent);
	exec->fd = vu_reopen(call->session, place->fd, O_RDONLY);
	if (held)
		vu_wired_opened(wired, held);
	if (exec->fd != -EACCES)
		return exec->fd < 0 ? exec->fd : 0;
	exec->fd = -1;
	if (place->native)
		return 0;
	if (place->magic || place->held || place->mountpoint)
		return -EACCES;
	exec->parent = vu_open_parent(call, place);
	snprintf(exec->name, sizeof exec->name, "%s", strrchr(place->view, '/') + 1);
	return exec->parent < 0 ? exec->parent : 0;
}

/* Has this loader the option --argv0? glibc before 2.33 has not; then the program sees its own path as argv[0]. */
static bool names_argv0(int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0 || st.st_size <= 0)
		return false;
	void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return false;
	bool found = memmem(map, (size_t)st.st_size, "argv0", 5);
	munmap(map, (size_t)st.st_size);
	return found;
}

static uint64_t first_argument(struct exec *exec)
{
	uint64_t address = 0;
	if (exec->argv && vu_read(exec->call, exec->argv, &address, sizeof address) < 0)
		address = 0;
	return address;
}

/* A dynamic program whose loader only the view has: the loader is executed, the program is its argument. */
static int use_loader(struct exec *exec, struct vu_place *loader, const char *program, const char *loader_path)
{
	const char *argv0 = exec->vector.count ? exec->vector.items[0].text : NULL;
	uint64_t address = exec->vector.count ? exec->vector.items[0].address : first_argument(exec);
	int error = take(exec, loader);
	if (error < 0)
		return error;
	exec->native = false;
	drop_first(&exec->vector);
	push(&exec->vector, program, 0);
	if (exec->fd >= 0 && names_argv0(exec->fd)) {
		push(&exec->vector, argv0 || address ? argv0 : "", address);
		push(&exec->vector, "--argv0", 0);
	}
	push(&exec->vector, loader_path, 0);
	return 0;
}

/* Is the caller's descriptor closed by the execution? Then an interpreter could not open the script by it: fs/exec.c. */
static bool closes(struct vu_call *call, int fd)
{
	char name[64], text[256];
	snprintf(name, sizeof name, "%d/fdinfo/%d", call->tid, fd);
	VU_CLOSE int info = openat(call->session->proc, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = info < 0 ? -1 : read(info, text, sizeof text - 1);
	text[n < 0 ? 0 : n] = 0;
	const char *flags = strstr(text, "flags:");
	return flags && (strtoul(flags + strlen("flags:"), NULL, 8) & O_CLOEXEC);
}

/* Follow the interpreters until an object is reached that the kernel executes by itself. */
static int prepare(struct exec *exec, struct vu_place *place)
{
	struct vu_call *call = exec->call;
	for (unsigned depth = 0;; depth++) {
		struct vu_program *program = &exec->programs[depth];
		int error = take(exec, place);
		if (error < 0)
			return error;
		exec->taken = true;
		if (exec->fd < 0)
			return 0;
		if ((error = vu_program_read(exec->fd, program)) < 0)
			return error;
		if (program->format == VU_FORMAT_FOREIGN) {
			vu_log(call->session, "process %d: %s: not an x86-64 program; those do not run in a view",
			       call->tid, exec->paths[depth]);
			exec->native = false;
			return -ENOEXEC;
		}
		if (program->format != VU_FORMAT_SCRIPT && program->format != VU_FORMAT_DYNAMIC)
			return 0;
		char *view = call->work->data; /* the program's own place, before the next walk takes the buffers */
		strcpy(view, place->view);
		vu_place_close(place);
		if ((error = vu_walk(call, 1, AT_FDCWD, program->interpreter, VU_FOLLOW, place)) < 0)
			return error;
		if (program->format == VU_FORMAT_DYNAMIC) {
			if (place->native)
				return 0;
			snprintf(exec->paths[DEPTH + 1], sizeof *exec->paths, "%s", seen(call, view));
			return use_loader(exec, place, exec->paths[DEPTH + 1], program->interpreter);
		}
		if (depth == DEPTH)
			return -ELOOP;
		if (!depth && exec->descriptor >= 0 && closes(call, exec->descriptor))
			return -ENOENT;
		drop_first(&exec->vector);
		push(&exec->vector, exec->paths[depth], 0);
		if (*program->argument)
			push(&exec->vector, program->argument, 0);
		push(&exec->vector, program->interpreter, 0);
		snprintf(exec->paths[depth + 1], sizeof *exec->paths, "%s", program->interpreter);
	}
}

/* The caller's argument addresses, without the closing NULL. */
static int read_vector(struct exec *exec, uint64_t **out)
{
	unsigned count = 0, room = 0;
	uint64_t *list = NULL;
	for (;; count++) {
		if (count == room) {
			room = room ? room * 2 : 64;
			uint64_t *more = room > MOST_ARGUMENTS ? NULL : reallocarray(list, room, sizeof *list);
			if (!more) {
				free(list);
				return -E2BIG;
			}
			list = more;
		}
		int error = exec->argv
				    ? vu_read(exec->call, exec->argv + count * sizeof *list, &list[count], sizeof *list)
				    : (list[count] = 0, 0);
		if (error < 0) {
			free(list);
			return error;
		}
		if (!list[count])
			break;
	}
	*out = list;
	return (int)count;
}

/*
 * The program was found, but not what is to run it, or it is none: before it sees that the kernel copies the arguments, and fails where they
 * cannot be read (fs/exec.c do_execveat_common).
 */
static int check_arguments(struct exec *exec, uint64_t envp)
{
	const uint64_t vectors[2] = { exec->argv, envp };
	for (int i = 0; i < 2; i++) {
		uint64_t *own = NULL, vector = exec->argv;
		exec->argv = vectors[i];
		int count = read_vector(exec, &own), error = count < 0 ? count : 0;
		exec->argv = vector;
		char byte;
		for (int j = 0; j < count && !error; j++)
			error = vu_read(exec->call, own[j], &byte, 1);
		free(own);
		if (error < 0)
			return error;
	}
	return 0;
}

/* The scratch: a path, the strings that go in front, then the whole vector; `pointers` says what to relocate. */
static int execute(struct exec *exec, uint64_t envp)
{
	struct vector *vector = &exec->vector;
	uint64_t *own = NULL;
	int count = vector->count ? read_vector(exec, &own) : 0;
	if (count < 0)
		return count;
	size_t skip = vector->dropped && count ? 1 : 0, total = vector->count + (size_t)count - skip + 1;
	size_t text = exec->fd < 0 ? strlen(exec->name) + 1 : 1;
	for (unsigned i = 0; i < vector->count; i++)
		text += vector->items[i].text ? strlen(vector->items[i].text) + 1 : 0;
	size_t start = (text + 7) & ~(size_t)7, size = start + (vector->count ? total * 8 : 0);
	char *scratch = calloc(1, size);
	uint32_t pointers[sizeof vector->items / sizeof *vector->items], relocated = 0;
	if (!scratch) {
		free(own);
		return -ENOMEM;
	}
	if (exec->fd < 0)
		strcpy(scratch, exec->name);
	size_t at = strlen(scratch) + 1;
	uint64_t *list = (uint64_t *)(scratch + start);
	for (unsigned i = 0; i < vector->count; i++) {
		if (!vector->items[i].text) {
			list[i] = vector->items[i].address;
			continue;
		}
		list[i] = at;
		pointers[relocated++] = (uint32_t)(start + i * 8);
		at += strlen(strcpy(scratch + at, vector->items[i].text)) + 1;
	}
	for (size_t i = skip; vector->count && i < (size_t)count; i++)
		list[vector->count + i - skip] = own[i];
	free(own);
	int there = vu_inject(exec->call, exec->fd < 0 ? exec->parent : exec->fd, true);
	int verdict = there;
	if (there >= 0) {
		struct vu_remote request = {
			.nr = SYS_execveat,
			.flags = VU_REMOTE_EXEC,
			.args = { (uint64_t)there, 0, vector->count ? start : exec->argv, envp,
				  exec->fd < 0 ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH },
			.close_fd = there,
			.scratch_args = 1u << 1 | (vector->count ? 1u << 2 : 0),
			.scratch = scratch,
			.scratch_len = (uint32_t)size,
			.pointer_count = relocated,
			.pointers = pointers,
		};
		vu_notify_step_aside(exec->call); /* loading a program takes a hundred times a look-up */
		verdict = vu_remote(exec->call, &request);
	}
	free(scratch);
	return verdict;
}

static int execve_place(struct vu_call *call, struct vu_place *place, int dirfd)
{
	struct exec *exec = calloc(1, sizeof *exec);
	if (!exec)
		return -ENOMEM;
	*exec = (struct exec){ .call = call,
			       .native = true,
			       .fd = -1,
			       .parent = -1,
			       .argv = vu_argument(call, call->row->buf),
			       .descriptor = -1 };
	/* As fs/exec.c alloc_bprm names it. */
	const char *path = call->work->path[0];
	if (dirfd == AT_FDCWD || *path == '/') {
		snprintf(exec->paths[0], sizeof *exec->paths, "%s", path);
	} else {
		exec->descriptor = dirfd;
		snprintf(exec->paths[0], sizeof *exec->paths, "/dev/fd/%d%s%s", dirfd, *path ? "/" : "", path);
	}
	uint64_t envp = vu_argument(call, call->row->extra);
	int verdict = prepare(exec, place);
	int unreadable = verdict < 0 && exec->taken && call->session->enforce ? check_arguments(exec, envp) : 0;
	if (unreadable < 0)
		verdict = unreadable;
	if (verdict < 0)
		call->native_error = exec->native && (call->native_error || verdict != -ENOENT);
	else
		verdict = exec->native ? VU_CONTINUE : execute(exec, envp);
	vu_close(&exec->fd);
	vu_close(&exec->parent);
	free(exec);
	return verdict;
}

/* By its name, wherever it is looked for: libfuse wants it at /usr/bin whether or not something is there, others try PATH. */
static bool is_fusermount(struct vu_call *call)
{
	char *path = call->work->path[0];
	bool blind = call->blind;
	if (vu_read_string(call, vu_argument(call, call->row->path), path, PATH_MAX) <= 0) {
		call->blind = blind; /* who may not be looked into is no such program's caller: it goes its usual way */
		return false;
	}
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	return !strcmp(name, "fusermount") || !strcmp(name, "fusermount3");
}

/* That of this machine calls mount(2), which is refused here before we hear of it. */
static int execute_stand_in(struct vu_call *call)
{
	struct exec *exec = calloc(1, sizeof *exec);
	if (!exec)
		return -ENOMEM;
	*exec = (struct exec){ .call = call,
			       .fd = call->session->options.fusermount,
			       .parent = -1,
			       .argv = vu_argument(call, call->row->buf),
			       .descriptor = -1 };
	int verdict = execute(exec, vu_argument(call, call->row->extra));
	free(exec);
	return verdict;
}

int vu_op_execve(struct vu_call *call)
{
	struct vu_session *session = call->session;
	unsigned at = (unsigned)vu_argument(call, call->row->flags);
	int dirfd = call->row->dirfd < 0 ? AT_FDCWD : (int)vu_argument(call, call->row->dirfd);
	VU_PLACE place = { .parent = -1, .fd = -1 };
	if (session->options.flags & VU_SESSION_BROKER_MEMORY)
		vu_memory_execve(call);
	bool stands_in = session->options.fusermount >= 0 && !at && is_fusermount(call);
	if (!stands_in && call->table->empty && atomic_load_explicit(&session->state_count, memory_order_relaxed) == 1)
		return VU_CONTINUE;
	int error = vu_ids_may_execute(call);
	if (error < 0)
		return error;
	if (vu_state_of(call)->undumpable) {
		struct vu_state wanted = *vu_state_of(call);
		wanted.undumpable = false; /* fs/exec.c begin_new_exec */
		vu_state_set(call, &wanted);
	}
	if (stands_in)
		return execute_stand_in(call);
	if (at & ~(unsigned)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | EXECVE_CHECK))
		return VU_CONTINUE; /* EINVAL */
	error = vu_walk_argument(
		call, (at & AT_SYMLINK_NOFOLLOW ? 0 : VU_FOLLOW) | (at & AT_EMPTY_PATH ? VU_EMPTY_OK : 0), &place);
	if (error < 0)
		return error;
	if (place.nameless && *call->work->path[0])
		return VU_CONTINUE; /* from a directory that only the kernel can go on from */
	if (place.held && place.fd < 0) {
		char name[24];
		place.fd = vu_target_open(call, vu_descriptor_name(dirfd, name));
		if (place.fd < 0)
			return VU_CONTINUE; /* EBADF, as the kernel will say */
	}
	if (at & EXECVE_CHECK) {
		static char *const none[] = { NULL };
		if (vu_may_continue(call, &place, false))
			return VU_CONTINUE;
		/* Executes nothing, here either. Before Linux 6.14 it is EINVAL. */
		return syscall(SYS_execveat, place.fd, "", none, none, AT_EMPTY_PATH | EXECVE_CHECK) < 0
			       ? -errno
			       : vu_answer(call, 0);
	}
	return execve_place(call, &place, dirfd);
}
