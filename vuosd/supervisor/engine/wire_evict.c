/*
 * Room in the cache: what has been fetched and nobody has open becomes a hole again, what was opened longest ago first. Whoever opens it
 * later has it fetched anew.
 *
 * Whether somebody has it open is told by a write lease (fcntl(2), F_SETLEASE), which is refused as long as there is another open
 * file description, a mapping, or a program that runs. Nobody comes meanwhile: who may open it is counted (`opening`) before, and the
 * lock is held. Should somebody come by another way, the signal of the lease goes to this thread, which takes none.
 */
#include "wire_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MOST_SPARE (UINT64_C(64) << 20) /* bytes that are left free, where a sixteenth of the file system is more */

/* A file that may be read by nobody may be a program, which the kernel opens without a word to us. */
static bool may_go(const struct vu_wire_node *node)
{
	const struct vu_wire_data *data = node->data;
	return data && data->filled && !data->busy && !data->writing && !data->opening && S_ISREG(node->attr.mode) &&
	       node->attr.size && (node->attr.mode & 0444);
}

static bool alone(int fd)
{
	struct f_owner_ex own = { .type = F_OWNER_TID, .pid = gettid() };
	return !fcntl(fd, F_SETOWN_EX, &own) && !fcntl(fd, F_SETLEASE, F_WRLCK);
}

/* How many bytes that gives. */
static uint64_t let_go(struct vu_wire *wire, struct vu_wire_node *node)
{
	char path[PATH_MAX];
	struct stat st;
	uint64_t freed = 0;
	int fd = vu_wire_anchor_path(wire, node, path) < 0 ? -1 : vu_wire_open_anchor(wire, path, O_RDWR | O_NONBLOCK);
	if (fd < 0)
		return 0;
	if (!fstat(fd, &st) && st.st_blocks && alone(fd)) {
		bool dug = !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, st.st_size);
		if (dug || (!ftruncate(fd, 0) && !ftruncate(fd, st.st_size))) {
			struct timespec times[] = { st.st_atim, st.st_mtim };
			futimens(fd, times);
			freed = (uint64_t)st.st_blocks * 512;
		}
		node->data->filled = false;
		free(node->data->sums);
		node->data->sums = NULL;
		node->data->sum_count = 0;
		fcntl(fd, F_SETLEASE, F_UNLCK);
	}
	close(fd);
	return freed;
}

static int by_use(const void *one, const void *other)
{
	const struct vu_wire_node *const *a = one, *const *b = other;
	return ((*a)->data->used > (*b)->data->used) - ((*a)->data->used < (*b)->data->used);
}

uint64_t vu_wire_evict(struct vu_wire *wire, uint64_t wanted)
{
	size_t count = 0, i = 0;
	uint64_t freed = 0;
	for (unsigned bucket = 0; bucket < VU_WIRE_BUCKETS; bucket++)
		for (const struct vu_wire_node *node = wire->nodes[bucket]; node; node = node->next)
			count += may_go(node);
	struct vu_wire_node **nodes = calloc(count + 1, sizeof *nodes);
	if (!nodes)
		return 0;
	for (unsigned bucket = 0; bucket < VU_WIRE_BUCKETS; bucket++)
		for (struct vu_wire_node *node = wire->nodes[bucket]; node; node = node->next)
			if (may_go(node))
				nodes[i++] = node;
	qsort(nodes, count, sizeof *nodes, by_use);
	for (i = 0; i < count && freed < wanted; i++)
		freed += let_go(wire, nodes[i]);
	free(nodes);
	return freed;
}

void vu_wire_spare(struct vu_wire *wire)
{
	struct statvfs st;
	if (fstatvfs(wire->cache, &st) < 0)
		return;
	uint64_t spare = (uint64_t)st.f_blocks * st.f_frsize / 16, free_now = (uint64_t)st.f_bavail * st.f_frsize;
	if (spare > MOST_SPARE)
		spare = MOST_SPARE;
	if (free_now < spare)
		vu_wire_evict(wire, spare - free_now);
}
