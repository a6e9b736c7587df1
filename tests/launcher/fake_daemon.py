"""A daemon for the launcher's tests: speaks the wire protocol, lets every trapped call through.

How it behaves towards one session is said by the session's name (`--name=fail`): one daemon serves all tests.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import itertools
import os
import secrets
import select
import socket
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path

RUN, SETUP, FAIL, LISTENER, READY, EXITED, BYE, MEM = range(1, 9)
HEADER = struct.Struct("<4sIII")
RECV, SEND = 0xC0502100, 0xC0182101
EXECVE, CHDIR = 59, 80
REMOTE, WARNING, COOKIE = 9, 10, 0x5EED5EED
RUN_ID = secrets.randbelow(1 << 22) + 1  # of this test run alone: others may go on beside it


def header(kind: int, length: int, version: int = 1) -> bytes:
    return HEADER.pack(b"VUOS", version, kind, length)


def send(
    sock: socket.socket, kind: int, payload: bytes = b"", fds: list[int] | None = None, version: int = 1
) -> None:
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([header(kind, len(payload), version), payload], control)


def receive(sock: socket.socket) -> tuple[int, bytes, list[int]]:
    """(0, b"", []) at the end."""
    data, fds, _, _ = socket.recv_fds(sock, 1 << 20, 8)
    if not data:
        return 0, b"", []
    magic, version, kind, length = HEADER.unpack_from(data)
    assert (magic, version, length) == (b"VUOS", 1, len(data) - HEADER.size)
    return kind, data[HEADER.size :], list(fds)


def memfd(content: bytes) -> int:
    fd = os.memfd_create("test")
    os.write(fd, content)
    return fd


def trap(*calls: int) -> bytes:
    """A filter that notifies of these calls, unless the sixth argument is COOKIE."""
    out = [struct.pack("<HBBI", 0x20, 0, 0, 16 + 5 * 8), struct.pack("<HBBI", 0x15, 0, 1, COOKIE)]
    out += [struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000), struct.pack("<HBBI", 0x20, 0, 0, 0)]
    for call in calls:
        out.append(struct.pack("<HBBI", 0x15, 0, 1, call))
        out.append(struct.pack("<HBBI", 0x06, 0, 0, 0x7FC00000))
    out.append(struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000))
    return b"".join(out)


def strings(text: bytes) -> list[bytes]:
    return text.split(b"\0")[:-1]


counter = itertools.count(1)


@dataclass
class Session:
    name: str
    request: list[bytes]
    cwd: str
    events: list[tuple[int, bytes]] = field(default_factory=list)
    tag: int = 0
    child: int = 0
    keeper: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    listening: threading.Event = field(default_factory=threading.Event)
    sock: socket.socket | None = None
    broker: socket.socket | None = None
    report: socket.socket | None = None

    def tell(self, *words: bytes) -> None:
        """A record about a layer, or mounts, as a worker sends it."""
        if self.report is not None:
            self.report.send(b"\0".join([*words, b""]))

    def broker_memory(self, tid: int) -> tuple[int, list[int]]:
        assert self.broker is not None
        send(self.broker, MEM, struct.pack("<I", tid))
        kind, payload, fds = receive(self.broker)
        if not kind:
            raise ConnectionResetError(errno.ECONNRESET, "the keeper has gone")
        assert kind == MEM
        return struct.unpack("<i", payload)[0], fds


class FakeDaemon:
    def __init__(self, runtime: Path) -> None:
        (runtime / "vuosd").mkdir(mode=0o700)
        self.path = runtime / "vuosd" / "control"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(str(self.path))
        self.socket.listen(64)
        self.sessions: list[Session] = []
        self.errors: list[BaseException] = []
        self.threads: list[threading.Thread] = []
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.socket.accept()
                thread = threading.Thread(target=self.guard, args=(sock,), daemon=True)
                self.threads = [t for t in self.threads if t.is_alive()] + [thread]
                thread.start()

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.accepting.join()
        self.socket.close()
        for thread in self.threads:
            thread.join(5)
            assert not thread.is_alive()

    def guard(self, sock: socket.socket) -> None:
        try:
            with sock:
                serve(sock, self.sessions)
        except (ConnectionError, BrokenPipeError):
            pass
        except BaseException as error:
            self.errors.append(error)
            raise


def read_request(fds: list[int]) -> tuple[list[bytes], str]:
    with open(fds[0], "rb", closefd=True) as file:
        file.seek(0)
        request = strings(file.read())
    cwd = os.readlink(f"/proc/self/fd/{fds[1]}")
    os.close(fds[1])
    return request, cwd


def serve(sock: socket.socket, sessions: list[Session]) -> None:
    kind, _, fds = receive(sock)
    if kind == 0:
        return
    assert kind == RUN
    request, cwd = read_request(fds)
    name = request[3].decode()
    session = Session(name, request, cwd, sock=sock, tag=(RUN_ID << 16 | next(counter)) << 24)
    session.report = socket.socket(fileno=fds[2]) if len(fds) == 3 else None
    sessions.append(session)
    try:
        run(sock, session)
        if name in ("layer", "same"):
            session.tell(b"kept" if name == "layer" else b"same", b"-the\nlayer", b"/a store", b"all is kept")
        if name == "mounts":
            session.tell(b"lost", b"", b"", b"a is lost")
            session.tell(b"unmounted", b"", b"", b"")
    finally:
        if session.report is not None:
            session.report.close()
        session.ended.set()


def run(sock: socket.socket, session: Session) -> None:
    name = session.name
    if name == "fail":
        send(sock, FAIL, struct.pack("<I", 9) + "ci.toml:1:1: no — not this\n".encode())
        return
    if name == "hang-up":
        return
    if name == "silent":
        receive(sock)
        return
    if name == "version":
        send(sock, READY, version=2)
        return
    if name == "garbage":
        sock.send(b"hello")
        return
    start = session.request.index(b"argc")
    command = b"".join(s + b"\0" for s in session.request[start:])
    code = b"\x00" * 8 if name == "bad-filter" else trap(EXECVE, CHDIR)
    flags = 2 if name == "keep" else 4 if name == "cwd" else 0
    fds = [memfd(code), memfd(command)]
    if name == "cwd":
        fds.append(os.open("/usr", os.O_PATH))
    send(sock, SETUP, struct.pack("<IIQ", flags, len(code) // 8, session.tag), fds)
    for fd in fds:
        os.close(fd)
    kind, payload, fds = receive(sock)
    if kind == 0:
        return
    assert kind == LISTENER
    session.child, session.keeper = struct.unpack("<II", payload)
    with contextlib.ExitStack() as stack:
        listener = fds[0]
        stack.callback(os.close, listener)
        session.broker = stack.enter_context(socket.socket(fileno=fds[1]))
        if name == "late-fail":
            send(sock, FAIL, struct.pack("<I", 125) + b"too late")
            return
        session.listening.set()
        if name in ("layer", "same", "layer-lost"):
            session.tell(b"open", b"-the\nlayer", b"/a store", b"")
        elif name in ("mounts", "mounts-lost"):
            session.tell(b"mounts", b"", b"", b"")
        elif session.report is not None and name != "silent-report":
            session.report.close()
            session.report = None
        send(sock, READY)
        pump(sock, listener, session)


def pump(sock: socket.socket, listener: int, session: Session) -> None:
    """Lets every call go on, until the launcher has gone."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.register(listener, select.POLLIN)
    while True:
        for fd, event in poll.poll():
            if fd == sock.fileno():
                try:
                    kind, payload, _ = receive(sock)
                except ConnectionError:
                    kind = 0
                if kind == 0 or (session.name == "die" and kind == 0):
                    return
                session.events.append((kind, payload))
            elif event & select.POLLIN:
                answer(listener, session)
            else:
                poll.unregister(listener)


def answer(listener: int, session: Session) -> None:
    notification = bytearray(80)
    with contextlib.suppress(OSError):
        fcntl.ioctl(listener, RECV, notification)
        ident, tid, _, call = struct.unpack_from("<QIIi", notification)
        if call == CHDIR and session.name == "warn":
            send(session.sock, WARNING, b"a sentence")
        if call == CHDIR and session.name.startswith("remote"):
            (address,) = struct.unpack_from("<Q", notification, 32)
            if remote_chdir(session, ident, tid, address):
                return
        fcntl.ioctl(listener, SEND, bytearray(struct.pack("<QqiI", ident, 0, 0, 1)))


def remote_chdir(session: Session, ident: int, tid: int, address: int) -> bool:
    """The thread's own chdir, with its path in a scratch that is small, or does not fit a message."""
    result, fds = session.broker_memory(tid)
    if result in (-errno.ENOENT, -errno.ESRCH):
        return False  # killed in the middle of its call
    assert result == 0
    path = os.pread(fds[0], 256, address).split(b"\0")[0] + b"\0"
    os.close(fds[0])
    scratch = path if session.name == "remote" else path.ljust(30_000, b"\0")
    request = struct.pack(
        "<QiiII6QiIIIQ", ident, tid, 0, CHDIR, 0, 0, 0, 0, 0, 0, COOKIE, -1, 1, len(scratch), 0, 0
    )
    assert session.broker is not None
    if session.name == "remote":
        send(session.broker, REMOTE, request + scratch)
    else:
        fd = memfd(scratch)
        send(session.broker, REMOTE, request, [fd])
        os.close(fd)
    kind, payload, _ = receive(session.broker)
    if not kind:
        raise ConnectionResetError(errno.ECONNRESET, "the keeper has gone")
    assert kind == REMOTE
    result, _, outcome, _ = struct.unpack("<qQII", payload)
    session.events.append((REMOTE, struct.pack("<qI", result, outcome)))
    return bool(outcome)
