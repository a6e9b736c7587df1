"""The processes of a session, found by the tag on each: the soft limit of RLIMIT_LOCKS.

The kernel hands the limit down over fork and execve and has not looked at it since Linux 2.4 (fs/locks.c), so
a scan of /proc with prlimit(2) finds every member, whoever has become its parent. A worker carries its
session's number too, with the highest state: not a member, but known as what it is.
"""

import os
import re
import resource
import signal
import time
from collections.abc import Collection, Iterator
from typing import NamedTuple

RLIMIT_LOCKS = 10
STATE_BITS = 24
SUPERVISOR = (1 << STATE_BITS) - 1
"""State of a worker itself; no process in a view gets this far."""
SERVER = SUPERVISOR - 1
"""State of what a worker has started: its helper for mounts, servers of file systems."""
_SESSION_BITS = 38
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Tag(NamedTuple):
    session: int
    state: int


def new_session() -> int:
    """A session's number: random, so that sessions of several daemons do not meet."""
    while True:
        session = int.from_bytes(os.urandom(5), "little") >> (40 - _SESSION_BITS)
        if session:
            return session


def tag_of(pid: int) -> Tag | None:
    """The tag of a process; None when it has none, has gone or is not ours to ask."""
    soft = _limit(pid, os.geteuid() == 0)
    return Tag(soft >> STATE_BITS, soft & SUPERVISOR) if soft > SUPERVISOR else None


def _limit(pid: int, anybody: bool) -> int:
    """The soft limit, -1 where it cannot be had. `anybody`: also of members that have changed their ids, for
    which prlimit(2) wants CAP_SYS_RESOURCE: root in a container has not that, and reads it in procfs.
    """
    try:
        return resource.prlimit(pid, RLIMIT_LOCKS)[0]
    except PermissionError:
        if not anybody:
            return -1
    except (OSError, ValueError):
        return -1
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:
            found = re.search(rb"^Max file locks +(\d+)", file.read(), re.MULTILINE)
    except OSError:
        return -1
    return int(found[1]) if found else -1


def mark_supervisor(session: int) -> None:
    """This process is the worker of a session."""
    mark(session, SUPERVISOR)


def mark(session: int, state: int) -> None:
    """Tag this process, and what it will start."""
    _, hard = resource.getrlimit(RLIMIT_LOCKS)
    try:
        resource.setrlimit(RLIMIT_LOCKS, (session << STATE_BITS | state, hard))
    except (OSError, ValueError):
        pass  # under a hard limit only the launcher's message can tell


def tagged() -> Iterator[tuple[int, Tag]]:
    """Every process with a tag that we may ask."""
    anybody = os.geteuid() == 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            soft = _limit(int(name), anybody)
            if soft > SUPERVISOR:
                yield int(name), Tag(soft >> STATE_BITS, soft & SUPERVISOR)


def of_session(session: int) -> list[int]:
    """The members of a session that are alive."""
    found = [pid for pid, tag in tagged() if tag.session == session and tag.state < SERVER]
    return [pid for pid in found if not dead(pid)]


def dead(pid: int) -> bool:
    """Whether it has ended, reaped or not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return True
    return stat[stat.rindex(b")") + 2 : stat.rindex(b")") + 3] in b"ZX"


def ending(pid: int) -> int:
    """The number of a signal that a person ends programs with, and that waits for a process which blocks it;
    0 for none. One that is ignored does not count.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            masks = dict(re.findall(rb"^(SigPnd|ShdPnd|SigIgn):\s*([0-9a-f]+)", file.read(), re.MULTILINE))
    except OSError:
        return 0  # it has gone, which is found out elsewhere
    pending = (int(masks[b"SigPnd"], 16) | int(masks[b"ShdPnd"], 16)) & ~int(masks[b"SigIgn"], 16)
    return next((number for number in _ENDING if pending >> (number - 1) & 1), 0)


def below(pid: int, ancestors: Collection[int]) -> bool:
    """Whether a process descends from one of these. Those are subreapers (PR_SET_CHILD_SUBREAPER), so nobody
    leaves them while they live.
    """
    at = pid
    while at > 1:
        parent = _parent(at)
        if parent in ancestors:
            return True
        if parent is None:  # it has ended while we looked, and its children have another parent now
            if at == pid:
                return False
            at = pid
        else:
            at = parent
    return False


def _parent(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return None


def kill(session: int, *, but: Collection[int] = (), patience: float = 10.0) -> bool:
    """SIGKILL to every member, again until none is left; False if some outlived our patience. `but`: keepers,
    whose descendants are spared.

    They fork while we look, so one pass is not enough.
    """
    deadline = time.monotonic() + patience
    pause = 0.0002
    while found := [pid for pid in of_session(session) if not (but and below(pid, but))]:
        for pid in found:
            tag = tag_of(pid)  # again: the number may be another process's by now
            if tag and tag.session == session:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.02)
    return True
