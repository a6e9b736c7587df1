"""archive: tar, zip, 7z, rar and what else ratarmountcore reads, compressed or not; read-only.

The archive is gone through once, when it is mounted, for where things are; nothing is unpacked but what is
read. With `nested`, an archive in the archive is a directory, gone through when somebody looks into it."""

import errno
import logging
import os
import stat
from typing import Any

from ratarmountcore.mountsource import FileInfo, MountSource
from ratarmountcore.mountsource.compositing.automount import AutoMountLayer
from ratarmountcore.mountsource.factory import open_mount_source

from vuosd.api import File, Filesystem, MountOptions, Stat

_LINKS = 40  # as many as the kernel follows


class _Member(File):
    """An open file of the archive."""

    keep = True

    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def pread(self, size: int, offset: int) -> bytes:
        self._opened.seek(offset)
        parts = []
        while size and (part := self._opened.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        self._opened.close()


class Archive(Filesystem):
    """The tree in an archive. Everything belongs to the one who mounts, and can be read by that one, unless
    `owners` is given.

    Its methods are answered in turn: the library is not made for threads.
    """

    class Options(MountOptions):
        """nested: archives in the archive are directories. owners: owners and permissions as the archive
        has them. index: a file to keep the list of contents in, for the next time. password: of an
        encrypted archive. threads: for decompressing."""

        nested: bool = False
        owners: bool = False
        index: str = ":memory:"
        password: str | None = None
        threads: int = 1

    timeout = 3600.0

    def start(self) -> None:
        logging.getLogger("ratarmountcore").setLevel(logging.ERROR)
        if not os.path.isfile(self.source):
            number = errno.EISDIR if os.path.isdir(self.source) else errno.ENOENT
            raise OSError(number, os.strerror(number), self.source)
        passwords = [self.options.password.encode()] if self.options.password else []
        try:
            options = {
                "indexFilePath": self.options.index,
                "writeIndex": self.options.index != ":memory:",
                "passwords": passwords,
                "parallelization": self.options.threads,
            }
            found: MountSource = open_mount_source(self._source(), **options)
            if self.options.nested:
                found = AutoMountLayer(
                    found, recursive=True, recursionDepth=None, **{**options, "indexFilePath": ":memory:"}
                )
        except OSError:
            raise
        except Exception as error:
            raise ValueError(f"{self.source} cannot be read as an archive: {error}") from error
        self._tree = found
        self._changed = os.stat(self.source).st_mtime_ns

    def _source(self) -> str:
        """The library looks for further parts beside it, which is none of our business where we may not."""
        try:
            os.listdir(os.path.dirname(os.path.abspath(self.source)))
        except PermissionError:
            return f"/proc/self/fd/{os.open(self.source, os.O_RDONLY | os.O_CLOEXEC)}"
        return self.source

    def stop(self) -> None:
        self._tree.__exit__(None, None, None)

    def _find(self, path: bytes) -> FileInfo:
        """What is at a path; a hard link of a tar archive is what it names."""
        name = os.fsdecode(path)
        for _ in range(_LINKS):
            found = self._tree.lookup(name)
            if found is None:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            if not found.linkname or stat.S_ISLNK(found.mode):
                return found
            name = os.path.normpath("/" + found.linkname)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def lstat(self, path: bytes) -> Stat:
        if path == b"/":  # which most archives say nothing of
            return Stat.directory(mtime_ns=self._changed)
        found = self._find(path)
        mode = found.mode if stat.S_IFMT(found.mode) else found.mode | stat.S_IFREG
        size = len(os.fsencode(found.linkname)) if stat.S_ISLNK(mode) else found.size
        times = int(found.mtime * 10**9)
        if self.options.owners:
            return Stat(mode=mode, size=size, uid=found.uid, gid=found.gid, mtime_ns=times)
        return Stat(mode=mode | (0o500 if stat.S_ISDIR(mode) else 0o400), size=size, mtime_ns=times)

    def listdir(self, path: bytes) -> list[bytes]:
        names = self._tree.list(os.fsdecode(path))
        if names is None:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return [os.fsencode(name) for name in names]

    def readlink(self, path: bytes) -> bytes:
        return os.fsencode(self._find(path).linkname)

    def open(self, path: bytes, flags: int, mode: int) -> _Member:
        return _Member(self._tree.open(self._find(path)))
