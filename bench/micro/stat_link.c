/* Through a symbolic link on the way. */
#include "micro.h"

static char file[4096];

static void setup(const char *path)
{
	snprintf(file, sizeof file, "%s/link/c/file", path);
}

static void operation(void)
{
	struct stat st;
	must(stat(file, &st), file);
}
