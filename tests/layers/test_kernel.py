"""Against the kernel's own overlayfs: it shows of our layers what we show, and we read those that it made.

Mounting needs root; overlayfs itself is wherever a kernel has it.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layers.model import merged, plain
from layers.random_trees import MARKED, PATHS, PLAIN, consistent
from layers.trees import Dir, File, Link, Made, Spec, commit, make, read, summary

from vuosd.layers.changes import Comparison, Kind

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root"),
]


@contextmanager
def mounted(made: Made, top: Path, options: str) -> Iterator[Path]:
    where = top / "mount"
    where.mkdir(exist_ok=True)
    tree = made.layer.trees[0]
    lower, upper, work = (os.fsdecode(path) for path in (made.lower, tree.upper, tree.work))
    text = f"{options},lowerdir={lower},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "-o", text, "none", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lower=st.dictionaries(PATHS, PLAIN, max_size=8).map(consistent),
    upper=st.dictionaries(PATHS, MARKED, max_size=8).map(consistent),
)
def test_our_layer_mounts(tmp_path_factory: pytest.TempPathFactory, lower: Spec, upper: Spec) -> None:
    top = tmp_path_factory.mktemp("t")
    made = make(top, lower, upper)
    with mounted(made, top, "userxattr") as where:
        assert summary(where) == plain(merged(lower, upper))


LOWER: Spec = {
    b"a": File(b"one", xattrs={"user.k": b"v"}),
    b"b": b"two",
    b"l": Link(b"a"),
    b"d/x": b"x",
    b"d/y": b"y",
    b"d/e/f": b"f",
    b"h1": b"h",
    b"h2": File(same_as=b"h1"),
}


def work(top: Path) -> None:
    """What a program might do."""
    (top / "a").chmod(0o600)
    (top / "b").write_bytes(b"changed")
    (top / "new").mkdir()
    (top / "new" / "file").write_bytes(b"1")
    os.link(top / "new" / "file", top / "new" / "link")
    (top / "l").unlink()
    (top / "h1").unlink()
    try:
        (top / "d" / "e").rename(top / "d" / "E")
        (top / "d").rename(top / "moved")
    except OSError:
        return  # EXDEV: this mount does not rename directories of the lower tree
    (top / "moved" / "x").unlink()
    (top / "moved" / "z").write_bytes(b"z")
    (top / "moved" / "y").rename(top / "y")
    (top / "d").mkdir()
    (top / "d" / "x").write_bytes(b"again")


def again(top: Path) -> None:
    subprocess.run(["rm", "-r", top / "d"], check=True)
    (top / "d").mkdir()
    (top / "d" / "y").symlink_to("nowhere")


OPTIONS = {
    "userxattr": "userxattr",
    "plain": "redirect_dir=off,metacopy=off,index=off",
    "redirect": "redirect_dir=on,metacopy=off,index=off",
    "metacopy": "redirect_dir=on,metacopy=on,index=off",
    "index": "redirect_dir=on,metacopy=on,index=on",
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("job", [work, again], ids=["work", "again"])
def test_the_kernels_layer_is_read(tmp_path: Path, options: str, job: Callable[[Path], None]) -> None:
    made = make(tmp_path, LOWER, {}, book=False)
    with mounted(made, tmp_path, OPTIONS[options]) as where:
        job(where)
        shown = read(where)
    before = read(made.lower)
    with Comparison(made.layer.trees[0]) as comparison:
        found = {change.path: change.kind for change in comparison.changes()}
        if options in ("metacopy", "index") and job is work:
            assert comparison.redirected
    assert found == _difference(before, shown)
    commit(made)
    assert _files(read(made.lower)) == _files(shown)


def _difference(old: dict[bytes, Any], new: dict[bytes, Any]) -> dict[bytes, Kind]:
    """The same by comparing the two trees as anyone sees them; links apart, which no listing tells."""
    found: dict[bytes, Kind] = {}
    for path in {*old, *new}:
        one, other = old.get(path), new.get(path)
        if one is None:
            found[path] = Kind.ADDED
        elif other is None:
            found[path] = Kind.DELETED
        elif _type(one) != _type(other):
            found[path] = Kind.TYPE
        elif _content(one) != _content(other):
            found[path] = Kind.MODIFIED
        elif one[1:] != other[1:]:
            found[path] = Kind.METADATA
    return found


def _type(of: Any) -> str:
    what = _content(of)
    return "file" if isinstance(what, bytes) else "link" if isinstance(what, tuple) else str(what)


def _content(of: Any) -> Any:
    return of[0][0] if isinstance(of[0], tuple) and isinstance(of[0][0], bytes) else of[0]


def _files(tree: dict[bytes, Any]) -> dict[bytes, Any]:
    return {path: (_content(of), *of[1:]) for path, of in tree.items()}


def test_a_directory_that_was_moved_goes_whole(tmp_path: Path) -> None:
    from vuosd.layers import LayerError

    made = make(tmp_path, LOWER, {b"": Dir()}, book=False)
    with mounted(made, tmp_path, OPTIONS["redirect"]) as where:
        (where / "d").rename(where / "moved")
        (where / "b").write_bytes(b"changed")
    with pytest.raises(LayerError, match=r"moved.* was renamed by reference"):
        commit(made, b"moved/x")
    commit(made, b"b")
    assert (Path(os.fsdecode(made.lower)) / "b").read_bytes() == b"changed"
    commit(made)
    assert {b"d", b"moved"}.intersection(os.listdir(made.lower)) == {b"moved"}
    assert (Path(os.fsdecode(made.lower)) / "moved/x").read_bytes() == b"x"
