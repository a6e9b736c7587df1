"""fsspec: whatever https://filesystem-spec.readthedocs.io opens, by its address: memory://, file://,
zip://, http://, sftp://, s3://…

A file is read in blocks as it is read. With `rw`, one that is written to is kept in a temporary file and
stored when it is closed."""

import errno
import os
import shutil
import stat
import tempfile
from datetime import datetime
from typing import IO, Any

import fsspec
import msgspec

from vuosd.api import File, Filesystem, MountOptions, OptionError, Stat

_NOREPLACE = 1  # renameat2(2)
_TIMES = ("mtime", "modified", "LastModified", "last_modified", "created")


class _Reading(File):
    def __init__(self, opened: Any) -> None:
        self._opened = opened

    def pread(self, size: int, offset: int) -> bytes:
        self._opened.seek(offset)
        return bytes(self._opened.read(size))

    def close(self) -> None:
        self._opened.close()


class _Writing(File):
    """A copy that is stored as a whole when it is closed: stores can do no more."""

    buffered = True

    def __init__(self, store: "Store", name: str, empty: bool) -> None:
        self._store = store
        self._copy = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        self._dirty = empty
        if not empty:
            with store.remote.open(name, "rb") as source:
                shutil.copyfileobj(source, self._copy)

    def pread(self, size: int, offset: int) -> bytes:
        return os.pread(self._copy.fileno(), size, offset)

    def pwrite(self, data: bytes, offset: int) -> int:
        self._copy.flush()
        self._dirty = True
        return os.pwrite(self._copy.fileno(), data, offset)

    def ftruncate(self, size: int) -> None:
        self._copy.flush()
        self._dirty = True
        os.ftruncate(self._copy.fileno(), size)

    def fstat(self) -> Stat:
        self._copy.flush()
        found = os.fstat(self._copy.fileno())
        return Stat.file(found.st_size, self._store.file_mode, found.st_mtime_ns)

    def flush(self) -> None:
        if self._dirty and self.path is not None:
            self._store.store(self._copy, self.path)
            self._dirty = False

    def fsync(self, datasync: bool) -> None:
        self.flush()

    def close(self) -> None:
        self._copy.close()


class Store(Filesystem):
    """A store by its address, `source`."""

    class Options(MountOptions):
        """rw: things can be changed. set: an argument of the store's class in fsspec, as in set=anon=true,
        any number. timeout: seconds for which what has been seen is believed."""

        ro: bool = True
        set: list[str] = msgspec.field(default_factory=list)
        timeout: float = 10.0

    threads = 8
    writable = True

    def start(self) -> None:
        if not self.source:
            raise ValueError("name an address, such as memory://x or https://host/directory/")
        given = {}
        for word in self.options.set:
            name, equals, value = word.partition("=")
            if not equals:
                raise OptionError(f"set={word}: write set=NAME=VALUE")
            given[name] = {"true": True, "false": False}.get(value, value)
        self.timeout = self.options.timeout
        self.file_mode = 0o444 if self.options.ro else 0o644
        try:
            self.remote, self._top = fsspec.core.url_to_fs(self.source, **given)
            self._top = self._top.rstrip("/")
            self._web = "http" in self.remote.protocol
            if self._web:
                self._knock()
            elif self.remote.exists(self._top) and not self.remote.isdir(self._top):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.source)
        except (OSError, ValueError):
            raise
        except ImportError as error:
            raise ValueError(f"{self.source}: {error}") from error
        except Exception as error:
            raise ValueError(f"{self.source} cannot be opened: {error!r}") from error

    def _knock(self) -> None:
        """Is anybody there, and lets us in? OSError, ValueError."""
        try:
            self.remote.info(self._top + "/")
        except FileNotFoundError as error:  # whatever it is, fsspec says this
            told = error.__cause__
            if isinstance(told, OSError):
                raise told from None
            raise ValueError(f"{self.source} cannot be opened: {told or error}") from None

    def _name(self, path: bytes) -> str:
        return self._top + os.fsdecode(path) if path != b"/" else self._top or "/"

    def _told(self, found: dict[str, Any]) -> Stat:
        changed = next((_nanoseconds(found[key]) for key in _TIMES if found.get(key) is not None), None)
        if found["type"] == "directory":
            return Stat.directory(0o555 if self.options.ro else 0o755, changed)
        return Stat.file(int(found.get("size") or 0), self.file_mode, changed)

    def _entries(self, path: bytes) -> dict[bytes, dict[str, Any]]:
        name = self._name(path) + ("/" if self._web else "")
        entries: dict[bytes, dict[str, Any]] = {}
        for found in self.remote.ls(name, detail=True):
            last = found["name"].rstrip("/").rpartition("/")[2].partition("?")[0]
            if last and found["name"].rstrip("/") != self._name(path).rstrip("/"):
                entries[os.fsencode(last)] = found
        return entries

    def lstat(self, path: bytes) -> Stat:
        if path == b"/":
            return Stat.directory(0o555 if self.options.ro else 0o755)
        if self._web:
            return self._told_by_listing(path)
        return self._told(self.remote.info(self._name(path)))

    def _told_by_listing(self, path: bytes) -> Stat:
        """The web has no directories, only pages with links; which it is, the page above tells."""
        above, _, last = path.rpartition(b"/")
        found = self._entries(above or b"/").get(last)
        if found is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if found["type"] != "directory":
            found = self.remote.info(self._name(path))
        return self._told(found)

    def listdir(self, path: bytes) -> list[tuple[bytes, Stat | None]]:
        entries = self._entries(path)
        return [(name, None if self._web else self._told(found)) for name, found in entries.items()]

    def open(self, path: bytes, flags: int, mode: int) -> File:
        name = self._name(path)
        if flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_CREAT:
            return _Reading(self.remote.open(name, "rb"))
        there = self.remote.exists(name)
        if there and flags & os.O_CREAT and flags & os.O_EXCL:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        if not there and not flags & os.O_CREAT:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        opened = _Writing(self, name, empty=not there or bool(flags & os.O_TRUNC))
        if not there:
            self.remote.pipe_file(name, b"")
        return opened

    def store(self, copy: IO[bytes], path: bytes) -> None:
        """The whole of a copy becomes what is at a path."""
        copy.seek(0)
        with self.remote.open(self._name(path), "wb") as target:
            shutil.copyfileobj(copy, target)

    def mkdir(self, path: bytes, mode: int) -> None:
        self.remote.mkdir(self._name(path), create_parents=False)

    def rmdir(self, path: bytes) -> None:
        if self._entries(path):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        self.remote.rmdir(self._name(path))

    def unlink(self, path: bytes) -> None:
        self.remote.rm_file(self._name(path))

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        if flags & ~_NOREPLACE:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), old)
        if flags and self.remote.exists(self._name(new)):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), new)
        if stat.S_ISDIR(self.lstat(old).mode):
            raise OSError(
                errno.EXDEV, os.strerror(errno.EXDEV), old
            )  # mv(1) copies then; stores have no directories to move
        self.remote.mv(self._name(old), self._name(new))


def _nanoseconds(told: Any) -> int | None:
    if isinstance(told, datetime):
        return int(told.timestamp() * 10**9)
    if isinstance(told, str):
        try:
            return int(datetime.fromisoformat(told).timestamp() * 10**9)
        except ValueError:
            return None
    return int(told * 10**9)
