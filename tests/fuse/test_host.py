"""The process that serves: plugins that fail, plugins that answer nonsense, many requests at once, and its
own end."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from vuosd.api import File, Filesystem, MemFile, Stat, StatFs, StreamFile
from vuosd.fuse.kernel import mount
from vuosd.testing import KernelPlace, WirePlace, serving, transports
from vuosd.testing.reading import refused


class Wrong(Filesystem):
    """A file system whose answers a test gives."""

    def __init__(self, **answers: Callable[..., Any]) -> None:
        super().__init__()
        self.answers_given = answers

    def _answer(self, method: str, *arguments: Any) -> Any:
        return self.answers_given[method](*arguments)

    def lstat(self, path: bytes) -> Any:
        if path == b"/":
            return Stat.directory(0o755)
        if "lstat" in self.answers_given:
            return self._answer("lstat", path)
        return Stat.file(10, 0o644)

    def listdir(self, path: bytes) -> Any:
        return self._answer("listdir", path)

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        return self._answer("open", path)

    def readlink(self, path: bytes) -> Any:
        return self._answer("readlink", path)

    def statfs(self, path: bytes) -> Any:
        return self._answer("statfs", path)

    def mkdir(self, path: bytes, mode: int) -> Any:
        return self._answer("mkdir", path)

    def getxattr(self, path: bytes, name: bytes) -> Any:
        if "getxattr" not in self.answers_given:
            raise OSError(errno.ENODATA, "")
        return self._answer("getxattr", path)


class Reading(File):
    def __init__(self, data: Any) -> None:
        self.data = data

    def pread(self, size: int, offset: int) -> Any:
        return self.data

    def pwrite(self, data: bytes, offset: int) -> Any:
        return self.data


NONSENSE: list[tuple[str, Any, Callable[[Any], Any], str]] = [
    ("lstat", None, lambda p: p.lstat("/x"), "returned None, not a Stat"),
    ("lstat", os.stat("/"), lambda p: p.lstat("/x"), "not a Stat"),
    ("lstat", Stat.file(-1), lambda p: p.lstat("/x"), "a Stat whose size is -1"),
    ("lstat", Stat.file(1 << 63), lambda p: p.lstat("/x"), "a Stat whose size is 9223372036854775808"),
    ("lstat", Stat.file(1.5), lambda p: p.lstat("/x"), "a Stat whose size is 1.5"),  # type: ignore[arg-type]
    ("lstat", Stat(mode=0o644), lambda p: p.lstat("/x"), "mode, 0o644, has no type of file"),
    ("lstat", Stat.file(mtime_ns=1 << 100), lambda p: p.lstat("/x"), "a Stat whose mtime_ns is"),
    ("listdir", None, lambda p: p.listdir("/"), "returned None, not an iterable"),
    ("listdir", b"abc", lambda p: p.listdir("/"), "returned b'abc', not an iterable"),
    ("listdir", ["text"], lambda p: p.listdir("/"), "listed 'text': names are bytes"),
    ("listdir", [b"a/b"], lambda p: p.listdir("/"), "listed b'a/b', which is no name"),
    ("listdir", [b".."], lambda p: p.listdir("/"), "listed b'..', which is no name"),
    ("listdir", [b"a\0"], lambda p: p.listdir("/"), "which is no name"),
    ("listdir", [b"x" * 256], lambda p: p.listdir("/"), "a name of 256 bytes"),
    ("listdir", [b"a", b"a"], lambda p: p.listdir("/"), "listed b'a' twice"),
    ("open", None, lambda p: p.open("/x"), "returned None, not a File"),
    ("open", Reading("text"), lambda p: p.read("/x"), "returned 'text', not bytes"),
    ("open", Reading(bytes(1 << 20)), lambda p: p.read("/x"), "returned 1048576 bytes where"),
    (
        "open",
        Reading(-1),
        lambda p: p.write("/x", b"abc", 0),
        "returned -1, not how many of 3 bytes were written",
    ),
    ("open", Reading(4), lambda p: p.write("/x", b"abc", 0), "returned 4, not how many"),
    ("readlink", b"a\0b", lambda p: p.readlink("/x"), "which no symbolic link can hold"),
    ("readlink", "text", lambda p: p.readlink("/x"), "which no symbolic link can hold"),
    ("statfs", (), lambda p: p.statfs(), "returned (), not a StatFs"),
    ("statfs", StatFs(blocks=-1), lambda p: p.statfs(), "a StatFs whose blocks is -1"),
    ("getxattr", "text", lambda p: p.getxattr("/x", "user.x"), "not the bytes of an attribute"),
]


@pytest.mark.parametrize(("method", "answer", "call", "said"), NONSENSE)
def test_nonsense(method: str, answer: Any, call: Callable[[Any], Any], said: str) -> None:
    answers: dict[str, Callable[..., Any]] = {method: lambda *_: answer}
    if method == "readlink":
        answers["lstat"] = lambda path: Stat.link(b"123")
    with serving(Wrong(**answers)) as served:
        refused(errno.EIO, call, served.place)
        assert said in served.log()
        # The kernel tries a read again that has failed ahead of time.
        assert method == "open" or served.log().count("\n") == 1
        wanted = method if answer is None or not isinstance(answer, File) else "p"
        assert f"Wrong: {wanted}" in served.log()
        served.place.lstat("/")  # it goes on serving


def raising(error: BaseException) -> Callable[..., Any]:
    def method(*_: Any) -> Any:
        raise error

    return method


@pytest.mark.parametrize("transport", transports())
def test_errors(transport: Any) -> None:
    """An OSError is the answer; ENOSYS would switch a call off for good; all else is EIO and a line in the
    log."""
    answers = [
        (OSError(errno.EDQUOT, "x"), errno.EDQUOT, ""),
        (FileNotFoundError("a text alone"), errno.ENOENT, ""),
        (OSError(errno.ENOSYS, "x"), errno.EOPNOTSUPP, ""),
        (ValueError("bad\nthing"), errno.EIO, "ValueError: bad thing (test_host.py:"),
        (OSError("no errno"), errno.EIO, "without an errno that there is: OSError: no errno"),
        (OSError(-5, "x"), errno.EIO, "without an errno that there is"),
        (OSError(512, "ERESTARTSYS"), errno.EIO, "without an errno that there is"),
        (SystemExit(3), errno.EIO, "SystemExit: 3"),
        (KeyboardInterrupt(), errno.EIO, "KeyboardInterrupt"),
    ]
    waiting = iter(answers)
    absent = raising(FileNotFoundError(errno.ENOENT, ""))
    with serving(Wrong(mkdir=lambda path: raising(next(waiting)[0])(), lstat=absent), transport) as served:
        for _, number, said in answers:
            before = served.log()
            refused(number, served.place.mkdir, "/x")
            new = served.log()[len(before) :]
            assert said in new
            assert new.count("\n") == (1 if said else 0)
            assert not said or "Wrong: mkdir('/x'" in new


class Slow(Filesystem):
    """Each file says its name, after a while; /never never does."""

    async def lstat(self, path: bytes) -> Stat:
        return Stat.directory() if path == b"/" else Stat.file(len(path))

    async def open(self, path: bytes, flags: int, mode: int) -> MemFile:
        await (trio.sleep_forever() if path == b"/never" else trio.sleep(0.3))
        return MemFile(path)


class InThreads(Filesystem):
    """The same with `def`."""

    threads = 16
    timeout = 0.0

    def lstat(self, path: bytes) -> Stat:
        return Stat.directory() if path == b"/" else Stat.file(len(path))

    def open(self, path: bytes, flags: int, mode: int) -> MemFile:
        threading.Event().wait(10 if path == b"/never" else 0.3)
        return MemFile(path)


@pytest.mark.parametrize("made", [Slow, InThreads])
def test_many_at_once(made: type[Filesystem]) -> None:
    with serving(made()) as served:
        found: list[bytes] = []
        readers = [
            threading.Thread(target=lambda name=name: found.append(served.place.read(name)))  # type: ignore[misc]
            for name in (f"/{number:02}" for number in range(12))
        ]
        began = time.monotonic()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert sorted(found) == [b"/%02d" % number for number in range(12)]
        assert time.monotonic() - began < 12 * 0.3
        assert served.log() == ""


@pytest.mark.parametrize("made", [Slow, InThreads])
def test_a_deadline(made: type[Filesystem]) -> None:
    with serving(made(), deadline=0.6) as served:
        refused(errno.EIO, served.place.read, "/never")
        assert re.search(r"open\('/never', \d+, 0\): no answer within 0.6 s\n", served.log())
        assert served.place.read("/other") == b"/other"


def _use_what_hangs() -> None:
    hangs = Wrong(open=lambda path: threading.Event().wait(60))
    with serving(hangs, deadline=0.5) as served:
        began = time.monotonic()
        with pytest.raises(OSError, match=r"connect|abort"):
            served.place.read("/x")
        assert time.monotonic() - began < 10
        refused(errno.ENOTCONN, served.place.lstat, "/y")


def test_a_method_that_hangs_the_server() -> None:
    """Those who wait are let go, and the log says what it was; the file system is not started again."""
    with pytest.raises(AssertionError, match="the server ended with status 256") as caught:
        _use_what_hangs()
    said = r"Wrong: open\('/x', \d+, 0\): has not returned within 0.5 s: the file system ends\n"
    assert re.search(said, str(caught.value))


class Streams(Filesystem):
    def lstat(self, path: bytes) -> Stat:
        return Stat.directory() if path == b"/" else Stat.file()

    def listdir(self, path: bytes) -> list[bytes]:
        return [b"lazily", b"awaited", b"failing"]

    def open(self, path: bytes, flags: int, mode: int) -> StreamFile:
        async def awaited() -> Any:
            for number in range(1000):
                await trio.lowlevel.checkpoint()
                yield b"%06d\n" % number

        def failing() -> Any:
            yield b"a beginning"
            raise RuntimeError("the end")

        return StreamFile(
            {b"/lazily": (b"%06d\n" % n for n in range(1000)), b"/awaited": awaited, b"/failing": failing}[
                path
            ]
        )


@pytest.mark.parametrize("transport", transports())
def test_streams(transport: Any) -> None:
    whole = b"".join(b"%06d\n" % number for number in range(1000))
    with serving(Streams(), transport) as served:
        for name in ("/lazily", "/awaited"):
            assert served.place.read(name) == whole
            with served.place.open(name) as file:
                assert file.pread(7, 6993) == b"000999\n"
                assert file.pread(7, 0) == b"000000\n"
                assert file.pread(7, 7000) == b""
        assert served.log() == ""
        with served.place.open("/failing") as file:
            assert file.pread(5, 0) == b"a beg"
            refused(errno.EIO, file.pread, 100, 5)
        assert "RuntimeError: the end" in served.log()


# Somebody else's pyfuse3.Operations, and the process as it is started


HELLO = '''
import errno, stat, pyfuse3

class Hello(pyfuse3.Operations):
    """As in pyfuse3's documentation."""

    def __init__(self, source, loud=False):
        super().__init__()
        self.text = source.encode() * (2 if loud else 1)

    async def getattr(self, inode, ctx=None):
        entry = pyfuse3.EntryAttributes()
        entry.st_mode = stat.S_IFDIR | 0o755 if inode == pyfuse3.ROOT_INODE else stat.S_IFREG | 0o644
        entry.st_size = 0 if inode == pyfuse3.ROOT_INODE else len(self.text)
        entry.st_ino = inode
        return entry

    async def lookup(self, parent_inode, name, ctx=None):
        if name == b"bad":
            raise RuntimeError("no FUSEError")
        if name != b"message":
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(2)

    async def statfs(self, ctx):
        return None

    async def opendir(self, inode, ctx):
        return inode

    async def readdir(self, fh, start_id, token):
        if start_id == 0:
            pyfuse3.readdir_reply(token, b"message", await self.getattr(2), 1)

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=inode)

    async def read(self, fh, off, size):
        return self.text[off : off + size]
'''


def host(spec: str, fd: int, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-P", "-m", "vuosd.fuse.host", spec, "--fd", str(fd), *arguments]
    return subprocess.Popen(command, pass_fds=[fd], stderr=subprocess.PIPE, text=True)


def test_operations_unchanged(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(HELLO)
    mounted = mount(["default_permissions"])
    process = host(str(tmp_path / "hello.py"), mounted.fuse, "--source", "hi!", "-o", "loud")
    mounted.close_fuse()
    place = KernelPlace(mounted.root)
    assert place.names("/") == ["message"]
    assert place.read("/message") == b"hi!hi!"
    refused(errno.EIO, place.lstat, "/bad")
    refused(errno.ENOENT, place.lstat, "/other")
    refused(errno.EIO, place.statfs)
    assert place.read("/message") == b"hi!hi!"
    mounted.close()
    _, said = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "hello.py: lookup: RuntimeError: no FUSEError (hello.py:" in said
    assert "hello.py: statfs: returned None" in said


def test_ends_when_told_and_when_left(tmp_path: Path) -> None:
    for end in ("told", "left"):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            process = host("memory", theirs.fileno())
            theirs.close()
            place = WirePlace(ours)
            place.mkdir("/x")
            process.send_signal(signal.SIGTERM) if end == "told" else ours.close()
            assert process.communicate(timeout=10)[1] == ""
            assert process.returncode == 0


@pytest.mark.parametrize(
    ("spec", "arguments", "said"),
    [
        ("no.such.module:X", (), "no.such.module:X cannot be loaded: No module named 'no'"),
        ("vuosd.plugins.memory:Memroy", (), "there is no Memroy in vuosd.plugins.memory; it has Memory"),
        ("json:loads", (), "no subclass of vuosd.api.Filesystem"),
        ("/no/such/file.py", (), "no such file: /no/such/file.py"),
        ("memory", ("-o", "sise=3"), 'Memory has no option "sise"; did you mean "size"?'),
        ("memory", ("-o", "size=big"), 'Memory: option "size" cannot be "big": expected int, got str'),
        ("real", ("--source", "/no/such"), "real: [Errno 20] Not a directory: '/no/such'"),
        ("archive", ("--source", "/etc/passwd"), "/etc/passwd cannot be read as an archive"),
    ],
)
def test_what_cannot_be_served(spec: str, arguments: tuple[str, ...], said: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        process = host(spec, theirs.fileno(), *arguments)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 1
    assert told.startswith("vuosd: ")
    assert told.count("\n") == 1
    assert said in told
