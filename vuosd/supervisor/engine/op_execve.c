/* execve, execveat: the program the view shows, started by its own interpreter. */
#include "remote_call.h"

int vu_op_execve(struct vu_call *call)
{
	(void)call;
	return VU_CONTINUE;
}
