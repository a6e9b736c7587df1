/*
 * Files with several names in a tree below. When the first of them is copied up the copy gets as many names: the others in
 * the work directory, from where each is moved to its place as soon as somebody looks it up. So what was one file stays one,
 * and counts its names as before.
 */
#include "stack.h"

#include <stdio.h>
#include <sys/syscall.h>

#include "walk.h"

enum { BUCKETS = sizeof(((struct vu_stack *)0)->links) / sizeof(struct vu_link *) };

static unsigned bucket(dev_t dev, ino_t ino)
{
	return (unsigned)(ino * 31 + dev) % BUCKETS;
}

static void name_of(const struct vu_link *link, unsigned number, char name[64])
{
	snprintf(name, 64, "link-%llx-%llx-%u", (unsigned long long)link->dev, (unsigned long long)link->ino, number);
}

static struct vu_link *find(const struct vu_stack *stack, const struct stat *below)
{
	if (!stack->has_links || below->st_nlink < 2 || S_ISDIR(below->st_mode))
		return NULL;
	struct vu_link *link = stack->links[bucket(below->st_dev, below->st_ino)];
	while (link && (link->dev != below->st_dev || link->ino != below->st_ino))
		link = link->next;
	return link;
}

bool vu_links_knows(const struct vu_stack *stack, const struct stat *below)
{
	const struct vu_link *link = find(stack, below);
	return link && link->spare;
}

int vu_links_add(struct vu_stack *stack, const struct stat *below, const char *path)
{
	char name[64], source[32];
	struct stat above;
	if (below->st_nlink < 2 || S_ISDIR(below->st_mode) || find(stack, below))
		return 0;
	VU_CLOSE int fd = vu_walk_open_below(stack->trees[0].fd, path, O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &above) < 0)
		return fd < 0 ? fd : -errno;
	struct vu_link *link = calloc(1, sizeof *link);
	if (!link)
		return -ENOMEM;
	struct vu_link **at = &stack->links[bucket(below->st_dev, below->st_ino)];
	*link = (struct vu_link){ below->st_dev, below->st_ino, 0, *at };
	*at = link;
	stack->has_links = true;
	for (nlink_t have = above.st_nlink; have < below->st_nlink; have++) {
		name_of(link, link->spare, name);
		unlinkat(stack->work, name, 0);
		if (linkat(AT_FDCWD, vu_fd_path(fd, source), stack->work, name, AT_SYMLINK_FOLLOW) < 0)
			return errno == EMLINK ? 0 : -errno;
		link->spare++;
	}
	return 0;
}

int vu_links_join(struct vu_stack *stack, const struct stat *below, int dir, const char *name)
{
	char spare[64];
	struct vu_link *link = find(stack, below);
	name_of(link, link->spare - 1, spare);
	if (syscall(SYS_renameat2, stack->work, spare, dir, name, 1 /* RENAME_NOREPLACE */) < 0)
		return -errno;
	link->spare--;
	return 0;
}

void vu_links_free(struct vu_stack *stack)
{
	for (unsigned i = 0; i < BUCKETS; i++) {
		for (struct vu_link *link = stack->links[i], *next; link; link = next) {
			next = link->next;
			free(link);
		}
	}
}

/* One record: "dev ino mode size mtime ctime path". */
static int read_record(struct vu_stack *stack, char *record)
{
	unsigned long long dev, ino, size;
	unsigned mode;
	long long mtime, ctime;
	int at = 0;
	struct stat above, below;
	if (sscanf(record, "%llu %llu %o %llu %lld %lld %n", &dev, &ino, &mode, &size, &mtime, &ctime, &at) < 6 || !at)
		return -EUCLEAN;
	if (S_ISDIR(mode) || fstatat(stack->trees[0].fd, record + at, &above, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (above.st_mode & S_IFMT) != (mode & S_IFMT))
		return 0;
	for (unsigned i = 1; i < stack->count; i++)
		if (!fstatat(stack->trees[i].fd, record + at, &below, AT_SYMLINK_NOFOLLOW))
			return below.st_dev == dev && below.st_ino == ino ? vu_links_add(stack, &below, record + at)
									  : 0;
	return 0;
}

int vu_links_read(struct vu_stack *stack)
{
	int error = 0;
	char path[32], *record = NULL;
	size_t room = 0;
	if (stack->origins < 0)
		return 0;
	FILE *book = fopen(vu_fd_path(stack->origins, path), "re");
	if (!book)
		return -errno;
	while (!error && getdelim(&record, &room, 0, book) > 0)
		error = read_record(stack, record);
	free(record);
	fclose(book);
	return error;
}
