"""What counts as a change, and how it is read from every flavour of layer."""

import os
import time
from pathlib import Path

import pytest
from layers.trees import OPAQUE, WHEN, Dir, File, Link, Made, Pipe, Spec, Whiteout, make

from vuosd.layers.changes import Change, Comparison, Kind

A, M, m, D, T = Kind.ADDED, Kind.MODIFIED, Kind.METADATA, Kind.DELETED, Kind.TYPE


def changes_of(made: Made, *, whole: bool = True) -> list[Change]:
    with Comparison(made.layer.trees[0], whole=whole) as comparison:
        return comparison.changes()


def kinds(directory: Path, lower: Spec, upper: Spec, *, book: bool = True) -> dict[bytes, Kind]:
    return {change.path: change.kind for change in changes_of(make(directory, lower, upper, book=book))}


LOWER: Spec = {b"a": b"one", b"d/x": b"x", b"d/y": b"y", b"l": Link(b"a"), b"e/f/g": b"deep"}

CASES: dict[str, tuple[Spec, dict[bytes, Kind]]] = {
    "nothing": ({}, {}),
    "new": ({b"new": b"1"}, {b"new": A}),
    "new below": ({b"d/new/er": b"1"}, {b"d/new": A, b"d/new/er": A}),
    "longer": ({b"a": b"longer"}, {b"a": M}),
    "as long": ({b"a": b"two"}, {b"a": M}),
    "as long, same time": ({b"a": File(b"two", mtime=WHEN)}, {b"a": M}),
    "copied up and left": ({b"a": b"one", b"d/x": b"x"}, {}),
    "touched": ({b"a": File(b"one", mtime=WHEN + 1)}, {b"a": m}),
    "chmod": ({b"a": File(b"one", mode=0o600)}, {b"a": m}),
    "attribute": ({b"a": File(b"one", xattrs={"user.colour": b"red"})}, {b"a": m}),
    "whiteout": ({b"a": Whiteout()}, {b"a": D}),
    "whiteout of nothing": ({b"d/none": Whiteout(), b"none": Whiteout(True)}, {}),
    "attribute whiteout": ({b"d/x": Whiteout(attribute=True)}, {b"d/x": D}),
    "an empty file that is none": ({b"d/x": b"", b"d/y": Whiteout(True)}, {b"d/x": M, b"d/y": D}),
    "deleted directory": ({b"e": Whiteout()}, {b"e": D, b"e/f": D, b"e/f/g": D}),
    "opaque": ({b"d": Dir(xattrs=OPAQUE), b"d/x": b"x", b"d/z": b""}, {b"d/y": D, b"d/z": A}),
    "opaque as before": ({b"d": Dir(xattrs=OPAQUE), b"d/x": b"x", b"d/y": b"y"}, {}),
    "opaque, fuse-overlayfs": (
        {b"d": Dir(xattrs={"user.fuseoverlayfs.opaque": b"y"}), b"d/x": b"x"},
        {b"d/y": D},
    ),
    "directory's mode": ({b"d": Dir(0o700)}, {b"d": m}),
    "directory's time alone": ({b"d": Dir(mtime=WHEN + 5)}, {}),
    "directory's time with an entry": ({b"d": Dir(mtime=WHEN + 5), b"d/n": b""}, {b"d/n": A}),
    "directory's time with one far below": ({b"e": Dir(mtime=WHEN + 5), b"e/f/n": b""}, {b"e/f/n": A}),
    "file to directory": ({b"a": Dir(), b"a/b": b""}, {b"a": T, b"a/b": A}),
    "directory to file": ({b"e": b"f"}, {b"e": T, b"e/f": D, b"e/f/g": D}),
    "link": ({b"l": Link(b"b")}, {b"l": M}),
    "link as before": ({b"l": Link(b"a")}, {}),
    "link to file": ({b"l": b"a"}, {b"l": T}),
    "pipe": ({b"p": Pipe(), b"a": Pipe()}, {b"p": A, b"a": T}),
    "any byte": ({b"\xff\n\t": b"", b"d/\xc3\x28": b""}, {b"\xff\n\t": A, b"d/\xc3\x28": A}),
    "names of fuse-overlayfs are names": (
        {b"d/.wh.x": b"", b"d/.wh..wh..opq": b""},
        {b"d/.wh.x": A, b"d/.wh..wh..opq": A},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_kinds(tmp_path: Path, case: str) -> None:
    upper, expected = CASES[case]
    assert kinds(tmp_path, LOWER, upper) == expected


def test_whiteout_files_in_a_layer_made_elsewhere(tmp_path: Path) -> None:
    upper: Spec = {b"d/.wh.x": b"", b"e/.wh..wh..opq": b"", b"e/n": b""}
    expected = {b"d/x": D, b"e/f": D, b"e/f/g": D, b"e/n": A}
    assert kinds(tmp_path, LOWER, upper, book=False) == expected


def test_attributes(tmp_path: Path) -> None:
    made = make(tmp_path, LOWER, {b"a": File(b"one", mode=0o600, mtime=WHEN + 1, xattrs={"user.x": b"1"})})
    (change,) = changes_of(made)
    assert change.attributes == ("mode", "times", "xattrs")


def test_marks_are_no_attributes(tmp_path: Path) -> None:
    marks = {"user.overlay.origin": b"", "user.overlay.impure": b"y", "user.overlay.uuid": b"1"}
    made = make(
        tmp_path, LOWER, {b"": Dir(xattrs=marks), b"d": Dir(xattrs=marks), b"a": File(b"one", xattrs=marks)}
    )
    assert changes_of(made) == []


def test_redirect(tmp_path: Path) -> None:
    upper: Spec = {
        b"moved": Dir(xattrs={"user.overlay.redirect": b"d"}),
        b"d": Whiteout(),
        b"moved/x": b"changed",
        b"e/far": Dir(xattrs={"user.overlay.redirect": b"/e/f"}),
        b"e/f": Whiteout(),
    }
    assert kinds(tmp_path, LOWER, upper) == {
        b"d": D,
        b"d/x": D,
        b"d/y": D,
        b"moved": A,
        b"moved/x": A,
        b"moved/y": A,
        b"e/f": D,
        b"e/f/g": D,
        b"e/far": A,
        b"e/far/g": A,
    }


def test_redirect_in_circles_ends(tmp_path: Path) -> None:
    upper: Spec = {b"d": Dir(xattrs={"user.overlay.redirect": b"/d/d/d"})}
    assert kinds(tmp_path, LOWER, upper) == {b"d/x": D, b"d/y": D}


def test_metacopy(tmp_path: Path) -> None:
    marks = {"user.overlay.metacopy": b""}
    made = make(tmp_path, {b"a": b"one", b"b": b"two"}, {b"a": File(mode=0o600, xattrs=marks)})
    moved = {"user.overlay.metacopy": b"", "user.overlay.redirect": b"/b"}
    for name, attributes in ((b"a", marks), (b"c", moved)):
        path = os.path.join(made.upper, name)
        open(path, "ab").close()
        for attribute, value in attributes.items():
            os.setxattr(path, attribute, value)
        os.truncate(path, 3)
        os.utime(path, ns=(WHEN, WHEN))
    first, second = changes_of(made)
    assert (first.path, first.kind, first.attributes) == (b"a", m, ("mode",))
    assert (second.path, second.kind) == (b"c", A)
    assert second.new is not None
    assert second.new.content == (1, b"b")


def test_links(tmp_path: Path) -> None:
    made = make(
        tmp_path,
        {b"a": b"1", b"b": b"1", b"c": b"1"},
        {b"a": b"1", b"b": File(same_as=b"a"), b"new": File(same_as=b"a"), b"c": b"1"},
    )
    found = {change.path: (change.kind, change.attributes, change.links) for change in changes_of(made)}
    assert found == {
        b"a": (m, ("links",), (b"b", b"new")),
        b"b": (m, ("links",), (b"a", b"new")),
        b"new": (A, (), (b"a", b"b")),
    }


def test_links_that_were_there(tmp_path: Path) -> None:
    tree: Spec = {b"a": b"1", b"b": File(same_as=b"a")}
    assert changes_of(make(tmp_path, tree, tree)) == []


def test_deep(tmp_path: Path) -> None:
    """Deeper than PATH_MAX, than the recursion limit, and than there are descriptors."""
    made = make(tmp_path, {}, {})
    fd = os.open(made.upper, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir(b"directory", dir_fd=fd)
        below = os.open(b"directory", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    assert len(changes_of(made)) == 1500
    from vuosd.layers import drop

    drop("it", made.env)
    assert os.listdir(made.store) == []


@pytest.mark.slow
def test_speed(tmp_path: Path) -> None:
    """100000 changed files; the bound leaves room for a busy machine."""
    count = 100_000
    lower, upper = tmp_path / "real", None
    made = make(tmp_path, {}, {})
    upper = Path(os.fsdecode(made.upper))
    for number in range(count // 1000):
        for top in (lower, upper):
            (top / f"{number}").mkdir()
            for name in range(1000):
                with open(top / f"{number}" / f"{name}", "wb") as file:
                    file.write(b"new" if top is upper else b"old")
    start = time.process_time()
    found = changes_of(made)
    took = time.process_time() - start
    assert len(found) == count
    assert took < 6, f"{took:.2f} s"
