"""Commits of layers over several real trees: each change is made in one, so that together they show it."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from layers.model import merged, plain
from layers.random_trees import MARKED, PATHS, PLAIN, consistent
from layers.test_commit import layer_is_empty, shown
from layers.trees import OPAQUE, WHEN, Dir, File, Made, Spec, Thing, Whiteout, build, make, read, summary

from vuosd.layers import LayerError, create, open_layer
from vuosd.layers.beneath import ancestors
from vuosd.layers.commit import commit, outlook
from vuosd.layers.plan import OURS, THEIRS, Outlook

TOP: Spec = {b"a": b"top", b"d/x": b"top x", b"d/only": b"top", b"t/in": b""}
BOTTOM: Spec = {b"a": b"covered", b"b": b"bottom", b"d/y": b"bottom y", b"e/f/g": b"deep"}


class Several:
    """A layer over two trees; `bottom` and `lower`, the topmost, are their places."""

    def __init__(self, directory: Path, top: Spec, bottom: Spec, upper: Spec) -> None:
        self.bottom = build(directory / "bottom", bottom)
        # One layer over the topmost alone has the store, the environment and the ways to note.
        self.made = made = make(directory, top, {}, name="other")
        self.lower = made.lower
        layer = create("it", [(made.lower, (made.lower, self.bottom))], made.env)
        layer.close()
        self.layer = Made(made.lower, layer, made.store, made.env)
        self._note(made.lower, lambda path: True)
        self._note(self.bottom, lambda path: all(self._leads(above) for above in ancestors(path)))
        build(self.layer.upper, upper)

    def _leads(self, path: bytes) -> bool:
        """Whether what the topmost tree has there lets the bottom's be seen."""
        full = os.path.join(self.lower, path)
        return not os.path.lexists(full) or (os.path.isdir(full) and not os.path.islink(full))

    def _note(self, lower: bytes, shows: Callable[[bytes], bool]) -> None:
        """The first record of a path counts: the topmost tree's."""
        of = Made(lower, self.layer.layer, self.made.store, self.made.env)
        for path in sorted(read(lower)):
            if shows(path):
                of.note(path)

    def outlook(self, resolution: str | None = None) -> Outlook:
        with open_layer("it", self.made.env) as layer:
            (found,) = outlook(layer, None, resolution).values()
            return found

    def commit(self, resolution: str | None = None) -> dict[bytes, str]:
        with open_layer("it", self.made.env) as layer:
            found = outlook(layer, None, resolution)
            for of in found.values():
                assert (of.conflicts, of.denied, of.undecided) == ([], [], [])
            return commit(layer, found)

    def summaries(self) -> list[object]:
        return [summary(self.lower), summary(self.bottom)]


def specs(of: Spec, changes: dict[bytes, Thing | None]) -> dict[bytes, object]:
    """A tree with some changes, as summary() has it."""
    changed = {path: thing for path, thing in {**of, **changes}.items() if thing is not None}
    return plain(merged(changed, {}))


def test_each_change_is_made_where_the_thing_is_shown_from(tmp_path: Path) -> None:
    upper: Spec = {
        b"a": b"changed",
        b"b": b"changed too",
        b"new": b"1",
        b"d/new": b"2",
        b"e/f/new": b"3",
        b"e/made/new": b"4",
        b"d/only": Whiteout(),
        b"d/y": Dir(),
        b"d/y/in": b"5",
    }
    several = Several(tmp_path, TOP, BOTTOM, upper)
    assert several.commit() == {}
    top: dict[bytes, Thing | None] = {b"a": b"changed", b"new": b"1", b"d/new": b"2", b"d/only": None}
    bottom: dict[bytes, Thing | None] = {
        b"b": b"changed too",
        b"e/f/new": b"3",
        b"e/made/new": b"4",
        b"d/y": Dir(),
        b"d/y/in": b"5",
    }
    assert several.summaries() == [specs(TOP, top), specs(BOTTOM, bottom)]
    layer_is_empty(several.layer)


def test_a_directory_goes_from_all(tmp_path: Path) -> None:
    several = Several(tmp_path, TOP, BOTTOM, {b"d": Whiteout()})
    assert several.commit() == {}
    assert [b"d" in tree for tree in (summary(several.lower), summary(several.bottom))] == [False, False]
    layer_is_empty(several.layer)


@pytest.mark.parametrize(
    ("upper", "path", "why"),
    [
        ({b"a": Whiteout()}, b"a", 'is in .*bottom" as well, and would show'),
        ({b"t": Whiteout()}, b"t", 'is in .*bottom" as well, and would show'),
        ({b"": Dir(xattrs=OPAQUE)}, b"a", 'is in .*bottom" as well'),
        ({b"f": Dir(), b"f/new": b"1"}, b"f", 'is a directory in .*bottom" as well, and what is in that'),
        ({b"b": b"1", b"d/x": File(same_as=b"b")}, b"b", 'belongs into .*bottom.* is one file with "?d/x'),
    ],
)
def test_what_the_trees_could_not_show(tmp_path: Path, upper: Spec, path: bytes, why: str) -> None:
    several = Several(tmp_path, {**TOP, b"f": b""}, {**BOTTOM, b"t": b"file", b"f/hidden": b""}, upper)
    before = several.summaries()
    found = several.outlook()
    assert path in [problem.path for problem in found.undecided]
    (reason,) = [problem.reason for problem in found.undecided if problem.path == path]
    assert re.search(why, reason)
    assert several.summaries() == before


def test_what_has_changed_in_a_tree_below(tmp_path: Path) -> None:
    several = Several(tmp_path, TOP, BOTTOM, {b"b": b"ours", b"a": b"ours", b"e/f/g": b"ours"})
    build(several.bottom, {b"b": File(b"theirs", mtime=WHEN + 9)})
    os.makedirs(os.path.join(several.lower, b"e/f"))
    build(several.lower, {b"e/f/g": b"come between"})
    found = several.outlook()
    assert sorted(problem.path for problem in found.conflicts) == [b"b", b"e/f/g"]
    assert several.commit(THEIRS) == {}
    assert summary(several.lower)[b"a"][1] == b"ours"
    assert summary(several.bottom)[b"b"][1] == b"theirs"


def test_ours(tmp_path: Path) -> None:
    several = Several(tmp_path, TOP, BOTTOM, {b"b": b"ours"})
    build(several.bottom, {b"b": File(b"theirs", mtime=WHEN + 9)})
    assert several.commit(OURS) == {}
    assert summary(several.bottom)[b"b"][1] == b"ours"
    assert b"b" not in summary(several.lower)


def test_only_as_a_whole(tmp_path: Path) -> None:
    several = Several(tmp_path, TOP, BOTTOM, {b"b": b"ours"})
    with open_layer("it", several.made.env) as layer, pytest.raises(LayerError, match="only all of it"):
        outlook(layer, {layer.trees[0]: [b"b"]}, None)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    top=st.dictionaries(PATHS, PLAIN, min_size=2, max_size=8).map(consistent),
    bottom=st.dictionaries(PATHS, PLAIN, min_size=2, max_size=8).map(consistent),
    upper=st.dictionaries(PATHS, MARKED, min_size=2, max_size=8).map(consistent),
)
def test_random(tmp_path_factory: pytest.TempPathFactory, top: Spec, bottom: Spec, upper: Spec) -> None:
    """Committed or not, what the trees and the layer show together stays the same."""
    several = Several(tmp_path_factory.mktemp("t"), top, bottom, upper)
    before = several.summaries()
    found = several.outlook()
    assert (found.conflicts, found.denied) == ([], [])
    if found.undecided:
        event("undecided")
        assert several.summaries() == before
        return
    event("committed")
    assert several.commit() == {}
    layer_is_empty(several.layer)
    with open_layer("it", several.made.env) as layer:
        assert shown(layer.trees[0]) == plain(merged(merged(bottom, top), upper))
