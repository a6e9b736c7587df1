"""What one mount namespace has mounted, and where: the list that others add to and take from.

A mount is in the engine's table by its number, in the helper's namespace at a directory of the session's
scratch place, and here. They stack: at one place the last is seen, and goes first.
"""

import errno
import os
from collections import deque
from collections.abc import Mapping

import trio

from vuosd.supervisor import members
from vuosd.supervisor.mounting import options, sharing, users
from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.family import Family, Table
from vuosd.supervisor.mounting.mount import WIRE, Mount
from vuosd.supervisor.mounting.namespace import Namespace
from vuosd.supervisor.scratch import Scratch
from vuosd.supervisor.values import Below, Placed

_BIND = 1
_REMEMBERED = 64


class Listed:
    """Those of one mount namespace. All in trio."""

    def __init__(
        self,
        family: Family,
        scratch: Scratch,
        env: Mapping[str, str],
        space: int = 0,
        like: "Listed | None" = None,
    ) -> None:
        """`env` is the environment of servers; `like`: whose mounts it has at first."""
        self.family = family
        self.table = Table(family.engine, space)
        self.scratch = scratch
        self.env = env
        self.space = space
        self._mounts: list[Mount] = list(like._mounts) if like is not None else []
        self._come = trio.Event()
        self.held: list[Mount] = list(like.held) if like is not None else []
        """By wire: what entries of a nested view show, which serves as long as that lives."""
        self._changing = trio.Lock()
        """Of who takes mounts away."""
        self._left: deque[tuple[bytes, users.Process]] = deque(maxlen=_REMEMBERED)
        """What servers of the view have served by wire, and do no more."""

    @property
    def nursery(self) -> trio.Nursery:
        return self.family.nursery

    @property
    def session(self) -> int:
        return self.family.session

    def pids(self) -> list[int]:
        """The members that may use them. As long as there are others the first namespace is not alone."""
        return self.family.pids(self.space) if self.space else members.of_session(self.session)

    def entered(self, mount: Mount) -> None:
        """It is in the engine's table."""
        if mount.path and not mount.flags & options.MS_RDONLY:
            self.family.losses.announce()
        self._mounts.append(mount)
        self._come.set()
        self._come = trio.Event()

    async def another(self) -> None:
        """Returns when something has been mounted."""
        await self._come.wait()

    def covered(self, target: bytes) -> None:
        """An entry of the view has taken the place of what lies at and below the target."""
        below = target.rstrip(b"/") + b"/"
        self._mounts = [
            mount for mount in self._mounts if mount.target != target and not mount.target.startswith(below)
        ]

    def all(self) -> list[Mount]:
        """In the order in which they were made."""
        return list(self._mounts)

    def at(self, target: bytes) -> Mount | None:
        """The one that is seen at a place."""
        return next((mount for mount in reversed(self._mounts) if mount.target == target), None)

    def covering(self, path: bytes) -> Mount | None:
        """The one that shows what is at a path, unless an entry of the view does."""
        above = [mount for mount in self._mounts if sharing.lies_at(path, mount.target)]
        return max(reversed(above), key=lambda mount: len(mount.target), default=None)

    async def namespace(self) -> Namespace:
        """The helper, started when it is first wanted; MountError (ENODEV) where there can be none."""
        return await self.family.namespace()

    def _show(self, mount: Mount, fd: int, below: Below | None = None) -> None:
        try:
            mount.number = self.table.mount(
                Placed(
                    sharing.WIRE_KIND if mount.wire else _BIND,
                    bool(mount.flags & options.MS_RDONLY),
                    mount.target,
                    fd,
                    os.readlink(f"/proc/self/fd/{fd}".encode()),
                    type=os.fsencode(mount.shown_type) if mount.path else b"",
                    name=os.fsencode(mount.source or "none") if mount.path else b"",
                    options=os.fsencode(mount.options) if mount.path else b"",
                    served=mount.served,
                ),
                below,
                wire=mount.wire,
            )
        except BaseException:
            os.close(fd)
            raise

    def readable_outside(self, path: bytes) -> bool:
        """Whether who is not of the view finds at a path of the kernel's what the view has there. In the
        cache of a wire mount a file has its content only while a member has it open.
        """
        return sharing.origin(self.family.each(), path) is None

    def waiting(self, mount: Mount) -> tuple[int | None, float | None]:
        """How many requests wait for its server, and the age of the oldest; the kernel does not tell the
        age.
        """
        if mount.transport == WIRE:
            flights = self.table.flights(mount.wire)
            return len(flights), max((flight.age for flight in flights), default=None)
        try:
            minor = mount.device.partition(":")[2]
            with open(f"/sys/fs/fuse/connections/{minor}/waiting") as file:
                return int(file.read()), None
        except OSError:
            return None, None  # not mounted on this machine, or a bind

    async def root(self, mount: Mount) -> int:
        """A descriptor of what a mount shows; it makes the mount busy."""
        if mount.stack is not None or mount.within_stack:
            return (await trio.to_thread.run_sync(self.family.engine.look, mount.target, self.space)).fd
        if mount.fd >= 0:
            return os.dup(mount.fd)
        if mount.wire:
            return os.open(mount.path + b"/tree", os.O_PATH | os.O_CLOEXEC)
        return await (await self.namespace()).root(mount.path)

    def _found(self, target: bytes) -> Mount:
        mount = self.at(target)
        if mount is None:
            raise MountError(errno.EINVAL, f"{os.fsdecode(target)} is not mounted")
        return mount

    def _own(self, mount: Mount) -> Mount:
        """The mount, to be changed: what another namespace has too stays there as it is."""
        if not self._elsewhere(mount):
            return mount
        own = mount.again()
        if own.fd >= 0:
            own.fd = os.dup(own.fd)
        self._mounts[self._mounts.index(mount)] = own
        return own

    def _elsewhere(self, mount: Mount) -> bool:
        """Whether another namespace has the very mount."""
        return any(mount in other._mounts for other in self.family.spaces.values() if other is not self)
