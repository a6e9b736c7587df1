#include "micro.h"

static void setup(const char *path)
{
	must(chdir(path), path);
}

static void operation(void)
{
	char text[4096];
	must(syscall(SYS_getcwd, text, sizeof text), "getcwd");
}
