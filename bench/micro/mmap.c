/* A file's page mapped, touched and unmapped. */
#include "micro.h"

static int fd;

static void setup(const char *path)
{
	char file[4096];
	snprintf(file, sizeof file, "%s/a/b/c/file", path);
	must(fd = open(file, O_RDONLY | O_CLOEXEC), file);
}

static void operation(void)
{
	volatile char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	if (page == MAP_FAILED)
		must(-1, "mmap");
	(void)*page;
	munmap((void *)page, 4096);
}
