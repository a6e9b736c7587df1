"""The process tree below the tests, seen in /proc.

We are a child subreaper (prctl(2)): an orphan of a test comes to us and not to init, so "everything a test
started" stays one tree.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

PR_SET_CHILD_SUBREAPER = 36
DEADLINE = 10.0


@dataclass(frozen=True)
class Process:
    pid: int
    ppid: int
    state: str
    name: str
    start: int  # clock ticks since boot: with the pid, unique

    def __str__(self) -> str:
        try:
            with open(f"/proc/{self.pid}/cmdline", "rb") as file:
                line = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            line = ""
        return f"{self.pid} ({self.state}) {line or self.name}"


def become_subreaper() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def look(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return Process(pid, int(fields[1]), fields[0], head.partition("(")[2], int(fields[19]))


def everything() -> Iterator[Process]:
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := look(int(name))):
            yield process


def descendants(root: int | None = None) -> list[Process]:
    """Processes below `root` (default: us), zombies of ours included, in no order."""
    children: dict[int, list[Process]] = {}
    for process in everything():
        children.setdefault(process.ppid, []).append(process)
    found, queue = [], [root or os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += [process.pid for process in below]
    return found


def tag(pid: int) -> int | None:
    """The session tag: the soft limit of RLIMIT_LOCKS, where it is not "unlimited". From outside the kernel
    tells the truth."""
    try:
        with open(f"/proc/{pid}/limits") as file:
            for line in file:
                if line.startswith("Max file locks"):
                    soft = line.split()[3]
                    return None if soft == "unlimited" else int(soft)
    except OSError:
        pass
    return None


def reap(known: set[int]) -> None:
    """Wait for dead orphans that came to us; `known` are somebody's own children, whose status is not ours to
    take."""
    for process in descendants():
        if process.state == "Z" and process.ppid == os.getpid() and process.pid not in known:
            try:
                os.waitpid(process.pid, os.WNOHANG)
            except ChildProcessError:
                pass


def kill_tree(root: int) -> None:
    """SIGKILL to `root` and all below it, again until none is left: a tree that forks meanwhile is stopped
    first."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        alive = [process for process in descendants(root) if process.state != "Z"]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in [root, *(process.pid for process in alive)]:
                try:
                    os.kill(pid, number)
                except OSError:
                    pass
        if not alive:
            return
        os.sched_yield()


def until(condition: Callable[[], bool], deadline: float = DEADLINE) -> bool:
    """Poll until `condition`, for at most `deadline` seconds; whether it came true."""
    end = time.monotonic() + deadline
    pause = 0.0005
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    return True
