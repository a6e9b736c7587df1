"""Wire mounts in a view: a libfuse 3 server that shows a directory, and programs that use it as any."""

import errno
import mmap
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from supervisor.engine import fuse_shell
from supervisor.engine.driver import USERS, View, directory, errno_of, run
from supervisor.engine.fuse_shell import HERE
from supervisor.engine.wire_shell import wait_for

from vuosd.supervisor import members
from vuosd.supervisor.scratch import Scratch, Sized
from vuosd.supervisor.session import Session
from vuosd.supervisor.values import Wired

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def mirror() -> Path:
    return fuse_shell.build_server(directory() / "mirror", HERE / "fuse_mirror.c")


@pytest.fixture(params=USERS, ids=["self", "user"][: len(USERS)])
def user(request: pytest.FixtureRequest) -> Any:
    return request.param


class Place:
    """Where the server's directory is, where it is shown, and where the anchors are kept."""

    def __init__(self, user: int | None) -> None:
        self.root = directory()
        self.source, self.target, self.cache = (self.root / name for name in ("source", "target", "cache"))
        for path in (self.source, self.target, self.cache):
            path.mkdir()
        self.user = user
        self.own()

    def own(self) -> None:
        """Everything is the user's who runs the server."""
        if self.user is not None:
            for path in (self.cache, self.target, self.source, *self.source.rglob("*")):
                os.chown(path, self.user, self.user, follow_symlinks=False)


@pytest.fixture
def place(user: Any) -> Place:
    return Place(user)


def begin(
    session: Session, mirror: Path, place: Place, *options: str, deadline: float = 20, fixed: bool = False
) -> tuple[int, subprocess.Popen[bytes]]:
    """The number of a mount, and its server."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [mirror, place.source, f"/dev/fd/{theirs.fileno()}", "-f", *options]
    server = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL)
    theirs.close()
    cache = os.open(place.cache, os.O_RDONLY | os.O_DIRECTORY)
    number = session.mount_wire(
        Wired(
            os.fsencode(place.target),
            ours.detach(),
            cache,
            deadline=deadline,
            type=b"fuse.mirror",
            fixed=fixed,
        )
    )
    return number, server


@contextmanager
def served(
    session: Session,
    mirror: Path,
    place: Place,
    *options: str,
    deadline: float = 20,
    fixed: bool = False,
) -> Iterator[Any]:
    number, server = begin(session, mirror, place, *options, deadline=deadline, fixed=fixed)
    try:
        yield number, server
    finally:
        session.unmount(number)
        assert session.end_wire(number) == []
        server.wait(10)


def use(
    mirror: Path, place: Place, user: Any, body: Callable[[Path], Any], *options: str, deadline: float = 20
) -> Any:
    """What `body` returns, with the path of the mount, in a view."""
    there, done = os.pipe(), os.pipe()
    place.own()

    def attend(session: Session) -> None:
        with served(session, mirror, place, *options, deadline=deadline):
            os.write(there[1], b"x")
            os.read(done[0], 1)

    def target() -> Any:
        os.read(there[0], 1)
        try:
            return body(place.target)
        finally:
            os.write(done[1], b"x")

    return run(target, View(user=user, mounts=True), attend=attend)


def test_programs(mirror: Path, place: Place, user: Any) -> None:
    """The ordinary commands, by a shell."""
    (place.source / "d").mkdir()
    (place.source / "d" / "f").write_text("hello\n")
    (place.source / "l").symlink_to("d/f")
    script = """
        set -e
        cat l d/f
        ls d
        mkdir new && echo data > new/file && cat new/file && echo more >> new/file
        cp new/file new/copy && mv new/copy new/moved && ln new/file new/hard && ln -s file new/soft
        cat new/moved new/soft
        chmod 600 new/moved && touch -d @1000000000 new/moved && truncate -s 3 new/hard
        rm new/hard && ls new && stat -c '%a %Y' new/moved
        test ! -e nothing && ! cat nothing 2>/dev/null
        find . | sort
        printf '#!/bin/sh\\necho run\\n' > prog && chmod 755 prog && ./prog
        cd new && pwd && cat ../d/f
        rmdir . 2>/dev/null || echo refused
    """

    def body(mount: Path) -> tuple[int, str]:
        done = subprocess.run(
            ["/bin/sh", "-c", script], cwd=mount, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    status, out = use(mirror, place, user, body)
    expected = "hello\nhello\nf\ndata\ndata\nmore\ndata\nmore\nfile\nmoved\nsoft\n600 1000000000\n"
    expected += "".join(f"{p}\n" for p in sorted(
        [".", "./d", "./d/f", "./l", "./new", "./new/file", "./new/moved", "./new/soft"]
    ))  # fmt: skip
    expected += f"run\n{place.target}/new\nhello\nrefused\n"
    assert (out, status) == (expected, 0)
    assert (place.source / "new" / "moved").read_text() == "data\nmore\n"


def test_errors(mirror: Path, place: Place, user: Any) -> None:
    (place.source / "d").mkdir()
    (place.source / "d" / "f").write_text("x")

    def body(mount: Path) -> list[int]:
        f, d = mount / "d" / "f", mount / "d"
        return [
            errno_of(os.stat, mount / "none"),
            errno_of(os.stat, f / "below"),
            errno_of(os.mkdir, d),
            errno_of(os.rmdir, d),
            errno_of(os.rmdir, f),
            errno_of(os.unlink, d),
            errno_of(os.rename, d, d / "e"),
            errno_of(os.rename, f, Path("/tmp/elsewhere")),
            errno_of(os.open, mount / "none" / "x", os.O_CREAT | os.O_WRONLY),
            errno_of(os.open, f, os.O_CREAT | os.O_EXCL),
            errno_of(os.open, d, os.O_WRONLY),
            errno_of(os.listdir, f),
            errno_of(os.stat, str(f) + "/"),
            errno_of(os.getxattr, f, "user.none"),
            errno_of(os.symlink, "x", str(mount / "new") + "/"),
        ]

    assert [errno.errorcode[e] for e in use(mirror, place, user, body)] == [
        "ENOENT", "ENOTDIR", "EEXIST", "ENOTEMPTY", "ENOTDIR", "EISDIR", "EINVAL", "EXDEV", "ENOENT",
        "EEXIST", "EISDIR", "ENOTDIR", "ENOTDIR", "ENODATA", "ENOENT",
    ]  # fmt: skip


def test_descriptors(mirror: Path, place: Place, user: Any) -> None:
    """stat and fstat agree, d_ino and st_ino too; what is written comes to the server."""
    (place.source / "f").write_bytes(b"x" * 1000)

    def body(mount: Path) -> tuple[bool, bool, bytes, int]:
        fd = os.open(mount / "f", os.O_RDWR)
        same = os.fstat(fd) == os.stat(mount / "f")
        with os.scandir(mount) as entries:
            same_number = {e.name: e.inode() for e in entries} == {"f": os.fstat(fd).st_ino}
        os.pwrite(fd, b"abc", 10)
        shared = (mount / "f").read_bytes()[8:15]
        os.setxattr(mount / "f", "user.a", b"value")
        os.mknod(mount / "made", 0o600)
        os.close(fd)
        return same, same_number, shared, os.statvfs(mount).f_namemax

    assert use(mirror, place, user, body) == (True, True, b"xxabcxx", 255)
    assert (place.source / "f").read_bytes() == b"x" * 10 + b"abc" + b"x" * 987
    assert os.getxattr(place.source / "f", "user.a") == b"value"
    assert stat.S_ISREG((place.source / "made").stat().st_mode)


def test_written_and_not_read(mirror: Path, place: Place, user: Any) -> None:
    """Files of modes that let nobody read them, made and opened again."""

    def body(mount: Path) -> list[Any]:
        said: list[Any] = []
        for mode in (0o200, 0):
            fd = os.open(mount / "new", os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode)
            os.write(fd, b"0123456789")
            os.close(fd)
            if mode:
                fd = os.open(mount / "new", os.O_WRONLY)
                os.pwrite(fd, b"abc", 3)
                os.close(fd)
            os.truncate(mount / "new", 8) if mode else None
            said.append(stat.S_IMODE(os.lstat(place.source / "new").st_mode))
            os.chmod(mount / "new", 0o600)
            said.append((mount / "new").read_bytes())
            os.unlink(mount / "new")
        return said

    assert use(mirror, place, user, body) == [0o200, b"012abc67", 0, b"0123456789"]


def result_of(call: Callable[..., object], *arguments: object) -> int:
    """An errno, 0 for success."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def forbidden(mount: Path) -> dict[str, int]:
    """What one who owns nothing of it may not do; errnos, 0 for what can be done."""
    file, closed, sticky = mount / "file", mount / "closed", mount / "sticky"
    said = {
        "chmod": result_of(os.chmod, file, 0o777),
        "chown": result_of(os.chown, file, os.getuid(), os.getgid()),
        "utime": result_of(os.utime, file, (1, 1)),
        "touch": result_of(os.utime, file),
        "truncate": result_of(os.truncate, file, 0),
        "O_TRUNC": result_of(os.open, file, os.O_WRONLY | os.O_TRUNC),
        "setxattr": result_of(os.setxattr, file, "user.a", b"x"),
        "create": result_of(os.open, closed / "new", os.O_CREAT | os.O_WRONLY),
        "mkdir": result_of(os.mkdir, closed / "new"),
        "mkfifo": result_of(os.mkfifo, closed / "new"),
        "symlink": result_of(os.symlink, "x", closed / "new"),
        "unlink": result_of(os.unlink, closed / "f"),
        "rename": result_of(os.rename, closed / "f", sticky / "new"),
        "unlink sticky": result_of(os.unlink, sticky / "f"),
        "rename sticky": result_of(os.rename, sticky / "f", sticky / "g"),
        "mkdir sticky": result_of(os.mkdir, sticky / "own"),
        "rmdir sticky": result_of(os.rmdir, sticky / "own"),
        "touch open": result_of(os.utime, mount / "open"),
        "utime open": result_of(os.utime, mount / "open", (1, 1)),
    }
    with socket.socket(socket.AF_UNIX) as unbound:
        said["bind"] = result_of(unbound.bind, str(closed / "s"))
    return said


@pytest.mark.parametrize("other", USERS[1:])
def test_rights(mirror: Path, other: int) -> None:
    """The server is asked as root, but a caller that is not may do no more than in any other mount."""
    place = Place(None)
    for name, mode in (("closed", 0o755), ("sticky", 0o1777)):
        (place.source / name).mkdir()
        (place.source / name).chmod(mode)
        (place.source / name / "f").write_text("kept")
    (place.source / "file").write_text("kept")
    (place.source / "open").write_text("kept")
    (place.source / "open").chmod(0o666)

    def body(mount: Path) -> dict[str, int]:
        os.setgroups([])
        os.setresgid(other, other, other)
        os.setresuid(other, other, other)
        return forbidden(mount)

    natively = run(lambda: body(place.source), View())
    # What the mirror makes belongs to root: there the sticky directory keeps it.
    assert use(mirror, place, None, body) == {**natively, "rmdir sticky": errno.EPERM}
    assert (place.source / "file").read_text() == "kept"
    assert set(natively.values()) == {0, errno.EPERM, errno.EACCES}


def test_sockets(mirror: Path, place: Place, user: Any) -> None:
    """The server has one as well, which no connection goes by."""

    def body(mount: Path) -> list[Any]:
        os.umask(0o027)
        address = str(mount / "s")
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            listener.bind(address)
            listener.listen()
            client.connect(address)
            client.sendall(b"hello")
            said = listener.accept()[0].recv(10)
            again = errno_of(socket.socket(socket.AF_UNIX).bind, address)
            refused = {
                (errno_of(listener.bind, str(mount / "t")), os.path.lexists(place.source / "t"))
                for _ in range(20)
            }
            st = os.stat(address)
        theirs = os.lstat(place.source / "s")
        os.unlink(address)
        return [
            said, again, refused, stat.filemode(st.st_mode), stat.filemode(theirs.st_mode),
            st.st_mtime_ns == theirs.st_mtime_ns, os.listdir(mount), os.listdir(place.source),
        ]  # fmt: skip

    assert use(mirror, place, user, body) == [
        b"hello", errno.EADDRINUSE, {(errno.EINVAL, False)}, "srwxr-x---", "srwxr-x---", True, [], [],
    ]  # fmt: skip


def test_many_at_once(mirror: Path, place: Place, user: Any) -> None:
    for i in range(200):
        (place.source / f"f{i}").write_bytes(b"%d" % i * 100)

    def body(mount: Path) -> list[int]:
        children = []
        for n in range(8):
            if not (child := os.fork()):
                good = all((mount / f"f{(i * 7 + n) % 200}").read_bytes() == b"%d" % ((i * 7 + n) % 200) * 100
                           for i in range(200))  # fmt: skip
                (mount / f"new{n}").write_text(str(n))
                os._exit(not good)
            children.append(child)
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

    assert use(mirror, place, user, body, "-o", "entry_timeout=1,attr_timeout=1") == [0] * 8
    assert sorted(p.name for p in place.source.glob("new*")) == [f"new{n}" for n in range(8)]


def test_hung(mirror: Path, place: Place, user: Any) -> None:
    """Who asks a hung server waits, and can be killed; everybody else goes on; in the end it is EIO."""
    (place.source / "known").touch()
    told = os.pipe()

    def attend(session: Session) -> None:
        with served(session, mirror, place, "-s", "-o", "entry_timeout=60,attr_timeout=60", deadline=3) as (
            number,
            server,
        ):
            os.write(told[1], b"%d\n" % server.pid)
            wait_for(lambda: len(session.flights(number)) >= 10)
            assert {flight.opcode for flight in session.flights(number)} == {1}
            wait_for(lambda: not [f for f in session.flights(number) if f.pid])
            server.kill()

    def body() -> tuple[float, int, int]:
        server = int(os.read(told[0], 32))
        os.stat(place.target / "known")
        os.kill(server, signal.SIGUSR1)
        children = []
        for n in range(20):
            if not (child := os.fork()):
                os._exit(errno_of(os.stat, place.target / f"unknown{n}"))
            children.append(child)
        begin = time.monotonic()
        os.stat(place.target / "known")
        for _ in range(200):
            os.stat("/usr")
        quick = time.monotonic() - begin
        os.kill(children[0], signal.SIGKILL)
        killed = os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])
        got = {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children[1:]}
        assert len(got) == 1
        return quick, killed, got.pop()

    quick, killed, error = run(body, View(user=user, mounts=True), attend=attend, seconds=40)
    assert quick < 1
    assert killed == -signal.SIGKILL
    assert error in (errno.EIO, errno.ENOTCONN)


@pytest.mark.parametrize("writes", [False, True], ids=["reads", "writes"])
def test_the_end_of_a_stopped_server(mirror: Path, place: Place, user: Any, writes: bool) -> None:
    """What is left to be written is waited for, and nothing else: that the server ends is another matter."""
    (place.source / "f").write_text("data")
    told, done = os.pipe(), os.pipe()
    place.own()

    def attend(session: Session) -> None:
        number, server = begin(session, mirror, place)
        os.write(told[1], b"x")
        os.read(done[0], 1)
        server.send_signal(signal.SIGSTOP)
        wait_for(lambda: Path(f"/proc/{server.pid}/stat").read_text().split()[2] == "T")
        session.unmount(number)
        if writes:
            lost: list[object] = ["nothing yet"]
            settling = threading.Thread(target=lambda: lost.__setitem__(0, session.settle_wire(number)))
            settling.start()
            wait_for(lambda: [flight.opcode for flight in session.flights(number)] == [16])  # WRITE
            assert errno_of(session.settle_wire, number) == errno.EBUSY
            assert errno_of(session.end_wire, number) == errno.EBUSY
            server.send_signal(signal.SIGCONT)
            settling.join()
            assert lost == [[]]
            assert (place.source / "f").read_text() == "DATA"
        assert session.settle_wire(number) == []
        ending = threading.Thread(target=session.end_wire, args=(number,))
        ending.start()
        server.send_signal(signal.SIGCONT)
        ending.join()
        server.wait(10)
        os.write(told[1], b"x")

    def body() -> None:
        os.read(told[0], 1)
        fd = os.open(place.target / "f", os.O_RDWR if writes else os.O_RDONLY)
        os.read(fd, 4)
        if writes:
            os.pwrite(fd, b"DATA", 0)
        os.write(done[1], b"x")
        os.read(told[0], 1)

    run(body, View(user=user, mounts=True), attend=attend)


def test_death(mirror: Path, place: Place, user: Any) -> None:
    (place.source / "f").write_text("data")
    told, dead = os.pipe(), os.pipe()

    def attend(session: Session) -> None:
        with served(session, mirror, place) as (_, server):
            os.write(told[1], b"x")
            os.read(dead[0], 1)
            server.kill()
            server.wait()
            os.write(told[1], b"x")
            os.read(dead[0], 1)

    def body() -> tuple[str, bytes, str, str]:
        os.read(told[0], 1)
        fd = os.open(place.target / "f", os.O_RDONLY)
        os.write(dead[1], b"x")
        os.read(told[0], 1)
        codes = [
            errno.errorcode[errno_of(call, place.target / "f")] for call in (os.stat, os.listdir, os.unlink)
        ]
        held = os.read(fd, 10)
        os.write(dead[1], b"x")
        return codes[0], held, codes[1], codes[2]

    assert run(body, View(user=user, mounts=True), attend=attend) == (
        "ENOTCONN",
        b"data",
        "ENOTCONN",
        "ENOTCONN",
    )


def test_readonly_and_types(mirror: Path, place: Place, user: Any) -> None:
    os.mkfifo(place.source / "p")
    (place.source / "s").symlink_to("/etc/passwd")
    devices = [stat.S_IFBLK | 0o640, stat.S_IFCHR | 0o640] if not os.geteuid() else []
    for number, mode in enumerate(devices):
        os.mknod(place.source / f"d{number}", mode, os.makedev(1, 2))

    def body(mount: Path) -> tuple[bool, bytes, str]:
        os.listdir(mount)
        for number, mode in enumerate(devices):
            st = os.stat(mount / f"d{number}")
            assert (st.st_mode, st.st_rdev) == (mode, os.makedev(1, 2)), number
        fifo = stat.S_ISFIFO(os.stat(mount / "p").st_mode)
        child = os.fork()
        if not child:
            (mount / "p").write_bytes(b"through")
            os._exit(0)
        got = (mount / "p").read_bytes()
        os.waitpid(child, 0)
        return fifo, got, (mount / "s").read_text()

    assert use(mirror, place, user, body) == (True, b"through", Path("/etc/passwd").read_text())


def test_by_descriptor(mirror: Path, place: Place, user: Any) -> None:
    """fsync waits until the server has it; what changes a file by its descriptor changes the server's."""

    def body(mount: Path) -> tuple[bytes, int, list[str], int]:
        with open(mount / "f", "wb") as file:
            assert errno_of(os.getxattr, file.fileno(), "user.b") == errno.ENODATA
            file.write(b"so far")
            file.flush()
            os.fsync(file.fileno())
            there = (place.source / "f").read_bytes()
            os.fchmod(file.fileno(), 0o600)
            os.setxattr(file.fileno(), "user.b", b"x")
            assert os.getxattr(file.fileno(), "user.b") == b"x"
            assert "user.b" in os.listxattr(file.fileno())
            held = os.open(mount / "f", os.O_PATH)
            assert [errno_of(os.getxattr, held, "user.b"), errno_of(os.listxattr, held)] == [errno.EBADF] * 2
            os.close(held)
            os.chown(file.fileno(), -1, os.getgid())
            os.utime(file.fileno(), ns=(10**18, 10**18))
        mode = (place.source / "f").stat().st_mode & 0o777
        return there, mode, os.listxattr(place.source / "f"), (place.source / "f").stat().st_mtime_ns

    there, mode, names, time_ns = use(mirror, place, user, body)
    assert (there, mode, time_ns) == (b"so far", 0o600, 10**18)
    assert "user.b" in names


def test_execution(mirror: Path, place: Place, user: Any) -> None:
    """Programs that nobody has opened before, in an order that only the kernel makes."""
    for name in ("true", "echo", "sh"):
        shutil.copy(f"/bin/{name}", place.source / name)
    (place.source / "script").write_text(f"#!{place.target}/sh\necho $0 $1\n")
    (place.source / "script").chmod(0o755)

    def body(mount: Path) -> tuple[int, str, str]:
        status = subprocess.run([mount / "true"], check=False).returncode
        echo = subprocess.run([mount / "echo", "word"], check=True, capture_output=True, text=True).stdout
        out = subprocess.run([mount / "script", "word"], check=True, capture_output=True, text=True).stdout
        return status, echo, out

    assert use(mirror, place, user, body) == (0, "word\n", f"{place.target}/script word\n")


def test_known_programs(mirror: Path, place: Place, user: Any) -> None:
    """git, sqlite3, tar, rsync and the compiler, which all look at what they have written."""
    repository = HERE.parents[2]
    script = f"""
        set -e
        git init -q g && cd g && cp -r {repository}/tests/harness . && git add -A
        git -c user.name=a -c user.email=b commit -qm x && git fsck --full 2>&1 && git status --short && cd ..
        sqlite3 db 'create table t(a); insert into t values(1),(2); pragma integrity_check'
        tar cf t.tar -C {repository} docs && tar xf t.tar && diff -r docs {repository}/docs
        rsync -r {repository}/tests/abi/ abi/ && diff -r abi {repository}/tests/abi
        echo 'int main(){{return 0;}}' >x.c && cc x.c -o x && ./x
        rm -rf g docs abi && ls
    """
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null"}

    def body(mount: Path) -> tuple[int, str]:
        command = ["/bin/sh", "-c", script]
        done = subprocess.run(
            command, cwd=mount, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    status, out = use(mirror, place, user, body, "-o", "entry_timeout=1,attr_timeout=1")
    assert (status, out) == (0, "ok\ndb\nt.tar\nx\nx.c\n")
    assert sorted(os.listdir(place.source)) == ["db", "t.tar", "x", "x.c"]


def test_server_inside(mirror: Path, place: Place, user: Any) -> None:
    """A server that is itself in the view, and shows the view: eight walk through it at once."""
    for i in range(20):
        (place.source / f"d{i}").mkdir()
        for j in range(10):
            (place.source / f"d{i}" / f"f{j}").write_text(f"{i} {j}")
    place.own()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    there, done = os.pipe(), os.pipe()

    def attend(session: Session) -> None:
        theirs.close()
        cache = os.open(place.cache, os.O_RDONLY | os.O_DIRECTORY)
        number = session.mount_wire(Wired(os.fsencode(place.target), ours.detach(), cache, deadline=20))
        os.write(there[1], b"x")
        os.read(done[0], 1)
        session.unmount(number)
        session.end_wire(number)

    def body() -> list[int]:
        command = [mirror, place.source, f"/dev/fd/{theirs.fileno()}", "-f"]
        server = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL)
        theirs.close()
        os.read(there[0], 1)
        try:
            find = f"cat {place.target}/d*/f* | wc -c; find {place.target} -newer /etc/passwd | wc -l"
            walkers = [subprocess.Popen(["/bin/sh", "-c", find], stdout=subprocess.PIPE) for _ in range(8)]
            sums = {walker.communicate()[0] for walker in walkers}
            return [len(sums), *map(int, sums.pop().split())]
        finally:
            os.write(done[1], b"x")
            server.wait(10)

    with ours, theirs:
        different, size, names = run(body, View(user=user, mounts=True), attend=attend, seconds=60)
    assert (different, size, names) == (1, sum(len(f"{i} {j}") for i in range(20) for j in range(10)), 221)


def test_enforced(mirror: Path, place: Place, user: Any) -> None:
    """In a view that enforces everything is acted on, and judged by the object."""
    (place.source / "d").mkdir()
    (place.source / "d" / "f").write_text("data")
    there, done = os.pipe(), os.pipe()
    place.own()

    def attend(session: Session) -> None:
        with served(session, mirror, place):
            os.write(there[1], b"x")
            os.read(done[0], 1)

    def body() -> tuple[str, list[str], str, int]:
        os.read(there[0], 1)
        try:
            os.chdir(place.target / "d")
            with open("new", "w") as file:
                file.write("more")
                os.fchmod(file.fileno(), 0o600)
            os.rename("new", "../moved")
            return Path("f").read_text(), sorted(os.listdir("..")), os.getcwd(), os.stat("../moved").st_mode
        finally:
            os.write(done[1], b"x")

    view = View(user=user, mounts=True, enforce=True)
    expected = ("data", ["d", "moved"], str(place.target / "d"), stat.S_IFREG | 0o600)
    assert run(body, view, attend=attend) == expected
    assert (place.source / "moved").read_text() == "more"


def test_image(place: Place, user: Any) -> None:
    """An unmodified server of an image."""
    for i in range(300):
        (place.source / f"d{i % 10}").mkdir(exist_ok=True)
        (place.source / f"d{i % 10}" / f"f{i}").write_text(f"{i}\n")
    image = place.root / "image"
    subprocess.run(
        shlex.split(f"mksquashfs {place.source} {image} -quiet -noappend -no-progress"), check=True
    )
    there, done = os.pipe(), os.pipe()

    def attend(session: Session) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = ["squashfuse", "-f", image, f"/dev/fd/{theirs.fileno()}"]
        server = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL)
        theirs.close()
        cache = os.open(place.cache, os.O_RDONLY | os.O_DIRECTORY)
        session.mount_wire(Wired(os.fsencode(place.target), ours.detach(), cache, readonly=True, deadline=20))
        os.write(there[1], b"x")
        os.read(done[0], 1)
        server.kill()
        server.wait()

    def body() -> tuple[int, str, int]:
        os.read(there[0], 1)
        try:
            command = f"cat {place.target}/*/* | sort -n | md5sum; find {place.target} -type f | wc -l"
            out = subprocess.run(
                ["/bin/sh", "-c", command], capture_output=True, text=True, check=True
            ).stdout
            return len(os.listdir(place.target)), out, errno_of(os.mkdir, place.target / "x")
        finally:
            os.write(done[1], b"x")

    names, out, error = run(body, View(user=user, mounts=True), attend=attend)
    expected = subprocess.run(
        "seq 0 299 | md5sum",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (names, out.split(), error) == (10, [*expected.split(), "300"], errno.EROFS)


@pytest.fixture
def small() -> Iterator[Place]:
    """A cache of 4 MiB."""
    place = Place(None)
    scratch = Scratch(members.new_session())
    (full,) = scratch.mount([Sized(scratch.make(0o700), 4 << 20, 0o700)])
    place.cache = Path(f"/proc/self/fd/{full}")
    yield place
    os.close(full)
    scratch.remove()


@pytest.mark.parametrize("fixed", [False, True], ids=["changes", "fixed"])
def test_what_nobody_has_open_makes_room(mirror: Path, small: Place, fixed: bool) -> None:
    """What was opened longest ago goes first; not what somebody has open, maps, or has written to."""
    place = small
    data = {name: name.encode() * (1200 << 10) for name in "abcde"}
    for name, content in data.items():
        (place.source / name).write_bytes(content)
    there, done = os.pipe(), os.pipe()

    def attend(session: Session) -> None:
        with served(session, mirror, place, fixed=fixed):
            os.write(there[1], b"x")
            os.read(done[0], 1)

    def kept() -> str:
        return "".join(name for name in data if os.stat(place.target / name).st_blocks)

    def read(name: str) -> str:
        assert (place.target / name).read_bytes() == data[name]
        return kept()

    def target() -> Any:
        os.read(there[0], 1)
        try:
            with open(place.target / "a", "rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            said = [read(name) for name in "bcbdeb"]
            assert mapped[:] == data["a"]
            mapped.close()
            said += [read("c")]
            if not fixed:
                with open(place.target / "e", "r+b") as file:
                    file.write(b"E")
                    file.flush()
                    said += [read(name) for name in "abcd"]
        finally:
            os.write(done[1], b"x")
        return said

    said = run(target, View(mounts=True), attend=attend)
    assert said[:7] == ["ab", "abc", "abc", "abd", "ade", "abe", "bce"]
    if not fixed:
        assert all("e" in names for names in said[7:])
        assert (place.source / "e").read_bytes() == b"E" + data["e"][1:]
    for fd in (*there, *done):
        os.close(fd)


def test_a_cache_that_is_full(mirror: Path, small: Place) -> None:
    """A file that does not fit is ENOSPC, with a sentence in the log, and leaves room for others; holes take
    none, at the second time neither.
    """
    place = small
    (place.source / "big").write_bytes(b"x" * (6 << 20))
    (place.source / "small").write_bytes(b"y" * (3 << 20))
    with open(place.source / "sparse", "wb") as file:
        file.truncate(200 << 20)
    there, done = os.pipe(), os.pipe()

    def attend(session: Session) -> None:
        with served(session, mirror, place):
            os.write(there[1], b"x")
            os.read(done[0], 1)
            lines = session.log.recv(4096)
        assert b"big: its 6144 KiB cannot be opened: the cache has room for 409" in lines, lines

    def end(path: Path) -> bytes:
        with open(path, "rb") as file:
            file.seek(-3, os.SEEK_END)
            return file.read()

    def target() -> Any:
        os.read(there[0], 1)
        said: list[object] = []
        try:
            for name in ("big", "small", "big"):
                try:
                    said.append(end(place.target / name))
                except OSError as error:
                    said.append(error.errno)
            os.unlink(place.target / "small")
            for text in (b"one", b"two"):
                with open(place.source / "sparse", "r+b") as file:
                    file.seek(-3, os.SEEK_END)
                    file.write(text)
                os.utime(place.source / "sparse", (1, 1 if text == b"one" else 2))
                time.sleep(1.1)  # the server's time-out for attributes
                said.append(end(place.target / "sparse"))
        finally:
            os.write(done[1], b"x")
        return said

    try:
        result = run(target, View(mounts=True), attend=attend)
        assert result == [errno.ENOSPC, b"yyy", errno.ENOSPC, b"one", b"two"]
    finally:
        for fd in (*there, *done):
            os.close(fd)
