/* /bin/true, waited for. */
#include "micro.h"

static void setup(const char *path)
{
	(void)path;
}

static void operation(void)
{
	int status;
	pid_t child = fork();
	must(child, "fork");
	if (!child) {
		execl("/bin/true", "true", NULL);
		_exit(127);
	}
	must(waitpid(child, &status, 0), "waitpid");
	if (status) {
		fprintf(stderr, "/bin/true: status %x\n", (unsigned)status);
		exit(1);
	}
}
