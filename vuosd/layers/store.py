"""Layers on disk: made, opened, branched, dropped. docs/layers.md describes the format.

    STORE/NAME/layer.json  what it is                 record.py
    STORE/NAME/lock        held by who works on it    lock.py
    STORE/NAME/journal     of a commit in progress    journal.py
    STORE/NAME/0/          of each tree: upper (what was changed), work, origins (what was below)

A layer comes into being and goes away by a rename: a directory whose name begins with a dot is one that was
not finished, or not wholly removed, and belongs to nobody when its lock is free.
"""

import os
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from vuosd.layers import lock, overlay, places, record
from vuosd.layers.errors import LayerError, name_of, reason
from vuosd.layers.listing import children_of, names_in
from vuosd.layers.quoting import json_path
from vuosd.layers.record import Record, System
from vuosd.layers.remove import remove_tree
from vuosd.layers.reserve import Reserve, make_tree

JOURNAL = b"journal"
_BEING_MADE = 60  # seconds in which one that is being made has surely got its lock
DEEPEST = 32  # of branches; the engine has room for 64 trees in a view's entry


class Tree(NamedTuple):
    """One tree of a layer.

    target: its path in the view
    lowers: what is below the changed tree, topmost first: the parents' changed trees, then the host's
    directory: where it is kept, absolute
    parents: how many of `lowers` are changed trees of parents
    system: what only a view has mounted and the tree stands upon; then there are no host's, but while it is
    mounted for a command (cli/upon.py), which is one
    mount: how that can be done, None where it is not known
    """

    target: bytes
    lowers: tuple[bytes, ...]
    directory: bytes
    parents: int = 0
    system: bytes = b""
    mount: System | None = None

    @property
    def hosts(self) -> tuple[bytes, ...]:
        """What is below all layers."""
        return self.lowers[self.parents :]

    @property
    def upper(self) -> bytes:
        """The changed tree."""
        return os.path.join(self.directory, b"upper")

    @property
    def work(self) -> bytes:
        """Scratch on the same file system."""
        return os.path.join(self.directory, b"work")

    @property
    def origins(self) -> bytes:
        """The book of what was below: origins.py. Absent in a layer that was made elsewhere."""
        return os.path.join(self.directory, b"origins")


class Layer:
    """An open layer. A context manager; it is locked until close() unless it was opened only to be read."""

    def __init__(
        self, path: bytes, made_as: Record, trees: tuple[Tree, ...], lock_fd: int | None, created: int
    ) -> None:
        """`created`: ns since the epoch, when it or the oldest of its parents was made."""
        self.path, self.record, self.trees, self.created = path, made_as, trees, created
        self.name, self.parent = made_as.name, made_as.parent
        self._lock = lock_fd

    @property
    def locked(self) -> bool:
        return self._lock is not None

    @property
    def journal(self) -> bytes:
        return os.path.join(self.path, JOURNAL)

    def note(self, mounts: Mapping[bytes, System | None]) -> None:
        """How what trees stand upon is mounted now, by target: the record has it from now on. OSError."""
        trees = tuple(
            msgspec.structs.replace(tree, mount=mounts[target])
            if tree.system and (target := json_path(tree.target)) in mounts
            else tree
            for tree in self.record.trees
        )
        if trees != self.record.trees:
            self.record = msgspec.structs.replace(self.record, trees=trees)
            record.write(self.path, self.record)

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def create(
    name: str,
    trees: Sequence[tuple[bytes, tuple[bytes, ...]]],
    env: Mapping[str, str],
    *,
    store: bytes | None = None,
    ephemeral: bool = False,
    apart: Sequence[bytes] = (),
    systems: Mapping[bytes, tuple[bytes, System | None]] | None = None,
    reserve: Reserve | None = None,
) -> Layer:
    """A new layer, locked: for each (target, host paths topmost first) an empty changed tree.

    apart: host paths that the view keeps out of the layer; a store below one of them is not inside its tree.
    systems: by target, what trees without a host path stand upon: its name, and how it is mounted.
    reserve: of the same store, where the trees are taken from.
    LayerError: there is one of that name, or it cannot be made there.
    """
    upon = systems or {}
    records = tuple(
        record.tree_record(n, target, tuple(lowers), *upon.get(target, (b"", None)))
        for n, (target, lowers) in enumerate(trees)
    )
    made_as = Record(record.format_of(records), name, time.time_ns(), None, records, ephemeral)
    below = [next(iter(lowers), None) for _, lowers in trees]
    return _create(made_as, places.store_of(env, store), apart, below, reserve)


def _create(
    made_as: Record,
    store: bytes,
    apart: Sequence[bytes],
    below: Sequence[bytes | None],
    reserve: Reserve | None = None,
) -> Layer:
    """`below`: of each tree, what shows where it changes nothing."""
    encoded = places.check_name(made_as.name)
    path = os.path.join(store, encoded)
    for tree in made_as.trees:
        for lower in tree.lowers:
            if not os.path.isdir(lower):
                text = f"layer {made_as.name} cannot stand upon {name_of(lower)}: it is no directory"
                raise LayerError(text)
            _check_apart(path, lower, apart)
    places.make_store(store)
    _clean(store)
    new = os.path.join(store, b".%d.%s" % (os.getpid(), encoded))
    if os.path.lexists(path):
        raise _exists(made_as.name, path)
    try:
        os.mkdir(new, 0o700)
        fd = lock.take(new)
    except OSError as error:
        raise LayerError(f"cannot make layer {made_as.name} in {name_of(store)}: {reason(error)}") from None
    try:
        for tree, stands_for in zip(made_as.trees, below, strict=True):
            directory = os.path.join(new, os.fsencode(tree.directory))
            if reserve is None:
                make_tree(directory)
            else:
                reserve.take(directory)
            if stands_for is not None:  # a mount of it by the kernel shows the changed tree's attributes
                overlay.stand_for(os.path.join(directory, b"upper"), stands_for)
        record.write(new, made_as)
        os.rename(new, path)  # never replaces a layer: those are directories that are not empty
        record.sync_directory(store)
        return Layer(path, made_as, _trees(path, made_as, ()), fd, made_as.created)
    except BaseException as error:
        _forget(new)
        os.close(fd)
        if isinstance(error, FileExistsError) or (isinstance(error, OSError) and os.path.lexists(path)):
            raise _exists(made_as.name, path) from None
        if isinstance(error, OSError):
            text = f"cannot make layer {made_as.name} in {name_of(store)}: {reason(error)}"
            raise LayerError(text) from None
        raise


def _forget(path: bytes) -> None:
    try:
        remove_tree(path)
    except OSError:
        pass  # what went wrong before it is what counts; the next create() tries again


def _exists(name: str, path: bytes) -> LayerError:
    return LayerError(
        f"there is already a layer {name} ({name_of(path)}): go on in it with --on={name}, forget it with "
        f"`vuctl drop {name}`, or choose another name"
    )


def _check_apart(path: bytes, lower: bytes, apart: Sequence[bytes]) -> None:
    real, tree = os.path.realpath(path), os.path.realpath(lower)
    if not _below(real, tree):
        return
    if any(_below(real, os.path.realpath(other)) for other in apart):
        return
    raise LayerError(
        f"the layer would be kept in {name_of(real)}, inside the tree {name_of(lower)} whose changes it "
        "is to hold: name a place outside of it with store=, or leave the place out of the tree with except="
    )


def _below(path: bytes, tree: bytes) -> bool:
    return path == tree or path.startswith(tree.rstrip(b"/") + b"/")


def open_layer(
    name: str,
    env: Mapping[str, str],
    *,
    store: bytes | None = None,
    reading: bool = False,
    unfinished: bool = False,
) -> Layer:
    """The layer, checked; locked unless `reading`.

    unfinished: also when a commit of it was cut short; the caller must see to that first (commit.recover).
    LayerError: no such layer, in use, with branches (unless `reading`), damaged, of a newer format, a tree
    that is missing.
    """
    place = places.store_of(env, store)
    path = _existing(name, place)
    fd = None if reading else _locked(name, path)
    try:
        made_as = record.read(path, name)
        if fd is not None and (children := children_of(name, place)):
            raise LayerError(
                f"layer {name} has a branch, {children[0]}, that would change with it: use or drop that first"
            )
        if not unfinished and os.path.lexists(os.path.join(path, JOURNAL)):
            raise _cut_short(name)
        ancestors = _ancestors(made_as, place)
        trees = _trees(path, made_as, ancestors)
        created = min(of.created for of in (made_as, *(parent for _, parent in ancestors)))
        for tree in trees:
            _check_tree(name, tree)
        return Layer(path, made_as, trees, fd, created)
    except BaseException:
        if fd is not None:
            os.close(fd)
        raise


def interrupted(name: str, env: Mapping[str, str], *, store: bytes | None = None) -> bool:
    """Whether a commit of it was cut short, or is going on. LayerError: no such layer."""
    return os.path.lexists(os.path.join(_existing(name, places.store_of(env, store)), JOURNAL))


def _existing(name: str, store: bytes) -> bytes:
    path = os.path.join(store, places.check_name(name))
    if not os.path.isdir(path):
        from vuosd.views.errors import nearest

        known = names_in(store)
        close = nearest(name, known)
        others = "`vuctl layers` lists what there is" if known else "there is none at all"
        hint = f"did you mean {close}?" if close else others
        raise LayerError(f"no layer {name_of(os.fsencode(name))} in {name_of(store)}: {hint}")
    return path


def _cut_short(name: str) -> LayerError:
    return LayerError(f"a commit of layer {name} was cut short: finish it first, with `vuctl commit {name}`")


def _locked(name: str, path: bytes) -> int:
    try:
        return lock.take(path)
    except lock.BusyError as busy:
        raise LayerError(f"layer {name} is {busy}: wait for its end") from None
    except OSError as error:
        raise LayerError(f"cannot lock layer {name} in {name_of(path)}: {reason(error)}") from None


def _check_tree(name: str, tree: Tree) -> None:
    for path in (tree.upper, *tree.lowers):
        try:
            with os.scandir(path):
                pass
        except OSError as error:
            what = "its changed tree" if path == tree.upper else "the tree below it"
            text = f"layer {name} cannot be used: {what}, {name_of(path)}: {reason(error)}"
            raise LayerError(text) from None


def _ancestors(made_as: Record, store: bytes) -> tuple[tuple[bytes, Record], ...]:
    """The parents, nearest first, with their paths. LayerError."""
    found: list[tuple[bytes, Record]] = []
    while (name := made_as.parent) is not None:
        path = os.path.join(store, places.check_name(name))
        if not os.path.isdir(path):
            raise LayerError(f"layer {made_as.name} is a branch of {name}, which is not in {name_of(store)}")
        if len(found) == DEEPEST:
            raise LayerError(f"layer {made_as.name}: more than {DEEPEST} branches upon one another")
        made_as = record.read(path, name)
        found.append((path, made_as))
    return tuple(found)


def _trees(path: bytes, made_as: Record, ancestors: Sequence[tuple[bytes, Record]]) -> tuple[Tree, ...]:
    trees = []
    for tree in made_as.trees:
        directory = os.fsencode(tree.directory)
        above = tuple(os.path.join(parent, directory, b"upper") for parent, _ in ancestors)
        lowers = above + tree.lowers
        place = os.path.join(path, directory)
        system = json_path(tree.system)
        trees.append(Tree(json_path(tree.target), lowers, place, len(above), system, tree.mount))
    return tuple(trees)


def branch(parent: str, name: str, env: Mapping[str, str], *, store: bytes | None = None) -> None:
    """A new layer upon `parent`, which from then on is only read. LayerError."""
    place = places.store_of(env, store)
    path = _existing(parent, place)
    fd = _locked(parent, path)
    try:
        below = record.read(path, parent)
        if os.path.lexists(os.path.join(path, JOURNAL)):
            raise _cut_short(parent)
        if len(_ancestors(below, place)) + 1 >= DEEPEST:
            raise LayerError(f"layer {parent}: more than {DEEPEST} branches upon one another")
        from vuosd.layers.adopt import adopt

        trees = _trees(path, below, _ancestors(below, place))
        for tree in trees:
            adopt(tree, below.created)
        # Where it lies was judged when the parent was made: it is the same store.
        made_as = Record(below.format, name, time.time_ns(), parent, below.trees)
        _create(made_as, place, [b"/"], [tree.upper for tree in trees]).close()
    finally:
        os.close(fd)


def drop(name: str, env: Mapping[str, str], *, store: bytes | None = None) -> None:
    """Forget the layer, also a damaged one. A commit of it that was cut short is completed or undone first.

    LayerError: in use, or with branches, or it cannot be removed.
    """
    place = places.store_of(env, store)
    path = _existing(name, place)
    if interrupted(name, env, store=store):
        from vuosd.layers.commit import recover

        with open_layer(name, env, store=store, unfinished=True) as layer:
            recover(layer)
    fd = _locked(name, path)
    try:
        if children := children_of(name, place):
            raise LayerError(f"layer {name} has a branch, {children[0]}: drop that first")
        gone = os.path.join(place, b".%d.%s" % (os.getpid(), os.fsencode(name)))
        os.rename(path, gone)
        record.sync_directory(place)
        remove_tree(gone)
    except OSError as error:
        raise LayerError(f"cannot remove layer {name}: {name_of(path)}: {reason(error)}") from None
    finally:
        os.close(fd)


def _clean(store: bytes) -> None:
    """What was left of layers that were being made or removed when the machine or the process ended."""
    for entry in os.scandir(store):
        if entry.name.startswith(b".") and entry.is_dir(follow_symlinks=False):
            if time.time() - entry.stat(follow_symlinks=False).st_ctime < _BEING_MADE:
                continue
            try:
                fd = lock.take(entry.path)
            except (lock.BusyError, OSError):
                continue
            try:
                remove_tree(entry.path)
            except OSError:
                pass  # it is in nobody's way; `drop` of that layer has said what is the matter
            finally:
                os.close(fd)
