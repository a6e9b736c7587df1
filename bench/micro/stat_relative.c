/* From the working directory. */
#include "micro.h"

static void setup(const char *path)
{
	char directory[4096];
	snprintf(directory, sizeof directory, "%s/a/b", path);
	must(chdir(directory), directory);
}

static void operation(void)
{
	struct stat st;
	must(stat("c/file", &st), "c/file");
}
