/*
 * By which name was it bound? A socket below an entry is bound by the host's path of its directory, or by /proc/self/fd/N/NAME
 * (op_bind.c), and that text is what the kernel tells of it. getsockname(2) and getpeername(2) tell what the program gave
 * instead; and where the text itself leads nowhere in the view, it leads to what was bound: it is what accept(2) and
 * recvfrom(2) say of a sender, to whom one answers.
 */
#include "again.h"
#include "sockets_ours.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { ROOM = 1024 }; /* the sockets that were bound last */

struct name {
	char told[sizeof(struct sockaddr_un)], given[sizeof(struct sockaddr_un)]; /* the kernel's text; the program's */
	char *view; /* the path in the view */
};

struct vu_socket_names {
	pthread_mutex_t lock;
	unsigned next;
	struct name names[ROOM];
};

static struct vu_socket_names *store(struct vu_session *session)
{
	struct vu_socket_names *store = atomic_load(&session->socket_names), *none = NULL;
	if (store || !(store = calloc(1, sizeof *store)))
		return store;
	pthread_mutex_init(&store->lock, NULL);
	if (atomic_compare_exchange_strong(&session->socket_names, &none, store))
		return store;
	free(store);
	return none;
}

/* The lock is held. */
static struct name *find(struct vu_socket_names *store, const char *told)
{
	for (unsigned i = 0; i < ROOM; i++)
		if (store->names[i].view && !strcmp(store->names[i].told, told))
			return &store->names[i];
	return NULL;
}

bool vu_socket_names_taken(struct vu_session *session, const char *told, const char *view)
{
	struct vu_socket_names *store = atomic_load(&session->socket_names);
	if (!store)
		return false;
	pthread_mutex_lock(&store->lock);
	const struct name *name = find(store, told);
	bool taken = name && strcmp(name->view, view) != 0;
	pthread_mutex_unlock(&store->lock);
	return taken;
}

int vu_socket_names_add(struct vu_session *session, const char *told, const char *given, const char *view)
{
	struct vu_socket_names *names = store(session);
	char *copy = names ? strdup(view) : NULL;
	if (!copy)
		return -ENOMEM;
	pthread_mutex_lock(&names->lock);
	struct name *name = find(names, told);
	if (!name)
		name = &names->names[names->next++ % ROOM];
	free(name->view);
	name->view = copy;
	strcpy(name->told, told);
	strcpy(name->given, given);
	pthread_mutex_unlock(&names->lock);
	return 0;
}

bool vu_socket_names_view(struct vu_session *session, const char *told, char view[VU_TEXT])
{
	struct vu_socket_names *store = atomic_load(&session->socket_names);
	if (!store)
		return false;
	pthread_mutex_lock(&store->lock);
	const struct name *name = find(store, told);
	if (name)
		snprintf(view, VU_TEXT, "%s", name->view);
	pthread_mutex_unlock(&store->lock);
	return name;
}

void vu_socket_names_free(struct vu_session *session)
{
	struct vu_socket_names *store = atomic_load(&session->socket_names);
	for (unsigned i = 0; store && i < ROOM; i++)
		free(store->names[i].view);
	free(store);
}

/* Of a socket that is ours: the address that the program is to be told; its length, or 0 to leave it to the kernel. */
static socklen_t address_of(struct vu_call *call, int fd, struct sockaddr_un *address)
{
	char told[sizeof *address + 1] = "";
	const size_t head = offsetof(struct sockaddr_un, sun_path);
	socklen_t size = sizeof *address;
	int error = call->row->implied ? getpeername(fd, (struct sockaddr *)address, &size)
				       : getsockname(fd, (struct sockaddr *)address, &size);
	if (error < 0 || address->sun_family != AF_UNIX || size <= head || size > sizeof *address + 1)
		return 0;
	memcpy(told, address->sun_path, (size < sizeof *address ? size : sizeof *address) - head);
	struct vu_socket_names *store = atomic_load(&call->session->socket_names);
	pthread_mutex_lock(&store->lock);
	const struct name *name = find(store, told);
	size_t length = name ? strlen(name->given) : 0;
	if (name)
		memcpy(address->sun_path, name->given, length < sizeof address->sun_path ? length + 1 : length);
	pthread_mutex_unlock(&store->lock);
	return name ? (socklen_t)(head + length + 1) : 0;
}

int vu_op_sockname(struct vu_call *call)
{
	/* One byte more: a path that fills sun_path is told with its end, as by unix_mkname_bsd() in net/unix/af_unix.c. */
	struct {
		struct sockaddr_un address;
		char end;
	} answer = {};
	int verdict = -1, room;
	if (!atomic_load(&call->session->socket_names))
		return VU_CONTINUE;
	VU_CLOSE int fd = vu_again_descriptor(call, (int)vu_argument(call, call->row->fd), &verdict);
	if (fd < 0)
		return verdict >= 0 ? verdict : VU_CONTINUE;
	int length = (int)address_of(call, fd, &answer.address);
	if (!length)
		return VU_CONTINUE;
	int error = vu_read(call, vu_argument(call, call->row->size), &room, sizeof room);
	if (error < 0 || room < 0) /* as move_addr_to_user() in net/socket.c */
		return error < 0 ? error : -EINVAL;
	room = room < length ? room : length;
	if ((error = vu_write(call, vu_argument(call, call->row->buf), &answer, (size_t)room)) < 0 ||
	    (error = vu_write(call, vu_argument(call, call->row->size), &length, sizeof length)) < 0)
		return error;
	return vu_answer(call, 0);
}
