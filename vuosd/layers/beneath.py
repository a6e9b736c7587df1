"""Reach what lies beneath a directory, by paths of any length, never through a symbolic link."""

import os
from collections import OrderedDict
from types import TracebackType
from typing import Self

_KEPT = 48  # descriptors, each of a directory lately used: more than a caller works with at a time
_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Beneath:
    """A directory tree. Paths are relative to `root`, without "." or ".."; b"" is the root itself.

    What a method returns as a descriptor stays this object's, and is good until some forty other directories
    have been asked for.
    """

    def __init__(self, root: bytes) -> None:
        self.root = root
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        self.forget()
        if self._top >= 0:
            os.close(self._top)
            self._top = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def forget(self) -> None:
        """Names may lead elsewhere now."""
        while self._open:
            os.close(self._open.popitem()[1])

    def directory(self, path: bytes) -> int:
        """An O_PATH descriptor. OSError: ENOTDIR also where a symbolic link is on the way."""
        if not path:
            return self._top
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        above, start = self._top, 0
        parent = path
        while slash := parent.rfind(b"/") + 1:
            parent = parent[: slash - 1]
            if parent in self._open:
                above, start = self._open[parent], slash
                break
        names = path[start:].split(b"/")
        at = path[: start - 1] if start else b""
        for name in names:
            fd = os.open(name, _FLAGS, dir_fd=above)
            at = at + b"/" + name if at else name
            self._keep(at, fd)
            above = fd
        return above

    def _keep(self, path: bytes, fd: int) -> None:
        while len(self._open) >= _KEPT:
            os.close(self._open.popitem(last=False)[1])
        self._open[path] = fd

    def place(self, path: bytes) -> tuple[int, bytes]:
        """The descriptor of the parent, and the name; for the root itself, "." in it."""
        parent, _, name = path.rpartition(b"/")
        return self.directory(parent), name or b"."

    def lstat(self, path: bytes) -> os.stat_result | None:
        """None if nothing is there. OSError."""
        try:
            fd, name = self.place(path)
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open(self, path: bytes, flags: int, mode: int = 0) -> int:
        """A descriptor of the caller's own; the last name is not followed either."""
        fd, name = self.place(path)
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=fd)

    def proc(self, path: bytes) -> bytes:
        """A path for the calls that know no directory descriptor (extended attributes). Not to be followed:
        its last name may be a symbolic link."""
        fd, name = self.place(path)
        return b"/proc/self/fd/%d/%s" % (fd, name)

    def names(self, path: bytes) -> list[bytes]:
        fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.directory(path))
        try:
            return [os.fsencode(name) for name in os.listdir(fd)]
        finally:
            os.close(fd)


def join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name


def parent_of(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def ancestors(path: bytes) -> list[bytes]:
    """The directories that lead to it, topmost first, without the root and without itself."""
    found = []
    at = path.find(b"/")
    while at >= 0:
        found.append(path[:at])
        at = path.find(b"/", at + 1)
    return found
