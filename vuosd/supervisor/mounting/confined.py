"""Servers that are confined as who mounts is: vumount starts them, as processes of the view, in a namespace
that is the one below their mount (launcher/serving.c).

    vumount ──mount──▶ `plan`: a token, and how it is started   │ vuos:output   where it prints to
            ◀─────────                                          │ vuos:below    by the server, at first
        fork: the server ──open /dev/fuse, mount: as by hand──▶ │ vuos:mounted  is it there?
                                                                │ vuos:failed   it is not; why?

So it sees what its starter sees: what the view hides is not there for it, what is read-only is so for it, and
under enforcement the kernel's floor is under it.
"""

import errno
import os
import secrets
import stat

import trio

from vuosd.supervisor.log import log
from vuosd.supervisor.mounting import options, types
from vuosd.supervisor.mounting.errors import MountError, from_os
from vuosd.supervisor.mounting.family import Family
from vuosd.supervisor.mounting.mount import Mount
from vuosd.supervisor.mounting.mounts import Mounts
from vuosd.supervisor.mounting.output import Output
from vuosd.supervisor.mounting.unmounting import MNT_DETACH
from vuosd.supervisor.session import Session
from vuosd.supervisor.values import Asked, Placed, Resolved
from vuosd.views import Kind

DEVICE = "/dev/fd/9"
"""As VU_DOOR_DEVICE has it."""
STARTS = 1 << 63
"""VU_DOOR_STARTS."""
_SECONDS = 60.0
_LOOK_SECONDS = 0.2
_WAIT_SECONDS = 1.0
"""For a mount; then who waits is told that it is not there, and asks again."""
_SILENT_SECONDS = 0.01
"""The same, when its server has closed what it prints to: it has ended, or is in the background."""


class _Start:
    """One server that is being started."""

    def __init__(self, target: bytes, mounts: Mounts, name: str) -> None:
        self.target, self.mounts = target, mounts
        self.before = set(mounts.all())
        self.space = 0
        """The namespace below, made before there is the mount; 0 once it is a server's, and without one."""
        self.output = Output(name)

    def mount(self) -> Mount | None:
        """What has come of it."""
        there = self.mounts.at(self.target)
        return there if there not in self.before else None

    async def there(self) -> None:
        """Waits for the mount, for a while."""
        silent = self.output.done.is_set()
        with trio.move_on_after(_SILENT_SECONDS if silent else _WAIT_SECONDS):
            async with trio.open_nursery() as nursery:
                if not silent:
                    nursery.start_soon(self._until_silent, nursery.cancel_scope)
                while self.mount() is None:
                    await self.mounts.another()
                nursery.cancel_scope.cancel()

    async def _until_silent(self, scope: trio.CancelScope) -> None:
        await self.output.done.wait()
        scope.cancel()


class Confined:
    """Those of one session."""

    def __init__(self, session: Session, family: Family) -> None:
        self.session = session
        self.family = family
        self._starts: dict[str, _Start] = {}

    async def plan(
        self,
        asked: Asked,
        mounts: Mounts,
        kind: str,
        found: Resolved | None,
        source: str,
        target: bytes,
        flags: int,
        words: list[str],
    ) -> bytes:
        """What vumount is told; MountError. `found` is the source, where that is a path of the view."""
        path = os.fsdecode(found.view) if found is not None else source
        stand_in = f"/proc/self/fd/{found.fd}" if found is not None else source
        system, rest = await trio.to_thread.run_sync(types.find, kind, stand_in)
        if found is not None and found.readonly:
            flags |= options.MS_RDONLY
        text = ",".join((["ro"] if flags & options.MS_RDONLY else []) + words)
        by_descriptor = system.takes_descriptor(mounts.env) and not system.prefers_to_mount
        place = DEVICE if by_descriptor else os.fsdecode(target)
        command = await trio.to_thread.run_sync(system.command, rest, place, text, mounts.env)
        # Types look at their source where we are; the server finds it by its path in the view.
        argv = [word.replace(stand_in, path) if stand_in else word for word in command.argv]
        directory = found is not None and stat.S_ISDIR(os.stat(found.fd).st_mode)
        token = secrets.token_hex(8)
        start = self._starts[token] = _Start(target, mounts, f"{kind} at {os.fsdecode(target)}")
        full = not by_descriptor and await trio.to_thread.run_sync(self._is_full, asked, target)
        if directory or full:
            start.space = self._new_space(mounts)
        if full:
            self._empty(start.space, target, mounts)
        self.family.nursery.start_soon(start.output.read)
        self.family.nursery.start_soon(self._expire, token)
        how = ("d" if by_descriptor else "") + ("b" if start.space else "")
        data = ",".join((["ro"] if command.readonly else []) + list(command.kernel)) if by_descriptor else ""
        env = [f"{name}={value}" for name, value in command.env.items()]
        fields = ["serve", token, how, command.type, data, str(len(argv)), *argv, str(len(env)), *env]
        return b"".join(os.fsencode(field) + b"\0" for field in fields)

    def _is_full(self, asked: Asked, target: bytes) -> bool:
        """Whether a directory has something in it: libfuse 2 mounts on no such one."""
        try:
            fd = self.session.resolve(asked.id, -100, target).fd
        except OSError:
            return False
        try:
            return bool(os.listdir(f"/proc/self/fd/{fd}"))
        except OSError:
            return False
        finally:
            os.close(fd)

    def _empty(self, space: int, target: bytes, mounts: Mounts) -> None:
        """In the server's own namespace an empty directory lies there."""
        fd = os.open(mounts.scratch.make(0o700), os.O_PATH | os.O_CLOEXEC)
        path = os.readlink(b"/proc/self/fd/%d" % fd)
        self.session.mount(Placed(Kind.BIND, True, target, fd, path), space)

    async def _expire(self, token: str) -> None:
        await trio.sleep(_SECONDS)
        self._forget(token)

    def _forget(self, token: str) -> None:
        start = self._starts.pop(token, None)
        if start is None:
            return
        if start.output.write >= 0:
            start.output.given()
        if start.space:
            self._end_space(start.space)

    def _start(self, token: str) -> _Start:
        try:
            return self._starts[token]
        except KeyError:
            raise MountError(errno.ESRCH, "no server is being started by that token") from None

    # What vumount and its child ask, by the names of engine/door.h

    def output(self, asked: Asked, token: str) -> None:
        """Answered by the descriptor itself."""
        start = self._start(token)
        self.session.answer_descriptor(asked.id, start.output.write, True)
        start.output.given()

    def below(self, asked: Asked, token: str) -> None:
        """The caller sees the view as it is now, whatever is mounted; what it mounts, its starter has."""
        start = self._start(token)
        if not start.space:
            raise MountError(errno.EINVAL, "that server has its namespace already")
        self.session.enter(asked.id, start.space)
        self.family.nursery.start_soon(self._until_left, start.space)
        start.space = 0

    def _new_space(self, mounts: Mounts) -> int:
        try:
            space = self.session.new_space(mounts.space)
        except OSError as error:
            raise from_os(error, "a namespace for its server") from None
        self.family.spaces[space] = mounts
        self.family.allow[space] = self.family.allow.get(mounts.space)
        return space

    def _end_space(self, space: int) -> None:
        self.family.forget(space)
        self.session.end_space(space)

    async def _until_left(self, space: int) -> None:
        await self.family.left(space)
        self._end_space(space)

    async def mounted(self, token: str) -> None:
        """Returns when it is there, or MountError (EAGAIN): not yet, or never, since its server has ended."""
        start = self._start(token)
        await start.there()
        if (mount := start.mount()) is None:
            raise MountError(errno.EAGAIN, "")
        mount.started = True

    async def failed(self, token: str, otherwise: str) -> None:
        """MountError, with what the server has said."""
        start = self._start(token)
        with trio.move_on_after(_LOOK_SECONDS):
            await start.output.done.wait()
        text = start.output.reason() or otherwise
        if (mount := start.mount()) is not None:
            log.info("%s: %s", mount.place, text)
            await start.mounts.unmount(start.target, MNT_DETACH)
        self._forget(token)
        raise MountError(errno.EIO, text or "it could not be mounted")
