"""Layers of limited size that are kept: who writes on by what is open already.

The engine refuses new names, copies and opens once such a layer is full (engine/quota.c), but no write(2)
comes to it. So a thread asks how full the layer is. While it is too full and a file of it is seen to grow,
the soft limit of file sizes (RLIMIT_FSIZE, setrlimit(2)) of who has it open for writing becomes its size.
The limit is lifted when there is room again.
"""

import os
import resource
import stat
import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vuosd.supervisor import members
from vuosd.supervisor.log import log
from vuosd.supervisor.session import Session
from vuosd.supervisor.values import Stacked

_PAUSE = 0.02
"""Seconds between two questions."""
_WRITES = os.O_WRONLY | os.O_RDWR


class _Limits(NamedTuple):
    started: bytes
    own: tuple[int, int]
    given: int


class Watcher:
    """Of the layers of one session that have a size, in the order in which it got them; `number` is the
    session's, `first` the process it began with.
    """

    def __init__(self, session: Session, stacks: Iterable[Stacked], number: int, first: int) -> None:
        self.session, self.number = session, number
        self.stacks = tuple(stacks)
        try:
            self.usual = resource.prlimit(first, resource.RLIMIT_FSIZE)
        except OSError:  # it has ended; ours is that of whoever has started the daemon
            self.usual = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._limited: dict[int, _Limits] = {}
        self._given: set[int] = set()  # limits that a process may have inherited
        self._sizes: dict[tuple[int, int], int] = {}  # of files of full layers that somebody writes to
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quota", daemon=True)

    def add(self, stack: Stacked) -> None:
        """One that has been mounted since."""
        self.stacks = (*self.stacks, stack)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Before the session is stopped: the thread asks it."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(_PAUSE):
            try:
                self.turn()
            except OSError as error:
                log.warning("session %x: how full its layers are: %s", self.number, error)

    def turn(self) -> None:
        """Look, and limit who has to be. OSError."""
        full = [
            stack.paths[0]
            for number, stack in enumerate(self.stacks)
            if self.session.usage(number) > stack.size
        ]
        if not full:
            self._sizes = {}
        if full or self._limited:
            self._limit(full)

    def _limit(self, full: list[bytes]) -> None:
        alive = members.of_session(self.number)
        for pid in set(self._limited).difference(alive):
            del self._limited[pid]
        sizes: dict[tuple[int, int], int] = {}
        for pid in alive:
            try:
                written = writes_to(pid, full) if full else {}
                sizes |= written
                grown = [size for file, size in written.items() if size > self._sizes.get(file, size)]
                self._limit_one(pid, min(grown, default=None), lift=not full)
            except OSError:
                pass  # it has ended
        self._sizes = sizes

    def _limit_one(self, pid: int, size: int | None, *, lift: bool) -> None:
        started = _started(pid)
        limits = self._limited.get(pid)
        if limits is not None and limits.started != started:
            limits = None  # the number of another process now
        own = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        if limits is None and own[0] in self._given and own[0] != self.usual[0]:
            limits = _Limits(started, self.usual, own[0])  # inherited, by fork(2)
        if limits is not None and own[0] != limits.given:
            limits = None  # it has set another itself
        if limits is None:
            self._limited.pop(pid, None)
        else:
            self._limited[pid] = limits
        if lift and limits is not None:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits.own)
            del self._limited[pid]
        if size is not None and (own[0] == resource.RLIM_INFINITY or size < own[0]):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, own[1]))
            self._limited[pid] = _Limits(started, limits.own if limits else own, size)
            self._given.add(size)


def writes_to(pid: int, tops: Iterable[bytes]) -> dict[tuple[int, int], int]:
    """The regular files below one of `tops` that a process has open for writing: device and inode number, and
    the size. OSError.
    """
    found = {}
    for number, path in _descriptors(pid):
        if any(path.startswith(top + b"/") for top in tops) and _is_written(pid, number):
            try:
                st = os.stat(f"/proc/{pid}/fd/{number}")
            except FileNotFoundError:
                continue
            if stat.S_ISREG(st.st_mode):
                found[st.st_dev, st.st_ino] = st.st_size
    return found


def _descriptors(pid: int) -> Iterator[tuple[str, bytes]]:
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            yield number, os.readlink(os.fsencode(f"/proc/{pid}/fd/{number}"))
        except FileNotFoundError:
            continue  # closed meanwhile


def _is_written(pid: int, number: str) -> bool:
    try:
        with open(f"/proc/{pid}/fdinfo/{number}", "rb") as file:
            flags = next(line for line in file if line.startswith(b"flags:"))
    except (FileNotFoundError, StopIteration):
        return False
    return bool(int(flags.split()[1], 8) & _WRITES) and not int(flags.split()[1], 8) & os.O_PATH


def _started(pid: int) -> bytes:
    """When a process began: with its number, what it is known by."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[19]
