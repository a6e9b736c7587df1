"""Two files, line by line: the hunks of a unified diff. Neither is read into memory whole.

What is the same at the beginning and at the end is skipped by reading the files side by side; only what is
between is compared, and where that is too much, all of it is replaced: the diff is right then, if not short.
"""

import difflib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

CONTEXT = 3
_CHUNK = 1 << 16
_MOST_BYTES, _MOST_LINES = 1 << 22, 20_000  # of one file's middle that lines are matched in
_BINARY = 8000  # bytes that are looked at for a NUL, as git does


def is_binary(fd: int) -> bool:
    return b"\0" in os.pread(fd, _BINARY, 0)


class _Middle(NamedTuple):
    """Byte offsets of what differs, beginning and ending at lines; `line`: number of the first, from 0."""

    start: int
    end: int


def hunks(old: int, new: int) -> Iterator[bytes]:
    """Lines of a unified diff, each with its end, of two files given by descriptors; -1 for none. OSError."""
    old_size, new_size = _size(old), _size(new)
    start, line = _common_start(old, new, min(old_size, new_size))
    back = _common_end(old, new, old_size, new_size, start)
    before, after = _Middle(start, old_size - back), _Middle(start, new_size - back)
    if before.start == before.end and after.start == after.end:
        return
    lead = _lines_before(old, start)
    trail = _lines_after(old, old_size - back, old_size)
    if max(before.end - before.start, after.end - after.start) <= _MOST_BYTES:
        first, second = _lines(old, before), _lines(new, after)
        if max(len(first), len(second)) <= _MOST_LINES:
            yield from _matched(first, second, lead, trail, line - len(lead))
            return
    yield from _replaced(old, new, before, after, lead, trail, line - len(lead))


def counts(old: int, new: int) -> tuple[int, int]:
    """How many lines come and how many go. OSError."""
    added = removed = 0
    for line in hunks(old, new):
        added += line.startswith(b"+")
        removed += line.startswith(b"-")
    return added, removed


def _size(fd: int) -> int:
    return os.fstat(fd).st_size if fd >= 0 else 0


def _common_start(old: int, new: int, size: int) -> tuple[int, int]:
    """Where the first line that differs begins, and its number from 0."""
    at = begin = line = 0
    while at < size:
        one, other = os.pread(old, min(_CHUNK, size - at), at), os.pread(new, min(_CHUNK, size - at), at)
        same = _same(one, other)
        if (last := one.rfind(b"\n", 0, same)) >= 0:
            begin, line = at + last + 1, line + one.count(b"\n", 0, same)
        if same < len(one) or not one:
            break
        at += same
    return begin, line


def _same(one: bytes, other: bytes) -> int:
    """How many bytes are the same from the beginning: by halves, as comparing is quick and looping is not."""
    if one == other:
        return len(one)
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_end(old: int, new: int, old_size: int, new_size: int, start: int) -> int:
    """How many bytes of whole lines are the same at the ends, without going back beyond `start`."""
    room = min(old_size, new_size) - start
    same = done = 0
    while same < room:
        step = min(_CHUNK, room - same)
        one, other = os.pread(old, step, old_size - same - step), os.pread(new, step, new_size - same - step)
        equal = _same(one[::-1], other[::-1])
        # A line that is the same begins behind the end of the one before it.
        first = one.find(b"\n", step - equal)
        if first >= 0:
            done = same + step - first - 1
        same += equal
        if equal < step:
            return done
    return _whole_lines(old, new, old_size, new_size, start, same, done)


def _whole_lines(old: int, new: int, old_size: int, new_size: int, start: int, same: int, done: int) -> int:
    """All of the shorter one is the same: that is whole lines if in both a line begins where it does."""
    for fd, size in ((old, old_size), (new, new_size)):
        at = size - same
        if at and at != start and os.pread(fd, 1, at - 1) != b"\n":
            return done
    return same


def _lines(fd: int, part: _Middle) -> list[bytes]:
    text = b""
    at = part.start
    while at < part.end and (chunk := os.pread(fd, part.end - at, at)):
        text += chunk
        at += len(chunk)
    return _split(text)


def _split(text: bytes) -> list[bytes]:
    """At newlines alone: splitlines() takes a carriage return for an end as well."""
    lines = text.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def _lines_before(fd: int, at: int) -> list[bytes]:
    """Up to CONTEXT lines that end at `at`."""
    room = _CHUNK
    while at:
        begin = max(0, at - room)
        lines = _split(os.pread(fd, at - begin, begin))
        if begin == 0 or len(lines) > CONTEXT:  # the first is perhaps not whole
            return lines[-CONTEXT:]
        room *= 2
    return []


def _lines_after(fd: int, at: int, size: int) -> list[bytes]:
    """Up to CONTEXT lines from `at` on. With fewer than before it, the end of the file would be meant."""
    room = _CHUNK
    while at < size:
        text = os.pread(fd, min(room, size - at), at)
        if at + len(text) >= size or not text or text.count(b"\n") >= CONTEXT:
            return _split(text)[:CONTEXT]
        room *= 2
    return []


class _Around(difflib.SequenceMatcher[bytes]):
    """Matches what differs, with lines before and after it that are the same and stay so."""

    def __init__(self, first: list[bytes], second: list[bytes], lead: int, trail: int) -> None:
        super().__init__(None, first, second)
        self._sizes = len(first) + lead, len(second) + lead, lead, trail

    def get_opcodes(self) -> list[tuple[Any, int, int, int, int]]:
        i, j, lead, trail = self._sizes
        moved = [
            (tag, i1 + lead, i2 + lead, j1 + lead, j2 + lead) for tag, i1, i2, j1, j2 in super().get_opcodes()
        ]
        before: list[tuple[Any, int, int, int, int]] = [("equal", 0, lead, 0, lead)] if lead else []
        return before + moved + ([("equal", i, i + trail, j, j + trail)] if trail else [])


def _matched(
    first: list[bytes], second: list[bytes], lead: list[bytes], trail: list[bytes], line: int
) -> Iterator[bytes]:
    matcher = _Around(first, second, len(lead), len(trail))
    first, second = [*lead, *first, *trail], [*lead, *second, *trail]
    for group in matcher.get_grouped_opcodes(CONTEXT):
        yield _head(line, group[0][1], group[-1][2], group[0][3], group[-1][4])
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                for text in first[i1:i2]:
                    yield from _marked(b" ", text)
                continue
            for text in first[i1:i2]:
                yield from _marked(b"-", text)
            for text in second[j1:j2]:
                yield from _marked(b"+", text)


def _head(line: int, i1: int, i2: int, j1: int, j2: int) -> bytes:
    return b"@@ -%s +%s @@\n" % (_range(line + i1, i2 - i1), _range(line + j1, j2 - j1))


def _range(start: int, length: int) -> bytes:
    """As POSIX has it: an empty range is named by the line before it."""
    if length == 1:
        return b"%d" % (start + 1)
    return b"%d,%d" % (start + bool(length), length)


def _marked(mark: bytes, text: bytes) -> Iterator[bytes]:
    yield mark + text
    if not text.endswith(b"\n"):
        yield b"\n\\ No newline at end of file\n"


def _replaced(
    old: int, new: int, before: _Middle, after: _Middle, lead: list[bytes], trail: list[bytes], line: int
) -> Iterator[bytes]:
    around = len(lead) + len(trail)
    going, coming = _count(old, before) + around, _count(new, after) + around
    yield _head(line, 0, going, 0, coming)
    for text in lead:
        yield from _marked(b" ", text)
    for mark, fd, part in ((b"-", old, before), (b"+", new, after)):
        for text in _stream(fd, part):
            yield from _marked(mark, text)
    for text in trail:
        yield from _marked(b" ", text)


def _stream(fd: int, part: _Middle) -> Iterator[bytes]:
    at, rest = part.start, b""
    while at < part.end and (chunk := os.pread(fd, min(_CHUNK, part.end - at), at)):
        at += len(chunk)
        lines = _split(rest + chunk)
        rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        yield from lines
    if rest:
        yield rest


def _count(fd: int, part: _Middle) -> int:
    count, at, last = 0, part.start, b"\n"
    while at < part.end and (chunk := os.pread(fd, min(_CHUNK, part.end - at), at)):
        at += len(chunk)
        count += chunk.count(b"\n")
        last = chunk[-1:]
    return count + (last != b"\n")
