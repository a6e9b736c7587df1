/* What the commands that run inside a view share. */
#ifndef VUOSD_INSIDE_H
#define VUOSD_INSIDE_H

enum { OPTIONS_MAX = 4096 }; /* a page, as mount(2) takes */

extern const char *name; /* by which it was called */

/* Prints what is wrong; returns 1, the exit status. */
int failed(const char *text);

/* Asks the view's supervisor as mount(2) does; prints what comes back, to stdout or, when it failed, to stderr. Returns the exit status. */
int ask(const char *type, const char *source, const char *target, unsigned long flags, const char *options);

int fusermount(int argc, char **argv);

#endif
