"""fsspec: memory by the conformance kit; a directory, a zip file and a web server as people use them."""

import errno
import functools
import http.server
import socket
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from vuosd.plugins.stores import Store
from vuosd.testing import FilesystemConformance, serving, transports
from vuosd.testing.reading import refused


def filled() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/top/directory/file", b"contents" * 1000)
    memory.pipe_file("/top/empty", b"")


class TestMemory(FilesystemConformance):
    @classmethod
    def made(cls) -> Store:
        filled()
        return Store("memory://top", "rw")


class TestReadOnly(FilesystemConformance):
    @classmethod
    def made(cls) -> Store:
        filled()
        return Store("memory://top")


@pytest.mark.parametrize("transport", transports())
def test_local_directory(tmp_path: Path, transport) -> None:
    with serving(Store(f"file://{tmp_path}", "rw,timeout=0"), transport) as served:
        served.place.mkdir("/new")
        served.place.write("/new/file", b"x" * 300_000)
        assert (tmp_path / "new/file").read_bytes() == b"x" * 300_000
        (tmp_path / "other").write_bytes(b"by somebody else")
        assert served.place.read("/other") == b"by somebody else"
        served.place.rename("/new/file", "/moved")
        assert (tmp_path / "moved").exists()
        assert served.log() == ""


def test_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("directory/file", "in a zip file")
    with serving(Store(f"zip://::file://{tmp_path}/a.zip")) as served:
        assert served.place.names("/") == ["directory"]
        assert served.place.read("/directory/file") == b"in a zip file"
        assert served.log() == ""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory/file").write_bytes(bytes(range(256)) * 400)
    (tmp_path / "page.txt").write_bytes(b"a page")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_web(web: str) -> None:
    with serving(Store(web)) as served:
        assert served.place.names("/") == ["directory", "page.txt"]
        assert served.place.read("/page.txt") == b"a page"
        assert served.place.read("/directory/file") == bytes(range(256)) * 400
        refused(errno.ENOENT, served.place.lstat, "/nothing")
        assert served.log() == ""


def test_a_web_server_that_is_not_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(OSError, match=f"Cannot connect to host 127.0.0.1:{port}"):
        Store(f"http://127.0.0.1:{port}/").start()


def test_a_page_that_is_not_there(web: str) -> None:
    with pytest.raises(ValueError, match=f"{web}/nothing cannot be opened: 404"):
        Store(f"{web}/nothing").start()
