"""What the mount namespaces of one session have in common: the helper, the servers of ours, and each
namespace's mounts.

Number 0 is that of the session's profile, the others are those of nested views. Each begins with the mounts
that its maker saw, as after clone(CLONE_NEWNS): what is mounted or unmounted in one later is no matter of the
others, and a file system lives until the last of them has unmounted it.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import trio

from vuosd.supervisor import members
from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.losses import Losses
from vuosd.supervisor.mounting.mount import Mount
from vuosd.supervisor.mounting.namespace import Namespace, NamespaceUnavailable
from vuosd.supervisor.values import Below, Flight, Lost, Placed, Resolved, Stacked, Wired

if TYPE_CHECKING:
    from vuosd.supervisor.modules.loaded import Modules
    from vuosd.supervisor.mounting.listed import Listed
    from vuosd.supervisor.mounting.mounts import Mounts
    from vuosd.views import View


_LOOK_AGAIN_SECONDS = 0.01


class Engine(Protocol):
    """What of the engine's session is needed here."""

    def mount(
        self,
        entry: Placed,
        space: int = 0,
        below: Below | None = None,
        *,
        locked: bool = False,
        wire: int = 0,
        within: bytes = b"",
    ) -> int: ...
    def mount_stack(
        self, stack: Stacked, space: int = 0, below: Below | None = None, *, served: bool = False
    ) -> int: ...
    def conceal(self, path: bytes) -> None: ...
    def unmount(self, number: int, space: int = 0) -> bool: ...
    def mount_wire(self, wire: Wired, space: int = 0) -> int: ...
    def settle_wire(self, number: int) -> list[Lost]: ...
    def end_wire(self, number: int) -> list[Lost]: ...
    def flights(self, number: int) -> list[Flight]: ...
    def space_of(self, state: int) -> int: ...
    def came_by(self, state: int, cwd: bool) -> int: ...
    def end_space(self, space: int) -> None: ...
    def look(
        self, path: bytes, space: int = 0, *, write: bool = False, wired: bool = False
    ) -> Resolved: ...


class Table:
    """The engine's table of one namespace."""

    def __init__(self, engine: Engine, space: int) -> None:
        self._engine = engine
        self._space = space
        self.settle_wire = engine.settle_wire
        self.end_wire = engine.end_wire
        self.flights = engine.flights

    def mount(
        self,
        entry: Placed,
        below: Below | None = None,
        *,
        locked: bool = False,
        wire: int = 0,
        within: bytes = b"",
    ) -> int:
        return self._engine.mount(entry, self._space, below, locked=locked, wire=wire, within=within)

    def mount_stack(self, stack: Stacked, below: Below | None = None, *, served: bool = False) -> int:
        return self._engine.mount_stack(stack, self._space, below, served=served)

    def unmount(self, number: int) -> bool:
        return self._engine.unmount(number, self._space)

    def mount_wire(self, wire: Wired) -> int:
        return self._engine.mount_wire(wire, self._space)


class Family:
    """Of one session."""

    def __init__(
        self,
        session: int,
        engine: Engine,
        modules: "Modules | None" = None,
        zygote: socket.socket | None = None,
    ) -> None:
        """`modules` may make something else of a mount; `zygote` forks the helper, if there is one."""
        self.session = session
        self.engine = engine
        self.modules = modules
        self.zygote = zygote
        self.losses = Losses()
        self.ending: list[Mount] = []
        """By wire, unmounted, but somebody still uses them or something has yet to be written back."""
        self.nursery: trio.Nursery
        self.spaces: dict[int, Mounts] = {}
        self.allow: dict[int, frozenset[str] | None] = {}
        """Of each, what the profile's [control] table grants; None: everything."""
        self.views: Callable[[int], Sequence[View]] = lambda space: ()
        """Those that a process in a namespace is in, outermost first."""
        self.served: dict[str, Mount] = {}
        """By the marks of servers of ours, from their start to their end."""
        self.helper: Namespace | None = None
        self._starting = trio.Lock()

    async def namespace(self) -> Namespace:
        """The helper, started when it is first wanted; MountError (ENODEV) where there can be none."""
        async with self._starting:
            if self.helper is None:
                helper = Namespace(self._moved, self._ended)
                try:
                    await helper.start(self.session, self.zygote)
                except NamespaceUnavailable as why:
                    text = f"this machine lets us mount no FUSE file system ({why}); see `vuctl doctor`"
                    raise MountError(errno.ENODEV, text) from None
                self.helper = helper
                self.nursery.start_soon(helper.listen)
        return self.helper

    def each(self) -> Iterator[Mount]:
        """Every mount of any namespace, and what is held; one that several have comes several times."""
        for mounts in dict.fromkeys(self.spaces.values()):
            for mount in mounts.all():
                yield mount
                yield from mount.holds
            yield from mounts.held

    def has(
        self, mount: Mount, *, but: "Mounts | None" = None, beside: "tuple[Listed, Mount] | None" = None
    ) -> bool:
        """Whether a namespace has its file system mounted; a namespace `but` does not count, nor does what
        one has `beside`.
        """
        return any(
            mount.same(other)
            for mounts in self.spaces.values()
            if mounts is not but
            for one in (*mounts.all(), *mounts.held)
            if (mounts, one) != beside
            for other in (one, *one.holds)
        )

    def came_by(self, state: int, cwd: bool) -> int:
        """The number of the mount by which processes in this state came to their working directory, or to
        what they have open, where it has several paths; 0: it is not known.
        """
        try:
            return self.engine.came_by(state, cwd)
        except OSError:
            return 0

    def pids(self, space: int) -> list[int]:
        """The members in one namespace."""
        found = []
        for pid, tag in members.tagged():
            if self.is_in(tag, space) and not members.dead(pid):
                found.append(pid)
        return found

    def is_in(self, tag: members.Tag, space: int) -> bool:
        """Whether it is the tag of a member in a namespace."""
        try:
            return (
                tag.session == self.session
                and tag.state < members.SERVER
                and self.engine.space_of(tag.state) == space
            )
        except OSError:
            return False

    async def left(self, space: int) -> None:
        """Returns when no process is in a namespace. A child may be born while we look, so nobody is found
        twice before it counts.
        """
        empty = 0
        while empty < 2:
            pids = await trio.to_thread.run_sync(self.pids, space)
            empty = 0 if pids else empty + 1
            if pids:
                await _end_of(pids[0])
            else:
                await trio.sleep(_LOOK_AGAIN_SECONDS)

    def forget(self, space: int) -> None:
        self.spaces.pop(space, None)
        self.allow.pop(space, None)

    def _moved(self, mark: str, pid: int) -> None:
        if mount := self.served.get(mark):
            self.serves(mount, pid)

    def serves(self, mount: Mount, pid: int) -> None:
        """Its server is this process."""
        for other in (mount, *self.each()):
            if mount.same(other):
                other.pid = pid

    def _ended(self, mark: str, status: int) -> None:
        if mount := self.served.pop(mark, None):
            self.died(mount, f"killed by signal {-status}" if status < 0 else f"status {status}")

    def died(self, mount: Mount, how: str) -> None:
        """Its server serves no more. The mount stays, as it does in the kernel, until somebody unmounts
        it.
        """
        mount.gone.set()
        mounted = [other for other in self.each() if mount.same(other)]
        for other in (mount, *mounted):
            other.dead = how
        if mounted:
            (mount if mount in mounted else mounted[0]).say_dead()


async def _end_of(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await trio.lowlevel.wait_readable(fd)
    finally:
        os.close(fd)
