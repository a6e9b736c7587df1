"""Where in a TOML text each key and value stands: the readers do not say. No I/O, no trio.

`locate` takes a text that tomllib has already accepted, so it need not judge, only follow: it may be lenient
where a reader must be strict. What it returns maps the path of every value (table keys as str, array indexes
as int) to a Spot. A table that a `[header]` opens has the header as its value; one that only a dotted key
implies has that part of the key.
"""

import re
import tomllib

import msgspec

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"[ \t]*")
_SKIP = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
# A multi-line string may end in up to two quotation marks of its own before the closing three.
_STRING = re.compile(
    r'''"""(?:[^"\\]|\\.|"{1,2}(?!"))*""""{0,2}'''
    r"""|\'\'\'(?:(?!\'\'\').)*\'\'\'\'{0,2}"""
    r'''|"(?:[^"\\]|\\.)*"'''
    r"""|'[^']*'""",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]*[^,\]}#\n \t]")


class Spot(msgspec.Struct, frozen=True, gc=False):
    """Offsets into the text: of the key (the value again, for an array's element) and of the value."""

    key_start: int
    key_end: int
    start: int
    end: int


def locate(text: str) -> dict[KeyPath, Spot]:
    """The spots of all keys and values in `text`, whose line ends are plain newlines."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0
        self.spots: dict[KeyPath, Spot] = {}
        self.table: KeyPath = ()
        self.lengths: dict[KeyPath, int] = {}  # of the arrays of tables met so far

    def scan(self) -> dict[KeyPath, Spot]:
        text = self.text
        while True:
            self.skip(_SKIP)
            if self.pos >= len(text):
                return self.spots
            if text.startswith("[[", self.pos):
                self.header(2)
            elif text[self.pos] == "[":
                self.header(1)
            else:
                self.pair(self.table)

    def skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.pos)
        assert match is not None
        self.pos = match.end()

    def key(self) -> list[tuple[str, int, int]]:
        """The parts of a dotted key, each with its start and end."""
        parts = []
        while True:
            self.skip(_BLANK)
            match = _KEY.match(self.text, self.pos)
            assert match is not None
            parts.append((_unquoted(match[0]), match.start(), match.end()))
            self.pos = match.end()
            self.skip(_BLANK)
            if not self.text.startswith(".", self.pos):
                return parts
            self.pos += 1

    def header(self, brackets: int) -> None:
        begin = self.pos
        self.pos += brackets
        *parents, (name, start, end) = self.key()
        self.pos += brackets
        path: KeyPath = ()
        for part, part_start, part_end in parents:
            path += (part,)
            self.spots.setdefault(path, Spot(part_start, part_end, part_start, part_end))
            if path in self.lengths:
                path += (self.lengths[path] - 1,)
        path += (name,)
        spot = Spot(start, end, begin, self.pos)
        if brackets == 2:
            index = self.lengths.get(path, 0)
            self.lengths[path] = index + 1
            self.spots.setdefault(path, spot)
            path += (index,)
        self.spots[path] = spot
        self.table = path

    def pair(self, path: KeyPath) -> None:
        *parents, (name, start, end) = self.key()
        for part, part_start, part_end in parents:
            path += (part,)
            self.spots.setdefault(path, Spot(part_start, part_end, part_start, part_end))
        self.pos += 1
        self.skip(_BLANK)
        self.value((*path, name), start, end)

    def value(self, path: KeyPath, key_start: int, key_end: int) -> None:
        begin = self.pos
        first = self.text[begin]
        if first == "[":
            self.array(path)
        elif first == "{":
            self.inline_table(path)
        else:
            self.skip(_STRING if first in "\"'" else _SCALAR)
        self.spots[path] = Spot(key_start, key_end, begin, self.pos)

    def array(self, path: KeyPath) -> None:
        self.pos += 1
        index = 0
        while True:
            self.skip(_SKIP)
            if self.text[self.pos] == "]":
                break
            self.value((*path, index), self.pos, self.pos)
            index += 1
            self.skip(_SKIP)
            if self.text[self.pos] == ",":
                self.pos += 1
        self.pos += 1

    def inline_table(self, path: KeyPath) -> None:
        self.pos += 1
        while True:
            self.skip(_SKIP)
            if self.text[self.pos] == "}":
                break
            self.pair(path)
            self.skip(_SKIP)
            if self.text[self.pos] == ",":
                self.pos += 1
        self.pos += 1


def _unquoted(key: str) -> str:
    if key[0] == '"' and "\\" in key:
        return str(tomllib.loads("key = " + key)["key"])
    return key[1:-1] if key[0] in "\"'" else key
