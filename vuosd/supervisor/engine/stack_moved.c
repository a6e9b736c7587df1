/*
 * Directories of a stack that have been renamed, though a tree below still has them where they were. What programs hold of such a
 * directory is the tree's (stack.h), and means it under its new name from then on. It stands for that as a handle does: what the
 * tree has in it is not asked.
 */
#include "stack.h"

#include <stdio.h>

struct vu_renamed {
	struct vu_renamed *next;
	char *from; /* in the lowest tree */
	char *to; /* in the stack */
};

/* What follows `head` in a path that is it or lies below it; NULL. */
static const char *behind(const char *path, const char *head)
{
	size_t length = strlen(head);
	return !strncmp(path, head, length) && (!path[length] || path[length] == '/') ? path + length : NULL;
}

static char *joined(const char *head, const char *rest)
{
	char *text = NULL;
	return asprintf(&text, "%s%s", head, rest) < 0 ? NULL : text;
}

static void add(struct vu_stack *stack, const char *from, const char *to)
{
	struct vu_renamed *moved = calloc(1, sizeof *moved);
	if (moved && (moved->from = strdup(from)) && (moved->to = strdup(to))) {
		moved->next = stack->moved;
		stack->moved = moved;
	} else if (moved) { /* without memory the old name goes on to be what is meant */
		free(moved->from);
		free(moved);
	}
}

/* What lies in a directory that has moved before leaves it: the lowest tree has it in the old one still. */
static void leave(struct vu_stack *stack, const char *old, const char *new)
{
	for (const struct vu_renamed *moved = stack->moved; moved; moved = moved->next) {
		const char *rest = behind(old, moved->to);
		char *from = rest && *rest ? joined(moved->from, rest) : NULL;
		if (from)
			add(stack, from, new);
		free(from);
	}
}

void vu_moved_note(struct vu_stack *stack, const char *old, bool old_shows, const char *new, bool new_shows,
		   bool exchange)
{
	if (stack->handles.fd >= 0) /* those are what programs hold */
		return;
	pthread_mutex_lock(&stack->moved_lock);
	struct vu_renamed *before = stack->moved;
	leave(stack, old, new);
	if (exchange)
		leave(stack, new, old);
	for (struct vu_renamed *moved = before; moved; moved = moved->next) {
		const char *rest = behind(moved->to, old), *back = exchange ? behind(moved->to, new) : NULL;
		char *to = rest ? joined(new, rest) : back ? joined(old, back) : NULL;
		if (to) {
			free(moved->to);
			moved->to = to;
		}
	}
	if (old_shows)
		add(stack, old, new);
	if (new_shows)
		add(stack, new, old);
	atomic_store(&stack->has_moved, stack->moved != NULL);
	pthread_mutex_unlock(&stack->moved_lock);
}

bool vu_moved_to(struct vu_stack *stack, char *path, size_t room)
{
	const struct vu_renamed *found = NULL;
	if (!atomic_load_explicit(&stack->has_moved, memory_order_acquire))
		return false;
	pthread_mutex_lock(&stack->moved_lock);
	for (const struct vu_renamed *moved = stack->moved; moved; moved = moved->next)
		if (behind(path, moved->from) && (!found || strlen(moved->from) > strlen(found->from)))
			found = moved;
	char *to = found ? joined(found->to, behind(path, found->from)) : NULL;
	pthread_mutex_unlock(&stack->moved_lock);
	bool fits = to && strlen(to) < room;
	if (fits)
		strcpy(path, to);
	free(to);
	return fits;
}

void vu_moved_free(struct vu_stack *stack)
{
	for (struct vu_renamed *moved = stack->moved, *next; moved; moved = next) {
		next = moved->next;
		free(moved->from);
		free(moved->to);
		free(moved);
	}
	stack->moved = NULL;
}
