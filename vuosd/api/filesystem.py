"""Filesystem: the class a plugin subclasses. Its docstrings are the manual."""

import errno
import os
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from vuosd.api.options import MountOptions, OptionError, Value, decode
from vuosd.api.status import StatFs


def _refuse(number: int, path: bytes) -> NoReturn:
    raise OSError(number, os.strerror(number), path)


class Filesystem:
    """A tree of files, asked by path.

    Override `lstat`, and `listdir`, `open`, `readlink` as far as there are directories, files and links:
    that is a file system that can be read. Paths are bytes, absolute, normalised ("/" is the root; no "..",
    no "//", no slash at the end). Symbolic links are not followed here: the kernel does that. Permissions
    are checked by the kernel, from what `lstat` says.

    A method may be `def`, and then must not wait, since nobody else is answered meanwhile; or `async def`
    (trio). With `threads` a `def` may block.

    A file system that overrides none of the methods that change something is read-only: the answer to those
    is EROFS.

    Raise OSError to answer with its errno. ENOSYS would tell the kernel never to ask again and is answered
    as EOPNOTSUPP."""

    Options: ClassVar[type[MountOptions]] = MountOptions
    """The schema of the mount's options; a nested class named Options, derived from MountOptions."""

    threads: ClassVar[int] = 0
    """How many `def` methods may run at once, each in a thread of its own. 0: they are run in turn, in the
    main thread."""

    timeout: float = 1.0
    """Seconds for which the kernel may believe what `lstat` has said, without asking again."""

    writable: ClassVar[bool | None] = None
    """Whether anything can be changed. None: it can if a method that changes something is overridden. True
    is for a tree that stays as it is, with files that can be written to."""

    options: Any
    source: str

    def __init__(
        self, source: str = "", options: Mapping[str, Value] | str | None = None, **more: Value
    ) -> None:
        """`source` is what is mounted (an image, a directory, an address, or nothing); options are given as
        the text after -o, a table or keywords, and end up in `self.options`. Errors: OptionError."""
        schema = type(self).Options
        name = type(self).__name__
        if isinstance(options, str):
            if more:
                raise OptionError(f"{name}: options are given as text or as keywords, not both")
            self.options = decode(schema, options, name)
        else:
            self.options = decode(schema, {**(options or {}), **more}, name)
        self.source = source

    def start(self) -> Any:
        """Before the first request: open what is served. OSError, or ValueError with a sentence for the
        person who mounts, when it cannot be."""

    def stop(self) -> Any:
        """After the last request: write what is still to be written."""

    # What every file system answers

    def lstat(self, path: bytes) -> Any:
        """A Stat. ENOENT if there is no such path; the root must be there and be a directory (or a file:
        then a file is mounted)."""
        raise NotImplementedError("a file system needs a method lstat(path)")

    def listdir(self, path: bytes) -> Any:
        """The names in a directory, as an iterable of bytes, without "." and ".."; or of pairs (name,
        Stat), which spares an `lstat` for each."""
        return ()

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        """A File. `flags` are those of open(2): O_ACCMODE, O_CREAT, O_EXCL, O_TRUNC and O_APPEND may be
        among them; `mode` is for a file that O_CREAT makes, the umask taken off. EISDIR, ENOENT, ENXIO."""
        _refuse(errno.EOPNOTSUPP, path)

    def readlink(self, path: bytes) -> Any:
        """Where a symbolic link leads, as bytes."""
        _refuse(errno.EINVAL, path)

    def statfs(self, path: bytes) -> Any:
        """A StatFs: what `df` shows."""
        return StatFs()

    # What changes the tree

    def mkdir(self, path: bytes, mode: int) -> Any:
        """Make a directory. EEXIST, ENOSPC."""
        _refuse(errno.EPERM, path)

    def rmdir(self, path: bytes) -> Any:
        """Remove an empty directory. ENOTEMPTY."""
        _refuse(errno.EPERM, path)

    def unlink(self, path: bytes) -> Any:
        """Remove a name that is no directory's. Files that are open go on working: see File."""
        _refuse(errno.EPERM, path)

    def rename(self, old: bytes, new: bytes, flags: int) -> Any:
        """Move what is at `old`, with all below it, to `new`; what is there is replaced: a file by a file,
        an empty directory by a directory. `flags` of renameat2(2): RENAME_NOREPLACE (1), RENAME_EXCHANGE
        (2); EINVAL for those not known. ENOTEMPTY, EXDEV."""
        _refuse(errno.EPERM, old)

    def symlink(self, target: bytes, path: bytes) -> Any:
        """Make a symbolic link at `path` that leads to `target`."""
        _refuse(errno.EPERM, path)

    def link(self, old: bytes, new: bytes) -> Any:
        """Give what is at `old` a second name; both have then the same `ino` in their Stat, not 0. EMLINK."""
        _refuse(errno.EPERM, old)

    def mknod(self, path: bytes, mode: int, device: int) -> Any:
        """Make a FIFO, socket, device or (without opening it) a regular file, by S_IFMT of `mode`."""
        _refuse(errno.EPERM, path)

    # What changes a file

    def truncate(self, path: bytes, size: int) -> Any:
        """Make a file `size` bytes long. Left to File.ftruncate if this is not overridden."""
        _refuse(errno.EPERM, path)

    def chmod(self, path: bytes, mode: int) -> Any:
        """Set the permission bits, 0o7777 at most."""
        _refuse(errno.EPERM, path)

    def chown(self, path: bytes, uid: int, gid: int) -> Any:
        """Set owner and group; -1 leaves one as it is."""
        _refuse(errno.EPERM, path)

    def utimens(self, path: bytes, atime_ns: int | None, mtime_ns: int | None) -> Any:
        """Set times, in nanoseconds since 1970; None leaves one as it is."""
        _refuse(errno.EPERM, path)

    # Extended attributes: xattr(7)

    def getxattr(self, path: bytes, name: bytes) -> Any:
        """The value of an attribute, as bytes. ENODATA if there is none of this name."""
        _refuse(errno.EOPNOTSUPP, path)

    def listxattr(self, path: bytes) -> Any:
        """The attributes' names, an iterable of bytes."""
        return ()

    def setxattr(self, path: bytes, name: bytes, value: bytes) -> Any:
        """Set an attribute. XATTR_CREATE and XATTR_REPLACE have been looked after, by `getxattr`."""
        _refuse(errno.EOPNOTSUPP, path)

    def removexattr(self, path: bytes, name: bytes) -> Any:
        """Remove an attribute. ENODATA."""
        _refuse(errno.EOPNOTSUPP, path)

    # What the host asks of the class

    CHANGING: ClassVar[tuple[str, ...]] = (
        *("mkdir", "rmdir", "unlink", "rename", "symlink", "link", "mknod"),
        *("truncate", "chmod", "chown", "utimens", "setxattr", "removexattr"),
    )

    @property
    def readonly(self) -> bool:
        """Mounted with `ro`, or never to be changed."""
        writable = type(self).writable
        if writable is None:
            writable = any(self.answers(name) for name in self.CHANGING)
        return self.options.ro or not writable

    def answers(self, method: str) -> bool:
        """Whether the subclass has a method of its own of this name."""
        return getattr(type(self), method) is not getattr(Filesystem, method)
