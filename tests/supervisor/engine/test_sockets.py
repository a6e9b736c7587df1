"""AF_UNIX addresses that are paths of the view."""

import ctypes
import errno
import os
import shutil
import signal
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.engine.driver import USERS, View, bind, directory, errno_of, hide, run, syscall

pytestmark = pytest.mark.kernel

CONNECT, SENDMMSG = 42, 307


@pytest.fixture
def tree() -> Iterator[Path]:
    root = directory()
    for name in ("real", "locked", "other"):
        (root / name).mkdir()
        (root / name).chmod(0o777)
    (root / "file").touch()
    yield root
    shutil.rmtree(root)


def view(tree: Path, **options: object) -> View:
    entries = [
        bind(tree / "v", tree / "real"),
        bind(tree / "ro", tree / "locked", readonly=True),
        bind(tree / "one", tree / "other" / "s"),
        hide(tree / "secret"),
        hide(tree / "file"),
    ]
    return View([entry for entry in entries if entry[2] is None or os.path.lexists(entry[2])], **options)  # type: ignore[arg-type]


def pair(kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
    return socket.socket(socket.AF_UNIX, kind), socket.socket(socket.AF_UNIX, kind)


MODES = [{"user": user, "borrow": borrow, "enforce": enforce}
         for user in USERS for borrow in (False, True) for enforce in (False, True)]  # fmt: skip


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(k for k, v in mode.items() if v) or "plain")
def test_stream(tree: Path, mode: dict[str, object]) -> None:
    def body() -> None:
        server, client = pair()
        before = os.listdir("/proc/self/fd")
        os.umask(0o027)
        server.bind(str(tree / "v" / "s"))
        assert server.getsockname() == str(tree / "v" / "s")
        st = os.stat(tree / "real" / "s")
        assert (stat.S_ISSOCK(st.st_mode), st.st_mode & 0o777, st.st_uid) == (True, 0o750, os.geteuid())
        server.listen()
        client.connect(str(tree / "v" / "s"))
        peer, name = server.accept()
        assert client.getpeername() == peer.getsockname() == server.getsockname()
        assert name == ""
        pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        assert uid == os.geteuid()
        assert pid == os.getpid()
        client.sendall(b"hello")
        assert peer.recv(10) == b"hello"
        peer.close()
        assert os.listdir("/proc/self/fd") == before, "nothing of ours stays in the target"

    run(body, view(tree, **mode))


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(k for k, v in mode.items() if v) or "plain")
def test_whose_connection(tree: Path, mode: dict[str, object]) -> None:
    """Of several clients each is told apart, by number and by descriptor; other sockets are left alone."""
    level, cred, pidfd = socket.SOL_SOCKET, socket.SO_PEERCRED, 77
    kernel = [int(number) for number in os.uname().release.split(".")[:2]]

    def body() -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server.bind(str(tree / "v" / "s"))
        server.listen()
        children = []
        for _ in range(3):
            if not (child := os.fork()):
                client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                client.connect(str(tree / "v" / "s"))
                client.send(str(os.getpid()).encode())
                client.recv(1)
                os._exit(0)
            children.append(child)
        peers = [server.accept()[0] for _ in children]
        ours = socket.socketpair()[0]
        said = {}
        for peer in peers:
            pid, uid, gid = struct.unpack("3i", peer.getsockopt(level, cred, 100))
            assert (uid, gid) == (os.geteuid(), os.getegid())
            assert peer.getsockopt(level, cred, 4) == struct.pack("i", pid)
            said[int(peer.recv(20))] = pid
            if kernel < [6, 5]:
                continue  # which had no SO_PEERPIDFD
            fd = peer.getsockopt(level, pidfd)
            assert f"Pid:\t{pid}\n" in Path(f"/proc/self/fdinfo/{fd}").read_text()
            assert not os.get_inheritable(fd)
            os.close(fd)
        assert said == {child: child for child in children}
        for peer in peers:
            peer.close()
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        assert struct.unpack("3i", ours.getsockopt(level, cred, 12))[0] == os.getpid()
        assert struct.unpack("3i", server.getsockopt(level, cred, 12))[0] == os.getpid()
        tcp = socket.socket()
        assert struct.unpack("3i", tcp.getsockopt(level, cred, 12)) == (0, -1, -1)
        assert errno_of(tcp.getsockopt, socket.IPPROTO_IP, cred) in (0, errno.ENOPROTOOPT)

    run(body, view(tree, **mode))


@pytest.mark.parametrize("enforce", [False, True])
def test_errors(tree: Path, enforce: bool) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tree / "real" / "left"))
    (tree / "secret").mkdir()
    outside = socket.socket(socket.AF_UNIX)
    outside.bind(str(tree / "secret" / "s"))
    outside.listen()
    (tree / "real" / "link").symlink_to("nowhere")

    def body() -> None:
        s = socket.socket(socket.AF_UNIX)
        assert errno_of(s.bind, str(tree / "v" / "left")) == errno.EADDRINUSE
        assert errno_of(s.bind, str(tree / "v" / "link")) == errno.EADDRINUSE
        assert errno_of(s.bind, str(tree / "v")) == errno.EADDRINUSE
        assert errno_of(s.bind, str(tree / "v" / "new/") + "/") == errno.ENOENT
        assert errno_of(s.bind, str(tree / "v" / "missing" / "s")) == errno.ENOENT
        assert errno_of(s.bind, str(tree / "ro" / "s")) == errno.EROFS
        assert errno_of(s.bind, str(tree / "file")) == errno.EACCES
        assert errno_of(s.connect, str(tree / "v" / "left")) == errno.ECONNREFUSED
        assert errno_of(s.connect, str(tree / "v" / "none")) == errno.ENOENT
        assert errno_of(s.connect, str(tree / "v" / "link")) == errno.ENOENT
        assert errno_of(s.connect, str(tree / "secret" / "s")) == errno.ENOENT
        assert errno_of(s.connect, str(tree / "v")) == errno.ECONNREFUSED
        assert errno_of(s.connect, "\0abstract-nobody") == errno.ECONNREFUSED
        assert errno_of(s.connect, "x" * 50) == errno.ENOENT
        wrong = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tree / "v" / "stream"))
        listening.listen()
        assert errno_of(wrong.connect, str(tree / "v" / "stream")) == errno.EPROTOTYPE
        s.connect(str(tree / "v" / "stream"))
        assert errno_of(s.connect, str(tree / "v" / "stream")) == errno.EISCONN

    run(body, view(tree, enforce=enforce))
    left.close()
    outside.close()


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(k for k, v in mode.items() if v) or "plain")
def test_datagrams(tree: Path, mode: dict[str, object]) -> None:
    def body() -> None:
        server, client = pair(socket.SOCK_DGRAM)
        server.bind(str(tree / "v" / "d"))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        there = str(tree / "v" / "d")
        assert client.sendto(b"one", there) == 3
        assert server.recv(10) == b"one"
        assert client.sendmsg([b"t", b"wo"], [], 0, there) == 3
        data, control, _, _ = server.recvmsg(10, 100)
        assert data == b"two"
        pid, uid, _ = struct.unpack("3i", control[0][2])
        # Under enforcement the supervisor sends, with the caller's ids and its own process id.
        assert (pid == os.getpid(), uid) == (not mode.get("enforce"), os.geteuid())
        server.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        passing = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", 0))]
        if mode.get("enforce") and mode.get("borrow"):
            # What the supervisor sends it must hold, and this machine lets it duplicate nothing.
            assert errno_of(client.sendmsg, [b"fd"], passing, 0, there) == errno.EPERM
        else:
            client.sendmsg([b"fd"], passing, 0, there)
            data, fds, _, _ = socket.recv_fds(server, 10, 4)
            assert (data, len(fds)) == (b"fd", 1)
        assert errno_of(client.sendto, b"x", str(tree / "v" / "none")) == errno.ENOENT
        assert errno_of(client.sendto, b"x", str(tree / "secret")) == errno.ENOENT
        client.connect(there)
        assert client.send(b"three") == 5
        assert server.recv(10) == b"three"

    run(body, view(tree, **mode))


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]


class _Message(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("name_length", ctypes.c_uint), ("iov", ctypes.POINTER(_Iovec)),
                ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p),
                ("control_length", ctypes.c_size_t),
                ("flags", ctypes.c_int), ("pad", ctypes.c_int), ("sent", ctypes.c_uint)]  # fmt: skip


def test_sendmmsg(tree: Path) -> None:
    """As the kernel may, it sends fewer than asked for; whoever uses it goes on from there."""

    def body() -> None:
        native, client = pair(socket.SOCK_DGRAM)
        virtual, _ = pair(socket.SOCK_DGRAM)
        native.bind(str(tree / "native"))
        virtual.bind(str(tree / "v" / "virtual"))
        receivers = [native, native, virtual, native, virtual]
        paths = [tree / "native" if r is native else tree / "v" / "virtual" for r in receivers]
        messages = (_Message * 5)()
        for i, path in enumerate(paths):
            name = struct.pack("=H", socket.AF_UNIX) + os.fsencode(path)
            text = b"m%d" % i * (i + 1)
            messages[i].name, messages[i].name_length = name, len(name)
            messages[i].iov, messages[i].iovlen = ctypes.pointer(_Iovec(text, len(text))), 1
        done = 0
        while done < 5:
            done += syscall(SENDMMSG, client.fileno(), ctypes.byref(messages[done]), 5 - done, 0)
        assert [m.sent for m in messages] == [2, 4, 6, 8, 10]
        assert [r.recv(20) for r in receivers] == [b"m%d" % i * (i + 1) for i in range(5)]
        name = struct.pack("=H", socket.AF_UNIX) + os.fsencode(tree / "v" / "no")
        messages[0].name, messages[0].name_length = name, len(name)
        assert errno_of(syscall, SENDMMSG, client.fileno(), messages, 5, 0) == errno.ENOENT

    run(body, view(tree))


@pytest.mark.parametrize("enforce", [False, True])
def test_full_backlog(tree: Path, enforce: bool) -> None:
    """connect waits for room; the engine serves others meanwhile, and the wait can be given up."""

    def body() -> None:
        server, first = pair()
        server.bind(str(tree / "v" / "s"))
        server.listen(0)
        first.connect(str(tree / "v" / "s"))
        hasty = socket.socket(socket.AF_UNIX)
        hasty.setblocking(False)
        assert errno_of(hasty.connect, str(tree / "v" / "s")) == errno.EAGAIN
        second = socket.socket(socket.AF_UNIX)
        thread = threading.Thread(target=second.connect, args=(str(tree / "v" / "s"),))
        thread.start()
        for _ in range(20):
            os.listdir(tree / "v")
            time.sleep(0.02)
        assert thread.is_alive()
        server.accept()
        server.accept()
        thread.join(10)
        assert not thread.is_alive()

    run(body, view(tree, enforce=enforce))


@pytest.mark.parametrize("restart", [False, True])
def test_signal_while_waiting(tree: Path, restart: bool) -> None:
    """A handler without SA_RESTART ends the wait, one with it does not."""

    def body() -> None:
        server, first = pair()
        server.bind(str(tree / "v" / "s"))
        server.listen(0)
        first.connect(str(tree / "v" / "s"))
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.siginterrupt(signal.SIGALRM, not restart)
        name = struct.pack("=H", socket.AF_UNIX) + os.fsencode(tree / "v" / "s")
        second = socket.socket(socket.AF_UNIX)
        signal.setitimer(signal.ITIMER_REAL, 0.25)
        if restart:
            threading.Timer(0.6, server.accept).start()
            assert syscall(CONNECT, second.fileno(), name, len(name)) == 0
        else:
            assert errno_of(syscall, CONNECT, second.fileno(), name, len(name)) == errno.EINTR

    run(body, view(tree))


def test_killed_while_waiting(tree: Path) -> None:
    def body() -> None:
        server, first = pair()
        server.bind(str(tree / "v" / "s"))
        server.listen(0)
        first.connect(str(tree / "v" / "s"))
        child = os.fork()
        if child == 0:
            socket.socket(socket.AF_UNIX).connect(str(tree / "v" / "s"))
            os._exit(0)
        time.sleep(0.3)
        os.kill(child, 15)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -15

    run(body, view(tree))


def test_long_path(tree: Path) -> None:
    """The host's path of the socket does not fit into an address."""
    deep = tree / "real"
    for _ in range(6):
        deep /= "d" * 40
    deep.mkdir(parents=True)

    def body() -> None:
        server, client = pair()
        server.bind(str(tree / "v" / "s"))
        assert stat.S_ISSOCK(os.stat(deep / "s").st_mode)
        server.listen()
        client.connect(str(tree / "v" / "s"))
        server.accept()

    run(body, View([bind(tree / "v", deep)]))


def test_one_socket_bound_over_a_name(tree: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tree / "other" / "s"))
    server.listen()

    def body() -> None:
        socket.socket(socket.AF_UNIX).connect(str(tree / "one"))

    run(body, view(tree))
    run(body, view(tree, enforce=True))
    server.close()
