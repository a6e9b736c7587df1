"""A profile becomes what the engine and the launcher need: descriptors, paths, an environment, a ruleset.

    Request ──load, resolve, check──▶ View ──open, make──▶ Prepared

Everything that can be wrong is found here, before the command exists. The run without a profile takes none of
this, and imports none of it.
"""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from vuosd.supervisor import floor, stacks
from vuosd.supervisor.messages import LONGEST_TEXT
from vuosd.supervisor.parents import with_parents
from vuosd.supervisor.prepared import Prepared, Refused
from vuosd.supervisor.request import Request, command, pairs
from vuosd.supervisor.runtime import RuntimeUnavailable, control_path
from vuosd.supervisor.scratch import Scratch, Sized, SizeUnavailable, parent
from vuosd.supervisor.stacks import STACKS
from vuosd.supervisor.values import Placed, Stacked
from vuosd.supervisor.view import view_of
from vuosd.views import (
    Entry,
    Kind,
    ProfileError,
    ProfileErrors,
    View,
    hidden_command,
    hidden_cwd,
)
from vuosd.views.document import error_at
from vuosd.views.model import Position, Source
from vuosd.views.table import fold, host_path, lookup, prefixes

if TYPE_CHECKING:
    from vuosd.supervisor.held import Layers

_RESERVED = 16
"""Layers that may come in an enforcing view while it runs."""
_DEFAULT_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"


def prepare(request: Request, scratch: Scratch) -> Prepared:
    """What the session of a request for a view is made of, or Refused."""
    layers: Layers | None = None
    try:
        view = View(name="")
        if request.profile:
            view = view_of(request.profile, request.variables(), request.cwd)
        stacked = any(entry.kind in STACKS for entry in view.entries)
        if request.cow or request.on or stacked or _fenced_cows(view):
            from vuosd.supervisor import held

            layers = held.Layers(request.variables(), scratch)
        return _prepare(request, view, scratch, layers)
    except BaseException as error:
        if layers is not None:
            layers.finish(None)
        if not isinstance(error, ProfileErrors):
            raise
        text = str(error)
        more = (
            f"\n({len(error.errors)} mistakes; `vuctl check` shows all)"
            if len(text) > LONGEST_TEXT - 200
            else ""
        )
        raise Refused(text[: LONGEST_TEXT - 200] + more) from None


def _prepare(request: Request, view: View, scratch: Scratch, layers: "Layers | None") -> Prepared:
    env = request.variables()
    if layers is not None:
        view = stacks.with_options(view, request, layers)
    start = view.cwd or request.cwd
    errors = [*hidden_cwd(view, start, os.path.lexists), *_hidden_command(view, request, env, start)]
    if errors:
        raise ProfileErrors(errors)
    if layers is not None:
        view = stacks.without_stores(view, layers, start, later=_fenced_cows(view))
    if view.enforce:
        view = _withhold_ourselves(view)
    table = fold(view.entries)[0]
    if layers is not None:
        table = {entry.target: entry for entry in stacks.settled(table.values(), scratch)}
        name = os.fsdecode(request.name) or view.name or None
        try:
            layers.give(table.values(), name, request.arguments[0])
        except SizeUnavailable as why:
            sized = next(entry for entry in table.values() if entry.kind is Kind.COW and entry.size)
            raise _no_size(view, sized, "cow", why) from None
        if _fenced_cows(view):
            layers.reserve(_RESERVED)
    entries = tuple(table.values())
    placer = Placer(view, scratch, layers)
    systems = _systems(table)
    opened = [entry for entry in entries if entry.kind is not Kind.FILESYSTEM]
    opened += [entry for entry in systems.values() if not _lies_on_cow(entry, table, layers)]
    placed = _with_parents(view, _with_layers(table, layers), placer.place(opened), scratch)
    placed, stacked, late = _late(view, systems, placed, placer.stacked, entries)
    if view.enforce and (view.allow or view.modules or late):
        scratch.make(0o700)  # what is mounted later lies beside it, which the floor has to know
    landlock = _floor(entries, scratch, layers) if view.enforce else None
    rules = view.env
    unchanged = not (rules.set or rules.unset)
    return Prepared(
        view=view,
        name=os.fsdecode(request.name) or view.name or (layers.name if layers else ""),
        enforce=view.enforce,
        allow=view.allow,
        keep_tree=view.keep_tree,
        placed=placed,
        stacked=stacked,
        layers=layers,
        command=request.command if unchanged else command(request.arguments, pairs(rules.apply(env).items())),
        cwd=_cwd(lookup(table, start), start, request.cwd, placed, view, layers),
        start=start,
        landlock=landlock,
        late=late,
        several=any(entry.kind in STACKS for entry in entries),
    )


def _fenced_cows(view: View) -> bool:
    """Whether cows may come while the session runs, of which the floor has to know beforehand."""
    return view.enforce and view.allow is not None and "cow" in view.allow


def _error_about(view: View, where: Position, message: str, hint: str = "") -> ProfileError:
    source = next((source for source in view.sources if source.path == where.path), Source(where.path, ""))
    return error_at(source, where, message, hint)


def _no_size(view: View, entry: Entry, what: str, why: SizeUnavailable) -> ProfileErrors:
    message = f"a {what} with a size needs a mount of its own, which this machine refuses ({why})"
    hint = "without size it works; `vuctl doctor` says what is missing"
    return ProfileErrors([_error_about(view, entry.where, message, hint)])


def _hidden_command(view: View, request: Request, env: Mapping[str, str], cwd: bytes) -> list[ProfileError]:
    """Errors when every file of the host that could be the command is withheld. What only a foreign root has
    is found by execve(2).
    """
    name = request.arguments[0]
    first: list[ProfileError] = []
    for path in _candidates(name, os.fsencode(view.env.apply(env).get("PATH", _DEFAULT_PATH)), cwd):
        if not os.access(path, os.X_OK) or os.path.isdir(path):
            continue
        errors = hidden_command(view, os.path.normpath(path), os.path.lexists)
        if not errors:
            return []
        first = first or list(errors)
    return first


def _candidates(name: bytes, path: bytes, cwd: bytes) -> Iterator[bytes]:
    if b"/" in name:
        yield os.path.join(cwd, name)
    elif name:
        for directory in path.split(b":"):
            yield os.path.join(cwd, directory, name)


def _withhold_ourselves(view: View) -> View:
    """An enforcing view shows neither the daemon's socket nor other sessions' private directories."""
    paths = []
    try:
        paths.append(os.fsencode(control_path(os.environ).parent))
    except RuntimeUnavailable:
        pass
    try:
        paths.append(parent())
    except OSError:
        pass
    hidden = tuple(Entry(Kind.HIDE, os.path.realpath(path)) for path in paths)
    return replace(view, entries=(*view.entries, *hidden))


def _lies_on_cow(entry: Entry, table: Mapping[bytes, Entry], layers: "Layers | None") -> bool:
    """Whether a file system is mounted on a directory of a COW, which shows again when it is unmounted."""
    below = lookup(table, os.path.dirname(entry.target)) if entry.kind is Kind.FILESYSTEM else None
    if below is None or below.kind is not Kind.COW:
        return False
    return stacks.first_directory(below, entry.target, layers) is not None


def _systems(table: Mapping[bytes, Entry]) -> dict[bytes, Entry]:
    """The file systems, by target. What only a cow stands upon is not written to."""
    systems = {target: entry for target, entry in table.items() if entry.kind is Kind.FILESYSTEM}
    for entry in table.values():
        if entry.upon is not None and entry.upon.target not in systems:
            minimal = entry.layering is not None and entry.layering.minimal
            covered = entry.target == entry.upon.target and not minimal
            systems[entry.upon.target] = replace(entry.upon, readonly=covered or entry.upon.readonly)
    return systems


def _with_layers(table: Mapping[bytes, Entry], layers: "Layers | None") -> Mapping[bytes, Entry]:
    """With a layer's own tree among those of its COW: a directory may be only there."""
    shown = dict(table)
    for tree in layers.trees() if layers else ():
        entry = shown[tree.target]
        if entry.upon is None:
            shown[tree.target] = replace(entry, more=(*entry.more, tree.upper))
    return shown


def _late(
    view: View,
    systems: Mapping[bytes, Entry],
    placed: Sequence[Placed],
    stacked: Sequence[Stacked],
    entries: Sequence[Entry],
) -> tuple[list[Placed], list[Stacked], list[Entry | Placed | Stacked]]:
    """What is there before the session runs, and what is mounted when it does: file systems, what lies in
    them, and cows upon them.
    """

    def inside(target: bytes) -> bool:
        return any(above in systems for above in prefixes(target) if above != target)

    for entry in entries:
        kept = entry.layering is not None and not entry.layering.ephemeral
        if kept and entry.size and (entry.upon is not None or inside(entry.target)):
            text = "of the cows in file systems only an ephemeral one can have a size"
            raise ProfileErrors([_error_about(view, entry.where, text)])
    upon = [entry for entry in entries if entry.upon is not None]
    late: list[Entry | Placed | Stacked] = [*systems.values()]
    late += [one for one in placed if inside(one.target) and one.target not in systems]
    late += [one for one in stacked if inside(one.target)]
    late += upon
    late.sort(key=lambda one: len(one.target))
    early = [one for one in placed if not inside(one.target)]
    return early, [one for one in stacked if not inside(one.target)], late


class Placer:
    """Opens what entries show."""

    def __init__(self, view: View, scratch: Scratch, layers: "Layers | None") -> None:
        self.view = view
        self.scratch = scratch
        self.layers = layers
        self.stacked: list[Stacked] = []

    def place(self, entries: Sequence[Entry]) -> list[Placed]:
        whole = [entry for entry in entries if entry.kind in STACKS and entry.upon is None]
        self.stacked = [self._stack(entry) for entry in whole]
        entries = [entry for entry in entries if entry.kind not in STACKS]
        sized = [entry for entry in entries if entry.kind is Kind.TMPFS and entry.size is not None]
        mounted = dict(zip([entry.target for entry in sized], self._mounted(sized), strict=True))
        return [self._place(entry, mounted.get(entry.target)) for entry in entries]

    def _place(self, entry: Entry, fd: int | None) -> Placed:
        if entry.kind is Kind.HIDE:
            return Placed(entry.kind, False, entry.target, source_path=entry.source or b"")
        try:
            if fd is None:
                ours = entry.kind in (Kind.TMPFS, Kind.FILESYSTEM)
                source = self.scratch.make(entry.mode) if ours else entry.source
                assert source is not None
                fd = os.open(source, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise self._error(entry, error) from None
        if entry.kind is Kind.FILESYSTEM:  # an empty directory, for the mount to lie on
            entry = replace(entry, kind=Kind.BIND, readonly=True)
        # As the kernel names it: the engine compares this text with what links in /proc read.
        return Placed(entry.kind, entry.readonly, entry.target, fd, os.readlink(b"/proc/self/fd/%d" % fd))

    def _stack(self, entry: Entry) -> Stacked:
        try:
            return stacks.with_handles(stacks.stacked(entry, self.layers), self.scratch)
        except OSError as error:
            raise self._error(entry, error) from None

    def _mounted(self, entries: Sequence[Entry]) -> list[int]:
        if not entries:
            return []
        try:
            wanted = [Sized(self.scratch.make(entry.mode), entry.size or 0, entry.mode) for entry in entries]
            return self.scratch.mount(wanted)
        except SizeUnavailable as why:
            raise _no_size(self.view, entries[0], "tmpfs", why) from None
        except OSError as error:
            raise self._error(entries[0], error) from None

    def _error(self, entry: Entry, error: OSError) -> Exception:
        what = os.fsdecode(entry.source or b"a private directory")
        if error.errno in (errno.EMFILE, errno.ENFILE):
            text = "more entries than vuosd may have open files; see `ulimit -Hn` and RLIMIT_NOFILE"
        else:
            text = f"cannot use {what}: {error.strerror}"
        return ProfileErrors([_error_about(self.view, entry.where, text)])


def _with_parents(
    view: View, table: Mapping[bytes, Entry], placed: list[Placed], scratch: Scratch
) -> list[Placed]:
    try:
        placed = with_parents(table, placed, scratch)
    except OSError as error:
        text = f"vuosd: view {view.name}: cannot make the directories above its entries: {error}"
        raise Refused(text) from None
    if scratch.path is not None:
        # Else what is in them had a second name, and "where am I" two answers.
        private = os.path.realpath(scratch.path)
        placed.append(Placed(Kind.HIDE, False, private, source_path=private))
    return placed


def _floor(entries: Sequence[Entry], scratch: Scratch, layers: "Layers | None") -> int:
    trees = layers.trees() if layers else ()
    uppers = {tree.target: (tree.upper, *tree.lowers[: tree.parents]) for tree in trees}
    try:
        return floor.ruleset(
            entries,
            anchors=[scratch.path] if scratch.path else [],
            uppers=uppers,
            reserved=layers.reserved if layers else (),
        )
    except floor.FloorUnavailable as error:
        raise Refused(f"vuosd: {error}") from None


def _cwd(
    entry: Entry | None,
    start: bytes,
    given: bytes,
    placed: Sequence[Placed],
    view: View,
    layers: "Layers | None",
) -> int | None:
    """A descriptor of the directory the command starts in, where that is not the launcher's own."""
    try:
        if entry is not None and entry.kind is Kind.TMPFS:
            at = next(one for one in placed if one.target == entry.target)
            return os.open(b"/proc/self/fd/%d" % at.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        path = host_path(entry, start)
        if entry is not None and entry.kind in STACKS:
            path = stacks.first_directory(entry, start, layers) or path
        if path is None or path == given:
            return None
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"vuosd: view {view.name}: cwd {os.fsdecode(start)}: {error.strerror}") from None
