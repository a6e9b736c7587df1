"""The daemon's place: $XDG_RUNTIME_DIR/vuosd with its socket and its lock.

The lock is a POSIX record lock (fcntl(2)): it goes with its process, however that ends, no child inherits it,
and F_GETLK names its holder, so nothing need be written into the file.
"""

import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Mapping
from pathlib import Path

_FLOCK = struct.Struct("hhqqi4x")
"""struct flock of x86-64: l_type, l_whence, l_start, l_len, l_pid"""


class RuntimeUnavailable(Exception):
    """No runtime directory, or not a usable one; the text tells the person."""


class Running(Exception):
    """Another daemon is there."""

    def __init__(self, pid: int, path: Path) -> None:
        super().__init__(f"vuosd is already running (process {pid}, socket {path}); `vuctl stop` ends it")
        self.pid = pid


def base(env: Mapping[str, str]) -> Path:
    """The user's runtime directory, or RuntimeUnavailable."""
    text = env.get("XDG_RUNTIME_DIR", "")
    if not text:
        raise RuntimeUnavailable(
            "XDG_RUNTIME_DIR is not set, so there is no place for a daemon's socket "
            "(vuos-run needs none: it then starts a private vuosd for each run)"
        )
    if not text.startswith("/"):
        raise RuntimeUnavailable(f"XDG_RUNTIME_DIR is not an absolute path: {text!r}")
    return Path(text)


def control_path(env: Mapping[str, str]) -> Path:
    return base(env) / "vuosd" / "control"


def connect(path: Path) -> socket.socket:
    """A connection to the daemon; OSError (ENOENT, ECONNREFUSED) when none runs. The path may be of any
    length.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)
    except BaseException:
        sock.close()
        raise
    return sock


class Place:
    """The directory, held by this process: made, locked, later left without a trace."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.path = base(env) / "vuosd"
        self.control = self.path / "control"
        self._directory = -1
        self._lock = -1
        self._bound = False
        try:
            self._take()
        except OSError as error:
            self.leave()
            raise RuntimeUnavailable(f"cannot use {self.path}: {error.strerror}") from None
        except BaseException:
            self.leave()
            raise

    def _take(self) -> None:
        for _ in range(100):  # another daemon may be leaving
            self._enter()
            try:
                self._lock = os.open(
                    "lock",
                    os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
                    0o600,
                    dir_fd=self._directory,
                )
            except FileNotFoundError:
                continue
            try:
                fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Running(self._holder(), self.control) from None
            try:
                if os.path.samestat(os.fstat(self._lock), os.stat("lock", dir_fd=self._directory)):
                    return
            except FileNotFoundError:
                pass
            os.close(self._lock)  # of a directory that has gone meanwhile
            self._lock = -1
        raise OSError(errno.EAGAIN, "it comes and goes")

    def _enter(self) -> None:
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            pass
        self._directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        status = os.fstat(self._directory)
        if status.st_uid != os.geteuid():
            raise RuntimeUnavailable(f"cannot use {self.path}: it belongs to user {status.st_uid}")
        if stat.S_IMODE(status.st_mode) != 0o700:
            os.chmod(self.path, 0o700)

    def _holder(self) -> int:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return int(_FLOCK.unpack(fcntl.fcntl(self._lock, fcntl.F_GETLK, asked))[4])

    def listen(self) -> socket.socket:
        """The control socket, in place of what a dead daemon has left: we hold the lock."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            try:
                os.unlink("control", dir_fd=self._directory)
            except FileNotFoundError:
                pass
            mask = os.umask(0o177)
            try:
                sock.bind(f"/proc/self/fd/{self._directory}/control")
            finally:
                os.umask(mask)
            self._bound = True
            sock.listen(512)
        except OSError as error:
            sock.close()
            self.leave()
            raise RuntimeUnavailable(f"cannot make {self.control}: {error.strerror}") from None
        return sock

    def forget(self) -> None:
        """In a child: what is held stays the parent's."""
        for fd in (self._directory, self._lock):
            if fd >= 0:
                os.close(fd)
        self._directory = self._lock = -1
        self._bound = False

    def leave(self) -> None:
        """Remove socket, lock and directory, as far as they are ours."""
        if self._bound:
            self._remove("control")
        if self._lock >= 0:
            self._remove("lock")
            os.close(self._lock)
        if self._directory >= 0:
            os.close(self._directory)
            try:
                self.path.rmdir()
            except OSError:
                pass  # the next daemon's, or an activated socket is in it
        self._directory = self._lock = -1
        self._bound = False

    def _remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._directory)
        except OSError:
            pass


def inherited() -> socket.socket | None:
    """The listening socket that systemd passes, or None: sd_listen_fds(3)."""
    count, pid = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return None
    found = None
    for fd in range(3, 3 + int(count)):
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        listening = sock.family == socket.AF_UNIX and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if found is None and listening and sock.type == socket.SOCK_SEQPACKET:
            found = sock
        else:
            sock.close()
    return found
