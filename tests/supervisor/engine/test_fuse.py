"""The FUSE client against servers that mean well: libfuse 3's (fuse_mirror.c) and squashfuse as packaged."""

import errno
import os
import shlex
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.engine import fuse_shell
from supervisor.engine.fuse_shell import HERE, Shell


@pytest.fixture(scope="module")
def shell_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fuse_shell.build(tmp_path_factory.mktemp("fuse") / "shell", HERE / "fuse_shell.c")


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fuse_shell.build_server(tmp_path_factory.mktemp("mirror") / "mirror", HERE / "fuse_mirror.c")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    directory = tmp_path / "tree"
    directory.mkdir()
    return directory


@pytest.fixture(params=["many threads", "one thread", "remembers"])
def shell(request: pytest.FixtureRequest, shell_program: Path, mirror: Path, tree: Path) -> Iterator[Shell]:
    options = {
        "many threads": ["-f"],
        "one thread": ["-f", "-s"],
        "remembers": ["-f", "-o", "entry_timeout=60,attr_timeout=60"],
    }[request.param]
    with fuse_shell.running(shell_program, mirror, tree, "@", *options) as shell:
        yield shell


def error_of(shell: Shell, *words: object) -> str:
    with pytest.raises(OSError, match=r".") as caught:
        shell(*words)
    return errno.errorcode[caught.value.errno or 0]


def test_names(shell: Shell, tree: Path) -> None:
    (tree / "d").mkdir()
    (tree / "d" / "f").write_text("data")
    directory = shell("lookup", 1, "d")
    assert stat.S_ISDIR(directory["mode"])
    assert directory["ino"] == (tree / "d").stat().st_ino
    file = shell("lookup", directory["node"], "f")
    assert (file["size"], file["mode"]) == (4, 0o100644)
    assert error_of(shell, "lookup", 1, "nothing") == "ENOENT"
    assert error_of(shell, "lookup", 1, "a/b") == "EINVAL"
    assert error_of(shell, "lookup", 1, "n" * 256) == "ENAMETOOLONG"
    new = shell("mkdir", 1, "new", 0o750)
    assert stat.S_IMODE((tree / "new").stat().st_mode) == 0o750
    shell("rename", directory["node"], "f", new["node"], "g", 0)
    assert (tree / "new" / "g").read_text() == "data"
    (tree / "other").touch()
    assert error_of(shell, "rename", new["node"], "g", 1, "other", 1) == "EEXIST"
    shell("rename", new["node"], "g", 1, "other", 2)
    assert (tree / "other").read_text() == "data"
    linked = shell("link", 1, "second", shell("lookup", 1, "other")["node"])
    assert linked["nlink"] == 2
    shell("symlink", 1, "link", "some/where")
    link = shell("lookup", 1, "link")
    assert shell("readlink", link["node"])["data"] == "some/where"
    fifo = shell("mknod", 1, "fifo", stat.S_IFIFO | 0o600, 0)
    assert stat.S_ISFIFO(fifo["mode"])
    assert error_of(shell, "rmdir", 1, "new") == "ENOTEMPTY"
    shell("unlink", new["node"], "g")
    shell("rmdir", 1, "new")
    assert not (tree / "new").exists()
    shell("forget", file["node"], 1)
    shell("lookup", 1, "d")


def test_data(shell: Shell, tree: Path) -> None:
    shell("create", 1, "file", os.O_RDWR, 0o640, 1)
    data = os.urandom(1000)
    shell("write", 1, 500, data.hex())
    shell("fill", 1, 2000, 300_000, 7)
    expected = bytes(500) + data + bytes(500) + b"\x07" * 300_000
    assert (tree / "file").read_bytes() == expected
    assert shell("read", 1, 400, 1200)["data"].encode("latin-1") == expected[400:1600]
    assert shell("read", 1, 302_000, 100)["size"] == 0
    assert shell("read", 1, 0, 1 << 20)["size"] == 131072, "no more at once than the protocol has room for"
    shell("flush", 1)
    shell("fsync", 1, 1)
    shell("fallocate", 1, 0, 0, 400_000)
    assert (tree / "file").stat().st_size == 400_000
    assert shell("lseek", 1, 0, os.SEEK_HOLE)["offset"] > 0
    shell("release", 1)
    node = shell("lookup", 1, "file")["node"]
    shell("open", 2, node, os.O_RDONLY)
    assert error_of(shell, "write", 2, 0, "00") == "EBADF"
    shell("release", 2)
    assert shell("truncate", node, 10)["size"] == 10
    assert shell("setattr", node, 0o4711)["mode"] == 0o104711
    times = shell("times", node, 1234567890, 987654321)
    assert (times["mtime"], times["nsec"]) == (1234567890, 987654321)
    assert (tree / "file").stat().st_mtime_ns == 1234567890_987654321
    shell("access", node, os.R_OK)
    assert shell("statfs", 1)["namelen"] == 255


def test_attributes(shell: Shell, tree: Path) -> None:
    (tree / "f").touch()
    node = shell("lookup", 1, "f")["node"]
    assert error_of(shell, "getxattr", node, "user.a", 10) == "ENODATA"
    shell("setxattr", node, "user.a", b"some value".hex(), 0)
    assert os.getxattr(tree / "f", "user.a") == b"some value"
    assert error_of(shell, "setxattr", node, "user.a", "00", os.XATTR_CREATE) == "EEXIST"
    assert shell("getxattr", node, "user.a", 0)["size"] == 10
    assert shell("getxattr", node, "user.a", 100)["data"] == "some value"
    assert error_of(shell, "getxattr", node, "user.a", 3) == "ERANGE"
    assert "user.a\0" in shell("listxattr", node, 1000)["data"]
    assert shell("listxattr", node, 0)["size"] >= 7
    shell("removexattr", node, "user.a")
    assert os.listxattr(tree / "f") == [a for a in os.listxattr(tree / "f") if a != "user.a"]


@pytest.mark.parametrize("plus", [0, 1])
def test_directories(shell: Shell, tree: Path, plus: int) -> None:
    names = {f"name-{i}-{'x' * (i % 200)}" for i in range(3000)}
    for name in names:
        (tree / name).touch()
    shell("opendir", 1, 1)
    listed = shell("list", 1, plus)["names"]
    assert len(listed) == len(names) + 2
    assert {name for name, _, _ in listed} == names | {".", ".."}
    assert any(known for _, _, known in listed) == bool(plus)
    assert not any(known for name, _, known in listed if name in (".", ".."))
    shell("fsyncdir", 1, 0)
    shell("releasedir", 1)


def test_many_threads(shell: Shell, tree: Path) -> None:
    for i in range(50):
        (tree / f"f{i}").write_bytes(bytes([i]) * (i * 1000))
    shell("storm")
    assert shell("flights")["count"] <= 8, "releases may still be on their way"


def test_death(shell: Shell) -> None:
    shell("getattr", 1)
    shell("kill")
    assert error_of(shell, "getattr", 1) == "ENOTCONN"
    assert error_of(shell, "lookup", 1, "x") == "ENOTCONN"
    assert "ENOTCONN" in shell("hear")["line"]


def test_squashfuse(shell_program: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d" / "big").write_bytes(os.urandom(1_000_000))
    (source / "link").symlink_to("d/big")
    image = tmp_path / "image"
    subprocess.run(shlex.split(f"mksquashfs {source} {image} -quiet -noappend -no-progress"), check=True)
    with fuse_shell.running(shell_program, "squashfuse", "-f", image, "@") as shell:
        node = shell("lookup", shell("lookup", 1, "d")["node"], "big")["node"]
        shell("open", 1, node, os.O_RDONLY)
        got = b"".join(
            shell("read", 1, offset, 131072)["data"].encode("latin-1")
            for offset in range(0, 1_000_000, 131072)
        )
        assert got == (source / "d" / "big").read_bytes()
        assert shell("readlink", shell("lookup", 1, "link")["node"])["data"] == "d/big"
        assert error_of(shell, "mkdir", 1, "x", 0o755) in ("ENOSYS", "EROFS")
