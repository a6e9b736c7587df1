/*
 * mountinfo, mounts and mountstats of /proc/PID: the kernel's own lines, with mount points where the view shows them, and
 * after them a line for each entry of the view. What the view hides is not listed. The formats are those of
 * fs/proc_namespace.c, with its octal escapes.
 */
#include "proc_files.h"

#include "wired.h"

#include <ctype.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000U
#endif

#define BLANKS " \t\n\\"

/* A line of mountinfo. Texts are escaped, as the kernel wrote them, but for `target`. */
struct line {
	int id, parent;
	const char *device, *root, *rest; /* rest: from the options on */
	char *target; /* NULL: the view does not show it */
	size_t length; /* of the target; 0 for "/" */
};

struct lines {
	char *text;
	struct line *lines;
	unsigned count, highest;
};

static void free_text(char **text)
{
	free(*text);
}

static void free_lines(struct lines *lines)
{
	for (unsigned i = 0; i < lines->count; i++)
		free(lines->lines[i].target);
	free(lines->lines);
	free(lines->text);
}

static void unescape(const char *text, size_t length, char *out)
{
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '\\' && i + 3 < length) {
			*out++ = (char)((text[i + 1] - '0') << 6 | (text[i + 2] - '0') << 3 | (text[i + 3] - '0'));
			i += 3;
		} else {
			*out++ = text[i];
		}
	}
	*out = 0;
}

static void escape(FILE *file, const char *text)
{
	for (; *text; text++)
		if (strchr(BLANKS, *text))
			fprintf(file, "\\%03o", (unsigned char)*text);
		else
			fputc(*text, file);
}

/* Cuts the next word out of *text. */
static char *word(char **text)
{
	char *start = *text;
	*text += strcspn(start, " ");
	if (**text)
		*(*text)++ = 0;
	return start;
}

static char *next_line(char **text)
{
	char *start = *text;
	if (!*start)
		return NULL;
	*text += strcspn(start, "\n");
	if (**text)
		*(*text)++ = 0;
	return start;
}

/* Where the view shows an escaped host path, relative to the caller's root; NULL: nowhere. */
static const char *seen(struct vu_call *call, const char *path, size_t length)
{
	const struct vu_mount *mount;
	const char *root = vu_state_of(call)->root, *view = call->work->text;
	size_t head = strlen(root);
	if (length >= VU_TEXT)
		return NULL;
	unescape(path, length, call->work->host);
	if (vu_table_reverse(call->table, call->work->host, NULL, call->work->text, &mount, NULL) < 0)
		return NULL;
	if (strncmp(view, root, head) || (view[head] && view[head] != '/' && head))
		return NULL;
	return view[head] ? view + head : "/";
}

static int parse(struct vu_call *call, int fd, bool translate, struct lines *out)
{
	int error = vu_proc_read(fd, &out->text);
	char *text = out->text, *line;
	unsigned room = 0;
	if (error < 0)
		return error;
	while ((line = next_line(&text))) {
		if (out->count == room) {
			struct line *more = reallocarray(out->lines, room = room ? room * 2 : 64, sizeof *more);
			if (!more)
				return -ENOMEM;
			out->lines = more;
		}
		struct line *entry = &out->lines[out->count++];
		*entry = (struct line){ .id = atoi(word(&line)) };
		entry->parent = atoi(word(&line));
		entry->device = word(&line);
		entry->root = word(&line);
		char *host = word(&line);
		entry->rest = line;
		const char *target = host;
		if (translate)
			target = seen(call, host, strlen(host));
		else
			unescape(host, strlen(host), host);
		if (target && !(entry->target = strdup(target)))
			return -ENOMEM;
		entry->length = target && strcmp(target, "/") ? strlen(target) : 0;
		if (entry->id > (int)out->highest)
			out->highest = (unsigned)entry->id;
	}
	return 0;
}

/*
 * The mount that `self` lies on: the last of the longest. Of those at its own place only an entry, from line `first` on,
 * that came before.
 */
static int parent_of(const struct lines *lines, const struct line *self, unsigned first, int otherwise)
{
	const struct line *best = NULL;
	for (unsigned i = 0; i < lines->count; i++) {
		const struct line *line = &lines->lines[i];
		if (line == self || !line->target || line->length > self->length ||
		    (best && line->length < best->length) ||
		    (line->length == self->length && (i < first || line > self)))
			continue;
		const char *rest = self->target + line->length;
		if (!strncmp(line->target, self->target, line->length) && (*rest == '/' || !*rest))
			best = line;
	}
	return best ? best->id : otherwise;
}

static bool listed(const struct lines *lines, int id)
{
	for (unsigned i = 0; i < lines->count; i++)
		if (lines->lines[i].target && lines->lines[i].id == id)
			return true;
	return false;
}

/* What is told of an entry: that of the host's mount on which its source lies, or what the mounter says. */
struct facts {
	char device[32], *root, *options, *type, *source, *super;
};

static void free_facts(struct facts *facts)
{
	free(facts->root);
	free(facts->options);
	free(facts->type);
	free(facts->source);
	free(facts->super);
}

/* Options of the mount and not of the file system: show_mnt_opts and show_vfsmnt in fs/proc_namespace.c. */
static bool is_of_mount(const char *option, size_t length)
{
	static const char *const names[] = { "ro",      "rw",         "nosuid",   "nodev",      "noexec",
					     "noatime", "nodiratime", "relatime", "nosymfollow" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strlen(names[i]) == length && !memcmp(option, names[i], length))
			return true;
	return false;
}

static char *with_escapes(const char *text)
{
	size_t size;
	char *out = NULL;
	FILE *file = open_memstream(&out, &size);
	if (!file)
		return NULL;
	escape(file, text);
	fclose(file);
	return out;
}

/* The options of a mount at run time, which are one text, in the two parts of mountinfo. */
static void split_options(const char *text, bool readonly, struct facts *facts)
{
	size_t sizes[2];
	FILE *parts[2] = { open_memstream(&facts->options, &sizes[0]), open_memstream(&facts->super, &sizes[1]) };
	size_t length;
	for (const char *next = text; *next; next += length + (next[length] == ',')) {
		length = strcspn(next, ",");
		readonly |= length == 2 && !memcmp(next, "ro", 2);
	}
	for (int i = 0; i < 2; i++)
		if (parts[i])
			fputs(readonly ? "ro" : "rw", parts[i]);
	for (; *text; text += length + (text[length] == ',')) {
		length = strcspn(text, ",");
		bool access = length == 2 && (!memcmp(text, "ro", 2) || !memcmp(text, "rw", 2));
		FILE *part = parts[!is_of_mount(text, length)];
		char *option = length && !access && part ? strndup(text, length) : NULL;
		if (option) {
			fputc(',', part);
			escape(part, option);
		}
		free(option);
	}
	for (int i = 0; i < 2; i++)
		if (parts[i])
			fclose(parts[i]);
}

/* As the host's mountinfo tells of the mount `base`. */
static void copy_line(const struct line *base, struct facts *facts)
{
	const char *rest = strstr(base->rest, " - ");
	char *text = strdup(rest ? rest + 3 : ""), *next = text, *name;
	snprintf(facts->device, sizeof facts->device, "%s", base->device);
	facts->options = strndup(base->rest, strcspn(base->rest, " "));
	if (text && (name = word(&next)) && *name) {
		facts->type = strdup(name);
		facts->source = strdup(word(&next));
		facts->super = strdup(next);
	}
	free(text);
}

static void gather(const struct vu_mount *mount, const struct lines *host, struct facts *facts)
{
	struct statx stx = {};
	const struct line *base = NULL;
	*facts = (struct facts){};
	statx(mount->fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &stx); /* no server is asked */
	snprintf(facts->device, sizeof facts->device, "%u:%u", stx.stx_dev_major, stx.stx_dev_minor);
	for (unsigned i = 0; (stx.stx_mask & STATX_MNT_ID) && i < host->count; i++)
		if ((uint64_t)host->lines[i].id == stx.stx_mnt_id)
			base = &host->lines[i];
	if (mount->type) {
		facts->type = with_escapes(mount->type);
		facts->source = with_escapes(mount->name ? mount->name : "none");
		split_options(mount->options ? mount->options : "", mount->readonly, facts);
		base = NULL;
	} else if (mount->stack) {
		facts->type = strdup("overlay");
		facts->source = strdup("overlay");
		facts->super = strdup(mount->readonly ? "ro" : "rw");
		base = NULL;
	} else if (mount->kind == VU_TMPFS) {
		facts->type = strdup("tmpfs");
		facts->source = strdup("tmpfs");
		base = NULL;
	} else if (base) {
		copy_line(base, facts);
	}
	if (!facts->options)
		facts->options = strdup("rw,relatime");
	if (mount->readonly && facts->options)
		memcpy(facts->options, "ro", 2);
	size_t size;
	FILE *root = open_memstream(&facts->root, &size);
	if (!root)
		return;
	if (base && !strncmp(mount->source, base->target, base->length)) {
		fputs(strcmp(base->root, "/") ? base->root : "", root);
		escape(root, strcmp(mount->source, "/") ? mount->source + base->length : "");
	}
	if (mount->wired) {
		__attribute__((cleanup(free_text))) char *path = vu_wired_root_path(mount);
		escape(root, path ? path : "/");
	}
	if (fflush(root), !size)
		fputc('/', root);
	fclose(root);
}

static const char * or (const char *text, const char *otherwise)
{
	return text ? text : otherwise;
}

static void print_entry(FILE *file, enum vu_proc_format format, const struct line *line, const struct facts *facts)
{
	const char *source = or (facts->source, "none"), *type = or (facts->type, "none");
	const char *options = or (facts->options, "rw"), *super = or (facts->super, "rw");
	if (format == VU_PROC_MOUNTINFO) {
		fprintf(file, "%d %d %s %s ", line->id, line->parent, facts->device, or (facts->root, "/"));
		escape(file, line->target);
		fprintf(file, " %s - %s %s %s\n", options, type, source, super);
	} else if (format == VU_PROC_MOUNTS) {
		fprintf(file, "%s ", source);
		escape(file, line->target);
		fprintf(file, " %s %s%s 0 0\n", type, options, or (strchr(super, ','), ""));
	} else {
		fprintf(file, "device %s mounted on ", source);
		escape(file, line->target);
		fprintf(file, " with fstype %s\n", type);
	}
}

/* What lies below another mount at the same place is listed, as the kernel does. */
static bool is_listed(const struct vu_mount *mount, const struct vu_mount *top)
{
	return mount->kind != VU_HIDE && top->kind != VU_HIDE && !strcmp(mount->target, top->target);
}

/* The entries of the view that can be seen, in its order. */
static int print_entries(struct vu_call *call, FILE *file, enum vu_proc_format format, struct lines *shown,
			 const struct lines *host)
{
	const struct vu_table *table = call->table;
	const char *root = vu_state_of(call)->root;
	size_t head = strlen(root);
	int top = 0;
	unsigned old = shown->count, highest = shown->highest > host->highest ? shown->highest : host->highest;
	for (unsigned i = 0; i < host->count; i++)
		if (!host->lines[i].length)
			top = host->lines[i].parent;
	struct line *lines = reallocarray(shown->lines, shown->count + table->count, sizeof *lines);
	if (!lines)
		return -ENOMEM;
	shown->lines = lines;
	const struct vu_mount **mounts = calloc(table->count, sizeof *mounts);
	if (!mounts)
		return -ENOMEM;
	for (unsigned i = 1; i < table->count; i++) {
		const struct vu_mount *mount = table->mounts[i];
		struct vu_spot spot;
		vu_table_find(table, mount->target, &spot);
		const char *target = mount->target + head;
		if (!is_listed(mount, spot.mount) || strncmp(mount->target, root, head) ||
		    (head && *target && *target != '/'))
			continue;
		struct line *line = &lines[shown->count];
		*line = (struct line){ .id = (int)(highest + mount->index), .target = strdup(*target ? target : "/") };
		if (!line->target)
			break;
		line->length = strcmp(line->target, "/") ? strlen(line->target) : 0;
		mounts[shown->count++ - old] = mount;
	}
	for (unsigned i = old; i < shown->count; i++) {
		struct facts facts;
		if (format == VU_PROC_MOUNTINFO)
			lines[i].parent = parent_of(shown, &lines[i], old, top);
		gather(mounts[i - old], host, &facts);
		print_entry(file, format, &lines[i], &facts);
		free_facts(&facts);
	}
	free(mounts);
	return 0;
}

static void print_mountinfo(FILE *file, const struct lines *shown)
{
	for (unsigned i = 0; i < shown->count; i++) {
		const struct line *line = &shown->lines[i];
		if (!line->target)
			continue;
		bool orphan = line->length && !listed(shown, line->parent);
		fprintf(file, "%d %d %s %s ", line->id,
			orphan ? parent_of(shown, line, shown->count, line->parent) : line->parent, line->device,
			line->root);
		escape(file, line->target);
		fprintf(file, " %s\n", line->rest);
	}
}

/* The lines of mounts and mountstats: the mount point is what stands between `before` and the next blank. */
static void print_plain(struct vu_call *call, FILE *file, char *text, const char *before)
{
	char *line;
	bool visible = true;
	while ((line = next_line(&text))) {
		char *point = strstr(line, before);
		if (point && *line != '\t') {
			point += strlen(before);
			size_t length = strcspn(point, " ");
			const char *target = seen(call, point, length);
			if ((visible = target)) {
				fwrite(line, 1, (size_t)(point - line), file);
				escape(file, target);
				fprintf(file, "%s\n", point + length);
			}
		} else if (visible) {
			fprintf(file, "%s\n", line); /* statistics of the device above */
		}
	}
}

int vu_proc_print_mounts(struct vu_call *call, FILE *file, enum vu_proc_format format, int source)
{
	struct lines shown = {}, host = {};
	VU_CLOSE int own = openat(call->session->proc, "self/mountinfo", O_RDONLY | O_CLOEXEC);
	int error = own < 0 ? -errno : parse(call, own, false, &host);
	if (!error && format == VU_PROC_MOUNTINFO && !(error = parse(call, source, true, &shown)))
		print_mountinfo(file, &shown);
	if (!error && format != VU_PROC_MOUNTINFO) {
		__attribute__((cleanup(free_text))) char *text = NULL;
		if (!(error = vu_proc_read(source, &text)))
			print_plain(call, file, text, format == VU_PROC_MOUNTS ? " " : " mounted on ");
	}
	if (!error)
		error = print_entries(call, file, format, &shown, &host);
	free_lines(&shown);
	free_lines(&host);
	return error;
}
