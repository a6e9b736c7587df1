"""A cow against a directory of the host: whatever is done in it, each call gives what it gives natively, the
tree in the end is the same, and the tree below has not changed."""

import itertools
import json
import os
import random
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from harness.box import Box
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.app

PROGRAM = Path(__file__).with_name("operations.py")
VIEWS = {
    "cow": '[[mount]]\ntype = "cow"\ntarget = "{tree}"\nephemeral = true\n',
    "elsewhere": '[[mount]]\ntype = "cow"\ntarget = "/mnt"\nsource = "{tree}"\nephemeral = true\n',
    "enforce": '[view]\nenforce = true\n[[mount]]\ntype = "ro"\ntarget = "/"\n'
    '[[mount]]\ntype = "cow"\ntarget = "{tree}"\nephemeral = true\n',
}

names = st.sampled_from("abcde")
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
modes = st.sampled_from([0o755, 0o700, 0o711, 0o2755])
data = st.sampled_from(["", "x", "0123456789", "y" * 5000])
flags = st.sampled_from(
    [
        os.O_WRONLY | os.O_CREAT,
        os.O_RDWR,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL,
        os.O_WRONLY | os.O_APPEND,
        os.O_RDWR | os.O_CREAT | os.O_TRUNC,
        os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW,
        os.O_RDONLY | os.O_CREAT,
    ]
)


def call(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(name), *arguments)


operations = st.lists(
    st.one_of(
        call("mkdir", paths, modes),
        call("rmdir", paths),
        call("unlink", paths),
        call("rename", paths, paths),
        call("rename", paths, paths),
        call("renameat2", paths, paths, st.sampled_from([1, 2])),
        call("link", paths, paths),
        call("symlink", st.sampled_from(["a", "b", "../c", "d/e", "nowhere"]), paths),
        call("mkfifo", paths),
        call("chmod", paths, st.sampled_from([0o744, 0o700, 0o755, 0o4755])),
        call("utime", paths, st.integers(1, 10**9), st.booleans()),
        call("truncate", paths, st.sampled_from([0, 3, 5000])),
        call("make", paths, flags, data),
        call("make", paths, flags, data),
        call("read", paths, st.sampled_from([0, os.O_NOFOLLOW, os.O_DIRECTORY])),
        call("list", paths),
        call("readlink", paths),
        call("status", paths, st.booleans()),
        call("access", paths),
        call("setxattr", paths, data.filter(lambda text: len(text) < 100)),
        call("attributes", paths),
        call("temporary", paths, paths),
        call("enter", paths),
        call("scan", paths),
        call("by_descriptor", paths),
        call("map_shared", paths, data.filter(lambda text: len(text) < 100)),
        call("directory_descriptor", paths),
    ),
    min_size=20,
    max_size=120,
)

counter = itertools.count()


def below(top: Path) -> list[tuple[object, ...]]:
    """What must not change. A named pipe's times do: it is the one pipe, inside and outside."""
    found = []
    for path in sorted(top.rglob("*")):
        if path.is_fifo():
            continue
        s = path.lstat()
        text = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found.append((path, s.st_mode, s.st_uid, s.st_nlink, s.st_size, s.st_mtime_ns, s.st_ino, text))
    return found


def partly_somebody_elses(top: Path, me: int, mine: int, seed: int) -> None:
    """Gives some of what is in it to root, or to a foreign group, with modes that let the user read it: what
    may not be read cannot be copied up."""
    choose = random.Random(seed).choice  # noqa: S311 - not for secrets
    for path in sorted(top.rglob("*")):
        st = path.lstat()
        if choose((True, False, False)) or not (path.is_dir() or path.is_file()) or path.is_symlink():
            continue
        uid, gid = choose(((0, 0), (0, mine), (0, 5), (me, 5)))
        os.chown(path, uid, gid)
        files, directories = (0o644, 0o664, 0o646, 0o464, 0o466, 0o755), (0o755, 0o777, 0o1777, 0o575, 0o557)
        path.chmod(choose(directories if stat.S_ISDIR(st.st_mode) else files))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize("owner", ["mine", "partly somebody else's"])
def test_same_as_natively(box: Box, kind: str, owner: str) -> None:
    if os.geteuid() and owner != "mine":
        pytest.fail("the tests' own user has to be root here, to make another's files")
    # Read by other identities too, wherever the tests themselves lie.
    program = box.scratch / PROGRAM.name
    shutil.copy(PROGRAM, program)
    python = str(box.installation.python)

    def run(top: Path, script: list[Any], *, view: str | None = None, seen: str | None = None) -> str:
        file = box.file("operations.json", json.dumps(script))
        argv = [python, "-S", str(program), seen or str(top), str(file)]
        done = box.view(argv, view) if view else box.native(argv)
        return done.check().stdout

    # Not made smaller: each try is three runs of a program. The blob that is printed does that by hand.
    @settings(
        max_examples=12,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        phases=[Phase.generate],
    )
    @given(before=operations, after=operations, seed=st.integers(0, 1 << 32))
    def compare(before: list[Any], after: list[Any], seed: int) -> None:
        here = box.scratch / f"run{next(counter)}"
        # One directory further down: a link to "../c" stays in the tree.
        for name in ("native", "lower"):
            (here / name / "t").mkdir(parents=True)
            box.give(here)
        for name in ("native", "lower"):
            run(here / name / "t", before)
            if owner != "mine":
                partly_somebody_elses(here / name / "t", box.identity.uid, box.identity.gid, seed)
        unchanged = below(here / "lower")
        text = VIEWS[kind].format(tree=here / "lower")
        seen = "/mnt/t" if kind == "elsewhere" else None
        native = run(here / "native/t", after)
        assert run(here / "lower/t", after, view=text, seen=seen) == native
        assert below(here / "lower") == unchanged
        shutil.rmtree(here)

    compare()


def test_what_was_open_and_has_gone_is_not_listed(box: Box) -> None:
    """Where the tree is seen at its own place too, programs hold handles: see stack.h."""
    top = box.directory("tree")
    argv = [
        "/bin/sh",
        "-c",
        "cd /mnt && mkdir a a/b c && ls a a/b && rmdir a/b && mv c a && rmdir a/c && ls -a . a",
    ]
    done = box.view(argv, VIEWS["elsewhere"].format(tree=top)).check()
    assert done.stdout == "a:\nb\n\na/b:\n.:\n.\n..\na\n\na:\n.\n..\n"
