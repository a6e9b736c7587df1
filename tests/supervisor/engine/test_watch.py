"""inotify, fanotify and file handles on places of the view."""

import ctypes
import errno
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.engine.driver import USERS, View, bind, directory, errno_of, hide, run, syscall

pytestmark = pytest.mark.kernel

INOTIFY_ADD_WATCH, INOTIFY_INIT1 = 254, 294
FANOTIFY_INIT, FANOTIFY_MARK = 300, 301
NAME_TO_HANDLE_AT, OPEN_BY_HANDLE_AT = 303, 304
IN_CREATE, IN_ATTRIB, IN_ONLYDIR, IN_DONT_FOLLOW = 0x100, 4, 0x1000000, 0x2000000
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000

MODES = [{"user": user, "borrow": borrow, "enforce": enforce}
         for user in USERS for borrow in (False, True) for enforce in (False, True)]  # fmt: skip


@pytest.fixture
def tree() -> Iterator[Path]:
    root = directory()
    for name in ("real", "native"):
        (root / name).mkdir()
        (root / name).chmod(0o777)
    (root / "secret").touch()
    (root / "real" / "link").symlink_to(root / "native")
    (root / "real" / "unreadable").touch(0)
    yield root
    shutil.rmtree(root)


def view(tree: Path, **options: object) -> View:
    return View([bind(tree / "v", tree / "real"), hide(tree / "secret")], **options)  # type: ignore[arg-type]


def watch(fd: int, path: Path, mask: int) -> int:
    return syscall(INOTIFY_ADD_WATCH, fd, os.fsencode(path) + b"\0", mask)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(k for k, v in mode.items() if v) or "plain")
def test_inotify(tree: Path, mode: dict[str, object]) -> None:
    def body() -> None:
        fd = syscall(INOTIFY_INIT1, os.O_NONBLOCK | os.O_CLOEXEC)
        virtual = watch(fd, tree / "v", IN_CREATE)
        native = watch(fd, tree / "native", IN_CREATE)
        assert watch(fd, tree / "v" / "link", IN_CREATE) == native
        assert watch(fd, tree / "v" / "link", IN_ATTRIB | IN_DONT_FOLLOW) not in (native, virtual)
        assert errno_of(watch, fd, tree / "secret", IN_CREATE) == errno.ENOENT
        assert errno_of(watch, fd, tree / "v" / "none", IN_CREATE) == errno.ENOENT
        assert errno_of(watch, 0, tree / "v", IN_CREATE) == errno.EINVAL
        assert errno_of(watch, 99, tree / "v", IN_CREATE) == errno.EBADF
        if os.geteuid():
            assert errno_of(watch, fd, tree / "v" / "unreadable", IN_ATTRIB) == errno.EACCES
        assert errno_of(watch, fd, tree / "v" / "unreadable", IN_ATTRIB | IN_ONLYDIR) == errno.ENOTDIR
        (tree / "v" / "new").touch()
        found, _, _, length = struct.unpack_from("iIII", data := os.read(fd, 4096))
        assert (found, data[16 : 16 + length].rstrip(b"\0")) == (virtual, b"new")

    run(body, view(tree, **mode))


@pytest.mark.skipif(os.geteuid() != 0, reason="fanotify marks that tell paths are for root")
@pytest.mark.parametrize("borrow", [False, True])
def test_fanotify(tree: Path, borrow: bool) -> None:
    def body() -> None:
        fd = syscall(FANOTIFY_INIT, 2, os.O_RDONLY)
        assert syscall(FANOTIFY_MARK, fd, 1, 8 | 0x08000000, AT_FDCWD, os.fsencode(tree / "v") + b"\0") == 0
        (tree / "v" / "new").write_text("x")
        _, _, _, _, mask, there, pid = struct.unpack_from("IBBHQii", os.read(fd, 4096))
        assert (mask, pid) == (8, os.getpid())
        assert os.path.samestat(os.fstat(there), os.stat(tree / "v" / "new"))
        with pytest.raises(FileNotFoundError):
            syscall(FANOTIFY_MARK, fd, 1, 8, AT_FDCWD, os.fsencode(tree / "secret") + b"\0")

    run(body, view(tree, borrow=borrow))


def handle(path: Path, flags: int = 0, room: int = 128) -> bytes:
    buffer = ctypes.create_string_buffer(struct.pack("=Ii", room, 0), 8 + room)
    mount = ctypes.c_int(0)
    syscall(NAME_TO_HANDLE_AT, AT_FDCWD, os.fsencode(path) + b"\0", buffer, ctypes.byref(mount), flags)
    return buffer.raw


def test_handles(tree: Path) -> None:
    wanted, hidden = handle(tree / "real"), handle(tree / "secret")

    def body() -> None:
        assert handle(tree / "v") == wanted
        assert handle(tree / "v" / "link", 0x400) == handle(tree / "native")
        assert handle(tree / "v" / "link") != handle(tree / "native")
        with pytest.raises(FileNotFoundError):
            handle(tree / "secret")
        buffer = ctypes.create_string_buffer(8)
        path = os.fsencode(tree / "v") + b"\0"
        assert errno_of(syscall, NAME_TO_HANDLE_AT, AT_FDCWD, path, buffer, buffer, 0) == errno.EOVERFLOW
        if os.geteuid():  # the kernel gives them to CAP_DAC_READ_SEARCH alone
            with pytest.raises(PermissionError):
                syscall(OPEN_BY_HANDLE_AT, AT_FDCWD, wanted, os.O_RDONLY)
            return
        here = os.open(tree, os.O_RDONLY)
        there = syscall(OPEN_BY_HANDLE_AT, here, wanted, os.O_RDONLY)
        assert os.path.samestat(os.fstat(there), os.stat(tree / "v"))
        assert errno_of(syscall, OPEN_BY_HANDLE_AT, here, hidden, os.O_RDONLY) == errno.ESTALE

    run(body, view(tree))
