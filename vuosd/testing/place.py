"""A mounted file system as a program uses it: one method a system call, paths from its root."""

import ctypes
import errno
import os
from abc import ABC, abstractmethod
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)


class Status(NamedTuple):
    """What stat(2) tells and tests look at."""

    mode: int
    size: int
    nlink: int
    uid: int
    gid: int
    mtime_ns: int
    atime_ns: int
    ino: int
    blocks: int


def status_of(found: os.stat_result) -> Status:
    return Status(
        found.st_mode,
        found.st_size,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_mtime_ns,
        found.st_atime_ns,
        found.st_ino,
        found.st_blocks,
    )


class OpenFile(ABC):
    """What open(2) gives. Errors are OSError, as everywhere here."""

    @abstractmethod
    def pread(self, size: int, offset: int) -> bytes: ...

    @abstractmethod
    def pwrite(self, data: bytes, offset: int) -> int: ...

    @abstractmethod
    def ftruncate(self, size: int) -> None: ...

    @abstractmethod
    def fstat(self) -> Status: ...

    @abstractmethod
    def fsync(self) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """With the errors that flush has to tell."""

    def __enter__(self) -> "OpenFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Place(ABC):
    """The calls. Symbolic links at the end of a path are not followed."""

    @abstractmethod
    def lstat(self, path: str) -> Status: ...

    @abstractmethod
    def listdir(self, path: str) -> list[tuple[str, int, int]]:
        """Names, "." and ".." among them, with inode number and type (S_IFMT, 0: unknown) as the listing
        has them."""

    @abstractmethod
    def readlink(self, path: str) -> str: ...

    @abstractmethod
    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o644) -> OpenFile: ...

    @abstractmethod
    def truncate(self, path: str, size: int) -> None: ...

    @abstractmethod
    def mkdir(self, path: str, mode: int = 0o755) -> None: ...

    @abstractmethod
    def rmdir(self, path: str) -> None: ...

    @abstractmethod
    def unlink(self, path: str) -> None: ...

    @abstractmethod
    def rename(self, old: str, new: str, flags: int = 0) -> None: ...

    @abstractmethod
    def symlink(self, target: str, path: str) -> None: ...

    @abstractmethod
    def link(self, old: str, new: str) -> None: ...

    @abstractmethod
    def mknod(self, path: str, mode: int, device: int = 0) -> None: ...

    @abstractmethod
    def chmod(self, path: str, mode: int) -> None: ...

    @abstractmethod
    def chown(self, path: str, uid: int, gid: int) -> None: ...

    @abstractmethod
    def utimens(self, path: str, atime_ns: int, mtime_ns: int) -> None: ...

    @abstractmethod
    def statfs(self) -> tuple[int, int, int]:
        """Size of a block, blocks, free blocks."""

    @abstractmethod
    def getxattr(self, path: str, name: str) -> bytes: ...

    @abstractmethod
    def listxattr(self, path: str) -> list[str]: ...

    @abstractmethod
    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None: ...

    @abstractmethod
    def removexattr(self, path: str, name: str) -> None: ...

    def read(self, path: str, most: int = 1 << 30) -> bytes:
        """The whole file; EFBIG if it does not end within `most` bytes."""
        with self.open(path) as file:
            found = bytearray()
            while part := file.pread(1 << 16, len(found)):
                found += part
                if len(found) > most:
                    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
            return bytes(found)

    def write(self, path: str, data: bytes, flags: int = os.O_CREAT | os.O_TRUNC) -> None:
        """Make the file hold this."""
        with self.open(path, os.O_WRONLY | flags) as file:
            done = 0
            while done < len(data):
                done += file.pwrite(data[done:], done)

    def names(self, path: str) -> list[str]:
        """What is in a directory, sorted, without "." and ".."."""
        return sorted(name for name, _, _ in self.listdir(path) if name not in (".", ".."))


class _Descriptor(OpenFile):
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def pread(self, size: int, offset: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def pwrite(self, data: bytes, offset: int) -> int:
        return os.pwrite(self._fd, data, offset)

    def ftruncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def fstat(self) -> Status:
        return status_of(os.fstat(self._fd))

    def fsync(self) -> None:
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class KernelPlace(Place):
    """The kernel's own calls below a directory descriptor. `path` leads to the mount for other programs
    that have the descriptor."""

    def __init__(self, root: int) -> None:
        self.path = f"/proc/self/fd/{root}"

    def _at(self, path: str) -> str:
        return f"{self.path}/{path.strip('/')}" if path.strip("/") else f"{self.path}/."

    def lstat(self, path: str) -> Status:
        return status_of(os.lstat(self._at(path)))

    def listdir(self, path: str) -> list[tuple[str, int, int]]:
        place = self._at(path)
        found = [(".", os.lstat(place).st_ino, 0), ("..", 0, 0)]
        with os.scandir(place) as entries:  # leaves the dots out
            for entry in entries:
                found.append((entry.name, entry.inode(), _type(entry)))
        return found

    def readlink(self, path: str) -> str:
        return os.readlink(self._at(path))

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o644) -> OpenFile:
        return _Descriptor(os.open(self._at(path), flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode))

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self._at(path), size)

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        os.mkdir(self._at(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        if _libc.renameat2(-100, os.fsencode(self._at(old)), -100, os.fsencode(self._at(new)), flags) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), old, None, new)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, self._at(path))

    def link(self, old: str, new: str) -> None:
        os.link(self._at(old), self._at(new), follow_symlinks=False)

    def mknod(self, path: str, mode: int, device: int = 0) -> None:
        os.mknod(self._at(path), mode, device)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.lchown(self._at(path), uid, gid)

    def utimens(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        os.utime(self._at(path), ns=(atime_ns, mtime_ns), follow_symlinks=False)

    def statfs(self) -> tuple[int, int, int]:
        found = os.statvfs(self._at("/"))
        return found.f_frsize, found.f_blocks, found.f_bfree

    def getxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(self._at(path), name, follow_symlinks=False)

    def listxattr(self, path: str) -> list[str]:
        return os.listxattr(self._at(path), follow_symlinks=False)

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        os.setxattr(self._at(path), name, value, flags, follow_symlinks=False)

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(self._at(path), name, follow_symlinks=False)


def _type(entry: "os.DirEntry[str]") -> int:
    """What d_type said; scandir asks lstat when it said nothing."""
    import stat

    if entry.is_symlink():
        return stat.S_IFLNK
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFREG if entry.is_file(follow_symlinks=False) else 0
