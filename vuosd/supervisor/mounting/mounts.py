"""The mounts of a session: made, and changed (remount, move). What is there, and how it goes, is in the
classes that this one is made of: listed.py, unmounting.py.
"""

import errno
import functools
import os
import secrets

import trio

from vuosd.supervisor.log import log
from vuosd.supervisor.mounting import options, reach, sharing, types, unreal, users
from vuosd.supervisor.mounting.errors import MountError, from_os
from vuosd.supervisor.mounting.mount import KERNEL, NONE, UNREAL, WIRE, Mount, Wanted
from vuosd.supervisor.mounting.namespace import Namespace, NamespaceUnavailable, Root
from vuosd.supervisor.mounting.output import Output
from vuosd.supervisor.mounting.starting import Start, begin
from vuosd.supervisor.mounting.unmounting import Unmounting
from vuosd.supervisor.values import Below, Placed, Resolved, Stacked, Wired

_COW = 6
_REQUEST_SECONDS = 60.0
"""For a wire server's answer."""


class Mounts(Unmounting):
    """Those of one mount namespace. All but `leave_all` in trio."""

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
            if wanted.covered and kind.exclusive and transport == WIRE:
                wanted = wanted._replace(flags=wanted.flags | options.MS_RDONLY)
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

    def _transport(self, namespace: Namespace, words: list[str]) -> str:
        """The kernel's, unless it is not to be had or the other is asked for: `-o transport=wire`."""
        asked = next((word.partition("=")[2] for word in words if word.startswith("transport=")), "")
        if asked not in ("", KERNEL, WIRE):
            raise MountError(errno.EINVAL, f'transport="{asked}": it is {KERNEL} or {WIRE}')
        if asked == KERNEL and namespace.why:
            text = f"this machine lets us mount no FUSE file system ({namespace.why}); see `vuctl doctor`"
            raise MountError(errno.ENODEV, text)
        return asked or (WIRE if namespace.why else KERNEL)

    async def enter_wire(self, mount: Mount, sock: int, directory: bool) -> None:
        """Into the engine's table, when the server at the other end of a socket has begun. OSError; the
        socket is the engine's. `directory`: it is mounted on one.
        """
        cache = os.open(mount.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        readonly = bool(mount.flags & options.MS_RDONLY)
        mount.fixed = readonly and mount.exclusive
        wired = Wired(
            mount.target,
            sock,
            cache,
            readonly,
            _REQUEST_SECONDS,
            fixed=mount.fixed,
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
        if origin is not None and (top := self.covering(found.view)) is not None and not top.wire:
            origin = None  # a cow shows it, that stands upon it
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
        top = self.covering(path)
        return top if top is None or top.stack is not None else top.upon

    def show_stack(
        self,
        stack: Stacked,
        below: Below | None = None,
        *,
        served: bool = False,
        upon: Mount | None = None,
    ) -> Mount:
        """Several trees as one; the descriptors are taken. `served`: one of them is a file system that a
        process serves. `upon`: the mount by wire that the last one lies in. OSError.
        """
        flags = 0 if stack.writable else options.MS_RDONLY
        source = os.fsdecode(stack.sources[0])
        mount = Mount(stack.kind, source, stack.target, flags, "", transport=NONE, path=b"")
        if upon is not None:
            stack = stack._replace(wire=upon.wire)
            mount.holds = [upon]
        mount.stack, mount.served = stack, served or upon is not None
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


def _check_flags(transport: str, flags: int, target: bytes) -> None:
    """MountError for what only a mount of the kernel's can hold: of others programs see ordinary files."""
    if transport != KERNEL and flags & options.MS_NOEXEC:
        text = "noexec holds only of a file system that is mounted by the kernel's FUSE"
        raise MountError(errno.EOPNOTSUPP, f"{os.fsdecode(target)}: {text}")
