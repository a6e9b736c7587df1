/* 4 KiB into a file. */
#include "micro.h"

static char data[4096];
static int fd;

static void setup(const char *path)
{
	char file[4096];
	snprintf(file, sizeof file, "%s/written", path);
	must(fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600), file);
}

static void operation(void)
{
	if (pwrite(fd, data, sizeof data, 0) != sizeof data)
		must(-1, "pwrite");
}
