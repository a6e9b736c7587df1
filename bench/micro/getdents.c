/* A directory of 1000 entries, read from its beginning to its end. */
#include "micro.h"

static int fd;

static void setup(const char *path)
{
	char directory[4096];
	snprintf(directory, sizeof directory, "%s/list", path);
	must(fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), directory);
}

static void operation(void)
{
	static _Alignas(8) char data[32768];
	long got, all = 0;
	lseek(fd, 0, SEEK_SET);
	while ((got = syscall(SYS_getdents64, fd, data, sizeof data)) > 0)
		all += got;
	if (got < 0 || all < 1000 * 24)
		must(-1, "getdents64");
}
