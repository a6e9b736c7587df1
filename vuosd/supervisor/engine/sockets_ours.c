/*
 * connect, sendto, sendmsg and sendmmsg of an enforcing view: made by us, on a duplicate of the caller's socket.
 *
 * Landlock does not govern sockets that have a path, so no address may be left in the caller's memory, where another thread
 * could exchange it after it was judged; nor may the number of a descriptor be looked up twice. That holds for every
 * socket: one of another family could be exchanged for one of AF_UNIX. Address, data and control message are copied, and
 * descriptors in the latter become duplicates of ours. What would block goes on on a thread of its own (slow.c).
 *
 * What a peer sees of it: our process id, and the caller's ids (SO_PEERCRED, SCM_CREDENTIALS); a server of the session sees
 * the caller's (peers.c).
 *
 * An abstract name is Landlock's to bound (LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET), but it would look at us: so
 * who listens there must be a member of the session, else the connection is shut down again. For a datagram that cannot be
 * told: EPERM.
 */
#include "again.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "sockets_ours.h"

enum {
	VECTORS = 1024, /* UIO_MAXIOV */
	MOST_DATA = 4 << 20, /* of a stream at once: a short count is right there. No datagram is as long. */
	MOST_CONTROL = 1 << 16, /* about net.core.optmem_max */
	MOST_DESCRIPTORS = 253, /* SCM_MAX_FD */
};

struct message {
	struct msghdr header;
	struct sockaddr_storage name;
	struct iovec vector;
	int flags, place; /* O_PATH of the socket that the name leads to */
	bool stream, blocks, unix_domain, abstract;
	size_t sent;
	uint64_t length_at; /* of the msg_len of a struct mmsghdr, or 0 */
	int descriptors[MOST_DESCRIPTORS];
	unsigned descriptor_count;
	char bytes[]; /* control, then data */
};

static void drop(void *data)
{
	struct message *m = data;
	for (unsigned i = 0; i < m->descriptor_count; i++)
		close(m->descriptors[i]);
	vu_close(&m->place);
	free(m);
}

static void drop_message(struct message **m)
{
	if (*m)
		drop(*m);
}

/* AF_UNIX tells the peer the effective ids; vu_assume takes those of the file system only. */
static void take_ids(const struct vu_call *call, bool take)
{
	if (!call->assumed)
		return;
	if (take) {
		syscall(SYS_setresgid, -1, call->credentials.egid, -1);
		syscall(SYS_setresuid, -1, call->credentials.euid, -1);
	} else {
		syscall(SYS_setresuid, -1, getuid(), -1);
		syscall(SYS_setresgid, -1, getgid(), -1);
	}
}

static int option(int fd, int name)
{
	int value = 0;
	socklen_t size = sizeof value;
	return getsockopt(fd, SOL_SOCKET, name, &value, &size) < 0 ? -errno : value;
}

/* Facts of the socket; -ENOTSOCK. */
static int look_at(struct message *m, int fd)
{
	int type = option(fd, SO_TYPE), domain = option(fd, SO_DOMAIN), flags = fcntl(fd, F_GETFL);
	if (type < 0 || domain < 0 || flags < 0)
		return type < 0 ? type : domain < 0 ? domain : -errno;
	m->stream = type == SOCK_STREAM;
	m->unix_domain = domain == AF_UNIX;
	m->blocks = !(flags & O_NONBLOCK) && !(m->flags & MSG_DONTWAIT);
	return type;
}

/* Was the socket that this one is connected to made to listen by a member of the session? */
static bool peer_is_member(const struct vu_call *call, int fd)
{
	struct ucred peer;
	struct rlimit limit;
	socklen_t size = sizeof peer;
	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) &&
	       !vu_limit_of(call->session, peer.pid, RLIMIT_LOCKS, &limit) &&
	       limit.rlim_cur >> VU_STATE_BITS == call->session->options.tag >> VU_STATE_BITS;
}

/* The address, read once, and made to lead where the view says. */
static int take_address(struct vu_call *call, struct message *m, int type, uint64_t address, uint64_t length)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&m->name;
	const size_t head = offsetof(struct sockaddr_un, sun_path);
	char path[sizeof un->sun_path + 1];
	if ((int)length < 0 || length > sizeof m->name)
		return -EINVAL;
	int error = vu_read(call, address, &m->name, length);
	if (error < 0)
		return error;
	m->header.msg_name = &m->name;
	m->header.msg_namelen = (socklen_t)length;
	if (!m->unix_domain || length <= head || un->sun_family != AF_UNIX || length > sizeof *un)
		return 0;
	if (!un->sun_path[0]) {
		m->abstract = true;
		return type == SOCK_DGRAM ? -EPERM : 0;
	}
	snprintf(path, sizeof path, "%.*s", (int)(length - head), un->sun_path);
	VU_PLACE place = { .parent = -1, .fd = -1 };
	if ((error = vu_socket_walk(call, path, &place)) < 0)
		return error;
	m->place = place.fd;
	place.fd = -1;
	vu_fd_path(m->place, un->sun_path);
	m->header.msg_namelen = (socklen_t)(head + strlen(un->sun_path) + 1);
	return 0;
}

static int take_descriptors(struct vu_call *call, struct message *m, struct cmsghdr *c)
{
	int *numbers = (int *)CMSG_DATA(c);
	size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	if (count + m->descriptor_count > MOST_DESCRIPTORS)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		int fd = vu_target_descriptor(call, numbers[i]);
		if (fd < 0)
			return fd;
		m->descriptors[m->descriptor_count++] = numbers[i] = fd;
	}
	return 0;
}

static int take_control(struct vu_call *call, struct message *m, uint64_t address, size_t length)
{
	int error = vu_read(call, address, m->bytes, length);
	if (error < 0)
		return error;
	m->header.msg_control = length ? m->bytes : NULL;
	m->header.msg_controllen = length;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m->header); c; c = CMSG_NXTHDR(&m->header, c)) {
		if (c->cmsg_len < CMSG_LEN(0) || c->cmsg_len > length - (size_t)((char *)c - m->bytes))
			return -EINVAL;
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS && (error = take_descriptors(call, m, c)) < 0)
			return error;
		struct ucred *ids = (struct ucred *)CMSG_DATA(c);
		if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len == CMSG_LEN(sizeof *ids) &&
		    ids->pid == vu_tgid(call))
			ids->pid = getpid(); /* the kernel lets nobody say another's */
	}
	return 0;
}

/* The bytes of the caller's vectors, one after another. */
static int take_data(struct vu_call *call, struct message *m, const struct iovec *vectors, size_t count, size_t room,
		     char *out)
{
	size_t have = 0;
	for (size_t i = 0; i < count && have < room; i++) {
		size_t n = vectors[i].iov_len < room - have ? vectors[i].iov_len : room - have;
		int error = vu_read(call, (uint64_t)vectors[i].iov_base, out + have, n);
		if (error < 0)
			return error;
		have += n;
	}
	m->vector = (struct iovec){ out, have };
	m->header.msg_iov = &m->vector;
	m->header.msg_iovlen = 1;
	return 0;
}

/* Sends, all of it on a blocking stream. 0 or -errno; -EAGAIN with `extra` MSG_DONTWAIT: the rest would block. */
static int transmit(struct message *m, int fd, int extra)
{
	for (;;) {
		ssize_t n = sendmsg(fd, &m->header, m->flags | MSG_NOSIGNAL | extra);
		if (n < 0)
			return -errno;
		m->sent += (size_t)n;
		m->vector.iov_base = (char *)m->vector.iov_base + n;
		m->vector.iov_len -= (size_t)n;
		m->header.msg_control = NULL;
		m->header.msg_controllen = 0;
		if (!m->stream || !m->vector.iov_len || !m->blocks)
			return 0;
	}
}

/* What the caller is told of a transmission. */
static int told(struct vu_call *call, struct message *m, int flags, int result)
{
	if (result < 0 && !m->sent) {
		if (result == -EPIPE && m->stream && !(flags & MSG_NOSIGNAL))
			syscall(SYS_tkill, call->tid, SIGPIPE);
		return result;
	}
	if (m->length_at) {
		unsigned sent = (unsigned)m->sent;
		int error = vu_write(call, m->length_at, &sent, sizeof sent);
		return error < 0 ? error : vu_answer(call, 1);
	}
	return vu_answer(call, (int64_t)m->sent);
}

static int transmit_slowly(struct vu_call *call, int fd, void *data)
{
	struct message *m = data;
	take_ids(call, m->unix_domain);
	int result = transmit(m, fd, 0);
	return told(call, m, m->flags, result);
}

/* One message, of which `header` is a copy. `at`: of the caller's struct mmsghdr, or 0; then there may be more. */
static int send_one(struct vu_call *call, const struct msghdr *header, const struct iovec *own, int flags, uint64_t at)
{
	struct iovec *vectors = (struct iovec *)call->work->data;
	size_t count = header->msg_iovlen, total = 0;
	int verdict = -1;
	if (count > VECTORS)
		return -EMSGSIZE;
	if (header->msg_controllen > MOST_CONTROL)
		return -ENOBUFS;
	int error = own ? 0 : vu_read(call, (uint64_t)header->msg_iov, vectors, count * sizeof *vectors);
	if (error < 0)
		return error;
	if (own)
		vectors = (struct iovec *)own;
	for (size_t i = 0; i < count; i++)
		total = vectors[i].iov_len > MOST_DATA - total ? MOST_DATA : total + vectors[i].iov_len;
	size_t control = header->msg_controllen, data = (control + 15) & ~(size_t)15;
	__attribute__((cleanup(drop_message))) struct message *m = calloc(1, sizeof *m + data + total);
	if (!m)
		return -ENOBUFS;
	m->place = -1;
	m->flags = flags & ~MSG_ZEROCOPY; /* nobody would hear when the pages are free */
	m->length_at = at ? at + offsetof(struct mmsghdr, msg_len) : 0;
	VU_CLOSE int fd = vu_again_descriptor(call, (int)vu_argument(call, call->row->fd), &verdict);
	if (fd < 0)
		return verdict >= 0 ? verdict : fd;
	int type = look_at(m, fd);
	if (type < 0)
		return type;
	if (!m->stream && total == MOST_DATA)
		return -EMSGSIZE;
	if ((error = take_data(call, m, vectors, count, total, m->bytes + data)) < 0)
		return error;
	if (control && (error = take_control(call, m, (uint64_t)header->msg_control, control)) < 0)
		return error;
	uint64_t name = header->msg_namelen ? (uint64_t)header->msg_name : 0;
	/* Streams and sequenced packets of AF_UNIX do not look at it, net/unix/af_unix.c. */
	if (name && !(m->unix_domain && type != SOCK_DGRAM) &&
	    (error = take_address(call, m, type, name, header->msg_namelen)) < 0)
		return error;
	take_ids(call, m->unix_domain);
	error = transmit(m, fd, MSG_DONTWAIT);
	if (m->unix_domain)
		take_ids(call, false);
	if (error != -EAGAIN || !m->blocks)
		return told(call, m, flags, error);
	struct message *handed = m;
	m = NULL;
	return vu_slow_run(call, fd, transmit_slowly, handed, drop);
}

int vu_sendto_ours(struct vu_call *call)
{
	const struct iovec vector = { (void *)call->args[1], call->args[2] };
	const struct msghdr header = { .msg_name = (void *)vu_argument(call, call->row->buf),
				       .msg_namelen = (socklen_t)vu_argument(call, call->row->size),
				       .msg_iovlen = 1 };
	return send_one(call, &header, &vector, (int)call->args[3], 0);
}

/*
 * Where descriptors cannot be duplicated (Docker's profile, Yama) those in a message cannot either: one without an address
 * then stays the caller's. What a race could win there is a datagram to a withheld socket; docs/enforcement.md says so.
 */
static bool must_continue(struct vu_call *call, const struct msghdr *header)
{
	if (header->msg_namelen || !header->msg_controllen)
		return false;
	VU_CLOSE int fd = vu_target_descriptor(call, (int)vu_argument(call, call->row->fd));
	return fd == -EPERM;
}

int vu_sendmsg_ours(struct vu_call *call)
{
	struct msghdr header;
	int error = vu_read(call, vu_argument(call, call->row->buf), &header, sizeof header);
	if (error < 0)
		return error;
	if (must_continue(call, &header))
		return VU_CONTINUE;
	return send_one(call, &header, NULL, (int)vu_argument(call, call->row->flags), 0);
}

/* It may send fewer than it was given; what would block is the last. */
int vu_sendmmsg_ours(struct vu_call *call)
{
	uint64_t at = vu_argument(call, call->row->buf);
	unsigned count = (unsigned)vu_argument(call, call->row->size), done = 0;
	int flags = (int)vu_argument(call, call->row->flags);
	if (count > VECTORS)
		count = VECTORS;
	for (; done < count; done++, at += sizeof(struct mmsghdr)) {
		struct msghdr header;
		int error = vu_read(call, at, &header, sizeof header);
		/* After the first nothing may wait or go back: what was sent has to be told. */
		if (!error && !done && must_continue(call, &header))
			return VU_CONTINUE;
		int verdict = error < 0 ? error : send_one(call, &header, NULL, flags | (done ? MSG_DONTWAIT : 0), at);
		if (verdict == VU_SENT)
			return verdict;
		if (verdict < 0)
			return done ? vu_answer(call, done) : verdict;
	}
	return vu_answer(call, done);
}

static int connect_slowly(struct vu_call *call, int fd, void *data)
{
	struct message *m = data;
	take_ids(call, m->unix_domain);
	if (connect(fd, (struct sockaddr *)&m->name, m->header.msg_namelen) < 0)
		return -errno;
	if (m->abstract && !peer_is_member(call, fd)) {
		shutdown(fd, SHUT_RDWR); /* nothing has gone either way, and nothing will */
		return -EPERM;
	}
	if (m->unix_domain)
		vu_peers_note(call, fd);
	return vu_answer(call, 0);
}

int vu_connect_ours(struct vu_call *call)
{
	int verdict = -1;
	__attribute__((cleanup(drop_message))) struct message *m = calloc(1, sizeof *m);
	if (!m)
		return -ENOBUFS;
	m->place = -1;
	VU_CLOSE int fd = vu_again_descriptor(call, (int)vu_argument(call, call->row->fd), &verdict);
	if (fd < 0)
		return verdict >= 0 ? verdict : fd;
	int type = look_at(m, fd);
	if (type < 0)
		return type;
	int error = take_address(call, m, type, vu_argument(call, call->row->buf), vu_argument(call, call->row->size));
	if (error < 0)
		return error;
	if (!m->blocks || type == SOCK_DGRAM) {
		int result = connect_slowly(call, fd, m);
		if (m->unix_domain)
			take_ids(call, false);
		return result;
	}
	struct message *handed = m;
	m = NULL;
	return vu_slow_run(call, fd, connect_slowly, handed, drop);
}
