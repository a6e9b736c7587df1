"""What a method of a module may return, and how the caller gets it."""

import errno
import os
import stat
import struct
import time
import zlib
from typing import Any

import msgspec

from vuosd.abi.rows import Arg, Level, Row
from vuosd.abi.syscalls import ROWS
from vuosd.api import PROCEED, Call, Descriptor, Stat

_STAT = struct.Struct("=QQQIIIxxxxQqqqqqqqqq24x")
_STATX = struct.Struct("=IIQIIIHxxQQQQ" + "qIxxxx" * 4 + "IIIIQ104x")
_STATX_BASIC = 0x7FF
_ROWS: dict[int, Row] = {row.nr: row for row in ROWS if row.level is Level.HANDLED}
_SECOND = 1_000_000_000
_CLOEXEC = 0o2000000
_STARTED = time.time_ns()
_FLAGS_AT = {"openat": 2, "open": 1, "socket": 1, "socketpair": 1, "accept4": 3, "memfd_create": -1}
"""Argument that holds O_CLOEXEC, or SOCK_CLOEXEC, which is the same number."""


class Nonsense(Exception):
    """A result that nothing can be done with; the text says why."""


def value_of(call: Call, nr: int, result: Any) -> "int | Descriptor":
    """What the call returns; the rest of the result has been written to the caller. Nonsense; OSError."""
    if result is None:
        return 0
    if isinstance(result, Descriptor):
        return result
    if isinstance(result, int) and not isinstance(result, bool):
        if not 0 <= result < 1 << 63:
            raise Nonsense(f"returned {result}: a result is 0 to 2^63 - 1; errors are raised")
        return result
    if isinstance(result, Stat) and call.operation == "stat":
        return _put_stat(call, nr, result)
    if isinstance(result, bytes) and call.operation == "readlink":
        return _put_link(call, nr, result)
    raise Nonsense(f"returned {result!r}, which is no result of {call.name}"[:200])


def proceeds(result: Any) -> bool:
    return result is PROCEED


def cloexec(call: Call, wanted: bool | None) -> bool:
    """Whether the caller's descriptor is close-on-exec."""
    if wanted is not None:
        return wanted
    if call.name == "openat2":
        return bool(struct.unpack("=Q", call.read(call.args[2], 8))[0] & _CLOEXEC)
    at = _FLAGS_AT.get(call.name, -1)
    return at >= 0 and bool(call.args[at] & _CLOEXEC)


def _argument(call: Call, nr: int, arg: Arg) -> int:
    return call.args[_ROWS[nr].args.index(arg)]


def _put_link(call: Call, nr: int, text: bytes) -> int:
    """readlink(2): truncated in silence, without a NUL."""
    size = _argument(call, nr, Arg.SIZE) & 0xFFFF_FFFF
    if not 0 < size < 1 << 31:
        raise OSError(errno.EINVAL, "size")
    if not text or len(text) >= 4096:
        raise Nonsense(f"returned a link of {len(text)} bytes: it has 1 to 4095")
    part = text[:size]
    call.write(_argument(call, nr, Arg.BUF), part)
    return len(part)


def _put_stat(call: Call, nr: int, status: Stat) -> int:
    if not stat.S_IFMT(status.mode) or status.size < 0:
        raise Nonsense(f"returned {status!r}: a mode has a type, and no size is negative")
    blocks = (status.size + 511) // 512 if status.blocks is None else status.blocks
    given = (status.atime_ns, status.mtime_ns, status.ctime_ns)
    times = [_STARTED if time is None else time for time in given]
    status = msgspec.structs.replace(
        status,
        uid=os.geteuid() if status.uid is None else status.uid,
        gid=os.getegid() if status.gid is None else status.gid,
        ino=status.ino or zlib.crc32(call.path) + 1,
    )
    major, minor = os.major(status.rdev), os.minor(status.rdev)
    try:
        if call.name == "statx":
            data = _STATX.pack(
                _STATX_BASIC, status.blksize, 0, status.nlink, status.uid, status.gid,
                status.mode, status.ino, status.size, blocks, 0,
                times[0] // _SECOND, times[0] % _SECOND, 0, 0,
                times[2] // _SECOND, times[2] % _SECOND, times[1] // _SECOND, times[1] % _SECOND,
                major, minor, 0, 0, 0,
            )  # fmt: skip
        else:
            seconds = (part for each in times for part in divmod(each, _SECOND))
            data = _STAT.pack(
                0, status.ino, status.nlink, status.mode, status.uid, status.gid, status.rdev,
                status.size, status.blksize, blocks, *seconds,
            )  # fmt: skip
    except struct.error as error:
        raise Nonsense(f"returned {status!r}: {error}") from None
    call.write(_argument(call, nr, Arg.BUF), data)
    return 0
