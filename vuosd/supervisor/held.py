"""The layers that a session writes to: opened before it begins, held while it lives, told of when it ends.

    resume ──▶ give ──▶ tree, uppers … ──▶ finish

A layer that this session has made and left unchanged goes away with it. An ephemeral one always does: its
directory is renamed, as soon as it is made, to what the store takes for rubbish when nobody holds its lock,
so a worker that was killed leaves none behind for long.

What the launcher is told, each in one message: `open NAME STORE` before the command starts, then `kept NAME
STORE SENTENCE` or `same NAME STORE`, all of it NUL-separated.
"""

import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from vuosd.layers import Layer, LayerError, Tree, create, open_layer, places
from vuosd.layers.adopt import adopt
from vuosd.layers.overlay import stand_for
from vuosd.layers.quoting import quoted
from vuosd.layers.reserve import Reserve
from vuosd.supervisor.counting import Count, count
from vuosd.supervisor.log import log
from vuosd.supervisor.prepared import Refused
from vuosd.supervisor.scratch import Scratch, Sized, remove_tree
from vuosd.supervisor.stacks import mount_of, system_of
from vuosd.views import Entry, Kind, Layering

if TYPE_CHECKING:
    from vuosd.layers.record import System


class _Held(NamedTuple):
    layer: Layer
    path: bytes
    store: bytes  # as it was asked for; b"": the user's
    fresh: bool
    ephemeral: bool
    trees: dict[bytes, Tree]


class Layers:
    """The layers of one session. Raises Refused."""

    def __init__(self, env: Mapping[str, str], scratch: Scratch) -> None:
        self.env = env
        self.scratch = scratch
        self._held: list[_Held] = []
        self._ephemerals = 0
        self._resumed: _Held | None = None
        self._systems: dict[bytes, System | None] = {}
        """By target of a COW, how what it is upon is mounted."""
        self._reserve: Reserve | None = None
        self._adds = False

    def place(self, store: bytes | None) -> bytes:
        """The directory that layers are in."""
        try:
            return places.store_of(self.env, store)
        except LayerError as error:
            raise Refused(f"vuosd: {error}") from None

    def resume(self, name: str, store: bytes | None) -> tuple[Tree, ...]:
        """An existing layer, whose trees are to be shown."""
        self._resumed = self._open(name, store)
        return tuple(self._resumed.trees.values())

    def give(self, entries: Iterable[Entry], name: str | None, command: bytes) -> None:
        """A tree for each COW: of the layer that was resumed; of the one called `name`, which is made if need
        be; else of a new one, called after the command. SizeUnavailable.
        """
        groups: dict[Layering, list[Entry]] = {}
        entries = tuple(entries)
        self._systems = {
            entry.target: mount_of(entry, entries) for entry in entries if entry.upon is not None
        }
        for entry in entries:
            how = entry.layering or Layering()
            if entry.kind is Kind.COW and entry.size is not None and how.ephemeral:
                self._ephemeral(self._sized(entry.size), [entry])
            elif entry.kind is Kind.COW:
                groups.setdefault(Layering(store=how.store, ephemeral=how.ephemeral), []).append(entry)
        for how, group in groups.items():
            if self._resumed and how == Layering(store=self._resumed.store or None):
                self._go_on(self._resumed, group)
            elif how.ephemeral:
                self._ephemeral(how.store, group)
            elif name is None:
                self._new(how.store, group, command)
            elif os.path.lexists(os.path.join(self.place(how.store), os.fsencode(name))):
                self._go_on(self._open(name, how.store), group)
            else:
                self._make(name, how.store, group)

    def reserve(self, number: int) -> None:
        """Makes room for so many layers that come while the session runs, where a floor has to know them."""
        try:
            self._reserve = Reserve(number, self.env)
        except LayerError as error:
            raise Refused(f"vuosd: {error}") from None

    @property
    def reserved(self) -> tuple[bytes, ...]:
        """The changed trees of layers that may come."""
        return self._reserve.uppers if self._reserve is not None else ()

    def tree(self, target: bytes) -> tuple[Tree, str]:
        """The tree of the COW at a target, and the name of its layer, "" for an ephemeral one."""
        return next(
            (held.trees[target], "" if held.ephemeral else held.layer.name)
            for held in reversed(self._held)
            if target in held.trees
        )

    @property
    def name(self) -> str:
        """Of the first layer that has one."""
        return next((held.layer.name for held in self._held if not held.ephemeral), "ephemeral")

    def trees(self) -> Iterator[Tree]:
        for held in self._held:
            yield from held.trees.values()

    def _hold(self, layer: Layer, store: bytes | None, *, fresh: bool, ephemeral: bool = False) -> _Held:
        trees = {tree.target: tree for tree in layer.trees}
        held = _Held(layer, layer.path, store or b"", fresh, ephemeral, trees)
        self._held.append(held)
        return held

    def _open(self, name: str, store: bytes | None) -> _Held:
        try:
            held = self._hold(open_layer(name, self.env, store=store), store, fresh=False)
            for tree in held.layer.trees:
                adopt(tree, held.layer.created)
            return held
        except LayerError as error:
            raise Refused(f"vuosd: {error}") from None

    def _make(
        self,
        name: str,
        store: bytes | None,
        entries: Sequence[Entry],
        *,
        ephemeral: bool = False,
        apart: Sequence[bytes] = (),
    ) -> _Held:
        trees = [(entry.target, entry.sources) for entry in entries]
        systems = {
            entry.target: (system_of(entry), self._systems.get(entry.target))
            for entry in entries
            if entry.upon is not None
        }
        # The view does not show it; only one that somebody has chosen to lie in the tree is a mistake.
        apart = [b"/"] if store is None or ephemeral else apart
        reserve = self._reserve if store is None and self._adds else None
        try:
            layer = create(
                name,
                trees,
                self.env,
                store=store,
                ephemeral=ephemeral,
                apart=apart,
                systems=systems,
                reserve=reserve,
            )
        except LayerError as error:
            raise Refused(f"vuosd: {error}") from None
        return self._hold(layer, store, fresh=True, ephemeral=ephemeral)

    def _go_on(self, held: _Held, entries: Sequence[Entry]) -> None:
        """A layer that was there before. Refused unless it is of what the view shows."""
        _compare(held, entries)
        upon = {entry.target: self._systems.get(entry.target) for entry in entries if entry.upon is not None}
        try:
            held.layer.note(upon)
        except OSError as error:
            raise Refused(f"vuosd: layer {held.layer.name} cannot be written: {error.strerror}") from None

    def _new(
        self,
        store: bytes | None,
        entries: Sequence[Entry],
        command: bytes,
        apart: Sequence[bytes] = (),
    ) -> None:
        place = self.place(store)
        stem = "".join(
            c if c.isalnum() or c in "._+" else "-" for c in os.fsdecode(os.path.basename(command))[:40]
        )
        number = 1
        while True:
            name = f"{stem.lstrip('.-') or 'layer'}-{number}"
            path = os.path.join(place, os.fsencode(name))
            number += 1
            if os.path.lexists(path):
                continue
            try:
                self._make(name, store, entries, apart=apart)
                return
            except Refused:
                if not os.path.lexists(path):
                    raise

    def _sized(self, size: int) -> bytes:
        """A store of this size: a tmpfs, by a name that is good as long as the session lives."""
        (fd,) = self.scratch.mount([Sized(self.scratch.make(0o700), size, 0o700)])
        return b"/proc/self/fd/%d" % fd

    def _ephemeral(self, store: bytes | None, entries: Sequence[Entry]) -> None:
        self._ephemerals += 1
        name = f"ephemeral-{self.scratch.session:010x}-{self._ephemerals}"
        self._make(name, store, entries, ephemeral=True)
        held = self._held[-1]
        path = _hidden_name(held.path)
        os.rename(held.path, path)
        trees = {
            target: tree._replace(directory=os.path.join(path, os.path.basename(tree.directory)))
            for target, tree in held.trees.items()
        }
        self._held[-1] = held._replace(path=path, trees=trees)

    def add(
        self,
        entry: Entry,
        name: str | None,
        upon: "System | None" = None,
        apart: Sequence[bytes] = (),
    ) -> None:
        """The same as `give`, for one COW that comes while the session runs. `upon`: how what it is upon is
        mounted; `apart`: directories of the host that are no part of it. SizeUnavailable.
        """
        how = entry.layering or Layering()
        self._systems[entry.target] = upon
        self._adds = True
        path = os.path.join(self.place(how.store), os.fsencode(name or ""))
        if self._reserve is not None and how.store is not None:
            raise Refused(
                "vuosd: in an enforcing view a cow that comes while it runs has no store= of its own"
            )
        if how.ephemeral:
            sized = None if entry.size is None else self._sized(entry.size)
            self._ephemeral(sized or how.store, [entry])
        elif name is None:
            self._new(how.store, [entry], os.path.basename(entry.target), apart)
        elif os.path.lexists(path):
            if self._reserve is not None and not self._reserve.has_made(path):
                text = "in an enforcing view a cow that comes while it runs goes on in no layer but its own"
                raise Refused(f"vuosd: layer {name} was there before: {text}")
            self._open(name, how.store)
            try:
                self._go_on(self._held[-1], [entry])
            except Refused:
                self._held.pop().layer.close()
                raise
        else:
            self._make(name, how.store, [entry], apart=apart)

    def end(self, target: bytes) -> bytes:
        """Of the last that was added there, and that nobody writes to any more. What there is to tell."""
        held = next(held for held in reversed(self._held) if target in held.trees)
        self._held.remove(held)
        return _finish(held, None)

    def stand(self, target: bytes, below: bytes) -> None:
        """What the COW at a target is upon has been mounted: the directory `below`. OSError."""
        for held in self._held:
            if held.fresh and target in held.trees:
                stand_for(held.trees[target].upper, below)

    # The end

    def announce(self, report: socket.socket) -> bool:
        """Before the command starts. False: at the end there will be nothing to tell."""
        lasting = [held for held in self._held if not held.ephemeral]
        for held in lasting:
            _tell(report, b"open", held)
        return bool(lasting)

    def leave(self, report: socket.socket, *, tell: bool) -> None:
        """A launcher ends before the session does. `tell`: its person is told that the layers are still
        written to.
        """
        for held in self._held:
            if not held.ephemeral:
                _tell(report, b"stays" if tell else b"same", held)

    def finish(self, report: socket.socket | None) -> None:
        """Nobody writes any more. Lets go of the layers, and tells the launcher what they hold."""
        for held in self._held:
            _finish(held, report)
        self._held.clear()
        if self._reserve is not None:
            self._reserve.close()
            self._reserve = None


def _finish(held: _Held, report: socket.socket | None) -> bytes:
    """What there is to tell of it; b"" if nothing is kept."""
    try:
        changed = Count(0, True) if held.ephemeral else count(held.trees.values())
        if held.ephemeral or (held.fresh and not changed.number):
            _remove(held)
    except OSError as error:
        log.warning("layer %s: %s", held.layer.name, error)
        changed = Count(0, False)
    held.layer.close()
    if held.ephemeral:
        return b""
    kept = changed != Count(0, True)
    sentence = _sentence(held, changed)
    if report is not None:
        _tell(report, b"kept" if kept else b"same", held, sentence)
    return sentence if kept else b""


def _compare(held: _Held, entries: Iterable[Entry]) -> None:
    """Refused: the layer is of something else than the view shows."""
    for entry in entries:
        tree = held.trees.get(entry.target)
        name, target = held.layer.name, quoted(entry.target)
        other = "give another name with --name, or commit or drop that layer first"
        if tree is None:
            raise Refused(
                f"vuosd: layer {name} holds no changes of {target}, where the view has a cow: {other}"
            )
        lowers = (tree.system,) if tree.system else tree.lowers[tree.parents :]
        shown = (system_of(entry),) if entry.upon is not None else entry.sources
        if lowers != shown:
            was, now = (", ".join(map(quoted, paths)) for paths in (lowers, shown))
            text = f"holds the changes of {was} at {target}, and the view has {now} there"
            raise Refused(f"vuosd: layer {name} {text}: {other}")


def _sentence(held: _Held, changed: Count) -> bytes:
    import shlex

    name = shlex.quote(held.layer.name)
    if held.store:
        name = f"--store={shlex.quote(os.fsdecode(held.store))} {name}"
    # `vuctl diff` shows both; what the parent holds is not this run's.
    parent = held.layer.parent
    upon = "" if parent is None else f" upon those of its parent {quoted(os.fsencode(parent))}"
    # What nobody knows how to mount it can be compared with in the view alone.
    unknown = any(tree.system and tree.mount is None for tree in held.layer.record.trees)
    compared = "" if unknown else f"diff {name} | commit {name} | "
    kept = f"changes kept in layer {quoted(os.fsencode(held.layer.name))}: {changed}{upon}"
    return os.fsencode(f"{kept}; vuctl {compared}drop {name}")


def _hidden_name(path: bytes) -> bytes:
    """Where the store takes a directory for rubbish, unless its lock is held: layers/store.py."""
    store, name = os.path.split(path)
    return os.path.join(store, b".%d.%s" % (os.getpid(), name))


def _remove(held: _Held) -> None:
    path = held.path
    if not held.ephemeral:
        path = _hidden_name(path)
        os.rename(held.path, path)
    remove_tree(path)


def _tell(report: socket.socket, what: bytes, held: _Held, sentence: bytes = b"") -> None:
    name = os.fsencode(held.layer.name)
    try:
        report.send(b"\0".join([what, name, held.store, sentence, b""]), socket.MSG_NOSIGNAL)
    except OSError:
        pass  # the launcher has gone


def wait_for_layers(report: socket.socket) -> None:
    """There may be layers later, of which the end will tell."""
    try:
        report.send(b"wait\0\0\0\0", socket.MSG_NOSIGNAL)
    except OSError:
        pass  # the launcher has gone
