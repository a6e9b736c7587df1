/*
 * All names of a directory get their anchors, so that the kernel's own getdents(2) of the directory in the cache lists what
 * the server does, with inode numbers that stat(2) confirms. What the server's listing does not tell gets a placeholder of the
 * right type, and is asked for when somebody looks at it.
 */
#include "wire_inside.h"

#include <dirent.h>

enum { MOST_BYTES = 1 << 28 };

struct listed {
	char *data; /* struct vu_fuse_dirent without the unused end of the name, one after the other */
	size_t size, room;
};

static int keep(struct listed *listed, const struct vu_fuse_dirent *entry)
{
	if (listed->size + sizeof *entry > listed->room) {
		size_t room = listed->room ? listed->room * 2 : 65536;
		char *data = room > MOST_BYTES ? NULL : realloc(listed->data, room);
		if (!data)
			return -ENOMEM;
		listed->data = data;
		listed->room = room;
	}
	size_t length = strlen(entry->name) + 1;
	struct vu_fuse_entry *known = (struct vu_fuse_entry *)(listed->data + listed->size);
	*known = entry->known ? entry->entry : (struct vu_fuse_entry){ .attr.mode = DTTOIF(entry->type) };
	memcpy(known + 1, entry->name, length);
	listed->size += sizeof *known + ((length + 7) & ~(size_t)7);
	return 0;
}

static const char *next(const struct listed *listed, size_t *at, const struct vu_fuse_entry **entry)
{
	if (*at >= listed->size)
		return NULL;
	*entry = (const struct vu_fuse_entry *)(listed->data + *at);
	const char *name = (const char *)(*entry + 1);
	*at += sizeof **entry + ((strlen(name) + 8) & ~(size_t)7);
	return name;
}

static int read_all(VU_WIRE_WHO, uint64_t nodeid, struct listed *listed)
{
	bool plus = vu_fuse_features(wire->fuse)->flags & FUSE_DO_READDIRPLUS;
	struct vu_fuse_file file;
	struct vu_fuse_dirent entry;
	uint64_t offset = 0;
	char *part = malloc(VU_FUSE_DATA);
	int error = part ? vu_fuse_opendir(wire->fuse, caller, nodeid, &file) : -ENOMEM;
	if (error < 0) {
		free(part);
		return error;
	}
	for (;;) {
		int64_t now = vu_fuse_valid_from(wire->fuse);
		ssize_t size = vu_fuse_readdir(wire->fuse, caller, &file, offset, plus, part);
		if (size <= 0) {
			error = (int)size;
			break;
		}
		int more;
		size_t at = 0, count = 0;
		while ((more = vu_fuse_decode_dirent(part, (size_t)size, plus, now, &at, &entry)) > 0) {
			offset = entry.next;
			count++;
			if (!strcmp(entry.name, ".") || !strcmp(entry.name, ".."))
				continue;
			if ((error = keep(listed, &entry)) < 0)
				break;
		}
		if (more < 0 || !count)
			error = more < 0 ? more : -EIO; /* bytes, but no name: it would be asked for ever */
		if (error < 0)
			break;
	}
	vu_fuse_releasedir(wire->fuse, caller, &file);
	free(part);
	return error;
}

static int place(VU_WIRE_WHO, struct vu_wire_node *directory, const char *text, const struct vu_fuse_entry *entry)
{
	struct vu_wire_name *name = vu_wire_find(directory, text, strlen(text));
	mode_t type = entry->attr.mode & S_IFMT;
	int error = 0;
	bool seen = name && name->mark == wire->mark; /* a second time: as the first */
	bool asked = S_ISLNK(type) || !type;
	/* It was a lookup, whose attributes may be none (see ask_attributes). */
	if (entry->nodeid && (seen || asked || !entry->attr_until))
		vu_wire_return_lookup(wire, entry->nodeid);
	if (seen)
		return 0;
	if (asked) {
		/* Its text is needed, or its type. What has an anchor already is looked at when somebody does. */
		if (!name || !name->type || (type && name->type != type)) {
			error = vu_wire_ask(wire, caller, directory, text, &name);
			if (error == -ENOENT)
				return 0;
		}
	} else if (entry->nodeid && entry->attr_until) {
		error = vu_wire_apply(wire, directory, text, entry, NULL, &name);
	} else if (!name || name->type != type) {
		if (name && name->type)
			vu_wire_drop(wire, name);
		if (!name && !(name = vu_wire_add(directory, text, strlen(text))))
			return -ENOMEM;
		struct vu_fuse_attr attr = { .mode = type };
		name->until = 0; /* it was known not to be there */
		if ((error = vu_wire_make(wire, name, &attr, NULL)) < 0)
			vu_wire_forget_name(wire, name);
		name = error ? NULL : name;
	}
	if (!error && name)
		name->mark = wire->mark;
	return error;
}

/* Names that the listing did not have, and that nobody has made since. */
static void drop_others(struct vu_wire *wire, struct vu_wire_node *directory, unsigned mark)
{
	for (unsigned i = 0; i < directory->bucket_count; i++)
		for (struct vu_wire_name *name = directory->buckets[i], *after; name; name = after) {
			after = name->next;
			if (name->mark == mark || !name->type)
				continue;
			vu_wire_drop(wire, name);
			vu_wire_forget_name(wire, name);
		}
}

int vu_wire_list(VU_WIRE_WHO, struct vu_wire_node *directory)
{
	struct listed listed = {};
	const struct vu_fuse_entry *entry;
	const char *text;
	size_t at = 0;
	unsigned changes = directory->changes;
	vu_wire_unlock(wire);
	int error = read_all(wire, caller, directory->nodeid, &listed);
	vu_wire_lock(wire);
	unsigned mark = ++wire->mark;
	bool gone = directory != wire->root && !directory->names;
	while ((text = next(&listed, &at, &entry))) {
		/* What we have changed meanwhile, we know better. */
		if (!error && !gone && directory->changes == changes) {
			wire->mark = mark; /* others list, too, while a link is asked about */
			error = place(wire, caller, directory, text, entry);
			gone = directory != wire->root && !directory->names;
		} else if (entry->nodeid) {
			vu_wire_return_lookup(wire, entry->nodeid);
		}
	}
	free(listed.data);
	if (gone)
		return -ENOENT;
	if (!error && directory->changes == changes)
		drop_others(wire, directory, mark);
	else if (error == -ESTALE || !error)
		error = -EAGAIN;
	directory->listed = !error && wire->options.fixed;
	vu_wire_retime(wire, directory);
	return error;
}
