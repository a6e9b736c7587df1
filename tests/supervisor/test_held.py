"""The layers of a session: which one it gets, what is left of it, what the launcher is told."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from vuosd.layers import branch, open_layer
from vuosd.supervisor.held import Layers
from vuosd.supervisor.prepared import Refused
from vuosd.supervisor.scratch import Scratch
from vuosd.views import Entry, Kind, Layering


class Store:
    def __init__(self, path: Path) -> None:
        self.env = {"XDG_STATE_HOME": str(path / "state"), "HOME": str(path)}
        self.path = path / "state" / "vuos"
        self.tree = path / "tree"
        self.tree.mkdir()
        (self.tree / "file").write_text("text")
        self.report, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def layers(self) -> Layers:
        return Layers(self.env, Scratch(7))

    def cow(self, **how: bool) -> Entry:
        source = os.fsencode(self.tree)
        return Entry(Kind.COW, source, source, layering=Layering(**how))

    def finish(self, layers: Layers) -> list[list[str]]:
        layers.finish(self._theirs)
        return self.told()

    def told(self) -> list[list[str]]:
        found = []
        self.report.setblocking(False)
        while True:
            try:
                found.append(self.report.recv(9000).decode().split("\0"))
            except BlockingIOError:
                return found

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path)) if self.path.exists() else []

    def close(self) -> None:
        self.report.close()
        self._theirs.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


def test_named_and_changed(store: Store) -> None:
    layers = store.layers()
    layers.give([store.cow()], "n a me", b"/bin/make")
    tree, name = layers.tree(os.fsencode(store.tree))
    assert (name, tree.lowers) == ("n a me", (os.fsencode(store.tree),))
    assert layers.announce(store._theirs)
    assert store.told() == [["open", "n a me", "", "", ""]]
    Path(os.fsdecode(tree.upper), "new").write_text("x")
    sentence = "changes kept in layer n a me: 1 change; vuctl diff 'n a me' | commit 'n a me' | drop 'n a me'"
    assert store.finish(layers) == [["kept", "n a me", "", sentence, ""]]
    open_layer("n a me", store.env).close()
    # The next run goes on in it, and says so though it changes nothing.
    again = store.layers()
    again.give([store.cow()], "n a me", b"x")
    assert store.finish(again)[0][0] == "kept"


def test_unnamed_ones_are_called_after_the_command(store: Store) -> None:
    for command, name in ((b"/usr/bin/make", "make"), (b"./a \xff+", "a--+"), (b"-/", "layer")):
        layers = store.layers()
        layers.give([store.cow()], None, command)
        other = store.layers()
        other.give([store.cow()], None, command)
        assert (layers.name, other.name) == (f"{name}-1", f"{name}-2")
        store.finish(layers)
        store.finish(other)


def test_unchanged_and_fresh_goes_away(store: Store) -> None:
    layers = store.layers()
    layers.give([store.cow()], "x", b"x")
    assert store.names() == ["x"]
    tree, _ = layers.tree(os.fsencode(store.tree))
    # Copied up, and as it was.
    upper = Path(os.fsdecode(tree.upper), "file")
    upper.write_text("text")
    status = (store.tree / "file").stat()
    os.utime(upper, ns=(status.st_atime_ns, status.st_mtime_ns))
    status = store.tree.stat()
    os.utime(tree.upper, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.finish(layers) == [
        ["same", "x", "", "changes kept in layer x: 0 changes; vuctl diff x | commit x | drop x", ""]
    ]
    assert store.names() == []


def test_ephemeral(store: Store) -> None:
    layers = store.layers()
    layers.give([store.cow(ephemeral=True)], "x", b"x")
    tree, name = layers.tree(os.fsencode(store.tree))
    assert name == ""
    Path(os.fsdecode(tree.upper), "new").write_text("x")
    (left,) = store.names()
    assert left.startswith(".")
    assert not layers.announce(store._theirs)
    # Another run does not take it for rubbish while this one lives.
    other = store.layers()
    other.give([store.cow()], "y", b"x")
    assert store.names() == sorted([left, "y"])
    assert store.finish(other)[0][0] == "same"
    assert store.finish(layers) == []
    assert store.names() == []


def test_an_ephemeral_one_of_a_worker_that_was_killed_is_rubbish(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = os.fork()
    if not pid:
        store.layers().give([store.cow(ephemeral=True)], None, b"x")
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(store.names()) == 1
    later = SimpleNamespace(time=lambda: time.time() + 3600, time_ns=time.time_ns)
    monkeypatch.setattr("vuosd.layers.store.time", later)  # it may just be being made
    layers = store.layers()
    layers.give([store.cow()], "y", b"x")
    assert store.names() == ["y"]
    store.finish(layers)


def test_several_stores(store: Store, tmp_path: Path) -> None:
    layers = store.layers()
    there = os.fsencode(tmp_path / "it's")
    other = tmp_path / "other"
    other.mkdir()
    second = Entry(Kind.COW, os.fsencode(other), os.fsencode(other), layering=Layering(store=there))
    layers.give([store.cow(), second], "n", b"x")
    for target in (store.tree, other):
        Path(os.fsdecode(layers.tree(os.fsencode(target))[0].upper), "new").touch()
    told = store.finish(layers)
    assert [words[:3] for words in told] == [["kept", "n", ""], ["kept", "n", os.fsdecode(there)]]
    quoted = f"'{tmp_path}/it'\"'\"'s'"
    assert f"vuctl diff --store={quoted} n |" in told[1][3]


def test_many_changes_are_not_compared(store: Store) -> None:
    layers = store.layers()
    layers.give([store.cow()], "n", b"x")
    upper = Path(os.fsdecode(layers.tree(os.fsencode(store.tree))[0].upper))
    for number in range(2001):
        (upper / str(number)).touch()
    assert "up to 2001 changes;" in store.finish(layers)[0][3]


def test_resumed(store: Store) -> None:
    layers = store.layers()
    layers.give([store.cow()], "n", b"x")
    Path(os.fsdecode(layers.tree(os.fsencode(store.tree))[0].upper), "new").touch()
    store.finish(layers)
    again = store.layers()
    (tree,) = again.resume("n", None)
    again.give([store.cow()], "another name", b"x")
    assert again.tree(tree.target) == (tree, "n")
    assert store.finish(again)[0][:2] == ["kept", "n"]
    assert store.names() == ["n"]


def test_refusals(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no layer"):
        store.layers().resume("n", None)
    layers = store.layers()
    layers.give([store.cow()], "n", b"x")
    with pytest.raises(Refused, match=f"in use by process {os.getpid()}"):
        store.layers().give([store.cow()], "n", b"x")
    Path(os.fsdecode(layers.tree(os.fsencode(store.tree))[0].upper), "new").touch()
    store.finish(layers)
    source = os.fsencode(tmp_path)
    for entry, said in (
        (Entry(Kind.COW, source, source), "holds no changes of"),
        (Entry(Kind.COW, os.fsencode(store.tree), source), f"the view has {tmp_path} there"),
    ):
        other = store.layers()
        with pytest.raises(Refused, match=said):
            other.give([entry], "n", b"x")
        other.finish(None)
    with pytest.raises(Refused, match="cannot be the name"):
        store.layers().give([store.cow()], "a/b", b"x")
    inside = Layering(store=os.fsencode(store.tree / "in"))
    with pytest.raises(Refused, match="inside the tree"):
        store.layers().give([Entry(Kind.COW, source, source, layering=inside)], "m", b"x")
    # The user's own store may lie in the tree: the view does not show it.
    home = store.layers()
    home.give([Entry(Kind.COW, source, source)], "home", b"x")
    home.finish(None)


def test_a_branch_tells_its_own_changes_from_its_parents(store: Store) -> None:
    layers = store.layers()
    layers.give([store.cow()], "it", b"x")
    (tree,) = layers.trees()
    Path(os.fsdecode(tree.upper), "new").touch()
    store.finish(layers)
    branch("it", "more", store.env)
    layers = store.layers()
    layers.give([store.cow()], "more", b"x")
    (tree,) = layers.trees()
    Path(os.fsdecode(tree.upper), "own").touch()
    ((_, name, _, sentence, _),) = store.finish(layers)
    assert name == "more"
    said = "changes kept in layer more: 1 change upon those of its parent it; vuctl diff more"
    assert sentence.startswith(said)
