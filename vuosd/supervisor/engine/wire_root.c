/*
 * A node of a mount that another mount has for its root: as the kernel's mnt_root. It is known by what it is and not by its path, so
 * it may be renamed, or removed, and its mount goes on to show it.
 */
#include "wire_inside.h"

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

int vu_wire_hold(struct vu_wire *wire, const char *path, int object, struct vu_wire_node **out)
{
	struct stat wanted, st;
	pthread_mutex_lock(&wire->lock);
	struct vu_wire_node *node = node_at(wire, path);
	int fd = node ? vu_wire_open_anchor(wire, path, O_PATH) : -ENOENT;
	bool same = fd >= 0 && !fstat(fd, &st) && !fstat(object, &wanted) && st.st_dev == wanted.st_dev &&
		    st.st_ino == wanted.st_ino;
	if (same) {
		vu_wire_pin(node);
		*out = node;
	}
	pthread_mutex_unlock(&wire->lock);
	if (fd >= 0)
		close(fd);
	return same ? 0 : -ENOENT;
}

void vu_wire_hold_again(struct vu_wire *wire, struct vu_wire_node *node)
{
	pthread_mutex_lock(&wire->lock);
	vu_wire_pin(node);
	pthread_mutex_unlock(&wire->lock);
}

/* Whoever asks the server next tells it what is forgotten: here nobody may wait for it. */
void vu_wire_let_go(struct vu_wire *wire, struct vu_wire_node *node)
{
	pthread_mutex_lock(&wire->lock);
	vu_wire_unpin(wire, node);
	pthread_mutex_unlock(&wire->lock);
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
