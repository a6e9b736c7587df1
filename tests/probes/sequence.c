/*
 * Carries out the calls that its input names, one a line, and prints what each gave; then the tree that came of it.
 *
 *     CALL PATH [PATH2] [NUMBER]        words separated by one tab; \e stands for an empty word
 *
 * Directories opened by "opendir" are kept in eight slots, and a path "N:rest" is taken relative to slot N.
 */
#include "probe.h"

static int slots[8] = { -1, -1, -1, -1, -1, -1, -1, -1 };

static const char *locate(char *word, int *at)
{
	*at = AT_FDCWD;
	if (word[0] >= '0' && word[0] <= '7' && word[1] == ':') {
		*at = slots[word[0] - '0'];
		word += 2;
	}
	return strcmp(word, "\\e") ? word : "";
}

/* Sequences are random: whoever wanders above the directory that holds the tree is put back. */
static int wandered(const char *proc_link)
{
	char place[PATH_MAX];
	ssize_t n = readlink(proc_link, place, sizeof place - 1);
	size_t holder = strlen(home) - strlen("/tree");

	if (n < 0)
		return 1;
	place[n] = 0;
	return strncmp(place, home, holder) || (place[holder] && place[holder] != '/');
}

/* Absolute paths lead into the tree, or are not taken. */
static int astray(const char *path)
{
	return path[0] == '/' && strncmp(path, home, strlen(home)) && strncmp(path, "/proc/self/cwd/", 15);
}

static void listing(int at, const char *path)
{
	int fd = S(openat, at, path, O_RDONLY | O_DIRECTORY), count = 0, bad = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct stat st;
	char *names[4096];

	result("list", path, fd < 0 ? -1 : 0);
	if (!dir) {
		say("\n");
		return;
	}
	while ((entry = readdir(dir)) && count < 4096) {
		if (!strcmp(entry->d_name, ".."))
			continue;
		if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) || st.st_ino != entry->d_ino)
			bad++;
		names[count++] = strdup(entry->d_name);
	}
	closedir(dir);
	qsort(names, count, sizeof *names, by_name);
	for (int i = 0; i < count; i++) {
		say(" %s", names[i]);
		free(names[i]);
	}
	say(" bad=%d\n", bad);
}

int main(void)
{
	char line[3 * PATH_MAX], *words[4], buffer[PATH_MAX];
	struct stat st;
	int at, at2, fd;

	light = 1;
	start();
	while (fgets(line, sizeof line, stdin)) {
		int count = 0;
		long number;
		const char *call, *path, *path2;

		line[strcspn(line, "\n")] = 0;
		for (char *word = strtok(line, "\t"); word && count < 4; word = strtok(NULL, "\t"))
			words[count++] = word;
		if (count < 4)
			return 2;
		call = words[0];
		path = locate(words[1], &at);
		path2 = locate(words[2], &at2);
		number = strtol(words[3], NULL, 0);
		snprintf(buffer, sizeof buffer, "%s, %s, %#lx", path, path2, number);
		char *label = strdup(portable(buffer, strlen(buffer)));
#define IS(name) (!strcmp(call, name))
		errno = 0;
		if (astray(path) || astray(path2)) {
			say("%s astray\n", call);
			free(label);
			continue;
		}
		if (IS("open")) {
			fd = S(openat, at, path, number | O_NONBLOCK, 0640);
			if (fd >= 0 && (number & O_ACCMODE) != O_RDONLY && !(number & O_PATH))
				result("write", label, write(fd, "written", 7)), say("\n");
			errno = fd < 0 ? errno : 0;
			show_descriptor(result(call, label, fd));
			free(label);
			continue;
		} else if (IS("stat") || IS("lstat")) {
			if (result(call, label,
				   S(newfstatat, at, path, &st, call[0] == 'l' ? AT_SYMLINK_NOFOLLOW : 0)) == 0)
				show_stat(&st);
		} else if (IS("access"))
			result(call, label, S(faccessat2, at, path, number & 7, 0));
		else if (IS("readlink")) {
			long n = result(call, label, S(readlinkat, at, path, buffer, sizeof buffer));
			say(" %s", n > 0 ? portable(buffer, n) : "");
		} else if (IS("list")) {
			listing(at, path);
		} else if (IS("mkdir"))
			result(call, label, S(mkdirat, at, path, 0755));
		else if (IS("unlink"))
			result(call, label, S(unlinkat, at, path, 0));
		else if (IS("rmdir"))
			result(call, label, S(unlinkat, at, path, AT_REMOVEDIR));
		else if (IS("rename"))
			result(call, label, S(renameat2, at, path, at2, path2, number));
		else if (IS("link"))
			result(call, label, S(linkat, at, path, at2, path2, number ? AT_SYMLINK_FOLLOW : 0));
		else if (IS("symlink"))
			result(call, label, S(symlinkat, path, at2, path2));
		else if (IS("chmod"))
			result(call, label, S(fchmodat, at, path, number & 0777));
		else if (IS("truncate"))
			result(call, label, at == AT_FDCWD ? S(truncate, path, number) : 0);
		else if (IS("chdir")) {
			long n;
			result(call, label, S(chdir, path));
			if (wandered("/proc/self/cwd"))
				say(" back %d", chdir(home));
			n = S(getcwd, buffer, sizeof buffer);
			say(" cwd %s", n < 0 ? strerrorname_np(errno) : portable(buffer, strlen(buffer)));
		} else if (IS("opendir")) {
			fd = S(openat, at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			result(call, label, fd < 0 ? -1 : 0);
			if (fd >= 0) {
				close(slots[number & 7]);
				snprintf(buffer, sizeof buffer, "/proc/self/fd/%d", fd);
				slots[number & 7] =
					wandered(buffer) ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 100 + (number & 7));
				close(fd);
			}
		} else if (IS("openat2")) {
			struct open_how how = { .flags = O_PATH, .resolve = number & 0x1f };
			show_descriptor(result(call, label, open_surely(at, path, &how)));
			free(label);
			continue;
		}
		say("\n");
		free(label);
	}
	chmod(home, 0755);
	must(chdir(home), "home");
	dump_tree(".");
	fflush(stdout);
	return 0;
}
