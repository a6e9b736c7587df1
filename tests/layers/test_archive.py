"""An exported layer, unpacked as the OCI image specification says, gives the tree that the layer shows."""

import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layers.model import merged, plain
from layers.random_trees import MARKED, PATHS, PLAIN, consistent
from layers.trees import OPAQUE, WHEN, Dir, File, Link, Made, Spec, Whiteout, make, summary

from vuosd.layers import LayerError
from vuosd.layers.archive import write
from vuosd.layers.changes import Comparison


def archive(made: Made) -> bytes:
    file = io.BytesIO()
    with Comparison(made.layer.trees[0]) as comparison:
        assert write([(b"", comparison)], file) == []
    return file.getvalue()


def unpack(made: Made, data: bytes) -> None:
    """GNU tar beside the tree; then whiteouts take away what the tree had, and the rest is put upon it."""
    top = os.path.join(os.path.dirname(made.lower), b"unpacked")
    os.mkdir(top)
    command = ["tar", "--extract", "--same-permissions", "--xattrs", "--xattrs-include=*", "--file=-"]
    subprocess.run([*command, "--directory", os.fsdecode(top)], input=data, check=True)
    for directory, directories, names in os.walk(top, topdown=True):
        real = os.path.join(made.lower, os.path.relpath(directory, top))
        for name in [name for name in names if name.startswith(b".wh.")]:
            os.unlink(os.path.join(directory, name))
            if name == b".wh..wh..opq":
                gone = os.listdir(real) if os.path.isdir(real) and not os.path.islink(real) else []
            else:
                gone = [name.removeprefix(b".wh.")]
            for other in gone:
                _remove(os.path.join(real, other))
            names.remove(name)
        for name in (*directories, *names):
            new, old = os.path.join(directory, name), os.path.join(real, name)
            is_directory = os.path.isdir(new) and not os.path.islink(new)
            if is_directory and os.path.isdir(old) and not os.path.islink(old):
                shutil.copystat(new, old)
                continue
            _remove(old)
            if is_directory:
                os.mkdir(old)
                shutil.copystat(new, old)
            else:
                os.rename(new, old)


def _remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lower=st.dictionaries(PATHS, PLAIN, max_size=8).map(consistent),
    upper=st.dictionaries(PATHS, MARKED, max_size=8).map(consistent),
)
def test_random(tmp_path_factory: pytest.TempPathFactory, lower: Spec, upper: Spec) -> None:
    top = tmp_path_factory.mktemp("t")
    made = make(top, lower, upper)
    unpack(made, archive(made))
    assert summary(made.lower) == plain(merged(lower, upper))
    shutil.rmtree(top)


def members(data: bytes) -> list[str]:
    done = subprocess.run(["tar", "--list", "--file=-"], input=data, capture_output=True, check=True)
    return done.stdout.decode().splitlines()


LOWER: Spec = {b"a": b"1", b"d/x": b"x", b"d/y": b"y", b"e/f": b"f"}
UPPER: Spec = {
    b"n": File(b"new", mtime=WHEN + 5, xattrs={"user.k": b"\0\xff"}),
    b"same": File(same_as=b"n"),
    b"a": Whiteout(),
    b"d": Dir(0o700, xattrs=OPAQUE),
    b"d/x": b"x",
    b"e": Whiteout(),
    b"l": Link(b"\xff"),
}


def test_members(tmp_path: Path) -> None:
    data = archive(make(tmp_path, LOWER, UPPER))
    assert members(data) == [".wh.a", "d/", "d/.wh..wh..opq", "d/x", ".wh.e", "l", "n", "same"]


def test_reproducible(tmp_path: Path) -> None:
    """The same tree, made at another time, elsewhere, in another order."""
    one = archive(make(tmp_path / "1", LOWER, UPPER))
    reverse = dict(reversed([item for item in UPPER.items() if item[0] != b"same"]))
    made = make(tmp_path / "2", LOWER, {**reverse, b"same": UPPER[b"same"]})
    assert archive(made) == one


def test_a_name_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match=r'd/\.wh\.x" cannot be exported'):
        archive(make(tmp_path, LOWER, {b"d/.wh.x": b""}))
