/*
 * Several mounts of one server: what each of them shows. The first is the *origin* of the others, which refer to it; the server ends
 * when none is left, as a super block does natively. They are as different as vfsmounts are: rename(2) and link(2) between
 * them are EXDEV, each is read-only or not by itself.
 */
#include "wired.h"

#include <stdio.h>

static bool is_same(int fd, int other)
{
	struct stat a, b;
	return !fstat(fd, &a) && !fstat(other, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int vu_wired_root(struct vu_namespace *names, struct vu_mount *mount)
{
	const struct vu_mount *origin = mount->origin;
	struct vu_wire *wire = vu_wired_wire(mount->wired);
	size_t head = origin->source_length;
	if (!strcmp(mount->source, origin->source))
		return 0;
	if (!strncmp(mount->source, origin->source, head) && mount->source[head] == '/' &&
	    !vu_wire_hold(wire, mount->source + head + 1, mount->fd, &mount->node))
		return 0;
	/* It has been removed, and is moved or mounted in another way: it is some mount's root. */
	for (struct vu_mount *other = names->all; other; other = other->next)
		if (other->origin == origin && other->node && other->fd >= 0 && is_same(other->fd, mount->fd)) {
			mount->node = other->node;
			vu_wire_hold_again(wire, mount->node);
			return 0;
		}
	return -ENOENT;
}

/* To where the node's path says; if there is no memory it is found by another mount. */
static void follow(struct vu_mount *mount)
{
	char path[PATH_MAX];
	size_t length;
	const char *source = vu_mount_source(mount, &length);
	const struct vu_mount *origin = mount->origin;
	if (vu_wire_below(vu_wired_wire(mount->wired), mount->node, "", path) < 0)
		return; /* it has been removed: its last path is as good as any */
	if (length == origin->source_length + 1 + strlen(path) && !strcmp(source + origin->source_length + 1, path))
		return;
	struct vu_moved *moved = malloc(sizeof *moved + origin->source_length + strlen(path) + 2);
	if (!moved)
		return;
	moved->length = (size_t)sprintf(moved->path, "%s/%s", origin->source, path);
	moved->before = mount->moved;
	atomic_store_explicit(&mount->moved, moved, memory_order_release);
}

void vu_wired_follow(struct vu_session *session, const struct vu_wired *wired)
{
	pthread_mutex_lock(&session->names.lock);
	for (struct vu_mount *mount = session->names.all; mount; mount = mount->next)
		if (mount->wired == wired && mount->node)
			follow(mount);
	pthread_mutex_unlock(&session->names.lock);
}

void vu_wired_leave(struct vu_mount *mount)
{
	if (!mount->node)
		return;
	vu_wire_let_go(vu_wired_wire(mount->wired), mount->node);
	mount->node = NULL;
}

/* It is a descriptor's path that is at stake, and none of the call's business if that cannot be kept. */
void vu_wired_note(struct vu_call *call, const struct vu_place *place)
{
	struct vu_state wanted = *vu_state_of(call);
	bool told = wanted.opened_by || wanted.cwd_mount || place->mount->node || place->mount->upon;
	if (!call->table->shared || wanted.opened_by == place->mount || !told)
		return;
	wanted.opened_by = place->mount;
	vu_resign(call);
	vu_state_set(call, &wanted);
	vu_assume(call);
}

char *vu_wired_root_path(const struct vu_mount *mount)
{
	char path[PATH_MAX + 1] = "/", *deleted;
	if (mount->node && vu_wire_below(vu_wired_wire(mount->wired), mount->node, "", path + 1) < 0)
		/* fs/d_path.c dentry_path; the path that it had when it was mounted */
		return asprintf(&deleted, "%s//deleted", mount->source + mount->origin->source_length) < 0 ? NULL
													   : deleted;
	return strdup(path);
}
