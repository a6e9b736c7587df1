"""Copy-on-write entries while the session runs: `vumount -t cow DIR TARGET`.

What such an entry needs of the filter, which is made before the command starts, a view has that has one
anyway, or whose profile says so: `[control] allow = ["cow"]`.
"""

import errno
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import trio
from msgspec.structs import replace

from vuosd.supervisor import stacks
from vuosd.supervisor.log import log
from vuosd.supervisor.mounting import options
from vuosd.supervisor.mounting.errors import MountError, from_os
from vuosd.supervisor.mounting.mount import KERNEL, Mount
from vuosd.supervisor.mounting.mounts import Mounts
from vuosd.supervisor.prepared import Refused
from vuosd.supervisor.scratch import SizeUnavailable
from vuosd.supervisor.values import Below, Placed, Stacked
from vuosd.views import Entry, Kind, Layering, Served
from vuosd.views.compile import bytes_of, normal
from vuosd.views.table import is_below

if TYPE_CHECKING:
    from vuosd.layers.record import System
    from vuosd.supervisor.held import Layers
    from vuosd.supervisor.running import Running

TYPES = ("cow", "mincow", "merge")


class Given(NamedTuple):
    """What is to be below, or shown in a cow as it is.

    source: as it was said
    fd: O_PATH, of the directory
    view: its canonical path in the view, None where it is only the machine's
    served: a process serves its file system
    readonly: the view forbids to change it
    wired: the mount by wire that it lies in
    """

    source: str
    fd: int
    view: bytes | None = None
    served: bool = False
    readonly: bool = False
    wired: Mount | None = None


class Words(NamedTuple):
    """The options. `real`: paths in the cow that stay as they are, relative to it."""

    store: bytes | None
    layer: str | None
    ephemeral: bool
    sync: bool
    size: int | None
    real: tuple[bytes, ...]


_VALUED = ("store", "layer", "size", "except")


def parse(words: list[str], target: bytes) -> Words:
    """Of a cow at `target`. MountError for what is no option of one."""
    found = dict.fromkeys(("store", "layer", "ephemeral", "fsync", "size"), "")
    real = []
    for word in words:
        name, equals, value = word.partition("=")
        if name == "except" and value:
            real.append(_inside(value, target))
            continue
        if name not in found or bool(equals) != (name in _VALUED) or (equals and not value):
            known = "store=DIR, layer=NAME, size=BYTES, except=PATH, ephemeral, fsync"
            raise MountError(errno.EINVAL, f'unknown option "{word}" of a cow: {known}')
        found[name] = value or name
    store = os.fsencode(found["store"]) if found["store"] else None
    size = _size(found["size"]) if found["size"] else None
    how = bool(found["ephemeral"]), bool(found["fsync"])
    return Words(store, found["layer"] or None, *how, size, tuple(real))


def _inside(value: str, target: bytes) -> bytes:
    path = normal(os.fsencode(value), target)
    if not is_below(path, target):
        text = (
            f"except={value}: this is not in {os.fsdecode(target)}; a path in it, relative to it or absolute"
        )
        raise MountError(errno.EINVAL, text)
    return path[len(target.rstrip(b"/")) + 1 :]


def _size(value: str) -> int:
    try:
        size = bytes_of(value)
    except (ValueError, KeyError):
        size = 0
    if not 0 < size < 1 << 63:
        raise MountError(errno.EINVAL, f"size={value} is no number of bytes, such as 4096, 64M, 1G")
    return size


class Stacking:
    """Of one session."""

    def __init__(self, running: "Running") -> None:
        self.running = running
        self._changing = trio.Lock()

    def check(self, kind: str) -> None:
        """MountError where there can be none."""
        if kind == "merge":
            raise MountError(errno.EOPNOTSUPP, 'a merge is for profiles: [[mount]] type = "merge"')
        layers = self.running.prepared.layers
        if self.running.prepared.enforce and (layers is None or not layers.reserved):
            text = "an enforcing view is prepared for a cow that comes later by its profile"
            raise MountError(errno.EPERM, f'{text}: [control] allow = ["mount", "umount", "cow"]')
        if not self.running.shape.stacked:
            text = (
                "this view was started without a cow, and hears too little of what its processes do for one"
            )
            hint = 'start it with one, or with [control] allow = ["mount", "umount", "cow"] in its profile'
            raise MountError(errno.EOPNOTSUPP, f"{text}: {hint}")

    async def mount(
        self,
        mounts: Mounts,
        kind: str,
        given: Given,
        target: bytes,
        flags: int,
        how: Words,
        real: Sequence[Given] = (),
    ) -> Mount:
        """`real`: what how.real is. MountError."""
        entry, system = self._entry(mounts, kind, given, target, flags, how)
        async with self._changing:
            return await trio.to_thread.run_sync(self._mount, mounts, given, entry, how, system, real)

    def _entry(
        self, mounts: Mounts, kind: str, given: Given, target: bytes, flags: int, how: Words
    ) -> "tuple[Entry, System | None]":
        """What it is, and how what it is upon can be mounted without the view."""
        if not stat.S_ISDIR(os.stat(given.fd).st_mode):
            raise MountError(errno.ENOTDIR, f"{given.source} is no directory")
        if kind == "mincow" and given.readonly:
            text = f"the view shows {given.source} read-only, and a mincow would write there: -t cow"
            raise MountError(errno.EROFS, text)
        real = os.readlink(b"/proc/self/fd/%d" % given.fd)
        readonly = bool(flags & options.MS_RDONLY)
        layering = Layering(kind == "mincow", how.ephemeral, how.sync, how.store)
        entry = Entry(Kind.COW, target, readonly=readonly, size=how.size, layering=layering)
        system = given.wired or next(
            (
                mount
                for mount in mounts.family.each()
                if mount.transport == KERNEL and (real == mount.path or real.startswith(mount.path + b"/"))
            ),
            None,
        )
        scratch = mounts.scratch.path
        private = scratch is not None and real.startswith(os.path.realpath(scratch) + b"/")
        if system is None and not private and _same(real, given.fd):
            return replace(entry, source=real), None
        if system is None and not how.ephemeral:
            text = f"{given.source} does not outlive the session: -o ephemeral"
            raise MountError(errno.EINVAL, text)
        served = Served(system.type, system.source, b"", "") if system else Served("tmpfs", "", b"", "")
        if how.size and not how.ephemeral:
            raise MountError(
                errno.EINVAL, "of the cows in file systems only an ephemeral one can have a size"
            )
        entry = replace(entry, upon=Entry(Kind.FILESYSTEM, target, served=served))
        return entry, _how(system, real) if system else None

    def _mount(
        self,
        mounts: Mounts,
        given: Given,
        entry: Entry,
        how: Words,
        system: "System | None",
        real: Sequence[Given],
    ) -> Mount:
        layers = self._layers()
        apart = [os.readlink(b"/proc/self/fd/%d" % one.fd) for one in real]
        try:
            layers.add(entry, how.layer, system, apart)
        except Refused as refused:
            raise MountError(errno.EINVAL, str(refused).removeprefix("vuosd: ")) from None
        except SizeUnavailable as why:
            text = (
                f"an ephemeral cow with a size needs a mount of its own, which this machine refuses ({why})"
            )
            raise MountError(errno.ENODEV, text) from None
        numbers: list[int] = []
        mount: Mount | None = None
        upon = (b"/proc/self/fd/%d" % given.fd,) if entry.upon is not None else ()
        below = Below(given.view, mounts.space, frozen=True) if given.view is not None else None
        try:
            within = self._hide(layers, entry)
            for path in upon:
                layers.stand(entry.target, path)
            stack = stacks.with_handles(stacks.stacked(entry, layers, upon), mounts.scratch)
            mount = mounts.show_stack(stack, below, served=given.served, upon=given.wired)
            numbers += [mounts.table.mount(_hidden(path), locked=True) for path in within]
            numbers += [_show(mounts, entry.target, *pair) for pair in zip(how.real, real, strict=True)]
        except BaseException as error:
            for number in numbers:
                mounts.table.unmount(number)
            if mount is not None:
                mounts.withdraw(mount)
            layers.end(entry.target)
            if isinstance(error, Refused):
                raise MountError(errno.EINVAL, str(error).removeprefix("vuosd: ")) from None
            if isinstance(error, OSError):
                raise from_os(error, os.fsdecode(entry.target)) from None
            raise
        mount.source = given.source
        if stack.size:
            self._watch(stack)

        def ends() -> None:
            for number in numbers:
                mounts.table.unmount(number)
            if sentence := layers.end(entry.target):
                log.info("%s: %s", mount.place, os.fsdecode(sentence))

        mount.ends = ends
        return mount

    def _watch(self, stack: Stacked) -> None:
        """Over those that write on in a layer that is full."""
        running = self.running
        if running.quota is not None:
            running.quota.add(stack)
            return
        from vuosd.supervisor.quota import Watcher

        running.quota = Watcher(running.session, [stack], running.number, running.child)
        running.quota.start()

    def _layers(self) -> "Layers":
        running = self.running
        if running.prepared.layers is None:
            from vuosd.supervisor.held import Layers

            made = Layers(running.request.variables(), running.scratch)
            running.prepared = running.prepared._replace(layers=made)
        assert running.prepared.layers is not None
        return running.prepared.layers

    def _hide(self, layers: "Layers", entry: Entry) -> list[bytes]:
        """What is in a layer is seen, and changed, through the engine alone. The places of its store in what
        the cow is of, which are to be hidden with it. Refused.
        """
        store = os.path.realpath(layers.place(entry.layering.store if entry.layering else None))
        within = [path for path in stacks.names_of(store, {entry.target: entry}) if path != store]
        self.running.session.conceal(store)
        return within


def _how(mount: Mount, real: bytes) -> "System | None":
    """`real`: a directory of it. None for what was not mounted by a server of ours, or is of something else
    than the machine's.
    """
    from vuosd.layers.record import System

    wanted = mount.wanted
    if wanted is None or mount.module or mount.within:
        return None
    path = next((os.readlink(f"/proc/self/fd/{fd}") for fd in wanted.fds.values()), wanted.path)
    root = mount.path + b"/tree" if mount.wire else mount.path
    directory = os.fsdecode(os.path.relpath(real, root))
    return System(wanted.type, path, wanted.data, directory, bool(wanted.flags & options.MS_RDONLY))


def _show(mounts: Mounts, target: bytes, path: bytes, real: Given) -> int:
    """The number of a bind of what stays as it is, in the cow at a target. OSError."""
    fd = os.dup(real.fd)
    below = Below(real.view, mounts.space) if real.view is not None else None
    at = target.rstrip(b"/") + b"/" + path
    text = os.readlink(b"/proc/self/fd/%d" % fd)
    try:
        return mounts.table.mount(Placed(Kind.BIND, real.readonly, at, fd, text, served=real.served), below)
    except BaseException:
        os.close(fd)
        raise


def _hidden(path: bytes) -> Placed:
    return Placed(Kind.HIDE, False, path, source_path=path)


def _same(path: bytes, fd: int) -> bool:
    """Whether the machine has at a path what a descriptor is of."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except OSError:
        return False
