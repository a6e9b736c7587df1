/*
 * Whose connection is it? connect(2) to a path is made by us in an enforcing view (sockets_ours.c), so the kernel tells a
 * server our process id. A server of the session is told its client's instead: getsockopt(2) with SO_PEERCRED and SO_PEERPIDFD
 * comes to us, and of a socket whose peer seems to be us the kernel says which socket is at the other end (sock_diag(7)).
 *
 * Nothing is changed where that cannot be known: the client has closed its end, or the kernel has no CONFIG_UNIX_DIAG.
 */
#include "again.h"
#include "sockets_ours.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

enum { ROOM = 1024 }; /* the connections that were made last: servers ask when they accept */

struct vu_peers {
	pthread_mutex_t lock;
	unsigned next;
	struct {
		ino_t socket;
		pid_t pid;
	} made[ROOM];
};

static struct vu_peers *store(struct vu_session *session)
{
	struct vu_peers *peers = atomic_load(&session->peers), *none = NULL;
	if (peers || !(peers = calloc(1, sizeof *peers)))
		return peers;
	pthread_mutex_init(&peers->lock, NULL);
	if (atomic_compare_exchange_strong(&session->peers, &none, peers))
		return peers;
	free(peers);
	return none;
}

void vu_peers_note(struct vu_call *call, int fd)
{
	struct stat st;
	struct vu_peers *peers = store(call->session);
	if (!peers || fstat(fd, &st) < 0)
		return;
	pthread_mutex_lock(&peers->lock);
	unsigned i = 0;
	while (i < ROOM && peers->made[i].socket != st.st_ino)
		i++;
	if (i == ROOM)
		i = peers->next++ % ROOM;
	peers->made[i].socket = st.st_ino;
	peers->made[i].pid = vu_tgid(call);
	pthread_mutex_unlock(&peers->lock);
}

static pid_t find(struct vu_session *session, ino_t socket)
{
	struct vu_peers *peers = atomic_load(&session->peers);
	pid_t pid = 0;
	if (!peers)
		return 0;
	pthread_mutex_lock(&peers->lock);
	for (unsigned i = 0; i < ROOM && !pid; i++)
		pid = peers->made[i].socket == socket ? peers->made[i].pid : 0;
	pthread_mutex_unlock(&peers->lock);
	return pid;
}

void vu_peers_free(struct vu_session *session)
{
	free(atomic_load(&session->peers));
}

/* The inode number of the socket that `socket` is connected to, as of Linux 3.3; 0. */
static ino_t other_end(ino_t socket_number)
{
	struct {
		struct nlmsghdr header;
		struct unix_diag_req ask;
	} request = {
		.header = { sizeof request, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0 },
		.ask = { .sdiag_family = AF_UNIX,
			 .udiag_states = ~0u,
			 .udiag_ino = (__u32)socket_number,
			 .udiag_show = UDIAG_SHOW_PEER,
			 .udiag_cookie = { ~0u, ~0u } },
	};
	_Alignas(struct nlmsghdr) char answer[1024];
	VU_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (fd < 0 || send(fd, &request, sizeof request, 0) < 0)
		return 0;
	ssize_t n = recv(fd, answer, sizeof answer, 0);
	struct nlmsghdr *header = (struct nlmsghdr *)answer;
	const size_t head = NLMSG_LENGTH(sizeof(struct unix_diag_msg));
	if (n < (ssize_t)head || !NLMSG_OK(header, (unsigned)n) || header->nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return 0;
	struct rtattr *attribute = (struct rtattr *)(answer + NLMSG_ALIGN(head));
	unsigned left = (unsigned)n - (unsigned)NLMSG_ALIGN(head);
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
		if (attribute->rta_type == UNIX_DIAG_PEER && RTA_PAYLOAD(attribute) >= sizeof(__u32))
			return *(__u32 *)RTA_DATA(attribute);
	return 0;
}

/* The process that is at the other end of the socket, if that is one for which we have connected; 0. */
static pid_t client_of(struct vu_call *call, int fd, struct ucred *said)
{
	struct stat st;
	socklen_t size = sizeof *said;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, said, &size) < 0 || said->pid != getpid() || fstat(fd, &st) < 0)
		return 0;
	return find(call->session, other_end(st.st_ino));
}

/* As sk_getsockopt() in net/core/sock.c gives it: cut off where there is less room. */
static int give(struct vu_call *call, const void *value, size_t size)
{
	int room;
	int error = vu_read(call, vu_argument(call, call->row->size), &room, sizeof room);
	if (error < 0 || room < 0)
		return error < 0 ? error : -EINVAL;
	room = (size_t)room < size ? room : (int)size;
	if ((error = vu_write(call, vu_argument(call, call->row->buf), value, (size_t)room)) < 0 ||
	    (error = vu_write(call, vu_argument(call, call->row->size), &room, sizeof room)) < 0)
		return error;
	return vu_answer(call, 0);
}

static int give_pidfd(struct vu_call *call, pid_t pid)
{
	int room;
	int error = vu_read(call, vu_argument(call, call->row->size), &room, sizeof room);
	if (error < 0)
		return error;
	if (room < (int)sizeof room)
		return VU_CONTINUE; /* nobody gets a descriptor without its number */
	VU_CLOSE int own = (int)syscall(SYS_pidfd_open, pid, 0);
	if (own < 0)
		return -errno;
	int there = vu_inject(call, own, true);
	return there < 0 ? there : give(call, &there, sizeof there);
}

int vu_op_getsockopt(struct vu_call *call)
{
	struct ucred peer;
	int verdict = -1, name = (int)vu_argument(call, call->row->mode);
	if (!call->session->enforce || (int)vu_argument(call, call->row->extra) != SOL_SOCKET ||
	    !atomic_load(&call->session->peers))
		return VU_CONTINUE;
	VU_CLOSE int fd = vu_again_descriptor(call, (int)vu_argument(call, call->row->fd), &verdict);
	if (fd < 0)
		return verdict >= 0 ? verdict : VU_CONTINUE;
	pid_t pid = client_of(call, fd, &peer);
	if (!pid)
		return VU_CONTINUE;
	if (name == SO_PEERPIDFD)
		return give_pidfd(call, pid);
	peer.pid = pid;
	return give(call, &peer, sizeof peer);
}
