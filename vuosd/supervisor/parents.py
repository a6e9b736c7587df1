"""Directories that a view has only because entries lie below them.

A target such as /a/b/c where nothing has an /a: a mount(2) there would fail, an entry of a view need not.
What leads to it are real directories, made at the start, so that they can be looked at, listed and entered
like any other: below a tmpfs entry in it, else in a private tree of the session that is shown, read-only, at
the first directory that is missing.

A HIDE with entries below it is such a directory too: it shows what leads to them, and nothing else.
"""

import os
from collections.abc import Callable, Mapping

from vuosd.supervisor.scratch import Scratch
from vuosd.supervisor.values import Placed
from vuosd.views.model import Entry, Kind
from vuosd.views.table import host_paths, lookup, prefixes

_MODE = 0o755

Exists = Callable[[bytes], bool]


def with_parents(
    table: Mapping[bytes, Entry], placed: list[Placed], scratch: Scratch, exists: Exists = os.path.lexists
) -> list[Placed]:
    """Makes what is missing; `placed`, with the entries that show it. OSError where it cannot be made.
    `exists`: whether something is at a path of the host.
    """
    tmpfs = {one.target: one for one in placed if one.kind == Kind.TMPFS}
    made: dict[bytes, bytes] = {}
    """Directories of ours by view path."""
    shown: list[Placed] = []
    known: set[bytes] = set()
    for target, entry in table.items():
        above = os.path.dirname(target)
        if entry.kind is Kind.HIDE or above in known:
            continue
        known.add(above)
        lacking: list[bytes] = []
        for path in prefixes(above):
            if path in made:
                break
            hidden = path in table and table[path].kind is Kind.HIDE
            if not hidden and (path in table or _exists(table, path, exists)):
                break
            lacking.append(path)
            if hidden:
                break
        for path in reversed(lacking):
            decides = lookup(table, path)
            inside = made.get(os.path.dirname(path))
            if inside is not None:
                made[path] = _make(inside + b"/" + os.path.basename(path))
            elif decides is not None and decides.kind is Kind.TMPFS:
                top = b"/proc/self/fd/%d" % tmpfs[decides.target].source
                made[path] = _make(top + path[len(decides.target.rstrip(b"/")) :])
            else:
                made[path] = scratch.make(_MODE)
                fd = os.open(made[path], os.O_PATH | os.O_CLOEXEC)
                shown.append(Placed(Kind.BIND, True, path, fd, os.readlink(b"/proc/self/fd/%d" % fd)))
    instead = {one.target for one in shown}
    return [*(one for one in placed if one.target not in instead), *shown]


def _exists(table: Mapping[bytes, Entry], path: bytes, exists: Exists) -> bool:
    """What is there but is no directory leads nowhere, as it would below a mount."""
    decides = lookup(table, path)
    if decides is not None and decides.kind is Kind.FILESYSTEM:
        return True  # that is seen when it is mounted
    if decides is not None and decides.kind is Kind.TMPFS:
        return decides.target == path
    return any(map(exists, host_paths(decides, path)))


def _make(path: bytes) -> bytes:
    os.mkdir(path)
    os.chmod(path, _MODE)  # the umask must not count
    return path
