/*
 * A directory of the host is hidden wherever a session shows it, in all of its namespaces: that of the layers' store, when the
 * first cow comes while the session runs. What is bound afterwards takes that along (VU_ENTRY_LOCKED).
 */
#include "engine.h"

/* What follows `head` in a path at or below it; NULL: it is neither. */
static const char *rest_of(const char *path, const char *head, size_t length)
{
	return !strncmp(path, head, length) && (!path[length] || path[length] == '/') ? path + length : NULL;
}

/*
 * Where the mount shows the directory by what it has from `source`; false: nowhere, or something else covers that place. A
 * source that lies in the directory is hidden as a whole, but the trees of a layer.
 */
static bool shows(const struct vu_table *table, const struct vu_mount *mount, const struct vu_mount *source,
		  const char *host, char *target)
{
	struct vu_spot spot;
	const char *rest = rest_of(host, source->source, source->source_length);
	if (!rest && mount == source && rest_of(source->source, host, strlen(host)))
		rest = "";
	if (mount->kind == VU_HIDE || mount->private || mount->of || !rest ||
	    mount->target_length + strlen(rest) >= VU_TEXT)
		return false;
	memcpy(target, mount->target, mount->target_length);
	strcpy(target + mount->target_length, rest);
	vu_table_find(table, *target ? target : "/", &spot);
	return *target && spot.mount == mount;
}

/* One place more where it is shown: its namespace and target, and the group that a mount there belongs to. The lock is held. */
static bool find(struct vu_namespace *names, const char *host, unsigned *space, char *target, unsigned *group)
{
	for (*space = 0; *space < VU_SPACES; (*space)++) {
		const struct vu_table *now = atomic_load(&names->tables[*space]);
		for (unsigned i = 0; now && i < now->count; i++) {
			const struct vu_mount *mount = now->mounts[i];
			*group = mount->late && !mount->group ? mount->index : mount->group;
			for (unsigned tree = 0; tree <= mount->tree_count; tree++)
				if (shows(now, mount, tree ? &mount->trees[tree - 1] : mount, host, target))
					return true;
		}
	}
	return false;
}

static int hide(struct vu_namespace *names, const char *host, char *target, bool *found)
{
	unsigned space, group;
	pthread_mutex_lock(&names->lock);
	*found = find(names, host, &space, target, &group);
	pthread_mutex_unlock(&names->lock);
	if (!*found)
		return 0;
	struct vu_mount *mount = vu_mount_new(names, VU_HIDE, false, target, -1, host);
	if (!mount)
		return -ENOMEM;
	mount->late = mount->locked = true;
	mount->group = group;
	pthread_mutex_lock(&names->lock);
	/* The namespace may have ended meanwhile. */
	struct vu_table *table = atomic_load(&names->tables[space]) ? vu_namespace_with(names, space, mount) : NULL;
	int error = table || !atomic_load(&names->tables[space]) ? 0 : -errno;
	if (table)
		vu_namespace_publish(names, space, table);
	pthread_mutex_unlock(&names->lock);
	return error;
}

int vu_session_conceal(vu_session *session, const char *host)
{
	bool found = true;
	int error = 0;
	if (*host != '/' || !host[1])
		return -EINVAL;
	char *target = malloc(VU_TEXT);
	while (target && found && !error)
		error = hide(&session->names, host, target, &found);
	free(target);
	return target ? error : -ENOMEM;
}
