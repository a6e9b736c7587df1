"""What a plugin has returned makes sense, or is Nonsense with a text that says what was wrong. No I/O, no
trio."""

import stat
from collections.abc import Iterable
from typing import Any

from vuosd.api import File, Stat, StatFs

_KINDS = {
    stat.S_IFREG,
    stat.S_IFDIR,
    stat.S_IFLNK,
    stat.S_IFCHR,
    stat.S_IFBLK,
    stat.S_IFIFO,
    stat.S_IFSOCK,
}
_NAME_MAX = 255  # limits.h; FUSE_NAME_MAX is 1024, but nobody could use such a name elsewhere
_PATH_MAX = 4096
_UNSIGNED = {
    "size": 63,
    "nlink": 32,
    "uid": 32,
    "gid": 32,
    "rdev": 32,
    "blocks": 63,
    "blksize": 32,
    "ino": 64,
    "mode": 32,
}
_TIMES = ("atime_ns", "mtime_ns", "ctime_ns")


class Nonsense(Exception):
    """A plugin's result that no process can be told."""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def status(value: object) -> Stat:
    if not isinstance(value, Stat):
        raise Nonsense(f"returned {_shown(value)}, not a Stat")
    for name, bits in _UNSIGNED.items():
        number = getattr(value, name)
        if number is None and name in ("uid", "gid", "blocks"):
            continue
        if type(number) is not int or number < 0 or number.bit_length() > bits:
            raise Nonsense(f"returned a Stat whose {name} is {_shown(number)}")
    for name in _TIMES:
        number = getattr(value, name)
        if number is not None and (type(number) is not int or number.bit_length() > 92):
            raise Nonsense(f"returned a Stat whose {name} is {_shown(number)}")
    if stat.S_IFMT(value.mode) not in _KINDS:
        raise Nonsense(
            f"returned a Stat whose mode, {value.mode:#o}, has no type of file; see Stat.file, Stat.directory"
        )
    return value


def name(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise Nonsense(f"listed {_shown(value)}: names are bytes")
    if not value or value in (b".", b"..") or b"/" in value or b"\0" in value:
        raise Nonsense(f"listed {_shown(value)}, which is no name")
    if len(value) > _NAME_MAX:
        raise Nonsense(
            f"listed a name of {len(value)} bytes, {_shown(value)}: at most {_NAME_MAX} can be used"
        )
    return value


def listing(value: object) -> list[tuple[bytes, Stat | None]]:
    """Names or pairs, each name once."""
    if isinstance(value, (bytes, str)) or not isinstance(value, Iterable):
        raise Nonsense(f"returned {_shown(value)}, not an iterable of names")
    entries: dict[bytes, Stat | None] = {}
    for item in value:
        one, known = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
        if name(one) in entries:
            raise Nonsense(f"listed {_shown(one)} twice")
        entries[one] = None if known is None else status(known)
    return list(entries.items())


def file(value: object) -> File:
    if not isinstance(value, File):
        raise Nonsense(f"returned {_shown(value)}, not a File")
    return value


def target(value: object) -> bytes:
    if not isinstance(value, bytes) or not value or b"\0" in value or len(value) >= _PATH_MAX:
        raise Nonsense(f"returned {_shown(value)}, which no symbolic link can hold")
    return value


def data(value: object, size: int) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise Nonsense(f"returned {_shown(value)}, not bytes")
    if len(value) > size:
        raise Nonsense(f"returned {len(value)} bytes where {size} were asked for")
    return bytes(value)


def written(value: object, size: int) -> int:
    if type(value) is not int or not 0 <= value <= size:
        raise Nonsense(f"returned {_shown(value)}, not how many of {size} bytes were written")
    return value


def attribute(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) > 65536:
        raise Nonsense(f"returned {_shown(value)}, not the bytes of an attribute (at most 64 KiB)")
    return value


def attributes(value: object) -> list[bytes]:
    if isinstance(value, (bytes, str)) or not isinstance(value, Iterable):
        raise Nonsense(f"returned {_shown(value)}, not an iterable of attributes' names")
    names = list(value)
    for one in names:
        if not isinstance(one, bytes) or not one or b"\0" in one or len(one) > 255:
            raise Nonsense(f"listed {_shown(one)}, which is no attribute's name")
    return names


def statfs(value: object) -> StatFs:
    if not isinstance(value, StatFs):
        raise Nonsense(f"returned {_shown(value)}, not a StatFs")
    fields: dict[str, Any] = {name: getattr(value, name) for name in value.__struct_fields__}
    for field, number in fields.items():
        limit = 32 if field in ("bsize", "namemax") else 64
        if type(number) is not int or number < 0 or number.bit_length() > limit:
            raise Nonsense(f"returned a StatFs whose {field} is {_shown(number)}")
    return value


def status_or_none(value: object) -> Stat | None:
    return None if value is None else status(value)


def nothing(value: object) -> None:
    """Whatever a method returns that has nothing to tell."""
