"""Which changes a commit is about, and which of them it leaves out. No I/O."""

from collections.abc import Iterable, Sequence

from vuosd.layers.beneath import ancestors
from vuosd.layers.changes import Change, Comparison, Kind


def covered(path: bytes, roots: Iterable[bytes]) -> bool:
    """Whether `path` is one of `roots`, or below one."""
    return any(not root or path == root or path.startswith(root + b"/") for root in roots)


def selected(changes: Sequence[Change], roots: Sequence[bytes] | None) -> list[Change]:
    """Those at and below `roots` (None: all), with what they need: the directories that lead to them, the
    other names of the same files, and all of a directory in whose place something else comes."""
    if roots is None:
        return list(changes)
    by_path = {change.path: change for change in changes}
    taken: dict[bytes, Change] = {}
    pending = [change for change in changes if covered(change.path, roots)]
    while pending:
        change = pending.pop()
        if change.path in taken:
            continue
        taken[change.path] = change
        for path in ancestors(change.path):
            above = by_path.get(path)
            if above is not None and above.kind in (Kind.ADDED, Kind.TYPE) and change.new is not None:
                pending.append(above)
        pending += [by_path[path] for path in change.links if path in by_path]
        if change.kind is Kind.TYPE and change.old is not None and change.old.is_directory:
            below = change.path + b"/"
            pending += [other for other in changes if other.path.startswith(below)]
    return [change for change in changes if change.path in taken]


def tied(comparison: Comparison, paths: Iterable[bytes]) -> bytes | None:
    """A path whose object lies elsewhere in the trees below, and would have to go together with one of
    `paths`: these lie below it, lead to it, or belong to where it lies. None: there is none."""
    moved = {}
    for change in comparison.found:
        if change.new is not None:
            place = (change.new.data or change.new.parts[-1])[1]
            if place != change.path:
                moved[change.path] = (change.path, place)
    for path in paths:
        # A directory that covers the one below it changes for everything in it when something leaves it.
        covering = [above for above in (b"", *ancestors(path)) if above in comparison.covering]
        for name, places in moved.items():
            if any(covered(path, [place]) or covered(place, [path, *covering[:1]]) for place in places):
                return name
    return None


def left_out(changes: Sequence[Change], conflicting: Iterable[bytes]) -> set[bytes]:
    """What cannot be done when `conflicting` are to stay as they are in the real tree."""
    by_path = {change.path: change for change in changes}
    out = set(conflicting)
    trees = []
    for path in list(out):
        change = by_path[path]
        if change.kind is not Kind.METADATA:
            trees.append(path)
        for above in ancestors(path):
            other = by_path.get(above)
            if other is None or other.old is None or not other.old.is_directory:
                continue
            if other.kind is Kind.DELETED:
                out.add(above)  # it is not empty then
            elif other.kind is Kind.TYPE:
                trees.append(above)
    if trees:
        roots = set(trees)
        for change in changes:
            if change.path in roots or any(above in roots for above in ancestors(change.path)):
                out.add(change.path)
    return out
