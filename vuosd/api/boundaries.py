"""Boundaries: which system calls a module answers. No I/O, no trio.

What is said here wrongly, a call that there is not for one, is a ValueError with a sentence.
"""

import socket
from typing import TypeAlias

import msgspec

from vuosd.abi.rows import Arg, Level, Op, Row
from vuosd.abi.syscalls import ROWS

_PATHS = (Arg.PATH, Arg.PATH2)
_IOCTL, _SOCKETS = "ioctl", ("socket", "socketpair")
_ROWS: dict[str, list[Row]] = {}
for _row in ROWS:
    _ROWS.setdefault(_row.name, []).append(_row)

OPERATIONS: dict[str, tuple[Op, ...]] = {
    op.name.lower(): (op,)
    for op in dict.fromkeys(row.op for row in ROWS if set(_PATHS) & set(row.args))
    if op not in (Op.OPENAT2, Op.STATX, Op.UTIME, Op.UTIMES, Op.UTIMENSAT, Op.MOUNT, Op.UMOUNT)
} | {
    "open": (Op.OPEN, Op.OPENAT2),
    "stat": (Op.STAT, Op.STATX),
    "utimens": (Op.UTIME, Op.UTIMES, Op.UTIMENSAT),
}
"""What can be done with a path, and by which of the engine's operations: `open` is open(2), openat(2),
creat(2) and openat2(2)."""


def operation_of(name: str) -> str:
    """What a call does with a path: "open" for openat(2); "" for a call that names none."""
    ops = {row.op for row in _ROWS[name]} - {Op.NONE}
    return next((word for word, group in OPERATIONS.items() if ops & set(group)), "")


class Calls(msgspec.Struct, frozen=True, tag_field="is", tag="calls", array_like=True):
    """System calls by their names: Calls(("uname", "sysinfo")). All that a view's processes make of them."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.names:
            rows = _ROWS.get(name)
            if rows is None:
                raise ValueError(f'there is no system call "{name}"{_meant(name, list(_ROWS))}')
            if refused := next((row for row in rows if row.level is Level.REFUSED), None):
                if len(rows) == 1:
                    raise ValueError(f"{name}(2) is refused in every view: {refused.note}")
                raise ValueError(
                    f"{name}(2) cannot be answered as a whole: some of it is refused in every view"
                )


class Paths(msgspec.Struct, frozen=True, tag_field="is", tag="paths", array_like=True):
    """Calls that name a path at or below one of these, absolute and without links: Paths(("/dev/thing",)). Of
    what can be done with a path, `operations`; if there are none, what the class has methods for."""

    paths: tuple[str, ...]
    operations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for path in self.paths:
            if not path.startswith("/") or (path != "/" and {"", ".", ".."} & set(path[1:].split("/"))):
                raise ValueError(f'"{path}" is no absolute path without "." and ".."')
        for name in self.operations:
            if name not in OPERATIONS:
                raise ValueError(
                    f'nothing called "{name}" is done with paths{_meant(name, list(OPERATIONS))}'
                )


class Ioctls(msgspec.Struct, frozen=True, tag_field="is", tag="ioctls", array_like=True):
    """ioctl(2) with one of these codes, on whatever descriptor."""

    codes: tuple[int, ...]

    def __post_init__(self) -> None:
        refused = {
            when.value: when.says for row in _ROWS[_IOCTL] if row.level is Level.REFUSED for when in row.when
        }
        for code in self.codes:
            if not 0 <= code < 1 << 32:
                raise ValueError(f"{code:#x} is no code of ioctl(2): it has 32 bits")
            if code in refused:
                raise ValueError(f"{refused[code]} is refused in every view")


class Families(msgspec.Struct, frozen=True, tag_field="is", tag="families", array_like=True):
    """socket(2) and socketpair(2) of these families: Families((socket.AF_BLUETOOTH,))."""

    families: tuple[int, ...]

    def __post_init__(self) -> None:
        for family in self.families:
            if not 0 <= family < 1 << 16:
                raise ValueError(f"{family} is no family of sockets")

    def names(self) -> str:
        """For people."""
        known = {int(family): family.name for family in socket.AddressFamily}
        return ", ".join(known.get(family, str(family)) for family in self.families)


class Types(msgspec.Struct, frozen=True, tag_field="is", tag="types", array_like=True):
    """Mounts of these types of file systems."""

    types: tuple[str, ...]


Boundary: TypeAlias = Calls | Paths | Ioctls | Families | Types


def _meant(word: str, known: list[str]) -> str:
    from difflib import get_close_matches  # only for those who have made a mistake

    close = get_close_matches(word, known, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""
