"""One mount, and what is asked for to get one."""

import copy
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from vuosd.supervisor.log import log
from vuosd.supervisor.mounting import options
from vuosd.supervisor.values import Below, Stacked

if TYPE_CHECKING:
    from vuosd.supervisor.mounting.types import Type

KERNEL, WIRE, NONE = "kernel", "wire", "none"
"""Transports."""

UNREAL = "unreal"
"""The type, and VUOS's module."""


class Wanted(NamedTuple):
    """What is to be mounted.

    source: as it was said; path: for the server, b"" where the source is no path
    target: canonical path in the view; directory: whether one is there
    flags, data: of mount(2)
    inside: a process of the view has asked for it
    covered: a cow will cover all of it, so that nobody writes there: by wire an image is mounted read-only
    """

    type: str
    source: str
    path: str
    target: bytes
    directory: bool
    flags: int
    data: str
    fds: Mapping[int, int] = {}
    inside: bool = False
    covered: bool = False


class _Kept:
    """Descriptors, until nobody refers to them any more."""

    def __init__(self, fds: Mapping[int, int]) -> None:
        self.fds = {at: os.dup(fd) for at, fd in fds.items()}

    def __del__(self) -> None:
        for fd in self.fds.values():
            os.close(fd)


class Mount:
    """One that is there."""

    def __init__(
        self, type: str, source: str, target: bytes, flags: int, data: str, *, transport: str, path: bytes
    ) -> None:
        self.type, self.source, self.target, self.flags, self.data = type, source, target, flags, data
        self.shown_type = type
        """As /proc/self/mounts tells it."""
        self.transport = transport
        self.path = path
        """In the helper's namespace; of a wire mount, and of binds of what is in it, its cache; b"" of other
        binds."""
        self.within = b""
        """The kernel's path of a source that lies in a wire mount's cache."""
        self.fd = -1
        """Of a bind: what it shows."""
        self.below: Below | None = None
        """… and what comes with it."""
        self.holds: list[Mount] = []
        """… and of that by wire: what it is of, which serves as long as this is mounted."""
        self.bounded = False
        """Its server, outside of the view, is kept within bounds by Landlock."""
        self.started = False
        """Its server has been started by vumount, for whom it is one of ours."""
        self.locked = False
        """… and it stays read-only."""
        self.stack: Stacked | None = None
        """Of several trees."""
        self.within_stack = False
        """A bind of what lies in an entry of several trees; and of which that was mounted at run time: """
        self.upon: Mount | None = None
        self.ends: Callable[[], None] | None = None
        """To be called when no namespace has it any more."""
        self.served = bool(path)
        """A process answers for it."""
        self.exclusive = False
        """Nobody changes what it shows but this mount."""
        self.fixed = False
        """… by wire, and this does not either."""
        self.number = 0
        self.wire = 0
        """Of a wire mount: the number by which the engine knows it wherever it is shown."""
        self.end = 0
        """Of type unreal: the number of what ends it."""
        self.device = ""
        """MAJOR:MINOR; of a wire mount "socket:[INODE]", what its server has for a /dev/fuse."""
        self.mount_id = -1
        self.mark = ""
        """Of a server of ours."""
        self.module = ""
        """Which has made it of something else."""
        self.wanted: Wanted | None = None
        """What was asked for, and …"""
        self.kind: Type | None = None
        """… of which type, of one with a server of ours."""
        self.pid: int | None = None
        self.user: int | None = None
        """Who has started its server, of one that does so inside."""
        self.dead = ""
        """Why its server serves no more."""
        self.since = time.time()
        self.gone = trio.Event()
        """No process of its server is left."""

    def remember(self, wanted: Wanted, kind: "Type") -> None:
        """What it takes to mount it anew."""
        self._kept = _Kept(wanted.fds)
        self.wanted, self.kind = wanted._replace(fds=self._kept.fds), kind

    def keep(self, fd: int) -> None:
        """A source in the cache of a wire mount stays open, and so its content there, as long as this is
        mounted. -1: there is none.
        """
        self._source = _Kept({fd: fd} if fd >= 0 else {})

    def again(self) -> "Mount":
        """The same file system, to be mounted in another way."""
        return copy.copy(self)

    def same(self, other: "Mount") -> bool:
        """Whether both are mounts of one file system."""
        return self is other or bool(self.path and self.path == other.path)

    def say_dead(self) -> None:
        where = f"{self.place} ({self.type})"
        log.warning("the server of %s has ended (%s): ENOTCONN until it is unmounted", where, self.dead)

    @property
    def options(self) -> str:
        return options.shown(self.flags, self.data)

    @property
    def place(self) -> str:
        """The target as text."""
        return self.target.decode("utf-8", "backslashreplace")

    def about(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "type": self.type,
            "source": self.source,
            "target": self.place,
            "options": self.options,
            "transport": self.transport,
            "server": self.pid,
            "ours": bool(self.mark),
            "bounded": self.bounded if self.mark else None,
            "since": self.since,
            "dead": self.dead,
        }
