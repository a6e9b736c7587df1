"""Directories with names of the view: what is listed, and that positions, buffers and stat agree with it."""

import ctypes
import errno
import os
import shutil
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.engine.driver import NOBODY, USERS, View, bind, directory, errno_of, hide, run, syscall

pytestmark = pytest.mark.kernel

GETDENTS, GETDENTS64 = 78, 217
UNSHARE, CLONE_FILES = 272, 0x400

Entry = tuple[bytes, int, int, int]


def entries(fd: int, size: int = 32768, nr: int = GETDENTS64) -> list[Entry]:
    """One call: name, inode, type and position of each entry."""
    buffer = ctypes.create_string_buffer(size)
    length = syscall(nr, fd, buffer, size)
    found, at = [], 0
    while at < length:
        ino, position, step = struct.unpack_from("=QqH", buffer, at)
        record = buffer.raw[at + 18 : at + step]
        kind = record[0] if nr == GETDENTS64 else record[-1]
        name = record[1:] if nr == GETDENTS64 else record[:-1]
        found.append((name.split(b"\0")[0], ino, kind, position))
        at += step
    assert at == length
    return found


def everything(fd: int, size: int = 32768, nr: int = GETDENTS64) -> list[Entry]:
    found: list[Entry] = []
    while part := entries(fd, size, nr):
        found += part
        assert len(found) < 100_000, "it does not end"
    return found


@pytest.fixture
def tree() -> Iterator[Path]:
    root = directory()
    (root / "dir").mkdir()
    (root / "dir").chmod(0o777)
    for name in ("a", "b", "c", "covered"):
        (root / "dir" / name).touch()
    (root / "real").mkdir()
    (root / "real" / "file").touch()
    yield root
    shutil.rmtree(root)


def names(found: list[Entry]) -> list[bytes]:
    return sorted(name for name, *_ in found)


@pytest.mark.parametrize("borrow", [False, True], ids=["getfd", "borrow"])
@pytest.mark.parametrize("enforce", [False, True], ids=["plain", "enforce"])
def test_a_thread_with_descriptors_of_its_own(tree: Path, enforce: bool, borrow: bool) -> None:
    """The number means one directory to the thread, and another to its process."""

    def thread(found: list[list[bytes]]) -> None:
        syscall(UNSHARE, CLONE_FILES)
        os.dup2(os.open(tree / "dir", os.O_RDONLY), 50)
        found.append(names(everything(50)))

    def body() -> None:
        os.dup2(os.open(tree / "real", os.O_RDONLY), 50)
        found: list[list[bytes]] = []
        other = threading.Thread(target=thread, args=(found,))
        other.start()
        other.join()
        assert found == [[b".", b"..", b"a", b"b", b"c", b"covered", b"new"]]
        assert names(everything(50)) == [b".", b"..", b"file"]

    run(body, View([bind("/", "/"), bind(tree / "dir/new", tree / "real")], enforce=enforce, borrow=borrow))


@pytest.mark.parametrize("borrow", [False, True], ids=["getfd", "borrow"])
@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("nr", [GETDENTS, GETDENTS64])
@pytest.mark.parametrize("size", [32, 48, 80, 32768])
def test_merged(tree: Path, user: int | None, nr: int, size: int, borrow: bool) -> None:
    listed = tree / "dir"

    def body() -> None:
        fd = os.open(listed, os.O_RDONLY)
        found = everything(fd, size, nr)
        assert names(found) == [b".", b"..", b"a", b"c", b"covered", b"new", b"newfile"]
        for name, ino, kind, _ in found:
            if name not in (b".", b".."):
                st = os.lstat(listed / os.fsdecode(name))
                assert (st.st_ino, st.st_mode >> 12) == (ino, kind), name
        assert not entries(fd, size, nr)
        os.lseek(fd, 0, os.SEEK_SET)
        assert everything(fd, size, nr) == found
        for i in range(len(found)):  # seekdir to where each entry leaves off
            os.lseek(fd, found[i][3], os.SEEK_SET)
            assert everything(fd, size, nr) == found[i + 1 :]

    view = View(
        [
            hide(listed / "b"),
            bind(listed / "new", tree / "real"),
            bind(listed / "newfile", tree / "real" / "file"),
            bind(listed / "covered", tree / "real" / "file"),
            hide(listed / "absent"),
        ],
        user=user,
        borrow=borrow,
    )
    run(body, view)


@pytest.mark.parametrize("count", [63, 3000])
@pytest.mark.parametrize("size", [64, 4096])
def test_thousands_of_added_names(tree: Path, count: int, size: int) -> None:
    wanted = [b"%d" % i for i in range(count)]

    def body() -> None:
        fd = os.open(tree / "dir", os.O_RDONLY)
        found = names(everything(fd, size))
        assert found == sorted([b".", b"..", b"a", b"b", b"c", b"covered", *wanted])
        assert set(map(os.fsencode, os.listdir(tree / "dir"))) == set(found) - {b".", b".."}

    run(body, View([bind(tree / "dir" / os.fsdecode(name), tree / "real") for name in wanted]))


def test_all_is_hidden(tree: Path) -> None:
    """A call whose names are all hidden goes on: an empty answer would be the end."""
    for i in range(500):
        (tree / "dir" / f"n{i}").touch()
    (tree / "dir" / "last").touch()

    def body() -> None:
        fd = os.open(tree / "dir", os.O_RDONLY)
        assert names(everything(fd, 64)) == [b".", b"..", b"a", b"b", b"c", b"covered", b"last"]

    run(body, View([hide(tree / "dir" / f"n{i}") for i in range(500)]))


@pytest.mark.parametrize("borrow", [False, True], ids=["getfd", "borrow"])
def test_shared_position(tree: Path, borrow: bool) -> None:
    """A copy of the descriptor, in another process too, goes on where the first one stopped."""

    def body() -> None:
        fd = os.open(tree / "dir", os.O_RDONLY)
        found = entries(fd, 40)
        while part := entries(os.dup(fd), 40):
            found += part
            there, here = os.pipe()
            if (child := os.fork()) == 0:
                os.write(here, b" ".join(name for name, *_ in entries(fd, 40)))
                os._exit(0)
            os.waitpid(child, 0)
            os.close(here)
            found += [(name, 0, 0, 0) for name in os.read(there, 4096).split()]
            os.close(there)
        assert names(found) == sorted(
            [b".", b"..", b"a", b"b", b"c", b"covered", *(b"x%d" % i for i in range(9))]
        )

    run(
        body,
        View(
            [bind(tree / "dir" / f"x{i}", tree / "real") for i in range(9)],
            user=NOBODY if USERS[1:] else None,
            borrow=borrow,
        ),
    )


def test_errors(tree: Path) -> None:
    def error(fd: int, buffer: object, size: int) -> int:
        return errno_of(syscall, GETDENTS64, fd, buffer, size)

    def body() -> None:
        fd = os.open(tree / "dir", os.O_RDONLY)
        buffer = ctypes.create_string_buffer(4096)
        assert error(fd, buffer, 16) == errno.EINVAL
        assert error(fd, 1, 4096) == errno.EFAULT
        assert len(entries(fd, 4096)) == 6, "the position is as before"
        assert error(fd, 1, 4096) == errno.EFAULT
        assert error(fd, buffer, 16) == errno.EINVAL
        assert names(entries(fd, 4096)) == [b"new"]
        assert syscall(GETDENTS64, fd, buffer, 0) == 0
        assert error(999, buffer, 4096) == errno.EBADF
        assert error(os.open(tree / "dir" / "a", os.O_RDONLY), buffer, 4096) == errno.ENOTDIR

    run(body, View([bind(tree / "dir" / "new", tree / "real")]))


@pytest.mark.parametrize("path", ["/proc", "/sys", "/dev"])
def test_other_file_systems_keep_the_position(path: str, tree: Path) -> None:
    def body() -> None:
        fd = os.open(path, os.O_RDONLY)
        found = [name for name, *_ in everything(fd, 64) if not name.isdigit()]  # processes come and go
        assert sorted(set(found)) == sorted(found)
        assert {b"one", b"two"} <= set(found)

    run(body, View([bind(f"{path}/one", tree / "real"), bind(f"{path}/two", tree / "real" / "file")]))
