"""The conformance kit finds what is wrong: file systems with one mistake each."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from vuosd.api import MemFile, Stat
from vuosd.plugins.memory import Memory
from vuosd.testing import Place, changing, reading, serving, transports


class Wrong(Memory):
    """Its mistake is what a test puts in the place of a method."""

    def start(self) -> None:
        super().start()
        self.root.names[b"file"] = self._new(0o100644, 0, 0, b"contents")
        self.root.names[b"link"] = self._new(0o120777, 0, 0, b"file")


def with_mistake(**methods: Callable[..., Any]) -> Wrong:
    return type("Wrong", (Wrong,), methods)()


def _fixed_size(self: Wrong, path: bytes) -> Stat:
    found = Memory.lstat(self, path)
    return Stat(mode=found.mode, size=3, ino=found.ino)


def _other_type(self: Wrong, path: bytes) -> list[tuple[bytes, Stat]]:
    return [(name, Stat.file(ino=inode.status.ino)) for name, inode in self._find(path).names.items()]


def _forgets_to_truncate(self: Wrong, path: bytes, flags: int, mode: int) -> Any:
    return Memory.open(self, path, flags & ~os.O_TRUNC, mode)


def _same_every_time(self: Wrong, path: bytes, flags: int, mode: int) -> Any:
    class Same(MemFile):
        def pread(self, size: int, offset: int) -> bytes:
            return b"contents"[:size]

    return Same()


def _nothing(self: Wrong, *arguments: Any) -> None:
    pass


def _removes_what_is_full(self: Wrong, path: bytes) -> None:
    self._find(path).names.clear()
    Memory.rmdir(self, path)


def _exchanges_never(self: Wrong, old: bytes, new: bytes, flags: int) -> None:
    Memory.rename(self, old, new, 0)


MISTAKES: list[tuple[Callable[[Place], None], dict[str, Callable[..., Any]]]] = [
    (reading.contents, {"lstat": _fixed_size}),
    (reading.contents, {"open": _same_every_time}),
    (reading.links, {"lstat": _fixed_size}),
    (reading.listings, {"listdir": _other_type}),
    (reading.refuses_changes, {}),
    (changing.files, {"open": _forgets_to_truncate}),
    (changing.sizes, {"truncate": _nothing}),
    (changing.modes, {"chmod": _nothing}),
    (changing.times, {"utimens": _nothing}),
    (changing.attributes, {"setxattr": _nothing}),
    (changing.directories, {"rmdir": _removes_what_is_full}),
    (changing.renames_with_flags, {"rename": _exchanges_never}),
]


HIDDEN = {"_fixed_size", "_same_every_time"}
"""The kernel's page cache shows no more of a file than its size, so these show on the wire alone."""


@pytest.mark.parametrize(
    ("check", "methods"), MISTAKES, ids=lambda value: getattr(value, "__name__", None) or "+".join(value)
)
def test_a_mistake_is_found(check: Callable[[Place], None], methods: dict[str, Any]) -> None:
    hidden = HIDDEN & {method.__name__ for method in methods.values()}
    for transport in transports():
        if transport == "wire" or not hidden:
            with serving(with_mistake(**methods), transport) as served:
                served.place.mkdir(changing.TOP)
                with pytest.raises((AssertionError, OSError)):
                    check(served.place)


@pytest.mark.parametrize("transport", transports())
def test_what_has_no_mistake(transport: Any) -> None:
    with serving(Wrong(), transport) as served:
        for check in (reading.contents, reading.links, reading.listings, reading.numbers):
            check(served.place)


def test_a_file_system_that_cannot_start() -> None:
    def start(self: Wrong) -> None:
        raise ValueError("no such disk")

    with (
        pytest.raises(OSError, match="Transport endpoint is not connected") as caught,
        serving(with_mistake(start=start)) as served,
    ):
        served.place.lstat("/")
    assert "Wrong: no such disk" in "".join(caught.value.__notes__)


def test_both_transports_are_here() -> None:
    """What is tested here is tested on both; elsewhere the kernel's may be missing."""
    assert transports() == ["kernel", "wire"]
