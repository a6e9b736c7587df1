/* What is not there, as compilers and interpreters look for it all the time. */
#include "micro.h"

static char file[4096];

static void setup(const char *path)
{
	snprintf(file, sizeof file, "%s/a/b/c/absent", path);
}

static void operation(void)
{
	struct stat st;
	if (!stat(file, &st) || errno != ENOENT)
		must(-1, file);
}
