/*
 * The tree of the view once more below a directory, `unreal`, and once more below that: with everything that is mounted in the
 * view, now or later, and no deeper.
 *
 * Each mount is there as a copy of itself, with another target: what a path leads to, and what goes back from an object to a
 * path, is then as for any other mount. A copy comes into a version of the table with the mount that it is of, or with the
 * unreal mount, and leaves with either.
 */
#include "stack.h"

enum { DEPTH = 2 };

/* Does it stand where the tree is shown, or in it? That is not shown in itself. */
static bool is_inside(const struct vu_mount *mount, const struct vu_mount *unreal)
{
	size_t length = unreal->target_length;
	return !strncmp(mount->target, unreal->target, length) &&
	       (!mount->target[length] || mount->target[length] == '/');
}

static int add_copy(struct vu_namespace *names, struct vu_table *table, struct vu_mount *of, struct vu_mount *unreal,
		    int level)
{
	char target[VU_TEXT];
	size_t length = unreal->target_length;
	if (of->unreal || is_inside(of, unreal))
		return 0;
	if (length * (size_t)level + of->target_length + 1 > sizeof target)
		return 0; /* no path is that long */
	for (int i = 0; i < level; i++)
		memcpy(target + length * (size_t)i, unreal->target, length);
	memcpy(target + length * (size_t)level, of->target, of->target_length);
	target[length * (size_t)level + of->target_length] = 0;
	struct vu_mount *copy = vu_mount_again(names, of, target);
	if (!copy)
		return -errno;
	copy->identity = false;
	copy->late = true;
	copy->readonly |= unreal->readonly;
	copy->of = of;
	copy->unreal = unreal;
	copy->group = unreal->index;
	return vu_table_add(table, copy);
}

/* All that is in `now`, for an unreal mount that comes. */
static int add_all(struct vu_namespace *names, struct vu_table *table, const struct vu_table *now,
		   struct vu_mount *unreal)
{
	int error = 0;
	for (int level = 1; level <= DEPTH; level++)
		for (unsigned i = 0; !error && i < now->count; i++) {
			bool root = level == 1 && !now->mounts[i]->target_length;
			if (!root) /* that is the unreal mount itself */
				error = add_copy(names, table, now->mounts[i], unreal, level);
		}
	return error;
}

int vu_unreal_follow(struct vu_namespace *names, struct vu_table *table, const struct vu_table *now,
		     struct vu_mount *add)
{
	int error = 0;
	if (add->unreal)
		return add_all(names, table, now, add);
	for (unsigned i = 0; i < now->count; i++)
		if (now->mounts[i]->unreal == now->mounts[i])
			for (int level = 1; !error && level <= DEPTH; level++)
				error = add_copy(names, table, add, now->mounts[i], level);
	return error;
}
