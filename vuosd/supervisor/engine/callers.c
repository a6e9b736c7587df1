/*
 * What is kept of threads that call again and again: descriptors of what procfs tells of them, by which it is read without a
 * look-up of /proc/TID. They name the thread and not its number (proc_pid_make_inode, fs/proc/base.c): of one that has
 * gone they tell nothing, whoever has got the number since. Rights are judged when they are read.
 */
#include "engine.h"

#include <stdio.h>

static const struct {
	const char *name;
	int flags;
} files[VU_CALLER_FILES] = {
	[VU_CALLER_CWD] = { "cwd", O_PATH | O_NOFOLLOW },
	[VU_CALLER_DESCRIPTORS] = { "fd", O_PATH | O_DIRECTORY },
	[VU_CALLER_STATUS] = { "status", O_RDONLY },
};

static struct vu_caller *slot(const struct vu_call *call)
{
	return &call->work->callers[(unsigned)call->tid % VU_CALLERS];
}

static void forget(struct vu_caller *caller)
{
	for (int i = 0; i < VU_CALLER_FILES; i++)
		if (caller->files[i]) /* 0: none is kept */
			close(caller->files[i] - 1);
	*caller = (struct vu_caller){};
}

int vu_caller_file(struct vu_call *call, enum vu_caller_file file)
{
	struct vu_caller *caller = slot(call);
	char path[64];
	if (caller->tid !=
	    call->tid) { /* kept from the second time on: threads that share a slot should not take turns */
		forget(caller);
		caller->tid = call->tid;
		return -1;
	}
	if (!caller->files[file]) {
		snprintf(path, sizeof path, "%d/%s", call->tid, files[file].name);
		caller->files[file] = openat(call->session->proc, path, files[file].flags | O_CLOEXEC) + 1;
	}
	return caller->files[file] - 1;
}

void vu_caller_forget(struct vu_call *call)
{
	forget(slot(call));
}

void vu_callers_free(struct vu_work *work)
{
	for (unsigned i = 0; i < VU_CALLERS; i++)
		forget(&work->callers[i]);
}
