"""The helper and real FUSE servers, without a session. Needs a /dev/fuse that whoever runs the tests may
open.
"""

import errno
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from vuosd.supervisor import members
from vuosd.supervisor.mounting import users
from vuosd.supervisor.mounting.namespace import Namespace, Program
from vuosd.supervisor.mounting.output import Output

pytestmark = pytest.mark.kernel


class Helped:
    """A helper, and what it has told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.moved: dict[str, int] = {}
        self.ended: dict[str, int] = {}
        self.changed = trio.Event()
        self.namespace = Namespace(self._moved, self._ended)
        self.outputs: dict[str, Output] = {}

    def _moved(self, mark: str, pid: int) -> None:
        self.moved[mark] = pid
        self._tell()

    def _ended(self, mark: str, status: int) -> None:
        self.ended[mark] = status
        self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def until_ended(self, mark: str) -> int:
        with trio.fail_after(10):
            while mark not in self.ended:
                await self.changed.wait()
        return self.ended[mark]

    def program(self, mark: str, *argv: str) -> tuple[Program, bytes]:
        place = self.path / mark
        place.mkdir()
        output = self.outputs[mark] = Output(mark)
        words = [str(place) if word == "@" else word for word in argv]
        return Program(words, dict(os.environ), mark, output.write, {}), bytes(place)


@pytest.fixture
async def helped(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Helped]:
    helped = Helped(tmp_path)
    before = Path("/proc/self/mountinfo").read_text()
    await helped.namespace.start(members.new_session())
    nursery.start_soon(helped.namespace.listen)
    yield helped
    assert helped.namespace.finish(5.0)
    nursery.cancel_scope.cancel()
    assert Path("/proc/self/mountinfo").read_text() == before


async def test_a_server_mounts_where_nobody_else_sees_it(helped: Helped, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    program, place = helped.program("m", "bindfs", str(source), "@")
    served = await helped.namespace.serve(program, place)
    names = await trio.to_thread.run_sync(os.listdir, f"/proc/self/fd/{served.root.fd}")
    assert names == ["file"]
    assert os.listdir(place) == []
    assert served.type == "fuse"
    assert served.source == str(source)
    with pytest.raises(OSError, match="busy") as raised:
        await helped.namespace.unmount(place, 0)
    assert raised.value.errno == errno.EBUSY
    assert users.users([os.getpid()], users.mount_id(served.root.fd), served.root.device)
    os.close(served.root.fd)
    await helped.namespace.unmount(place, 0)
    assert await helped.until_ended("m") == 0


async def test_a_server_that_daemonises_is_followed(helped: Helped) -> None:
    program, place = helped.program("m", "bindfs", "/usr", "@")
    served = await helped.namespace.serve(program, place)
    with trio.fail_after(10):
        while "m" not in helped.moved:
            await helped.changed.wait()
    assert helped.moved["m"] != served.pid
    os.kill(helped.moved["m"], signal.SIGKILL)
    assert await helped.until_ended("m") == -signal.SIGKILL
    with pytest.raises(OSError, match="not connected"):
        await trio.to_thread.run_sync(os.listdir, f"/proc/self/fd/{served.root.fd}")
    os.close(served.root.fd)


async def test_a_server_that_fails_says_why(helped: Helped, nursery: trio.Nursery) -> None:
    program, place = helped.program("m", "bindfs", "/nosuch", "@")
    with pytest.raises(OSError, match="ended with status 1 and mounted nothing"):
        await helped.namespace.serve(program, place)
    helped.outputs["m"].given()
    await helped.outputs["m"].read()
    assert "/nosuch" in helped.outputs["m"].reason()


async def test_a_server_that_does_not_exist(helped: Helped) -> None:
    program, place = helped.program("m", "/nosuch/program", "@")
    with pytest.raises(OSError, match="ended with status 127"):
        await helped.namespace.serve(program, place)
    helped.outputs["m"].given()
    await helped.outputs["m"].read()
    assert helped.outputs["m"].reason() == "/nosuch/program: No such file or directory"


async def test_a_server_may_mount_at_its_own_place_only(helped: Helped, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    program, place = helped.program("m", "bindfs", "/usr", str(other))
    with pytest.raises(OSError, match="mounted nothing"):
        await helped.namespace.serve(program, place)


_ASKS = """
import ctypes, errno, os, sys
libc, place = ctypes.CDLL(None, use_errno=True), sys.argv[1].encode()
device = os.open("/dev/fuse", os.O_RDWR)
data = b"fd=%d,rootmode=40000,user_id=%d,group_id=%d" % (device, os.getuid(), os.getgid())
for arguments in (
    (b"/etc", place, b"fuse", 4096, data),  # MS_BIND
    (b"proc", place, b"proc", 0, data),
    (None, place, b"fuse", 32, data),  # MS_REMOUNT
    (b"x", place, b"fuse", 0, b"fd=x"),
    (b"x", ctypes.c_void_p(8), b"fuse", 0, data),
    (b"x", place + b"/..", b"fuse", 0, data),
):
    libc.mount(*arguments)
    print("failed:", errno.errorcode[ctypes.get_errno()], end=" ")
print(os.listdir(place))
"""


async def test_a_server_that_asks_for_something_else_than_its_mount(
    helped: Helped, nursery: trio.Nursery
) -> None:
    """Nothing of it is done, and the helper lives on for the others."""
    program, place = helped.program("m", "/usr/bin/python3", "-c", _ASKS, "@")
    with pytest.raises(OSError, match="mounted nothing"):
        await helped.namespace.serve(program, place)
    helped.outputs["m"].given()
    await helped.outputs["m"].read()
    said = ["EPERM", "EPERM", "EPERM", "EPERM", "EFAULT", "EPERM"]
    assert helped.outputs["m"].reason() == " ".join(f"failed: {name}" for name in said) + " []"
    program, place = helped.program("n", "bindfs", "/usr", "@")
    os.close((await helped.namespace.serve(program, place)).root.fd)


async def test_it_ends_with_its_worker(tmp_path: Path) -> None:
    """A worker that is killed tells nobody: its socket does."""
    script = tmp_path / "worker.py"
    script.write_text(
        """
import os, sys, trio
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_namespace import Helped
async def main():
    helped = Helped(Path(sys.argv[1]))
    await helped.namespace.start(77)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(helped.namespace.listen)
        program, place = helped.program("m", "bindfs", "-f", "/usr", "@")
        served = await helped.namespace.serve(program, place)
        print(helped.namespace._process.pid, served.pid, flush=True)
        os.kill(os.getpid(), 9)
trio.run(main)
"""
    )
    import sys

    words = [sys.executable, script, tmp_path, Path(__file__).parent]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    pids = [int(word) for word in said.stdout.split()]
    assert len(pids) == 2, said.stderr
    with trio.fail_after(10):
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            for pid in pids:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass
            await trio.sleep(0.01)


async def test_where_it_cannot_mount_it_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vuosd.supervisor.mounting.namespace._CODE", _NO_DEVICE)
    namespace = Namespace(lambda mark, pid: None, lambda mark, status: None)
    await namespace.start(78)
    assert namespace.why == "/dev/nosuch: No such file or directory"
    assert namespace.finish(5.0)


_NO_DEVICE = """
import sys
sys.path.insert(0, {root!r})
from vuosd.supervisor.mounting import helper
helper.DEVICE = "/dev/nosuch"
helper.main({fd}, {number})
"""
