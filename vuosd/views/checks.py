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
from vuosd.views.table import Cover, fold, grounded, host_paths, lookup, prefixes, ungrounded

Exists = Callable[[bytes], bool]
Realpath = Callable[[bytes], bytes]

_OPTIONAL = "optional = true leaves such an entry out"


def available(view: View, exists: Exists) -> View:
    """The view without its optional entries that have nothing to show."""
    absent = {entry for entry, *_ in _absent(view, exists) if entry.optional}
    entries = tuple(entry for entry in view.entries if entry not in absent)
    return replace(view, entries=entries) if absent else view


def missing_sources(view: View, exists: Exists) -> list[ProfileError]:
    """An error for each entry that has nothing to show and is not optional."""
    return [
        _error(view, _position(view, entry, *key), message, hint)
        for entry, key, message, hint in _absent(view, exists)
        if not entry.optional
    ]


def misplaced_stores(view: View, realpath: Realpath) -> list[ProfileError]:
    """An error for each COW whose layer would lie in the very tree that it is a layer over."""
    errors = []
    for entry in grounded(view.entries):
        if entry.layering is None or entry.layering.store is None:
            continue
        store = realpath(entry.layering.store)
        for source in entry.sources:
            if realpath(source) in prefixes(store):
                message = f"the store {quote(entry.layering.store)} lies in {quote(source)}, the tree itself"
                hint = "leave store out, or name a directory outside of the tree"
                errors.append(_error(view, _position(view, entry, "store"), message, hint))
    return errors


def hidden_command(view: View, command: bytes, exists: Exists) -> list[ProfileError]:
    """An error when the view withholds the command's own file; `command` is its absolute path. What a file
    system has there is known only when it is mounted.
    """
    entry = lookup(fold(view.entries)[0], command)
    if entry is not None and (entry.kind is Kind.FILESYSTEM or entry.upon is not None):
        return []
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
    if entry.kind is Kind.COW and (entry.upon is None or entry.target == path):
        return []  # its layer may have it
    sources = host_paths(entry, path)
    if entry.kind is Kind.HIDE:
        message = f"this hides {what}"
    elif entry.kind is Kind.FILESYSTEM or entry.upon is not None:
        message = f"the file system at {quote(entry.target)} is mounted over {what}"
    elif not sources:
        message = f"the empty tmpfs at {quote(entry.target)} hides {what}"
    elif any(map(exists, sources)):
        return []
    else:
        message = f"what is shown at {quote(entry.target)} lacks {what}"
        hint = f"{quote(sources[0])} does not exist"
    return [_error(view, entry.where, message, hint)]


_Absent = tuple[Entry, tuple[str | int, ...], str, str]


def _absent(view: View, exists: Exists) -> Iterator[_Absent]:
    """Entries with nothing to show, each with the key to blame, message and hint."""
    left = []
    for entry in view.entries:
        missing = False
        for index, source in enumerate(entry.sources):
            if entry.kind is not Kind.HIDE and not exists(source):
                missing = True
                key = ("source", index) if entry.kind is Kind.MERGE else ("source",)
                hint = _OPTIONAL if entry.kind is Kind.BIND else ""
                yield entry, key, f"source {quote(source)} does not exist", hint
        if not (missing and entry.optional):
            left.append(entry)
    cover = Cover()
    for given, entry in zip(left, grounded(left), strict=True):
        if ungrounded(given):
            yield from _absent_below(given, entry, cover.at(entry.target), exists)
        if entry.kind is not Kind.RO:
            cover.add(entry)
    for entry, below in fold(left)[1]:
        yield from _absent_readonly(entry, below, exists)


def _absent_below(given: Entry, entry: Entry, below: Entry | None, exists: Exists) -> Iterator[_Absent]:
    """What is wrong with an entry that shows what earlier ones have put at its target."""
    what = quote(entry.target)
    if entry.sources:
        if not any(map(exists, entry.sources)):
            yield given, (), f"{quote(entry.sources[0])} does not exist", "make it first, or name a source"
    elif entry.upon is not None:
        pass  # what that has there is known when it is mounted
    elif below is not None and below.kind is Kind.COW:
        if below.upon is not None:
            line = below.upon.where.line
            yield given, (), f"{what} lies in the file system of line {line}", "name a source"
        elif below.layering and below.layering.ephemeral:  # else the cow itself is wrong, which is told
            yield (
                given,
                (),
                f"{what} does not exist: the cow of line {below.where.line} is of an empty tmpfs",
                "",
            )
    elif below is not None and below.kind is Kind.HIDE:
        yield given, (), f"{what} is hidden by the entry in line {below.where.line}", "name a source"
    elif below is not None and below.kind is Kind.FILESYSTEM:
        yield given, (), f"{what} lies in the file system of line {below.where.line}", "name a source"
    elif below is not None and below.target != entry.target:
        yield given, (), f"{what} lies in the empty tmpfs of line {below.where.line}", "name a source"
    elif below is not None and not (entry.layering and entry.layering.ephemeral):
        line = below.where.line
        hint = "ephemeral = true, or leave the tmpfs out"
        yield given, (), f"{what} is the tmpfs of line {line}, which does not outlive the session", hint


def _absent_readonly(entry: Entry, below: Entry | None, exists: Exists) -> Iterator[_Absent]:
    entry_text = quote(entry.target)
    shown = 'to show it read-only: type = "bind", readonly = true'
    sources = host_paths(below, entry.target)
    if sources:
        if not any(map(exists, sources)):
            yield entry, (), f"{quote(sources[0])} does not exist", _OPTIONAL
    elif below is not None and below.kind is Kind.HIDE:
        yield entry, (), f"{entry_text} is hidden by the entry in line {below.where.line}", shown
    elif below is not None and (below.kind is Kind.FILESYSTEM or below.upon) and below.target != entry.target:
        hint = "it can be made read-only as a whole"
        line = (below.upon or below).where.line
        yield entry, (), f"{entry_text} lies in the file system of line {line}", hint
    elif below is not None and below.target != entry.target:
        yield entry, (), f"{entry_text} lies in the empty tmpfs of line {below.where.line}", shown


def about(view: View, entry: Entry, key: str, message: str, hint: str = "") -> ProfileError:
    """An error about a key of an entry's mount, or about all of it where that key is not given."""
    return _error(view, _position(view, entry, key), message, hint)


def _error(view: View, where: Position, message: str, hint: str) -> ProfileError:
    source = next((source for source in view.sources if source.path == where.path), Source(where.path, ""))
    return error_at(source, where, message, hint)


def _position(view: View, entry: Entry, *key: str | int) -> Position:
    """Where a value of the entry's mount is written; its target's place when it is not."""
    if not key:
        return entry.where
    text = next((source.text for source in view.sources if source.path == entry.where.path), None)
    document = parse(entry.where.path, os.fsencode(text)) if text is not None else None
    if isinstance(document, Document):
        for at, spot in document.spots.items():
            if at[2:3] == ("target",) and document.span(spot.start, spot.end) == entry.where:
                wanted = (*at[:2], *key)
                return document.position(wanted) if wanted in document.spots else entry.where
    return entry.where
