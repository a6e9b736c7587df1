"""A session's private directories: its tmpfs entries.

Without a size an entry is a directory of the host's shared memory or temporary directory, closed to others
and removed at the end: that costs some 50 µs. With a size it is a tmpfs of its own, mounted on such a
directory in a mount namespace that nobody lives in: a child makes the namespace, mounts, hands over the root
of each mount and the namespace itself (an open /proc/PID/ns/mnt keeps it alive, namespaces(7)), and ends. The
mounts go with the last descriptor, however the worker ends; the host's mount table never shows them; and a
path of theirs reads as one of the directory beneath, which is how the engine knows it.

All of a session's directories lie in one, named by the session's number, so that whoever cleans up after a
worker that was killed needs to know nothing else.
"""

import errno
import os
import socket
import stat
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_ENOUGH = 1 << 30
"""Shared memory of a container is often 64 MiB: too little for somebody's /tmp."""
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 2, 4, 0x4000, 0x40000
_PR_SET_DUMPABLE = 4
_FDS_A_MESSAGE = 200  # SCM_MAX_FD is 253


class SizeUnavailable(Exception):
    """This machine lets us mount no tmpfs; the text says why."""


class Sized(NamedTuple):
    path: bytes
    size: int
    mode: int


class Scratch:
    """The directories of one session."""

    def __init__(self, session: int) -> None:
        self.session = session
        self.path: bytes | None = None
        self._count = 0
        self._making = threading.Lock()
        self._namespaces: list[int] = []

    def make(self, mode: int) -> bytes:
        """A new directory, empty."""
        with self._making:
            if self.path is None:
                self.path = _make_top(self.session)
            path = self.path + b"/%d" % self._count
            self._count += 1
        os.mkdir(path, 0o700)
        os.chmod(path, mode)  # the umask must not count
        return path

    def mount(self, wanted: Sequence[Sized]) -> list[int]:
        """A tmpfs on each directory, as a descriptor of its root; or SizeUnavailable."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if not pid:
            _mounter(theirs, wanted)
        theirs.close()
        descriptors: list[int] = []
        try:
            while True:
                data, fds, _, _ = socket.recv_fds(ours, 256, _FDS_A_MESSAGE + 1)
                descriptors += fds
                if data != b"more":
                    break
        finally:
            ours.close()
            os.waitpid(pid, 0)
        if data != b"done":
            for fd in descriptors:
                os.close(fd)
            raise SizeUnavailable(data.decode("utf-8", "replace") or "the process that mounts has died")
        for fd in descriptors:
            os.set_inheritable(fd, False)
        self._namespaces.append(descriptors.pop())
        return descriptors

    def remove(self) -> None:
        """What is left of it all. The members must be dead."""
        while self._namespaces:
            os.close(self._namespaces.pop())
        if self.path is not None:
            remove_tree(self.path)
            _leave(os.path.dirname(self.path))
            self.path = None


def clean_up(session: int) -> None:
    """Remove what a session has left whose worker could not."""
    for parent in parents():
        path = parent + b"/%010x" % session
        if os.path.lexists(path):
            remove_tree(path)
            _leave(parent)


def parents() -> Iterator[bytes]:
    """Where the directories of this user's sessions may be, best first."""
    seen = set()
    for place in (
        "/dev/shm",
        os.environ.get("XDG_RUNTIME_DIR"),
        os.environ.get("TMPDIR"),
        "/tmp",
        "/var/tmp",
    ):
        if place and place.startswith("/") and place not in seen:
            seen.add(place)
            yield os.fsencode(place).rstrip(b"/") + b"/vuosd-%d" % os.geteuid()


def parent() -> bytes:
    """The one that a session started now would use."""
    best, most = b"", -1
    for path in parents():
        above = os.path.dirname(path)
        try:
            free = os.statvfs(above)
            if not os.access(above, os.W_OK | os.X_OK) or free.f_flag & os.ST_RDONLY:
                continue
            if os.path.lexists(path) and not _is_ours(path):
                continue
        except OSError:
            continue
        room = free.f_bavail * free.f_frsize
        if room >= _ENOUGH:
            return path
        if room > most:
            best, most = path, room
    if not best:
        raise OSError(errno.ENOSPC, "no directory for temporary files can be written to")
    return best


def _is_ours(path: bytes) -> bool:
    """Anybody may make a directory of this name in /tmp; then another place is taken."""
    status = os.lstat(path)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _make_top(session: int) -> bytes:
    above = parent()
    path = above + b"/%010x" % session
    for _ in range(100):  # the last session of another daemon may be leaving
        try:
            os.mkdir(above, 0o700)
        except FileExistsError:
            if not _is_ours(above):
                raise
            os.chmod(above, 0o700)
        try:
            os.mkdir(path, 0o700)
            return path
        except FileNotFoundError:
            continue
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


def _leave(above: bytes) -> None:
    try:
        os.rmdir(above)
    except OSError:
        pass  # other sessions are in it


def _mounter(sock: socket.socket, wanted: Sequence[Sized]) -> None:
    """The child's life."""
    try:
        enter_namespace()
        descriptors = [_mount_one(one) for one in wanted]
        descriptors.append(os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
        while len(descriptors) > _FDS_A_MESSAGE:
            socket.send_fds(sock, [b"more"], descriptors[:_FDS_A_MESSAGE])
            del descriptors[:_FDS_A_MESSAGE]
        socket.send_fds(sock, [b"done"], descriptors)
        os._exit(0)
    except OSError as error:
        sock.send(f"{error.filename or 'mount'}: {error.strerror}".encode()[:250])
    finally:
        os._exit(1)


def enter_namespace() -> None:
    """A mount namespace of our own: as root as we are, else (Docker's root has no CAP_SYS_ADMIN) in a user
    namespace that maps the one user to itself, so that what the worker makes on the mounts has an owner
    there.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0 or _call("unshare", _CLONE_NEWNS) < 0:
        if _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS) < 0:
            raise OSError(_errno(), os.strerror(_errno()), "unshare")
        _call("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0)  # else /proc/self/uid_map is root's, proc(5)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    if _call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None) < 0:
        raise OSError(_errno(), os.strerror(_errno()), "mount")


def _mount_one(one: Sized) -> int:
    options = b"size=%d,mode=%o" % (one.size, one.mode)
    if _call("mount", b"tmpfs", one.path, b"tmpfs", _MS_NOSUID | _MS_NODEV, options) < 0:
        raise OSError(_errno(), os.strerror(_errno()), "mount")
    return os.open(one.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _call(name: str, *arguments: int | bytes | None) -> int:
    import ctypes

    long = ctypes.c_ulong
    converted = [long(argument) if isinstance(argument, int) else argument for argument in arguments]
    return int(getattr(ctypes.CDLL(None, use_errno=True), name)(*converted))


def _errno() -> int:
    import ctypes

    return ctypes.get_errno()


def remove_tree(path: bytes) -> None:
    """Remove a directory of ours with all that is in it, whatever its modes and however deep.

    A directory found inside is emptied by moving its own directories up, so neither a long path nor many
    descriptors are ever needed.
    """
    try:
        os.chmod(path, 0o700)
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    mark = f".{os.urandom(6).hex()}-"
    moved = 0
    try:
        while names := os.listdir(top):
            for name in names:
                if _unlinked(name, top):
                    continue
                os.chmod(name, 0o700, dir_fd=top)
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
                try:
                    for below in os.listdir(inner):
                        if not _unlinked(below, inner):
                            os.chmod(
                                below, 0o700, dir_fd=inner
                            )  # a directory that moves is written to: its ".."
                            os.rename(below, f"{mark}{moved}", src_dir_fd=inner, dst_dir_fd=top)
                            moved += 1
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path)


def _unlinked(name: str, directory: int) -> bool:
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        return False
    return True
