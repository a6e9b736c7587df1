/*
 * Calls with a socket's address. Those under enforcement (sockets_ours.c) leave nothing to the caller's kernel to read again.
 */
#ifndef VUOSD_ENGINE_SOCKETS_OURS_H
#define VUOSD_ENGINE_SOCKETS_OURS_H

#include "engine.h"

#include <sys/socket.h>
#include <sys/un.h>

vu_operation vu_connect_ours, vu_sendto_ours, vu_sendmsg_ours, vu_sendmmsg_ours;

/* peers.c */
/* The caller's socket, of which `fd` is a duplicate, has been connected to a path by us. */
void vu_peers_note(struct vu_call *call, int fd);

/* op_sockets.c */
/* Where a path in an address leads, under a name that the caller's kernel can use. */
struct vu_socket_target {
	struct sockaddr_un address;
	socklen_t length;
	int close_fd; /* in the caller, afterwards; or -1 */
};
/*
 * The path in the address, into `path`: its length. 0: it is none, or nothing that the kernel would accept; the kernel is
 * to say so.
 */
int vu_socket_path(struct vu_call *call, uint64_t address, uint64_t length, char *path);
/* false: DIRECTORY/NAME does not fit. */
bool vu_socket_address(struct vu_socket_target *target, const char *directory, const char *name);
/* The host path of one of our descriptors, into work->host, if it is one: not deleted, not out of sight. */
bool vu_socket_host_path(struct vu_call *call, int fd);
/*
 * What a call comes to that is refused for its path: the kernel looks at the socket first, and of one that is not of AF_UNIX at no
 * path at all. Such a call goes on.
 */
int vu_socket_refused(struct vu_call *call, int error);
/* Where the path of an address leads in the view. */
int vu_socket_walk(struct vu_call *call, const char *path, struct vu_place *place);

/* socket_names.c: of sockets that were bound by another text than the program gave */
/* Is the kernel to tell `told` of a socket that lies elsewhere than at `view`? */
bool vu_socket_names_taken(struct vu_session *session, const char *told, const char *view);
int vu_socket_names_add(struct vu_session *session, const char *told, const char *given, const char *view);
/* Where in the view is the socket of which the kernel tells `told`? */
bool vu_socket_names_view(struct vu_session *session, const char *told, char view[VU_TEXT]);

#endif
