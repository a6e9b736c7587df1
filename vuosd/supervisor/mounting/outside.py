"""Mounting from outside of the view: `vuctl mount`, `vuctl umount`, `vuctl mounts`. Nobody of the view
asks, so its paths are looked up by what it was made of and what has been mounted since.
"""

import errno
import os
import stat
from typing import TYPE_CHECKING, Any

import trio

from vuosd.supervisor.mounting import options, stacking, unreal
from vuosd.supervisor.mounting.door import Door
from vuosd.supervisor.mounting.errors import MountError, from_os
from vuosd.supervisor.mounting.mount import UNREAL, Mount, Wanted
from vuosd.supervisor.mounting.mounts import Mounts
from vuosd.supervisor.values import Placed, Stacked
from vuosd.views.table import fold

if TYPE_CHECKING:
    from vuosd.supervisor.running import Running

_LINK = "a symbolic link is on the way: give the path that it leads to"


class Outside:
    """Of one session."""

    def __init__(self, running: "Running", mounts: Mounts, door: Door, by: stacking.Stacking) -> None:
        self.stacking = by
        self.running = running
        self.mounts = mounts
        self.door = door

    async def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """To a question of vuctl; {"error": …} is for the person."""
        try:
            if question["ask"] == "mount":
                if self._meant(question.get("state", 0)) is not self.mounts:
                    text = "in a nested view something is mounted from inside: vumount"
                    raise MountError(errno.EOPNOTSUPP, text)
                return {"mount": (await self.mount(question)).about()}
            mounts = self._meant(question.get("state", 0))
            if question["ask"] == "below":
                return self.below(_absolute(question["target"]))
            if question["ask"] == "umount":
                await mounts.unmount(_absolute(question["target"]), question["flags"])
                return {}
            if question["ask"] == "mounts":
                return {"mounts": [self.about(mount) for mount in mounts.all()]}
            return {"said": await self.door.command(question["ask"], question["module"], question["words"])}
        except MountError as error:
            return {"error": str(error)}

    def _meant(self, state: int) -> Mounts:
        """The mounts that a process of this state sees."""
        try:
            space = self.running.session.space_of(state)
        except OSError:
            space = 0  # it has ended meanwhile, or is no member
        return self.mounts.family.spaces.get(space, self.mounts)

    def about(self, mount: Mount) -> dict[str, Any]:
        """With the requests that wait for its server, and how long the oldest has waited, in seconds;
        None where that is not known.
        """
        waiting, oldest = self.mounts.waiting(mount)
        return {**mount.about(), "waiting": waiting, "oldest": oldest}

    def below(self, target: bytes) -> dict[str, int | bool]:
        """Where the lowest tree of a cow is to be had, for `vuctl diff`: a descriptor of this process;
        `wired`: it leads to anchors, which have no data.
        """
        mount = next(
            (mount for mount in reversed(self.mounts.all()) if mount.stack and mount.target == target), None
        )
        if mount is None or mount.stack is None:
            raise MountError(errno.EINVAL, f"{os.fsdecode(target)} is not a cow any more")
        stack = mount.stack
        return {"process": os.getpid(), "descriptor": stack.descriptors[-1], "wired": bool(stack.wire)}

    async def mount(self, question: dict[str, Any]) -> Mount:
        flags, words = options.parse(options.split(question["options"]), question["flags"])
        if flags & (options.MS_BIND | options.MS_MOVE | options.MS_REMOUNT):
            raise MountError(errno.EINVAL, "bind, move and remount can be asked for only inside the view")
        target = _absolute(question["target"])
        if question["type"] == UNREAL:
            return unreal.show(self.mounts, target, flags, question["source"], ",".join(words))
        directory = await self.directory(target)
        if question["type"] in stacking.TYPES:
            return await self._stack(question, target, directory, flags, words)
        wanted = Wanted(
            question["type"], question["source"], question["path"], target, directory, flags, ",".join(words)
        )
        return await self.mounts.mount(wanted)

    async def _stack(
        self, question: dict[str, Any], target: bytes, directory: bool, flags: int, words: list[str]
    ) -> Mount:
        """A directory of the machine, copied on write."""
        self.stacking.check(question["type"])
        if not directory:
            raise MountError(errno.ENOTDIR, f"{os.fsdecode(target)} is no directory")
        try:
            fd = os.open(question["path"], os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise from_os(error, question["source"]) from None
        try:
            view = await trio.to_thread.run_sync(self._shown_at, fd)
            given = stacking.Given(question["source"], fd, view)
            how = stacking.parse(words, target)
            real = _real(given, how)
            try:
                by = self.stacking.mount
                return await by(self.mounts, question["type"], given, target, flags, how, real)
            finally:
                for one in real:
                    os.close(one.fd)
        finally:
            os.close(fd)

    def _shown_at(self, fd: int) -> bytes | None:
        """A path by which the view shows a directory of the machine; None: by none. What is hidden below it
        there stays hidden wherever it is shown as well.
        """
        real = os.readlink(b"/proc/self/fd/%d" % fd)
        view = self.running.prepared.view
        table = fold(view.entries)[0] if view is not None else {}
        paths = [real]
        for target, entry in table.items():
            for source in map(os.path.realpath, entry.sources):
                if _below(real, source):
                    paths.append(target.rstrip(b"/") + real[len(source.rstrip(b"/")) :])
        return next((path for path in paths if self._is(path, fd)), None)

    def _is(self, path: bytes, fd: int) -> bool:
        """Whether the view has the directory at a path, which may be one of several trees there."""
        try:
            found = self.running.session.look(path)
        except OSError:
            return False
        try:
            return found.special or os.path.samestat(os.fstat(found.fd), os.fstat(fd))
        finally:
            os.close(found.fd)

    async def directory(self, target: bytes) -> bool:
        """Whether the view has a directory at a path, rather than a file; MountError when it has
        nothing.
        """
        covering, fd = await self._covering(target)
        rest = os.path.relpath(target, covering)
        try:
            return await trio.to_thread.run_sync(_look, fd, rest)
        except OSError as error:
            raise from_os(error, os.fsdecode(target)) from None
        finally:
            os.close(fd)

    async def _covering(self, target: bytes) -> tuple[bytes, int]:
        """The place of what is seen at a path, and a descriptor of it."""
        prepared = self.running.prepared
        found: dict[bytes, int | Mount | Stacked | None] = {b"/": None}
        found |= {entry.target: entry.source for entry in prepared.placed}
        found |= {stack.target: stack for stack in prepared.stacked}
        found |= {one.target: one.source for one in prepared.late if isinstance(one, Placed)}
        found |= {mount.target: mount for mount in self.mounts.all()}
        covering = max((place for place in found if _below(target, place)), key=len)
        what = found[covering]
        if what is None:
            return covering, os.open("/", os.O_PATH | os.O_CLOEXEC)
        if isinstance(what, Mount) and what.stack is None and not what.within_stack:
            return covering, await self.mounts.root(what)
        if isinstance(what, Stacked | Mount):
            return target, await trio.to_thread.run_sync(self._look, target)
        if what < 0:
            raise MountError(errno.ENOENT, f"{os.fsdecode(target)} is hidden in this view")
        return covering, os.dup(what)

    def _look(self, path: bytes) -> int:
        """Of several trees the engine knows which shows it. MountError."""
        try:
            return self.running.session.look(path).fd
        except OSError as error:
            text = _LINK if error.errno == errno.ELOOP else error.strerror
            raise MountError(error.errno or errno.EIO, f"{os.fsdecode(path)}: {text}") from None


def _real(given: stacking.Given, how: stacking.Words) -> list[stacking.Given]:
    """What of a cow's source stays as it is. MountError."""
    found: list[stacking.Given] = []
    for path in how.real:
        name = os.path.join(given.source, os.fsdecode(path))
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=given.fd)
        except OSError as error:
            for one in found:
                os.close(one.fd)
            raise from_os(error, name) from None
        view = os.path.join(given.view, path) if given.view is not None else None
        found.append(stacking.Given(name, fd, view))
    return found


def _absolute(path: str) -> bytes:
    if not path.startswith("/"):
        raise MountError(errno.EINVAL, f"{path}: the target is a path in the view, from its root")
    return os.fsencode(os.path.normpath(path).replace("//", "/"))


def _below(path: bytes, place: bytes) -> bool:
    return path == place or path.startswith(place.rstrip(b"/") + b"/")


def _look(fd: int, path: bytes) -> bool:
    """Whether a directory is there. Links are not followed: where they lead is for the view's eyes."""
    mode = os.stat(fd).st_mode
    at = b""
    for name in path.split(b"/"):
        if name != b".":
            at = os.path.join(at, name)
            mode = os.stat(at, dir_fd=fd, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, _LINK)
    return stat.S_ISDIR(mode)
