"""Runs a function under a view with nothing but the engine: no daemon, no launcher.

`run(body, view)` forks a supervisor, which forks the target. The target installs the filter and calls `body`;
what that returns or raises comes back to the test. Both are killed when they take too long.
"""

import ctypes
import errno
import os
import pickle
import resource
import select
import signal
import socket
import struct
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vuosd.supervisor.engine._engine import lib

from vuosd.supervisor.filter import Shape, build
from vuosd.supervisor.session import Session
from vuosd.supervisor.values import Placed

COOKIE = 0x5EED_0000_C0DE_0001
TAG = 77 << 24
NOBODY = 65534

USERS = [None] if os.geteuid() else [None, NOBODY]
"""As whom to run a test: as ourselves, and as an ordinary user."""

_libc = ctypes.CDLL(None, use_errno=True)
_SECCOMP, _PIDFD_GETFD, _PIDFD_OPEN = 317, 438, 434
_NEW_LISTENER, _WAIT_KILLABLE = 8, 32
_LOCKS = 10  # RLIMIT_LOCKS


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


Attend = Callable[[Session], None]


@dataclass
class View:
    """What the target is to see. entries: (kind, target, source or None, readonly)."""

    entries: Sequence[tuple[int, bytes, bytes | None, bool]] = ()
    enforce: bool = False
    user: int | None = None
    """Drop to this user first."""
    borrow: bool = False
    """pidfd_getfd(2) is refused, as by Docker's default profile."""
    asked: int = 0
    """Memory is had by asking the launcher for it, as under Yama, and no more often than this."""
    mounts: bool = False
    """There is a mounter: what is asked is answered by who attends to the session."""
    protected_links: bool = False
    """As where the sysctl fs.protected_symlinks is set."""


def directory() -> Path:
    """A new one that anybody may use; its path is short enough for a socket address."""
    path = Path(tempfile.mkdtemp(prefix="vu", dir="/tmp")).resolve()
    path.chmod(0o777)
    return path


def bind(target: object, source: object, readonly: bool = False) -> tuple[int, bytes, bytes | None, bool]:
    return lib.VU_BIND, os.fsencode(str(target)), os.fsencode(str(source)), readonly


def hide(target: object) -> tuple[int, bytes, bytes | None, bool]:
    return lib.VU_HIDE, os.fsencode(str(target)), None, False


def syscall(nr: int, *args: object) -> int:
    """A raw system call; raises OSError."""
    result = _libc.syscall(nr, *(ctypes.c_long(a) if isinstance(a, int) else a for a in args))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(result)


def errno_of(call: Callable[..., object], *args: object) -> int:
    """The errno with which the call fails."""
    try:
        call(*args)
    except OSError as error:
        return error.errno or 0
    raise AssertionError("it did not fail")


def _install(program: bytes, flags: int) -> int:
    _libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    return syscall(_SECCOMP, 1, flags, ctypes.byref(_Program(len(program) // 8, program)))


def _refuse(nr: int) -> bytes:
    lines = [(0x20, 0, 0, 0), (0x15, 0, 1, nr), (6, 0, 0, 0x00050001), (6, 0, 0, 0x7FFF0000)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _keeper(channel: socket.socket, most: int) -> None:
    """What the launcher's keeper does with the one message that there is here (launcher/keeper.c)."""
    message = struct.Struct("=4sIIIi")
    for _ in range(most):
        data = channel.recv(64)
        if not data:
            return
        magic, version, kind, length, tid = message.unpack(data)
        assert (magic, kind, length) == (b"VUOS", 8, 4)
        try:
            memory = os.open(f"/proc/{tid}/mem", os.O_RDWR)
        except OSError as error:
            channel.send(message.pack(magic, version, kind, length, -(error.errno or errno.EIO)))
            continue
        socket.send_fds(channel, [message.pack(magic, version, kind, length, 0)], [memory])
        os.close(memory)
    channel.close()


def _target(body: Callable[[], Any], program: bytes, number: int, result: int) -> None:
    try:
        resource.setrlimit(_LOCKS, (TAG, resource.RLIM_INFINITY))
        os.write(number, b"%d\n" % _install(program, _NEW_LISTENER | _WAIT_KILLABLE))
        os.access("/", os.F_OK)  # is trapped, and so returns when there is somebody who answers
        answer = (True, body())
    except BaseException:
        answer = (False, traceback.format_exc())
    os.write(result, pickle.dumps(answer))
    os._exit(0)


def _within(fd: int, seconds: float) -> bool:
    """Waits for it with poll: a supervisor may have too many descriptors for select."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _attend(attend: Attend, session: Session, failed: list[bool]) -> None:
    try:
        attend(session)
    except BaseException:
        traceback.print_exc()
        failed.append(True)


def _start(body: Callable[[], Any], program: bytes, result: int) -> tuple[int, int]:
    """A target: its process, and its listener; -1: it could not even begin, and has said why."""
    there, number = os.pipe()
    child = os.fork()
    if child == 0:
        _target(body, program, number, result)
    os.close(number)
    text = os.read(there, 32)
    os.close(there)
    if not text:
        os.waitpid(child, 0)
        return child, -1
    return child, syscall(_PIDFD_GETFD, syscall(_PIDFD_OPEN, child, 0), int(text), 0)


def _threads(name: str) -> int:
    """How many of our own have this name."""
    found = 0
    for path in Path("/proc/self/task").glob("*/comm"):
        try:
            found += path.read_text() == f"{name}\n"
        except OSError:
            continue  # it has ended
    return found


def _listeners() -> int:
    """How many descriptors of seccomp listeners we have."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            found += "seccomp notify" in os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue  # closed meanwhile, by a thread of the engine's
    return found


def _supervise(
    body: Callable[[], Any],
    program: bytes,
    view: View,
    result: int,
    seconds: float,
    attend: Attend | None,
    others: Sequence[Callable[[], Any]],
) -> bool:
    if view.user is not None:
        os.setgroups([])
        os.setresgid(view.user, view.user, view.user)
        os.setresuid(view.user, view.user, view.user)
        _libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, which the change of user has taken
    privileged = os.geteuid() == 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    told, tell = os.pipe()
    guests = [_start(other, program, tell) for other in others]
    os.close(tell)
    child, listener = _start(body, program, result)
    if listener < 0:
        return True
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if view.asked:
        threading.Thread(target=_keeper, args=(ours, view.asked), daemon=True).start()
    session = Session(
        tag=TAG,
        cookie=COOKIE,
        broker=theirs.fileno() if view.asked else -1,
        enforce=view.enforce,
        privileged=privileged,
        broker_memory=bool(view.asked),
        protected_links=view.protected_links,
        mounts=view.mounts,
    )
    for kind, target, source, readonly in view.entries:
        fd = -1 if source is None else os.open(source, os.O_PATH | os.O_CLOEXEC)
        session.add(Placed(kind, readonly, target, fd, source or b""))
    if view.borrow:
        _install(_refuse(_PIDFD_GETFD), 0)
    session.start(listener)
    numbers = [session.listen(fd) for _, fd in guests]
    failed: list[bool] = []
    helper = threading.Thread(target=_attend, args=(attend, session, failed)) if attend else None
    if helper:
        helper.start()
    for (guest, fd), number in zip(guests, numbers, strict=True):
        assert _within(os.pidfd_open(guest), seconds), "another target hangs"
        os.waitpid(guest, 0)
        session.unlisten(number)
        os.close(fd)
    assert _threads("vu-guard") <= 1, "one for each listener that there still is"
    assert _listeners() == 2, "ours, and the engine's of the first"
    with os.fdopen(told, "rb") as file:
        for _ in guests:
            good, value = pickle.load(file)  # noqa: S301  # our own child wrote it
            assert good, value
    pidfd = os.pidfd_open(child)
    ended = _within(pidfd, seconds)
    if not ended:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if helper:
        helper.join(5)
        assert not helper.is_alive(), "who attends to the session hangs"
        assert not failed, "who attends to the session has failed"
    while _within(session.log.fileno(), 0):
        os.write(2, session.log.recv(4096))
    session.stop()
    return ended


def run(
    body: Callable[[], Any],
    view: View,
    *,
    seconds: float = 20,
    attend: Attend | None = None,
    others: Sequence[Callable[[], Any]] = (),
) -> Any:
    """What `body` returns under the view. `attend`: called in the supervisor with the running session, and to
    be over when the target is. `others`: run by targets that have entered the session, with listeners of
    their own.
    """
    program = build(cookie=COOKIE, shape=Shape(not os.geteuid() and not view.user, mounts=view.mounts))
    there, result = os.pipe()
    supervisor = os.fork()
    if supervisor == 0:
        status = 3
        try:
            os.setsid()
            os.close(there)
            status = 0 if _supervise(body, program, view, result, seconds, attend, others) else 4
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(result)
    pidfd = os.pidfd_open(supervisor)
    data = b""
    try:
        while _within(there, seconds + 5) and (part := os.read(there, 65536)):
            data += part
        ended = _within(pidfd, 5)
    finally:
        try:
            os.killpg(supervisor, signal.SIGKILL)
        except ProcessLookupError:
            pass
        status = os.waitstatus_to_exitcode(os.waitpid(supervisor, 0)[1])
        os.close(there)
        os.close(pidfd)
    good, value = pickle.loads(data) if data else (True, None)  # noqa: S301  # our own child wrote it
    assert good, value
    assert ended, "the supervisor hangs"
    assert status == 0, {4: "the target hangs"}.get(status, f"the supervisor ended with {status}")
    assert data, "the target died"
    return value
