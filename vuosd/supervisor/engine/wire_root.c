/*
 * A node of a mount that another mount has for its root: as the kernel's mnt_root. It is known by what it is and not by its path, so
 * it may be renamed, or removed, and its mount goes on to show it.
 */
#include "wire_inside.h"

#include <inttypes.h>
#include <stdio.h>

/* As it is known now; nobody is asked. */
static struct vu_wire_node *node_at(const struct vu_wire *wire, const char *path)
{
	struct vu_wire_node *node = wire->root;
	while (node && *path) {
		size_t length = strcspn(path, "/");
		const struct vu_wire_name *name = vu_wire_find(node, path, length);
		node = name ? name->node : NULL;
		path += length;
		path += strspn(path, "/");
	}
	return node;
}

void vu_wire_device(struct vu_wire *wire, const char *path, mode_t *mode, dev_t *rdev)
{
	pthread_mutex_lock(&wire->lock);
	const struct vu_wire_node *node = node_at(wire, path);
	if (node && (S_ISCHR(node->attr.mode) || S_ISBLK(node->attr.mode))) {
		*mode = (*mode & ~(mode_t)S_IFMT) | (node->attr.mode & S_IFMT);
		*rdev = node->attr.rdev;
	}
	pthread_mutex_unlock(&wire->lock);
}

/* The lock is held; `object` is the anchor. */
static int begin_holding(struct vu_wire *wire, struct vu_wire_node *node, int object)
{
	if (!node->holders) {
		if ((node->object = fcntl(object, F_DUPFD_CLOEXEC, 0)) < 0)
			return -errno;
		node->number = ++wire->numbers;
		node->next_held = wire->held;
		wire->held = node;
	}
	node->holders++;
	vu_wire_pin(node);
	return 0;
}

int vu_wire_hold(struct vu_wire *wire, const char *path, int object, struct vu_wire_node **out)
{
	struct stat wanted, st;
	pthread_mutex_lock(&wire->lock);
	struct vu_wire_node *node = node_at(wire, path);
	int fd = node ? vu_wire_open_anchor(wire, path, O_PATH) : -ENOENT;
	bool same = fd >= 0 && !fstat(fd, &st) && !fstat(object, &wanted) && st.st_dev == wanted.st_dev &&
		    st.st_ino == wanted.st_ino && !begin_holding(wire, node, object);
	if (same)
		*out = node;
	pthread_mutex_unlock(&wire->lock);
	if (fd >= 0)
		close(fd);
	return same ? 0 : -ENOENT;
}

void vu_wire_hold_again(struct vu_wire *wire, struct vu_wire_node *node)
{
	pthread_mutex_lock(&wire->lock);
	node->holders++;
	vu_wire_pin(node);
	pthread_mutex_unlock(&wire->lock);
}

/* Whoever asks the server next tells it what is forgotten: here nobody may wait for it. */
void vu_wire_let_go(struct vu_wire *wire, struct vu_wire_node *node)
{
	pthread_mutex_lock(&wire->lock);
	if (!--node->holders) {
		struct vu_wire_node **link = &wire->held;
		while (*link != node)
			link = &(*link)->next_held;
		*link = node->next_held;
		close(node->object);
	}
	vu_wire_unpin(wire, node);
	pthread_mutex_unlock(&wire->lock);
}

struct vu_wire_node *vu_wire_nameless(const struct vu_wire *wire, const char *path)
{
	uint64_t number = strtoull(path + 1, NULL, 10);
	struct vu_wire_node *node = wire->held;
	while (node && node->number != number)
		node = node->next_held;
	return node;
}

int vu_wire_anchor_path(const struct vu_wire *wire, const struct vu_wire_node *node, char out[PATH_MAX])
{
	int error = vu_wire_node_path(wire, node, out);
	if (error != -ENOENT || !node->holders)
		return error;
	snprintf(out, PATH_MAX, "/proc/self/fd/%d", node->object);
	return 0;
}

int vu_wire_name(struct vu_wire *wire, const struct vu_wire_node *node, const char *rest, char out[PATH_MAX])
{
	pthread_mutex_lock(&wire->lock);
	bool nameless = !node->names && node != wire->root && !S_ISDIR(node->attr.mode);
	pthread_mutex_unlock(&wire->lock);
	if (!nameless || *rest)
		return vu_wire_below(wire, node, rest, out);
	snprintf(out, PATH_MAX, "/%" PRIu64, node->number); /* no path within a mount begins so */
	return 0;
}

int vu_wire_below(struct vu_wire *wire, const struct vu_wire_node *node, const char *rest, char out[PATH_MAX])
{
	pthread_mutex_lock(&wire->lock);
	int error = vu_wire_node_path(wire, node, out);
	pthread_mutex_unlock(&wire->lock);
	if (error < 0 || !*rest)
		return error;
	size_t length = strlen(out), more = strlen(rest);
	if (length + more + 2 > PATH_MAX)
		return -ENAMETOOLONG;
	out[length] = '/';
	memcpy(out + length + 1, rest, more + 1);
	return 0;
}
