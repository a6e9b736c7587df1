/* getdents64 and getdents: order, seeking, small buffers; d_ino and d_type against what lstat says of the same name. */
#include "probe.h"

struct entry64 {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
} __attribute__((packed));
struct entry {
	unsigned long ino, off;
	unsigned short reclen;
	char name[];
};

static int names_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The order is the file system's and follows hashes that differ: compare what is there, sorted, and that each is there once. */
static void list(const char *path, size_t size, int old)
{
	char *buffer = malloc(size), *lines[8192], line[PATH_MAX];
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), count = 0;
	struct stat st;
	long n;

	say("%s %s size=%zu old=%d\n", phase, path, size, old);
	if (fd < 0) {
		say("  %s\n", strerrorname_np(errno));
		return;
	}
	while ((n = old ? S(getdents, fd, buffer, size) : S(getdents64, fd, buffer, size)) > 0)
		for (long i = 0; i < n;) {
			struct entry64 *e64 = (void *)(buffer + i);
			struct entry *e = (void *)(buffer + i);
			const char *name = old ? e->name : e64->name;
			uint64_t ino = old ? e->ino : e64->ino;
			unsigned reclen = old ? e->reclen : e64->reclen,
				 type = old ? (unsigned char)buffer[i + reclen - 1] : e64->type;
			const char *agree = "gone";
			if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
				agree = st.st_ino == ino ? "same" : "OTHER";
			if (!strcmp(name, "..")) /* of a mount's root, the kernel gives what lies below */
				agree = "-";
			snprintf(line, sizeof line, "  %s ino %s type %u %s reclen%%8=%u", name, agree, type,
				 strcmp(agree, "same") || (st.st_mode >> 12) == type ? "" : "TYPE", reclen % 8);
			lines[count++] = strdup(line);
			i += reclen;
		}
	result("end", path, n);
	say("\n");
	result("again", path, S(getdents64, fd, buffer, size));
	say("\n");
	qsort(lines, count, sizeof *lines, names_compare);
	for (int i = 0; i < count; i++)
		say("%s\n", lines[i]);
	lseek(fd, 0, SEEK_SET);
	n = S(getdents64, fd, buffer, size);
	say("rewound: %s\n", n > 0 ? "entries" : n == 0 ? "end" : strerrorname_np(errno));
	close(fd);
	free(buffer);
}

/* Every d_off of an entry, sought, must give the entries that came after it, and no other. */
static void seeking(const char *path)
{
	DIR *dir = opendir(path);
	char *names[512];
	long positions[512];
	int count = 0, wrong = 0;
	struct dirent *entry;

	positions[0] = telldir(dir);
	while ((entry = readdir(dir)) && count < 511) {
		names[count++] = strdup(entry->d_name);
		positions[count] = telldir(dir);
	}
	for (int i = 0; i <= count; i++) {
		seekdir(dir, positions[i]);
		for (int j = i; j < count; j++) {
			entry = readdir(dir);
			if (!entry || strcmp(entry->d_name, names[j])) {
				wrong++;
				break;
			}
		}
		if (readdir(dir))
			wrong++;
	}
	say("%s seek %s: %d entries, %d wrong\n", phase, path, count, wrong);
	closedir(dir);
}

/* rm -r and the like: names go while the directory is read. */
static void removing(void)
{
	DIR *dir;
	char name[64];
	struct dirent *entry;
	int seen = 0;

	must(mkdir("many", 0755), "many");
	for (int i = 0; i < 3000; i++) {
		sprintf(name, "many/%s%d",
			i % 3 ? "entry" : "a much longer name of an entry, so that a buffer holds few: ", i);
		must(mknod(name, S_IFREG | 0600, 0), name);
	}
	list("many", 4096, 0);
	seeking("dir");
	dir = opendir("many");
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		must(unlinkat(dirfd(dir), entry->d_name, 0), "unlinkat");
		seen++;
	}
	closedir(dir);
	say("removed %d, then rmdir = %d\n", seen, rmdir("many"));
}

static void shared(void)
{
	/* The position belongs to the open file description: a dup and a child go on where the other was. */
	int fd = open("dir", O_RDONLY | O_DIRECTORY), other = dup(fd), total = 0, status;
	char buffer[32768];
	long n;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child)
		_exit(S(getdents64, other, buffer, sizeof buffer) > 0 ? 0 : 1);
	waitpid(child, &status, 0);
	while ((n = S(getdents64, fd, buffer, sizeof buffer)) > 0)
		total += n;
	say("%s child %d, then parent sees %d bytes\n", phase, WEXITSTATUS(status), total);
	close(fd);
	close(other);
}

int main(void)
{
	char buffer[4096];
	int fd;

	start();
	phase = "list";
	list(".", 32768, 0);
	list(".", 32768, 1);
	list(".", 512, 0);
	list("dir", 64, 0);
	list("emptydir", 32768, 0);
	list("locked", 32768, 0);
	list("noread", 32768, 0);
	seeking(".");
	seeking("dir");
	seeking("emptydir");
	shared();
	fd = open("dir", O_RDONLY | O_DIRECTORY);
	result("getdents64", "NULL", S(getdents64, fd, NULL, 4096));
	result("getdents64", "bad pointer", S(getdents64, fd, 1, 4096));
	result("getdents64", "size 0", S(getdents64, fd, buffer, 0));
	result("getdents64", "size 1", S(getdents64, fd, buffer, 1));
	result("getdents64", "size 23", S(getdents64, fd, buffer, 23));
	close(fd);
	fd = open("file", O_RDONLY);
	result("getdents64", "file", S(getdents64, fd, buffer, 4096));
	close(fd);
	fd = open("dir", O_PATH);
	result("getdents64", "O_PATH", S(getdents64, fd, buffer, 4096));
	close(fd);
	result("getdents64", "closed", S(getdents64, fd, buffer, 4096));
	say("\n");
	removing();
	return 0;
}
