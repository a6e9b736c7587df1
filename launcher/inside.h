/* What the commands that run inside a view share. */
#ifndef VUOSD_INSIDE_H
#define VUOSD_INSIDE_H

#include <stddef.h>

enum { OPTIONS_MAX = 4096 }; /* a page, as mount(2) takes */

extern const char *name; /* by which it was called */

/* Prints what is wrong; returns 1, the exit status. */
int failed(const char *text);

/* Asks the view's supervisor as mount(2) does; prints what comes back, to stdout or, when it failed, to stderr. Returns the exit status. */
int ask(const char *type, const char *source, const char *target, unsigned long flags, const char *options);

/* The open by which it is asked: a descriptor, or -1 with errno. */
int door(const char *type, const char *source, const char *target, unsigned long flags, const char *options);
/* The same, with what comes back: its errno, or 0, or the door's own. *text (which may be NULL) is the caller's to free. */
int tell(const char *type, const char *source, const char *target, unsigned long flags, const char *options,
	 char **text, size_t *length);

/* serving.c: what the supervisor has answered to a mount, that we start the server of. */
int serve(char *text, size_t length, const char *source, const char *target, unsigned long flags);

int fusermount(int argc, char **argv);

#endif
