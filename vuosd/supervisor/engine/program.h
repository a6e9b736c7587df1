/* What the kernel reads of a program before it runs it. */
#ifndef VUOSD_ENGINE_PROGRAM_H
#define VUOSD_ENGINE_PROGRAM_H

#include "engine.h"

enum vu_format {
	VU_FORMAT_OTHER, /* binfmt_misc, or ENOEXEC: the kernel's to say */
	VU_FORMAT_STATIC, /* 64-bit ELF without interpreter */
	VU_FORMAT_DYNAMIC, /* 64-bit ELF; `interpreter` is its loader */
	VU_FORMAT_SCRIPT, /* "#!"; `interpreter` and `argument` */
	VU_FORMAT_FOREIGN, /* an ELF of another width or machine */
};

struct vu_program {
	enum vu_format format;
	char interpreter[PATH_MAX];
	char argument[256]; /* "" when the script gives none */
};

/* Read the head of the program in `fd`. 0, or -errno (-ENOEXEC for a malformed script or ELF). */
int vu_program_read(int fd, struct vu_program *program);

#endif
