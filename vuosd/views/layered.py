"""`vuos-run --cow`: a view as it is, but for what is written. No trio; all I/O is the `isdir` that is given.

A cow at a path takes the place of what the view shows there. What the view has in it stays: hidden is hidden,
read-only is read-only, a private directory is private. Only what would be written through, the writable binds
in it, become cows as well.
"""

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from vuosd.views.errors import quote
from vuosd.views.model import Entry, Kind, Layering, View
from vuosd.views.table import fold, host_paths, in_kernel_directory, is_below, is_generated, lookup

_RUN = b"/run"
"""Beside the kernel's directories: sockets, locks and numbers of processes, which mean what runs now."""


class NoCow(Exception):
    """There can be no cow at that path; the text says why, and what to do."""


def covered(
    view: View, target: bytes, isdir: Callable[[bytes], bool], sources: tuple[bytes, ...] = ()
) -> View:
    """The view with a cow at `target`, over `sources` or else over what the view shows there. NoCow."""
    table = fold(view.entries)[0]
    if is_generated(target):
        raise NoCow(
            f"{quote(target)} is the kernel's: what is written there is a command, and cannot be kept"
        )
    shows = lookup(table, target)
    served = shows is not None and (shows.kind is Kind.FILESYSTEM or shows.upon is not None)
    if not sources and not served:
        sources = _shown(table, target, isdir)
    cow = Entry(
        Kind.COW, target, sources[0] if sources else None, sources[1:], layering=Layering()
    )
    inside = [entry for entry in table.values() if is_below(entry.target, target)]
    if target == b"/" and _RUN not in table and isdir(_RUN):
        inside.append(Entry(Kind.BIND, _RUN, _RUN))
    return replace(view, entries=(*view.entries, cow, *_kept(inside, isdir)))


def _shown(table: dict[bytes, Entry], target: bytes, isdir: Callable[[bytes], bool]) -> tuple[bytes, ...]:
    entry = lookup(table, target)
    sources = tuple(filter(isdir, host_paths(entry, target)))
    if sources:
        return sources
    what = quote(target)
    if entry is not None and entry.kind is Kind.HIDE:
        raise NoCow(f"the view hides {what}, in line {entry.where.line} of its profile")
    if entry is not None and entry.kind is Kind.TMPFS:
        raise NoCow(f"the view has a private directory at {quote(entry.target)}: there is nothing to keep")
    raise NoCow(f"{what} is no directory" + ("" if entry is None else " in the view"))


def _kept(inside: list[Entry], isdir: Callable[[bytes], bool]) -> Iterator[Entry]:
    for entry in inside:
        stays = entry.kind in (Kind.HIDE, Kind.TMPFS, Kind.COW) or entry.readonly
        if stays or in_kernel_directory(entry.target) or entry.target == entry.source == _RUN:
            yield entry
        elif entry.kind is Kind.FILESYSTEM:
            yield replace(entry, readonly=True)  # or its image were changed
        elif entry.source is not None and isdir(entry.source):
            yield replace(entry, kind=Kind.COW, layering=Layering())
        else:
            raise NoCow(
                f"the view shows {quote(entry.target)} to be written, and a file of its own can be no cow: "
                f"make it readonly in line {entry.where.line} of the profile"
            )
