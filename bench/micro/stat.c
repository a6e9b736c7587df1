/* By the path as given, absolute. */
#include "micro.h"

static char file[4096];

static void setup(const char *path)
{
	snprintf(file, sizeof file, "%s/a/b/c/file", path);
}

static void operation(void)
{
	struct stat st;
	must(stat(file, &st), file);
}
