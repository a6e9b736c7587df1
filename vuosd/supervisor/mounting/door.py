"""What our own commands ask inside a view: mount(2) of a type "vuos:COMMAND". No socket is needed, so it
works in every view, whatever it shows or hides.
"""

import errno
from collections.abc import Awaitable, Callable

from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.modules import Modules
from vuosd.supervisor.mounting.mounts import Mounts


class Door:
    """Of one session."""

    def __init__(self, mounts: Mounts) -> None:
        self.mounts = mounts
        self.modules = Modules()

    async def command(self, name: str, source: str, words: list[str]) -> object:
        """What a command is told, as JSON; MountError."""
        commands: dict[str, Callable[[str, list[str]], Awaitable[object]]] = {
            "mounts": self.mounted,
            "insmod": self.load,
            "rmmod": self.unload,
            "lsmod": self.loaded,
        }
        if name not in commands:
            raise MountError(errno.EINVAL, f"unknown command {name}: it and vuosd are of different versions")
        return await commands[name](source, words)

    async def mounted(self, source: str, words: list[str]) -> object:
        return {"mounts": [mount.about() for mount in self.mounts.all()]}

    async def load(self, source: str, words: list[str]) -> object:
        self.modules.load(source, "permanent" in words)
        return {}

    async def unload(self, source: str, words: list[str]) -> object:
        with_server = [mount for mount in self.mounts.all() if mount.path]
        served = [
            (mount.target.decode("utf-8", "backslashreplace"), bool(mount.mark)) for mount in with_server
        ]
        self.modules.unload(source, served)
        return {}

    async def loaded(self, source: str, words: list[str]) -> object:
        return {"modules": self.modules.listed()}
