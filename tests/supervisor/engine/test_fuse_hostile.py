"""The FUSE client against servers that mean harm, or are hung: the test holds the other end of the socket."""

import errno
import os
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.engine import fuse_shell
from supervisor.engine.fuse_shell import HERE, Hostile

LOOKUP, FORGET, RELEASE, INTERRUPT, BATCH_FORGET = 1, 2, 18, 36, 42
TRIES = 400_000
"""Messages that the decoder is given; a few seconds."""


@pytest.fixture(scope="module")
def shell_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fuse_shell.build(tmp_path_factory.mktemp("fuse") / "shell", HERE / "fuse_shell.c")


@pytest.fixture
def server(shell_program: Path) -> Iterator[Hostile]:
    server = Hostile(shell_program)
    yield server
    server.close()


def attr(mode: int = stat.S_IFREG | 0o644, size: int = 0, nsec: int = 0) -> bytes:
    return struct.pack("<QQQQQQIIIIIIIIII", 5, size, 0, 1, 2, 3, nsec, nsec, nsec, mode, 1, 0, 0, 0, 4096, 0)


def entry(node: int = 2, attributes: bytes = attr(), valid: int = 1, nsec: int = 0) -> bytes:
    return struct.pack("<QQQQII", node, 0, valid, valid, nsec, nsec) + attributes


def dirent(name: bytes, length: int | None = None) -> bytes:
    record = struct.pack("<QQII", 3, 1, len(name) if length is None else length, 8) + name
    return record + bytes(-len(record) % 8)


def error_of(server: Hostile, *words: object, **reply: object) -> str:
    with pytest.raises(OSError, match=r".") as caught:
        server.ask(*words, **reply)  # type: ignore[arg-type]
    return errno.errorcode[caught.value.errno or 0]


def test_sound(server: Hostile) -> None:
    """The helpers above say what a server says, so that what follows fails for its own reason."""
    server.begin()
    got = server.ask("lookup", 1, "x", data=entry(7, attr(size=1 << 40, nsec=4_000_000_000)))
    assert (got["node"], got["size"], got["nsec"]) == (7, 1 << 40, 999_999_999)
    assert 0.5 < got["entry_left"] <= 1.0
    assert server.ask("lookup", 1, "x", data=entry(8, valid=(1 << 64) - 1))["entry_left"] > 1e9
    assert server.ask("list", 0, 0, data=b"")["names"] == []


@pytest.mark.parametrize(
    "init",
    [
        struct.pack("<II", 7, 31),
        struct.pack("<IIIIHHI", 6, 31, 0, 0, 0, 0, 4096) + bytes(40),
        struct.pack("<IIIIHHI", 8, 0, 0, 0, 0, 0, 4096) + bytes(40),
        struct.pack("<IIIIHHI", 7, 11, 0, 0, 0, 0, 4096),
    ],
    ids=["short", "older", "newer", "7.11"],
)
def test_init(server: Hostile, init: bytes) -> None:
    assert error_of(server, "begin", data=init) == "EPROTO"


@pytest.mark.parametrize(
    "data",
    [
        entry(1),
        entry(2, attr(mode=0o644)),
        entry(2, attr(mode=0o170644)),
        entry(2, attr(size=1 << 63)),
        entry()[:-1],
        entry() + b"\0",
        b"",
        bytes(131072),
    ],
    ids=["root", "no type", "wrong type", "negative size", "short", "long", "empty", "huge"],
)
def test_entries(server: Hostile, data: bytes) -> None:
    server.begin()
    assert error_of(server, "lookup", 1, "x", data=data) == "EIO"


def test_made_of_another_kind(server: Hostile) -> None:
    """What was asked for as a directory comes as a link: given back, and not believed."""
    server.begin()
    assert error_of(server, "mkdir", 1, "x", 0o755, data=entry(9, attr(stat.S_IFLNK | 0o777))) == "EIO"
    opcode, _, node, data = server.receive()
    assert (opcode, node, data) == (FORGET, 9, struct.pack("<Q", 1))
    assert error_of(server, "mkdir", 1, "x", 0o755, data=entry(0)) == "EIO"


def test_nothing_there(server: Hostile) -> None:
    server.begin()
    assert error_of(server, "lookup", 1, "x", data=entry(0, bytes(88))) == "ENOENT"


@pytest.mark.parametrize("error", [5, -512, -100000, -(2**31)])
def test_errors_that_are_none(server: Hostile, error: int) -> None:
    server.begin()
    assert error_of(server, "lookup", 1, "x", error=error) == "EIO"


def test_error_with_data(server: Hostile) -> None:
    server.begin()
    assert error_of(server, "lookup", 1, "x", data=entry(), error=-2) == "EIO"


@pytest.mark.parametrize(
    "data",
    [
        dirent(b"a/b"),
        dirent(b"a\0b"),
        dirent(b""),
        dirent(b"x" * 300),
        dirent(b"x", length=(1 << 32) - 1),
        dirent(b"good") + dirent(b"/"),
    ],
    ids=["slash", "nul", "empty", "long", "longer than all", "second"],
)
def test_listings(server: Hostile, data: bytes) -> None:
    server.begin()
    assert error_of(server, "list", 0, 0, data=data) == "EIO"
    assert error_of(server, "list", 0, 1, data=b"".join([entry(5), data[-24:]])) in ("EIO", "ETIMEDOUT")


def test_sizes(server: Hostile) -> None:
    server.begin()
    assert error_of(server, "read", 0, 0, 10, data=bytes(11)) == "EIO"
    assert error_of(server, "write", 0, 0, "0011", data=struct.pack("<II", 3, 0)) == "EIO"
    assert error_of(server, "write", 0, 0, "0011", data=struct.pack("<II", 0, 0)) == "EIO"
    assert error_of(server, "getxattr", 2, "user.x", 4, data=bytes(5)) == "EIO"
    assert error_of(server, "getxattr", 2, "user.x", 0, data=struct.pack("<II", 1 << 30, 0)) == "E2BIG"
    assert error_of(server, "listxattr", 2, 100, data=b"user.x") == "EIO"
    assert error_of(server, "lseek", 0, 0, 3, data=struct.pack("<Q", 1 << 63)) == "EIO"
    assert error_of(server, "readlink", 2, data=b"") == "EIO"
    assert server.ask("readlink", 2, data=b"cut\0off")["data"] == "cut"
    assert server.ask("readlink", 2, data=b"x" * 4095)["size"] == 4095
    assert error_of(server, "readlink", 2, data=b"x" * 4096) == "EIO"


def test_empty_message(server: Hostile) -> None:
    """No reader of a socket can tell it from the end of file."""
    server.begin()
    server.shell.send("lookup", 1, "x")
    server.receive()
    server.socket.send(b"")
    with pytest.raises(OSError, match=r".") as caught:
        server.shell.answer()
    assert caught.value.errno == errno.ENOTCONN


def test_nonsense_before_the_answer(server: Hostile) -> None:
    """Messages that are none, and answers to nothing: passed over, and the right one is found."""
    server.begin()
    server.shell.send("lookup", 1, "x")
    _, unique, _, _ = server.receive()
    server.socket.send(b"short")
    server.reply(unique + 2, entry(3))
    server.reply(unique | 1, b"", error=-11)
    server.reply(0, b"nonsense", error=77)
    server.reply(0, b"nonsense", error=3)
    server.reply(0, bytes(130_000), error=1)
    server.reply(unique, entry(4))
    assert server.shell.answer()["node"] == 4
    assert "makes no sense" in server.shell("hear")["line"]


def test_wrong_length(server: Hostile) -> None:
    server.begin()
    assert error_of(server, "lookup", 1, "x", data=entry(), length=1 << 31) == "EIO"


def test_notices(server: Hostile) -> None:
    server.begin()
    server.reply(0, struct.pack("<Qqq", 5, 0, -1), error=2)
    server.reply(0, struct.pack("<QII", 1, 4, 0) + b"name\0", error=3)
    server.reply(0, struct.pack("<QII", 1, 4, 0) + b"na/e\0", error=3)
    server.reply(0, struct.pack("<QII", 1, (1 << 32) - 1, 0) + b"name\0", error=3)
    server.reply(0, struct.pack("<QQII", 1, 2, 3, 0) + b"two\0", error=6)
    heard = server.shell("hear")
    assert heard["notices"][:2] == [1, 2]
    assert heard["name"] == "two"


def test_deadline(server: Hostile) -> None:
    """A hung server costs its caller the deadline; a late answer is given back."""
    server.begin()
    server.shell.send("lookup", 1, "x")
    _, unique, _, _ = server.receive()
    with pytest.raises(OSError, match=r".") as caught:
        server.shell.answer()
    assert caught.value.errno == errno.EIO
    opcode, _, _, data = server.receive()
    assert (opcode, data) == (INTERRUPT, struct.pack("<Q", unique))
    flights = server.shell("flights")
    assert (flights["count"], flights["opcode"]) == (1, LOOKUP)
    server.reply(unique, entry(11))
    server.shell("hear")
    opcode, _, node, _ = server.receive()
    assert (opcode, node) == (FORGET, 11)
    server.shell.send("open", 1, 11, os.O_RDONLY)
    _, unique, _, _ = server.receive()
    with pytest.raises(OSError, match="5"):
        server.shell.answer()
    assert server.receive()[0] == INTERRUPT
    server.reply(unique, struct.pack("<QII", 99, 0, 0))
    server.shell("hear")
    opcode, unique, node, data = server.receive()
    assert (opcode, node, data[:8]) == (RELEASE, 11, struct.pack("<Q", 99))
    server.reply(unique)
    assert server.shell("hear")
    assert server.shell("flights")["count"] == 0


def test_caller_goes(shell_program: Path) -> None:
    server = Hostile(shell_program, deadline=0)
    try:
        server.begin()
        server.shell("gone", 250)
        server.shell.send("lookup", 1, "x")
        _, unique, _, _ = server.receive()
        with pytest.raises(OSError, match=r".") as caught:
            server.shell.answer()
        assert caught.value.errno == errno.EINTR
        assert server.receive()[0] == INTERRUPT
        server.shell("gone", 0)
        server.reply(unique | 1, b"", error=-38)
        server.shell("hear")
        server.shell("gone", 150)
        server.shell.send("lookup", 1, "y")
        server.receive()
        with pytest.raises(OSError, match="4"):
            server.shell.answer()
        server.shell("gone", 0)
        server.shell.send("lookup", 1, "z")
        opcode, unique, _, data = server.receive()
        assert (opcode, data) == (LOOKUP, b"z\0"), "a server that has no INTERRUPT gets none"
        server.reply(unique, entry(3))
        assert server.shell.answer()["node"] == 3
    finally:
        server.close()


def test_never_reads(server: Hostile) -> None:
    """Its queue is full: who cannot even ask is not kept longer than the deadline either."""
    server.begin()
    server.shell.send("fill", 0, 0, 131072, 1)
    failed = 0
    for _ in range(8):
        with pytest.raises(OSError, match="5"):
            server.shell.answer()
        failed += 1
        server.shell.send("fill", 0, 0, 131072, 1)
    with pytest.raises(OSError, match="5"):
        server.shell.answer()
    assert failed == 8


def test_fuzz(tmp_path: Path) -> None:
    """The decoder under mutations of sound messages, with address and undefined-behaviour sanitizers."""
    program = fuse_shell.build(tmp_path / "fuzz", HERE / "fuse_fuzz.c")
    for seed in (1, 2):
        done = subprocess.run(
            [program, str(seed), str(TRIES // 2)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
