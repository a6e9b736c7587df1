"""The book of origins: what the objects of the lower tree were when the layer first took their places.

Records "DEV INO MODE SIZE MTIME_NS CTIME_NS PATH" that end with NUL, numbers decimal, the mode octal; the
engine appends them. The first record of a path counts. What is no record (the last one may be half written
when the machine stopped) is passed over: a path without a record is judged more strictly.
"""

import os
from collections.abc import Iterable, Mapping

import msgspec

from vuosd.layers.record import sync_directory


class Origin(msgspec.Struct, frozen=True, gc=False):
    """`mode` with the type of the file; times in nanoseconds."""

    dev: int
    ino: int
    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def read(book: bytes) -> dict[bytes, Origin] | None:
    """By path. None: there is no book, as the layer was made elsewhere. OSError."""
    try:
        with open(book, "rb") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    found: dict[bytes, Origin] = {}
    for record in text[: text.rfind(b"\0") + 1].split(b"\0"):
        words = record.split(b" ", 6)
        if len(words) < 7 or words[6] in found:
            continue
        try:
            dev, ino, size, mtime, ctime = (int(words[n]) for n in (0, 1, 3, 4, 5))
            found[words[6]] = Origin(dev, ino, int(words[2], 8), size, mtime, ctime)
        except ValueError:
            continue
    return found


def write(book: bytes, records: Mapping[bytes, Origin]) -> None:
    """In place of the book that is there, durably. OSError."""
    temporary = book + b".new"
    with open(temporary, "wb") as file:
        file.writelines(_lines(records))
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, book)
    sync_directory(os.path.dirname(book))


def _lines(records: Mapping[bytes, Origin]) -> Iterable[bytes]:
    for path, of in records.items():
        numbers = (of.dev, of.ino, of.mode, of.size, of.mtime_ns, of.ctime_ns)
        yield b"%d %d %o %d %d %d %s\0" % (*numbers, path)
