"""Servers that are processes of the view: which process serves a mount, when it has died, and that a
session does not go on for nobody but them.

The one who serves has the /dev/fuse of the mount open, of which fdinfo tells the connection; a kernel
that does not tell it (before 6.15) leaves several candidates, and whoever ends of them makes us look
whether the mount still answers.
"""

import errno
import os
import signal

import trio

from vuosd.supervisor import members
from vuosd.supervisor.log import log
from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.mount import WIRE, Mount
from vuosd.supervisor.mounting.mounts import Mounts
from vuosd.supervisor.mounting.namespace import NamespaceUnavailable
from vuosd.supervisor.mounting.unmounting import MNT_DETACH

_HANDOVER_SECONDS = 0.05
_HANDOVERS = 20
_END_SECONDS = 3.0


class Inside:
    """Those of one mount namespace."""

    def __init__(self, mounts: Mounts) -> None:
        self.mounts = mounts
        self._waits = False

    async def watch(self, mount: Mount) -> None:
        """Until the server of a mount has died, or it is unmounted."""
        if not self._waits:
            self._waits = True
            self.mounts.nursery.start_soon(self._wait_for_last)
        nobody = 0
        while self.mounts.family.has(mount):
            serving = await trio.to_thread.run_sync(self._serving, mount)
            if serving:
                nobody = 0
                self.mounts.family.serves(mount, serving[0])
                await _first_to_end(serving)
            elif nobody < _HANDOVERS or await self._answers(mount):
                nobody += 1  # the descriptor is on its way from fusermount3 to the server
                await trio.sleep(_HANDOVER_SECONDS * max(1, nobody - _HANDOVERS))
            else:
                self.mounts.family.died(mount, "no process serves it any more")
                return

    def _serves_others(self, pid: int) -> bool:
        """Whether a process serves what another namespace has mounted."""
        return any(mount.pid == pid for mount in self.mounts.family.each())

    def _serving(self, mount: Mount) -> list[int]:
        return [pid for pid in members.of_session(self.mounts.session) if _has_device(pid, mount.device)]

    async def _answers(self, mount: Mount) -> bool:
        """Whether the kernel still waits for somebody to answer. Of a socket it is known."""
        if mount.transport == WIRE:
            return False
        try:
            fd = await (await self.mounts.namespace()).root(mount.path)
        except (OSError, NamespaceUnavailable, MountError):
            return False
        try:
            with trio.move_on_after(1.0):
                await trio.to_thread.run_sync(os.statvfs, fd, abandon_on_cancel=True)
        except OSError as error:
            return error.errno != errno.ENOTCONN
        finally:
            os.close(fd)
        return True

    async def _wait_for_last(self) -> None:
        """When nobody is left but servers, nobody can use what they serve: they are unmounted, and
        end.
        """
        while True:
            served = [mount for mount in self.mounts.all() if mount.path and not mount.mark]
            if not served:
                self._waits = False
                return
            pids = await trio.to_thread.run_sync(self.mounts.pids)
            devices = ["", *(mount.device for mount in served)]
            others = [pid for pid in pids if not any(_has_device(pid, device) for device in devices)]
            if not others and (self.mounts.space or all(mount.pid in pids or mount.dead for mount in served)):
                for mount in reversed(served):
                    try:
                        await self.mounts.unmount(mount.target, MNT_DETACH)
                    except MountError:
                        pass  # the server has just done it
                await _end([pid for pid in pids if not self._serves_others(pid)])
            elif others:
                await _first_to_end(others[:1])
            await trio.sleep(_HANDOVER_SECONDS)


async def _end(pids: list[int]) -> None:
    """Servers that serve nothing any more: they end by themselves, unless they hang."""
    with trio.move_on_after(_END_SECONDS):
        for pid in pids:
            await _first_to_end([pid])
        return
    log.warning("servers of the view that do not end are killed: %s", " ".join(map(str, pids)))
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


async def _first_to_end(pids: list[int]) -> None:
    """Returns when one of the processes has ended."""

    async def wait(fd: int) -> None:
        await trio.lowlevel.wait_readable(fd)
        nursery.cancel_scope.cancel()

    fds = []
    try:
        for pid in pids:
            try:
                fds.append(os.pidfd_open(pid))
            except ProcessLookupError:
                return
        async with trio.open_nursery() as nursery:
            for fd in fds:
                nursery.start_soon(wait, fd)
    finally:
        for fd in fds:
            os.close(fd)


def _has_device(pid: int, device: str) -> bool:
    """Whether a process has the /dev/fuse of this MAJOR:MINOR open, or this "socket:[…]"; "": any
    /dev/fuse.
    """
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for name in names:
        try:
            link = os.readlink(f"/proc/{pid}/fd/{name}")
            if device and link == device:
                return True
            if link == "/dev/fuse":
                with open(f"/proc/{pid}/fdinfo/{name}", "rb") as file:
                    told = [line.split()[1] for line in file if line.startswith(b"fuse_connection:")]
                if not device or not told or told[0].decode() == device.partition(":")[2]:
                    return True
        except OSError:
            continue
    return False
