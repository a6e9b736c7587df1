"""real, by the conformance kit: a directory with everything in it, to be changed and not to be."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vuosd.api import Caller
from vuosd.api.status import current
from vuosd.plugins.real import Real
from vuosd.testing import FilesystemConformance


@pytest.fixture(scope="module", autouse=True)
def tree() -> Iterator[None]:
    mask = os.umask(0o022)  # which Real changes, as it has a process of its own elsewhere
    with tempfile.TemporaryDirectory() as place:
        top = Path(place)
        (top / "directory/deeper").mkdir(parents=True)
        (top / "directory/file").write_bytes(os.urandom(100_000))
        (top / "directory/linked").hardlink_to(top / "directory/file")
        (top / "link").symlink_to("directory/file")
        os.mkfifo(top / "fifo")
        (top / os.fsdecode(b"no text \xff")).write_bytes(b"")
        TestReal.top = TestReadOnly.top = place
        yield
    os.umask(mask)


class TestReal(FilesystemConformance):
    top = ""

    @classmethod
    def made(cls) -> Real:
        return Real(cls.top)


class TestReadOnly(FilesystemConformance):
    top = ""

    @classmethod
    def made(cls) -> Real:
        return Real(cls.top, ro=True)


def test_files_belong_to_who_makes_them(tmp_path: Path) -> None:
    """And those that are there already stay whose they are."""
    if os.geteuid() != 0:
        pytest.fail("only root can give files away")
    (tmp_path / "there").write_bytes(b"x")
    os.chown(tmp_path / "there", 7, 8)
    real = Real(str(tmp_path))
    real.start()
    token = current.set(Caller(1, 1000, 1001, 0))
    try:
        for name in (b"/there", b"/new"):
            real.open(name, os.O_CREAT | os.O_WRONLY, 0o600).close()
        real.mkdir(b"/directory", 0o700)
    finally:
        current.reset(token)
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in tmp_path.iterdir()}
    assert owners == {"there": (7, 8), "new": (1000, 1001), "directory": (1000, 1001)}
    with pytest.raises(FileExistsError):
        real.open(b"/there", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
