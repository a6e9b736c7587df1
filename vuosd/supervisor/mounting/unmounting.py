"""Mounts are taken away: who uses one, what ends with it, what its server is given time for."""

import errno
import os
import signal
from collections.abc import Sequence

import trio

from vuosd.supervisor import members
from vuosd.supervisor.log import log
from vuosd.supervisor.mounting import options, sharing, users
from vuosd.supervisor.mounting.ending import Ending, end_wire
from vuosd.supervisor.mounting.errors import MountError, from_os
from vuosd.supervisor.mounting.listed import Listed
from vuosd.supervisor.mounting.mount import KERNEL, WIRE, Mount
from vuosd.supervisor.mounting.namespace import Namespace, NamespaceUnavailable
from vuosd.supervisor.values import Stacked

MNT_FORCE, MNT_DETACH = 1, 2

_FLUSH_SECONDS = 15.0
_NOTHING_SECONDS = 1.0
"""… and where it has nothing to write."""
_BUSY_PATIENCE = 0.2
"""Seconds for calls in flight to let go of a mount that has left the table."""


class Unmounting(Listed):
    """Of one mount namespace. All but `leave_all` in trio."""

    def is_left(self, target: bytes, pid: int) -> bool:
        """Whether a process served what was mounted at a place, and nothing that is. A library unmounts when
        its server ends, unless it sees that this has been done (POLLERR of /dev/fuse, which no socket says);
        by then something else may be mounted there.
        """
        process = users.process(pid)
        if process is None or (target, process) not in self._left:
            return False
        return all(mount.pid != pid for mount in self._mounts if mount.target == target)

    async def unmount(self, target: bytes, flags: int, by: Sequence[int] = ()) -> None:
        """The uppermost mount at a place; MountError: EINVAL if there is none, EBUSY while it is used. It has
        gone all the same when what was written to it could not all be kept, which is another errno.

        `by`: who asks. A server that unmounts itself answers nothing meanwhile, so it is not waited for.
        """
        ends: list[Ending] = []
        async with self._changing:
            mount = self._found(target)
            name = os.fsdecode(target)
            lazy = bool(flags & MNT_DETACH)
            above = [other for other in self._mounts if other.target.startswith(target.rstrip(b"/") + b"/")]
            if above and not lazy:
                raise MountError(
                    errno.EBUSY, f"{name} is in use: {os.fsdecode(above[-1].target)} is mounted in it"
                )
            shared = self.family.has(mount, beside=(self, mount))
            cache = mount.path + b"/"
            if mount.wire and not lazy and not shared:
                served = [other for other in self.family.each() if other.within.startswith(cache)]
                if served:
                    text = f"{name} is in use: {served[0].place} is mounted from a file in it"
                    raise MountError(errno.EBUSY, text)
            bound = [other for other in self.family.each() if mount.stack is not None and other.upon is mount]
            if bound:
                raise MountError(errno.EBUSY, f"{name} is in use: {bound[0].place} is bound from it")
            stands = [one for one in self._mounts if one.stack is not None and mount in one.holds]
            if stands and not lazy:
                raise MountError(errno.EBUSY, f"{name} is in use: {stands[0].place} stands upon it")
            if not lazy and not flags & MNT_FORCE:
                await self._check_held(mount)
            if shared:
                await self._leave(mount, flags)
            elif mount.path:
                await self._unmount(mount, flags)
            elif mount.stack is not None:
                await self._unmount_stack(mount, mount.stack, lazy)
            else:
                if mount.end:
                    self.table.unmount(mount.end)
                self.table.unmount(mount.number)
            self._mounts.remove(mount)
            if mount.fd >= 0 and not self._elsewhere(mount):
                os.close(mount.fd)
            for one in self._let_go([mount, *mount.holds]):
                quietly = flags & (MNT_DETACH | MNT_FORCE) or one.dead or one.pid in by
                ends.append(self._end_wire(one, heard=not quietly))
            if mount.ends is not None and not self.family.has(mount):
                await trio.to_thread.run_sync(mount.ends)
            by_hand = mount.wire and mount.fd < 0 and not mount.mark and mount.pid
            if by_hand and (process := users.process(by_hand)):
                self._left.append((target, process))
            log.info("mount %d: %s unmounted", mount.number, name)
        lost = [(one.error, text) for one in ends if one.heard and (text := await one.outcome())]
        if not lazy and not shared and not await self._is_over(mount):
            text = f"{name} is unmounted, but its server did not end in {_FLUSH_SECONDS:.0f} s and was killed"
            lost.append((errno.ETIMEDOUT, f"{text}: what it had yet to write is lost"))
        if lost:
            raise MountError(lost[0][0], "; ".join(text for _, text in lost))

    async def _is_over(self, mount: Mount) -> bool:
        """False: its server, which is one of ours, had to be killed. One that could change nothing ends when
        it likes, for which nobody waits long.
        """
        wait = self._flushed if mount.mark else self._ended if mount.started else None
        if wait is None:
            return True
        if not mount.flags & options.MS_RDONLY:
            return await wait(mount)
        over = trio.Event()

        async def background() -> None:
            await wait(mount)
            over.set()

        self.nursery.start_soon(background)
        with trio.move_on_after(_NOTHING_SECONDS):
            await over.wait()
        return True

    def _let_go(self, mounts: Sequence[Mount]) -> list[Mount]:
        """Those by wire that nobody has mounted any more, one of each."""
        gone = {one.wire: one for one in mounts if one.wire and not self.family.has(one)}
        return list(gone.values())

    def _end_wire(self, mount: Mount, *, heard: bool) -> Ending:
        ends = Ending(self, mount, heard=heard)
        self.nursery.start_soon(ends.run)
        return ends

    async def _check_held(self, mount: Mount) -> None:
        """MountError (EBUSY) while somebody uses what would end with this bind."""
        for one in mount.holds:
            if not self.family.has(one, beside=(self, mount)) and (using := await self.users_of(one)):
                text = f"{os.fsdecode(mount.target)} is in use: {users.listed(using)}"
                raise MountError(errno.EBUSY, text)

    async def _leave(self, mount: Mount, flags: int) -> None:
        """Another namespace has it mounted too, and goes on with it; or this one, at another place."""
        if (
            mount.path
            and not flags & (MNT_DETACH | MNT_FORCE)
            and (using := await self.users_of(mount, own=True))
        ):
            raise MountError(errno.EBUSY, f"{os.fsdecode(mount.target)} is in use: {users.listed(using)}")
        if mount.end:
            self.table.unmount(mount.end)
        self.table.unmount(mount.number)

    async def _unmount(self, mount: Mount, flags: int) -> None:
        """The kernel's verdict needs a mount that the engine does not hold."""
        name = os.fsdecode(mount.target)
        lazy = bool(flags & MNT_DETACH)
        if not lazy and not flags & MNT_FORCE and (using := await self.users_of(mount)):
            raise MountError(errno.EBUSY, f"{name} is in use: {users.listed(using)}")
        if mount.transport == WIRE:
            self.table.unmount(mount.number)
            return
        namespace = await self.namespace()
        self.table.unmount(mount.number)
        try:
            await namespace.unmount(mount.path, flags & (MNT_DETACH | MNT_FORCE), patience=_BUSY_PATIENCE)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return  # its server has unmounted it
            self._show(mount, await namespace.root(mount.path))
            if error.errno == errno.EBUSY:
                text = f"{name} is in use outside of the view, perhaps by the server of another mount"
                raise MountError(errno.EBUSY, text) from None
            raise from_os(error, name) from None
        except NamespaceUnavailable:
            log.warning("%s: the process that mounted it has died", name)

    async def _unmount_stack(self, mount: Mount, stack: Stacked, lazy: bool) -> None:
        if not lazy:
            # Of a directory that is seen at its own place too, nobody can tell by which it is used.
            alone = stack.handles < 0 or mount.served
            paths = (*stack.paths[:-1], stack.handles_path, stack.paths[-1] if alone else b"")
            uses = users.uses_below(*filter(None, paths))
            if using := await trio.to_thread.run_sync(users.of_members, self.session, uses):
                text = f"{os.fsdecode(mount.target)} is in use: {users.listed(using)}"
                raise MountError(errno.EBUSY, text)
        self.table.unmount(mount.number)

    async def users_of(self, mount: Mount, own: bool = False) -> list[users.User]:
        """Who has something of it open; `own`: of this namespace alone."""
        if mount.wire and own:
            return await trio.to_thread.run_sync(sharing.users_of, self, mount)
        if mount.transport == WIRE:
            uses = users.uses_below(mount.path)
            return await trio.to_thread.run_sync(users.of_members, self.session, uses)
        pids = self.family.pids(self.space) if own else members.of_session(self.session)
        return await trio.to_thread.run_sync(users.users, pids, mount.mount_id, mount.device)

    async def _flushed(self, mount: Mount) -> bool:
        """A server of ours ends when it has written what there is to write. False: it was killed."""
        with trio.move_on_after(_FLUSH_SECONDS) as scope:
            await mount.gone.wait()
        if scope.cancelled_caught:
            log.warning("the server of %s does not end: killed", os.fsdecode(mount.target))
            await self._end(mount)
        return not scope.cancelled_caught

    async def _ended(self, mount: Mount) -> bool:
        """The same, of one that is a process of the view."""
        try:
            fd = os.pidfd_open(mount.pid or 0)
        except OSError:
            return True
        try:
            with trio.move_on_after(_FLUSH_SECONDS) as scope:
                await trio.lowlevel.wait_readable(fd)
            if scope.cancelled_caught:
                log.warning("the server of %s does not end: killed", mount.place)
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            return not scope.cancelled_caught
        finally:
            os.close(fd)

    async def _clean_up(self, namespace: Namespace, mount: Mount, begun: bool) -> None:
        """After a mount that failed. `begun`: there may be a server."""
        try:
            if mount.transport == KERNEL:
                await namespace.unmount(mount.path, MNT_DETACH)
        except (OSError, NamespaceUnavailable):
            pass  # it was not there yet
        if begun and not mount.gone.is_set():
            await self._end(mount)

    async def _end(self, mount: Mount) -> None:
        namespace = await self.namespace()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if mount.gone.is_set():
                return
            try:
                await namespace.signal(mount.mark, number)
            except (OSError, NamespaceUnavailable):
                return
            with trio.move_on_after(2.0):
                await mount.gone.wait()

    async def end(self) -> None:
        """No process is left in the namespace: its mounts go, but for those that others have."""
        while self._mounts:
            mount = self._mounts[-1]
            try:
                await self.unmount(mount.target, MNT_DETACH)
            except MountError as error:
                log.warning("%s: %s", mount.place, error)
                self._mounts.remove(mount)
            if mount.mark and not self.family.has(mount):
                await self._flushed(mount)
        held, self.held = self.held, []
        for one in self._let_go(held):
            self._end_wire(one, heard=False)

    def leave_all(self) -> None:
        """The session has ended. Blocks: what was written by wire goes to the servers."""
        for mount in reversed(self._mounts):
            self.table.unmount(mount.number)
        if self.held:
            self.family.engine.end_space(self.space)
        mine = [one for mount in (*self._mounts, *self.held) for one in (mount, *mount.holds)]
        self._mounts, self.held = [], []
        for one in reversed(self._let_go(mine)):
            end_wire(self.family, one)
