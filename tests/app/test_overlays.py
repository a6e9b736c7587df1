"""Layers beside other programs of their format: what the kernel's overlayfs and fuse-overlayfs show of a
layer that a run has made, and what a run shows of theirs.

`vuctl export` is one more way to see a layer, where neither can be mounted: its archive, unpacked as
OCI says.
"""

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from harness import overlays
from harness.box import Argument, Box
from harness.overlays import Overlay

pytestmark = pytest.mark.app

DUMP = """
import json, os, stat, sys
top, found, first = sys.argv[1], {}, {}
for directory, directories, files in os.walk(top):
    directories.sort()
    names = sorted(directories + files)
    assert len(set(names)) == len(names), names
    for path in [directory] * (directory == top) + [os.path.join(directory, name) for name in names]:
        st = os.lstat(path)
        name = os.path.relpath(path, top)
        what = None
        if stat.S_ISREG(st.st_mode):
            what = open(path, 'rb').read().hex()
        elif stat.S_ISLNK(st.st_mode):
            what = os.readlink(path)
        xattrs = {}
        if not stat.S_ISLNK(st.st_mode):
            xattrs = {n: os.getxattr(path, n).hex() for n in os.listxattr(path) if n.startswith('user.')}
        same = name
        if not stat.S_ISDIR(st.st_mode):
            same = first.setdefault((st.st_dev, st.st_ino), name)
        found[name] = [oct(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns, what, xattrs, same]
json.dump(found, sys.stdout)
"""

LOWER = """
import os
for name in ('keep', 'gone', 'rewritten', 'renamed', 'mode', 'attributes', 'd/x', 'd/y', 'd/e/f',
             'gone-dir/a/b', 'again/old', 'moved/a', 'moved/in/b', 'partly/1',
             'partly/2', 'partly/3/4', 'becomes-dir'):
    os.makedirs(os.path.dirname(name) or '.', exist_ok=True)
    open(name, 'w').write(name)
os.makedirs('becomes-file')
os.symlink('keep', 'link')
os.mkfifo('pipe')
os.link('keep', 'd/same')
os.setxattr('attributes', 'user.old', b'1')
for directory, directories, files in os.walk('.', topdown=False):
    for name in [*files, *directories]:
        os.utime(os.path.join(directory, name), ns=(10**18 + len(name), 10**18 + 7), follow_symlinks=False)
"""

# `move`: a directory that also lies below can be renamed here; an overlay says EXDEV, and mv(1) copies.
JOB = """
import os, shutil
def move(old, new):
    try:
        os.rename(old, new)
    except OSError as error:
        if error.errno != 18:
            raise
        shutil.move(old, new)
open('new', 'w').write('new')
os.makedirs('n/e/w')
os.link('new', 'n/e/w/link')
os.symlink('../keep', 'n/link')
os.unlink('gone'); os.unlink('link'); os.symlink('elsewhere', 'link')
open('rewritten', 'a').write(' more')
os.rename('renamed', 'd/renamed')
os.chmod('mode', 0o640); os.utime('mode', ns=(5, 10**18 + 123456789))
os.setxattr('attributes', 'user.new', b'2'); os.removexattr('attributes', 'user.old')
os.setxattr('d', 'user.of-a-directory', b'3'); os.chmod('d/e', 0o2755)
shutil.rmtree('gone-dir')
shutil.rmtree('again'); os.mkdir('again'); open('again/new', 'w').close()
move('moved', 'here'); open('here/in/c', 'w').close(); os.unlink('here/a')
os.unlink('partly/1'); open('partly/1', 'w').write('again'); os.unlink('partly/2')
os.unlink('becomes-dir'); os.mkdir('becomes-dir'); open('becomes-dir/x', 'w').close()
os.rmdir('becomes-file'); open('becomes-file', 'w').close()
os.mkfifo('n/pipe')
"""

MORE = """
import os, shutil
os.unlink('new'); os.unlink('d/x'); open('gone', 'w').write('back')
shutil.rmtree('n'); shutil.rmtree('partly'); os.mkdir('partly'); os.mkdir('moved')
open('moved/z', 'w').close()
open('becomes-dir/x', 'w').write('x'); os.rename('d/y', 'y'); os.rename('becomes-dir', 'dir')
os.mkdir('gone-dir'); open('again/more', 'w').close(); open('d/e/f', 'a').write('!')
"""


class Trees:
    """A tree that is not changed, and a layer over it."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.lower = box.directory("tree")
        self.where = box.directory("mounted")
        self.python("outside", self.lower, LOWER)
        self.store = box.scratch / "home/.local/state/vuos/it/0"

    @property
    def parts(self) -> tuple[Path, Path, Path, Path]:
        return self.lower, self.store / "upper", self.store / "work", self.where

    def python(self, how: str | Overlay, top: Path, script: str) -> str:
        words: list[Argument] = [self.box.installation.python, "-c", script, "."]
        if how == "outside":
            done = self.box.native(words, cwd=top)
        elif isinstance(how, Overlay):
            inside = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', top, *self.box.outer, *words]
            done = self.box.native([*how.around(*self.parts), *inside], outer=(), cwd=self.box.scratch)
        else:
            done = self.box.view(words, options=(how,), cwd=top)
        return done.check().stdout

    def seen(self, how: str | Overlay) -> dict[str, Any]:
        top = self.where if isinstance(how, Overlay) else self.lower
        found: dict[str, Any] = json.loads(self.python(how, top, DUMP))
        return found

    def do(self, how: str | Overlay, script: str) -> None:
        self.python(how, self.where if isinstance(how, Overlay) else self.lower, script)

    def run(self, script: str) -> None:
        """In the layer, which is made if there is none."""
        there = self.store.exists()
        options = ("--on=it",) if there else ("--cow", "--name=it")
        words = [self.box.installation.python, "-c", script]
        self.box.view(words, options=options, cwd=self.lower).check()

    def emptied(self) -> None:
        """A layer that nobody has changed yet, and of which there is no book: for others to fill."""
        self.run("open('seed', 'w')")
        upper = self.store / "upper"
        (upper / "seed").unlink()
        st = self.lower.stat()
        os.utime(upper, ns=(st.st_atime_ns, st.st_mtime_ns))
        (self.store / "origins").unlink()


@pytest.fixture
def trees(box: Box) -> Trees:
    return Trees(box)


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert {p: v for p, v in one.items() if other.get(p) != v} == {
        p: v for p, v in other.items() if one.get(p) != v
    }


@pytest.mark.parametrize("overlay", overlays.here(), ids=str)
def test_our_layer_there(trees: Trees, overlay: Overlay) -> None:
    before = trees.seen("outside")
    trees.run(JOB)
    same(trees.seen(overlay), trees.seen("--on=it"))
    trees.run(MORE)
    same(trees.seen(overlay), trees.seen("--on=it"))
    same(trees.seen("outside"), before)


@pytest.mark.parametrize("overlay", overlays.here(), ids=str)
def test_their_layer_here(trees: Trees, overlay: Overlay) -> None:
    trees.emptied()
    trees.do(overlay, JOB)
    shown = trees.seen(overlay)
    same(trees.seen("--on=it"), shown)
    # And on, in turns.
    trees.run(MORE)
    shown = trees.seen(overlay)
    same(trees.seen("--on=it"), shown)
    trees.do(overlay, "import os; os.unlink('moved/z'); os.rename('y', 'z'); open('partly/new', 'w').close()")
    same(trees.seen("--on=it"), trees.seen(overlay))


@pytest.mark.only("root")
@pytest.mark.parametrize("overlay", overlays.referring(), ids=str)
def test_their_references_here(trees: Trees, overlay: Overlay) -> None:
    """Directories that were moved by a mark, and files that have their attributes only."""
    trees.emptied()
    trees.do(overlay, JOB)
    shown = trees.seen(overlay)
    marks = {
        name
        for path in (trees.store / "upper").rglob("*")
        for name in os.listxattr(path, follow_symlinks=False)
    }
    assert {"trusted.overlay.redirect", "trusted.overlay.metacopy"} <= marks
    same(trees.seen("--on=it"), shown)
    marks = {
        name
        for path in (trees.store / "upper").rglob("*")
        for name in os.listxattr(path, follow_symlinks=False)
    }
    assert not marks & {"trusted.overlay.redirect", "trusted.overlay.metacopy"}


def test_our_layer_as_an_archive(trees: Trees) -> None:
    """Without any file system's help: the archive is unpacked over a copy of the tree."""
    trees.run(JOB)
    trees.run(MORE)
    shown = trees.seen("--on=it")
    archive = trees.box.scratch / "layer.tar"
    trees.box.native([trees.box.installation.bin / "vuctl", "export", "it", archive], cwd=trees.lower).check()
    copy = trees.box.scratch / "copy"
    subprocess.run(["cp", "-a", trees.lower, copy], check=True)
    unpack(archive, copy)

    def plain(found: dict[str, Any]) -> dict[str, Any]:
        """Without the times of directories, which unpacking changes."""
        return {
            path: [*of[:3], None if of[0].startswith("0o4") else of[3], *of[4:]] for path, of in found.items()
        }

    trees.lower.rename(trees.box.scratch / "original")
    copy.rename(trees.lower)
    same(plain(trees.seen("outside")), plain(shown))


def unpack(archive: Path, top: Path) -> None:
    """image-spec/layer.md: what is gone first, then what is there."""
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    for member in members:
        path = top / member.name
        if path.name == ".wh..wh..opq":
            for inside in list(path.parent.iterdir()) if path.parent.is_dir() else ():
                remove(inside)
        elif path.name.startswith(".wh."):
            remove(path.with_name(path.name[4:]))
        elif os.path.lexists(path) and not (member.isdir() and path.is_dir() and not path.is_symlink()):
            remove(path)
    words = ["tar", "-x", "--xattrs", "--xattrs-include=user.*", "--exclude=.wh.*", "--numeric-owner"]
    subprocess.run([*words, "-p", "-C", top, "-f", archive], check=True)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
