"""The file systems of a profile: what can be said of them beforehand, and how they are mounted when the
session runs, before its command starts.

They lie on top of the rest of the view, as whatever is mounted at run time; so entries below one are put
there again, in it, after it.
"""

import errno
import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import trio

from vuosd.supervisor import stacks
from vuosd.supervisor.mounting import options, sharing, types
from vuosd.supervisor.mounting.errors import MountError, from_os
from vuosd.supervisor.mounting.mount import UNREAL, WIRE, Wanted
from vuosd.supervisor.prepared import Refused
from vuosd.supervisor.values import Placed, Resolved, Stacked
from vuosd.views import Entry, Kind, ProfileError, View, about
from vuosd.views.errors import quote
from vuosd.views.table import fold, host_paths, lookup

if TYPE_CHECKING:
    from vuosd.supervisor.held import Layers
    from vuosd.supervisor.mounting.mounter import Mounter

_BLAMED = {errno.EINVAL: "options", errno.ENODEV: "type"}


def problems(view: View, env: Mapping[str, str]) -> list[ProfileError]:
    """An error for each file system that could not be mounted on this machine, as far as that is known
    without starting its server.
    """
    errors = []
    for entry in view.entries:
        if entry.kind is Kind.FILESYSTEM:
            try:
                _try(wanted(entry), env)
            except MountError as error:
                errors.append(_told(view, entry, error))
    return errors


def _told(view: View, entry: Entry, error: MountError) -> ProfileError:
    key = _BLAMED.get(error.errno, "source")
    text = str(error).removeprefix("vuosd: ")
    return about(view, entry, key, f"nothing can be mounted at {quote(entry.target)}: {text}")


def _try(wanted: Wanted, env: Mapping[str, str]) -> None:
    """MountError for what is known to be wrong."""
    if wanted.type == UNREAL:
        return
    kind, source = types.find(wanted.type, wanted.path)
    if wanted.flags & ~options.KEPT:
        raise MountError(errno.EINVAL, "bind, move and remount are not for a profile's file system")
    if kind.needs_path and not os.path.exists(source):
        text = f"{source}: no such file" if source else f"type {wanted.type} needs a source"
        raise MountError(errno.ENOENT, text)
    words = [word for word in options.split(wanted.data) if not word.startswith("transport=")]
    target = "/dev/fd/9" if kind.takes_descriptor(env) else "/"
    kind.check(source, target, ",".join(words), env)


def wanted(entry: Entry) -> Wanted:
    """What an entry asks for; MountError where there is no such type."""
    served = entry.served
    assert served is not None
    needs_path = served.type != UNREAL and types.find(served.type, served.source)[0].needs_path
    is_path = bool(served.path) and (needs_path or os.path.lexists(served.path))
    path = os.fsdecode(served.path) if is_path else served.source
    flags, words = options.parse(options.split(served.options))
    flags |= options.MS_RDONLY if entry.readonly else 0
    return Wanted(served.type, served.source, path, entry.target, True, flags, ",".join(words))


async def mount_all(
    mounter: "Mounter", view: View, late: Sequence[Entry | Placed | Stacked], layers: "Layers | None"
) -> None:
    """Those of a profile, and what lies in them, outermost first. Refused, with what has been mounted left to
    whoever ends the session.
    """
    done: list[Entry] = []
    table = fold(view.entries)[0]
    for one in late:
        outer = next((entry for entry in reversed(done) if one.target.startswith(entry.target + b"/")), None)
        if outer is not None:
            await _has_place(mounter, view, one, outer)
        try:
            if isinstance(one, Placed):
                mounter.mounts.table.mount(one)
            elif isinstance(one, Stacked):
                mounter.mounts.show_stack(one)
            elif one.upon is not None:
                assert layers is not None
                await _mount_cow(mounter, one, layers)
            else:
                covered = any(_covers(other, one) for other in late)
                await _mount(mounter, table, wanted(one)._replace(covered=covered))
                done.append(one)
        except MountError as error:
            assert isinstance(one, Entry)
            blamed = one if one.where.path else one.upon or one  # the command line's has no place
            raise Refused(str(_told(view, blamed, error))) from None
        except OSError as error:
            raise Refused(f"vuosd: {quote(one.target)}: {from_os(error)}") from None


def _covers(cow: Entry | Placed | Stacked, entry: Entry) -> bool:
    """Whether it is a cow upon all of a file system. Of a mincow that is still written to."""
    if not isinstance(cow, Entry) or cow.upon is None or cow.target != entry.target:
        return False
    return cow.layering is None or not cow.layering.minimal


async def _mount(mounter: "Mounter", table: Mapping[bytes, Entry], wanted: Wanted) -> None:
    """A file that lies in a cow is taken from there. MountError."""
    path = os.path.realpath(os.fsencode(wanted.path)) if wanted.path else b""
    entry = lookup(table, path) if path else None
    through = entry is not None and entry.kind is Kind.COW and path in host_paths(entry, path)
    if not through or os.path.isdir(path):
        await mounter.mounts.mount(wanted)
        return
    found = await trio.to_thread.run_sync(_of_cow, mounter, path, wanted)
    try:
        flags = wanted.flags | (options.MS_RDONLY if found.readonly else 0)
        shown = f"/proc/self/fd/{found.fd}"
        await mounter.mounts.mount(wanted._replace(path=shown, fds={found.fd: found.fd}, flags=flags))
    finally:
        os.close(found.fd)


async def _mount_cow(mounter: "Mounter", entry: Entry, layers: "Layers") -> None:
    """Upon a file system. MountError, OSError."""
    assert entry.upon is not None
    mounts = mounter.mounts
    below = mounts.at(entry.upon.target)
    assert below is not None
    wired = below.transport == WIRE
    if wired:
        minimal = entry.layering is not None and entry.layering.minimal
        sharing.stands(below, "mincow" if minimal else "cow")
        look = functools.partial(mounts.family.engine.look, entry.target, mounts.space, wired=True)
        fd = (await trio.to_thread.run_sync(look)).fd
    else:
        root = await mounts.root(below)
        try:
            path = os.path.relpath(entry.target, entry.upon.target)
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
        finally:
            os.close(root)
    try:
        upon = b"/proc/self/fd/%d" % fd
        layers.stand(entry.target, upon)
        stack = stacks.with_handles(stacks.stacked(entry, layers, (upon,)), mounts.scratch)
        mounts.show_stack(stack, served=not wired, upon=below if wired else None)
    finally:
        os.close(fd)


def _of_cow(mounter: "Mounter", path: bytes, wanted: Wanted) -> Resolved:
    """What a cow has at a path; where it will be written the copy in the layer. MountError."""
    session, env = mounter.mounts.family.engine, mounter.mounts.env
    words = options.split(wanted.data)
    try:
        found = session.look(path)
        try:
            reads = wanted.flags & options.MS_RDONLY or found.readonly
            if reads or not types.writes(wanted.type, f"/proc/self/fd/{found.fd}", words, env):
                return found._replace(fd=os.dup(found.fd))
        finally:
            os.close(found.fd)
        return session.look(path, write=True)
    except OSError as error:
        raise from_os(error, f"{wanted.path}, as the cow has it") from None


async def _has_place(
    mounter: "Mounter", view: View, one: Entry | Placed | Stacked, outer: Entry
) -> None:
    """Refused unless the directory above a target is there, in the file system that it lies in."""
    above = os.path.dirname(one.target)
    try:
        if not await mounter.outside.directory(above):
            raise MountError(errno.ENOTDIR, f"{os.fsdecode(above)} is no directory")
    except MountError as error:
        text = f"{quote(one.target)} has no place in the file system at {quote(outer.target)}: {error}"
        raise Refused(str(about(view, one if isinstance(one, Entry) else outer, "target", text))) from None
