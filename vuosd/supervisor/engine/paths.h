/* Paths and names as text. Nothing here asks the kernel. */
#ifndef VUOSD_ENGINE_PATHS_H
#define VUOSD_ENGINE_PATHS_H

#include "engine.h"

/* FNV-1a of a name. */
static inline uint32_t vu_hash_name(const char *name, size_t length)
{
	uint32_t h = 2166136261u;
	for (size_t i = 0; i < length; i++)
		h = (h ^ (unsigned char)name[i]) * 16777619u;
	return h;
}

/* "a/b/c" → "a/b" in `above`, "" for a path of one name; returns the name. */
static inline const char *vu_split(const char *path, char above[VU_TEXT])
{
	const char *slash = strrchr(path, '/');
	size_t length = slash ? (size_t)(slash - path) : 0;
	memcpy(above, path, length);
	above[length] = 0;
	return slash ? slash + 1 : path;
}

#endif
