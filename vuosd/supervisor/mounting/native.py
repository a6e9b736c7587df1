"""What the helper asks of the kernel: its namespace, a child that becomes a server and whose mount(2) is
listened to, other processes' memory and descriptors. Errors are OSError.
"""

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

from vuosd.abi.bounds import CONNECT, MOUNT, OPEN, listening
from vuosd.supervisor.mounting import bounds, warm
from vuosd.supervisor.mounting.bounds import Bounds
from vuosd.supervisor.mounting.libc import call

_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAP_SYS_ADMIN = 21
_CAPABILITY_VERSION_3 = 0x20080522
_SECCOMP, _SECCOMP_SET_MODE_FILTER, _NEW_LISTENER, _WAIT_KILLABLE_RECV = 317, 1, 8, 32
_NOTIF_RECV, _NOTIF_SEND, _NOTIF_ADDFD = 0xC0502100, 0xC0182101, 0x40182103
_NOTIF, _RESPONSE, _ADDFD = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI"), struct.Struct("=QIIII")
_CONTINUE, _ADDFD_SEND = 1, 2
_PIDFD_GETFD = 438
_LONGEST_ADDRESS = 128
"""sizeof(struct sockaddr_storage)"""
_PAGE = 4096
_MARK = "VUOSD_MOUNT"
"""In the environment of servers."""


IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)
"""What the helper does not die of: it ends when its worker has, of which the socket tells."""


def become(
    spec: int, mark: str, fds: list[int], channel: socket.socket, within: Bounds | None, *, opens: bool
) -> NoReturn:
    """The child's life. `spec` is not read before: the helper knows neither the environment of a server nor
    its options, so no other one inherits them. `within`: its bounds.
    """
    output = fds[0]
    argv = ["server"]
    try:
        signal.set_wakeup_fd(-1)
        call("prctl", _PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        os.setsid()
        for number in (signal.SIGCHLD, *IGNORED, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        given = json.loads(os.pread(spec, os.fstat(spec).st_size, 0))
        argv, env = given["argv"], {**given["env"], _MARK: mark}
        connects = within is not None and bool(within.agent)
        _listened_to(channel, listening(opens=opens, connects=connects))
        wanted = [0, 1, 2, *given["fds"]]
        null = os.open("/dev/null", os.O_RDONLY)
        above = max(wanted) + 1  # where no number is one that another shall have
        copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in (null, output, output, *fds[1:])]
        for number, fd in zip(wanted, copies, strict=True):
            os.dup2(fd, number)
        os.chdir(given["cwd"])
        if within is not None:
            bounds.enter(within)
        if warm.is_host(argv, env):
            shed_capabilities()
            warm.become_host(argv, env, f"{_MARK}={mark}", wanted)
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        os.write(output, f"{argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _listened_to(channel: socket.socket, instructions: bytes) -> None:
    """From here on mount(2) is the helper's, and what else the instructions say."""
    program = ctypes.create_string_buffer(instructions)
    header = struct.pack("=H6xQ", len(instructions) // 8, ctypes.addressof(program))
    flags = _NEW_LISTENER | _WAIT_KILLABLE_RECV
    listener = call("syscall", _SECCOMP, _SECCOMP_SET_MODE_FILTER, flags, header)
    socket.send_fds(channel, [b"l"], [listener])
    os.close(listener)
    channel.close()


class Call(NamedTuple):
    """A mount(2) of a server that waits for the answer."""

    ident: int
    pid: int
    source: bytes
    target: bytes
    type: bytes
    flags: int
    data: bytes


class Connect(NamedTuple):
    """A connect(2) that does; `address` is b"" where it cannot be read."""

    ident: int
    pid: int
    fd: int
    address: bytes


class Open(NamedTuple):
    """An open(2) that does."""

    ident: int
    path: bytes


def receive(listener: int) -> Call | Open | Connect | None:
    """What is to be answered; None when that has been done, or the caller has been killed meanwhile."""
    buffer = bytearray(_NOTIF.size)
    try:
        fcntl.ioctl(listener, _NOTIF_RECV, buffer)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    ident, pid, _, number, _, _, *words = _NOTIF.unpack(buffer)
    try:
        with open(f"/proc/{pid}/mem", "rb", 0) as memory:
            if number == CONNECT:
                length = min(words[2] & 0xFFFFFFFF, _LONGEST_ADDRESS)
                return Connect(ident, pid, words[0] & 0xFFFFFFFF, os.pread(memory.fileno(), length, words[1]))
            if number != MOUNT:
                return Open(ident, _string(memory.fileno(), words[0 if number == OPEN else 1]))
            source, target, kind, data = (_string(memory.fileno(), words[index]) for index in (0, 1, 2, 4))
    except OSError:  # nothing is there; or it has been killed
        _answer(listener, _NOTIF_SEND, _RESPONSE.pack(ident, 0, -errno.EFAULT, 0))
        return None
    return Call(ident, pid, source, target, kind, words[3], data)


def answer(listener: int, call: Call | Connect, error: int) -> None:
    """0, or -1 with this errno, for the caller."""
    _answer(listener, _NOTIF_SEND, _RESPONSE.pack(call.ident, 0, -error, 0))


def answer_open(listener: int, call: Open, fd: int | None) -> None:
    """A copy of `fd`, or what the kernel gives."""
    if fd is None:
        _answer(listener, _NOTIF_SEND, _RESPONSE.pack(call.ident, 0, 0, _CONTINUE))
    else:
        _answer(listener, _NOTIF_ADDFD, _ADDFD.pack(call.ident, _ADDFD_SEND, fd, 0, 0))


def _answer(listener: int, request: int, packed: bytes) -> None:
    """Without signals: of an ADDFD with SEND that is interrupted the caller gets a reply, and no
    descriptor (seccomp_notify_addfd() in kernel/seccomp.c).
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        fcntl.ioctl(listener, request, packed)
    except FileNotFoundError:
        pass  # the caller has been killed
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _string(memory: int, address: int) -> bytes:
    """A string of another process, at most a page of it as in the kernel; b"" at NULL."""
    found = b""
    while address and len(found) < _PAGE:
        part = os.pread(memory, min(_PAGE - address % _PAGE, _PAGE - len(found)), address)
        text, end, _ = part.partition(b"\0")
        found += text
        if end or not part:
            break
        address += len(part)
    return found


def descriptor(pid: int, number: int) -> int:
    """A copy of another process's descriptor; `pid` may be any thread of it."""
    with open(f"/proc/{pid}/status", "rb") as file:
        leader = next(int(line.split()[1]) for line in file if line.startswith(b"Tgid:"))
    pidfd = os.pidfd_open(leader)
    try:
        return call("syscall", _PIDFD_GETFD, pidfd, number, 0)
    finally:
        os.close(pidfd)


def connect(fd: int, address: bytes, agent: str) -> int:
    """connect(2) of a socket; of one with a path only to the agent. 0 or an errno. It may wait for long."""
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            if sock.family == socket.AF_UNIX:
                if address[2:].partition(b"\0")[0] != os.fsencode(agent):
                    return errno.EACCES
                address = address[:2] + os.fsencode(agent) + b"\0"
        call("connect", fd, address, len(address))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def may_borrow() -> bool:
    """Whether descriptors of servers can be had: a container may refuse that."""
    try:
        os.close(descriptor(os.getpid(), 1))
    except OSError:
        return False
    return True


def serves(pid: int) -> bool:
    """Whether a process has a /dev/fuse open."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for name in names:
        try:
            if os.readlink(f"/proc/{pid}/fd/{name}") == "/dev/fuse":
                return True
        except OSError:
            continue
    return False


def marked(mark: str, among: Iterable[int] | None = None) -> list[int]:
    """The processes of a server: all, or those of some."""
    wanted = f"{_MARK}={mark}".encode()
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()) if among is None else among:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.append(pid)
        except OSError:
            continue
    return found


def children() -> list[int]:
    """Our own, adopted ones too; none where the kernel does not tell (CONFIG_PROC_CHILDREN)."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def send_signal(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def device(path: str) -> str:
    """MAJOR:MINOR of what is mounted at a place, as /proc/PID/maps would have it; no server is asked."""
    wanted, found = _escaped(os.fsencode(path)), ""
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            words = line.split(b" ", 5)
            if words[4] == wanted:
                found = words[2].decode()
    return found


def _escaped(name: bytes) -> bytes:
    """As the kernel writes names into mountinfo."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in name)


def wait(pid: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return 0  # not ours: it had other parents


def fate(status: int) -> str:
    if status < 0:
        return f"was killed by signal {-status} ({signal.strsignal(-status)})"
    return f"ended with status {status}"


def sentence(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or "failed"


def drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def enter_namespace() -> str:
    """Returns "root" or "user": as root a mount namespace of our own; else, and where root may not
    (Docker's), in a user namespace that maps the one user to itself. What we exec there keeps the
    privilege to mount, by the ambient set.
    """
    uid, gid = os.geteuid(), os.getegid()
    kind = "root"
    try:
        if uid:
            raise PermissionError
        call("unshare", _CLONE_NEWNS)
    except PermissionError:
        kind = "user"
        call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS)
        call("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0)  # else /proc/self/uid_map is root's, proc(5)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
            os.write(fd, text.encode())
            os.close(fd)
        header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
        held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: the low 32, then the high
        call("capget", header, held)
        held[2], held[5] = held[1], held[4]
        call("capset", header, held)
        call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_SYS_ADMIN, 0, 0)
    call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    return kind


def shed_capabilities() -> None:
    """As execve(2) does, where we are not root: what is left are the ambient ones."""
    if os.geteuid() == 0:
        return
    with open("/proc/self/status", "rb") as file:
        ambient = next(int(line.split()[1], 16) for line in file if line.startswith(b"CapAmb:"))
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    held = (ctypes.c_uint32 * 6)()
    call("capget", header, held)
    held[0] = held[1] = ambient & 0xFFFFFFFF
    held[3] = held[4] = ambient >> 32
    call("capset", header, held)


def without_namespace() -> None:
    """Where there can be none: what is needed to start servers all the same."""
    call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)  # a filter needs the one or the other
