"""The end of servers by wire, and of all that a session has mounted."""

import errno
from typing import TYPE_CHECKING

import trio

from vuosd.supervisor.mounting import losses
from vuosd.supervisor.mounting.family import Family
from vuosd.supervisor.mounting.mount import Mount

if TYPE_CHECKING:
    from vuosd.supervisor.mounting.listed import Listed

_END_SECONDS = 10.0
_NOTHING_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 0.02
"""For calls in flight to let go of a mount that has left the table."""


class Ending:
    """Of a wire mount that has been unmounted: when nobody uses it any more what has been written goes to the
    server. That is what `outcome` tells; then the server ends, for which nobody waits: as after umount(2) of
    a FUSE file system.
    """

    def __init__(self, mounts: "Listed", mount: Mount, *, heard: bool) -> None:
        """`heard`: somebody waits for the outcome."""
        self.mounts, self.mount, self.heard = mounts, mount, heard
        self.error = 0
        self._text = ""
        self._over = trio.Event()

    async def run(self) -> None:
        family, table, wire = self.mounts.family, self.mounts.table, self.mount.wire
        family.ending.append(self.mount)
        while True:
            try:
                lost = await trio.to_thread.run_sync(table.settle_wire, wire)
                break
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                await trio.sleep(_LOOK_AGAIN_SECONDS)
        if lost:
            self.error, self._text = lost[0].error, losses.sentence(self.mount, lost)
            if not self.heard:
                family.losses.add(self._text)
        self._over.set()
        await trio.to_thread.run_sync(table.end_wire, wire)
        family.ending.remove(self.mount)

    async def outcome(self) -> str:
        """What has been lost; "" for nothing. Whoever gives up waiting is not told."""
        try:
            await self._over.wait()
        except trio.Cancelled:
            self.heard = False
            raise
        return self._text


def end_wire(family: Family, mount: Mount) -> None:
    """Nobody can use it any more. Blocks."""
    try:
        if lost := family.engine.end_wire(mount.wire):
            family.losses.add(losses.sentence(mount, lost))
    except OSError as error:
        family.losses.add(f"{mount.place}: what was written may be lost: {error.strerror}")


def finish(family: Family) -> None:
    """The session has ended, its members are dead. Blocks until the servers have written what they
    had.
    """
    # A server that has yet to begin has nothing to write.
    begun = any(True for _ in family.each()) or any(mount.number for mount in family.served.values())
    for mount in family.ending:
        end_wire(family, mount)
    for mounts in family.spaces.values():
        mounts.leave_all()
    seconds = _END_SECONDS if begun else _NOTHING_SECONDS
    if family.helper is not None and not family.helper.finish(seconds) and begun:
        family.losses.add("servers of file systems were killed: what they had not written is lost")
    family.losses.tell()
