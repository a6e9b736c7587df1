"""Whose picture of the machine a profile is read in: the supervisor's own for a session, and for a nested
view that of the process that asks for it, looked up by the engine as its own calls are.
"""

import errno
import os
import stat
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vuosd.supervisor.session import Session
    from vuosd.supervisor.values import Resolved

_AT_FDCWD = -100
_LARGEST = 16 << 20
"""Bytes of a profile."""


class Eyes(Protocol):
    """What is asked of either. Paths are absolute."""

    def read(self, path: bytes) -> bytes:
        """A file's content, or OSError."""

    def readlink(self, path: bytes) -> bytes | None:
        """The text of a link; b"" for what is none, None for what does not exist."""

    def lexists(self, path: bytes) -> bool: ...
    def realpath(self, path: bytes) -> bytes: ...


class Machine:
    """The supervisor's own."""

    def read(self, path: bytes) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def readlink(self, path: bytes) -> bytes | None:
        try:
            return os.readlink(path)
        except OSError as error:
            return b"" if error.errno == errno.EINVAL else None

    def lexists(self, path: bytes) -> bool:
        return os.path.lexists(path)

    def realpath(self, path: bytes) -> bytes:
        return os.path.realpath(path)


class Caller:
    """By the view, the rights and the working directory of who waits in an asked call. All of it blocks, and
    waits for the servers of file systems.
    """

    def __init__(self, session: "Session", id: int) -> None:
        self._session = session
        self._id = id

    def look(self, path: bytes, *, follow: bool = True) -> "Resolved":
        """OSError. The descriptor is the caller's to close."""
        return self._session.resolve(self._id, _AT_FDCWD, path, follow)

    def cwd(self) -> bytes:
        return self.realpath(b".")

    def read(self, path: bytes) -> bytes:
        found = self.look(path)
        try:
            what = os.stat(found.fd)
            if stat.S_ISDIR(what.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(what.st_mode) or what.st_size > _LARGEST:
                raise OSError(errno.EINVAL, "it is no regular file, or too large")
            with open(f"/proc/self/fd/{found.fd}", "rb") as file:
                return file.read()
        finally:
            os.close(found.fd)

    def readlink(self, path: bytes) -> bytes | None:
        try:
            found = self.look(path, follow=False)
        except OSError:
            return None
        try:
            return os.readlink(b"", dir_fd=found.fd)
        except OSError:
            return b""
        finally:
            os.close(found.fd)

    def lexists(self, path: bytes) -> bool:
        try:
            os.close(self.look(path, follow=False).fd)
        except OSError:
            return False
        return True

    def realpath(self, path: bytes) -> bytes:
        try:
            found = self.look(path)
        except OSError:
            return path
        os.close(found.fd)
        return found.view
