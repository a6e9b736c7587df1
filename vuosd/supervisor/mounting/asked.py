"""Answers what the engine asks: a view's mount(2), umount2(2), opens of /dev/fuse, and what comes by the
door: engine/door.h, by which our own commands ask.

An unmodified FUSE server opens /dev/fuse, calls mount(2) with that descriptor's number in the options,
and serves; fusermount3 does the first two for one that lacks the right, and hands the descriptor over.
Here the device is one of the helper's, and the mount is made there.
"""

import errno
import os
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from vuosd.supervisor.log import log
from vuosd.supervisor.mounting import options, rights, stacking, users
from vuosd.supervisor.mounting.callers import Callers
from vuosd.supervisor.mounting.confined import STARTS, Confined
from vuosd.supervisor.mounting.door import Door
from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.family import Family
from vuosd.supervisor.mounting.modules import BuiltIn
from vuosd.supervisor.mounting.mount_call import MountCall
from vuosd.supervisor.mounting.mounts import Mounts
from vuosd.supervisor.mounting.sockets import Sockets
from vuosd.supervisor.mounting.unmounting import MNT_DETACH, MNT_FORCE
from vuosd.supervisor.session import Session
from vuosd.supervisor.values import Asked

if TYPE_CHECKING:
    from vuosd.supervisor.modules.loaded import Modules

_MNT_EXPIRE, _UMOUNT_NOFOLLOW = 4, 8
_LARGEST_REQUEST = 8 << 20
"""Bytes of what vuos-run asks for; execve(2) takes 6 MiB of arguments and environment."""
_DEAD = (errno.ENOTCONN, errno.EIO, errno.ECONNABORTED)
_DOOR = struct.Struct("=5Q")
"""struct vu_door: the arguments of a mount(2)."""

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
        self.callers = Callers(answerer.session, mounts)
        self.mount_call = MountCall(answerer, self.callers)
        self.door = Door(mounts, answerer.modules, answerer.built_in, inside=True)

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
            self.callers.say(asked, number, said)

    # /dev/fuse

    async def _open(self, asked: Asked) -> None:
        self.callers.check("mount")
        namespace = await self.mounts.namespace()
        flags = asked.flags & (os.O_ACCMODE | os.O_NONBLOCK)
        fd = self.sockets.open(flags) if namespace.why else await namespace.open_device(flags)
        try:
            self.session.answer_descriptor(asked.id, fd, bool(asked.flags & os.O_CLOEXEC))
        finally:
            os.close(fd)

    # mount(2)

    async def _mount(self, asked: Asked) -> None:
        self.callers.check("mount")
        texts = (self.callers.string(asked, number) for number in (0, 1, 2, 4))
        source, target, kind, data = map(os.fsdecode, texts)
        flags, words = options.parse(options.split(data), options.plain(asked.args[3] & ~STARTS))
        await self.mount_call.run(asked, kind, source, target, flags, words)

    async def _door(self, asked: Asked) -> None:
        """Our own commands': a mount, or a type "vuos:COMMAND"."""
        request = self.session.read(asked.tid, asked.id, asked.args[5], _DOOR.size)
        source, target, name, flags, words = _DOOR.unpack(request)
        asked = asked._replace(args=(source, target, name, flags, words, 0))
        kind = os.fsdecode(self.callers.string(asked, 2))
        if kind == "vuos:umount":
            await self._unmount(asked, self.callers.string(asked, 1), asked.args[3])
        elif kind == "vuos:run":
            self.callers.check("view")
            rights.check_user(asked)
            if flags > _LARGEST_REQUEST:
                raise MountError(errno.E2BIG, "the command and its environment are too long")
            wanted = await trio.to_thread.run_sync(self.session.read, asked.tid, asked.id, source, flags)
            self.callers.say(asked, said=await self.answerer.nest(asked, wanted))
        elif kind in ("vuos:output", "vuos:below", "vuos:mounted", "vuos:failed"):
            self.callers.check("mount")
            await self._start(asked, kind.removeprefix("vuos:"))
        elif kind.startswith("vuos:"):
            if kind != "vuos:lsmod":
                self.callers.check(kind.removeprefix("vuos:"))
                rights.check_user(asked)
            module, own = (os.fsdecode(self.callers.string(asked, number)) for number in (0, 4))
            said = await self.door.command(kind.removeprefix("vuos:"), module, options.split(own))
            self.callers.say(asked, said=said)
        else:
            await self._mount(asked)

    async def _start(self, asked: Asked, step: str) -> None:
        """Of a server that vumount starts."""
        confined = self.answerer.confined
        token, otherwise = (os.fsdecode(self.callers.string(asked, number)) for number in (0, 4))
        if step == "output":
            confined.output(asked, token)
        elif step == "below":
            confined.below(asked, token)
        elif step == "mounted":
            await confined.mounted(token)
        else:
            await confined.failed(token, otherwise)

    # umount2(2)

    async def _umount(self, asked: Asked) -> None:
        await self._unmount(asked, self.callers.string(asked, 0), asked.args[1])

    async def _unmount(self, asked: Asked, path: bytes, flags: int) -> None:
        self.callers.check("umount")
        known = MNT_FORCE | MNT_DETACH | _MNT_EXPIRE | _UMOUNT_NOFOLLOW
        if flags & ~known or flags & _MNT_EXPIRE:
            raise OSError(errno.EINVAL, "flags")  # a mount of a view does not expire
        try:
            found = await self.callers.resolve(asked, path, not flags & _UMOUNT_NOFOLLOW)
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
