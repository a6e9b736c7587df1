"""Several mounts of one wire server: binds of what lies in it, and what comes along with other binds. They
share its cache, and it serves until the last of them has gone.

Who has something open does not tell by which of them he came to it: it is the same object of the cache, and
no mount of the kernel's. The engine remembers by which a process came to its working directory, and by which
it has opened something the last time; that mount counts as used, as its path is the one that /proc/PID/fd
shows. Else it is the first one.
"""

import errno
import os
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vuosd.supervisor import members
from vuosd.supervisor.mounting import options, users
from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.mount import Mount
from vuosd.supervisor.values import Below, Placed, Resolved

if TYPE_CHECKING:
    from vuosd.supervisor.mounting.listed import Listed

WIRE_KIND = 8
"""The engine's, of what is shown by wire."""


def lies_at(path: bytes, place: bytes) -> bool:
    return path == place or path.startswith(place.rstrip(b"/") + b"/")


def origin(mounts: Iterable[Mount], path: bytes) -> Mount | None:
    """A mount of the server in whose cache a path of the kernel's lies."""
    return next((mount for mount in mounts if mount.wire and lies_at(path, mount.path)), None)


def stands(mount: Mount, kind: str) -> None:
    """MountError unless a cow can be upon a mount by wire."""
    if kind == "mincow":
        text = "by wire a mincow cannot write there: a cow can"
    elif not mount.fixed:
        text = 'by wire it must be an image or archive that is mounted read-only: "ro" among its options'
    else:
        return
    raise MountError(errno.EOPNOTSUPP, f"no cow can be upon {mount.place}: {text}; see `vuctl doctor`")


def shown(mount: Mount, placed: Placed) -> Placed:
    """An entry of a view that shows something of what a mount by wire shows."""
    flags = mount.flags | (options.MS_RDONLY if placed.readonly else 0)
    return placed._replace(
        kind=WIRE_KIND,
        type=os.fsencode(mount.shown_type),
        name=os.fsencode(mount.source or "none"),
        options=os.fsencode(options.shown(flags, mount.data)),
    )


def bound(
    origin: Mount, fd: int, target: bytes, flags: int, below: Below, holds: Sequence[Mount], found: Resolved
) -> Mount:
    """Another mount of what `origin` is one of: `fd` is its root, and becomes its own."""
    mount = origin.again()
    mount.target, mount.fd, mount.below, mount.holds = target, fd, below, list(holds)
    mount.flags = (origin.flags & ~options.MS_RDONLY) | (flags & options.KEPT)
    mount.flags |= options.MS_RDONLY if found.readonly else 0
    mount.locked = found.readonly
    mount.user, mount.since = None, time.time()
    return mount


def carried(mounts: "Listed", below: Below | None) -> list[Mount]:
    """What comes along with a bind by wire."""
    if below is None or not below.all:
        return []
    there = mounts.family.spaces[below.space].all()
    return [
        one
        for mount in there
        if mount.target != below.path and lies_at(mount.target, below.path)
        for one in (mount, *mount.holds)
        if one.wire
    ]


def _root(mount: Mount) -> bytes:
    """The kernel's path of what a mount shows."""
    return os.readlink(b"/proc/self/fd/%d" % mount.fd) if mount.fd >= 0 else mount.path + b"/tree"


def users_of(mounts: "Listed", mount: Mount) -> list[users.User]:
    """Who uses a mount of those that a namespace has of one server."""
    roots = [(other, _root(other)) for other in mounts.all() if other.same(mount)]

    def uses(pid: int, tag: members.Tag) -> bool:
        return mounts.family.is_in(tag, mounts.space) and any(
            by(tag, name, link) is mount for name, link in users.links(pid)
        )

    def by(tag: members.Tag, name: bytes, link: bytes) -> Mount | None:
        shown = [(other, root) for other, root in roots if lies_at(link, root)]
        number = mounts.family.came_by(tag.state, name == b"cwd") if shown else 0
        meant = next((other for other, _ in shown if other.number == number), None)
        first = max(shown, key=lambda one: (one[0].fd < 0, len(one[1])), default=(None, b""))
        return meant or first[0]

    return users.of_members(mounts.session, uses)
