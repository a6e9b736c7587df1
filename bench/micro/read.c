/* 4 KiB of a file. */
#include "micro.h"

static char data[4096];
static int fd;

static void setup(const char *path)
{
	char file[4096];
	snprintf(file, sizeof file, "%s/a/b/c/file", path);
	must(fd = open(file, O_RDONLY | O_CLOEXEC), file);
}

static void operation(void)
{
	if (pread(fd, data, sizeof data, 0) != sizeof data)
		must(-1, "pread");
}
