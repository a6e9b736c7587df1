/* AF_UNIX by path and abstract: bind, connect, sendto, sendmsg, sendmmsg; names as getsockname, getpeername and recvfrom tell them. */
#include "probe.h"

static socklen_t address_of(struct sockaddr_un *address, const char *path)
{
	memset(address, 0, sizeof *address);
	address->sun_family = AF_UNIX;
	if (path[0] == '@') {
		memcpy(address->sun_path + 1, path + 1, strlen(path + 1));
		return offsetof(struct sockaddr_un, sun_path) + strlen(path);
	}
	strncpy(address->sun_path, path, sizeof address->sun_path);
	return strlen(path) < sizeof address->sun_path ? offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1
						       : sizeof *address;
}

static void show_name(const char *call, long (*get)(int, struct sockaddr *, socklen_t *), int fd)
{
	struct sockaddr_un address;
	socklen_t length = sizeof address;

	memset(&address, 0, sizeof address);
	if (result(call, "", get(fd, (struct sockaddr *)&address, &length)) == 0)
		say(" family=%d length=%u %s", length ? address.sun_family : 0, length,
		    length > 2 ? portable(address.sun_path, length - 2) : "unnamed");
	say("\n");
}
static long sockname(int fd, struct sockaddr *a, socklen_t *l)
{
	return S(getsockname, fd, a, l);
}
static long peername(int fd, struct sockaddr *a, socklen_t *l)
{
	return S(getpeername, fd, a, l);
}

static void try_path(const char *path, int type)
{
	struct sockaddr_un address, from;
	socklen_t length = address_of(&address, path), from_length = sizeof from;
	int server = socket(AF_UNIX, type, 0), client = socket(AF_UNIX, type, 0), peer = -1;
	struct stat st;
	char buffer[16] = "ping";

	path = path[0] == '/' ? "$HOME/abs" : path; /* as it is printed */
	phase = type == SOCK_STREAM ? "stream" : type == SOCK_DGRAM ? "dgram" : "seqpacket";
	result("connect early", path, S(connect, client, &address, length));
	say("\n");
	if (result("bind", path, S(bind, server, &address, length)) == 0 && path[0] != '@' && lstat(path, &st) == 0)
		show_stat(&st);
	say("\n");
	result("bind again", path, S(bind, server, &address, length));
	result("listen", path, type == SOCK_DGRAM ? 0 : S(listen, server, 5));
	result("connect", path, S(connect, client, &address, length));
	say("\n");
	show_name("getsockname", sockname, server);
	show_name("getpeername", peername, client);
	if (type == SOCK_DGRAM) {
		struct iovec io = { buffer, 4 };
		struct msghdr message = {
			.msg_name = &address, .msg_namelen = length, .msg_iov = &io, .msg_iovlen = 1
		};
		struct mmsghdr two[2] = { { message, 0 }, { message, 0 } };
		int third = socket(AF_UNIX, type, 0);
		result("sendto", path, S(sendto, third, "to", 2, MSG_DONTWAIT, &address, length));
		result("sendmsg", path, S(sendmsg, third, &message, MSG_DONTWAIT));
		result("sendmmsg", path, S(sendmmsg, third, two, 2, MSG_DONTWAIT));
		result("send", path, S(sendto, client, "conn", 4, MSG_DONTWAIT, NULL, 0));
		say(" lengths %u %u\n", two[0].msg_len, two[1].msg_len);
		for (int i = 0; i < 6; i++) {
			result("recvfrom", path,
			       S(recvfrom, server, buffer, sizeof buffer, MSG_DONTWAIT, &from, &from_length));
			say(" from %u\n", from_length);
		}
		close(third);
	} else {
		peer = S(accept4, server, NULL, NULL, SOCK_NONBLOCK);
		result("send", path, S(sendto, client, "ping", 4, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0));
		result("recv", path, S(recvfrom, peer, buffer, 4, MSG_DONTWAIT, NULL, NULL));
		say("\n");
		if (peer >= 0)
			show_name("getsockname of accepted", sockname, peer);
	}
	close(server);
	close(client);
	if (peer >= 0)
		close(peer);
	client = socket(AF_UNIX, type, 0);
	result("connect late", path, S(connect, client, &address, length));
	say("\n");
	close(client);
}

int main(void)
{
	static const char *const list[] = {
		"new",
		"dir/new",
		"dirlink/viaLink",
		"link",
		"dangling",
		"file",
		"dir",
		"dir/",
		"missing/x",
		"locked/x",
		"loop",
		"new2/",
		"",
		".",
		"@abstract-probe",
		"/proc/self/cwd/viaproc",
		"dir/../viadots",
		"a name of just one hundred and eight bytes, which fills sun_path to its end and has no NUL after it, "
		"see unix(7)...",
	};
	static const char *const refused[] = { "new", "file", "dir", ".", "missing/x", "file/x", "loop" };
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
	struct sockaddr_un address;
	char home_path[200];
	int fd, tcp, udp;
	socklen_t length;

	start();
	for (size_t t = 0; t < COUNT(types); t++) {
		make_tree();
		for (size_t i = 0; i < COUNT(list); i++)
			try_path(list[i], types[t]);
		snprintf(home_path, sizeof home_path, "%s/abs", home);
		if (strlen(home_path) < 100)
			try_path(home_path, types[t]);
		dump_tree(".");
	}
	phase = "errors";
	make_tree();
	length = address_of(&address, "new");
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	tcp = socket(AF_INET, SOCK_STREAM, 0);
	result("bind", "NULL", S(bind, fd, NULL, length));
	result("bind", "length 0", S(bind, fd, &address, 0));
	result("bind", "length 1", S(bind, fd, &address, 1));
	result("bind", "length -1", S(bind, fd, &address, -1));
	result("bind", "too long", S(bind, fd, &address, 200));
	result("bind", "tcp", S(bind, tcp, &address, length));
	result("bind", "file", S(bind, 0, &address, length));
	result("bind", "closed", S(bind, 99, &address, length));
	result("bind", "unterminated", S(bind, fd, &address, offsetof(struct sockaddr_un, sun_path) + 3));
	result("connect", "NULL", S(connect, fd, NULL, length));
	result("connect", "length 1", S(connect, fd, &address, 1));
	result("connect", "closed", S(connect, 99, &address, length));
	result("sendto", "NULL with length", S(sendto, fd, "x", 1, MSG_NOSIGNAL, NULL, 16));
	result("sendto", "closed", S(sendto, 99, "x", 1, 0, &address, length));
	result("sendmsg", "NULL", S(sendmsg, fd, NULL, 0));
	result("sendmmsg", "NULL", S(sendmmsg, fd, NULL, 2, 0));
	/* The socket comes before the path. */
	udp = socket(AF_INET, SOCK_DGRAM, 0);
	for (size_t i = 0; i < COUNT(refused); i++) {
		struct msghdr message = { .msg_name = &address };
		struct mmsghdr two[2];
		address_of(&address, refused[i]);
		length = message.msg_namelen = sizeof address; /* long enough for one of TCP */
		two[0].msg_hdr = two[1].msg_hdr = message;
		result("bind tcp", refused[i], S(bind, tcp, &address, length));
		result("bind file", refused[i], S(bind, 0, &address, length));
		result("bind closed", refused[i], S(bind, 99, &address, length));
		result("connect tcp", refused[i], S(connect, tcp, &address, length));
		result("connect file", refused[i], S(connect, 0, &address, length));
		result("connect closed", refused[i], S(connect, 99, &address, length));
		result("sendto udp", refused[i], S(sendto, udp, "x", 1, 0, &address, length));
		result("sendto tcp", refused[i], S(sendto, tcp, "x", 1, MSG_NOSIGNAL, &address, length));
		result("sendto closed", refused[i], S(sendto, 99, "x", 1, 0, &address, length));
		result("sendmsg udp", refused[i], S(sendmsg, udp, &message, 0));
		result("sendmmsg udp", refused[i], S(sendmmsg, udp, two, 2, 0));
		say("\n");
	}
	length = address_of(&address, "new");
	close(fd);
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	result("bind", "autobind", S(bind, fd, &address, 2));
	result("sendto", "to a stream socket", S(sendto, fd, "x", 1, 0, &address, length));
	say("\n");
	/* A descriptor sent over a socket pair is the same open file there. */
	{
		int pair[2], passed = open("file", O_RDWR);
		char control[CMSG_SPACE(sizeof(int))] = { 0 }, c = 'c';
		struct iovec io = { &c, 1 };
		struct msghdr message = {
			.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
		};
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), "socketpair");
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(head), &passed, sizeof passed);
		result("sendmsg", "SCM_RIGHTS", S(sendmsg, pair[0], &message, 0));
		result("recvmsg", "SCM_RIGHTS", S(recvmsg, pair[1], &message, 0));
		head = CMSG_FIRSTHDR(&message);
		if (head) {
			memcpy(&fd, CMSG_DATA(head), sizeof fd);
			show_descriptor(fd);
		}
	}
	return 0;
}
