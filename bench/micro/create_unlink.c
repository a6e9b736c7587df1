/* Makes a file, closes it and removes it. */
#include "micro.h"

static char file[4096];

static void setup(const char *path)
{
	snprintf(file, sizeof file, "%s/new-%d", path, (int)getpid());
}

static void operation(void)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	must(fd, file);
	close(fd);
	must(unlink(file), file);
}
