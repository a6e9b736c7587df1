"""What our own commands ask inside a view, by an open that nobody else makes (engine/door.h): a mount, or
a type "vuos:COMMAND". No socket is needed, so it works in every view, whatever it shows or hides.
"""

import errno
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from vuosd.supervisor.mounting import reloading, unreal
from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.modules import KNOWN, BuiltIn
from vuosd.supervisor.mounting.mount import UNREAL
from vuosd.supervisor.mounting.mounts import Mounts

if TYPE_CHECKING:
    from vuosd.supervisor.modules.loaded import Modules


_UNREAL_AT = b"/unreal"


class Door:
    """Of one mount namespace; the modules are the session's."""

    def __init__(self, mounts: Mounts, modules: "Modules", built_in: BuiltIn, *, inside: bool) -> None:
        """`inside`: processes of the view ask by it."""
        self.inside = inside
        self.mounts = mounts
        self.modules = modules
        self.built_in = built_in

    async def command(self, name: str, source: str, words: list[str]) -> str:
        """What a command prints; MountError."""
        commands: dict[str, Callable[[str, list[str]], Awaitable[str]]] = {
            "insmod": self.load,
            "rmmod": self.unload,
            "lsmod": self.loaded,
            "reload": self.reload,
        }
        if name not in commands:
            raise MountError(errno.EINVAL, f"unknown command {name}: it and vuosd are of different versions")
        return await commands[name](source, words)

    async def load(self, source: str, words: list[str]) -> str:
        permanent, options = "permanent" in words, ",".join(word for word in words if word != "permanent")
        if source not in KNOWN:
            await self.modules.load(source, options, permanent, inside=self.inside)
            return ""
        if options:
            raise MountError(errno.EINVAL, f"module {source} has no options")
        self.built_in.load(source, permanent)
        if source == UNREAL:
            try:
                unreal.show(self.mounts, _UNREAL_AT, 0)
            except MountError:
                self.built_in.forget(source)
                raise
        return ""

    async def unload(self, source: str, words: list[str]) -> str:
        if source not in KNOWN:
            made = [mount.place for mount in self.mounts.all() if mount.module == source]
            await self.modules.unload(source, made)
            return ""
        served = [mount for mount in self.mounts.all() if mount.path]
        self.built_in.unload(source, [(mount.place, bool(mount.mark) or mount.started) for mount in served])
        if source == UNREAL and (mount := self.mounts.at(_UNREAL_AT)) is not None and mount.type == UNREAL:
            try:
                await self.mounts.unmount(_UNREAL_AT, 0)
            except MountError as error:
                self.built_in.load(source, False)
                raise MountError(error.errno, f"module {source} is in use: {error}") from None
        return ""

    async def loaded(self, source: str, words: list[str]) -> str:
        listed = [*self.built_in.listed(), *self.modules.listed()]
        return "".join(f"{name}: {text}\n" for name, text in listed)

    async def reload(self, source: str, words: list[str]) -> str:
        """A module, or all mounts of a type, with the code as it is now; nothing is said of one that there is
        not.
        """
        if self.modules.find(source) is not None:
            await self.modules.reload(source)
            return f"module {source} is reloaded\n"
        return "".join(f"{place} is mounted anew\n" for place in await reloading.reload(self.mounts, source))
