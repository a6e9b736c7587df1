"""What `open` returns: a File, or one of the ready-made ones."""

import errno
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from vuosd.api.status import Stat


class File:
    """An open file description, open(2): what is read and written goes through it, also when its path has
    been removed or renamed.

    Each method may be `def` or `async def`; each may raise OSError. Requests for one file can come at the
    same time when its methods are `async def` or run in threads."""

    direct: bool = False
    """The kernel caches nothing, and reads until `pread` gives b"": for files whose size nobody knows
    before they are read."""

    keep: bool = False
    """What the kernel has cached of the file is still good when it is opened again: for contents that never
    change."""

    buffered: bool = False
    """What is written reaches the path only at `flush`: until then `fstat` is asked in place of `lstat`."""

    path: bytes | None = None
    """Of a `buffered` file: where it is now, set before each `flush` and `fsync`. None: it has no path any
    more, so there is nothing to store."""

    def pread(self, size: int, offset: int) -> Any:
        """At most `size` bytes from `offset`, as bytes; fewer only at the end of the file, b"" behind it."""
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def pwrite(self, data: bytes, offset: int) -> Any:
        """Write at `offset`; returns how many bytes were written. ENOSPC, EFBIG, EDQUOT, EIO."""
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def ftruncate(self, size: int) -> Any:
        """Make the file `size` bytes long; what is new reads as zeros."""
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def fstat(self) -> Any:
        """A Stat, asked when no path leads to the file any more, or if it is `buffered`. Of a removed file
        only the size counts; None: it is what the writes have made it."""
        return None

    def flush(self) -> Any:
        """At every close(2) of a descriptor: the last place where an error still reaches a process."""

    def fsync(self, datasync: bool) -> Any:
        """The data must be where a power cut cannot take it: fsync(2), or fdatasync(2) if `datasync`."""

    def close(self) -> Any:
        """Once, when nobody has the file open any more. Nobody hears of errors."""


class MemFile(File):
    """A file in memory. `data` may be a bytearray, which then is what is written to; bytes can only be
    read."""

    def __init__(self, data: bytes | bytearray = b"", direct: bool = False) -> None:
        self.data = data
        self.direct = direct

    def pread(self, size: int, offset: int) -> bytes:
        return bytes(self.data[offset : offset + size])

    def pwrite(self, data: bytes, offset: int) -> int:
        held = self._writable()
        if offset > len(held):
            held.extend(bytes(offset - len(held)))
        held[offset : offset + len(data)] = data
        return len(data)

    def ftruncate(self, size: int) -> None:
        held = self._writable()
        if size < len(held):
            del held[size:]
        else:
            held.extend(bytes(size - len(held)))

    def _writable(self) -> bytearray:
        if not isinstance(self.data, bytearray):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return self.data


class HostFile(File):
    """A real file, by a descriptor that becomes the HostFile's own."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def open(cls, path: bytes | str, flags: int = os.O_RDONLY, mode: int = 0o666) -> "HostFile":
        """open(2) of a path of this process. O_APPEND and O_DIRECT are left out: offsets come with each
        request, and data from where it happens to lie."""
        return cls(os.open(path, flags & ~(os.O_APPEND | os.O_DIRECT) | os.O_CLOEXEC, mode))

    def pread(self, size: int, offset: int) -> bytes:
        parts = []
        while size and (part := os.pread(self.fd, size, offset)):
            parts.append(part)
            size -= len(part)
            offset += len(part)
        return b"".join(parts)

    def pwrite(self, data: bytes, offset: int) -> int:
        return os.pwrite(self.fd, data, offset)

    def ftruncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)

    def fstat(self) -> Stat:
        return Stat.of(os.fstat(self.fd))

    def flush(self) -> None:
        os.close(os.dup(self.fd))  # what the host's file system has to say of a close is said now

    def fsync(self, datasync: bool) -> None:
        (os.fdatasync if datasync else os.fsync)(self.fd)

    def close(self) -> None:
        os.close(self.fd)


_END = object()


class StreamFile(File):
    """A file filled as it is read: from an iterable of bytes, an async one, or a function that returns one,
    called at the first read. What has come is kept (in memory, from 4 MiB on in a temporary file), so
    offsets may go back.

    Its size need not be known: a Stat with size 0 does, since `direct` is set.
    """

    direct = True
    _IN_MEMORY = 4 << 20

    def __init__(
        self,
        chunks: Iterable[bytes] | AsyncIterable[bytes] | Callable[[], Iterable[bytes] | AsyncIterable[bytes]],
    ) -> None:
        import tempfile  # of those who look for a type, nobody needs it

        self._chunks = chunks
        self._coming: Iterator[bytes] | AsyncIterator[bytes] | None = None
        self._kept = tempfile.SpooledTemporaryFile(self._IN_MEMORY)  # noqa: SIM115 (closed in close)
        self._length = 0
        self._ended = False
        self._filling: Any = None

    async def pread(self, size: int, offset: int) -> bytes:
        import trio

        self._filling = self._filling or trio.Lock()
        async with self._filling:
            while not self._ended and self._length < offset + size:
                await self._fill()
            self._kept.seek(offset)
            return self._kept.read(size)

    async def _fill(self) -> None:
        if self._coming is None:
            chunks = self._chunks() if callable(self._chunks) else self._chunks
            self._coming = aiter(chunks) if isinstance(chunks, AsyncIterable) else iter(chunks)
        if isinstance(self._coming, AsyncIterator):
            chunk: Any = await anext(self._coming, _END)
        else:
            chunk = next(self._coming, _END)
        if chunk is _END:
            self._ended = True
            return
        self._kept.seek(self._length)
        self._length += self._kept.write(chunk)

    def close(self) -> None:
        self._kept.close()
        if isinstance(self._coming, Iterator) and hasattr(self._coming, "close"):
            self._coming.close()
