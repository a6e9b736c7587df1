"""memory: a tree in memory that can be changed in every way. It is gone when it is unmounted."""

import errno
import os
import stat
import time
from collections.abc import Iterator
from typing import NoReturn

import msgspec

from vuosd.api import Filesystem, MemFile, MountOptions, Stat, StatFs, caller

_NOREPLACE, _EXCHANGE = 1, 2  # renameat2(2)


def refuse(number: int, path: bytes) -> NoReturn:
    raise OSError(number, os.strerror(number), path)


class Object:
    """An inode: `data` is a file's contents, or where a link leads."""

    def __init__(self, status: Stat, data: bytearray | bytes = b"") -> None:
        self.status = status
        self.data = data
        self.names: dict[bytes, Object] = {}
        self.attributes: dict[bytes, bytes] = {}

    def change(self, **fields: int) -> None:
        self.status = msgspec.structs.replace(self.status, **{"ctime_ns": time.time_ns(), **fields})


class _Opened(MemFile):
    """Writing changes the times of the object, and never its size beyond the limit."""

    def __init__(self, tree: "Memory", inode: Object, append: bool) -> None:
        assert isinstance(inode.data, bytearray)
        super().__init__(inode.data)
        self._tree, self._inode, self._append = tree, inode, append

    def pwrite(self, data: bytes, offset: int) -> int:
        if self._append:
            offset = len(self.data)
        self._tree.reserve(offset + len(data) - len(self.data))
        written = super().pwrite(data, offset)
        self._changed()
        return written

    def ftruncate(self, size: int) -> None:
        self._tree.reserve(size - len(self.data))
        super().ftruncate(size)
        self._changed()

    def _changed(self) -> None:
        now = time.time_ns()
        self._inode.change(mtime_ns=now, ctime_ns=now, size=len(self.data))

    def fstat(self) -> Stat:
        return self._inode.status


class Memory(Filesystem):
    """Files, directories, links, hard links, attributes, in memory."""

    class Options(MountOptions):
        """size: the most bytes that files may hold together; 0: no limit."""

        size: int = 64 << 20
        mode: int = 0o755

    def start(self) -> None:
        self._numbers = iter(range(2, 1 << 52))
        self._used = 0
        self.root = self._new(stat.S_IFDIR | self.options.mode, os.geteuid(), os.getegid())

    def reserve(self, more: int) -> None:
        """ENOSPC if files would get too large."""
        if more > 0 and self.options.size and self._used + more > self.options.size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._used += more

    def _new(self, mode: int, uid: int, gid: int, data: bytes = b"", rdev: int = 0) -> Object:
        now = time.time_ns()
        status = Stat(
            mode=mode,
            size=len(data),
            nlink=2 if stat.S_ISDIR(mode) else 1,
            uid=uid,
            gid=gid,
            atime_ns=now,
            mtime_ns=now,
            ctime_ns=now,
            rdev=rdev,
            ino=next(self._numbers),
        )
        return Object(status, bytearray(data) if stat.S_ISREG(mode) else data)

    def _find(self, path: bytes) -> Object:
        inode = self.root
        for part in path.split(b"/"):
            if part:
                if not stat.S_ISDIR(inode.status.mode):
                    refuse(errno.ENOTDIR, path)
                if part not in inode.names:
                    refuse(errno.ENOENT, path)
                inode = inode.names[part]
        return inode

    def _parent(self, path: bytes) -> tuple[Object, bytes]:
        above, _, name = path.rpartition(b"/")
        return self._find(above), name

    def _add(self, path: bytes, mode: int, data: bytes = b"", rdev: int = 0) -> Object:
        parent, name = self._parent(path)
        if name in parent.names:
            refuse(errno.EEXIST, path)
        asker = caller()
        gid = asker.gid
        if parent.status.mode & stat.S_ISGID:  # inode(7): the group of a set-group-ID directory is inherited
            gid = parent.status.gid or 0
            mode |= stat.S_ISGID if stat.S_ISDIR(mode) else 0
        inode = parent.names[name] = self._new(mode, asker.uid, gid, data, rdev)
        self._touch(parent, 1 if stat.S_ISDIR(mode) else 0)
        return inode

    def _drop(self, path: bytes) -> None:
        parent, name = self._parent(path)
        inode = parent.names.pop(name)
        directory = stat.S_ISDIR(inode.status.mode)
        inode.change(nlink=inode.status.nlink - (2 if directory else 1))
        if not inode.status.nlink and stat.S_ISREG(inode.status.mode):
            self._used -= len(inode.data)
        self._touch(parent, -1 if directory else 0)

    def _touch(self, parent: Object, links: int) -> None:
        now = time.time_ns()
        parent.change(mtime_ns=now, ctime_ns=now, nlink=parent.status.nlink + links)

    def lstat(self, path: bytes) -> Stat:
        return self._find(path).status

    def listdir(self, path: bytes) -> Iterator[tuple[bytes, Stat]]:
        return ((name, inode.status) for name, inode in list(self._find(path).names.items()))

    def readlink(self, path: bytes) -> bytes:
        return bytes(self._find(path).data)

    def open(self, path: bytes, flags: int, mode: int) -> _Opened:
        try:
            inode = self._find(path)
            if flags & os.O_CREAT and flags & os.O_EXCL:
                refuse(errno.EEXIST, path)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
            inode = self._add(path, stat.S_IFREG | mode)
        if not stat.S_ISREG(inode.status.mode):
            refuse(errno.EISDIR if stat.S_ISDIR(inode.status.mode) else errno.ENXIO, path)
        opened = _Opened(self, inode, bool(flags & os.O_APPEND))
        if flags & os.O_TRUNC:
            opened.ftruncate(0)
        return opened

    def truncate(self, path: bytes, size: int) -> None:
        self.open(path, os.O_WRONLY, 0).ftruncate(size)

    def mkdir(self, path: bytes, mode: int) -> None:
        self._add(path, stat.S_IFDIR | mode)

    def mknod(self, path: bytes, mode: int, device: int) -> None:
        self._add(path, mode, rdev=device)

    def symlink(self, target: bytes, path: bytes) -> None:
        self._add(path, stat.S_IFLNK | 0o777, target)

    def link(self, old: bytes, new: bytes) -> None:
        inode = self._find(old)
        parent, name = self._parent(new)
        if name in parent.names:
            refuse(errno.EEXIST, new)
        parent.names[name] = inode
        inode.change(nlink=inode.status.nlink + 1)
        self._touch(parent, 0)

    def unlink(self, path: bytes) -> None:
        if stat.S_ISDIR(self._find(path).status.mode):
            refuse(errno.EISDIR, path)
        self._drop(path)

    def rmdir(self, path: bytes) -> None:
        inode = self._find(path)
        if not stat.S_ISDIR(inode.status.mode):
            refuse(errno.ENOTDIR, path)
        if inode.names:
            refuse(errno.ENOTEMPTY, path)
        self._drop(path)

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        moved = self._find(old)
        parent, name = self._parent(old)
        new_parent, new_name = self._parent(new)
        over = new_parent.names.get(new_name)
        if over is not None and flags & _NOREPLACE:
            refuse(errno.EEXIST, new)
        if flags & _EXCHANGE:
            if over is None:
                refuse(errno.ENOENT, new)
            parent.names[name], new_parent.names[new_name] = over, moved
            self._moved(over, new_parent, parent)
        elif over is moved:
            return
        else:
            if over is not None:
                self.rmdir(new) if stat.S_ISDIR(moved.status.mode) else self.unlink(new)
            del parent.names[name]
            new_parent.names[new_name] = moved
        self._moved(moved, parent, new_parent)

    def _moved(self, inode: Object, parent: Object, new_parent: Object) -> None:
        links = 1 if stat.S_ISDIR(inode.status.mode) else 0
        self._touch(parent, -links)
        self._touch(new_parent, links)
        inode.change()

    def chmod(self, path: bytes, mode: int) -> None:
        inode = self._find(path)
        inode.change(mode=stat.S_IFMT(inode.status.mode) | mode)

    def chown(self, path: bytes, uid: int, gid: int) -> None:
        self._find(path).change(**({"uid": uid} if uid != -1 else {}), **({"gid": gid} if gid != -1 else {}))

    def utimens(self, path: bytes, atime_ns: int | None, mtime_ns: int | None) -> None:
        times = {"atime_ns": atime_ns, "mtime_ns": mtime_ns}
        self._find(path).change(**{name: value for name, value in times.items() if value is not None})

    def statfs(self, path: bytes) -> StatFs:
        blocks = self.options.size // 4096
        free = max(0, self.options.size - self._used) // 4096
        return StatFs(blocks=blocks, bfree=free, bavail=free)

    def getxattr(self, path: bytes, name: bytes) -> bytes:
        attributes = self._find(path).attributes
        if name not in attributes:
            refuse(errno.ENODATA, path)
        return attributes[name]

    def listxattr(self, path: bytes) -> list[bytes]:
        return list(self._find(path).attributes)

    def setxattr(self, path: bytes, name: bytes, value: bytes) -> None:
        inode = self._find(path)
        inode.attributes[name] = value
        inode.change()

    def removexattr(self, path: bytes, name: bytes) -> None:
        self.getxattr(path, name)
        inode = self._find(path)
        del inode.attributes[name]
        inode.change()
