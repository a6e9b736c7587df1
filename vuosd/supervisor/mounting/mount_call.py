"""What a mount(2) of the view asks for, whichever way it comes: a file system whose server the caller is, a
bind, a move, other flags, a directory that is copied on write; what is to be served is next door, in
serve_call.py.
"""

import ctypes
import errno
import os
import stat
from typing import TYPE_CHECKING

import trio

from vuosd.supervisor.mounting import options, rights, sharing, stacking, unreal
from vuosd.supervisor.mounting.callers import Callers, Request
from vuosd.supervisor.mounting.confined import STARTS
from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.inside import Inside
from vuosd.supervisor.mounting.mount import UNREAL, WIRE, Mount
from vuosd.supervisor.mounting.serve_call import ServeCall
from vuosd.supervisor.values import Asked, Below

if TYPE_CHECKING:
    from vuosd.supervisor.mounting.asked import Answerer

_PIDFD_GETFD = 438


class MountCall:
    """Those of one mount namespace."""

    def __init__(self, answerer: "Answerer", callers: Callers) -> None:
        self.callers, self.mounts = callers, callers.mounts
        self.sockets, self.stacking = answerer.sockets, answerer.stacking
        self.inside = Inside(callers.mounts)
        self.serve_call = ServeCall(answerer, callers)

    async def run(
        self, asked: Asked, kind: str, source: str, target: str, flags: int, words: list[str]
    ) -> None:
        device = next((word[3:] for word in words if word.startswith("fd=")), "")
        changes = options.MS_REMOUNT | options.MS_BIND | options.MS_MOVE | options.PROPAGATION
        if flags & changes or kind == UNREAL or kind in stacking.TYPES:
            rights.check_user(asked)
        if kind == UNREAL:
            at = await self._absent(asked, target)
            unreal.show(self.mounts, at, flags, source, ",".join(words))
            return
        try:
            place = await self.callers.resolve(asked, os.fsencode(target))
        except OSError as error:
            hint = " (vumount -o create makes it)" if error.errno == errno.ENOENT else ""
            raise MountError(error.errno or errno.EIO, f"{target}: {error.strerror}{hint}") from None
        try:
            there = await trio.to_thread.run_sync(os.stat, place.fd)
            directory = stat.S_ISDIR(there.st_mode)
        finally:
            os.close(place.fd)
        request = Request(kind, source, place.view, directory, flags, words)
        if flags & options.MS_REMOUNT:
            await self.mounts.remount(place.view, flags)
        elif flags & options.MS_BIND:
            await self._bind(asked, source, place.view, directory, flags)
        elif flags & options.MS_MOVE:
            await self._move(asked, source, place.view)
        elif flags & options.PROPAGATION:
            if flags & options.MS_SHARED:
                raise MountError(errno.EINVAL, "mounts of a view are never shared")
        elif device.isdigit():
            rights.check_directory(asked, there.st_uid, place.view)
            await self._mount_device(asked, request, int(device))
        elif kind in stacking.TYPES:
            if not directory:
                raise MountError(errno.ENOTDIR, f"{target} is no directory")
            await self._stack(asked, kind, source, place.view, flags, words)
        else:
            await self.serve_call.run(asked, request)

    async def _bind(self, asked: Asked, source: str, target: bytes, directory: bool, flags: int) -> None:
        try:
            found = await self.callers.resolve(asked, os.fsencode(source))
        except OSError as error:
            raise MountError(error.errno or errno.EIO, f"{source}: {error.strerror}") from None
        try:
            if not found.view:
                raise MountError(errno.EINVAL, f"{source} has no path in the view")
            if stat.S_ISDIR(os.stat(found.fd).st_mode) != directory:
                raise MountError(errno.ENOTDIR, f"one of {source} and {os.fsdecode(target)} is no directory")
            fd = os.dup(found.fd)
        finally:
            os.close(found.fd)
        # What the view hides or forbids below goes along, as locked mounts do: mount_namespaces(7).
        below = Below(found.view, asked.space, bool(flags & options.MS_REC))
        self.mounts.bind(source, fd, target, flags, below, found)

    async def _move(self, asked: Asked, source: str, target: bytes) -> None:
        found = await self.callers.resolve(asked, os.fsencode(source))
        os.close(found.fd)
        await self.mounts.move(found.view, target)

    async def _absent(self, asked: Asked, target: str) -> bytes:
        """A place in the view at which nothing need be, but in a directory."""
        path = os.fsencode(target)
        try:
            try:
                found = await self.callers.resolve(asked, path)
            except FileNotFoundError:
                above = os.path.dirname(path.rstrip(b"/")) or b"."
                found = await self.callers.resolve(asked, above + b"/.")
                os.close(found.fd)
                return os.path.join(found.view, os.path.basename(path.rstrip(b"/")))
            try:
                mode = await trio.to_thread.run_sync(lambda: os.stat(found.fd).st_mode)
            finally:
                os.close(found.fd)
        except OSError as error:
            raise MountError(error.errno or errno.EIO, f"{target}: {error.strerror}") from None
        if not stat.S_ISDIR(mode):
            raise MountError(errno.ENOTDIR, f"{target} is no directory")
        return found.view

    async def _mount_device(self, asked: Asked, request: Request, number: int) -> None:
        """The last step of a FUSE server's start."""
        kind, source, target, directory, flags, words = request
        if kind.partition(".")[0] not in ("fuse", "fuseblk"):
            raise MountError(errno.ENODEV, f'type "{kind}" takes no descriptor')
        name = os.readlink(f"/proc/{asked.tgid}/fd/{number}")
        if (sock := self.sockets.take(name)) >= 0:
            mount = Mount(kind, source, target, flags & options.KEPT, "", transport=WIRE, path=b"")
            mount.device, mount.pid, mount.user = name, asked.tgid, rights.user_of(asked)
            if not (asked.op == "door" and asked.args[3] & STARTS):
                self.callers.say(asked)  # it speaks only when it has mounted
            await self.mounts.mount_socket(mount, sock, directory)
            self.mounts.nursery.start_soon(self.inside.watch, mount)
            return
        device = _device(asked.tgid, number)
        data = ",".join(word for word in words if not word.startswith("fd="))
        mount = await self.mounts.mount_device(kind, source, target, directory, flags, data, device)
        mount.pid, mount.user = asked.tgid, rights.user_of(asked)
        self.mounts.nursery.start_soon(self.inside.watch, mount)

    async def _stack(
        self, asked: Asked, kind: str, source: str, target: bytes, flags: int, words: list[str]
    ) -> None:
        """A directory that is copied on write. Who asks may write to the store that he names."""
        self.callers.check("cow")
        by = self.stacking
        by.check(kind)
        words = [await self._store(asked, word) if word.startswith("store=") else word for word in words]
        try:
            found = await self.callers.resolve(asked, os.fsencode(source))
        except OSError as error:
            raise MountError(error.errno or errno.EIO, f"{source}: {error.strerror}") from None
        try:
            wired = self._wired(found.view, kind) if found.special else None
            if not found.view or (found.special and wired is None):
                text = "lies in an entry of several trees: a cow can be of none"
                raise MountError(errno.EINVAL, f"{source} {text}")
            given = stacking.Given(source, found.fd, found.view, found.served, found.readonly, wired)
            how = stacking.parse(words, target)
            real = await self._real(asked, source, how)
            try:
                await by.mount(self.mounts, kind, given, target, flags, how, real)
            finally:
                for one in real:
                    os.close(one.fd)
        finally:
            os.close(found.fd)

    def _wired(self, path: bytes, kind: str) -> Mount | None:
        """The mount by wire that shows what is at a path; None: it is no such. MountError where no cow can be
        upon it.
        """
        top = self.mounts.covering(path)
        if top is None or not top.wire:
            return None
        sharing.stands(top, kind)
        return top

    async def _real(self, asked: Asked, source: str, how: stacking.Words) -> list[stacking.Given]:
        """What of a cow's source stays as it is. MountError."""
        found: list[stacking.Given] = []
        try:
            for path in how.real:
                name = os.path.join(source, os.fsdecode(path))
                try:
                    one = await self.callers.resolve(asked, os.fsencode(name))
                except OSError as error:
                    raise MountError(error.errno or errno.EIO, f"{name}: {error.strerror}") from None
                found.append(stacking.Given(name, one.fd, one.view or None, one.served, one.readonly))
                if one.special or not one.view:
                    text = "lies in an entry of several trees, or by wire, and cannot be shown in a cow"
                    raise MountError(errno.EINVAL, f"{name} {text}")
        except BaseException:
            for given in found:
                os.close(given.fd)
            raise
        return found

    async def _store(self, asked: Asked, word: str) -> str:
        path = word.removeprefix("store=")
        try:
            found = await self.callers.resolve_to_write(asked, os.fsencode(path))
        except OSError as error:
            raise MountError(error.errno or errno.EIO, f"store {path}: {error.strerror}") from None
        try:
            if found.special:
                raise MountError(errno.EINVAL, f"store {path} lies in an entry of several trees, or by wire")
            return "store=" + os.readlink(f"/proc/self/fd/{found.fd}")
        finally:
            os.close(found.fd)


def _device(pid: int, number: int) -> int:
    """A copy of a process's descriptor, if that is a /dev/fuse; else EINVAL, as from the kernel."""
    pidfd = os.pidfd_open(pid)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = int(libc.syscall(_PIDFD_GETFD, pidfd, number, 0))
        if fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(pidfd)
    if os.readlink(f"/proc/self/fd/{fd}") != "/dev/fuse":
        os.close(fd)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    os.set_inheritable(fd, False)
    return fd
