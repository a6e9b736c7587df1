"""Commits that the system does not let through, wholly or in the usual way."""

import errno
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import identities
from layers.model import merged, plain
from layers.test_commands import vuctl
from layers.test_commit import CASES, LOWER, layer_is_empty
from layers.test_crash import given_to, in_child
from layers.trees import OPAQUE, Dir, File, Spec, Whiteout, commit, make, read, summary

from vuosd.layers import LayerError, kernel, open_layer
from vuosd.layers.changes import Comparison
from vuosd.layers.commit import outlook

pytestmark = pytest.mark.kernel


@pytest.fixture
def place(public: Path) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir=public))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def failing(number: int) -> Callable[..., Any]:
    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


def test_no_room(tmp_path: Path) -> None:
    """Whatever the reason for which a new file cannot be written: all is as it was, and it is said where."""
    made = make(tmp_path, LOWER, {b"a": b"small", b"n/big": b"x" * 100_000, b"b": Whiteout()})
    os.link(os.path.join(made.upper, b"n/big"), os.path.join(made.layer.trees[0].work, b"so it is copied"))
    before = read(made.lower)

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        with pytest.raises(
            LayerError, match=r'nothing was committed: cannot make ".*/n/big" ready: file too'
        ):
            commit(made)

    assert in_child(identities.me(), limited) == 0
    assert read(made.lower) == before
    assert not os.path.exists(made.layer.journal)
    commit(made)
    assert summary(made.lower)[b"n/big"][1] == b"x" * 100_000


@pytest.mark.parametrize("case", CASES)
def test_a_file_system_without_exchange(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "renameat2", failing(errno.EINVAL))
    made = make(tmp_path, LOWER, CASES[case])
    assert commit(made) == {}
    assert summary(made.lower) == plain(merged(LOWER, CASES[case]))
    layer_is_empty(made)


@pytest.mark.parametrize("call", ["link", "copy_file_range"])
def test_another_way(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that cannot be linked are copied, and what the kernel does not copy is by hand."""
    upper: Spec = {b"n": b"1" * 3_000_000, b"same": File(same_as=b"n"), b"a": b"changed"}
    made = make(tmp_path, LOWER, upper)
    monkeypatch.setattr(os, "link", failing(errno.EXDEV))
    if call != "link":
        monkeypatch.setattr(os, "copy_file_range", failing(errno.EXDEV))
    assert commit(made) == {}
    assert summary(made.lower) == plain(merged(LOWER, upper))


def test_whiteouts_where_mknod_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that hid all of the real one must hide the rest of it by name when something leaves it."""
    upper: Spec = {b"d": Dir(xattrs=OPAQUE), b"d/new": b"1", b"d/more": b"2"}
    made = make(tmp_path, LOWER, upper)
    monkeypatch.setattr(os, "mknod", failing(errno.EPERM))
    commit(made, b"d/new")
    assert os.getxattr(os.path.join(made.upper, b"d"), "user.overlay.opaque") == b"x"
    with open_layer("it", made.env) as layer, Comparison(layer.trees[0]) as comparison:
        assert [change.path for change in comparison.changes()] == [b"d/more", b"d/x", b"d/y"]
    commit(made)
    assert summary(made.lower) == plain(merged(LOWER, upper))


def user() -> identities.Identity:
    return identities.unprivileged()


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@as_root
def test_what_may_not_be_changed_is_said_first(place: Path) -> None:
    upper: Spec = {b"a": b"x", b"d/n": b"1", b"d/x": Whiteout(), b"b": File(b"two", mode=0o600), b"l": b"y"}
    made = given_to(user(), make(place, LOWER, upper), place)
    for path in (b"d", b"b"):
        os.chown(os.path.join(made.lower, path), 0, 0)
    before = read(made.lower)

    def look() -> None:
        with open_layer("it", made.env) as layer:
            (found,) = outlook(layer, None).values()
        assert dict(found.denied) == {
            b"b": "it is another user's",
            b"d/n": "its directory may not be written",
            b"d/x": "its directory may not be written",
        }

    assert in_child(user(), look) == 0
    assert read(made.lower) == before
    assert in_child(user(), lambda: commit(made, b"a", b"l")) == 0
    assert summary(made.lower)[b"a"][1] == b"x"
    assert sorted(os.listdir(made.upper)) == [b"b", b"d"]


@as_root
def test_root_commits_an_ordinary_users_layer(place: Path) -> None:
    """What belongs to others goes on belonging to them; what is new is the user's."""
    upper: Spec = {b"a": b"x", b"n": b"1"}
    made = make(place, LOWER, upper)
    for directory, directories, files in os.walk(made.store):
        for name in ("", *directories, *files):
            os.chown(
                os.path.join(directory, os.fsencode(name)), user().uid, user().gid, follow_symlinks=False
            )
    with Comparison(made.layer.trees[0]) as comparison:
        assert [change.attributes for change in comparison.changes()] == [(), ()]
    commit(made)
    owners = {name: os.stat(os.path.join(made.lower, name)).st_uid for name in (b"a", b"n")}
    assert owners == {b"a": 0, b"n": user().uid}


@as_root
def test_a_sticky_directory(place: Path) -> None:
    made = given_to(user(), make(place, LOWER, {b"d/x": Whiteout(), b"d/n": b"1"}), place)
    for tree in (made.lower, made.upper):
        os.chmod(os.path.join(tree, b"d"), 0o1777)
    for path in (b"d", b"d/x"):
        os.chown(os.path.join(made.lower, path), 0, 0)

    def look() -> None:
        with open_layer("it", made.env) as layer:
            (found,) = outlook(layer, None).values()
        assert dict(found.denied) == {b"d/x": "it is another user's, in a sticky directory"}

    assert in_child(user(), look) == 0


@as_root
def test_a_device_needs_root(place: Path) -> None:
    made = make(place, LOWER, {})
    os.mknod(os.path.join(made.upper, b"null"), 0o20666, os.makedev(1, 3))
    given_to(user(), made, place)

    def look() -> None:
        with open_layer("it", made.env) as layer:
            (found,) = outlook(layer, None).values()
        assert dict(found.denied) == {b"null": "devices may not be made"}

    assert in_child(user(), look) == 0
    commit(made)
    assert os.stat(os.path.join(made.lower, b"null")).st_rdev == os.makedev(1, 3)


@pytest.mark.parametrize(
    ("command", "before", "status"), [("diff", 40, 1), ("diff", 150, 0), ("commit", 40, 0), ("drop", 40, 0)]
)
def test_what_was_cut_short_is_told(tmp_path: Path, command: str, before: int, status: int) -> None:
    """`before` is a number of calls: so many that it is undone, or completed."""
    upper: Spec = {b"%d" % number: b"x" for number in range(40)}
    made = make(tmp_path, LOWER, upper)
    assert in_child(identities.me(), lambda: commit(made), before) == signal.SIGKILL
    done = vuctl(made, command)
    what = "undone" if before == 40 else "completed"
    assert f"a commit of layer it that was cut short has been {what}" in done.stderr.decode()
    assert done.returncode == status
    assert not [name for name in os.listdir(made.lower) if name.startswith(b".vuos")]


def test_a_run_does_not_begin_in_half_a_layer(tmp_path: Path) -> None:
    made = make(tmp_path, LOWER, {b"a": b"x"})
    assert in_child(identities.me(), lambda: commit(made), 20) == signal.SIGKILL
    with pytest.raises(LayerError, match="was cut short: finish it first, with `vuctl commit it`"):
        open_layer("it", made.env)


def test_a_damaged_journal(tmp_path: Path) -> None:
    made = make(tmp_path, LOWER, {b"a": b"x"})
    Path(os.fsdecode(made.layer.journal)).write_bytes(b"\x05\0\0\0\0\0\0\0abcde")
    done = vuctl(made, "diff")
    assert done.returncode == 2
    assert done.stderr.decode().count("\n") == 1
    assert "cannot be read" in done.stderr.decode()
