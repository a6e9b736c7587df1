"""unreal: the tree of the view at another place once more; engine/unreal.c does it."""

import errno
import os
from typing import TYPE_CHECKING

from vuosd.supervisor.log import log
from vuosd.supervisor.mounting import options
from vuosd.supervisor.mounting.errors import MountError, from_os
from vuosd.supervisor.mounting.mount import NONE, UNREAL, Mount
from vuosd.supervisor.values import Placed

if TYPE_CHECKING:
    from vuosd.supervisor.mounting.mounts import Mounts

_BIND, _UNREAL = 1, 9
_DEPTH = 3
"""At this the tree is not shown any more."""


def show(mounts: "Mounts", target: bytes, flags: int, source: str = "", data: str = "") -> Mount:
    """The view's whole tree once more, and once more below that; MountError."""
    if data:
        raise MountError(errno.EINVAL, f"type {UNREAL} has no options of its own, such as {data}")
    if there := next((mount for mount in mounts.all() if mount.type == UNREAL), None):
        raise MountError(errno.EBUSY, f"{there.place} shows the tree of the view already")
    if target == b"/":
        raise MountError(errno.EINVAL, "the tree of the view cannot be shown below itself at /")
    mount = Mount(UNREAL, source or "none", target, flags & options.KEPT, "", transport=NONE, path=b"")
    told = Placed(
        _UNREAL,
        bool(flags & options.MS_RDONLY),
        target,
        type=os.fsencode(UNREAL),
        name=os.fsencode(mount.source),
        options=os.fsencode(mount.options),
    )
    try:
        mount.number = mounts.table.mount(told)
    except OSError as error:
        raise from_os(error, os.fsdecode(target)) from None
    mount.end = _nothing(mounts, target * _DEPTH)
    mount.fd = os.open("/", os.O_PATH | os.O_CLOEXEC)
    mounts.entered(mount)
    log.info("mount %d: the tree of the view on %s", mount.number, mount.place)
    return mount


def _nothing(mounts: "Mounts", target: bytes) -> int:
    """The number of an empty directory at a place. A directory that the view shows several times lists
    the same names each time (docs/fidelity.md), so there is something of that name.
    """
    fd = os.open(mounts.scratch.make(0o555), os.O_PATH | os.O_CLOEXEC)
    told = Placed(_BIND, True, target, fd, os.readlink(f"/proc/self/fd/{fd}".encode()))
    try:
        return mounts.table.mount(told)
    except OSError as error:
        os.close(fd)
        log.warning("%s: %s", os.fsdecode(target), error.strerror)
        return 0
