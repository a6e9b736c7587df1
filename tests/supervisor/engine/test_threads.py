"""Calls that wait for a file server hold up nobody else, however many: the server may be one of the view."""

import ctypes
import errno
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.engine.driver import View, directory, errno_of, hide, lib, run

from vuosd.supervisor.session import Session
from vuosd.supervisor.values import Placed

pytestmark = pytest.mark.kernel

NEWNS, NEWUSER = 0x20000, 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
WAITING = 40


@pytest.fixture
def tree() -> Iterator[Path]:
    root = directory()
    (root / "mnt").mkdir()
    (root / "at").mkdir()
    yield root
    shutil.rmtree(root)


def _mount(at: Path, ours: socket.socket) -> None:
    """In a mount namespace of our own: /dev/fuse, a file system that it serves, and the namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    assert not libc.unshare(NEWNS if uid == 0 else NEWNS | NEWUSER), os.strerror(ctypes.get_errno())
    if uid:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    assert not libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}".encode()
    assert not libc.mount(b"none", bytes(at), b"fuse", ctypes.c_ulong(0), options), ctypes.get_errno()
    root = os.open(at, os.O_PATH)
    socket.send_fds(ours, [b"x"], [device, root, os.open("/proc/self/ns/mnt", os.O_RDONLY)])


def hung_server(at: Path) -> tuple[int, int, int]:
    """A file system of a server that never answers: the server's end, an O_PATH descriptor of its root, and
    the namespace that keeps it.
    """
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        try:
            _mount(at, theirs)
        finally:
            os._exit(0)
    theirs.close()
    _, (device, root, namespace), _, _ = socket.recv_fds(ours, 1, 3)
    ours.close()
    os.waitpid(child, 0)
    return device, root, namespace


@pytest.mark.parametrize("enforce", [False, True], ids=["plain", "enforce"])
@pytest.mark.parametrize("served", [True, False], ids=["known", "not known"])
def test_others_go_on(tree: Path, served: bool, enforce: bool) -> None:
    go, ready = os.pipe(), os.pipe()

    def body() -> None:
        assert os.read(ready[0], 1) == b"x"
        results: list[int] = []
        threads = [
            threading.Thread(target=lambda: results.append(errno_of(os.stat, tree / "mnt/x")))
            for _ in range(WAITING)
        ]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for _ in range(300):
            os.stat("/")
        assert time.monotonic() - begun < 5
        assert not results
        child = os.fork()
        if not child:
            os.stat(tree / "mnt/y")
            os._exit(0)
        os.stat("/")
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        os.write(go[1], b"x")
        for thread in threads:
            thread.join()
        assert results == [errno.ENOTCONN] * WAITING

    def attend(session: Session) -> None:
        device, root, namespace = hung_server(tree / "at")
        path = os.readlink(b"/proc/self/fd/%d" % root)
        number = session.mount(
            Placed(lib.VU_BIND, False, bytes(tree / "mnt"), root, path, b"fuse", b"none", served=served)
        )
        os.write(ready[1], b"x")
        assert os.read(go[0], 1) == b"x"
        assert session.unmount(number) is False, "calls are under way"
        os.close(device)
        os.close(namespace)

    run(body, View([hide("/nowhere")], enforce=enforce), attend=attend)
    for fd in (*go, *ready):
        os.close(fd)


def test_lists_of_mounts_ask_no_server(tree: Path) -> None:
    go, ready = os.pipe(), os.pipe()

    def body() -> None:
        assert os.read(ready[0], 1) == b"x"
        assert f"me {tree}/mnt fuse rw" in Path("/proc/self/mounts").read_text()
        os.write(go[1], b"x")

    def attend(session: Session) -> None:
        device, root, namespace = hung_server(tree / "at")
        path = os.readlink(b"/proc/self/fd/%d" % root)
        entry = Placed(lib.VU_BIND, False, bytes(tree / "mnt"), root, path, b"fuse", b"me", served=True)
        session.mount(entry)
        os.write(ready[1], b"x")
        assert os.read(go[0], 1) == b"x"
        os.close(device)
        os.close(namespace)

    run(body, View(), attend=attend)
    for fd in (*go, *ready):
        os.close(fd)
