/*
 * Requests whose reply nobody waits for: a release, and what was left because its time was up or its caller had gone. Their
 * replies must be read all the same, and may have given us something: a node that is to be forgotten, a file to be released.
 */
#include "fuse_inside.h"

/* The lock is held. Too many, and the server is one that answers nothing: it is left to itself. */
static bool may_have_more(struct vu_fuse *fuse)
{
	if (fuse->unattended < VU_FUSE_MAX_UNATTENDED)
		return true;
	vu_fuse_tell(fuse, VU_TOLD_STUCK, "the server owes thousands of answers: it is taken for dead");
	vu_fuse_die(fuse);
	return false;
}

void vu_fuse_abandon(struct vu_fuse *fuse, struct vu_fuse_request *request)
{
	vu_fuse_take_out(fuse, request->unique);
	struct vu_fuse_request *heir = may_have_more(fuse) ? calloc(1, sizeof *heir) : NULL;
	if (!heir)
		return; /* its reply will be one that nobody knows */
	heir->opcode = request->opcode;
	heir->nodeid = request->nodeid;
	heir->since = request->since;
	heir->unattended = true;
	uint64_t last = fuse->last_unique;
	fuse->last_unique = request->unique - 2;
	vu_fuse_enter(fuse, heir);
	fuse->last_unique = last;
	fuse->unattended++;
}

void vu_fuse_leave(struct vu_fuse *fuse, struct vu_fuse_request *request)
{
	struct vu_fuse_request *heir = calloc(1, sizeof *heir);
	if (!heir)
		return;
	heir->opcode = request->opcode;
	heir->nodeid = request->nodeid;
	heir->since = request->since = vu_fuse_now();
	heir->unattended = true;
	pthread_mutex_lock(&fuse->lock);
	if (atomic_load(&fuse->dead) || !may_have_more(fuse)) {
		pthread_mutex_unlock(&fuse->lock);
		free(heir);
		return;
	}
	vu_fuse_enter(fuse, heir);
	fuse->unattended++;
	request->unique = heir->unique;
	pthread_mutex_unlock(&fuse->lock);
	int error = vu_fuse_send(fuse, request, true);
	if (!error)
		return;
	pthread_mutex_lock(&fuse->lock);
	heir = vu_fuse_take_out(fuse, request->unique);
	if (heir) {
		fuse->unattended--;
		free(heir);
	}
	if (error == -ENOTCONN)
		vu_fuse_die(fuse);
	pthread_mutex_unlock(&fuse->lock);
}

struct vu_fuse_late vu_fuse_late_reply(struct vu_fuse *fuse, struct vu_fuse_request *request, int error,
				       const void *data, size_t size)
{
	struct vu_fuse_late late = {};
	struct fuse_entry_out entry;
	struct fuse_open_out open;
	fuse->unattended--;
	if (!error)
		switch (request->opcode) {
		case FUSE_LOOKUP:
		case FUSE_MKDIR:
		case FUSE_MKNOD:
		case FUSE_SYMLINK:
		case FUSE_LINK:
		case FUSE_CREATE:
			if (size < sizeof entry)
				break;
			memcpy(&entry, data, sizeof entry);
			late = (struct vu_fuse_late){ .opcode = FUSE_FORGET, .nodeid = entry.nodeid };
			if (request->opcode != FUSE_CREATE || size != sizeof entry + sizeof open)
				break;
			memcpy(&open, (const char *)data + sizeof entry, sizeof open);
			late.opcode = FUSE_CREATE;
			late.fh = open.fh;
			break;
		case FUSE_OPEN:
		case FUSE_OPENDIR:
			if (size != sizeof open)
				break;
			memcpy(&open, data, sizeof open);
			late = (struct vu_fuse_late){ .opcode = request->opcode,
						      .nodeid = request->nodeid,
						      .fh = open.fh };
			break;
		default: break;
		}
	late.then = (struct vu_fuse_forgotten){ request->nodeid, request->forget };
	free(request);
	return late;
}

/* As the kernel, whose release holds the inode until it is answered: servers with several threads depend on it. */
bool vu_fuse_forget_later(struct vu_fuse *fuse, const struct vu_fuse_forgotten *node)
{
	bool later = false;
	pthread_mutex_lock(&fuse->lock);
	for (int i = 0; !later && fuse->unattended && i < VU_FUSE_BUCKETS; i++)
		for (struct vu_fuse_request *request = fuse->requests[i]; request; request = request->next)
			if (request->unattended && request->nodeid == node->nodeid) {
				request->forget += node->count;
				later = true;
				break;
			}
	pthread_mutex_unlock(&fuse->lock);
	return later;
}

void vu_fuse_undo(struct vu_fuse *fuse, const struct vu_fuse_late *late)
{
	static const struct vu_fuse_caller nobody;
	struct vu_fuse_file file = { .nodeid = late->nodeid, .fh = late->fh };
	struct vu_fuse_forgotten node = { late->nodeid, 1 };
	if (late->opcode == FUSE_OPEN || late->opcode == FUSE_CREATE)
		vu_fuse_release(fuse, &nobody, &file);
	if (late->opcode == FUSE_OPENDIR)
		vu_fuse_releasedir(fuse, &nobody, &file);
	if ((late->opcode == FUSE_FORGET || late->opcode == FUSE_CREATE) && late->nodeid > FUSE_ROOT_ID)
		vu_fuse_forget(fuse, &node, 1);
	if (late->then.count)
		vu_fuse_forget(fuse, &late->then, 1);
}
