"""Changes as a patch, and as counts of lines."""

import sys
from collections.abc import Sequence

from vuosd.cli.layer_arguments import Paths
from vuosd.cli.output import print_text
from vuosd.cli.status import colours
from vuosd.layers import Tree
from vuosd.layers.changes import Change, Comparison
from vuosd.layers.patch import patch, size

Compared = Sequence[tuple[Tree, Comparison, list[Change]]]

_COLOURS = {b"+": b"32", b"-": b"31", b"@": b"36", b"d": b"1"}
_WIDTH = 40


def print_patch(compared: Compared) -> None:
    """Bytes as they are in the files, whatever the terminal makes of them."""
    out = sys.stdout.buffer
    colour = colours()
    for tree, comparison, changes in compared:
        prefix = tree.target.strip(b"/") if len(compared) > 1 else b""
        for piece in patch(comparison, changes, prefix):
            paint = _COLOURS.get(piece[:1]) if colour else None
            if paint is None:
                out.write(piece)
            else:
                text = piece.rstrip(b"\n")
                out.write(b"\x1b[%sm%s\x1b[m%s" % (paint, text, piece[len(text) :]))
    out.flush()


def print_stat(paths: Paths, compared: Compared) -> None:
    rows: list[tuple[str, int, int, str]] = []
    for tree, comparison, changes in compared:
        for change in changes:
            of = size(comparison, change)
            name = paths.text(tree, change.path, directory=change.is_directory)
            if of is None:
                if not change.is_directory or change.attributes:
                    rows.append((name, 0, 0, "0"))
            elif of.binary:
                rows.append((name, 0, 0, f"binary, {of.removed} → {of.added} bytes"))
            else:
                rows.append((name, of.added, of.removed, ""))
    width = max((len(name) for name, *_ in rows), default=0)
    most = max((added + removed for _, added, removed, _ in rows), default=0)
    plus, minus = ("\x1b[32m%s\x1b[m", "\x1b[31m%s\x1b[m") if colours() else ("%s", "%s")
    for name, added, removed, note in rows:
        bars = note
        if not note:
            scale = min(1.0, _WIDTH / most) if most else 0
            ups, downs = (max(1, round(count * scale)) if count else 0 for count in (added, removed))
            bars = f"{added + removed:>5} {plus % ('+' * ups)}{minus % ('-' * downs)}"
        _print(f" {name:{width}} | {bars}")
    total_added, total_removed = sum(row[1] for row in rows), sum(row[2] for row in rows)
    print_text(f" {len(rows)} changed, {total_added} lines added, {total_removed} lines removed")


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
