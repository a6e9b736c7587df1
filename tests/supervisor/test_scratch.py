import os
import stat
from pathlib import Path

import pytest

from vuosd.supervisor import members, scratch
from vuosd.supervisor.scratch import Scratch, Sized, SizeUnavailable


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the directories go: the test's own."""
    monkeypatch.setattr(scratch, "parents", lambda: iter([bytes(tmp_path / "vuosd")]))
    return tmp_path / "vuosd"


def test_directories_have_their_mode_and_go(place: Path) -> None:
    made = Scratch(7)
    os.umask(0o077)
    first, second = made.make(0o1777), made.make(0o750)
    os.umask(0o022)
    assert stat.S_IMODE(os.stat(first).st_mode) == 0o1777
    assert stat.S_IMODE(os.stat(second).st_mode) == 0o750
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    made.remove()
    assert not place.exists()


def test_sessions_share_the_directory_above(place: Path) -> None:
    one, other = Scratch(1), Scratch(2)
    one.make(0o700)
    other.make(0o700)
    one.remove()
    assert place.exists()
    scratch.clean_up(2)
    assert not place.exists()


def test_nothing_made_nothing_removed(place: Path) -> None:
    Scratch(3).remove()
    scratch.clean_up(3)
    assert not place.exists()


def test_a_name_taken_by_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "vuosd").write_text("not a directory")
    paths = [bytes(tmp_path / "vuosd"), bytes(other / "vuosd")]
    monkeypatch.setattr(scratch, "parents", lambda: iter(paths))
    assert scratch.parent() == paths[1]


def test_hard_to_remove(place: Path) -> None:
    made = Scratch(4)
    top = made.make(0o1777)
    fd = os.open(top, os.O_RDONLY)
    for _ in range(3000):  # a path many times longer than PATH_MAX
        os.mkdir("d" * 100, dir_fd=fd)
        inner = os.open("d" * 100, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("file", os.O_CREAT, 0, dir_fd=fd))
    os.close(fd)
    for index in range(20):
        os.makedirs(top + b"/%d/sub/sub" % index)
        os.symlink("/", top + b"/%d/sub/link" % index)
        os.chmod(top + b"/%d/sub" % index, 0)
        os.chmod(top + b"/%d" % index, 0o500)
    os.mkfifo(top + b"/\xff\xfe")
    made.remove()
    assert not place.exists()


@pytest.mark.kernel
def test_sized(place: Path) -> None:
    made = Scratch(members.new_session())
    wanted = [Sized(made.make(0o1777), 1 << 20, 0o1777), Sized(made.make(0o700), 2 << 20, 0o700)]
    try:
        roots = made.mount(wanted)
    except SizeUnavailable as why:
        pytest.skip(f"this machine mounts nothing for us: {why}")
    for root, one in zip(roots, wanted, strict=True):
        assert os.readlink(f"/proc/self/fd/{root}") == os.fsdecode(one.path), "reads as the directory beneath"
        assert stat.S_IMODE(os.stat(".", dir_fd=root).st_mode) == one.mode
        file = os.open("file", os.O_CREAT | os.O_RDWR, 0o644, dir_fd=root)
        assert os.fstat(file).st_uid == os.geteuid()
        room = os.fstatvfs(file)
        assert room.f_blocks * room.f_frsize == one.size
        os.close(file)
        assert os.listdir(one.path) == [], "the host sees an empty directory"
        os.close(root)
    made.remove()
    assert not place.exists()


@pytest.mark.kernel
def test_more_sized_than_a_message_holds_descriptors(place: Path) -> None:
    made = Scratch(5)
    try:
        roots = made.mount([Sized(made.make(0o700), 1 << 16, 0o700) for _ in range(450)])
    except SizeUnavailable as why:
        pytest.skip(f"this machine mounts nothing for us: {why}")
    assert len(set(roots)) == 450
    for root in roots:
        os.close(root)
    made.remove()


def test_refused_mount_says_why(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError(1, "Operation not permitted", "unshare")

    monkeypatch.setattr(scratch, "enter_namespace", refuse)
    made = Scratch(6)
    with pytest.raises(SizeUnavailable, match="unshare: Operation not permitted"):
        made.mount([Sized(made.make(0o700), 4096, 0o700)])
    made.remove()
