#include "micro.h"

static char file[4096];

static void setup(const char *path)
{
	snprintf(file, sizeof file, "%s/a/b/c/file", path);
}

static void operation(void)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	must(fd, file);
	close(fd);
}
