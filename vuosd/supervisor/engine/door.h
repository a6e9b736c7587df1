/*
 * How our own commands (launcher/inside.c) ask the supervisor of the view they run in, shared by both:
 *
 *	openat(AT_FDCWD, "", O_RDWR | O_CLOEXEC, 0, VU_DOOR, &(struct vu_door){ … })
 *
 * which is ENOENT for every kernel, and in a view whose session has no mounter: it ignores the last two, which openat(2) does
 * not have. An open, since those come to us from everywhere: mount(2), whose arguments these are, does not in a container whose
 * own filter refuses it. No path is looked at, so it goes by no server and means the same in any root.
 *
 * What it returns is a memfd: an int32_t, the errno or 0, and then a text: what is wrong, or what was asked for. When it fails
 * instead, nobody has been asked, or the caller's memory cannot be read.
 */
#ifndef VUOSD_ENGINE_DOOR_H
#define VUOSD_ENGINE_DOOR_H

#include <stdint.h>

#define VU_DOOR UINT64_C(0x31726f6f64757576) /* "vuudoor1"; another number when the struct changes */

/* As mount(2) has them: addresses of strings, each at most a page. The type may be a command, "vuos:umount". */
#define VU_DOOR_STARTS (UINT64_C(1) << 63) /* a flag of a mount: whoever asks can start a server (launcher/serving.c) */
#define VU_DOOR_DEVICE 9 /* and that is the number by which it has its /dev/fuse */

struct vu_door {
	uint64_t source, target, type, flags, options;
};

#endif
