"""real, by the conformance kit: a directory with everything in it, to be changed and not to be."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vuosd.plugins.real import Real
from vuosd.testing import FilesystemConformance


@pytest.fixture(scope="module", autouse=True)
def tree() -> Iterator[None]:
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
