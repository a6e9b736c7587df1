"""Answers what the engine asks: a view's mount(2), umount2(2), opens of /dev/fuse, and what comes by the
door: engine/door.h, by which our own commands ask.

An unmodified FUSE server opens /dev/fuse, calls mount(2) with that descriptor's number in the options,
and serves; fusermount3 does the first two for one that lacks the right, and hands the descriptor over.
Here the device is one of the helper's, and the mount is made there.
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from vuosd.supervisor.log import log
from vuosd.supervisor.mounting import options, rights, stacking, types, unreal, users
from vuosd.supervisor.mounting.confined import STARTS, Confined
from vuosd.supervisor.mounting.door import Door
from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.family import Family
from vuosd.supervisor.mounting.inside import Inside
from vuosd.supervisor.mounting.modules import BuiltIn
from vuosd.supervisor.mounting.mount import UNREAL, WIRE, Mount, Wanted
from vuosd.supervisor.mounting.mounts import Mounts
from vuosd.supervisor.mounting.sockets import Sockets
from vuosd.supervisor.mounting.unmounting import MNT_DETACH, MNT_FORCE
from vuosd.supervisor.session import Session
from vuosd.supervisor.values import Asked, Below, Resolved

if TYPE_CHECKING:
    from vuosd.supervisor.modules.loaded import Modules

_AT_FDCWD = -100
_MNT_EXPIRE, _UMOUNT_NOFOLLOW = 4, 8
_PAGE = 4096
_PIDFD_GETFD = 438
_LARGEST_REQUEST = 8 << 20
"""Bytes of what vuos-run asks for; execve(2) takes 6 MiB of arguments and environment."""
_DEAD = (errno.ENOTCONN, errno.EIO, errno.ECONNABORTED)
_DOOR = struct.Struct("=5Q")
"""struct vu_door: the arguments of a mount(2)."""
_ANSWER = struct.Struct("=i")
"""An errno, before the text."""


Nest = Callable[[Asked, bytes], Awaitable[bytes]]
"""Makes a nested view for the caller, of what vuos-run asks for; what it is to be told."""


class Answerer:
    """Takes and answers, in trio, until it is cancelled."""

    def __init__(
        self,
        session: Session,
        family: Family,
        modules: "Modules",
        built_in: BuiltIn,
        nest: Nest,
        enforce: bool,
        by: stacking.Stacking,
    ) -> None:
        self.stacking = by
        self.session = session
        self.family = family
        self.modules = modules
        self.built_in = built_in
        self.nest = nest
        self.enforce = enforce
        self.sockets = Sockets()
        self.confined = Confined(session, family)
        self._answers: dict[int, Answers] = {}

    async def run(self) -> None:
        fd = self.session.asked_fd()
        while True:
            await trio.lowlevel.wait_readable(fd)
            while (asked := self.session.take()) is not None:
                if (mounts := self.family.spaces.get(asked.space)) is None:
                    self.session.answer(asked.id, error=errno.ESRCH)  # its namespace has ended
                    continue
                answers = self._answers.get(asked.space)
                if answers is None or answers.mounts is not mounts:
                    answers = self._answers[asked.space] = Answers(self, mounts)
                self.family.nursery.start_soon(answers.answer, asked)


class Answers:
    """To the members of one mount namespace."""

    def __init__(self, answerer: Answerer, mounts: Mounts) -> None:
        self.answerer = answerer
        self.session = answerer.session
        self.sockets = answerer.sockets
        self.mounts = mounts
        self.inside = Inside(mounts)
        self.door = Door(mounts, answerer.modules, answerer.built_in, inside=True)

    def check(self, action: str) -> None:
        """MountError (EPERM) unless the view's profile grants it."""
        allow = self.mounts.family.allow.get(self.mounts.space)
        if allow is not None and action not in allow:
            text = f'the profile of this view does not grant it: [control] allow = ["{action}"]'
            raise MountError(errno.EPERM, text)

    async def _module(self, asked: Asked) -> None:
        await self.answerer.modules.answer(asked)

    async def answer(self, asked: Asked) -> None:
        answers: dict[str, Callable[[Asked], Awaitable[None]]] = {
            "open_fuse": self._open,
            "mount": self._mount,
            "umount": self._umount,
            "door": self._door,
            "module": self._module,
        }
        number, said = 0, ""
        try:
            await answers[asked.op](asked)
        except MountError as error:
            log.info("%s by process %d: %s", asked.op, asked.tgid, error)
            number, said = error.errno, str(error)
        except OSError as error:
            number, said = error.errno or errno.EIO, error.strerror or str(error)
        except Exception:
            log.exception(f"{asked.op} by process {asked.tgid} failed")
            number = errno.EIO
        if asked.op not in ("open_fuse", "module") or number:
            self._say(asked, number, said)

    def _say(self, asked: Asked, number: int = 0, said: str | bytes = "") -> None:
        """The answer. What has been answered stays answered."""
        if asked.op != "door":
            self.session.answer(asked.id, error=number)
            return
        with open(os.memfd_create("answer"), "w+b", buffering=0) as file:
            text = said if isinstance(said, bytes) else said.encode("utf-8", "surrogateescape")
            file.write(_ANSWER.pack(number) + text)
            self.session.answer_descriptor(asked.id, file.fileno(), True)

    # /dev/fuse

    async def _open(self, asked: Asked) -> None:
        self.check("mount")
        namespace = await self.mounts.namespace()
        flags = asked.flags & (os.O_ACCMODE | os.O_NONBLOCK)
        fd = self.sockets.open(flags) if namespace.why else await namespace.open_device(flags)
        try:
            self.session.answer_descriptor(asked.id, fd, bool(asked.flags & os.O_CLOEXEC))
        finally:
            os.close(fd)

    # mount(2)

    def _string(self, asked: Asked, argument: int) -> bytes:
        address = asked.args[argument]
        return self.session.read_string(asked.tid, asked.id, address, _PAGE) if address else b""

    async def _resolve(self, asked: Asked, path: bytes, follow: bool = True) -> Resolved:
        """In a thread: it may wait for a server."""
        return await trio.to_thread.run_sync(self.session.resolve, asked.id, _AT_FDCWD, path, follow)

    async def _mount(self, asked: Asked) -> None:
        self.check("mount")
        source, target, kind, data = (os.fsdecode(self._string(asked, number)) for number in (0, 1, 2, 4))
        flags, words = options.parse(options.split(data), options.plain(asked.args[3] & ~STARTS))
        await self._do_mount(asked, kind, source, target, flags, words)

    async def _door(self, asked: Asked) -> None:
        """Our own commands': a mount, or a type "vuos:COMMAND"."""
        request = self.session.read(asked.tid, asked.id, asked.args[5], _DOOR.size)
        source, target, name, flags, words = _DOOR.unpack(request)
        asked = asked._replace(args=(source, target, name, flags, words, 0))
        kind = os.fsdecode(self._string(asked, 2))
        if kind == "vuos:umount":
            await self._unmount(asked, self._string(asked, 1), asked.args[3])
        elif kind == "vuos:run":
            self.check("view")
            rights.check_user(asked)
            if flags > _LARGEST_REQUEST:
                raise MountError(errno.E2BIG, "the command and its environment are too long")
            wanted = await trio.to_thread.run_sync(self.session.read, asked.tid, asked.id, source, flags)
            self._say(asked, said=await self.answerer.nest(asked, wanted))
        elif kind in ("vuos:output", "vuos:below", "vuos:mounted", "vuos:failed"):
            self.check("mount")
            await self._start(asked, kind.removeprefix("vuos:"))
        elif kind.startswith("vuos:"):
            if kind != "vuos:lsmod":
                self.check(kind.removeprefix("vuos:"))
                rights.check_user(asked)
            module, own = (os.fsdecode(self._string(asked, number)) for number in (0, 4))
            said = await self.door.command(kind.removeprefix("vuos:"), module, options.split(own))
            self._say(asked, said=said)
        else:
            await self._mount(asked)

    async def _start(self, asked: Asked, step: str) -> None:
        """Of a server that vumount starts."""
        confined = self.answerer.confined
        token, otherwise = (os.fsdecode(self._string(asked, number)) for number in (0, 4))
        if step == "output":
            confined.output(asked, token)
        elif step == "below":
            confined.below(asked, token)
        elif step == "mounted":
            await confined.mounted(token)
        else:
            await confined.failed(token, otherwise)

    async def _do_mount(
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
            place = await self._resolve(asked, os.fsencode(target))
        except OSError as error:
            hint = " (vumount -o create makes it)" if error.errno == errno.ENOENT else ""
            raise MountError(error.errno or errno.EIO, f"{target}: {error.strerror}{hint}") from None
        try:
            there = await trio.to_thread.run_sync(os.stat, place.fd)
            directory = stat.S_ISDIR(there.st_mode)
        finally:
            os.close(place.fd)
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
            await self._mount_device(asked, kind, source, place.view, directory, flags, words, int(device))
        elif kind in stacking.TYPES:
            if not directory:
                raise MountError(errno.ENOTDIR, f"{target} is no directory")
            await self._stack(asked, kind, source, place.view, flags, words)
        else:
            await self._serve(asked, kind, source, place.view, directory, flags, words)

    async def _stack(
        self, asked: Asked, kind: str, source: str, target: bytes, flags: int, words: list[str]
    ) -> None:
        """A directory that is copied on write. Who asks may write to the store that he names."""
        self.check("cow")
        by = self.answerer.stacking
        by.check(kind)
        words = [await self._store(asked, word) if word.startswith("store=") else word for word in words]
        try:
            found = await self._resolve(asked, os.fsencode(source))
        except OSError as error:
            raise MountError(error.errno or errno.EIO, f"{source}: {error.strerror}") from None
        try:
            if found.special or not found.view:
                text = "lies in an entry of several trees, or by wire: a cow can be of neither"
                raise MountError(errno.EINVAL, f"{source} {text}")
            given = stacking.Given(source, found.fd, found.view, found.served, found.readonly)
            how = stacking.parse(words, target)
            real = await self._real(asked, source, how)
            try:
                await by.mount(self.mounts, kind, given, target, flags, how, real)
            finally:
                for one in real:
                    os.close(one.fd)
        finally:
            os.close(found.fd)

    async def _real(self, asked: Asked, source: str, how: stacking.Words) -> list[stacking.Given]:
        """What of a cow's source stays as it is. MountError."""
        found: list[stacking.Given] = []
        try:
            for path in how.real:
                name = os.path.join(source, os.fsdecode(path))
                try:
                    one = await self._resolve(asked, os.fsencode(name))
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
            found = await trio.to_thread.run_sync(
                lambda: self.session.resolve(asked.id, _AT_FDCWD, os.fsencode(path), write=True)
            )
        except OSError as error:
            raise MountError(error.errno or errno.EIO, f"store {path}: {error.strerror}") from None
        try:
            if found.special:
                raise MountError(errno.EINVAL, f"store {path} lies in an entry of several trees, or by wire")
            return "store=" + os.readlink(f"/proc/self/fd/{found.fd}")
        finally:
            os.close(found.fd)

    async def _absent(self, asked: Asked, target: str) -> bytes:
        """A place in the view at which nothing need be, but in a directory."""
        path = os.fsencode(target)
        try:
            try:
                found = await self._resolve(asked, path)
            except FileNotFoundError:
                found = await self._resolve(asked, (os.path.dirname(path.rstrip(b"/")) or b".") + b"/.")
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

    async def _mount_device(
        self,
        asked: Asked,
        kind: str,
        source: str,
        target: bytes,
        directory: bool,
        flags: int,
        words: list[str],
        number: int,
    ) -> None:
        """The last step of a FUSE server's start."""
        if kind.partition(".")[0] not in ("fuse", "fuseblk"):
            raise MountError(errno.ENODEV, f'type "{kind}" takes no descriptor')
        name = os.readlink(f"/proc/{asked.tgid}/fd/{number}")
        if (sock := self.sockets.take(name)) >= 0:
            mount = Mount(kind, source, target, flags & options.KEPT, "", transport=WIRE, path=b"")
            mount.device, mount.pid, mount.user = name, asked.tgid, rights.user_of(asked)
            if not (asked.op == "door" and asked.args[3] & STARTS):
                self._say(asked)  # it speaks only when it has mounted
            await self.mounts.mount_socket(mount, sock, directory)
            self.mounts.nursery.start_soon(self.inside.watch, mount)
            return
        device = _device(asked.tgid, number)
        data = ",".join(word for word in words if not word.startswith("fd="))
        mount = await self.mounts.mount_device(kind, source, target, directory, flags, data, device)
        mount.pid, mount.user = asked.tgid, rights.user_of(asked)
        self.mounts.nursery.start_soon(self.inside.watch, mount)

    def _confines(self, kind: str, found: Resolved | None, words: list[str]) -> bool:
        """Whether a server has to be a process of the view: always under enforcement, else where it is given
        a directory, and could show what the view hides.
        """
        if self.answerer.enforce:
            return True
        module = self.answerer.modules.for_type(kind) is not None
        transport = any(word.startswith("transport=") for word in words)
        return found is not None and not module and not transport and stat.S_ISDIR(os.stat(found.fd).st_mode)

    async def _serve(
        self,
        asked: Asked,
        kind: str,
        source: str,
        target: bytes,
        directory: bool,
        flags: int,
        words: list[str],
    ) -> None:
        """A file system of a type of ours."""
        if not kind:
            raise MountError(errno.EINVAL, "which type of file system? (-t TYPE)")
        kind, code = await self._code(asked, kind)
        path, fd = source, -1
        try:
            found = await self._resolve(asked, os.fsencode(source)) if source else None
        except OSError as error:
            if source.startswith("/"):
                raise MountError(error.errno or errno.EIO, f"{source}: {error.strerror}") from None
            found = None  # no path: the server knows what it is
        fds = {}
        within, source_fd = b"", -1
        try:
            if found is not None:
                fd = found.fd
            starts = asked.op == "door" and bool(asked.args[3] & STARTS)
            if self.answerer.enforce and not starts:
                raise MountError(errno.EPERM, "in an enforcing view it is mounted with vumount, or by hand")
            if self.answerer.enforce and (module := self.answerer.modules.for_type(kind)) is not None:
                text = (
                    f"type {kind} is module {module.name}'s: in an enforcing view it is mounted from outside"
                )
                raise MountError(errno.EPERM, f"{text}, with `vuctl mount`")
            if starts and self._confines(kind, found, words):
                plan = self.answerer.confined.plan
                self._say(
                    asked, said=await plan(asked, self.mounts, kind, found, source, target, flags, words)
                )
                return
            rights.check_user(asked)
            if found is not None:
                real = os.readlink(b"/proc/self/fd/%d" % fd)
                if not self.mounts.readable_outside(real):
                    if not await trio.to_thread.run_sync(_has_open, asked.tgid, fd):
                        self._check(source, real)
                    within, flags = real, flags | options.MS_RDONLY
                    source_fd = os.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_CLOEXEC)
                elif found.special:
                    found, flags = await self._of_stack(asked, kind, source, found, flags, words)
                    fd, real = found.fd, os.readlink(b"/proc/self/fd/%d" % found.fd)
                path = os.fsdecode(found.view)
                if real != found.view:
                    fds = {fd: fd}  # the server is outside of the view, where that path leads elsewhere
                    path = f"/proc/self/fd/{fd}"
                if found.readonly:
                    flags |= options.MS_RDONLY
            wanted = Wanted(code, source, path, target, directory, flags, ",".join(words), fds, inside=True)
            mount = await self.mounts.mount(wanted)
            mount.within = within
            mount.keep(source_fd)
        finally:
            for opened in (fd, source_fd):
                if opened >= 0:
                    os.close(opened)

    async def _code(self, asked: Asked, kind: str) -> tuple[str, str]:
        """A type by the path of its code, which the caller names as it sees it: as the view names it, and
        where the file really is. Others stay as they are. MountError.
        """
        path, colon, name = kind.partition(":")
        if "/" not in path:
            return kind, kind
        try:
            found = await self._resolve(asked, os.fsencode(path))
        except OSError as error:
            raise MountError(error.errno or errno.EIO, f"{path}: {error.strerror}") from None
        try:
            real = os.readlink(b"/proc/self/fd/%d" % found.fd)
            if not self.mounts.readable_outside(real):
                self._check(path, real)
            seen, real_name = (os.fsdecode(place) + colon + name for place in (found.view, real))
            return seen, real_name
        finally:
            os.close(found.fd)

    async def _of_stack(
        self, asked: Asked, kind: str, source: str, found: Resolved, flags: int, words: list[str]
    ) -> tuple[Resolved, int]:
        """What a server outside of the view gets of an entry of several trees, and the flags of its mount: a
        file as it is, or where it writes, the copy in the layer that open(2) makes then. MountError.
        """
        if stat.S_ISDIR(os.stat(found.fd).st_mode):
            text = (
                "lies in an entry of several trees (cow, merge), which only processes of the view see whole"
            )
            hint = "vumount without transport= starts the server as one"
            raise MountError(errno.EOPNOTSUPP, f"{source} {text}: {hint}")
        if flags & options.MS_RDONLY or found.readonly or self.answerer.modules.for_type(kind) is not None:
            return found, flags | options.MS_RDONLY
        stand_in = f"/proc/self/fd/{found.fd}"
        if not await trio.to_thread.run_sync(types.writes, kind, stand_in, words, self.mounts.env):
            return found, flags
        path = os.fsencode(source)
        try:
            taken = await trio.to_thread.run_sync(
                lambda: self.session.resolve(asked.id, _AT_FDCWD, path, write=True)
            )
        except OSError as error:
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):  # as losetup(8) does it
                return found, flags | options.MS_RDONLY
            text = f"{source} cannot be copied into the layer: {error.strerror}"
            raise MountError(error.errno or errno.EIO, text) from None
        os.close(found.fd)
        return taken, flags

    async def _bind(self, asked: Asked, source: str, target: bytes, directory: bool, flags: int) -> None:
        try:
            found = await self._resolve(asked, os.fsencode(source))
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

    def _check(self, source: str, real: bytes) -> None:
        """MountError when a server cannot have a source that is there for the view's processes."""
        if not self.mounts.readable_outside(real):
            text = f"{source} lies in a wire mount, which only processes of the view can read"
            raise MountError(errno.EOPNOTSUPP, text)

    async def _move(self, asked: Asked, source: str, target: bytes) -> None:
        found = await self._resolve(asked, os.fsencode(source))
        os.close(found.fd)
        await self.mounts.move(found.view, target)

    # umount2(2)

    async def _umount(self, asked: Asked) -> None:
        await self._unmount(asked, self._string(asked, 0), asked.args[1])

    async def _unmount(self, asked: Asked, path: bytes, flags: int) -> None:
        self.check("umount")
        known = MNT_FORCE | MNT_DETACH | _MNT_EXPIRE | _UMOUNT_NOFOLLOW
        if flags & ~known or flags & _MNT_EXPIRE:
            raise OSError(errno.EINVAL, "flags")  # a mount of a view does not expire
        try:
            found = await self._resolve(asked, path, not flags & _UMOUNT_NOFOLLOW)
            os.close(found.fd)
            target = found.view
        except OSError as error:
            target = os.path.normpath(path)
            if error.errno not in _DEAD or self.mounts.at(target) is None:
                raise
        rights.check_mount(asked, self.mounts.at(target))
        by = (asked.tgid, users.parent(asked.tgid))  # fusermount is asked by the server
        for pid in by:
            if self.mounts.is_left(target, pid):
                text = f"{os.fsdecode(target)} is not mounted by this server any more"
                raise MountError(errno.EINVAL, text)
        await self.mounts.unmount(target, flags, by)


def _has_open(pid: int, fd: int) -> bool:
    """Whether a process has opened a regular file, so that in a wire mount's cache it has its content;
    vumount does that.
    """
    wanted = os.fstat(fd)
    if not stat.S_ISREG(wanted.st_mode):
        return False
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.path.samestat(wanted, os.stat(f"/proc/{pid}/fd/{name}")):
                return True
        except OSError:
            continue
    return False


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
