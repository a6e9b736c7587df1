"""Wire mounts over a libfuse 3 server that shows a directory: what the anchors say, and what comes back."""

import errno
import mmap
import os
import random
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.engine import fuse_shell, wire_shell
from supervisor.engine.fuse_shell import HERE
from supervisor.engine.wire_shell import CACHED, LIST, PARENT, Mount, wait_for

BLOCK = 131072


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wire_shell.build(tmp_path_factory.mktemp("wire") / "shell")


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fuse_shell.build_server(tmp_path_factory.mktemp("mirror") / "mirror", HERE / "fuse_mirror.c")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    return directory


NO_TIME = ["-o", "entry_timeout=0,attr_timeout=0"]
LONG = ["-o", "entry_timeout=60,attr_timeout=60,negative_timeout=60"]


@pytest.fixture(params=[NO_TIME, LONG], ids=["asks always", "remembers"])
def mount(request: pytest.FixtureRequest, program: Path, mirror: Path, source: Path) -> Iterator[Mount]:
    with wire_shell.running(
        program, source.parent / "cache", mirror, source, "@", "-f", *request.param
    ) as mount:
        yield mount


def error_of(mount: Mount, *words: object) -> str:
    with pytest.raises(OSError, match=r".") as caught:
        mount(*words)
    return errno.errorcode[caught.value.errno or 0]


def same(mount: Mount, source: Path, path: str) -> None:
    """All that an anchor can say."""
    ours, theirs = mount.stat(path), os.lstat(source / path)
    fields = ["st_mode", "st_size", "st_mtime_ns", "st_uid", "st_gid"]
    if stat.S_ISDIR(theirs.st_mode):
        fields.remove("st_size")
    if os.geteuid():
        fields = [field for field in fields if field not in ("st_uid", "st_gid")]
    assert [getattr(ours, field) for field in fields] == [getattr(theirs, field) for field in fields], path


def test_attributes(mount: Mount, source: Path) -> None:
    (source / "d").mkdir(mode=0o555)
    (source / "f").write_bytes(bytes(100_000))
    (source / "f").chmod(0o4711)
    (source / "secret").write_text("x")
    (source / "secret").chmod(0)
    (source / "l").symlink_to("no/where")
    os.mkfifo(source / "p")
    os.link(source / "f", source / "g")
    for name in ("d", "f", "secret", "l", "p", "g"):
        os.utime(source / name, ns=(10**18, 10**18 + 7), follow_symlinks=False)
        same(mount, source, name)
    assert os.readlink(mount.tree / "l") == "no/where"
    assert mount.stat("f").st_blocks == 0, "its data has not been asked for"
    assert error_of(mount, "prepare", "nothing", 0) == "ENOENT"
    mount("prepare", "nothing", PARENT)
    mount("prepare", "f/below", 0)
    mount("prepare", "l/below", 0)


def test_listing(mount: Mount, source: Path) -> None:
    for i in range(500):
        (source / f"f{i}").write_bytes(b"x" * i)
    (source / "d").mkdir()
    (source / "d" / "deep").mkdir()
    (source / "l").symlink_to("f1")
    assert mount.names() == set(os.listdir(source))
    with os.scandir(mount.tree) as entries:
        told = {entry.name: (entry.inode(), entry.is_dir(follow_symlinks=False)) for entry in entries}
    for name, (inode, directory) in told.items():
        assert (mount.stat(name).st_ino, stat.S_ISDIR(mount.stat(name).st_mode)) == (inode, directory)
    changed = mount.stat("/").st_ctime_ns
    assert mount.names() == set(os.listdir(source))
    assert mount.stat("/").st_ctime_ns == changed, "to list it is no change"
    same(mount, source, "f77")
    (source / "f3").unlink()
    (source / "d" / "deep" / "new").touch()
    assert mount.names() == set(os.listdir(source))
    assert mount.names("d/deep") == {"new"}
    mount("prepare", "d/deep/new", 0)


def test_closed_directories(mount: Mount, source: Path) -> None:
    """Where the mode would shut out whoever keeps the anchors."""
    (source / "d").mkdir()
    (source / "d" / "f").write_text("data")
    (source / "d").chmod(0o555)
    (source / "d" / "f").chmod(0o400)
    assert mount.names("d") == {"f"}
    assert mount.read("d/f") == b"data"
    (source / "d").chmod(0o755)


def test_reading(mount: Mount, source: Path) -> None:
    data = os.urandom(3 * BLOCK + 1234)
    (source / "f").write_bytes(data)
    assert mount.read("f") == data
    with (source / "sparse").open("wb") as file:
        file.truncate(50 * BLOCK)
        file.seek(20 * BLOCK)
        file.write(b"in the middle")
    assert mount.read("sparse") == (source / "sparse").read_bytes()
    assert mount.stat("sparse").st_blocks <= 2 * BLOCK // 512, "holes stay holes"


def test_changed_behind(program: Path, mirror: Path, source: Path) -> None:
    """Without time-outs the server's state is what counts, always; descriptors follow."""
    (source / "f").write_bytes(b"first")
    with wire_shell.running(program, source.parent / "cache", mirror, source, "@", "-f", *NO_TIME) as mount:
        held = mount.open("f", os.O_RDONLY)
        (source / "f").write_bytes(b"second, longer")
        os.utime(source / "f", ns=(10**18, 10**18))
        assert mount.stat("f").st_size == 14
        assert mount.read("f") == b"second, longer"
        assert os.pread(held, 100, 0) == b"second, longer"
        os.close(held)
        (source / "f").unlink()
        (source / "f").mkdir()
        assert stat.S_ISDIR(mount.stat("f").st_mode)
        (source / "f").rename(source / "g")
        assert error_of(mount, "prepare", "f", 0) == "ENOENT"
        assert stat.S_ISDIR(mount.stat("g").st_mode)
        assert mount.names() == {"g"}


def test_remembers(program: Path, mirror: Path, source: Path) -> None:
    """What is known is known until its time is over: no request is made."""
    (source / "d").mkdir()
    (source / "d" / "f").touch()
    with wire_shell.running(program, source.parent / "cache", mirror, source, "@", "-f", *LONG) as mount:
        assert error_of(mount, "prepare", "d/f", CACHED) == "EAGAIN"
        mount("prepare", "d/f", 0)
        assert error_of(mount, "prepare", "d/none", 0) == "ENOENT"
        (source / "d" / "f").unlink()
        mount("prepare", "d/f", CACHED)
        assert error_of(mount, "prepare", "d/none", CACHED) == "ENOENT"
        assert error_of(mount, "prepare", "d", LIST | CACHED) == "EAGAIN"


def test_a_lookup_that_tells_nothing(program: Path, tmp_path: Path) -> None:
    """The attributes are asked for then, and what is open stays as it is."""
    server = fuse_shell.build_server(tmp_path / "shy", HERE / "fuse_shy.c")
    data = os.urandom(BLOCK + 5)
    with wire_shell.running(program, tmp_path / "cache", server, "@") as mount:
        mount.write("f", data, os.O_WRONLY)
        wait_for(lambda: mount.stat("f").st_size == len(data))
        assert stat.S_IMODE(mount.stat("f").st_mode) == 0o640
        held = mount.open("f", os.O_RDONLY)
        for look in (lambda: mount.stat("f"), mount.names, lambda: mount.stat("f")):
            look()
            assert os.pread(held, len(data), 0) == data, "it has lost its data"
        os.close(held)
        assert mount.read("f") == data


def test_writing(mount: Mount, source: Path) -> None:
    data = os.urandom(2 * BLOCK + 99)
    mount.write("new", data)
    wait_for(lambda: (source / "new").read_bytes() == data)
    fd = mount.open("new", os.O_RDWR)
    twin = os.dup(fd)
    os.pwrite(fd, b"changed", BLOCK + 5)
    os.close(fd)
    assert mount.stat("new").st_size == len(data)
    os.pwrite(twin, b"longer", len(data) + 3 * BLOCK)
    os.close(twin)
    expected = bytearray(data) + bytes(3 * BLOCK) + b"longer"
    expected[BLOCK + 5 : BLOCK + 12] = b"changed"
    wait_for(lambda: (source / "new").read_bytes() == expected)
    fd = mount.open("new", os.O_WRONLY)
    os.ftruncate(fd, 1000)
    os.utime(fd, ns=(10**18, 10**18))
    os.close(fd)
    wait_for(lambda: (source / "new").stat().st_size == 1000)
    wait_for(lambda: (source / "new").stat().st_mtime_ns == 10**18)
    assert (source / "new").read_bytes() == data[:1000]
    fd = mount.open("new", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"end")
    os.close(fd)
    wait_for(lambda: (source / "new").read_bytes() == data[:1000] + b"end")
    wait_for(lambda: mount.stat("new").st_mtime_ns == (source / "new").stat().st_mtime_ns)  # after the data
    same(mount, source, "new")


def test_only_changes_go_back(mount: Mount, source: Path) -> None:
    (source / "f").write_bytes(bytes(4 * BLOCK))
    fd = mount.open("f", os.O_RDWR)
    with (source / "f").open("r+b") as behind:
        behind.seek(2 * BLOCK)
        behind.write(b"not ours")
    os.pwrite(fd, b"ours", 0)
    os.close(fd)
    wait_for(lambda: (source / "f").read_bytes().startswith(b"ours"))
    assert (source / "f").read_bytes()[2 * BLOCK :].startswith(b"not ours")


def test_sync(mount: Mount, source: Path) -> None:
    fd = mount.open("f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"so far")
    assert mount.stat("f").st_size == 6, "what is not yet back counts"
    mount("sync", "f")
    assert (source / "f").read_bytes() == b"so far"
    os.write(fd, b" and on")
    other = mount.open("f", os.O_RDONLY)
    assert os.read(other, 100) == b"so far and on"
    os.close(other)
    os.close(fd)
    wait_for(lambda: (source / "f").read_bytes() == b"so far and on")


def test_mapped(mount: Mount, source: Path) -> None:
    (source / "f").write_bytes(bytes(5000))
    fd = mount.open("f", os.O_RDWR)
    with mmap.mmap(fd, 5000) as memory:
        os.close(fd)
        memory[100:104] = b"mmap"
    wait_for(lambda: (source / "f").read_bytes()[100:104] == b"mmap")


def test_deleted_while_open(mount: Mount, source: Path) -> None:
    fd = mount.open("f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"data")
    mount("unlink", "f")
    assert error_of(mount, "prepare", "f", 0) == "ENOENT"
    assert os.pread(fd, 10, 0) == b"data"
    os.close(fd)
    mount.write("f", b"another")
    wait_for(lambda: (source / "f").read_bytes() == b"another")


def test_unmount_writes_back(program: Path, mirror: Path, source: Path) -> None:
    with wire_shell.running(program, source.parent / "cache", mirror, source, "@", "-f") as mount:
        fd = mount.open("f", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"written, not closed")
        assert mount("unmount")["failed"] == 0
        assert (source / "f").read_bytes() == b"written, not closed"
        os.close(fd)


def test_full(mount: Mount, source: Path) -> None:
    """What the server does not take is said, tried again, and counted at the end."""
    os.mkfifo(source / "x")
    fd = mount.open("f", os.O_WRONLY | os.O_CREAT)
    (source / "f").unlink()
    os.write(fd, b"data")
    mount("kill", 9)
    os.close(fd)
    wait_for(lambda: "could not be given" in str(mount("line")["line"]))
    assert mount("unmount")["failed"] == 1


def test_changes(mount: Mount, source: Path) -> None:
    mount("mkdir", "d", 0o750)
    assert error_of(mount, "mkdir", "d", 0o750) == "EEXIST"
    mount("mkdir", "d/e", 0o755)
    mount.write("d/e/f", b"data")
    mount("symlink", "d/l", "e/f")
    mount("mknod", "d/p", stat.S_IFIFO | 0o640, 0)
    mount("link", "d/second", "d/e/f")
    for path in ("d", "d/e", "d/e/f", "d/l", "d/p", "d/second"):
        mount.stat(path)
    wait_for(lambda: (source / "d/e/f").read_bytes() == b"data")
    mount("rename", "d/e", "moved", 0)
    assert mount.read("moved/f") == b"data"
    assert error_of(mount, "prepare", "d/e", 0) == "ENOENT"
    assert error_of(mount, "rename", "moved", "d", 1) == "EEXIST"
    mount("rename", "moved", "d/l", 2)
    assert mount.names("d/l") == {"f"}
    assert os.readlink(mount.tree / "moved") == "e/f"
    mount("chmod", "d/second", 0o600)
    mount("truncate", "d/second", 2)
    mount("utime", "d/second", 1234567)
    assert mount.read("d/l/f") == b"da"
    for path in ("d", "d/l", "d/l/f", "d/p", "d/second", "moved"):
        same(mount, source, path)
    assert error_of(mount, "rmdir", "d") == "ENOTEMPTY"
    assert error_of(mount, "unlink", "d") in ("EISDIR", "EPERM")
    mount("unlink", "d/p")
    mount("unlink", "moved")
    assert mount.names() == {"d"}
    assert mount.names("d") == {"l", "second"}


def test_link_counts(mount: Mount, source: Path) -> None:
    """They are the server's, which may give each name a node of its own, or know names that we do not."""
    (source / "a").touch()
    os.link(source / "a", source / "hidden")
    assert mount.stat("a").st_nlink == 2
    fd = mount.open("a", os.O_RDONLY)
    mount("link", "b", "a")
    assert [mount.stat(name).st_nlink for name in ("a", "b")] == [3, 3]
    assert os.fstat(fd).st_nlink == 3
    mount("unlink", "b")
    mount("unlink", "a")
    assert mount.names() == {"hidden"}
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)


def test_what_is_closed_is_closed_there(mount: Mount, source: Path) -> None:
    """A server that has a removed file open still keeps it, by another name; another name tells its size."""
    for i in range(30):
        mount.write("f", b"written")
        mount("link", "g", "f")
        assert mount.stat("g").st_size == 7
        mount.write("g", b"again")
        mount("unlink", "f")
        assert os.listdir(source) == ["g"], i
        mount.write("h", b"moved")
        mount("rename", "h", "g", 0)
        assert os.listdir(source) == ["g"], i
        mount("unlink", "g")


def test_truncated_while_written(mount: Mount, source: Path) -> None:
    fd = mount.open("f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"0123456789")
    mount("truncate", "f", 4)
    assert os.fstat(fd).st_size == 4
    os.pwrite(fd, b"x", 5)
    os.close(fd)
    wait_for(lambda: (source / "f").read_bytes() == b"0123\0x")


def test_extended_attributes(mount: Mount, source: Path) -> None:
    (source / "f").touch()
    mount("setxattr", "f", "user.a", b"value".hex())
    assert os.getxattr(source / "f", "user.a") == b"value"
    assert mount("getxattr", "f", "user.a", 100)["data"] == "value"
    assert "user.a\0" in str(mount("listxattr", "f", 1000)["data"])
    mount("removexattr", "f", "user.a")
    assert error_of(mount, "getxattr", "f", "user.a", 10) == "ENODATA"


def test_hung(program: Path, mirror: Path, source: Path) -> None:
    """A hung server costs whoever asks it the deadline, and what is known is told."""
    (source / "f").touch()
    with wire_shell.running(
        program, source.parent / "cache", mirror, source, "@", "-f", "-s", *LONG, deadline=0.3
    ) as mount:
        mount("prepare", "f", 0)
        mount("kill", 10)
        assert error_of(mount, "prepare", "other", 0) == "EIO"
        mount("prepare", "f", 0)
        mount("gone", 100)
        assert error_of(mount, "prepare", "third", 0) == "EINTR"
        mount("gone", 0)
        mount("kill", 9)


@pytest.mark.slow
def test_unmount_of_a_hung_server(program: Path, mirror: Path, source: Path) -> None:
    """Without a deadline, and with something to be written back: it takes a while, but not for ever."""
    with wire_shell.running(
        program, source.parent / "cache", mirror, source, "@", "-f", "-s", deadline=0
    ) as mount:
        fd = mount.open("f", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"data")
        mount("kill", 10)
        mount.shell.send("unmount")
        assert mount.shell.answer()["failed"] == 1
        os.close(fd)
        mount("kill", 9)


@pytest.mark.parametrize("seed", range(6))
def test_sequences(mount: Mount, source: Path, seed: int) -> None:
    """Whatever is done by the mount, the server's directory and the anchors say the same afterwards."""
    draw = random.Random(seed)  # noqa: S311
    names = ["a", "b", "c", "a/x", "a/y", "b/x", "b/y", "c/x", "a/x/1", "b/y/2"]
    flags = [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND]
    for _ in range(250):
        path, other = draw.choice(names), draw.choice(names)
        step = draw.randrange(10)
        try:
            if step == 0:
                mount("mkdir", path, 0o755)
            elif step == 1:
                mount("rename", path, other, draw.choice([0, 0, 1, 2]))
            elif step == 2:
                mount("unlink", path)
            elif step == 3:
                mount("rmdir", path)
            elif step == 4:
                mount("link", other, path)
            elif step == 5:
                mount("symlink", path, "text" * draw.randrange(1, 5))
            elif step == 6:
                mount("truncate", path, draw.randrange(300_000))
            elif step == 7:
                mount.names(path)
            elif step == 8:
                mount.write(
                    path, draw.randbytes(draw.randrange(200_000)), os.O_WRONLY | os.O_CREAT | os.O_EXCL
                )
            else:
                with open(mount.open(path, draw.choice(flags)), "wb") as file:
                    file.seek(draw.randrange(200_000), os.SEEK_CUR)
                    file.write(draw.randbytes(draw.randrange(1000)))
        except OSError as error:
            if error.errno in (errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.EAGAIN):
                raise
    mount("prepare", "/", LIST)
    for directory, below, files in os.walk(source):
        inside = os.path.relpath(directory, source)
        inside = "" if inside == "." else inside
        assert mount.names(inside or "/") == {*below, *files}
        for name in (*below, *files):
            path = os.path.join(inside, name)
            theirs = source / path
            if theirs.is_symlink():
                mount.stat(path)
                assert os.readlink(mount.tree / path) == os.readlink(theirs)
            elif theirs.is_file():
                wait_for(lambda path=path, theirs=theirs: mount.read(path) == theirs.read_bytes())  # type: ignore[misc]


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_storm(tmp_path: Path, sanitizer: str) -> None:
    """Four threads over a server that says anything: see wire_storm.c."""
    flags = [f"-fsanitize={sanitizer}", *fuse_shell.SANITIZED[1:]]
    program = wire_shell.build(tmp_path / "storm", HERE / "wire_storm.c", flags)
    for seed in range(1, 7):
        cache = tmp_path / f"cache{seed}"
        cache.mkdir()
        command = [program, str(seed), "300", cache]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
