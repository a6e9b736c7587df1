/* A rule of a Landlock ruleset, looked up and added: hundreds of them stand between an enforcing view's request and its start. */
#include "engine.h"

#include <linux/landlock.h>
#include <sys/syscall.h>

/* What went away since it was listed, or is out of the user's reach, gets no rule: allowing less is safe. */
int vu_floor_allow(int ruleset, const char *path, uint64_t access, uint64_t file)
{
	struct stat st;
	VU_CLOSE int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	/* Out of reach for us, or, as what a dead server of a file system has left (EIO, ENOTCONN), for all. */
	if (fd < 0)
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return 0;
	struct landlock_path_beneath_attr rule = { .allowed_access = S_ISDIR(st.st_mode) ? access : access & file,
						   .parent_fd = fd };
	return vu_result(syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0));
}
