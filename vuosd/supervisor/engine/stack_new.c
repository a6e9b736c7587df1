/* A stack comes into being, before the session begins or while it runs, and goes. */
#include "stack.h"

#include <dirent.h>
#include <stdio.h>

/* No call uses it any more, and none will. */
void vu_stack_close(struct vu_stack *stack)
{
	pthread_mutex_lock(&stack->quota.lock); /* somebody may ask how full it is */
	stack->quota.closed = true;
	for (unsigned i = 0; i < stack->count; i++)
		vu_close(&stack->trees[i].fd);
	vu_close(&stack->handles.fd);
	vu_close(&stack->work);
	vu_close(&stack->origins);
	pthread_mutex_unlock(&stack->quota.lock);
}

void vu_stack_free(struct vu_stack *stack)
{
	if (!stack)
		return;
	vu_stack_close(stack);
	for (unsigned i = 0; i < stack->count; i++) {
		free(stack->trees[i].path);
		vu_dirs_free(stack->trees[i].dirs);
		vu_tree_unwire(&stack->trees[i]);
	}
	for (unsigned i = 0; i < VU_LISTINGS; i++)
		vu_names_put(stack, stack->listings[i]);
	vu_links_free(stack);
	vu_moved_free(stack);
	vu_facts_free(stack);
	free(stack->handles.path);
	pthread_mutex_destroy(&stack->lock);
	pthread_mutex_destroy(&stack->quota.lock);
	pthread_mutex_destroy(&stack->moved_lock);
	free(stack);
}

static int add_tree(struct vu_stack *stack, int fd, const char *path, bool layer)
{
	struct vu_tree *tree = &stack->trees[stack->count++];
	*tree = (struct vu_tree){ .fd = fd, .path = strdup(path) };
	if (!tree->path || (layer && !(tree->dirs = vu_dirs_new())))
		return -ENOMEM;
	tree->length = strcmp(path, "/") ? strlen(path) : 0;
	return layer ? vu_dirs_read(tree->dirs, fd) : 0;
}

/* It is a layer that is not new, or the top of it stands for what belongs to somebody else. */
static bool may_have_owners(const struct vu_tree *tree)
{
	struct stat st;
	int fd = tree->dirs ? vu_stack_read_directory(tree->fd) : -1;
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	bool used = !stream || vu_owner_read(tree->fd, &st);
	for (struct dirent *entry; !used && (entry = readdir(stream));)
		used = strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	if (stream)
		closedir(stream);
	return used;
}

static int refuse(const struct vu_stack_options *options, int error)
{
	for (unsigned i = 0; i < options->count; i++)
		close(options->fds[i]);
	for (unsigned i = 0; i < 3; i++) {
		int fd = ((const int[]){ options->work, options->origins, options->handles })[i];
		vu_close(&fd);
	}
	return error;
}

/* Its descriptors are the stack's then, also after an error. */
static int make(vu_session *session, const struct vu_stack_options *options, struct vu_stack **out)
{
	if (!options->count || options->count > VU_TREES)
		return refuse(options, -E2BIG);
	struct vu_stack *stack = calloc(1, sizeof *stack);
	if (!stack)
		return refuse(options, -ENOMEM);
	bool layered = options->work >= 0;
	stack->session = session;
	stack->layered = layered;
	stack->writable = options->flags & VU_STACK_WRITABLE;
	stack->minimal = options->flags & VU_STACK_MINIMAL;
	stack->sync = options->flags & VU_STACK_SYNC;
	stack->attribute_whiteouts = options->flags & VU_STACK_XATTR_WHITEOUT;
	stack->work = options->work;
	stack->origins = options->origins;
	stack->handles.fd = options->handles;
	pthread_mutex_init(&stack->quota.lock, NULL);
	pthread_mutex_init(&stack->moved_lock, NULL);
	pthread_mutexattr_t recursive;
	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&stack->lock, &recursive);
	int error = options->handles >= 0 && !(stack->handles.path = strdup(options->handles_path)) ? -ENOMEM : 0;
	stack->handles.length = stack->handles.path ? strlen(stack->handles.path) : 0;
	char path[32];
	/* Callers with other ids make their new objects there; nobody reaches it by a path. */
	if (!error && layered && session->privileged && chmod(vu_fd_path(stack->work, path), 01733) < 0)
		error = -errno;
	for (unsigned i = 0; i < options->count; i++) {
		int added = add_tree(stack, options->fds[i], options->paths[i], layered && i + 1 < options->count);
		error = error ? error : added;
	}
	for (unsigned i = 0; !error && layered && !session->privileged && i + 1 < stack->count; i++)
		stack->has_owners |= may_have_owners(&stack->trees[i]);
	if (!error && layered)
		error = vu_links_read(stack);
	if (error < 0)
		vu_stack_free(stack);
	else
		*out = stack;
	return error;
}

int vu_session_stack(vu_session *session, const struct vu_stack_options *options)
{
	struct vu_stack *stack;
	int error = make(session, options, &stack);
	if (error < 0)
		return error;
	if ((error = vu_namespace_fill_stack(&session->names, stack, options->target)) < 0)
		vu_stack_free(stack);
	else if (stack->layered)
		vu_quota_set(session, stack, options->size);
	return error;
}

int vu_session_mount_stack(vu_session *session, const struct vu_stack_options *options,
			   const struct vu_mount_options *how)
{
	struct vu_stack *stack;
	int error = make(session, options, &stack);
	if (error < 0)
		return error;
	const struct vu_tree *lowest = &stack->trees[stack->count - 1];
	struct vu_mount_options wanted = *how;
	wanted.target = options->target;
	wanted.kind = stack->layered ? VU_COW : VU_MERGE;
	wanted.flags |= stack->writable ? 0 : VU_ENTRY_READONLY;
	wanted.source_path = lowest->path;
	wanted.source = fcntl(lowest->fd, F_DUPFD_CLOEXEC, 0);
	int number = wanted.source < 0 ? -errno : vu_namespace_mount(session, &wanted, NULL, stack);
	if (number < 0) {
		vu_close(&wanted.source);
		vu_stack_free(stack);
	} else if (stack->layered) {
		vu_quota_set(session, stack, options->size);
	}
	return number;
}

char *vu_tree_path(const struct vu_tree *tree, const char *base, size_t *length)
{
	char *path = NULL;
	if (asprintf(&path, "%.*s/%s", (int)tree->length, tree->path, base) < 0)
		return NULL;
	*length = strlen(path);
	return path;
}

struct vu_mount *vu_mount_within(struct vu_namespace *names, const struct vu_spot *spot, const char *target)
{
	char text[VU_TEXT];
	const char *path = vu_stack_path(spot, text);
	struct vu_mount from = *spot->mount, *mount;
	const struct vu_tree *lowest = &from.stack->trees[from.stack->count - 1];
	from.origin = spot->mount->origin ? spot->mount->origin : (struct vu_mount *)spot->mount;
	from.base = *path ? (char *)path : NULL;
	if (from.base && !(from.source = vu_tree_path(lowest, path, &from.source_length)))
		return NULL;
	mount = vu_mount_again(names, &from, target);
	if (from.base)
		free(from.source);
	if (mount)
		mount->group = 0;
	return mount;
}
