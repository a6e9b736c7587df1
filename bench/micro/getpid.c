/* A call that is never trapped. */
#include "micro.h"

static void setup(const char *path)
{
	(void)path;
}

static void operation(void)
{
	syscall(SYS_getpid);
}
