"""Inode numbers for paths, against a model that is a dict of paths: hypothesis makes the sequences."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vuosd.api import Stat
from vuosd.fuse.nodes import ROOT, Nodes

NAMES = st.sampled_from([b"a", b"b", b"c"])
PLACES = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("look"), PLACES),
        st.tuples(st.just("remove"), PLACES),
        st.tuples(st.just("rename"), PLACES, PLACES),
        st.tuples(st.just("exchange"), PLACES, PLACES),
        st.tuples(st.just("forget"), st.integers(0, 20)),
    ),
    max_size=40,
)
Path = tuple[bytes, ...]


class Kernel:
    """What a kernel knows: for each path it has looked up, the number it was told. Everything is a
    directory."""

    def __init__(self) -> None:
        self.nodes = Nodes()
        self.told: dict[Path, int] = {(): ROOT}
        self.counts: dict[int, int] = {}

    def look(self, path: Path) -> int | None:
        if path[:-1] and self.look(path[:-1]) is None:
            return None
        parent = self.nodes.get(self.told[path[:-1]])
        node = self.nodes.found(parent, path[-1], Stat.directory())
        node.lookups += 1
        assert self.told.setdefault(path, node.number) == node.number, "a number changes while it is known"
        self.counts[node.number] = self.counts.get(node.number, 0) + 1
        return node.number

    def moved(self, old: Path, new: Path) -> dict[Path, int]:
        found = {path: number for path, number in self.told.items() if path[: len(old)] == old}
        for path in found:
            del self.told[path]
        return {new + path[len(old) :]: number for path, number in found.items()}

    def check(self) -> None:
        for path, number in self.told.items():
            if number == ROOT or number in self.counts:
                assert self.nodes.path(self.nodes.get(number)) == b"/" + b"/".join(path)
        known = [number for number in self.told.values() if number in self.counts]
        assert len(known) == len(set(known)), "two paths have one number"


@given(STEPS)
def test_numbers_stay_with_what_they_name(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    kernel = Kernel()
    for step in steps:
        if step[0] == "look":
            kernel.look(step[1])
        elif step[0] == "remove" and step[1] in kernel.told:
            parent = kernel.nodes.get(kernel.told[step[1][:-1]])
            kernel.nodes.remove(parent, step[1][-1])
            kernel.moved(step[1], (b"gone",))
        elif step[0] == "rename" and kernel.told.keys() >= {step[1], step[2][:-1]}:
            old, new = step[1], step[2]
            if new[: len(old)] == old or old[: len(new)] == new:
                continue
            parents = [kernel.nodes.get(kernel.told[path[:-1]]) for path in (old, new)]
            kernel.nodes.rename(parents[0], old[-1], parents[1], new[-1], None)
            kernel.moved(new, (b"gone",))
            kernel.told |= kernel.moved(old, new)
        elif step[0] == "exchange" and kernel.told.keys() >= {step[1], step[2]}:
            one, other = step[1], step[2]
            if one[: len(other)] == other or other[: len(one)] == one:
                continue
            parents = [kernel.nodes.get(kernel.told[path[:-1]]) for path in (one, other)]
            kernel.nodes.exchange(parents[0], one[-1], parents[1], other[-1])
            there, back = kernel.moved(one, other), kernel.moved(other, one)
            kernel.told |= there | back
        elif step[0] == "forget":
            forget(kernel, step[1])
        kernel.check()
    for number, count in kernel.counts.items():
        kernel.nodes.forget(number, count)
    assert len(kernel.nodes) == 1, "something is remembered of what the kernel has forgotten"


def forget(kernel: Kernel, which: int) -> None:
    """As the kernel does: an inode goes before the directory it is in."""
    leaves = [
        path
        for path, number in kernel.told.items()
        if number in kernel.counts and not any(other[:-1] == path for other in kernel.told if other != path)
    ]
    if leaves:
        path = leaves[which % len(leaves)]
        number = kernel.told.pop(path)
        kernel.nodes.forget(number, kernel.counts.pop(number))


def test_a_forgotten_path_gets_its_number_again() -> None:
    nodes = Nodes()
    first = nodes.found(nodes.root, b"file", Stat.file())
    number, first.lookups = first.number, 1
    nodes.forget(number, 1)
    assert len(nodes) == 1
    assert nodes.found(nodes.root, b"file", Stat.file()).number == number
    assert ROOT < number < 1 << 52


def test_a_removed_file_keeps_its_number_from_the_next_of_its_name() -> None:
    nodes = Nodes()
    old = nodes.found(nodes.root, b"file", Stat.file())
    old.lookups = 1
    nodes.remove(nodes.root, b"file", Stat.file(3))
    assert old.removed
    with pytest.raises(OSError, match="Stale") as caught:
        nodes.path(old)
    assert caught.value.errno == errno.ESTALE
    assert nodes.found(nodes.root, b"file", Stat.file()).number != old.number


def test_hard_links_are_one_node() -> None:
    nodes = Nodes()
    linked = Stat(mode=0o100644, nlink=2, ino=77)
    one = nodes.found(nodes.root, b"one", linked)
    one.lookups = 1
    other = nodes.found(nodes.root, b"other", linked)
    assert one is other
    nodes.remove(nodes.root, b"one")
    assert nodes.path(one) == b"/other"


def test_a_plugins_own_numbers_are_used_unless_taken() -> None:
    nodes = Nodes()
    one = nodes.found(nodes.root, b"one", Stat(mode=0o100644, ino=77))
    one.lookups = 1
    other = nodes.found(nodes.root, b"other", Stat(mode=0o100644, ino=77))
    assert one.number == 77
    assert other.number not in (77, ROOT)
