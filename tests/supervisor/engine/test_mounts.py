"""Mounts that come and go while processes run: who sees what, stacking, and what becomes of those inside."""

import ctypes
import errno
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from supervisor.engine.driver import Attend, View, bind, directory, errno_of, hide, lib, run, syscall

from vuosd.supervisor.scratch import Scratch, Sized
from vuosd.supervisor.session import Session
from vuosd.supervisor.values import Placed

pytestmark = pytest.mark.kernel


class Steps:
    """The target and who attends to its session take turns: `go` lets the other one do its next step."""

    def __init__(self) -> None:
        self.asked, self.done = os.pipe(), os.pipe()

    def go(self) -> None:
        """In the target: returns when the step is done."""
        os.write(self.asked[1], b"x")
        assert os.read(self.done[0], 1) == b"x"

    def attend(self, *steps: Callable[[Session], object]) -> Attend:
        def attend(session: Session) -> None:
            for step in steps:
                assert os.read(self.asked[0], 1) == b"x"
                try:
                    step(session)
                finally:
                    os.write(self.done[1], b"x")

        return attend


@pytest.fixture
def steps() -> Iterator[Steps]:
    steps = Steps()
    yield steps
    for fd in (*steps.asked, *steps.done):
        os.close(fd)


@pytest.fixture
def tree() -> Iterator[Path]:
    root = directory()
    for name in ("mnt", "one", "two"):
        (root / name).mkdir()
        (root / name).chmod(0o777)
        (root / name / "who").write_text(name)
        (root / name / "sub").mkdir()
    yield root
    shutil.rmtree(root)


def placed(target: Path, source: Path, readonly: bool = False, **more: bytes) -> Placed:
    fd = os.open(source, os.O_PATH | os.O_CLOEXEC)
    return Placed(lib.VU_BIND, readonly, bytes(target), fd, os.readlink(b"/proc/self/fd/%d" % fd), **more)


def anchors(path: Path) -> int:
    """How many descriptors of the directory this process has."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{number}") == str(path)
        except FileNotFoundError:
            pass  # one of the engine's, for a moment
    return count


def who(path: Path) -> str:
    return (path / "who").read_text()


VIEWS = pytest.mark.parametrize(
    ("entries", "enforce"), [((), False), ((hide("/nowhere"),), False), ((hide("/nowhere"),), True)],
    ids=["pass-through", "plain", "enforce"],
)  # fmt: skip


@VIEWS
def test_a_mount_comes_and_goes(
    tree: Path, steps: Steps, entries: tuple[tuple[int, bytes, bytes | None, bool], ...], enforce: bool
) -> None:
    numbers: list[int] = []

    def body() -> None:
        mnt = tree / "mnt"
        held = os.open(mnt / "who", os.O_RDONLY)
        assert who(mnt) == "mnt"
        steps.go()
        assert who(mnt) == "one"
        assert os.read(held, 10) == b"mnt"
        assert sorted(os.listdir(mnt)) == ["sub", "who"]
        child = os.fork()
        if not child:
            os._exit(who(mnt) != "one")
        assert os.waitpid(child, 0)[1] == 0
        steps.go()
        assert who(mnt) == "two"
        assert errno_of(os.open, mnt / "new", os.O_CREAT | os.O_WRONLY) == errno.EROFS
        steps.go()
        assert who(mnt) == "one"
        steps.go()
        assert who(mnt) == "mnt"

    def unmount(session: Session) -> None:
        assert session.unmount(numbers.pop())

    attend = steps.attend(
        lambda session: numbers.append(session.mount(placed(tree / "mnt", tree / "one"))),
        lambda session: numbers.append(session.mount(placed(tree / "mnt", tree / "two", readonly=True))),
        unmount,
        unmount,
    )
    run(body, View(entries, enforce=enforce), attend=attend)


def test_the_lower_of_two_goes_first(tree: Path, steps: Steps) -> None:
    numbers: list[int] = []

    def body() -> None:
        steps.go()
        assert who(tree / "mnt") == "two"
        steps.go()
        assert who(tree / "mnt") == "two"

    def both(session: Session) -> None:
        numbers.extend(session.mount(placed(tree / "mnt", tree / name)) for name in ("one", "two"))

    run(body, View(), attend=steps.attend(both, lambda session: session.unmount(numbers[0])))


def test_a_mount_over_an_entry_and_on_a_file(tree: Path, steps: Steps) -> None:
    numbers: list[int] = []

    def body() -> None:
        mnt = tree / "mnt"
        assert who(mnt) == "one"
        steps.go()
        assert who(mnt) == "two"
        assert (mnt / "sub").read_text() == "mnt"
        steps.go()
        assert who(mnt) == "one"
        assert (mnt / "sub").is_dir()

    def both(session: Session) -> None:
        numbers.append(session.mount(placed(tree / "mnt", tree / "two")))
        numbers.append(session.mount(placed(tree / "mnt/sub", tree / "mnt/who")))

    def unmount(session: Session) -> None:
        for number in reversed(numbers):
            assert session.unmount(number)

    run(body, View([bind(tree / "mnt", tree / "one")]), attend=steps.attend(both, unmount))


def test_bad_arguments(tree: Path, steps: Steps) -> None:
    def wrong(session: Session) -> None:
        good = placed(tree / "mnt", tree / "one")
        for bad in (*(good._replace(target=target) for target in (b"mnt", b"", b"//", b"/a/", b"/a//b", b"/.",
                                                                  b"/a/..", b"/" + b"x" * 20000)),
                    good._replace(source=-1), good._replace(source_path=b""),
                    good._replace(kind=lib.VU_COW)):  # fmt: skip
            assert errno_of(session.mount, bad) == errno.EINVAL
        number = session.mount(good)
        assert number > 0
        assert errno_of(session.unmount, number + 1) == errno.EINVAL
        assert errno_of(session.unmount, 0) == errno.EINVAL, "the root is no mount of ours"
        assert errno_of(session.unmount, number - 1) == errno.EINVAL, "nor are the view's entries"
        assert session.unmount(number)
        assert errno_of(session.unmount, number) == errno.EINVAL
        assert session.mount(placed(tree / "mnt", tree / "one")) > number

    run(steps.go, View([bind(tree / "mnt", tree / "two")]), attend=steps.attend(wrong))


def test_the_anchor_is_closed(tree: Path, steps: Steps) -> None:
    def step(session: Session) -> None:
        numbers = [session.mount(placed(tree / "mnt", tree / "one")) for _ in range(10)]
        assert anchors(tree / "one") == 10
        for number in numbers:
            assert session.unmount(number)
        assert anchors(tree / "one") == 0

    run(steps.go, View(), attend=steps.attend(step))


def test_a_thousand_mounts(tree: Path, steps: Steps) -> None:
    for i in range(1000):
        (tree / f"mnt/{i}").mkdir()
    numbers: list[int] = []

    def body() -> None:
        steps.go()
        assert sorted(os.listdir(tree / "mnt")) == sorted(["sub", "who", *map(str, range(1000))])
        for i in range(1000):
            assert who(tree / f"mnt/{i}") == ("one" if i % 2 else "two")
        steps.go()
        for i in range(1000):
            assert not os.listdir(tree / f"mnt/{i}")

    def mount(session: Session) -> None:
        begun = time.process_time()
        for i in range(1000):
            numbers.append(session.mount(placed(tree / f"mnt/{i}", tree / ("one" if i % 2 else "two"))))
        assert time.process_time() - begun < 1

    def unmount(session: Session) -> None:
        begun = time.process_time()
        for number in numbers:
            session.unmount(number)
        assert time.process_time() - begun < 1

    run(body, View([hide("/nowhere")]), attend=steps.attend(mount, unmount))


def test_while_threads_look(tree: Path, steps: Steps) -> None:
    """Every call sees one of the two, whatever happens to the table meanwhile."""

    def body() -> None:
        seen: list[str] = []
        stop = threading.Event()

        def look() -> None:
            while not stop.is_set():
                seen.append(who(tree / "mnt"))
                os.stat(tree / "mnt/sub")

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        steps.go()
        stop.set()
        for thread in threads:
            thread.join()
        assert set(seen) == {"mnt", "one"}

    def change(session: Session) -> None:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            session.unmount(session.mount(placed(tree / "mnt", tree / "one")))
        while anchors(tree / "one"):  # of calls that were under way
            assert time.monotonic() < end + 10

    run(body, View([hide("/nowhere")]), attend=steps.attend(change))


def getcwd() -> bytes:
    """As the kernel says it, which glibc does not pass on."""
    buffer = ctypes.create_string_buffer(4096)
    syscall(79, buffer, 4096)
    return buffer.value


@pytest.mark.parametrize("shown", [False, True], ids=["shown once", "shown elsewhere too"])
def test_who_stands_in_what_goes(tree: Path, steps: Steps, shown: bool) -> None:
    """As after umount2(MNT_DETACH): the tree goes on for those in it, and there is nothing above it."""
    numbers: list[int] = []
    (tree / "one/sub/run").write_text("#!/bin/sh\necho ran\n")
    (tree / "one/sub/run").chmod(0o755)

    def body() -> None:
        steps.go()
        os.chdir(tree / "mnt/sub")
        fd = os.open(tree / "mnt/sub", os.O_RDONLY)
        assert getcwd() == bytes(tree / "mnt/sub")
        steps.go()
        assert os.listdir() == ["run"]
        assert Path("run").read_text() == Path("./run").read_text() == Path("../sub/run").read_text()
        assert Path("../who").read_text() == "one"
        Path("made").write_text("here")
        os.unlink("made")
        assert subprocess.run(["./run"], capture_output=True, check=True).stdout == b"ran\n"
        assert getcwd() == b"(unreachable)/sub"
        assert os.readlink("/proc/self/cwd") == ("/sub" if not shown else str(tree / "one/sub"))
        for path in ("../../mnt", "../../one/who", "../sub/../../who"):
            assert errno_of(os.stat, path) == errno.ENOENT, path
        assert os.stat("run", dir_fd=fd).st_size == 19
        assert who(tree / "mnt") == "mnt"
        os.chdir("..")
        assert getcwd() == b"(unreachable)/"
        assert errno_of(os.stat, "../mnt") == errno.ENOENT
        os.chdir(tree / "mnt")
        assert getcwd() == bytes(tree / "mnt")
        assert Path("who").read_text() == "mnt"

    attend = steps.attend(
        lambda session: numbers.append(session.mount(placed(tree / "mnt", tree / "one"))),
        lambda session: session.unmount(numbers[0]),
    )
    run(body, View([hide("/nowhere") if shown else hide(tree / "one")]), attend=attend)


def test_who_stands_in_what_the_kernel_has_detached(tree: Path, steps: Steps) -> None:
    """A mount in another namespace: when that has gone, the kernel's links do not tell where it was."""
    scratch = Scratch(os.getpid())
    numbers: list[int] = []

    def body() -> None:
        steps.go()
        os.chdir(tree / "mnt")
        os.mkdir("etc")
        Path("etc/hosts").write_text("ours")
        assert Path("/etc/hosts").read_text() != "ours"
        os.chdir("etc")
        fd = os.open(".", os.O_RDONLY)
        steps.go()
        assert Path("hosts").read_text() == "ours"
        assert Path("../etc/hosts").read_text() == "ours"
        assert os.stat("hosts", dir_fd=fd).st_size == 4
        assert getcwd() == b"(unreachable)/etc"
        assert errno_of(os.stat, "../../etc") == errno.ENOENT
        assert errno_of(os.stat, "../mnt") == errno.ENOENT
        assert Path("/etc/hosts").read_text() == "a bind", "the entry of that name is not meant"
        os.chdir("/etc")
        assert getcwd() == b"/etc"

    def mount(session: Session) -> None:
        path = scratch.make(0o777)
        (fd,) = scratch.mount([Sized(path, 1 << 20, 0o777)])
        at = os.readlink(b"/proc/self/fd/%d" % fd)
        numbers.append(session.mount(Placed(lib.VU_BIND, False, bytes(tree / "mnt"), fd, at)))

    def unmount(session: Session) -> None:
        assert session.unmount(numbers[0])
        scratch.remove()

    (tree / "bind").write_text("a bind")
    run(body, View([bind("/etc/hosts", tree / "bind")]), attend=steps.attend(mount, unmount))


def test_lists_of_mounts(tree: Path, steps: Steps) -> None:
    more = {"type": b"fuse.sshfs", "name": b"me@host:/a b"}

    def lines(name: str) -> list[list[str]]:
        return [line.split(" ") for line in Path(name).read_text().splitlines() if str(tree) in line]

    def body() -> None:
        assert lines("/proc/self/mountinfo") == lines("/proc/mounts") == []
        steps.go()
        first, second, inner = lines("/proc/self/mountinfo")
        mnt = str(tree / "mnt")
        st = os.stat(tree / "one")
        device = f"{os.major(st.st_dev)}:{os.minor(st.st_dev)}"
        assert first[2:] == [device, "/", mnt, "rw,nosuid,relatime", "-", "fuse.sshfs", "me@host:/a\\040b",
                             "rw,user_id=0,max_read=10"]  # fmt: skip
        assert second[3:] == ["/", mnt, "ro,noexec", "-", "ext4", "none", "ro"]
        assert inner[4] == f"{mnt}/sub"
        assert inner[5:] == native[5:]
        assert (second[1], inner[1]) == (first[0], second[0]), "each lies on the one before"
        assert [line[:4] for line in lines("/proc/self/mounts")[:2]] == [
            ["me@host:/a\\040b", mnt, "fuse.sshfs", "rw,nosuid,relatime,user_id=0,max_read=10"],
            ["none", mnt, "ext4", "ro,noexec"],
        ]
        assert len({line[0] for line in lines("/proc/self/mountinfo")}) == 3
        steps.go()
        assert lines("/proc/self/mountinfo") == [first]
        steps.go()
        assert lines("/proc/self/mountinfo") == []

    numbers: list[int] = []

    def mount(session: Session) -> None:
        one = placed(tree / "mnt", tree / "one", options=b"rw,nosuid,relatime,user_id=0,max_read=10", **more)
        two = placed(tree / "mnt", tree / "two", readonly=True, type=b"ext4", options=b"rw,noexec")
        for entry in (one, two, placed(tree / "mnt/sub", tree / "one/sub")):
            numbers.append(session.mount(entry))

    def unmount(count: int) -> Callable[[Session], None]:
        def step(session: Session) -> None:
            for _ in range(count):
                session.unmount(numbers.pop())

        return step

    table = [line.split(" ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    native = max((line for line in table if f"{tree}/".startswith(line[4].rstrip("/") + "/")),
                 key=lambda line: len(line[4]))  # fmt: skip
    run(body, View(), attend=steps.attend(mount, unmount(2), unmount(1)))


@pytest.mark.parametrize("entered", ["at its own place", "by a bind", "in a mount"])
def test_who_stands_in_what_is_mounted_over(tree: Path, steps: Steps, entered: str) -> None:
    """It is there for who was in it before, and not for who comes from above: as under the kernel."""
    numbers: list[int] = []
    inside = "mnt" if entered == "at its own place" else "one"

    def body() -> None:
        mnt = tree / "mnt"
        steps.go()
        os.chdir(mnt)
        fd = os.open(mnt, os.O_RDONLY)
        assert Path("who").read_text() == inside
        steps.go()
        assert who(mnt) == "two"
        assert Path("who").read_text() == Path("./sub/../who").read_text() == inside
        assert os.stat("who", dir_fd=fd).st_ino == os.stat(tree / inside / "who").st_ino or inside == "mnt"
        assert sorted(os.listdir(fd)) == ["sub", "who"]
        assert getcwd() == os.readlink("/proc/self/cwd").encode() == bytes(mnt)
        assert Path("../mnt/who").read_text() == "two"
        assert os.stat("..").st_ino == os.stat(tree).st_ino
        Path("made").write_text("here")
        assert not (mnt / "made").exists()
        os.unlink("made")
        os.chdir("sub")
        assert Path("../who").read_text() == inside
        assert getcwd() == bytes(mnt / "sub")
        os.chdir(mnt)
        assert Path("who").read_text() == "two"
        os.fchdir(fd)
        assert Path("who").read_text() == inside
        steps.go()
        assert Path("who").read_text() == inside == who(mnt)

    def first(session: Session) -> None:
        if entered == "in a mount":
            session.mount(placed(tree / "mnt", tree / "one"))

    attend = steps.attend(
        first,
        lambda session: numbers.append(session.mount(placed(tree / "mnt", tree / "two"))),
        lambda session: session.unmount(numbers[0]),
    )
    entries = [bind(tree / "mnt", tree / "one")] if entered == "by a bind" else []
    run(body, View([hide("/nowhere"), *entries]), attend=attend)
