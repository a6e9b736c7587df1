/* What removing and renaming in a stack share: stack_remove.c. The stack's lock is held. */
#ifndef VUOSD_ENGINE_STACK_NAMES_H
#define VUOSD_ENGINE_STACK_NAMES_H

#include "stack.h"

/* Flags of renameat2(2), by other names than the C library's, which not every one has. */
enum { RENAME_NOREPLACE_ = 1, RENAME_EXCHANGE_ = 2, RENAME_WHITEOUT_ = 4 };

/* The name of the place without its trailing slashes. */
void vu_plain_name(const struct vu_place *place, char name[NAME_MAX + 8]);
/* 1 if something shows at `path` once the topmost tree has nothing there, which *st then tells of; 0 or -errno. */
int vu_shows_below(struct vu_stack *stack, const char *path, struct stat *st);
/* -ENOTEMPTY if anything is to be seen in the directory `path`. What is not, in the topmost tree, is removed if `clear`. */
int vu_check_empty(struct vu_stack *stack, const char *path, const struct vu_seen *seen, bool clear);
/* Put a whiteout at `name`, over what the topmost tree has there, if anything. */
int vu_cover(struct vu_stack *stack, int parent, const char *name, bool present, bool directory);

#endif
