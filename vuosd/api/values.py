"""Values: a tree of generated files, as /proc and /sys are. For plugins that show what they know and take
what they are told."""

import errno
import os
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple, NoReturn

from vuosd.api.files import File, MemFile
from vuosd.api.filesystem import Filesystem
from vuosd.api.status import Stat


class Value(NamedTuple):
    """A file: `show` gives what it holds, when it is opened; `take`, if there is one, is called with what
    was written, once it is closed, and may raise ValueError (EINVAL to the writer) or OSError."""

    show: Callable[[], str | bytes]
    take: Callable[[str], None] | None = None


class Directory(NamedTuple):
    """A directory whose entries are made when it is looked at; one that stays as it is can be a dict."""

    entries: Callable[[], "Entries"]


Entries = Mapping[str, "Value | Directory | Entries"]


class Values(Filesystem):
    """A tree of values: override `tree`. Sizes are 0, as in /proc: what a file holds is made when it is
    opened."""

    writable: ClassVar[bool | None] = True
    timeout = 0.0

    def tree(self) -> Entries:
        """Names, and what they stand for: Value, Directory, or a dict of such."""
        return {}

    def _at(self, path: bytes) -> "Value | Directory | Entries":
        node: Value | Directory | Entries = Directory(self.tree)
        for name in filter(None, os.fsdecode(path).split("/")):
            if isinstance(node, Value):
                _refuse(errno.ENOTDIR, path)
            entries = node.entries() if isinstance(node, Directory) else node
            if name not in entries:
                _refuse(errno.ENOENT, path)
            node = entries[name]
        return node

    def lstat(self, path: bytes) -> Stat:
        node = self._at(path)
        if not isinstance(node, Value):
            return Stat.directory()
        return Stat.file(mode=0o444 if node.take is None else 0o644)

    def listdir(self, path: bytes) -> list[bytes]:
        node = self._at(path)
        if isinstance(node, Value):
            _refuse(errno.ENOTDIR, path)
        return [os.fsencode(name) for name in (node.entries() if isinstance(node, Directory) else node)]

    def open(self, path: bytes, flags: int, mode: int) -> File:
        node = self._at(path)
        if not isinstance(node, Value):
            _refuse(errno.EISDIR, path)
        if flags & os.O_ACCMODE == os.O_RDONLY:
            shown = node.show()
            return MemFile(shown.encode() if isinstance(shown, str) else shown, direct=True)
        if node.take is None:
            _refuse(errno.EACCES, path)
        return _Taking(node.take)

    def truncate(self, path: bytes, size: int) -> None:
        """What is written replaces what was there in any case."""


class _Taking(MemFile):
    """Hands over at close(2) what has been written."""

    def __init__(self, take: Callable[[str], None]) -> None:
        super().__init__(bytearray(), direct=True)
        self._take = take
        self._written = False

    def pwrite(self, data: bytes, offset: int) -> int:
        self._written = True
        return super().pwrite(data, offset)

    def flush(self) -> None:
        if self._written:
            self._written = False
            try:
                self._take(bytes(self.data).decode().strip())
            except ValueError:
                _refuse(errno.EINVAL, b"")


def _refuse(number: int, path: bytes) -> NoReturn:
    raise OSError(number, os.strerror(number), path)
