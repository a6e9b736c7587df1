"""Calls that Python answers: what it is told of them, how it looks at the caller, and what becomes of callers
that die, or that nobody answers.
"""

import ctypes
import errno
import os
import select
import shutil
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from supervisor.engine.driver import USERS, Attend, View, bind, directory, errno_of, hide, run, syscall

from vuosd.supervisor.session import Session
from vuosd.supervisor.values import Asked

pytestmark = pytest.mark.kernel

MOUNT, UMOUNT2, OPENAT, OPENAT2 = 165, 166, 257, 437
FSOPEN, OPEN_TREE, MOUNT_SETATTR = 430, 428, 442
AT_FDCWD = -100


@pytest.fixture
def tree() -> Iterator[Path]:
    root = directory()
    for name in ("mnt", "real/sub"):
        (root / name).mkdir(parents=True)
    (root / "link").symlink_to("mnt")
    yield root
    shutil.rmtree(root)


def mount(
    source: bytes, target: bytes, kind: bytes = b"ext4", flags: int = 0, data: bytes | None = None
) -> int:
    return syscall(MOUNT, source, target, kind, flags, data)


def take(session: Session, seconds: float = 4) -> Asked:
    """The next call, as who waits for the descriptor gets it."""
    readable, _, _ = select.select([session.asked_fd()], [], [], seconds)
    assert readable, "nothing is asked"
    asked = session.take()
    assert asked
    return asked


def each(answer: Callable[[Session, Asked], object], count: int = 1) -> Attend:
    def attend(session: Session) -> None:
        for _ in range(count):
            answer(session, take(session))
        assert not select.select([session.asked_fd()], [], [], 0)[0]
        assert session.take() is None

    return attend


VIEWS = pytest.mark.parametrize(
    "view",
    [View(mounts=True), View([hide("/nowhere")], mounts=True),
     View([hide("/nowhere")], mounts=True, enforce=True),
     View(mounts=True, user=USERS[-1]), View(mounts=True, asked=100)],
    ids=["pass-through", "plain", "enforce", "user", "launcher reads"],
)  # fmt: skip


@VIEWS
def test_what_is_told_and_answered(view: View) -> None:
    def body() -> None:
        long = b"x" * 5000
        assert mount(b"disk.img", b"/mnt", b"ext4", 1, b"user_id=0") == 7
        assert errno_of(mount, long, b"/mnt") == errno.ENODEV
        assert errno_of(syscall, UMOUNT2, b"/mnt", 2) == errno.EBUSY
        assert errno_of(syscall, MOUNT, 8, 8, 0, 0, 0) == errno.EFAULT

    def answer(session: Session, asked: Asked) -> None:
        def text(i: int) -> bytes:
            return session.read_string(asked.tid, asked.id, asked.args[i])

        assert asked.tgid == asked.tid > 1
        if asked.op == "umount":
            assert (asked.nr, asked.args[1], text(0)) == (UMOUNT2, 2, b"/mnt")
            assert session.answer(asked.id, error=errno.EBUSY)
        elif asked.args[0] == 8:
            assert errno_of(text, 0) == errno_of(session.read, asked.tid, asked.id, 8, 100) == errno.EFAULT
            assert session.answer(asked.id, error=errno.EFAULT)
        elif asked.args[3] == 1:
            assert (asked.op, asked.nr) == ("mount", MOUNT)
            assert (text(0), text(1), text(2), text(4)) == (b"disk.img", b"/mnt", b"ext4", b"user_id=0")
            assert session.read(asked.tid, asked.id, asked.args[0] + 1, 4) == b"isk."
            assert session.answer(asked.id, 7)
        else:
            assert errno_of(text, 0) == errno.ENAMETOOLONG
            assert session.read_string(asked.tid, asked.id, asked.args[0], 6000) == b"x" * 5000
            assert session.answer(asked.id, error=errno.ENODEV)
        assert not session.answer(asked.id, 1), "it has been answered"
        assert errno_of(session.read, asked.tid, asked.id, asked.args[0], 1) == errno.ESRCH

    run(body, view, attend=each(answer, 4))


def test_without_a_mounter() -> None:
    def body() -> None:
        for nr in (MOUNT, UMOUNT2, FSOPEN, OPEN_TREE):
            assert errno_of(syscall, nr, b"a", b"b", b"c", 0, 0) == errno.EPERM

    def attend(session: Session) -> None:
        assert errno_of(session.asked_fd) == errno.EINVAL
        assert session.take() is None

    run(body, View(), attend=attend)


def test_the_ordinary_commands() -> None:
    """libmount finds no new mount interface, or does not look for it, and makes the classic calls."""

    def body() -> None:
        mounted = subprocess.run(
            ["mount", "-t", "ext4", "-o", "ro,nosuid,port=2", "nothing", "/mnt"], check=False
        )
        assert mounted.returncode == (0 if os.geteuid() == 0 else 1), "else it refuses itself"
        if os.geteuid() == 0:
            subprocess.run(["umount", "-l", "/"], check=True)

    def attend(session: Session) -> None:
        if os.geteuid():
            return
        asked = take(session)
        texts = [session.read_string(asked.tid, asked.id, asked.args[i]) for i in (0, 1, 2, 4)]
        assert (asked.op, texts, asked.args[3]) == (
            "mount",
            [b"nothing", b"/mnt", b"ext4", b"port=2"],
            1 | 2,
        )
        assert session.answer(asked.id)
        asked = take(session)
        path = session.read_string(asked.tid, asked.id, asked.args[0])
        assert (asked.op, path, asked.args[1]) == ("umount", b"/", 2)
        assert session.answer(asked.id)

    run(body, View(mounts=True), attend=attend)


def test_the_new_mount_calls_do_not_exist() -> None:
    def body() -> None:
        for nr in (FSOPEN, OPEN_TREE, MOUNT_SETATTR):
            assert errno_of(syscall, nr, b"ext4", 0) == errno.ENOSYS

    run(body, View(mounts=True))


@pytest.mark.parametrize("enforce", [False, True], ids=["plain", "enforce"])
def test_paths_of_the_caller(tree: Path, enforce: bool) -> None:
    def body() -> None:
        os.chdir(tree)
        fd = os.open("bound", os.O_RDONLY)
        for path in (b"link", b"bound/../mnt", b"bound", b"sub", b"absent", b"", b"/", b"/proc/self/cwd"):
            mount(b"%d" % fd, path)

    def answer(session: Session, asked: Asked) -> None:
        fd, path = (session.read_string(asked.tid, asked.id, asked.args[i]) for i in (0, 1))

        def where(follow: bool = True, dirfd: int = AT_FDCWD) -> tuple[bytes, bytes, bool]:
            found = session.resolve(asked.id, dirfd, path, follow)
            host = os.readlink(b"/proc/self/fd/%d" % found.fd)
            os.close(found.fd)
            return found.view, host, found.readonly

        mnt, real = bytes(tree / "mnt"), bytes(tree / "real")
        if path == b"link":
            assert where() == (mnt, mnt, False)
            assert where(follow=False) == (bytes(tree / "link"),) * 2 + (False,)
        elif path == b"bound/../mnt":
            assert where() == (mnt, mnt, False)
        elif path == b"bound":
            assert where() == (bytes(tree / "bound"), real, True)
        elif path == b"sub":
            # The view shows it twice, and a descriptor does not tell by which it was opened.
            assert where(dirfd=int(fd)) == (real + b"/sub", real + b"/sub", False)
        elif path == b"/":
            assert where() == (b"/", b"/", False)
        elif path == b"/proc/self/cwd":
            assert where() == (bytes(tree),) * 2 + (False,)
        else:
            assert errno_of(where) == errno.ENOENT
        assert session.answer(asked.id)

    run(
        body,
        View([bind(tree / "bound", tree / "real", True)], mounts=True, enforce=enforce),
        attend=each(answer, 8),
    )


def test_rights_are_the_callers(tree: Path) -> None:
    root = os.geteuid() == 0
    (tree / "real").chmod(0o700 if root else 0)

    def body() -> None:
        if root:
            os.setresuid(65534, 65534, 65534)
        assert mount(b"a", bytes(tree / "real/sub")) == 0

    def answer(session: Session, asked: Asked) -> None:
        path = session.read_string(asked.tid, asked.id, asked.args[1])
        assert errno_of(session.resolve, asked.id, AT_FDCWD, path) == errno.EACCES
        assert not root or os.stat(path), "and ours again"
        assert session.answer(asked.id)

    run(body, View([hide("/nowhere")], mounts=True), attend=each(answer))
    (tree / "real").chmod(0o700)


def test_others_go_on_while_a_hundred_wait() -> None:
    def body() -> None:
        results: list[int] = []
        threads = [threading.Thread(target=lambda: results.append(mount(b"a", b"b"))) for _ in range(100)]
        for thread in threads:
            thread.start()
        for _ in range(1000):
            os.stat("/")
        assert not results
        assert errno_of(syscall, UMOUNT2, b"go", 0) == errno.EINVAL
        for thread in threads:
            thread.join()
        assert sorted(results) == list(range(100))

    def attend(session: Session) -> None:
        asked = [take(session) for _ in range(101)]
        assert len({one.tid for one in asked}) == 101
        assert len({one.tgid for one in asked}) == 1
        assert session.answer(next(one.id for one in asked if one.op == "umount"), error=errno.EINVAL)
        for number, one in enumerate(one for one in asked if one.op == "mount"):
            assert session.answer(one.id, number)

    run(body, View([hide("/nowhere")], mounts=True), attend=attend)


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("deadly", [signal.SIGKILL, signal.SIGTERM])
def test_a_caller_that_is_killed(taken: bool, deadly: signal.Signals) -> None:
    there, here = os.pipe()
    killed = os.pipe()

    def body() -> None:
        child = os.fork()
        if not child:
            mount(b"child", b"b")
            os._exit(0)
        assert os.read(there, 1) == b"x"
        begun = time.monotonic()
        os.kill(child, deadly)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == deadly
        assert time.monotonic() - begun < 1
        os.write(killed[1], b"x")
        assert mount(b"second", b"b") == 2

    def attend(session: Session) -> None:
        asked = take(session) if taken else None
        assert taken or select.select([session.asked_fd()], [], [], 4)[0]
        os.write(here, b"x")
        assert os.read(killed[0], 1) == b"x"
        second = None
        while second is None:  # the descriptor may tell of the dead one still
            assert select.select([session.asked_fd()], [], [], 4)[0]
            second = session.take()
        assert session.read_string(second.tid, second.id, second.args[0]) == b"second"
        if asked:
            assert not session.answer(asked.id)
            assert errno_of(session.resolve, asked.id, AT_FDCWD, b"/") == errno.ESRCH
        assert session.answer(second.id, 2)

    run(body, View(mounts=True), attend=attend)
    for fd in (there, here, *killed):
        os.close(fd)


def test_the_session_ends_meanwhile() -> None:
    """Nobody answers: not the calls that were taken, nor those that were not."""
    there, here = os.pipe()
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: the orphans are to be seen

    def body() -> None:
        for _ in range(3):
            if not os.fork():
                os.close(there)
                try:
                    mount(b"a", b"b")
                except OSError as error:
                    os.write(here, b"%d %d\n" % (os.getpid(), error.errno or 0))
                os._exit(0)
        time.sleep(0.1)

    def attend(session: Session) -> None:
        take(session)
        take(session)

    run(body, View(mounts=True), attend=attend)
    os.close(here)
    text = b""
    while part := os.read(there, 100):
        text += part
    os.close(there)
    said = [[int(word) for word in line.split()] for line in text.splitlines()]
    assert [error for _, error in said] == [errno.EIO] * 3
    for pid, _ in said:
        assert os.waitpid(pid, 0)[1] == 0


OPENS: list[Callable[[str], int]] = [
    lambda path: os.open(path, os.O_RDWR | os.O_CLOEXEC),
    lambda path: os.open(path, os.O_RDWR | os.O_NONBLOCK),
    lambda path: syscall(2, os.fsencode(path), os.O_RDWR),
    lambda path: syscall(
        OPENAT2, AT_FDCWD, os.fsencode(path), ctypes.byref((ctypes.c_uint64 * 3)(os.O_RDWR)), 24
    ),
]


def make_device(path: Path) -> Path:
    """One of the number of /dev/fuse, by another name. Takes root."""
    os.mknod(path, 0o666 | 0o020000, os.makedev(10, 229))
    return path


@VIEWS
@pytest.mark.parametrize("name", ["/dev/fuse", *(["device", "link"] if os.geteuid() == 0 else [])])
def test_the_device(view: View, name: str, tree: Path) -> None:
    if name != "/dev/fuse":
        make_device(tree / "device")
        (tree / "link").unlink()
        (tree / "link").symlink_to("device")
        name = str(tree / name)

    def body() -> None:
        for opens in OPENS:
            fd = opens(name)
            assert os.read(fd, 100) == b"server"
            assert os.get_inheritable(fd) == (opens not in OPENS[:2]), "Python's own opens add it"
            os.close(fd)
        assert errno_of(OPENS[0], name) == errno.ENOMEM
        assert os.stat("/dev/null").st_rdev == os.makedev(1, 3)
        os.close(os.open("/dev/null", os.O_RDWR))

    def attend(session: Session) -> None:
        for _ in OPENS:
            asked = take(session)
            assert asked.op == "open_fuse"
            there, here = os.pipe()
            os.write(here, b"server")
            path = os.open("/", os.O_PATH)
            assert errno_of(session.answer_descriptor, asked.id, path, False) == errno.EBADF
            assert asked.flags & os.O_ACCMODE == os.O_RDWR
            assert session.answer_descriptor(asked.id, there, bool(asked.flags & os.O_CLOEXEC))
            assert not session.answer_descriptor(asked.id, there, False)
            for fd in (there, here, path):
                os.close(fd)
        session.answer(take(session).id, error=errno.ENOMEM)

    run(body, view, attend=attend)


DOOR = 0x31726F6F64757576


def knock(request: object, flags: int = os.O_RDWR | os.O_CLOEXEC, mark: int = DOOR, name: bytes = b"") -> int:
    """As launcher/inside.c asks."""
    return syscall(OPENAT, AT_FDCWD, name, flags, 0, mark, request)


@VIEWS
def test_the_door(view: View) -> None:
    def body() -> None:
        request = (ctypes.c_uint64 * 2)(23, 42)
        fd = knock(ctypes.byref(request))
        assert os.read(fd, 100) == b"said"
        assert not os.get_inheritable(fd)
        os.close(fd)
        assert errno_of(knock, ctypes.byref(request)) == errno.ENOMEM
        assert errno_of(knock, ctypes.byref(request), os.O_RDWR) == errno.ENOENT
        assert errno_of(knock, ctypes.byref(request), os.O_RDWR | os.O_CLOEXEC, DOOR + 1) == errno.ENOENT
        os.close(knock(None, mark=0, name=b"/dev/null"))

    def attend(session: Session) -> None:
        asked = take(session)
        assert asked.op == "door"
        assert session.read(asked.tid, asked.id, asked.args[5], 16) == struct.pack("=2Q", 23, 42)
        fd = os.memfd_create("answer")
        os.pwrite(fd, b"said", 0)
        assert session.answer_descriptor(asked.id, fd, True)
        os.close(fd)
        session.answer(take(session).id, error=errno.ENOMEM)

    run(body, view, attend=attend)


def test_signals_while_a_descriptor_is_handed_over() -> None:
    times = 2000

    def body() -> None:
        request = ctypes.byref(ctypes.c_uint64())
        for _ in range(times):
            fd = knock(request)
            assert os.pread(fd, 10, 0) == b"said"
            os.close(fd)

    def attend(session: Session) -> None:
        here, fd = threading.get_ident(), os.memfd_create("answer")
        os.write(fd, b"said")
        ended = threading.Event()

        def disturb() -> None:
            while not ended.is_set():
                signal.pthread_kill(here, signal.SIGUSR1)
                time.sleep(0.00002)

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            for _ in range(times):
                assert session.answer_descriptor(take(session).id, fd, True)
        finally:
            ended.set()
            thread.join()
            os.close(fd)

    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        run(body, View(mounts=True), attend=attend)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("view", [View(), View([hide("/nowhere")])], ids=["pass-through", "plain"])
def test_there_is_no_door_without_a_mounter_or_a_view(view: View) -> None:
    def body() -> None:
        assert errno_of(knock, ctypes.byref(ctypes.c_uint64())) == errno.ENOENT

    body()
    run(body, view)


def test_the_device_is_the_machines_without_a_mounter() -> None:
    def open_it() -> int:
        try:
            os.close(os.open("/dev/fuse", os.O_RDWR))
        except OSError as error:
            return error.errno or 0
        return 0

    assert run(open_it, View([hide("/nowhere")])) == open_it()


def test_no_number_is_left() -> None:
    import resource

    def body() -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limit[1]))
        wrong = errno_of(os.open, "/dev/fuse", os.O_RDWR)
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        assert wrong == errno.EMFILE

    def answer(session: Session, asked: Asked) -> None:
        assert session.answer_descriptor(asked.id, 0, False)

    run(body, View(mounts=True), attend=each(answer))
