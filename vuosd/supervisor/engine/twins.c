/*
 * Files that link(2) has copied up. To the program the new name and the old one are the file it knew, and some look whether
 * they are: git clone does. So such a copy goes by the device and inode number of the file below. It is known by its
 * birth as well, for a file system gives the number of a file that is gone to another. For as long as the session lives.
 */
#include "stack.h"

#include <sys/syscall.h>

enum { BUCKETS = sizeof(((struct vu_session *)0)->twins) / sizeof(_Atomic(struct vu_twin *)) };

struct vu_twin {
	dev_t dev, below_dev;
	ino_t ino, below_ino;
	struct statx_timestamp born;
	struct vu_twin *next;
};

static _Atomic(struct vu_twin *) *bucket(struct vu_session *session, const struct stat *st)
{
	return &session->twins[(st->st_ino * 31 + st->st_dev) % BUCKETS];
}

static bool birth(int fd, struct statx_timestamp *born)
{
	struct statx st;
	if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_BTIME, &st) < 0 || !(st.stx_mask & STATX_BTIME))
		return false;
	*born = st.stx_btime;
	return true;
}

int vu_twins_add(struct vu_session *session, int copy, const struct stat *below)
{
	struct stat st;
	struct statx_timestamp born;
	if (!S_ISREG(below->st_mode) || fstat(copy, &st) < 0 || !birth(copy, &born))
		return 0;
	struct vu_twin *twin = malloc(sizeof *twin);
	if (!twin)
		return -ENOMEM;
	_Atomic(struct vu_twin *) *first = bucket(session, &st);
	*twin = (struct vu_twin){ st.st_dev, below->st_dev, st.st_ino, below->st_ino, born, atomic_load(first) };
	while (!atomic_compare_exchange_weak(first, &twin->next, twin))
		;
	atomic_store(&session->has_twins, true);
	return 0;
}

bool vu_twins_identify(struct vu_session *session, int fd, struct stat *st)
{
	struct statx_timestamp born;
	if (!atomic_load_explicit(&session->has_twins, memory_order_relaxed) || !S_ISREG(st->st_mode))
		return false;
	for (struct vu_twin *twin = atomic_load(bucket(session, st)); twin; twin = twin->next) {
		if (twin->ino == st->st_ino && twin->dev == st->st_dev && birth(fd, &born) &&
		    born.tv_sec == twin->born.tv_sec && born.tv_nsec == twin->born.tv_nsec) {
			st->st_dev = twin->below_dev;
			st->st_ino = twin->below_ino;
			return true;
		}
	}
	return false;
}

void vu_twins_free(struct vu_session *session)
{
	for (unsigned i = 0; i < BUCKETS; i++) {
		for (struct vu_twin *twin = atomic_load(&session->twins[i]), *next; twin; twin = next) {
			next = twin->next;
			free(twin);
		}
	}
}
