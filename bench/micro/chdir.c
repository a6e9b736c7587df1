#include "micro.h"

static char directory[2][4096];
static int turn;

static void setup(const char *path)
{
	snprintf(directory[0], sizeof *directory, "%s/a/b", path);
	snprintf(directory[1], sizeof *directory, "%s/list", path);
}

static void operation(void)
{
	turn = !turn;
	must(chdir(directory[turn]), directory[turn]);
}
