"""What others see of an open that the engine makes or lets go on."""

import ctypes
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.engine.driver import View, bind, directory, run

pytestmark = pytest.mark.kernel

IN_OPEN, IN_CLOSE_NOWRITE = 0x20, 0x10


@pytest.fixture
def tree() -> Iterator[Path]:
    root = directory()
    (root / "real").mkdir()
    (root / "real/file").touch()
    yield root
    shutil.rmtree(root)


def watch_opens(path: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    # With the closes between them no two opens become one event.
    watch = int(libc.inotify_init1(os.O_NONBLOCK))
    assert libc.inotify_add_watch(watch, os.fsencode(path), IN_OPEN | IN_CLOSE_NOWRITE) > 0
    return watch


def count(watch: int) -> int:
    try:
        data = os.read(watch, 65536)
    except BlockingIOError:
        return 0
    finally:
        os.close(watch)
    found = at = 0
    while at < len(data):
        _, mask, _, length = struct.unpack_from("=iIII", data, at)
        found += bool(mask & IN_OPEN)
        at += 16 + length
    return found


@pytest.mark.parametrize("enforce", [False, True], ids=["plain", "enforce"])
@pytest.mark.parametrize("flags", [0, os.O_NOFOLLOW], ids=["follow", "nofollow"])
@pytest.mark.parametrize("name", ["real", "seen"])
def test_a_directory_is_opened_once(tree: Path, name: str, flags: int, enforce: bool) -> None:
    """As inotify(7) tells it to whoever watches: by its own path, and by that of an entry."""

    def body() -> None:
        for _ in range(7):
            fd = os.open(tree / name, os.O_RDONLY | os.O_DIRECTORY | flags)
            assert os.listdir(fd) == ["file"]
            os.close(fd)

    watch = watch_opens(tree / "real")
    run(body, View([bind("/", "/"), bind(tree / "seen", tree / "real")], enforce=enforce))
    # Python's os.listdir(fd) makes a duplicate, which is no open.
    assert count(watch) == 7
