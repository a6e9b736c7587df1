"""What a person is told about a profile: position, message, the line, a caret, a hint. No I/O, no trio.

ci.toml:12:8: unknown type "hid"
  type = "hid"
         ^^^^^   did you mean "hide"?
"""

from collections.abc import Iterable, Sequence

import msgspec

_WINDOW = 120


class ProfileError(msgspec.Struct, frozen=True):
    """One mistake in a profile. Line 0: the whole file. `text` is the line, `length` that of the span."""

    path: bytes
    line: int
    column: int
    message: str
    hint: str = ""
    text: str = ""
    length: int = 1

    def __str__(self) -> str:
        path = printable(self.path.decode("utf-8", "replace"))
        if not self.line:
            return f"{path}: {self.message}" + (f"\n  {self.hint}" if self.hint else "")
        line, pad, carets = _quoted_line(self.text, self.column - 1, self.length)
        caret_line = f"  {pad}{carets}" + (f"   {self.hint}" if self.hint else "")
        return f"{path}:{self.line}:{self.column}: {self.message}\n  {line}\n{caret_line}"


class ProfileErrors(Exception):
    """Everything that is wrong with a profile, at once."""

    def __init__(self, errors: Iterable[ProfileError]) -> None:
        self.errors: tuple[ProfileError, ...] = tuple(errors)
        super().__init__(self.errors)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def printable(text: str) -> str:
    """Text that is safe on a terminal: a stranger's profile may hold escape sequences."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def quote(text: str | bytes) -> str:
    """A value as messages name it."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return '"' + printable(text) + '"'


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    from difflib import get_close_matches  # only a profile with a mistake pays for this import

    names = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return names[close[0]] if close else None


def did_you_mean(word: str, known: Sequence[str], what: str = "known") -> str:
    """The hint for an unknown word: the nearest known one, else all of them when they are few."""
    close = nearest(word, known)
    if close is not None:
        return f"did you mean {quote(close)}?"
    return f"{what}: {', '.join(known)}" if 0 < len(known) <= 12 else ""


def _quoted_line(text: str, start: int, length: int) -> tuple[str, str, str]:
    """The line (a window of it when it is long), the padding in front of the carets, and the carets."""
    cut = max(0, start - _WINDOW // 2) if len(text) > _WINDOW else 0
    shown = text[cut : cut + _WINDOW]
    start = min(start - cut, len(shown))
    length = max(1, min(length, len(shown) - start))
    lead = "…" if cut else ""
    tail = "…" if cut + _WINDOW < len(text) else ""
    pad = " " * len(lead) + "".join("\t" if c == "\t" else " " * _cells(c) for c in shown[:start])
    carets = "^" * max(1, sum(_cells(c) for c in shown[start : start + length]))
    line = lead + "".join(c if c == "\t" else printable(c) for c in shown) + tail
    return line.rstrip(), pad, carets


def _cells(character: str) -> int:
    """Terminal cells of a character, so that the caret stands under what it points at."""
    from unicodedata import combining, east_asian_width

    if combining(character):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1
