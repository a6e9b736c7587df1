"""A small client for a FUSE server: speaks the kernel's part, <linux/fuse.h>, over a SOCK_SEQPACKET
socketpair.

One request at a time, nothing cached. What the kernel itself would look after (the type of what a path
leads through, what exists already) is looked after here likewise, so that a server is asked for nothing the
kernel would not ask."""

import errno
import os
import socket
import stat
import struct

from vuosd.testing.place import OpenFile, Place, Status

_LOOKUP, _FORGET, _GETATTR, _SETATTR, _READLINK, _SYMLINK, _MKNOD, _MKDIR = 1, 2, 3, 4, 5, 6, 8, 9
_UNLINK, _RMDIR, _LINK, _OPEN, _READ, _WRITE, _STATFS, _RELEASE, _FSYNC = 10, 11, 13, 14, 15, 16, 17, 18, 20
_SETXATTR, _GETXATTR, _LISTXATTR, _REMOVEXATTR, _FLUSH, _INIT, _OPENDIR = 21, 22, 23, 24, 25, 26, 27
_RELEASEDIR, _CREATE, _DESTROY, _READDIRPLUS, _RENAME2 = 29, 35, 38, 44, 45

_ASYNC_READ, _ATOMIC_O_TRUNC, _BIG_WRITES, _DO_READDIRPLUS = 1 << 0, 1 << 3, 1 << 5, 1 << 13
_HEAD = struct.Struct("<IIQQIIIHH")
_REPLY = struct.Struct("<IiQ")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY = struct.Struct("<QQQQII")
_OPENED = struct.Struct("<QII")
_MAX = 1 << 17
_MODE, _UID, _GID, _SIZE, _ATIME, _MTIME, _FH = 1, 2, 4, 8, 16, 32, 64
_NOREPLACE = 1


class WirePlace(Place):
    """The client. `sock` is our end; the server has the other."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unique = 0
        body = struct.pack(
            "<IIII", 7, 31, _MAX, _ASYNC_READ | _ATOMIC_O_TRUNC | _BIG_WRITES | _DO_READDIRPLUS
        )
        major, minor = struct.unpack_from("<II", self._call(_INIT, 0, body + bytes(48)))
        assert (major, minor) >= (7, 12), "a server of 2008 or earlier"

    def close(self) -> None:
        """As unmounting does."""
        self._call(_DESTROY, 0)
        self._sock.close()

    def _call(self, opcode: int, node: int, body: bytes = b"", answered: bool = True) -> bytes:
        self._unique += 2
        head = _HEAD.pack(
            _HEAD.size + len(body), opcode, self._unique, node, os.geteuid(), os.getegid(), os.getpid(), 0, 0
        )
        self._sock.send(head + body)
        if not answered:
            return b""
        reply = self._sock.recv(_MAX + 4096)
        if not reply:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        length, error, unique = _REPLY.unpack_from(reply)
        assert length == len(reply), f"a reply of {len(reply)} bytes says that it has {length}"
        assert unique == self._unique, f"a reply to {unique}, not to {self._unique}"
        assert -512 < error <= 0, f"a reply with error {error}"
        if error:
            raise OSError(-error, os.strerror(-error))
        return reply[_REPLY.size :]

    # Paths

    def _look(self, path: str) -> tuple[int, Status]:
        """The node at a path and what it is. Each lookup is counted by the server, and forgotten here at
        once but for the last."""
        node, status = 1, self._getattr(1)
        for name in filter(None, path.split("/")):
            if not stat.S_ISDIR(status.mode):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            above = node
            node, status = self._lookup(above, name)
            self._forget(above)
        return node, status

    def _lookup(self, parent: int, name: str) -> tuple[int, Status]:
        return self._entry(self._call(_LOOKUP, parent, _text(name)))

    def _entry(self, reply: bytes) -> tuple[int, Status]:
        node = _ENTRY.unpack_from(reply)[0]
        if not node:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return node, _status(reply[_ENTRY.size :])

    def _forget(self, node: int) -> None:
        if node != 1:
            self._call(_FORGET, node, struct.pack("<Q", 1), answered=False)

    def _at(self, path: str) -> tuple[int, str]:
        """The node that a path's last name is in, and that name."""
        above, _, name = path.rstrip("/").rpartition("/")
        node, status = self._look(above)
        if not stat.S_ISDIR(status.mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return node, name

    def _absent(self, parent: int, name: str) -> None:
        try:
            self._forget(self._lookup(parent, name)[0])
        except FileNotFoundError:
            return
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)

    # Calls

    def _getattr(self, node: int) -> Status:
        return _status(self._call(_GETATTR, node, bytes(16))[16:])

    def lstat(self, path: str) -> Status:
        node, status = self._look(path)
        self._forget(node)
        return status

    def listdir(self, path: str) -> list[tuple[str, int, int]]:
        node, status = self._look(path)
        if not stat.S_ISDIR(status.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        handle = _OPENED.unpack_from(self._call(_OPENDIR, node, bytes(8)))[0]
        found: list[tuple[str, int, int]] = []
        offset = 0
        while part := self._call(
            _READDIRPLUS, node, struct.pack("<QQIIQII", handle, offset, 4096, 0, 0, 0, 0)
        ):
            while part:
                known = _ENTRY.unpack_from(part)[0]
                start = _ENTRY.size + _ATTR.size
                ino, offset, length, kind = struct.unpack_from("<QQII", part, start)
                name = part[start + 24 : start + 24 + length].decode("utf-8", "surrogateescape")
                found.append((name, ino, kind << 12))
                if known and name not in (".", ".."):
                    self._forget(known)
                part = part[start + (24 + length + 7) // 8 * 8 :]
        self._call(_RELEASEDIR, node, struct.pack("<QIIQ", handle, 0, 0, 0))
        self._forget(node)
        return found

    def readlink(self, path: str) -> str:
        node, status = self._look(path)
        if not stat.S_ISLNK(status.mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        return os.fsdecode(self._call(_READLINK, node))

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o644) -> OpenFile:
        if flags & os.O_CREAT:
            parent, name = self._at(path)
            try:
                self._absent(parent, name)
                reply = self._call(
                    _CREATE, parent, struct.pack("<IIII", flags, stat.S_IFREG | mode, 0, 0) + _text(name)
                )
                node, _ = self._entry(reply)
                return _Handle(self, node, _OPENED.unpack_from(reply, _ENTRY.size + _ATTR.size)[0], flags)
            except FileExistsError:
                if flags & os.O_EXCL:
                    raise
        node, status = self._look(path)
        if stat.S_ISDIR(status.mode) or stat.S_ISLNK(status.mode):
            number = errno.EISDIR if stat.S_ISDIR(status.mode) else errno.ELOOP
            raise OSError(number, os.strerror(number), path)
        reply = self._call(_OPEN, node, struct.pack("<II", flags & ~(os.O_CREAT | os.O_EXCL), 0))
        return _Handle(self, node, _OPENED.unpack_from(reply)[0], flags)

    def _setattr(
        self,
        node: int,
        valid: int,
        size: int = 0,
        mode: int = 0,
        owner: tuple[int, int] = (0, 0),
        times: tuple[int, int] = (0, 0),
        handle: int = 0,
    ) -> Status:
        (accessed, accessed_ns), (changed, changed_ns) = (divmod(one, 10**9) for one in times)
        body = struct.pack(
            "<IIQQQqqqIIIIIIII",
            valid,
            0,
            handle,
            size,
            0,
            accessed,
            changed,
            0,
            accessed_ns,
            changed_ns,
            0,
            mode,
            0,
            *owner,
            0,
        )
        return _status(self._call(_SETATTR, node, body)[16:])

    def truncate(self, path: str, size: int) -> None:
        self._setattr(self._look(path)[0], _SIZE, size=size)

    def chmod(self, path: str, mode: int) -> None:
        node, status = self._look(path)
        self._setattr(node, _MODE, mode=stat.S_IFMT(status.mode) | mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        valid = (_UID if uid != -1 else 0) | (_GID if gid != -1 else 0)
        self._setattr(self._look(path)[0], valid, owner=(max(uid, 0), max(gid, 0)))

    def utimens(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        self._setattr(self._look(path)[0], _ATIME | _MTIME, times=(atime_ns, mtime_ns))

    def _make(self, opcode: int, path: str, head: bytes = b"", tail: bytes = b"") -> None:
        parent, name = self._at(path)
        self._absent(parent, name)
        node, _ = self._entry(self._call(opcode, parent, head + _text(name) + tail))
        self._forget(node)

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        self._make(_MKDIR, path, struct.pack("<II", mode, 0))

    def symlink(self, target: str, path: str) -> None:
        self._make(_SYMLINK, path, tail=_text(target))

    def mknod(self, path: str, mode: int, device: int = 0) -> None:
        self._make(_MKNOD, path, struct.pack("<IIII", mode, device, 0, 0))

    def link(self, old: str, new: str) -> None:
        self._make(_LINK, new, struct.pack("<Q", self._look(old)[0]))

    def rmdir(self, path: str) -> None:
        parent, name = self._at(path)
        node, status = self._lookup(parent, name)
        if not stat.S_ISDIR(status.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        self._call(_RMDIR, parent, _text(name))
        self._forget(node)

    def unlink(self, path: str) -> None:
        parent, name = self._at(path)
        node, status = self._lookup(parent, name)
        if stat.S_ISDIR(status.mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self._call(_UNLINK, parent, _text(name))
        self._forget(node)

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        parent, name = self._at(old)
        moved = self._lookup(parent, name)[1]
        if stat.S_ISDIR(moved.mode) and f"{new.rstrip('/')}/".startswith(f"{old.rstrip('/')}/"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), old, None, new)
        new_parent, new_name = self._at(new)
        if flags & _NOREPLACE:
            self._absent(new_parent, new_name)
        body = struct.pack("<QII", new_parent, flags, 0) + _text(name) + _text(new_name)
        self._call(_RENAME2, parent, body)

    def statfs(self) -> tuple[int, int, int]:
        blocks, free, *_ = struct.unpack_from("<QQQQQIII", reply := self._call(_STATFS, 1))
        return struct.unpack_from("<I", reply, 48)[0], blocks, free

    def getxattr(self, path: str, name: str) -> bytes:
        return self._call(_GETXATTR, self._look(path)[0], struct.pack("<II", 1 << 16, 0) + _text(name))

    def listxattr(self, path: str) -> list[str]:
        reply = self._call(_LISTXATTR, self._look(path)[0], struct.pack("<II", 1 << 16, 0))
        return [os.fsdecode(name) for name in reply.split(b"\0") if name]

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        self._call(
            _SETXATTR, self._look(path)[0], struct.pack("<II", len(value), flags) + _text(name) + value
        )

    def removexattr(self, path: str, name: str) -> None:
        self._call(_REMOVEXATTR, self._look(path)[0], _text(name))


class _Handle(OpenFile):
    def __init__(self, place: WirePlace, node: int, handle: int, flags: int) -> None:
        self._place, self._node, self._handle, self._flags = place, node, handle, flags

    def pread(self, size: int, offset: int) -> bytes:
        body = struct.pack("<QQIIQII", self._handle, offset, min(size, _MAX), 0, 0, self._flags, 0)
        return self._place._call(_READ, self._node, body)

    def pwrite(self, data: bytes, offset: int) -> int:
        data = data[:_MAX]
        if self._flags & os.O_APPEND:
            offset = self.fstat().size
        body = struct.pack("<QQIIQII", self._handle, offset, len(data), 0, 0, self._flags, 0)
        written: int = struct.unpack_from("<I", self._place._call(_WRITE, self._node, body + data))[0]
        return written

    def ftruncate(self, size: int) -> None:
        self._place._setattr(self._node, _SIZE | _FH, size=size, handle=self._handle)

    def fstat(self) -> Status:
        return self._place._getattr(self._node)

    def fsync(self) -> None:
        self._place._call(_FSYNC, self._node, struct.pack("<QII", self._handle, 0, 0))

    def close(self) -> None:
        try:
            self._place._call(_FLUSH, self._node, struct.pack("<QIIQ", self._handle, 0, 0, 0))
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
        finally:
            self._place._call(_RELEASE, self._node, struct.pack("<QIIQ", self._handle, self._flags, 0, 0))
            self._place._forget(self._node)


def _text(name: str) -> bytes:
    return os.fsencode(name) + b"\0"


def _status(attr: bytes) -> Status:
    ino, size, blocks, accessed, changed, _, accessed_ns, changed_ns, _, mode, nlink, uid, gid, *_ = (
        _ATTR.unpack_from(attr)
    )
    return Status(
        mode, size, nlink, uid, gid, _time(changed, changed_ns), _time(accessed, accessed_ns), ino, blocks
    )


def _time(seconds: int, nanoseconds: int) -> int:
    """The protocol has the seconds unsigned, and means them signed."""
    return (seconds - (1 << 64) if seconds >> 63 else seconds) * 10**9 + nanoseconds
