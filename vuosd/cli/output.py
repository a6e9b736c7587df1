"""How vuctl prints: tables, sizes of time, JSON; and its one way to fail."""

import json
import sys
from collections.abc import Sequence
from typing import Any


def fail(error: object) -> int:
    """One sentence on stderr, exit status 1."""
    print(f"vuctl: {error}", file=sys.stderr)
    return 1


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)  # ASCII: bytes that are no text can be written only escaped
    print()


def print_text(text: str = "") -> None:
    """Names are bytes that need not be UTF-8, and text that a terminal need not show."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they need be; the last one may be cut by nothing but the terminal."""
    cells = [head, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head) - 1)]
    for row in cells:
        left = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        print_text(f"{left}  {row[-1]}".rstrip())


def age(seconds: float) -> str:
    """3s, 12m, 5h, 2d."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def command_line(words: Sequence[str], width: int = 60) -> str:
    import shlex

    line = shlex.join(words)
    line = "".join(character if character.isprintable() else "�" for character in line)
    return line if len(line) <= width else line[: width - 1] + "…"
