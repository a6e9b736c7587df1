"""What `vuctl doctor` tries out on this machine. Everything is tried, not looked up, where that leaves no
trace.

A *finding* says what was asked, how it stands ("good", "limited", "missing"), what was found, and why it
matters. Only "missing" keeps views from running.
"""

import ctypes
import errno
import os
import platform
import signal
import struct
from collections.abc import Callable
from typing import NamedTuple

from vuosd.supervisor import runtime, scratch
from vuosd.supervisor.floor import REQUIRED_ABI, kernel_abi

GOOD, LIMITED, MISSING = "good", "limited", "missing"

_SECCOMP, _GET_ACTION_AVAIL, _GET_NOTIF_SIZES = 317, 2, 3
_USER_NOTIF = 0x7FC00000
_PIDFD_GETFD, _KCMP, _CLONE3, _PROCESS_VM_READV = 438, 312, 435, 310
_NEW_LISTENER, _WAIT_KILLABLE_RECV = 1 << 3, 1 << 5
_PTRACE_SEIZE = 0x4206
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER, _CLONE_NEWNS = 0x10000000, 0x20000

_LIBC = ctypes.CDLL(None, use_errno=True)


class Finding(NamedTuple):
    name: str
    state: str
    found: str
    why: str


def findings() -> list[Finding]:
    """All of them, in the order in which they are worth reading."""
    return [check() for check in _CHECKS]


def _syscall(number: int, *arguments: int | bytes | object) -> int:
    """>= 0 or -errno."""
    long = ctypes.c_long
    converted = [long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = _LIBC.syscall(long(number), *converted)
    return int(result) if result >= 0 else -ctypes.get_errno()


def _in_child(attempt: Callable[[], int]) -> int:
    """What an attempt returns that must not happen here: 0, or -errno."""
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(tell, struct.pack("i", attempt()))
        finally:
            os._exit(0)
    os.close(tell)
    data = os.read(told, 4)
    os.close(told)
    os.waitpid(pid, 0)
    return int(struct.unpack("i", data)[0]) if len(data) == 4 else -errno.EIO


def _text(result: int) -> str:
    return os.strerror(-result)


def kernel() -> Finding:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    state = GOOD if numbers >= (6, 1) else MISSING
    if platform.machine() != "x86_64":
        return Finding("kernel", MISSING, f"Linux {release} on {platform.machine()}", "views need x86-64")
    why = (
        "6.1 is the oldest that views run on"
        if state == MISSING or numbers >= (6, 6)
        else ("from 6.6 on each trapped call costs a third")
    )
    return Finding("kernel", state, f"Linux {release}", why)


def notification() -> Finding:
    why = "the kernel asks us about a view's system calls by it"
    sizes = ctypes.create_string_buffer(6)
    if (result := _syscall(_SECCOMP, _GET_NOTIF_SIZES, 0, sizes)) < 0:
        return Finding("seccomp user notification", MISSING, _text(result), why)
    action = struct.pack("I", _USER_NOTIF)
    if (result := _syscall(_SECCOMP, _GET_ACTION_AVAIL, 0, action)) < 0:
        return Finding("seccomp user notification", MISSING, _text(result), why)
    result = _in_child(_listen)
    if result == -errno.EBUSY:
        found = "another program already listens to this process"
        return Finding(
            "seccomp user notification",
            MISSING,
            found,
            "this shell is in a view, or in a container that uses it",
        )
    if result < 0:
        return Finding("seccomp user notification", MISSING, _text(result), why)
    return Finding("seccomp user notification", GOOD, "works, with WAIT_KILLABLE_RECV", why)


def _listen() -> int:
    """A listener on a filter that lets everything pass."""
    program = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(program)
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return min(
        _syscall(
            _SECCOMP, 1, _NEW_LISTENER | _WAIT_KILLABLE_RECV, struct.pack("H6xQ", 1, ctypes.addressof(buffer))
        ),
        0,
    )


def landlock() -> Finding:
    why = f"enforce = true needs ABI {REQUIRED_ABI} (Linux 6.12) and refuses to start without"
    abi = kernel_abi()
    found = f"ABI {abi}" if abi else "not there (not built in, or not in the lsm= list)"
    return Finding("Landlock", GOOD if abi >= REQUIRED_ABI else LIMITED, found, why)


def servers() -> Finding:
    """What keeps those of file systems, outside of the view, from what is none of theirs."""
    why = "a damaged image or another machine may take over the server of a file system: docs/mounting.md"
    name, abi = "bounds of servers", kernel_abi()
    if not abi:
        return Finding(name, LIMITED, "no Landlock: all files of the user's are within their reach", why)
    if abi < REQUIRED_ABI:
        return Finding(name, LIMITED, f"Landlock ABI {abi}: files, but not signals", why)
    return Finding(name, GOOD, "files, sockets, other processes", why)


def ptrace() -> Finding:
    """Whether a process may trace one that does not descend from it."""
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope") as file:
            scope = int(file.read())
    except OSError:
        scope = 0
    result = _in_child(lambda: _with_sibling(_seize))
    read = _in_child(lambda: _with_sibling(_read_memory))
    found = f"Yama ptrace_scope {scope}; tracing {'works' if result >= 0 else _text(result)}, reading memory "
    found += "works" if read >= 0 else _text(read)
    if result >= 0 and read >= 0:
        return Finding(
            "ptrace of others",
            GOOD,
            found,
            "a view's processes are reached directly",
        )
    why = "only ancestors may look into a process, so vuos-run does it for the daemon: slower"
    return Finding("ptrace of others", LIMITED, found, why)


def _with_sibling(attempt: Callable[[int], int]) -> int:
    """Runs in a child: tries it on a process that is no descendant of the one that tries."""
    target = os.fork()
    if not target:
        signal.pause()
        os._exit(0)
    told, tell = os.pipe()
    tracer = os.fork()
    if not tracer:
        os.write(tell, struct.pack("i", attempt(target)))
        os._exit(0)
    result = struct.unpack("i", os.read(told, 4))[0]
    os.waitpid(tracer, 0)
    os.kill(target, signal.SIGKILL)
    os.waitpid(target, 0)
    return int(result)


def _seize(pid: int) -> int:
    return (
        0
        if _LIBC.ptrace(ctypes.c_long(_PTRACE_SEIZE), ctypes.c_long(pid), None, None) == 0
        else -ctypes.get_errno()
    )


def _read_memory(pid: int) -> int:
    byte = ctypes.create_string_buffer(1)
    vector = struct.pack("QQ", ctypes.addressof(byte), 1)
    return min(_syscall(_PROCESS_VM_READV, pid, vector, 1, vector, 1, 0), 0)


def pidfd_getfd() -> Finding:
    why = "reaches a descriptor of a view's process; without it the process makes the call itself: slower"
    result = _in_child(_get_descriptor)
    if result < 0:
        return Finding("pidfd_getfd", LIMITED, _text(result), why)
    return Finding("pidfd_getfd", GOOD, "allowed", why)


def _get_descriptor() -> int:
    return min(_syscall(_PIDFD_GETFD, os.pidfd_open(os.getpid()), 1, 0), 0)


def kcmp() -> Finding:
    why = "tells whether two descriptors are one; without it we remember more ourselves"
    result = _syscall(_KCMP, os.getpid(), os.getpid(), 0, 0, 0)
    return Finding("kcmp", GOOD if result >= 0 else LIMITED, "allowed" if result >= 0 else _text(result), why)


def clone3() -> Finding:
    result = _syscall(_CLONE3, 0, 0)
    found = "not there: a seccomp profile such as Docker's" if result == -errno.ENOSYS else "allowed"
    return Finding(
        "clone3", GOOD, found, "programs fall back to clone; only said because it shows an outer profile"
    )


def user_namespaces() -> Finding:
    why = "a tmpfs with a size is a mount in a namespace of our own; else such a profile is refused"
    result = _in_child(_new_namespace)
    if result >= 0:
        return Finding("private mounts", GOOD, "allowed", why)
    found = _text(result)
    for path in (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "/proc/sys/kernel/unprivileged_userns_clone",
    ):
        try:
            with open(path) as file:
                found += f"; {os.path.basename(path)} is {file.read().strip()}"
        except OSError:
            pass
    return Finding("private mounts", LIMITED, found, why)


def _new_namespace() -> int:
    try:
        scratch.enter_namespace()
    except OSError as error:
        return -(error.errno or errno.EIO)
    return 0


def fuse() -> Finding:
    """In a namespace such as FUSE file systems are mounted in."""
    why = "file systems mounted while a view runs; without them by wire: slower, and not for every server"
    result = _in_child(_mount_fuse)
    if result >= 0:
        return Finding("FUSE mounts", GOOD, "work", why)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return Finding("FUSE mounts", LIMITED, f"/dev/fuse: {_text(_access('/dev/fuse'))}", why)
    return Finding("FUSE mounts", LIMITED, f"no private mounts: {_text(result)}", why)


def _mount_fuse() -> int:
    """There is no server, so nothing may look at it: it goes with the namespace."""
    try:
        scratch.enter_namespace()
        fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return -(error.errno or errno.EIO)
    data = b"fd=%d,rootmode=40000,user_id=%d,group_id=%d" % (fd, os.geteuid(), os.getegid())
    result = _LIBC.mount(b"doctor", b"/tmp", b"fuse", 0, data)
    return -ctypes.get_errno() if result < 0 else 0


def _access(path: str) -> int:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return -(error.errno or errno.EIO)
    return 0


def runtime_directory() -> Finding:
    why = "the daemon's socket; without it each vuos-run starts a private vuosd (some 60 ms)"
    try:
        path = runtime.base(os.environ)
        status = os.stat(path)
        room = os.statvfs(path)
    except runtime.RuntimeUnavailable:
        return Finding("runtime directory", LIMITED, "XDG_RUNTIME_DIR is not set", why)
    except OSError as error:
        return Finding(
            "runtime directory", LIMITED, f"{os.environ['XDG_RUNTIME_DIR']}: {error.strerror}", why
        )
    if status.st_uid != os.geteuid():
        return Finding("runtime directory", LIMITED, f"{path} belongs to user {status.st_uid}", why)
    if not os.access(path, os.W_OK | os.X_OK):
        return Finding("runtime directory", LIMITED, f"{path} cannot be written to", why)
    if not room.f_bavail or (room.f_files and not room.f_favail):
        return Finding("runtime directory", LIMITED, f"{path} is full", why)
    return Finding("runtime directory", GOOD, str(path), why)


def private_directories() -> Finding:
    why = "tmpfs entries without a size are made there"
    try:
        path = os.path.dirname(scratch.parent())
    except OSError as error:
        return Finding("private directories", LIMITED, error.strerror or "", why)
    room = os.statvfs(path)
    found = f"{os.fsdecode(path)}, {room.f_bavail * room.f_frsize >> 20} MiB free"
    return Finding("private directories", GOOD, found, why)


def libseccomp() -> Finding:
    why = "makes the filter"
    try:
        import pyseccomp  # noqa: F401 what we use it by

        library = ctypes.CDLL("libseccomp.so.2")
    except (ImportError, OSError, RuntimeError) as error:
        return Finding("libseccomp", MISSING, f"{error}: install libseccomp2", why)
    library.seccomp_version.restype = ctypes.POINTER(ctypes.c_uint * 3)
    version = ".".join(map(str, library.seccomp_version().contents))
    return Finding("libseccomp", GOOD, version, why)


def engine() -> Finding:
    why = "answers the system calls"
    try:
        import vuosd.supervisor.engine._engine  # noqa: F401
    except ImportError as error:
        return Finding("engine", MISSING, str(error), why)
    return Finding("engine", GOOD, "loads", why)


def daemon() -> Finding:
    from vuosd import __version__
    from vuosd.control.client import ControlError, NoDaemon, ask

    why = "with one running a view starts in milliseconds"
    try:
        reply = ask("ping")
    except NoDaemon:
        return Finding("daemon", GOOD, "not running: each vuos-run starts a private one", why)
    except ControlError as error:
        return Finding("daemon", LIMITED, str(error), why)
    if reply["version"] != __version__:
        found = f"version {reply['version']}, and this is {__version__}"
        return Finding("daemon", LIMITED, found, "`vuctl stop` ends it; the next is of this version")
    return Finding(
        "daemon",
        GOOD,
        f"version {reply['version']}, process {reply['pid']}, sessions: {reply['sessions']}",
        why,
    )


_CHECKS = (
    kernel, notification, engine, libseccomp, landlock, ptrace, pidfd_getfd, kcmp, clone3, user_namespaces,
    private_directories,
    runtime_directory, daemon, fuse, servers,
)  # fmt: skip
