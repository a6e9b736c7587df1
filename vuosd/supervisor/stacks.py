"""COW and MERGE entries to what the engine wants of them: descriptors of several trees, topmost first."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from vuosd.supervisor.prepared import Refused
from vuosd.supervisor.request import Request
from vuosd.supervisor.scratch import Scratch
from vuosd.supervisor.values import Stacked
from vuosd.views import Entry, Kind, Layering, NoCow, View, covered, flatten, resolved
from vuosd.views.compile import normal
from vuosd.views.errors import quote
from vuosd.views.table import host_paths, is_below, lookup, prefixes

if TYPE_CHECKING:
    from vuosd.layers import Tree
    from vuosd.layers.record import System
    from vuosd.supervisor.held import Layers

STACKS = (Kind.COW, Kind.MERGE)
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def with_options(view: View, request: Request, layers: "Layers") -> View:
    """The view with the cows that the command line asks for. Refused."""
    try:
        for path in request.cow:
            cow = Entry(Kind.COW, normal(path, request.cwd))
            target = resolved(replace(view, entries=(*view.entries, cow)), _readlink).entries[-1].target
            view = covered(view, target, os.path.isdir)
        if request.on:
            store = normal(request.store, request.cwd) if request.store else None
            given = {entry.target for entry in flatten(view.entries) if entry.kind is Kind.COW}
            for tree in layers.resume(os.fsdecode(request.on), store):
                if tree.target not in given:
                    view = covered(view, tree.target, os.path.isdir, tree.lowers[tree.parents :])
    except NoCow as error:
        raise Refused(f"vuosd: no cow: {error}") from None
    if request.store:
        view = _in_store(view, normal(request.store, request.cwd))
    return view


def _readlink(path: bytes) -> bytes | None:
    from vuosd.supervisor.eyes import Machine

    return Machine().readlink(path)


def _in_store(view: View, store: bytes) -> View:
    """Its cows without a store of their own get this one."""
    entries = []
    for entry in view.entries:
        if entry.kind is Kind.COW:
            how = entry.layering or Layering()
            entry = replace(entry, layering=replace(how, store=how.store or store))
        entries.append(entry)
    return replace(view, entries=tuple(entries))


def without_stores(view: View, layers: "Layers", start: bytes, *, later: bool) -> View:
    """The view with every directory that layers of it are kept in hidden, by each name that it shows them by:
    what is in a layer is seen, and changed, through the engine alone. `later`: also that of cows that come
    while the session runs. Refused where that hides all of a tree, or the directory that the command starts
    in.
    """
    cows = [entry.layering or Layering() for entry in view.entries if entry.kind is Kind.COW]
    if later:
        cows.append(Layering())
    if not cows:
        return view
    table = {entry.target: entry for entry in flatten(view.entries)}
    hidden = [
        Entry(Kind.HIDE, target)
        for store in {os.path.realpath(layers.place(how.store)) for how in cows}
        for target in names_of(store, table)
    ]
    for entry in hidden:
        if entry.target in prefixes(start):
            raise Refused(f"vuosd: {quote(start)} is where layers are kept: start the command elsewhere")
    return replace(view, entries=(*view.entries, *hidden))


def names_of(store: bytes, table: dict[bytes, Entry]) -> Iterator[bytes]:
    """The paths at which a view shows a directory of the host."""
    if lookup(table, store) is None:
        yield store
    for entry in table.values():
        for source in map(os.path.realpath, entry.sources if entry.kind is not Kind.HIDE else ()):
            if source == store or is_below(source, store):
                raise Refused(
                    f"vuosd: {quote(source)}, shown at {quote(entry.target)}, lies in {quote(store)}, where "
                    "layers of this view are kept: show something else, or keep them elsewhere with store="
                )
            target = entry.target.rstrip(b"/") + store[len(source.rstrip(b"/")) :]
            if is_below(store, source) and lookup(table, target) is entry:
                yield target


def settled(entries: Iterable[Entry], scratch: Scratch) -> Iterator[Entry]:
    """The entries, with only those trees of a COW or MERGE that are there. What has one tree left that is no
    directory, and is no COW, is a bind.
    """
    for entry in entries:
        if entry.kind is Kind.COW and not entry.sources and entry.upon is None:
            entry = replace(entry, source=scratch.make(entry.mode))  # over a tmpfs
        elif entry.kind in (Kind.COW, Kind.MERGE) and entry.more:
            found = [source for source in entry.sources if os.path.lexists(source)]
            there = [source for source in found if os.path.isdir(source)]
            if entry.kind is Kind.MERGE and found[:1] != there[:1]:
                entry = replace(entry, kind=Kind.BIND, source=found[0], more=())
            elif there:
                entry = replace(entry, source=there[0], more=tuple(there[1:]))
        yield entry


def system_of(entry: Entry) -> bytes:
    """What a COW is upon, by name: for the record of its layer, and for people."""
    served = entry.upon.served if entry.upon is not None else None
    assert served is not None
    return os.fsencode(f"{served.type} of ") + (served.path or os.fsencode(served.source) or b"nothing")


def mount_of(entry: Entry, entries: Iterable[Entry]) -> "System | None":
    """How what a COW of a profile is upon can be mounted without the view; None where that is not to be had:
    from what a cow shows, and as nothing but a module knows.
    """
    from vuosd.layers.record import System
    from vuosd.supervisor.mounting.errors import MountError
    from vuosd.supervisor.mounting.options import MS_RDONLY
    from vuosd.supervisor.mounting.profile import wanted

    assert entry.upon is not None
    try:
        how = wanted(entry.upon)
    except MountError:
        return None  # which who mounts it says
    path = os.path.realpath(os.fsencode(how.path)) if how.path else b""
    shows = lookup({other.target: other for other in entries}, path) if path.startswith(b"/") else None
    if shows is not None and shows.kind is Kind.COW:
        return None
    directory = os.path.relpath(entry.target, entry.upon.target)
    readonly = bool(how.flags & MS_RDONLY)
    return System(how.type, how.path, how.data, os.fsdecode(directory), readonly)


def with_handles(stack: Stacked, scratch: Scratch) -> Stacked:
    """With what programs get for its directories, where those of the lowest tree have a place of their own.
    OSError.
    """
    if stack.paths[-1] == stack.target:
        return stack
    handles = os.open(scratch.make(0o1777), _DIRECTORY)
    return stack._replace(handles=handles, handles_path=os.readlink(b"/proc/self/fd/%d" % handles))


def stacked(entry: Entry, layers: "Layers | None", upon: tuple[bytes, ...] = ()) -> Stacked:
    """`upon`: a tree below all others. OSError for what cannot be opened."""
    opened: list[int] = []
    try:
        if entry.kind is Kind.MERGE or layers is None:
            return _stacked(entry, entry.sources, opened)
        tree, layer = layers.tree(entry.target)
        sources = entry.sources or (tree.system,)
        made = _stacked(entry, (tree.upper, *tree.lowers, *upon), opened)
        work = os.open(tree.work, _DIRECTORY)
        opened.append(work)
        origins = os.open(tree.origins, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return made._replace(
            sources=sources,
            work=work,
            origins=origins,
            attribute_whiteouts=not _makes_whiteouts(tree),
            layer=layer,
            size=(entry.size or 0) if layer else 0,
        )
    except BaseException:
        for fd in opened:
            os.close(fd)
        raise


def _stacked(entry: Entry, trees: Sequence[bytes], opened: list[int]) -> Stacked:
    for tree in trees:
        opened.append(os.open(tree, _DIRECTORY))
    how = entry.layering or Layering()
    return Stacked(
        kind="merge" if entry.kind is Kind.MERGE else "mincow" if how.minimal else "cow",
        target=entry.target,
        writable=not entry.readonly,
        sync=how.sync,
        descriptors=tuple(opened),
        # As the kernel names them: the engine compares this text with what links in /proc read.
        paths=tuple(os.readlink(b"/proc/self/fd/%d" % fd) for fd in opened),
        sources=entry.sources,
    )


def _makes_whiteouts(tree: "Tree") -> bool:
    """Whether mknod(2) of the device 0:0 is allowed: a seccomp profile or a security module may refuse it."""
    path = tree.work + b"/probe"
    try:
        os.mknod(path, stat.S_IFCHR, 0)
    except FileExistsError:
        pass
    except OSError:
        return False
    os.unlink(path)
    return True


def first_directory(entry: Entry, path: bytes, layers: "Layers | None") -> bytes | None:
    """A directory of the host that the view shows at a path, in a COW or a MERGE."""
    rest = path[len(entry.target.rstrip(b"/")) :]
    found = list(host_paths(entry, path))
    if layers is not None and entry.kind is Kind.COW:
        tree, _ = layers.tree(entry.target)
        found += [tree.upper + rest, *(lower + rest for lower in tree.lowers)]
    return next(filter(os.path.isdir, found), None)
