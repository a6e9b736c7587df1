/*
 * Files with several names in a tree below. When the first of them is copied up the copy gets as many names: the others in
 * the work directory, from where each is moved to its place as soon as somebody looks it up. So what was one file stays one,
 * and counts its names as before.
 *
 * The copy carries an attribute that says whose copy it is. So when the layer is used again it is known from a file that a
 * program has made and put in the place of one of the names. Symlinks and special files cannot carry one: those that
 * had several names are files of their own then.
 *
 * A name that is covered while nothing has been copied is counted, so that the others tell how many there are: overlayfs does
 * that with an index (ovl_drop_nlink() in fs/overlayfs/dir.c).
 */
#include "stack.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "walk.h"

#define MARK "user.overlay.vuosd-links" /* "DEV INO" of the file below; no program sees it */

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

static int mark_of(dev_t dev, ino_t ino, char text[48])
{
	return snprintf(text, 48, "%llu %llu", (unsigned long long)dev, (unsigned long long)ino);
}

int vu_links_mark(int copy, const struct stat *below)
{
	char text[48];
	if (below->st_nlink < 2)
		return 0;
	int length = mark_of(below->st_dev, below->st_ino, text);
	return fsetxattr(copy, MARK, text, (size_t)length, 0) < 0 ? -errno : 0;
}

static bool is_marked(int fd, const struct stat *below)
{
	char text[48], found[48], path[32];
	int length = mark_of(below->st_dev, below->st_ino, text);
	return getxattr(vu_fd_path(fd, path), MARK, found, sizeof found) == length &&
	       !memcmp(text, found, (size_t)length);
}

static struct vu_link *add(struct vu_stack *stack, const struct stat *below)
{
	struct vu_link **at = &stack->links[bucket(below->st_dev, below->st_ino)], *link = calloc(1, sizeof *link);
	if (link) {
		*link = (struct vu_link){ .dev = below->st_dev, .ino = below->st_ino, .next = *at };
		*at = link;
		stack->has_links = true;
	}
	return link;
}

/* `count` more names of the copy, for those names below that have not been looked up. */
static int add_spares(struct vu_stack *stack, struct vu_link *link, int copy, nlink_t count)
{
	char name[64], source[32];
	for (; count; count--) {
		name_of(link, link->spare, name);
		unlinkat(stack->work, name, 0);
		if (linkat(AT_FDCWD, vu_fd_path(copy, source), stack->work, name, AT_SYMLINK_FOLLOW) < 0)
			return errno == EMLINK ? 0 : -errno;
		link->spare++;
	}
	return 0;
}

int vu_links_add(struct vu_stack *stack, const struct stat *below, const char *path)
{
	struct stat above;
	struct vu_link *link = find(stack, below);
	if (below->st_nlink < 2 || S_ISDIR(below->st_mode) || (link && link->copied))
		return 0;
	VU_CLOSE int fd = vu_walk_open_below(stack->trees[0].fd, path, O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &above) < 0)
		return fd < 0 ? fd : -errno;
	if (!link && !(link = add(stack, below)))
		return -ENOMEM;
	link->copied = true;
	nlink_t away = above.st_nlink + link->lost;
	return add_spares(stack, link, fd, below->st_nlink > away ? below->st_nlink - away : 0);
}

int vu_links_lose(struct vu_stack *stack, const struct stat *below)
{
	char spare[64];
	if (below->st_nlink < 2 || S_ISDIR(below->st_mode))
		return 0;
	struct vu_link *link = find(stack, below);
	if (!link && !(link = add(stack, below)))
		return -ENOMEM;
	if (link->spare) {
		name_of(link, link->spare - 1, spare);
		if (unlinkat(stack->work, spare, 0) < 0)
			return -errno;
		link->spare--;
	} else if (!link->copied) {
		link->lost++;
		atomic_store(&stack->has_lost, true);
	}
	return 0;
}

nlink_t vu_links_lost(struct vu_stack *stack, const struct stat *below)
{
	if (!atomic_load_explicit(&stack->has_lost, memory_order_relaxed) || below->st_nlink < 2)
		return 0;
	pthread_mutex_lock(&stack->lock);
	const struct vu_link *link = find(stack, below);
	nlink_t lost = link ? link->lost : 0;
	pthread_mutex_unlock(&stack->lock);
	return lost < below->st_nlink ? lost : below->st_nlink - 1; /* others may have taken names away below */
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
			free(link->names);
			free(link);
		}
	}
}

/* The path is one of the names that the layer has taken from the file; false without memory. */
static bool take_name(struct vu_link *link, const char *path)
{
	size_t length = strlen(path) + 1;
	for (const char *name = link->names; name < link->names + link->length; name += strlen(name) + 1)
		if (!strcmp(name, path))
			return true;
	char *names = realloc(link->names, link->length + length);
	if (!names)
		return false;
	memcpy(names + link->length, path, length);
	link->names = names;
	link->length += length;
	link->taken++;
	return true;
}

/* One record: "dev ino mode size mtime ctime path". */
static int read_record(struct vu_stack *stack, char *record)
{
	unsigned long long dev, ino, size;
	unsigned mode;
	long long mtime, ctime;
	int at = 0;
	struct stat below;
	if (sscanf(record, "%llu %llu %o %llu %lld %lld %n", &dev, &ino, &mode, &size, &mtime, &ctime, &at) < 6 || !at)
		return -EUCLEAN;
	if (!S_ISREG(mode))
		return 0;
	unsigned i = 1;
	while (i < stack->count && fstatat(stack->trees[i].fd, record + at, &below, AT_SYMLINK_NOFOLLOW) < 0)
		i++;
	if (i == stack->count || below.st_dev != dev || below.st_ino != ino || below.st_nlink < 2)
		return 0;
	struct vu_link *link = find(stack, &below);
	if (!link && !(link = add(stack, &below)))
		return -ENOMEM;
	link->total = below.st_nlink;
	return take_name(link, record + at) ? 0 : -ENOMEM;
}

/* Of a file whose names are known: which of them leads to the copy? The others below lead there too. */
static int find_copy(struct vu_stack *stack, struct vu_link *link)
{
	struct stat below = { .st_dev = link->dev, .st_ino = link->ino };
	int error = 0;
	for (const char *name = link->names; name < link->names + link->length; name += strlen(name) + 1) {
		VU_CLOSE int fd = vu_walk_open_below(stack->trees[0].fd, name, O_NOFOLLOW);
		if (fd >= 0 && is_marked(fd, &below)) {
			nlink_t left = link->total > link->taken ? link->total - link->taken : 0;
			error = add_spares(stack, link, fd, left);
			link->copied = true;
			break;
		}
	}
	if (!link->copied) {
		link->lost = link->taken;
		atomic_store(&stack->has_lost, true);
	}
	free(link->names);
	link->names = NULL;
	return error;
}

/* What was left when the layer was last used: of names that nobody looked up, and of what was on its way into the layer. */
static void drop_rubbish(struct vu_stack *stack)
{
	int fd = openat(stack->work, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	for (struct dirent *entry; dir && (entry = readdir(dir));)
		if (!strncmp(entry->d_name, "link-", 5) || !strncmp(entry->d_name, "new-", 4))
			unlinkat(stack->work, entry->d_name, entry->d_type == DT_DIR ? AT_REMOVEDIR : 0);
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}

int vu_links_read(struct vu_stack *stack)
{
	int error = 0;
	char path[32], *record = NULL;
	size_t room = 0;
	drop_rubbish(stack);
	if (stack->origins < 0)
		return 0;
	FILE *book = fopen(vu_fd_path(stack->origins, path), "re");
	if (!book)
		return -errno;
	while (!error && getdelim(&record, &room, 0, book) > 0)
		error = read_record(stack, record);
	free(record);
	fclose(book);
	for (unsigned i = 0; i < BUCKETS; i++)
		for (struct vu_link *link = stack->links[i]; !error && link; link = link->next)
			error = find_copy(stack, link);
	return error;
}
