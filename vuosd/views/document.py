"""One profile file as text: read as TOML, and able to say where each value stands. No I/O, no trio."""

import re
import tomllib
from bisect import bisect_right
from typing import Any

from vuosd.views.errors import ProfileError
from vuosd.views.model import Position, Source
from vuosd.views.positions import KeyPath, Spot, locate

_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_NEWLINE = re.compile(r"\n")
_DIGITS = re.compile(r"[0-9_]+")
_BARE_WORD = re.compile(r"[A-Za-z~/$.][^\s,\]}#]*")


class Document:
    """A profile file that is well-formed TOML."""

    def __init__(self, path: bytes, text: str, data: dict[str, Any]) -> None:
        self.path = path
        self.text = text
        self.data = data
        self._spots: dict[KeyPath, Spot] | None = None
        self._lines = [0, *(match.end() for match in _NEWLINE.finditer(text))]

    @property
    def spots(self) -> dict[KeyPath, Spot]:
        if self._spots is None:
            self._spots = locate(self.text)
        return self._spots

    def position(self, at: KeyPath, *, key: bool = False) -> Position:
        """Where the value or the key at this path stands; if it is not in the text, where its table does."""
        while at and at not in self.spots:
            at = at[:-1]
        if not at:
            return Position(self.path, 1, 1)
        spot = self.spots[at]
        return self.span(spot.key_start, spot.key_end) if key else self.span(spot.start, spot.end)

    def span(self, start: int, end: int) -> Position:
        line = bisect_right(self._lines, start)
        if line < len(self._lines):
            end = min(end, self._lines[line] - 1)
        return Position(self.path, line, start - self._lines[line - 1] + 1, max(1, end - start))

    def inside(self, at: KeyPath, offset: int, length: int) -> Position:
        """Where a part of a string value stands: all of it when escapes make offsets say nothing."""
        spot = self.spots.get(at)
        if spot is not None:
            raw = self.text[spot.start : spot.end]
            plain = raw[:1] == "'" or (raw[:1] == '"' and "\\" not in raw)
            if plain and raw[:3] not in ('"""', "'''"):
                return self.span(spot.start + 1 + offset, spot.start + 1 + offset + length)
        return self.position(at)

    def error(self, where: Position, message: str, hint: str = "") -> ProfileError:
        return error_at(Source(self.path, self.text), where, message, hint)


def error_at(source: Source, where: Position, message: str, hint: str = "") -> ProfileError:
    """An error at a position of a profile whose text is at hand."""
    lines = source.text.split("\n")
    text = lines[where.line - 1] if 0 < where.line <= len(lines) else ""
    return ProfileError(where.path, where.line, where.column, message, hint, text, where.length)


def parse(path: bytes, content: bytes) -> Document | ProfileError:
    """The document, or why it is none. TOML stops at its first mistake, and so must we."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        text = content.decode("utf-8", "replace").replace("\r\n", "\n")
        column = len(before) - before.rfind("\n")
        where = Position(path, before.count("\n") + 1, column)
        return error_at(Source(path, text), where, "not UTF-8, which TOML is written in")
    text = text.replace("\r\n", "\n")  # as tomllib does, so that offsets agree
    try:
        return Document(path, text, tomllib.loads(text))
    except RecursionError:
        return error_at(Source(path, text), Position(path, 1, 1), "arrays or tables nested too deeply")
    except tomllib.TOMLDecodeError as error:
        return _syntax_error(Source(path, text), str(error))
    except ValueError:  # int() refuses more than sys.get_int_max_str_digits()
        digits = max(_DIGITS.finditer(text), key=lambda match: len(match[0]))
        where = Document(path, text, {}).span(digits.start(), digits.end())
        return error_at(Source(path, text), where, "not valid TOML: a number with too many digits")


def _syntax_error(source: Source, said: str) -> ProfileError:
    at = _AT.search(said)
    message = said[: at.start()] if at else said
    lines = source.text.split("\n")
    if at and at[1]:
        line, column = int(at[1]), int(at[2])
    else:
        line = max((n for n, text in enumerate(lines, 1) if text.strip()), default=1)
        column = len(lines[line - 1]) + 1
    text = lines[line - 1]
    hint, length = "", 1
    if message.startswith("Cannot "):
        # tomllib notices a key's second definition behind its value; people look for the key.
        column = len(text) - len(text.lstrip()) + 1
        length = (
            len(text.split("=")[0].rstrip()) - column + 1 if "=" in text else len(text.rstrip()) - column + 1
        )
        message, hint = "defined twice", "a key or table can be defined only once; entries are [[mount]]"
    elif message == "Invalid value":
        word = _BARE_WORD.match(text, column - 1)
        if word is not None and word[0][0] != ".":
            length = len(word[0])
            hint = f'strings are quoted: "{word[0]}"'
            if word[0].lower() in ("true", "false"):
                hint = "true and false are written in lower case"
    message = message[:1].lower() + message[1:]
    return error_at(source, Position(source.path, line, column, length), f"not valid TOML: {message}", hint)
