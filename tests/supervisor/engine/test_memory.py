"""Memory by way of the launcher: what it opened is kept for a moment, and is never another process's."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.engine.driver import USERS, View, bind, directory, run

pytestmark = pytest.mark.kernel

PLENTY = 1_000_000


@pytest.fixture
def tree() -> Iterator[Path]:
    root = directory()
    (root / "real").mkdir()
    for name in ("a", "b"):
        (root / "real" / name).write_text(name)
    yield root
    shutil.rmtree(root)


def view(tree: Path, asked: int = PLENTY, user: int | None = None) -> View:
    return View([bind("/", "/"), bind(tree / "seen", tree / "real")], asked=asked, user=user)


@pytest.mark.parametrize("user", USERS)
def test_it_is_not_asked_for_each_call(tree: Path, user: int | None) -> None:
    def body() -> None:
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            assert os.stat(tree / "seen/a").st_size == 1

    run(body, view(tree, asked=20, user=user))


def test_a_child_that_shared_memory_has_its_own_when_it_executes(tree: Path) -> None:
    """The file actions are done in the parent's memory (clone(CLONE_VM) in posix_spawn of glibc)."""
    env = {"SHOWN": str(tree / "seen/b")}
    script = ["sh", "-c", 'read -r text < "$SHOWN" || test "$text" && exit 7']

    def body() -> None:
        for _ in range(50):
            actions = [(os.POSIX_SPAWN_OPEN, 9, str(tree / "seen/a"), os.O_RDONLY, 0)] * 3
            child = os.posix_spawn("/bin/sh", script, env, file_actions=actions)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

    run(body, view(tree))


def test_a_thread_that_executes_takes_over_the_number_of_the_first(tree: Path) -> None:
    program = f"import os, sys; sys.exit(os.stat({str(tree / 'seen/a')!r}).st_size + 6)"

    def execute() -> None:
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", program])

    def body() -> None:
        for _ in range(5):
            child = os.fork()
            if not child:
                threading.Thread(target=execute, daemon=True).start()
                while True:
                    os.stat(tree / "seen/b")
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

    run(body, view(tree))


def test_nothing_is_kept_of_the_dead(tree: Path) -> None:
    """A moment later the supervisor has no descriptor but the one by which this looks itself."""

    def kept() -> int:
        supervisor, found = Path(f"/proc/{os.getppid()}/fd"), 0
        for path in supervisor.iterdir():
            try:
                found += os.readlink(path).endswith("/mem")
            except FileNotFoundError:
                continue  # the engine's own, for a call
        return found

    def body() -> None:
        most = 0
        for _ in range(20):
            child = os.fork()
            if not child:
                os.stat(tree / "seen/a")
                os._exit(0)
            os.waitpid(child, 0)
            most = max(most, kept())
        assert most > 1
        until = time.monotonic() + 5
        while kept() > 1:
            assert time.monotonic() < until

    run(body, view(tree))
