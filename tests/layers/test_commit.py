"""What is in the real tree after a commit, and what in the layer."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from layers.model import merged, normal, plain
from layers.random_trees import MARKED, PATHS, PLAIN, consistent
from layers.trees import (
    OPAQUE,
    WHEN,
    Dir,
    File,
    Link,
    Made,
    Pipe,
    Spec,
    Whiteout,
    commit,
    make,
    read,
    summary,
)

from vuosd.layers import LayerError, open_layer
from vuosd.layers.changes import Comparison
from vuosd.layers.commit import outlook
from vuosd.layers.plan import OURS, THEIRS
from vuosd.layers.select import covered

LOWER: Spec = {b"a": b"one", b"b": b"two", b"d/x": b"x", b"d/y": b"y", b"l": Link(b"a"), b"e/f/g": b"deep"}

CASES: dict[str, Spec] = {
    "nothing": {},
    "new": {b"n": b"1", b"d/n": b"1", b"new/deep/er": b"1", b"p": Pipe(0o600), b"k": Link(b"\xff nowhere")},
    "modified": {b"a": b"longer", b"b": File(b"TWO", mode=0o4711, mtime=WHEN + 7), b"l": Link(b"b")},
    "attributes": {
        b"a": File(b"one", mode=0o600, mtime=WHEN - 1, xattrs={"user.x": b"1"}),
        b"d": Dir(0o2700),
        b"": Dir(0o750),
    },
    "deleted": {b"a": Whiteout(), b"d/x": Whiteout(True), b"e": Whiteout(), b"l": Whiteout()},
    "opaque": {b"d": Dir(0o711, xattrs=OPAQUE), b"d/x": b"X", b"d/n": b"", b"e/f": Dir(xattrs=OPAQUE)},
    "types": {b"a": Dir(), b"a/in": b"1", b"e": b"file", b"l": b"a", b"b": Link(b"a"), b"d": Pipe()},
    "any byte": {b'\xff\n\t"\\': b"1", b"d/\xc3\x28/\x01": b"2"},
    "everything goes": {b"": Dir(xattrs=OPAQUE)},
}


def layer_is_empty(made: Made) -> None:
    assert os.listdir(made.upper) == []
    assert os.path.getsize(made.layer.trees[0].origins) == 0
    assert not os.path.exists(made.layer.journal)
    with open_layer("it", made.env) as layer, Comparison(layer.trees[0]) as comparison:
        assert comparison.changes() == []


@pytest.mark.parametrize("case", CASES)
def test_all(tmp_path: Path, case: str) -> None:
    made = make(tmp_path, LOWER, CASES[case])
    assert commit(made) == {}
    assert summary(made.lower) == plain(merged(LOWER, CASES[case]))
    layer_is_empty(made)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lower=st.dictionaries(PATHS, PLAIN, min_size=2, max_size=10).map(consistent),
    upper=st.dictionaries(PATHS, MARKED, min_size=2, max_size=10).map(consistent),
    some=st.lists(st.integers(0, 20), max_size=3),
)
def test_random(tmp_path_factory: pytest.TempPathFactory, lower: Spec, upper: Spec, some: list[int]) -> None:
    """A commit of some paths does not change what the layer shows; one of all makes the real tree that."""
    made = make(tmp_path_factory.mktemp("t"), lower, upper)
    expected = plain(merged(lower, upper))
    known = sorted({**normal(lower), **normal(upper)})
    for path in (known[number % len(known)] for number in some):
        try:
            commit(made, path)
        except LayerError:
            event("not changed")
        else:
            event("some committed")
        with open_layer("it", made.env) as layer:
            assert shown(layer.trees[0]) == expected, f"after {path!r}"
            tree = layer.trees[0]
            with Comparison(tree) as comparison:
                assert not [change for change in comparison.changes() if covered(change.path, [path])]
    assert commit(made) == {}
    assert summary(made.lower) == expected
    layer_is_empty(made)


def shown(tree: Any) -> dict[bytes, Any]:
    """What the layer shows, by overlay.Stack."""
    found: dict[bytes, Any] = {}
    with Comparison(tree) as comparison:
        stack = comparison.stack
        pending = [(b"", stack.root())]
        while pending:
            path, of = pending.pop()
            level, where = of.top
            full = os.path.join(stack.levels[level].root.root, where)
            mode = stat.S_IMODE(of.st.st_mode)
            if of.is_directory:
                found[path] = ("directory", mode)
                for name in {name for part in of.parts for name in stack.names(part)}:
                    child = stack.child(of.parts, name)
                    if child is not None:
                        pending.append((os.path.join(path, name), child))
            elif stat.S_ISREG(of.st.st_mode):
                own = [name for name in os.listxattr(full) if ".overlay." not in name]
                xattrs = {name: os.getxattr(full, name) for name in own}
                content = Path(os.fsdecode(full)).read_bytes()
                found[path] = ("file", content, mode, of.st.st_mtime_ns, xattrs)
            elif stat.S_ISLNK(of.st.st_mode):
                found[path] = ("link", os.readlink(full))
            else:
                found[path] = ("pipe", mode)
    return found


def test_some_paths(tmp_path: Path) -> None:
    upper: Spec = {b"new/deep/er": b"1", b"new/other": b"2", b"a": b"changed", b"d/x": Whiteout()}
    made = make(tmp_path, LOWER, upper)
    commit(made, b"new/deep", b"d/x")
    real = summary(made.lower)
    assert b"new/deep/er" in real
    assert b"new/other" not in real
    assert b"d/x" not in real
    assert real[b"a"][1] == b"one"
    with open_layer("it", made.env) as layer, Comparison(layer.trees[0]) as comparison:
        assert [change.path for change in comparison.changes()] == [b"a", b"new/other"]
    commit(made)
    assert summary(made.lower) == plain(merged(LOWER, upper))


def test_a_path_that_is_not_changed(tmp_path: Path) -> None:
    made = make(tmp_path, LOWER, {b"a": b"changed"})
    with pytest.raises(LayerError, match='/b" is not changed in the layer'):
        commit(made, b"a", b"b")
    assert summary(made.lower) == plain(merged(LOWER, {}))


def test_links_stay_links(tmp_path: Path) -> None:
    """Of one path of a file with several names, all are committed."""
    upper: Spec = {
        b"n/one": b"linked",
        b"two": File(same_as=b"n/one"),
        b"a": File(same_as=b"n/one"),
        b"z": b"",
    }
    made = make(tmp_path, LOWER, upper)
    commit(made, b"two")
    found = [os.lstat(os.path.join(made.lower, path)) for path in (b"n/one", b"two", b"a")]
    assert len({st.st_ino for st in found}) == 1
    assert found[0].st_nlink == 3
    assert not os.path.exists(os.path.join(made.lower, b"z"))


def test_links_that_were_there_keep_their_file(tmp_path: Path) -> None:
    tree: Spec = {b"a": b"1", b"b": File(same_as=b"a")}
    made = make(tmp_path, tree, {b"a": File(b"1", mode=0o600), b"b": File(same_as=b"a")})
    before = os.lstat(os.path.join(made.lower, b"a")).st_ino
    commit(made)
    for name in (b"a", b"b"):
        after = os.lstat(os.path.join(made.lower, name))
        assert (after.st_ino, stat.S_IMODE(after.st_mode)) == (before, 0o600)


def test_sparse_files_stay_sparse(tmp_path: Path) -> None:
    made = make(tmp_path, LOWER, {b"n/sparse": b"", b"link": b""})
    path = os.path.join(made.upper, b"n/sparse")
    with open(path, "r+b") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"middle")
    os.link(path, os.path.join(made.upper, b"work"))  # so that it must be copied
    os.rename(os.path.join(made.upper, b"work"), os.path.join(made.layer.trees[0].work, b"x"))
    commit(made)
    after = os.stat(os.path.join(made.lower, b"n/sparse"))
    assert after.st_size == 1 << 30
    assert after.st_blocks * 512 < 1 << 20
    with open(os.path.join(made.lower, b"n/sparse"), "rb") as file:
        file.seek(1 << 29)
        assert file.read(6) == b"middle"


def test_times_of_directories(tmp_path: Path) -> None:
    made = make(
        tmp_path, LOWER, {b"d": Dir(mtime=WHEN + 3), b"d/n": b"", b"new": Dir(mtime=WHEN + 4), b"new/x": b""}
    )
    commit(made)
    assert os.stat(os.path.join(made.lower, b"d")).st_mtime_ns == WHEN + 3
    assert os.stat(os.path.join(made.lower, b"new")).st_mtime_ns == WHEN + 4


# Conflicts


def _replace(real: str) -> None:
    new = Path(real, "n")
    new.write_bytes(b"ONE")
    os.utime(new, ns=(WHEN, WHEN))
    new.rename(Path(real, "a"))


THERE: Any = {
    "content": lambda real: Path(real, "a").write_bytes(b"theirs!"),
    "content of the same size": lambda real: Path(real, "a").write_bytes(b"ONE"),
    "touched": lambda real: os.utime(Path(real, "a")),
    "mode": lambda real: Path(real, "a").chmod(0o640),
    "replaced": _replace,
    "removed": lambda real: Path(real, "a").unlink(),
    "now a directory": lambda real: (Path(real, "a").unlink(), Path(real, "a").mkdir()),
    "now a link": lambda real: (Path(real, "a").unlink(), Path(real, "a").symlink_to("b")),
}


def conflicts(made: Made, resolution: str | None = None) -> dict[bytes, str]:
    with open_layer("it", made.env) as layer:
        (found,) = outlook(layer, None, resolution).values()
        return dict(found.conflicts)


def write_later(made: Made, path: bytes) -> None:
    """Later than anything of the layer, by the clock of files, which ticks some hundred times a second."""
    full = os.path.join(made.lower, path)
    latest = max(
        made.layer.created,
        *(os.lstat(os.path.join(made.upper, name)).st_ctime_ns for name in os.listdir(made.upper)),
    )
    while os.stat(full).st_ctime_ns <= latest:
        Path(os.fsdecode(full)).write_bytes(b"theirs")


@pytest.mark.parametrize("there", THERE)
@pytest.mark.parametrize("change", [b"changed", Whiteout(), Dir(), Link(b"x")], ids=repr)
def test_conflict(tmp_path: Path, there: str, change: Any) -> None:
    made = make(tmp_path, LOWER, {b"a": change, b"other": b"1"})
    THERE[there](os.fsdecode(made.lower))
    if there == "removed" and isinstance(change, Whiteout):
        assert conflicts(made) == {}
        return
    if there == "now a directory" and isinstance(change, Dir):
        assert conflicts(made) == {}
        return
    theirs = read(made.lower)
    assert list(conflicts(made)) == [b"a"]
    assert read(made.lower) == theirs, "nothing is done"
    commit(made, resolution=THEIRS)
    after = read(made.lower)
    assert after.pop(b"other")[0] == b"1"
    theirs.pop(b"")
    after.pop(b"")
    assert after == theirs
    layer_is_empty(made)


@pytest.mark.parametrize("there", THERE)
def test_ours(tmp_path: Path, there: str) -> None:
    made = make(tmp_path, LOWER, {b"a": b"changed", b"other": b"1"})
    THERE[there](os.fsdecode(made.lower))
    commit(made, resolution=OURS)
    assert Path(os.fsdecode(made.lower), "a").read_bytes() == b"changed"
    layer_is_empty(made)


def test_the_same_was_done_there(tmp_path: Path) -> None:
    made = make(tmp_path, LOWER, {b"a": b"changed", b"n": b"new"})
    for name, content in ((b"a", b"changed"), (b"n", b"new")):
        Path(os.fsdecode(os.path.join(made.lower, name))).write_bytes(content)
    assert conflicts(made) == {}


def test_a_backup_by_links_is_no_conflict(tmp_path: Path) -> None:
    made = make(tmp_path, LOWER, {b"a": b"changed"})
    os.link(os.path.join(made.lower, b"a"), tmp_path / "backup")
    assert conflicts(made) == {}


def test_made_there_since(tmp_path: Path) -> None:
    made = make(tmp_path, LOWER, {b"n": b"ours", b"dir": Dir(0o700), b"dir/x": b"1"})
    Path(os.fsdecode(made.lower), "n").write_bytes(b"theirs")
    Path(os.fsdecode(made.lower), "dir").mkdir()
    assert conflicts(made) == {b"n": "has been made there since"}


@pytest.mark.parametrize("upper", [{b"d": Whiteout()}, {b"d": Dir(xattrs=OPAQUE)}, {b"d": b"file"}], ids=repr)
def test_made_there_in_a_directory_that_goes(tmp_path: Path, upper: Spec) -> None:
    made = make(tmp_path, LOWER, upper)
    Path(os.fsdecode(made.lower), "d/new").write_bytes(b"theirs")
    assert list(conflicts(made)) == [b"d/new"]
    commit(made, resolution=THEIRS)
    assert Path(os.fsdecode(made.lower), "d/new").read_bytes() == b"theirs"
    layer_is_empty(made)


def test_a_directory_that_went_as_a_whole(tmp_path: Path) -> None:
    """The book names the directory alone: what was in it may go if it has not changed since."""
    made = make(tmp_path, LOWER, {}, book=False)
    made.note(b"d")
    os.mknod(os.path.join(made.upper, b"d"), stat.S_IFCHR, 0)
    assert conflicts(made) == {}
    write_later(made, b"d/x")
    assert list(conflicts(made)) == [b"d/x"]


def test_without_a_book(tmp_path: Path) -> None:
    made = make(tmp_path, LOWER, {b"a": b"ours", b"b": Whiteout()}, book=False)
    assert conflicts(made) == {}
    write_later(made, b"a")
    assert list(conflicts(made)) == [b"a"]


def test_changed_while_it_is_committed(tmp_path: Path) -> None:
    """Between the look and the deed: theirs stays, ours stays in the layer."""
    made = make(tmp_path, LOWER, {b"a": b"ours", b"b": Whiteout(), b"n": b"new", b"z": b"1"})
    from vuosd.layers.commit import commit as do_commit

    with open_layer("it", made.env) as layer:
        found = outlook(layer, None)
        for name in ("a", "b", "n"):
            Path(os.fsdecode(made.lower), name).write_bytes(b"theirs")
        failed = do_commit(layer, found)
    assert sorted(os.path.basename(path) for path in failed) == [b"a", b"b", b"n"]
    assert {path: Path(os.fsdecode(made.lower), path).read_bytes() for path in "abnz"} == {
        **dict.fromkeys("abn", b"theirs"),
        "z": b"1",
    }
    assert sorted(os.listdir(made.upper)) == [b"a", b"b", b"n"]
    assert [name for name in os.listdir(made.lower) if name.startswith(b".vuos")] == []
    assert sorted(conflicts(made)) == [b"a", b"b", b"n"]


MOVED: Spec = {
    b"moved": Dir(xattrs={"user.overlay.redirect": b"d"}),
    b"moved/n": b"1",
    b"d": Whiteout(),
    b"b": b"changed",
    b"new/n": b"2",
    b"e/f": Dir(0o700),
}


@pytest.mark.parametrize("path", [b"moved", b"moved/n", b"d", b"d/x", b"moved/x", b""])
def test_what_belongs_to_a_rename_by_reference_stays_together(tmp_path: Path, path: bytes) -> None:
    made = make(tmp_path, LOWER, MOVED)
    with pytest.raises(LayerError, match=r'moved.* was renamed by reference .* or other paths'):
        commit(made, b"b", path)
    assert summary(made.lower) == plain(merged(LOWER, {}))


def test_what_a_rename_by_reference_leaves_alone(tmp_path: Path) -> None:
    made = make(tmp_path, LOWER, MOVED)
    with open_layer("it", made.env) as layer:
        before = shown(layer.trees[0])
    commit(made, b"b", b"new", b"e")
    changed: Spec = {b"b": b"changed", b"new/n": b"2", b"e/f": Dir(0o700)}
    assert summary(made.lower) == plain(merged(LOWER, changed))
    with open_layer("it", made.env) as layer:
        assert shown(layer.trees[0]) == before
    commit(made)
    assert summary(made.lower) == before
    layer_is_empty(made)
