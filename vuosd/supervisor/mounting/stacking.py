"""Copy-on-write entries while the session runs: `vumount -t cow DIR TARGET`.

What such an entry needs of the filter, which is made before the command starts, a view has that has one
anyway, or whose profile says so: `[control] allow = ["cow"]`.
"""

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

import trio

from vuosd.supervisor import stacks
from vuosd.supervisor.log import log
from vuosd.supervisor.mounting import options
from vuosd.supervisor.mounting.errors import MountError, from_os
from vuosd.supervisor.mounting.mount import KERNEL, Mount
from vuosd.supervisor.mounting.mounts import Mounts
from vuosd.supervisor.prepared import Refused
from vuosd.supervisor.values import Below, Placed
from vuosd.views import Entry, Kind, Layering, Served

if TYPE_CHECKING:
    from vuosd.layers.record import System
    from vuosd.supervisor.held import Layers
    from vuosd.supervisor.worker import Running

TYPES = ("cow", "mincow", "merge")


class Given(NamedTuple):
    """What is to be below.

    source: as it was said
    fd: O_PATH, of the directory
    view: its canonical path in the view, None where it is only the machine's
    served: a process serves its file system
    """

    source: str
    fd: int
    view: bytes | None = None
    served: bool = False


class _Words(NamedTuple):
    store: bytes | None
    layer: str | None
    ephemeral: bool
    sync: bool


def parse(words: list[str]) -> _Words:
    """MountError for what is no option of a cow."""
    found = dict.fromkeys(("store", "layer", "ephemeral", "fsync"), "")
    for word in words:
        name, equals, value = word.partition("=")
        if name not in found or bool(equals) != (name in ("store", "layer")) or (equals and not value):
            text = f'unknown option "{word}" of a cow: store=DIR, layer=NAME, ephemeral, fsync'
            raise MountError(errno.EINVAL, text)
        found[name] = value or name
    store = os.fsencode(found["store"]) if found["store"] else None
    return _Words(store, found["layer"] or None, bool(found["ephemeral"]), bool(found["fsync"]))


class Stacking:
    """Of one session."""

    def __init__(self, running: "Running") -> None:
        self.running = running
        self._changing = trio.Lock()

    def check(self, kind: str) -> None:
        """MountError where there can be none."""
        if kind == "merge":
            raise MountError(errno.EOPNOTSUPP, 'a merge is for profiles: [[mount]] type = "merge"')
        if self.running.prepared.enforce:
            raise MountError(errno.EPERM, "in an enforcing view a cow is for its profile")
        if not self.running.shape.stacked:
            text = (
                "this view was started without a cow, and hears too little of what its processes do for one"
            )
            hint = 'start it with one, or with [control] allow = ["mount", "umount", "cow"] in its profile'
            raise MountError(errno.EOPNOTSUPP, f"{text}: {hint}")

    async def mount(
        self, mounts: Mounts, kind: str, given: Given, target: bytes, flags: int, words: list[str]
    ) -> Mount:
        """MountError."""
        how = parse(words)
        entry, system = self._entry(mounts, kind, given, target, flags, how)
        async with self._changing:
            return await trio.to_thread.run_sync(self._mount, mounts, given, entry, how.layer, system)

    def _entry(
        self, mounts: Mounts, kind: str, given: Given, target: bytes, flags: int, how: _Words
    ) -> "tuple[Entry, System | None]":
        """What it is, and how what it is upon can be mounted without the view."""
        if not stat.S_ISDIR(os.stat(given.fd).st_mode):
            raise MountError(errno.ENOTDIR, f"{given.source} is no directory")
        real = os.readlink(b"/proc/self/fd/%d" % given.fd)
        readonly = bool(flags & options.MS_RDONLY)
        layering = Layering(kind == "mincow", how.ephemeral, how.sync, how.store)
        entry = Entry(Kind.COW, target, readonly=readonly, layering=layering)
        system = next(
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
            return Entry(Kind.COW, target, real, readonly=readonly, layering=layering), None
        if system is None and not how.ephemeral:
            text = f"{given.source} does not outlive the session: -o ephemeral"
            raise MountError(errno.EINVAL, text)
        served = Served(system.type, system.source, b"", "") if system else Served("tmpfs", "", b"", "")
        upon = Entry(Kind.FILESYSTEM, target, served=served)
        entry = Entry(Kind.COW, entry.target, readonly=readonly, layering=layering, upon=upon)
        return entry, _how(system, real) if system else None

    def _mount(
        self, mounts: Mounts, given: Given, entry: Entry, name: str | None, system: "System | None"
    ) -> Mount:
        layers = self._layers()
        try:
            layers.add(entry, name, system)
        except Refused as refused:
            raise MountError(errno.EINVAL, str(refused).removeprefix("vuosd: ")) from None
        upon = (b"/proc/self/fd/%d" % given.fd,) if entry.upon is not None else ()
        below = Below(given.view, mounts.space, frozen=True) if given.view is not None else None
        try:
            within = self._hide(layers, entry)
            for path in upon:
                layers.stand(entry.target, path)
            stack = stacks.with_handles(stacks.stacked(entry, layers, upon), mounts.scratch)
            mount = mounts.show_stack(stack, below, served=given.served)
        except BaseException as error:
            layers.end(entry.target)
            if isinstance(error, Refused):
                raise MountError(errno.EINVAL, str(error).removeprefix("vuosd: ")) from None
            if isinstance(error, OSError):
                raise from_os(error, os.fsdecode(entry.target)) from None
            raise
        mount.source = given.source
        numbers = [mounts.table.mount(_hidden(path), locked=True) for path in within]

        def ends() -> None:
            for number in numbers:
                mounts.table.unmount(number)
            if sentence := layers.end(entry.target):
                log.info("%s: %s", mount.place, os.fsdecode(sentence))

        mount.ends = ends
        return mount

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
    directory = os.fsdecode(os.path.relpath(real, mount.path))
    return System(wanted.type, path, wanted.data, directory, bool(wanted.flags & options.MS_RDONLY))


def _hidden(path: bytes) -> Placed:
    return Placed(Kind.HIDE, False, path, source_path=path)


def _same(path: bytes, fd: int) -> bool:
    """Whether the machine has at a path what a descriptor is of."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except OSError:
        return False
