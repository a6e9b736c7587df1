"""real: a directory of the host, request by request, as VUOS's vufusereal. A view entry of type bind shows
the same without a server; this is for tests, and to derive file systems from that change something on the
way."""

import ctypes
import errno
import os
import stat
from collections.abc import Iterator

from vuosd.api import Filesystem, HostFile, MountOptions, Stat, StatFs, caller

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100


class Real(Filesystem):
    """What is in the directory `source`. Methods that wait for a disk run in threads."""

    class Options(MountOptions):
        """timeout: seconds for which what has been seen is believed; 0 if the directory is changed by
        others, too."""

        timeout: float = 1.0

    threads = 8

    def start(self) -> None:
        if not os.path.isdir(self.source):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.source)
        self.timeout = self.options.timeout
        self._root = os.fsencode(os.path.realpath(self.source))
        os.umask(0)  # modes come with the caller's taken off

    def real(self, path: bytes) -> bytes:
        """Where it is on the host."""
        return self._root + path if path != b"/" else self._root

    def lstat(self, path: bytes) -> Stat:
        return Stat.of(os.lstat(self.real(path)))

    def listdir(self, path: bytes) -> Iterator[bytes]:
        with os.scandir(self.real(path)) as entries:
            for entry in entries:
                yield entry.name

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(self.real(path))

    def open(self, path: bytes, flags: int, mode: int) -> HostFile:
        flags |= os.O_NOFOLLOW
        if flags & os.O_CREAT:
            try:
                opened = HostFile.open(self.real(path), flags | os.O_EXCL, mode)
            except FileExistsError:
                if flags & os.O_EXCL:
                    raise
                flags &= ~os.O_CREAT
            else:
                self._give_to_caller(path)
                return opened
        return HostFile.open(self.real(path), flags)

    def truncate(self, path: bytes, size: int) -> None:
        os.truncate(self.real(path), size)

    def mkdir(self, path: bytes, mode: int) -> None:
        os.mkdir(self.real(path), mode)
        self._give_to_caller(path)

    def mknod(self, path: bytes, mode: int, device: int) -> None:
        os.mknod(self.real(path), mode, device)
        self._give_to_caller(path)

    def symlink(self, target: bytes, path: bytes) -> None:
        os.symlink(target, self.real(path))
        self._give_to_caller(path)

    def _give_to_caller(self, path: bytes) -> None:
        if os.geteuid() == 0:
            place = self.real(path)
            above = os.lstat(os.path.dirname(place))
            group = -1 if above.st_mode & stat.S_ISGID else caller().gid
            os.lchown(place, caller().uid, group)

    def link(self, old: bytes, new: bytes) -> None:
        os.link(self.real(old), self.real(new), follow_symlinks=False)

    def unlink(self, path: bytes) -> None:
        os.unlink(self.real(path))

    def rmdir(self, path: bytes) -> None:
        os.rmdir(self.real(path))

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        if not flags:
            os.rename(self.real(old), self.real(new))
        elif _libc.renameat2(_AT_FDCWD, self.real(old), _AT_FDCWD, self.real(new), flags) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), old)

    def chmod(self, path: bytes, mode: int) -> None:
        os.chmod(self.real(path), mode)

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        os.lchown(self.real(path), uid, gid)

    def utimens(self, path: bytes, atime_ns: int | None, mtime_ns: int | None) -> None:
        now = os.lstat(self.real(path))
        times = (
            now.st_atime_ns if atime_ns is None else atime_ns,
            now.st_mtime_ns if mtime_ns is None else mtime_ns,
        )
        os.utime(self.real(path), ns=times, follow_symlinks=False)

    def statfs(self, path: bytes) -> StatFs:
        return StatFs.of(os.statvfs(self.real(path)))

    def getxattr(self, path: bytes, name: bytes) -> bytes:
        return os.getxattr(self.real(path), name, follow_symlinks=False)

    def listxattr(self, path: bytes) -> list[bytes]:
        return [os.fsencode(name) for name in os.listxattr(self.real(path), follow_symlinks=False)]

    def setxattr(self, path: bytes, name: bytes, value: bytes) -> None:
        os.setxattr(self.real(path), name, value, follow_symlinks=False)

    def removexattr(self, path: bytes, name: bytes) -> None:
        os.removexattr(self.real(path), name, follow_symlinks=False)
