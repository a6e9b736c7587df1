"""A commit that is killed before each of its system calls that change anything: it is completed or undone by
the next one, as root and as an ordinary user."""

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest
from harness import identities
from layers.model import merged, plain
from layers.test_several import Several
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
    build,
    commit,
    make,
    summary,
)

from vuosd.layers import Layer, LayerError, drop, open_layer
from vuosd.layers.commit import commit as do_commit
from vuosd.layers.commit import outlook, recover
from vuosd.layers.steps import Plan

CHANGING = {
    *("open", "write", "pwrite", "fsync", "ftruncate", "copy_file_range", "utime", "chmod", "chown"),
    *("rename", "link", "unlink", "mkdir", "rmdir", "symlink", "mknod", "setxattr", "removexattr"),
}
OURS = {"renameat2", "syncfs", "clone"}

LOWER: Spec = {
    b"a": b"one",
    b"b": b"two",
    b"d/x": b"x",
    b"d/y": b"y",
    b"l": Link(b"a"),
    b"e/f/g": b"deep",
    b"h1": b"h",
    b"h2": File(same_as=b"h1"),
    b"closed/x": b"1",
    b"closed": Dir(0o555),
    b"t": b"file",
    b"q/in": b"1",
}
UPPER: Spec = {
    b"a": File(b"changed", xattrs={"user.k": b"v"}),
    b"b": File(b"two", mode=0o600, mtime=WHEN + 1),
    b"d": Dir(0o750, xattrs=OPAQUE),
    b"d/x": b"new x",
    b"e": Whiteout(),
    b"l": Link(b"elsewhere"),
    b"h1": b"H",
    b"h2": File(same_as=b"h1"),
    b"new/dir/file": b"1",
    b"new/pipe": Pipe(),
    b"closed": Dir(0o555),
    b"closed/x": Whiteout(),
    b"closed/z": b"2",
    b"t": Dir(),
    b"t/in": b"",
    b"q": b"file",
}
pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.timeout(600)]

UPPER_SOME = (b"new", b"d/x", b"a", b"e/f", b"h1")


@pytest.fixture(params=identities.names())
def identity(request: pytest.FixtureRequest) -> identities.Identity:
    return identities.get(request.param)


@pytest.fixture
def place(public: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir=public))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def given_to(identity: identities.Identity, made: Made, top: Path) -> Made:
    for directory, directories, files in os.walk(top):
        for name in ("", *directories, *files):
            os.chown(os.path.join(directory, name), identity.uid, identity.gid, follow_symlinks=False)
    return made


def in_child(identity: identities.Identity, work: Callable[[], Any], kill_before: int = 0) -> int:
    """Run it as somebody in a process of its own; the wait status. Killed before that many changing calls."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    try:
        if not identity.is_us:
            os.setgroups([])
            os.setgid(identity.gid)
            os.setuid(identity.uid)
        if kill_before:
            sys.setprofile(_Killer(kill_before))
        work()
        sys.setprofile(None)
        os._exit(0)
    except BaseException:
        sys.setprofile(None)
        sys.excepthook(*sys.exc_info())
        os._exit(1)


class _Killer:
    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        ours = event == "call" and frame.f_code.co_name in OURS
        theirs = event == "c_call" and argument.__module__ == "posix" and argument.__name__ in CHANGING
        if ours or theirs:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)


def _finish(made: Made) -> None:
    with open_layer("it", made.env, unfinished=True) as layer:
        done = recover(layer)
        assert done is None or done.failed == {}
        assert not os.path.exists(layer.journal)


def clean(made: Made) -> bool:
    """No temporary names are left."""
    return not [path for path in summary(made.lower) if b".vuos-" in path]


def test_all(identity: identities.Identity, place: Path) -> None:
    before, after = plain(merged(LOWER, {})), plain(merged(LOWER, UPPER))
    undone = completed = 0
    for number in range(1, 10_000):
        top = place / str(number)
        made = given_to(identity, make(top, LOWER, UPPER), top)
        status = in_child(identity, lambda made=made: commit(made), number)
        if status == 0:
            break
        assert status == signal.SIGKILL
        assert in_child(identity, lambda made=made: _finish(made)) == 0
        found = summary(made.lower)
        assert found in (before, after), number
        undone += found == before
        completed += found == after
        assert in_child(identity, lambda made=made: commit(made)) == 0
        assert summary(made.lower) == after, number
        assert os.listdir(made.upper) == []
        shutil.rmtree(top)
    assert summary(made.lower) == after
    assert undone > 20
    assert completed > 20


def test_some(identity: identities.Identity, place: Path) -> None:
    """Killed, finished by the one after, killed in that as well, and so on: the last one is let through."""
    expected = plain(merged(LOWER, UPPER))
    made = None
    for number in range(3, 400, 7):
        top = place / str(number)
        made = given_to(identity, make(top, LOWER, UPPER), top)
        status = in_child(identity, lambda made=made: commit(made, *UPPER_SOME), number)
        for again in range(2, 60, 11):
            assert in_child(identity, lambda made=made: _finish(made), again) in (0, signal.SIGKILL)
        assert in_child(identity, lambda made=made: _finish(made)) == 0
        assert clean(made)
        assert in_child(identity, lambda made=made: commit(made)) == 0
        assert summary(made.lower) == expected, number
        assert os.listdir(made.upper) == []
        if status == 0:
            return
        shutil.rmtree(top)
    pytest.fail("it was killed each time")


def _upon(made: Made) -> None:
    """As if the tree below were a file system that only a view has."""
    path = Path(os.fsdecode(made.store)) / "it" / "layer.json"
    told = json.loads(path.read_text())
    told["trees"][0] |= {"lower": [], "system": "ext4 of it"}
    path.write_text(json.dumps({**told, "format": 2}))


def _mounted(made: Made, lower: bytes, work: Callable[[Layer], Any]) -> Any:
    with open_layer("it", made.env, unfinished=True) as layer:
        layer.trees = tuple(tree._replace(lowers=(lower,)) for tree in layer.trees)
        return work(layer)


def _has_another_device(journal: bytes) -> None:
    """What was judged lies on a device of another number now."""
    with open(journal, "r+b") as file:
        text = file.read()
        end = 8 + int.from_bytes(text[:8], "little")
        plan = msgspec.msgpack.decode(text[8:end], type=Plan)
        for step in plan.trees[0].steps:
            if step.before is not None:
                step.before = msgspec.structs.replace(step.before, dev=99)
        body = msgspec.msgpack.encode(plan)
        file.seek(0)
        file.write(len(body).to_bytes(8, "little") + body + text[end:])
        file.truncate()


def test_upon_a_file_system_that_is_mounted_anew(place: Path) -> None:
    """At another place, with another device number; and not at all where it is not mounted."""
    us = identities.get(identities.names()[0])
    after = plain(merged(LOWER, UPPER))
    completed = 0

    def whole(layer: Layer) -> None:
        assert do_commit(layer, outlook(layer, None)) == {}

    for number in range(25, 200, 20):
        made = make(place / str(number), LOWER, UPPER)
        lower = made.lower
        _upon(made)
        status = in_child(us, lambda made=made: _mounted(made, made.lower, whole), number)
        if status == 0:
            break
        if os.path.exists(made.layer.journal):
            with (
                open_layer("it", made.env, unfinished=True) as layer,
                pytest.raises(LayerError, match='stands upon "ext4 of it", which is not mounted'),
            ):
                recover(layer)
            _has_another_device(made.layer.journal)
            lower += b"-again"
            os.rename(made.lower, lower)
            done = _mounted(made, lower, recover)
            assert done.failed == {}
            completed += done.completed
            assert not [path for path in summary(lower) if b".vuos-" in path]
        _mounted(made, lower, whole)
        assert summary(lower) == after, number
    assert completed > 2


def test_drop_finishes_first(identity: identities.Identity, place: Path) -> None:
    states = set()
    for number in range(5, 300, 9):
        top = place / str(number)
        made = given_to(identity, make(top, LOWER, UPPER), top)
        status = in_child(identity, lambda made=made: commit(made), number)
        assert in_child(identity, lambda made=made: drop("it", made.env)) == 0
        assert clean(made)
        assert os.listdir(made.store) == []
        states.add(str(summary(made.lower)))
        if status == 0:
            break
    assert len(states) == 2, "as it was, or all of it committed"


def test_over_several_trees(identity: identities.Identity, place: Path) -> None:
    """Of all real trees together: everything, or nothing."""
    top: Spec = {b"a": b"top", b"d/x": b"x"}
    bottom: Spec = {b"b": b"bottom", b"d/y": b"y", b"e/f": b"f"}
    upper: Spec = {b"a": b"1", b"b": b"2", b"d": Whiteout(), b"e/new": b"3", b"new": b"4", b"e/f": Dir()}
    before = [summary(build(place / name, spec)) for name, spec in (("top", top), ("bottom", bottom))]
    after: list[object] = []
    undone = completed = 0
    for number in range(1000):  # 0: the whole of it, to see what it makes
        where = place / str(number)
        where.mkdir(mode=0o755)
        several = Several(where, top, bottom, upper)
        given_to(identity, several.layer, where)
        status = in_child(identity, several.commit, number)
        if not number:
            assert status == 0
            after = several.summaries()
            assert [sorted(summary(tree)) for tree in (several.lower, several.bottom)] == [
                [b"", b"a", b"new"],
                [b"", b"b", b"e", b"e/f", b"e/new"],
            ]
            continue
        if status == 0:
            break
        assert status == signal.SIGKILL
        assert in_child(identity, lambda made=several.layer: _finish(made)) == 0
        found = several.summaries()
        assert found in (before, after), number
        undone += found == before
        completed += found == after
        assert in_child(identity, several.commit) == 0
        assert several.summaries() == after, number
        assert os.listdir(several.layer.upper) == []
        shutil.rmtree(where)
    assert several.summaries() == after
    assert min(undone, completed) > 3
