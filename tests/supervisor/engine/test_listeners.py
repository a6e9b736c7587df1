"""Several listeners in one session: what is parked at one is not the other's, nobody waits for the other's
callers, and all see one view.
"""

import errno
import os
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.engine.driver import USERS, View, bind, directory, errno_of, hide, lib, run, syscall
from supervisor.engine.test_asked import mount, take
from supervisor.engine.test_threads import hung_server

from vuosd.supervisor.session import Session
from vuosd.supervisor.values import Asked, Placed

pytestmark = pytest.mark.kernel

UMOUNT2 = 166


@pytest.fixture
def tree() -> Iterator[Path]:
    root = directory()
    for name in ("mnt", "at", "real/sub"):
        (root / name).mkdir(parents=True)
    (root / "real/file").write_text("real\n")
    yield root
    shutil.rmtree(root)


@pytest.mark.parametrize(
    "view",
    [
        View(mounts=True),
        View([hide("/nowhere")], mounts=True, user=USERS[-1]),
        View([hide("/nowhere")], mounts=True, enforce=True),
    ],
    ids=["pass-through", "user", "enforce"],
)
def test_each_gets_its_own_answer(view: View) -> None:
    def of_first() -> None:
        for _ in range(20):
            assert mount(b"first", b"/mnt") == 1

    def of_second() -> None:
        for _ in range(20):
            assert mount(b"second", b"/mnt") == 2
        assert errno_of(syscall, UMOUNT2, b"/mnt", 2) == errno.EBUSY

    def attend(session: Session) -> None:
        seen: set[int] = set()
        kept: list[Asked] = []
        for _ in range(41):
            kept.append(take(session))
            if len(kept) == 1 and len(seen) < 38:
                continue  # answered after the other's, so that two are parked at a time
            for asked in reversed(kept):
                assert asked.id not in seen
                seen.add(asked.id)
                if asked.op == "umount":
                    assert session.answer(asked.id, error=errno.EBUSY)
                    continue
                source = session.read_string(asked.tid, asked.id, asked.args[0])
                assert session.answer(asked.id, 1 if source == b"first" else 2)
                assert not session.answer(asked.id, 3), "it has been answered"
            kept.clear()

    run(of_first, view, attend=attend, others=[of_second])


@pytest.mark.parametrize("user", USERS)
def test_what_one_does_the_other_sees(tree: Path, user: int | None) -> None:
    """Also with calls that are made in the caller, and with a thread of each for a FIFO."""
    os.mkfifo(tree / "real/fifo")
    os.chmod(tree / "real", 0o777)
    os.chmod(tree / "real/fifo", 0o666)
    view = View([bind(tree / "mnt", tree / "real"), hide(tree / "real")], user=user)

    def first() -> str:
        os.chdir(tree / "mnt/sub")
        said = subprocess.run(["cat", "../fifo"], check=True, capture_output=True, text=True).stdout
        assert (tree / "mnt/made").exists()
        assert os.getcwd() == str(tree / "mnt/sub")
        assert not (tree / "real").exists()
        return said

    def second() -> None:
        os.chdir(tree / "mnt")
        Path("made").touch()
        script = "cat file >fifo"
        subprocess.run(["sh", "-c", script], check=True)
        assert not (tree / "real").exists()

    assert run(first, view, others=[second]) == "real\n"


def test_callers_of_one_do_not_hold_up_those_of_the_other(tree: Path) -> None:
    """All threads of the second wait for a server that does not answer."""
    mounted, waits, done = os.pipe(), os.pipe(), os.pipe()

    def first() -> None:
        assert os.read(waits[0], 1) == b"x"
        for _ in range(200):
            assert os.path.exists(tree / "real/file")
        os.write(done[1], b"x")

    def second() -> None:
        assert os.read(mounted[0], 1) == b"x"
        results: list[int] = []
        threads = [
            threading.Thread(target=lambda: results.append(errno_of(os.stat, tree / "mnt/x")))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        os.write(waits[1], b"x")
        for thread in threads:
            thread.join()
        assert results == [errno.ENOTCONN] * 8

    def attend(session: Session) -> None:
        device, root, namespace = hung_server(tree / "at")
        path = os.readlink(b"/proc/self/fd/%d" % root)
        session.mount(Placed(lib.VU_BIND, False, bytes(tree / "mnt"), root, path, b"fuse", b"none"))
        os.write(mounted[1], b"x")
        assert os.read(done[0], 1) == b"x"
        os.close(device)
        os.close(namespace)

    run(first, View([hide("/nowhere")]), attend=attend, others=[second])
    for fd in (*mounted, *waits, *done):
        os.close(fd)


def test_a_call_of_the_dead_that_nobody_takes_holds_nothing() -> None:
    """run() looks for listeners when the second has ended."""
    parked = os.pipe()

    def guest() -> None:
        pid = os.fork()
        if not pid:
            mount(b"x", b"/mnt")
            os._exit(1)
        os.read(parked[0], 1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def attend(session: Session) -> None:
        assert select.select([session.asked_fd()], [], [], 4)[0]
        os.write(parked[1], b"x")

    run(lambda: None, View(mounts=True), attend=attend, others=[guest])
    for fd in parked:
        os.close(fd)


def test_those_that_have_ended_leave_nothing(tree: Path) -> None:
    """run() looks for their threads while the first still makes calls."""

    def first() -> None:
        for _ in range(5000):
            assert errno_of(os.stat, tree / "real/file") == errno.ENOENT

    def guest() -> None:
        assert errno_of(os.stat, tree / "real/file") == errno.ENOENT

    def attend(session: Session) -> None:
        assert errno_of(session.unlisten, 99) == errno.EINVAL

    run(first, View([hide(tree / "real")]), attend=attend, others=[guest] * 3)
