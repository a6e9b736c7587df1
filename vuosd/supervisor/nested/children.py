"""The nested views of a session: made when vuos-run asks for one, ended when no process is left in it."""

import errno
import os
import stat
from typing import TYPE_CHECKING, Any

import trio

from vuosd.supervisor.eyes import Caller
from vuosd.supervisor.log import log
from vuosd.supervisor.mounting import sharing
from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.mounts import Mounts
from vuosd.supervisor.mounting.options import MS_RDONLY
from vuosd.supervisor.mounting.profile import wanted
from vuosd.supervisor.nested.prepare import Nested, prepare
from vuosd.supervisor.prepared import Refused
from vuosd.supervisor.request import Request, RequestError
from vuosd.supervisor.values import Asked
from vuosd.views import Entry, View

if TYPE_CHECKING:
    from vuosd.supervisor.mounting.family import Family
    from vuosd.supervisor.running import Running


class Child:
    """One nested view."""

    def __init__(self, space: int, asked: Asked, name: str, mounts: Mounts, view: View) -> None:
        self.space, self.name, self.mounts, self.view = space, name, mounts, view
        self.entering = self.entries = 0
        """How many launchers are about to enter it, and how many ever were."""
        self.ended = False
        self.pid, self.parent = asked.tgid, asked.space
        """The process that it was made for, and the namespace that this was in."""

    def about(self) -> dict[str, Any]:
        return {"namespace": self.space, "name": self.name, "pid": self.pid, "parent": self.parent}


class Children:
    """Those of one session."""

    def __init__(self, running: "Running", family: "Family") -> None:
        self.running = running
        self.session = running.session
        self.family = family
        self.all: dict[int, Child] = {}

    def views(self, space: int) -> list[View]:
        """Those that a process in a namespace is in, outermost first, without the session's own."""
        found = []
        while (child := self.all.get(space)) is not None:
            found.append(child.view)
            space = child.parent
        return found[::-1]

    async def make(self, asked: Asked, wanted: bytes) -> bytes:
        """A nested view for the caller, who is in it from then on. What it is told: the directory to go
        to and the command. MountError.
        """
        caller = Caller(self.session, asked.id)
        if os.stat(f"/proc/{asked.tgid}").st_uid != os.geteuid():
            raise MountError(errno.EPERM, "only processes of the user whose view this is can nest another")
        running = self.running
        try:
            cwd = await trio.to_thread.run_sync(caller.cwd)
            request = Request(wanted, cwd)
            nested = await trio.to_thread.run_sync(
                prepare,
                request,
                caller,
                asked.space,
                running.prepared,
                running.scratch,
                [mount for mount in self.family.each() if mount.wire],
            )
        except Refused as refused:
            raise MountError(errno.EINVAL, str(refused)) from None
        except RequestError as error:
            raise MountError(errno.EINVAL, f"bad request: {error}") from None
        child = await self._begin(asked, nested, request.variables())
        for entry in nested.late:
            await self._mount(child, caller, entry)
        return b"cwd\0" + nested.cwd + b"\0" + nested.command

    async def _begin(self, asked: Asked, nested: Nested, env: dict[str, str]) -> Child:
        """The namespace, with the caller in it."""
        left = [one.placed.source for one in nested.entries]
        space = 0
        try:
            space = self.session.new_space(asked.space)
            like = self.family.spaces[asked.space]
            mounts = self.family.spaces[space] = Mounts(self.family, self.running.scratch, env, space, like)
            for placed, below, wire in nested.entries:
                held = sharing.carried(mounts, below)
                if wire is not None:
                    held.append(wire)
                    placed = sharing.shown(wire, placed)
                self.session.mount(placed, space, below, first=True, wire=wire.wire if wire else 0)
                left.remove(placed.source)
                mounts.covered(placed.target)
                mounts.held += held
            self.session.enter(asked.id, space)
        except OSError as error:
            for fd in left:
                if fd >= 0:
                    os.close(fd)
            if space:
                self._forget(space)
            text = "there are too many" if error.errno == errno.ENOSPC else error.strerror or str(error)
            raise MountError(error.errno or errno.EIO, f"no nested view: {text}") from None
        outer, own = self.family.allow.get(asked.space), nested.view.allow
        self.family.allow[space] = own if outer is None else outer if own is None else outer & own
        child = self.all[space] = Child(space, asked, nested.name, mounts, nested.view)
        log.info("nested view %d (%s) for process %d", space, nested.name, asked.tgid)
        self.family.nursery.start_soon(self._until_left, child)
        return child

    async def _mount(self, child: Child, caller: Caller, entry: Entry) -> None:
        """A file system of its profile; the caller sees the namespace already."""
        want = wanted(entry)

        def look() -> bool:
            found = caller.look(entry.target)
            try:
                return stat.S_ISDIR(os.stat(found.fd).st_mode)
            finally:
                os.close(found.fd)

        fd = -1
        try:
            directory = await trio.to_thread.run_sync(look)
            if "/" in (code := want.type.partition(":"))[0]:
                there = await trio.to_thread.run_sync(caller.look, os.fsencode(code[0]))
                fd = there.fd
                want = want._replace(type=os.readlink(f"/proc/self/fd/{fd}") + code[1] + code[2])
                os.close(fd)
                fd = -1
            if want.path.startswith("/"):
                found = await trio.to_thread.run_sync(caller.look, os.fsencode(want.path))
                fd = found.fd
                if not child.mounts.readable_outside(os.readlink(f"/proc/self/fd/{fd}".encode())):
                    text = "lies in a wire mount, which only processes of the view can read"
                    raise MountError(errno.EOPNOTSUPP, f"{want.source} {text}")
                if found.readonly or found.special:
                    want = want._replace(flags=want.flags | MS_RDONLY)
                want = want._replace(path=f"/proc/self/fd/{fd}", fds={fd: fd})
            await child.mounts.mount(want._replace(directory=directory, inside=True))
        except MountError as error:
            raise MountError(error.errno, f"{os.fsdecode(entry.target)}: {error}") from None
        except OSError as error:
            raise MountError(error.errno or errno.EIO, f"{want.source}: {error.strerror}") from None
        finally:
            if fd >= 0:
                os.close(fd)

    async def _until_left(self, child: Child) -> None:
        entries = -1
        while child.entering or entries != child.entries:
            entries = child.entries  # who enters meanwhile may be nobody that `left` could have seen
            await self.family.left(child.space)
        child.ended = True
        log.info("nested view %d (%s) has ended", child.space, child.name)
        await child.mounts.end()
        self._forget(child.space)

    def _forget(self, space: int) -> None:
        self.all.pop(space, None)
        self.family.forget(space)
        self.session.end_space(space)
