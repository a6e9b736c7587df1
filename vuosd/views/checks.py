"""What is wrong with a view on this machine, before the command starts. No trio; all I/O is the `exists` that
is given.

`exists` says whether a host path exists, not following a symlink at its end (os.path.lexists): in a foreign
root a symlink may well point at what only exists there.
"""

import os
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from vuosd.views.document import Document, error_at, parse
from vuosd.views.errors import ProfileError, quote
from vuosd.views.model import Entry, Kind, Position, Source, View
from vuosd.views.table import fold, host_path, lookup

Exists = Callable[[bytes], bool]

_OPTIONAL = "optional = true leaves such an entry out"


def available(view: View, exists: Exists) -> View:
    """The view without its optional entries that have nothing to show."""
    absent = {entry for entry, _, _ in _absent(view, exists) if entry.optional}
    entries = tuple(entry for entry in view.entries if entry not in absent)
    return replace(view, entries=entries) if absent else view


def missing_sources(view: View, exists: Exists) -> list[ProfileError]:
    """An error for each entry that has nothing to show and is not optional."""
    return [
        _error(view, _source_position(view, entry), message, hint)
        for entry, message, hint in _absent(view, exists)
        if not entry.optional
    ]


def hidden_command(view: View, command: bytes, exists: Exists) -> list[ProfileError]:
    """An error when the view withholds the command's own file; `command` is its absolute path."""
    return _hidden(view, command, f"the command itself, {quote(command)}", exists, "")


def hidden_cwd(view: View, cwd: bytes, exists: Exists) -> list[ProfileError]:
    """An error when the view withholds the directory in which the command starts."""
    hint = 'show it again in a later [[mount]]: type = "bind", target = "."'
    return _hidden(view, cwd, f"the directory that the command starts in, {quote(cwd)}", exists, hint)


def _hidden(view: View, path: bytes, what: str, exists: Exists, hint: str) -> list[ProfileError]:
    table, _ = fold(view.entries)
    entry = lookup(table, path)
    if entry is None or (entry.kind is Kind.TMPFS and entry.target == path):
        return []
    source = host_path(entry, path)
    if entry.kind is Kind.HIDE:
        message = f"this hides {what}"
    elif source is None:
        message = f"the empty tmpfs at {quote(entry.target)} hides {what}"
    elif exists(source):
        return []
    else:
        message = f"what is shown at {quote(entry.target)} lacks {what}"
        hint = f"{quote(source)} does not exist"
    return [_error(view, entry.where, message, hint)]


def _absent(view: View, exists: Exists) -> Iterator[tuple[Entry, str, str]]:
    """Entries with nothing to show, each with message and hint."""
    left = []
    for entry in view.entries:
        if entry.kind in (Kind.BIND, Kind.ROOT) and entry.source is not None and not exists(entry.source):
            yield (
                entry,
                f"source {quote(entry.source)} does not exist",
                _OPTIONAL if entry.kind is Kind.BIND else "",
            )
            if entry.optional:
                continue
        left.append(entry)
    for entry, below in fold(left)[1]:
        yield from _absent_readonly(entry, below, exists)


def _absent_readonly(entry: Entry, below: Entry | None, exists: Exists) -> Iterator[tuple[Entry, str, str]]:
    entry_text = quote(entry.target)
    shown = 'to show it read-only: type = "bind", readonly = true'
    source = host_path(below, entry.target)
    if source is not None:
        if not exists(source):
            yield entry, f"{quote(source)} does not exist", _OPTIONAL
    elif below is not None and below.kind is Kind.HIDE:
        yield entry, f"{entry_text} is hidden by the entry in line {below.where.line}", shown
    elif below is not None and below.target != entry.target:
        yield entry, f"{entry_text} lies in the empty tmpfs of line {below.where.line}", shown


def _error(view: View, where: Position, message: str, hint: str) -> ProfileError:
    source = next((source for source in view.sources if source.path == where.path), Source(where.path, ""))
    return error_at(source, where, message, hint)


def _source_position(view: View, entry: Entry) -> Position:
    """Where the entry's source is written; its target's place when it is not."""
    text = next((source.text for source in view.sources if source.path == entry.where.path), None)
    document = parse(entry.where.path, os.fsencode(text)) if text is not None else None
    if isinstance(document, Document):
        for at, spot in document.spots.items():
            if at[2:3] == ("target",) and document.span(spot.start, spot.end) == entry.where:
                source = (*at[:2], "source")
                return document.position(source) if source in document.spots else entry.where
    return entry.where
