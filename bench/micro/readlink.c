#include "micro.h"

static char link_[4096];

static void setup(const char *path)
{
	snprintf(link_, sizeof link_, "%s/link", path);
}

static void operation(void)
{
	char text[4096];
	must(readlink(link_, text, sizeof text), link_);
}
