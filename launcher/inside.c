/*
 * The commands that VUOS's users know, run inside a view: vumount, vuumount, vu_insmod, vu_rmmod, vu_lsmod. One program by the name that
 * it is called by; static, since a view's shell scripts call it often.
 *
 * They ask by an open that the view's supervisor answers (door.h; vuosd/supervisor/mounting/asked.py), with what an errno cannot say as
 * well. Unlike VUOS's they print that, and exit with 1.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "inside.h"

#include "../vuosd/supervisor/engine/door.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *name;

int failed(const char *text)
{
	fprintf(stderr, "%s: %s\n", name, text);
	return 1;
}

int door(const char *type, const char *source, const char *target, unsigned long flags, const char *options)
{
	struct vu_door request = { .source = (uintptr_t)source,
				   .target = (uintptr_t)target,
				   .type = (uintptr_t)type,
				   .flags = flags,
				   .options = (uintptr_t)options };
	return (int)syscall(SYS_openat, AT_FDCWD, "", O_RDWR | O_CLOEXEC, 0, VU_DOOR, &request);
}

int tell(const char *type, const char *source, const char *target, unsigned long flags, const char *options,
	 char **text, size_t *length)
{
	int answer = door(type, source, target, flags, options);
	struct stat st;
	int32_t error;

	if (answer < 0)
		return errno;
	char *said = fstat(answer, &st) < 0 ? NULL : malloc((size_t)st.st_size + 1);
	ssize_t n = said ? pread(answer, said, (size_t)st.st_size, 0) : -1;
	close(answer);
	if (n < (ssize_t)sizeof error) {
		free(said);
		return EPROTO;
	}
	memcpy(&error, said, sizeof error);
	n -= (ssize_t)sizeof error;
	memmove(said, said + sizeof error, (size_t)n);
	said[n] = 0;
	if (text) {
		*text = said;
		*length = (size_t)n;
	} else {
		free(said);
	}
	return error;
}

/* Prints what came back. */
static int print(int error, char *text, size_t length)
{
	int status = 0;

	if (error)
		status = failed(length > 0        ? text
				: error == ENOENT ? "this is no view, or one that lets nothing be mounted"
						  : strerror(error));
	else if (length > 0 && fwrite(text, 1, length, stdout) != length)
		status = failed(strerror(errno));
	free(text);
	return status;
}

int ask(const char *type, const char *source, const char *target, unsigned long flags, const char *options)
{
	char *text = NULL;
	size_t length = 0;
	int error = tell(type, source, target, flags, options, &text, &length);

	return print(error, text, length);
}

static int usage(const char *text, int status)
{
	fprintf(status ? stderr : stdout, "usage: %s %s\n", name, text);
	return status;
}

/* Takes a word out of a list of options. */
static bool take_word(char *options, const char *word)
{
	size_t length = strlen(word);

	for (char *at = options; *at; at += strcspn(at, ",") + (at[strcspn(at, ",")] == ',')) {
		size_t size = strcspn(at, ",");
		if (size != length || strncmp(at, word, length))
			continue;
		memmove(at, at + size + (at[size] == ','), strlen(at + size + (at[size] == ',')) + 1);
		if (!*at && at > options)
			at[-1] = 0;
		return true;
	}
	return false;
}

/* `-o create`: the directories on the way to a target, and itself; as a file for the bind of one. Returns how many, -1 on error. */
static int make_target(char *target, bool file)
{
	int made = 0;

	for (char *at = target + strspn(target, "/"); *at; at += strspn(at, "/")) {
		at += strcspn(at, "/");
		char end = *at;
		bool last = !at[strspn(at, "/")];
		*at = 0;
		int result = last && file ? open(target, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644)
					  : mkdir(target, 0755);
		int error = errno;
		*at = end;
		if (result > 0)
			close(result);
		if (result < 0 && error != EEXIST) {
			fprintf(stderr, "%s: %s: %s\n", name, target, strerror(error));
			return -1;
		}
		made += result >= 0;
	}
	return made;
}

/* The last `made` names of the path go again, as far as they are still empty. */
static void unmake_target(char *target, int made, bool file)
{
	for (; made > 0; made--, file = false) {
		char *end = target + strlen(target);
		while (end > target && end[-1] == '/')
			*--end = 0;
		if ((file ? unlink(target) : rmdir(target)) < 0)
			return;
		char *slash = strrchr(target, '/');
		if (!slash || slash == target)
			return;
		*slash = 0;
	}
}

/* With a server that we start, if the supervisor wants it so. */
static int mount_at(const char *type, const char *source, const char *target, unsigned long flags, const char *options)
{
	char *said = NULL;
	size_t length = 0;
	int error = tell(type, source, target, flags | VU_DOOR_STARTS, options, &said, &length);

	if (!error && length > 5 && !strcmp(said, "serve"))
		return serve(said, length, source, target, flags);
	return print(error, said, length);
}

static int mount_made(const char *type, const char *source, char *target, unsigned long flags, const char *options)
{
	struct stat st;
	bool file = flags & MS_BIND && !stat(source, &st) && !S_ISDIR(st.st_mode);
	int made = make_target(target, file);

	if (made < 0)
		return 1;
	int status = mount_at(type, source, target, flags, options);
	if (status)
		unmake_target(target, made, file);
	return status;
}

static int vumount(int argc, char **argv)
{
	static const char text[] =
		"-t TYPE [-o OPTION,…] [-r] [-w] [-B | -R | -M] SOURCE TARGET\n\n"
		"Mount a file system in this view.\n\n"
		"  -t, --types=TYPE       its type, as vuctl mount -t takes it\n"
		"  -o, --options=LIST     options of the mount and of the file system;\n"
		"                         create: make TARGET if it is missing\n"
		"  -r, --read-only        as -o ro\n"
		"  -w, --rw, --read-write as -o rw\n"
		"  -B, --bind             show SOURCE at TARGET as well\n"
		"  -R, --rbind            the same\n"
		"  -M, --move             move the mount at SOURCE to TARGET";
	static const struct option names[] = {
		{ "types", required_argument, NULL, 't' }, { "options", required_argument, NULL, 'o' },
		{ "read-only", no_argument, NULL, 'r' },   { "rw", no_argument, NULL, 'w' },
		{ "read-write", no_argument, NULL, 'w' },  { "bind", no_argument, NULL, 'B' },
		{ "rbind", no_argument, NULL, 'R' },       { "move", no_argument, NULL, 'M' },
		{ "help", no_argument, NULL, 'h' },        { NULL, 0, NULL, 0 },
	};
	char options[OPTIONS_MAX] = "";
	const char *type = "";
	unsigned long flags = 0;
	struct stat st;
	int option;

	while ((option = getopt_long(argc, argv, "t:o:rwBRMh", names, NULL)) != -1) {
		size_t used = strlen(options);

		if (option == 't')
			type = optarg;
		else if (option == 'o' || option == 'w') {
			const char *word = option == 'o' ? optarg : "rw";
			if (snprintf(options + used, sizeof options - used, "%s%s", used ? "," : "", word) >=
			    (int)(sizeof options - used))
				return failed("the options are longer than mount(2) takes, a page");
		} else if (option == 'r')
			flags |= MS_RDONLY;
		else if (option == 'B')
			flags |= MS_BIND;
		else if (option == 'R')
			flags |= MS_BIND | MS_REC;
		else if (option == 'M')
			flags |= MS_MOVE;
		else
			return usage(text, option == 'h' ? 0 : 1);
	}
	if (argc - optind != 2)
		return usage(text, 1);
	/* What lies in a wire mount can be read from outside of the view, by a server, when it has been opened inside. */
	if (*type && !(flags & (MS_BIND | MS_MOVE)) && !stat(argv[optind], &st) && S_ISREG(st.st_mode))
		open(argv[optind], O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* until we end */
	if (take_word(options, "create"))
		return mount_made(type, argv[optind], argv[optind + 1], flags, options);
	return mount_at(type, argv[optind], argv[optind + 1], flags, options);
}

static int vuumount(int argc, char **argv)
{
	static const char text[] =
		"[-l] [-f] TARGET\n\n"
		"Unmount what was mounted last at a place of this view.\n\n"
		"  -l, --lazy         whoever uses it may go on\n"
		"  -f, --force        of a server that hangs: its users get errors\n"
		"  -d, --detach-loop  does nothing: there are no loop devices";
	static const struct option names[] = {
		{ "lazy", no_argument, NULL, 'l' },
		{ "force", no_argument, NULL, 'f' },
		{ "detach-loop", no_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	unsigned long flags = 0;
	int option;

	while ((option = getopt_long(argc, argv, "lfdh", names, NULL)) != -1) {
		if (option == 'l')
			flags |= MNT_DETACH;
		else if (option == 'f')
			flags |= MNT_FORCE;
		else if (option != 'd')
			return usage(text, option == 'h' ? 0 : 1);
	}
	return argc - optind == 1 ? ask("vuos:umount", "", argv[optind], flags, "") : usage(text, 1);
}

/* For each of the modules named. */
static int modules(int argc, char **argv, const char *type, const char *letters, const char *text)
{
	static const struct option names[] = { { "permanent", no_argument, NULL, 'p' },
					       { "options", required_argument, NULL, 'o' },
					       { "help", no_argument, NULL, 'h' },
					       { NULL, 0, NULL, 0 } };
	char options[OPTIONS_MAX] = "";
	int option, status = 0;

	while ((option = getopt_long(argc, argv, letters, names, NULL)) != -1) {
		size_t used = strlen(options);

		if ((option == 'p' || option == 'o') && *letters == 'p') {
			const char *word = option == 'o' ? optarg : "permanent";
			if (snprintf(options + used, sizeof options - used, "%s%s", used ? "," : "", word) >=
			    (int)(sizeof options - used))
				return failed("the options are longer than a page");
		} else
			return usage(text, option == 'h' ? 0 : 1);
	}
	if (optind == argc)
		return usage(text, 1);
	for (; optind < argc; optind++)
		status |= ask(type, argv[optind], "/", 0, options);
	return status;
}

static int vu_insmod(int argc, char **argv)
{
	return modules(argc, argv, "vuos:insmod", "po:h",
		       "[-p] [-o OPTION,…] MODULE…\n\nLoad modules; with -p or --permanent for good, with -o or "
		       "--options with these options.");
}

static int vu_rmmod(int argc, char **argv)
{
	return modules(argc, argv, "vuos:rmmod", "h", "MODULE…\n\nUnload modules.");
}

static int vu_lsmod(int argc, char **argv)
{
	static const char text[] = "\n\nList the modules that are loaded.";

	if (argc > 1)
		return usage(text, !strcmp(argv[1], "-h") || !strcmp(argv[1], "--help") ? 0 : 1);
	return ask("vuos:lsmod", "", "/", 0, "");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
	} commands[] = { { "vumount", vumount },       { "vuumount", vuumount }, { "vu_insmod", vu_insmod },
			 { "vu_rmmod", vu_rmmod },     { "vu_lsmod", vu_lsmod }, { "fusermount", fusermount },
			 { "fusermount3", fusermount } };
	const char *slash = strrchr(argc > 0 ? argv[0] : "", '/');

	name = slash ? slash + 1 : argc > 0 ? argv[0] : "";
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (!strcmp(name, commands[i].name))
			return commands[i].run(argc, argv);
	return failed("call it as vumount, vuumount, vu_insmod, vu_rmmod or vu_lsmod");
}
