"""The mounts of a session: made, listed, taken away.

A mount is in the engine's table by its number, in the helper's namespace at a directory of the session's
scratch place, and here. They stack: at one place the last is seen, and goes first.
"""

import errno
import functools
import os
import secrets
import signal
from collections import deque
from collections.abc import Mapping, Sequence

import trio

from vuosd.supervisor import members
from vuosd.supervisor.log import log
from vuosd.supervisor.mounting import losses, options, reach, sharing, types, unreal, users
from vuosd.supervisor.mounting.errors import MountError, from_os
from vuosd.supervisor.mounting.family import Family, Table
from vuosd.supervisor.mounting.mount import KERNEL, NONE, UNREAL, WIRE, Mount, Wanted
from vuosd.supervisor.mounting.namespace import Namespace, NamespaceUnavailable, Root
from vuosd.supervisor.mounting.output import Output
from vuosd.supervisor.mounting.starting import Start, begin
from vuosd.supervisor.scratch import Scratch
from vuosd.supervisor.values import Below, Placed, Resolved, Stacked, Wired

MNT_FORCE, MNT_DETACH = 1, 2

_BIND, _COW = 1, 6
_REMEMBERED = 64
_FLUSH_SECONDS = 15.0
_END_SECONDS = 10.0
_NOTHING_SECONDS = 0.5
_REQUEST_SECONDS = 60.0
"""For a wire server's answer."""
_BUSY_PATIENCE = 0.2
"""Seconds for calls in flight to let go of a mount that has left the table."""
_LOOK_AGAIN_SECONDS = 0.02
"""… of one by wire."""


class Mounts:
    """Those of one mount namespace. All but `finish` in trio."""

    def __init__(
        self,
        family: Family,
        scratch: Scratch,
        env: Mapping[str, str],
        space: int = 0,
        like: "Mounts | None" = None,
    ) -> None:
        """`env` is the environment of servers; `like`: whose mounts it has at first."""
        self.family = family
        self.table = Table(family.engine, space)
        self.scratch = scratch
        self.env = env
        self.space = space
        self._mounts: list[Mount] = list(like._mounts) if like is not None else []
        self._changing = trio.Lock()
        self._come = trio.Event()
        self._left: deque[tuple[bytes, users.Process]] = deque(maxlen=_REMEMBERED)
        """What servers of the view have served by wire, and do no more."""
        self.held: list[Mount] = list(like.held) if like is not None else []
        """By wire: what entries of a nested view show, which serves as long as that lives."""
        family.spaces[space] = self

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

    async def namespace(self) -> Namespace:
        """The helper, started when it is first wanted; MountError (ENODEV) where there can be none."""
        return await self.family.namespace()

    def _transport(self, namespace: Namespace, words: list[str]) -> str:
        """The kernel's, unless it is not to be had or the other is asked for: `-o transport=wire`."""
        asked = next((word.partition("=")[2] for word in words if word.startswith("transport=")), "")
        if asked not in ("", KERNEL, WIRE):
            raise MountError(errno.EINVAL, f'transport="{asked}": it is {KERNEL} or {WIRE}')
        if asked == KERNEL and namespace.why:
            text = f"this machine lets us mount no FUSE file system ({namespace.why}); see `vuctl doctor`"
            raise MountError(errno.ENODEV, text)
        return asked or (WIRE if namespace.why else KERNEL)

    # Mounting

    async def mount(self, wanted: Wanted) -> Mount:
        """A file system with a server of ours; MountError."""
        if wanted.type == UNREAL:
            return unreal.show(self, wanted.target, wanted.flags, wanted.source, wanted.data)
        made_by, asked_for = "", wanted
        if self.family.modules is not None:
            wanted, made_by = await self.family.modules.mounted_as(wanted)
        try:
            kind, path = await trio.to_thread.run_sync(types.find, wanted.type, wanted.path)
            namespace = await self.namespace()
            words = options.split(wanted.data)
            transport = self._transport(namespace, words)
            _check_flags(transport, wanted.flags, wanted.target)
            data = ",".join(word for word in words if not word.startswith("transport="))
            wanted = wanted._replace(data=data)
            place = self._place(wanted.directory or transport == WIRE)
            mount = Mount(
                wanted.type, wanted.source, wanted.target, wanted.flags, data, transport=transport, path=place
            )
            mount.mark = secrets.token_hex(8)
            mount.module = made_by
            mount.exclusive = kind.exclusive
            mount.remember(asked_for, kind)
            output = Output(f"{wanted.type} at {os.fsdecode(wanted.target)}")
            self.nursery.start_soon(output.read)
            self.family.served[mount.mark] = mount
            shown = await trio.to_thread.run_sync(reach.of_views, self.family.views(self.space))
            make = functools.partial(self.scratch.make, 0o700)
            start = Start(namespace, kind, path, wanted, mount, output, self.env, shown, make)
            try:
                if transport == WIRE:
                    try:
                        await self.enter_wire(mount, await start.run_wire(), wanted.directory)
                    except OSError as error:
                        raise await start.failed(error) from None
                else:
                    self._enter(mount, await start.run())
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self._clean_up(namespace, mount, start.begun)
                raise
            return mount
        except OSError as error:
            raise from_os(error) from None
        except NamespaceUnavailable as error:
            raise MountError(errno.EIO, str(error)) from None

    async def enter_wire(self, mount: Mount, sock: int, directory: bool) -> None:
        """Into the engine's table, when the server at the other end of a socket has begun. OSError; the
        socket is the engine's. `directory`: it is mounted on one.
        """
        cache = os.open(mount.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        readonly = bool(mount.flags & options.MS_RDONLY)
        wired = Wired(
            mount.target,
            sock,
            cache,
            readonly,
            _REQUEST_SECONDS,
            fixed=readonly and mount.exclusive,
            file=not directory,
            no_devices=bool(mount.flags & options.MS_NODEV),
            type=os.fsencode(mount.shown_type),
            name=os.fsencode(mount.source or mount.type),
            options=os.fsencode(mount.options),
        )
        mount.number = mount.wire = await begin(self.table.mount_wire, wired, mount.type)
        self.entered(mount)
        log.info("mount %d: %s on %s, by wire", mount.number, mount.type, mount.place)

    def _place(self, directory: bool) -> bytes:
        """Where a file system can be mounted, private to the session."""
        path = self.scratch.make(0o700)
        if not directory:
            path += b"/file"
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        return path

    def _enter(self, mount: Mount, root: Root) -> None:
        """Into the engine's table: from here on the view shows it. The descriptor is the engine's."""
        mount.device = root.device
        mount.mount_id = users.mount_id(root.fd)
        self._show(mount, root.fd)
        self.entered(mount)
        log.info("mount %d: %s on %s", mount.number, mount.type, os.fsdecode(mount.target))

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

    async def mount_device(
        self, type: str, source: str, target: bytes, directory: bool, flags: int, data: str, device: int
    ) -> Mount:
        """A file system whose server, a process of the view, has the /dev/fuse that `device` is too. It
        does not answer yet. MountError; `device` is closed.
        """
        try:
            namespace = await self.namespace()
            mount = Mount(
                type,
                source,
                target,
                flags & options.KEPT,
                data,
                transport=KERNEL,
                path=self._place(directory),
            )
            words = [os.fsencode(word) for word in (type, source or type, data)]
            root = await namespace.mount(device, mount.path, *words, flags=mount.flags)
            self._enter(mount, root)
            return mount
        except OSError as error:
            raise from_os(error) from None
        except NamespaceUnavailable as error:
            raise MountError(errno.EIO, str(error)) from None
        finally:
            os.close(device)

    async def mount_socket(self, mount: Mount, sock: int, directory: bool) -> None:
        """The same by wire: `sock` is the other end of what the server has for a /dev/fuse.
        MountError.
        """
        try:
            _check_flags(WIRE, mount.flags, mount.target)
            mount.path = self._place(True)
        except BaseException:
            os.close(sock)
            raise
        try:
            await self.enter_wire(mount, sock, directory)
        except OSError as error:
            raise from_os(error) from None

    def bind(self, source: str, fd: int, target: bytes, flags: int, below: Below, found: Resolved) -> Mount:
        """What `fd` is, seen at `target` as well; the descriptor is taken. `found`: what is known of it.
        MountError.
        """
        try:
            _check_flags(NONE, flags, target)
        except MountError:
            os.close(fd)
            raise
        origin = sharing.origin(self.family.each(), os.readlink(b"/proc/self/fd/%d" % fd))
        holds = sharing.carried(self, below)
        if origin is not None:
            mount = sharing.bound(origin, fd, target, flags, below, holds, found)
        else:
            mount = Mount("none", source, target, flags & options.KEPT, "bind", transport=NONE, path=b"")
            mount.fd, mount.below, mount.served, mount.locked = fd, below, found.served, found.readonly
            mount.flags |= options.MS_RDONLY if found.readonly else 0
            mount.holds = holds
        try:
            if found.special and origin is None:  # a descriptor is not all of it
                mount.within_stack, mount.upon = True, self._stack_at(found.view)
                entry = Placed(_COW, bool(mount.flags & options.MS_RDONLY), target)
                mount.number = self.table.mount(entry, below, within=found.view)
            else:
                self._show(mount, os.dup(fd), below)
        except OSError:
            os.close(fd)
            raise
        self.entered(mount)
        return mount

    def _stack_at(self, path: bytes) -> Mount | None:
        """The cow of run time that shows what is at a path."""
        above = [mount for mount in self._mounts if sharing.lies_at(path, mount.target)]
        top = max(reversed(above), key=lambda mount: len(mount.target), default=None)
        return top if top is None or top.stack is not None else top.upon

    def show_stack(self, stack: Stacked, below: Below | None = None, *, served: bool = False) -> Mount:
        """Several trees as one; the descriptors are taken. `served`: one of them is a file system that a
        process serves. OSError.
        """
        flags = 0 if stack.writable else options.MS_RDONLY
        source = os.fsdecode(stack.sources[0])
        mount = Mount(stack.kind, source, stack.target, flags, "", transport=NONE, path=b"")
        mount.stack, mount.served = stack, served
        mount.number = self.table.mount_stack(stack, below, served=served)
        self._mounts.append(mount)
        log.info("mount %d: %s on %s", mount.number, stack.kind, mount.place)
        return mount

    def withdraw(self, mount: Mount) -> None:
        """Of several trees, which has just been shown, and of which nobody has been told."""
        self.table.unmount(mount.number)
        self._mounts.remove(mount)

    async def remount(self, target: bytes, flags: int) -> None:
        """Other flags for the mount at a place. MountError: EINVAL if there is none, EBUSY for "ro" while
        something there is open for writing.
        """
        mount = self._own(self._found(target))
        if mount.type == UNREAL or mount.stack is not None or mount.within_stack:
            what = "what lies in a cow or merge" if mount.within_stack else f"type {mount.type}"
            raise MountError(errno.EINVAL, f"{os.fsdecode(target)}: {what} cannot be remounted")
        if mount.locked and not flags & options.MS_RDONLY:  # MNT_LOCK_READONLY
            raise MountError(errno.EPERM, f"{os.fsdecode(target)}: the view shows its source read-only")
        flags &= options.KEPT
        _check_flags(mount.transport, flags, target)
        if mount.transport == KERNEL:
            namespace = await self.namespace()
            try:
                await namespace.remount(mount.path, flags)
            except OSError as error:
                raise from_os(error, os.fsdecode(target)) from None
        fd = await self.root(mount)
        before, mount.flags = mount.number, flags
        if mount.path and not flags & options.MS_RDONLY:
            self.family.losses.announce()
        self._show(mount, fd, mount.below)
        self.table.unmount(before)

    async def move(self, source: bytes, target: bytes) -> None:
        """The uppermost mount at `source` is seen at `target` from now on, and only there."""
        mount = self._own(self._found(source))
        if mount.type == UNREAL or mount.stack is not None or mount.within_stack:
            what = "what lies in a cow or merge" if mount.within_stack else f"type {mount.type}"
            raise MountError(errno.EINVAL, f"{os.fsdecode(source)}: {what} cannot be moved")
        if target.startswith(source.rstrip(b"/") + b"/"):
            raise MountError(errno.ELOOP, "a mount cannot be moved into itself")
        fd = await self.root(mount)
        before, mount.target = mount.number, target
        self._show(mount, fd, mount.below)
        self.table.unmount(before)
        self._mounts.remove(mount)
        self._mounts.append(mount)

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

    # Unmounting

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
        ends: list[_Ending] = []
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
        if mount.mark and not lazy and not shared:
            await self._flushed(mount)
        if mount.started and not lazy and not shared:
            await self._ended(mount)
        if lost:
            raise MountError(lost[0][0], "; ".join(text for _, text in lost))

    def _let_go(self, mounts: Sequence[Mount]) -> list[Mount]:
        """Those by wire that nobody has mounted any more, one of each."""
        gone = {one.wire: one for one in mounts if one.wire and not self.family.has(one)}
        return list(gone.values())

    def _end_wire(self, mount: Mount, *, heard: bool) -> "_Ending":
        ends = _Ending(self, mount, heard=heard)
        self.nursery.start_soon(ends.run)
        return ends

    def _elsewhere(self, mount: Mount) -> bool:
        """Whether another namespace has the very mount."""
        return any(mount in other._mounts for other in self.family.spaces.values() if other is not self)

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
            pids = members.of_session(self.session)
            for path in filter(None, paths):
                if using := await trio.to_thread.run_sync(users.users_below, pids, path):
                    text = f"{os.fsdecode(mount.target)} is in use: {users.listed(using)}"
                    raise MountError(errno.EBUSY, text)
        self.table.unmount(mount.number)

    async def users_of(self, mount: Mount, own: bool = False) -> list[users.User]:
        """Who has something of it open; `own`: of this namespace alone."""
        if mount.wire and own:
            return await trio.to_thread.run_sync(sharing.users_of, self, mount)
        pids = self.family.pids(self.space) if own else members.of_session(self.session)
        if mount.transport == WIRE:
            return await trio.to_thread.run_sync(users.users_below, pids, mount.path)
        return await trio.to_thread.run_sync(users.users, pids, mount.mount_id, mount.device)

    async def _flushed(self, mount: Mount) -> None:
        """A server of ours ends when it has written what there is to write."""
        with trio.move_on_after(_FLUSH_SECONDS) as scope:
            await mount.gone.wait()
        if scope.cancelled_caught:
            log.warning("the server of %s does not end: killed", os.fsdecode(mount.target))
            await self._end(mount)

    async def _ended(self, mount: Mount) -> None:
        """The same, of one that is a process of the view."""
        try:
            fd = os.pidfd_open(mount.pid or 0)
        except OSError:
            return
        try:
            with trio.move_on_after(_FLUSH_SECONDS) as scope:
                await trio.lowlevel.wait_readable(fd)
            if scope.cancelled_caught:
                log.warning("the server of %s does not end: killed", mount.place)
                signal.pidfd_send_signal(fd, signal.SIGKILL)
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
            _end_wire(self.family, one)


class _Ending:
    """Of a wire mount that has been unmounted: when nobody uses it any more what has been written goes to the
    server. That is what `outcome` tells; then the server ends, for which nobody waits: as after umount(2) of
    a FUSE file system.
    """

    def __init__(self, mounts: Mounts, mount: Mount, *, heard: bool) -> None:
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


def _check_flags(transport: str, flags: int, target: bytes) -> None:
    """MountError for what only a mount of the kernel's can hold: of others programs see ordinary files."""
    if transport != KERNEL and flags & options.MS_NOEXEC:
        text = "noexec holds only of a file system that is mounted by the kernel's FUSE"
        raise MountError(errno.EOPNOTSUPP, f"{os.fsdecode(target)}: {text}")


def _end_wire(family: Family, mount: Mount) -> None:
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
        _end_wire(family, mount)
    for mounts in family.spaces.values():
        mounts.leave_all()
    seconds = _END_SECONDS if begun else _NOTHING_SECONDS
    if family.helper is not None and not family.helper.finish(seconds) and begun:
        family.losses.add("servers of file systems were killed: what they had not written is lost")
    family.losses.tell()
