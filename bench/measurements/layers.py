"""What copy-on-write costs: trees that are made, replaced and removed, natively and in layers."""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import BytesIO

from bench.columns import SCRIPTS, Column
from bench.measurements.row import Row, Sample, Take
from bench.places import Place
from bench.run import Daemon, run
from vuosd.layers import create

COLUMNS = ("native", "cow", "overlayfs", "fuse-overlayfs")

_UNPACK = 'tar -x -C "$1" -f "$2"'
_REMOVE = 'rm -r "$1"/packages'
_CHECKOUT = 'cd "$1" && git checkout -q other && git checkout -q main'


def _archive(place: Place, files: int) -> str:
    """`files` small files as packages have them: 20 in a directory."""
    path = place.top / f"packages-{files}.tar"
    if not path.exists():
        with tarfile.open(path, "w") as tar:
            for i in range(files):
                text = b"module.exports = %d;\n" % i * (1 + i % 40)
                entry = tarfile.TarInfo(f"packages/package-{i // 100}/lib-{i % 100 // 20}/file-{i}.js")
                entry.size = len(text)
                tar.addfile(entry, BytesIO(text))
    return str(path)


def _timed(
    script: str, place: Place, column: Column, daemon: Daemon | None, *arguments: str, before: str = ""
) -> Sample:
    """`script` in sh; only it counts of the elapsed time, not `before`, which runs in the same view."""
    text = f'set -e\n{before}\nbegin=$(date +%s%N)\n( {script} )\nend=$(date +%s%N)\necho $((end - begin))'
    words = ["/bin/sh", "-c", text, "sh", *arguments]
    result = run(place, column, words, daemon=daemon, seconds=300)
    wall = int(result.output.split()[-1]) / 1e9
    return Sample(wall, wall, None if before else result.cpu)


def _new(place: Place, column: Column, what: str) -> str:
    """An empty directory below the tree, as the column sees it: natively the last one is removed."""
    path = place.tree / what
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return str(column.tree / what)


def _make(files: int, place: Place, column: Column, daemon: Daemon | None) -> Sample:
    return _timed(_UNPACK, place, column, daemon, _new(place, column, "made"), _archive(place, files))


def _remove_made(files: int, place: Place, column: Column, daemon: Daemon | None) -> Sample:
    arguments = (_new(place, column, "made"), _archive(place, files))
    return _timed(_REMOVE, place, column, daemon, *arguments, before=_UNPACK)


def _remove_below(files: int, place: Place, column: Column, daemon: Daemon | None) -> Sample:
    where = _new(place, column, "made")
    subprocess.run(["tar", "-x", "-C", place.tree / "made", "-f", _archive(place, files)], check=True)
    return _timed(_REMOVE, place, column, daemon, where)


def _repository(place: Place) -> None:
    """A clone with a branch in which every file is another."""
    top = place.tree / "checkout"
    if top.exists():
        return
    place.repository()

    def git(*arguments: str) -> None:
        words = ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", *arguments]
        subprocess.run(words, cwd=top, check=True, capture_output=True, env=place.environment())

    top.mkdir()
    git("clone", "-q", "--local", str(place.tree / "repository"), ".")
    git("checkout", "-q", "-b", "other")
    for path in top.rglob("*.c"):
        path.write_text(path.read_text() + "/* other */\n")
    git("commit", "-q", "-a", "-m", "other")
    git("checkout", "-q", "main")


def _checkout(place: Place, column: Column, daemon: Daemon | None) -> Sample:
    return _timed(_CHECKOUT, place, column, daemon, str(column.tree / "checkout"))


def _changed(place: Place, files: int) -> str:
    """The name of a layer in which `files` files have changed."""
    name, below = f"changed-{files}", place.top / f"below-{files}"
    if below.exists():
        return name
    below.mkdir()
    environment = {"HOME": str(place.top)}
    with create(name, [(os.fsencode(below), (os.fsencode(below),))], environment) as layer:
        trees = os.fsencode(below), layer.trees[0].upper
        for i in range(files):
            if i % 100 == 0:
                for tree in trees:
                    os.mkdir(tree + b"/%d" % (i // 100))
            for tree, text in zip(trees, (b"before\n", b"after it\n"), strict=True):
                with open(tree + b"/%d/%d" % (i // 100, i), "wb") as file:
                    file.write(text)
        with open(layer.trees[0].origins, "wb"):
            pass
    return name


def _diff(files: int, place: Place, column: Column, daemon: Daemon | None) -> Sample:
    script = '"$1" diff --name-only "$2" > /dev/null || [ $? = 1 ]'
    outside = replace(column, name="outside", wrap=list)
    return _timed(script, place, outside, None, str(SCRIPTS / "vuctl"), _changed(place, files))


def rows(place: Place, *, quick: bool) -> list[Row]:
    small, changed = (3000, 10000) if quick else (30000, 100000)

    def row(name: str, take: Take, target: str, prepare: Callable[[], object] | None = None) -> Row:
        return Row(name, take, only=COLUMNS, target={"cow": target}, runs=0.5, prepare=prepare)

    return [
        row("git checkout, 8000 files twice", _checkout, "2x", partial(_repository, place)),
        row(f"create {small} files", partial(_make, small), "3x"),
        row(f"rm -r {small}, of the layer", partial(_remove_made, small), "3x"),
        row(f"rm -r {small}, below", partial(_remove_below, small), "3x"),
        Row(
            f"vuctl diff, {changed} changed",
            partial(_diff, changed),
            only=("cow",),
            target={"cow": "3 s"},
            runs=0.5,
            prepare=partial(_changed, place, changed),
        ),
    ]
