"""A mount(2) of a type of ours: what its server is given, and whether it has to be a process of the view."""

import errno
import os
import stat
from typing import TYPE_CHECKING

import trio

from vuosd.supervisor.mounting import options, rights, types
from vuosd.supervisor.mounting.callers import Callers, Request
from vuosd.supervisor.mounting.confined import STARTS
from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.mount import Wanted
from vuosd.supervisor.values import Asked, Resolved

if TYPE_CHECKING:
    from vuosd.supervisor.mounting.asked import Answerer


class ServeCall:
    """Those of one mount namespace."""

    def __init__(self, answerer: "Answerer", callers: Callers) -> None:
        self.answerer, self.callers, self.mounts = answerer, callers, callers.mounts

    async def run(self, asked: Asked, request: Request) -> None:
        """A file system of a type of ours."""
        kind, source, target, directory, flags, words = request
        if not kind:
            raise MountError(errno.EINVAL, "which type of file system? (-t TYPE)")
        kind, code = await self._code(asked, kind)
        path, fd = source, -1
        try:
            found = await self.callers.resolve(asked, os.fsencode(source)) if source else None
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
                self.callers.say(
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

    def _confines(self, kind: str, found: Resolved | None, words: list[str]) -> bool:
        """Whether a server has to be a process of the view: always under enforcement, else where it is given
        a directory, and could show what the view hides.
        """
        if self.answerer.enforce:
            return True
        module = self.answerer.modules.for_type(kind) is not None
        transport = any(word.startswith("transport=") for word in words)
        return found is not None and not module and not transport and stat.S_ISDIR(os.stat(found.fd).st_mode)

    async def _code(self, asked: Asked, kind: str) -> tuple[str, str]:
        """A type by the path of its code, which the caller names as it sees it: as the view names it, and
        where the file really is. Others stay as they are. MountError.
        """
        path, colon, name = kind.partition(":")
        if "/" not in path or path.startswith("fuse."):
            return kind, kind
        try:
            found = await self.callers.resolve(asked, os.fsencode(path))
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
            taken = await self.callers.resolve_to_write(asked, path)
        except OSError as error:
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):  # as losetup(8) does it
                return found, flags | options.MS_RDONLY
            text = f"{source} cannot be copied into the layer: {error.strerror}"
            raise MountError(error.errno or errno.EIO, text) from None
        os.close(found.fd)
        return taken, flags

    def _check(self, source: str, real: bytes) -> None:
        """MountError when a server cannot have a source that is there for the view's processes."""
        if not self.mounts.readable_outside(real):
            text = f"{source} lies in a wire mount, which only processes of the view can read"
            raise MountError(errno.EOPNOTSUPP, text)


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
