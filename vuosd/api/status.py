"""What calls tell and are told: Stat, StatFs, and who calls. No I/O, no trio."""

import os
import stat
from contextvars import ContextVar
from typing import NamedTuple, Self

import msgspec


class Stat(msgspec.Struct, frozen=True, kw_only=True):
    """What `lstat` returns: stat(2).

    Sizes are in bytes, times in nanoseconds since 1970. Left out: the owner is the user who mounted, the
    times are those of the mounting, `blocks` (of 512 bytes) is what the size needs.

    `ino` says that two paths are one object (a hard link, then with `nlink` > 1); 0, if paths are all there
    is: then every path gets a number of its own that stays the same as long as the path does."""

    mode: int
    size: int = 0
    nlink: int = 1
    uid: int | None = None
    gid: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    rdev: int = 0
    blocks: int | None = None
    blksize: int = 4096
    ino: int = 0

    @classmethod
    def file(cls, size: int = 0, mode: int = 0o444, mtime_ns: int | None = None) -> Self:
        """A regular file of `size` bytes; everyone may read it."""
        return cls(mode=stat.S_IFREG | mode, size=size, mtime_ns=mtime_ns)

    @classmethod
    def directory(cls, mode: int = 0o555, mtime_ns: int | None = None) -> Self:
        """A directory that everyone may list and enter."""
        return cls(mode=stat.S_IFDIR | mode, nlink=2, mtime_ns=mtime_ns)

    @classmethod
    def link(cls, target: bytes, mtime_ns: int | None = None) -> Self:
        """A symbolic link; its size is that of its target, lstat(2)."""
        return cls(mode=stat.S_IFLNK | 0o777, size=len(target), mtime_ns=mtime_ns)

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """What the kernel says of a real file."""
        return cls(
            mode=status.st_mode,
            size=status.st_size,
            nlink=status.st_nlink,
            uid=status.st_uid,
            gid=status.st_gid,
            atime_ns=status.st_atime_ns,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            rdev=status.st_rdev,
            blocks=status.st_blocks,
            blksize=status.st_blksize,
            ino=status.st_ino,
        )


class StatFs(msgspec.Struct, frozen=True, kw_only=True):
    """What `statfs` returns: statvfs(3). `blocks`, `bfree`, `bavail` count blocks of `bsize` bytes."""

    bsize: int = 4096
    blocks: int = 0
    bfree: int = 0
    bavail: int = 0
    files: int = 0
    ffree: int = 0
    namemax: int = 255

    @classmethod
    def of(cls, status: os.statvfs_result) -> Self:
        """What the kernel says of a real file system."""
        return cls(
            bsize=status.f_frsize,
            blocks=status.f_blocks,
            bfree=status.f_bfree,
            bavail=status.f_bavail,
            files=status.f_files,
            ffree=status.f_ffree,
            namemax=status.f_namemax,
        )


class Caller(NamedTuple):
    """The thread whose call is being answered: what it makes belongs to `uid` and `gid`. `pid` is 0 when it
    is not known."""

    pid: int
    uid: int
    gid: int
    umask: int


current: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Who makes the call that a method is answering; outside of one, LookupError."""
    return current.get()
