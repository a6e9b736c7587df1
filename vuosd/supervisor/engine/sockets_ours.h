/* The calls with a socket's address under enforcement: nothing of them is the caller's kernel's to read again. */
#ifndef VUOSD_ENGINE_SOCKETS_OURS_H
#define VUOSD_ENGINE_SOCKETS_OURS_H

#include "engine.h"

vu_operation vu_connect_ours, vu_sendto_ours, vu_sendmsg_ours, vu_sendmmsg_ours;

/* peers.c */
/* The caller's socket, of which `fd` is a duplicate, has been connected to a path by us. */
void vu_peers_note(struct vu_call *call, int fd);

#endif
