/* The head of a program: its format, its interpreter. As fs/binfmt_script.c and fs/binfmt_elf.c read it. */
#include "program.h"

#include <elf.h>

#define HEAD 256 /* BINPRM_BUF_SIZE */

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

static int read_script(const char head[HEAD], struct vu_program *program)
{
	const char *limit = head + HEAD, *end = memchr(head, '\n', HEAD), *name = head + 2;
	while (name < limit && blank(*name))
		name++;
	if (!end) {
		/* No end of line in sight: at least the interpreter's name must be whole. */
		const char *stop = name;
		while (stop < limit && *stop && !blank(*stop))
			stop++;
		if (stop == limit)
			return -ENOEXEC;
		end = limit - 1;
	}
	while (end > name && (blank(end[-1]) || !end[-1]))
		end--;
	if (name >= end)
		return -ENOEXEC;
	const char *stop = name;
	while (stop < end && *stop && !blank(*stop))
		stop++;
	memcpy(program->interpreter, name, (size_t)(stop - name));
	program->interpreter[stop - name] = 0;
	while (stop < end && blank(*stop))
		stop++;
	size_t length = strnlen(stop, (size_t)(end - stop));
	memcpy(program->argument, stop, length);
	program->argument[length] = 0;
	program->format = VU_FORMAT_SCRIPT;
	return 0;
}

static int read_elf(int fd, const char head[HEAD], struct vu_program *program)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)head;
	if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_machine != EM_X86_64) {
		program->format = VU_FORMAT_FOREIGN;
		return 0;
	}
	program->format = VU_FORMAT_STATIC;
	if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum > 65536 / sizeof(Elf64_Phdr))
		return 0; /* the kernel will say ENOEXEC */
	for (unsigned i = 0; i < header->e_phnum; i++) {
		Elf64_Phdr segment;
		if (pread(fd, &segment, sizeof segment, (off_t)(header->e_phoff + i * sizeof segment)) !=
		    sizeof segment)
			return 0;
		if (segment.p_type != PT_INTERP)
			continue;
		if (segment.p_filesz < 2 || segment.p_filesz > PATH_MAX)
			return 0;
		if (pread(fd, program->interpreter, segment.p_filesz, (off_t)segment.p_offset) !=
			    (ssize_t)segment.p_filesz ||
		    program->interpreter[segment.p_filesz - 1])
			return 0;
		program->format = VU_FORMAT_DYNAMIC;
		return 0;
	}
	return 0;
}

int vu_program_read(int fd, struct vu_program *program)
{
	_Alignas(Elf64_Ehdr) char head[HEAD] = {};
	program->format = VU_FORMAT_OTHER;
	program->argument[0] = 0;
	ssize_t n = pread(fd, head, sizeof head, 0);
	if (n < 0)
		return -errno;
	if (n >= 2 && head[0] == '#' && head[1] == '!')
		return read_script(head, program);
	if ((size_t)n >= sizeof(Elf64_Ehdr) && !memcmp(head, ELFMAG, SELFMAG))
		return read_elf(fd, head, program);
	return 0;
}
