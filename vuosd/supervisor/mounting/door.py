"""What our own commands ask inside a view, by an open that nobody else makes (engine/door.h): a mount, or
a type "vuos:COMMAND". No socket is needed, so it works in every view, whatever it shows or hides.
"""

import errno
from collections.abc import Callable

from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.modules import Modules
from vuosd.supervisor.mounting.mounts import Mounts


class Door:
    """Of one session."""

    def __init__(self, mounts: Mounts) -> None:
        self.mounts = mounts
        self.modules = Modules()

    def command(self, name: str, source: str, words: list[str]) -> str:
        """What a command prints; MountError."""
        commands: dict[str, Callable[[str, list[str]], str]] = {
            "insmod": self.load,
            "rmmod": self.unload,
            "lsmod": self.loaded,
        }
        if name not in commands:
            raise MountError(errno.EINVAL, f"unknown command {name}: it and vuosd are of different versions")
        return commands[name](source, words)

    def load(self, source: str, words: list[str]) -> str:
        self.modules.load(source, "permanent" in words)
        return ""

    def unload(self, source: str, words: list[str]) -> str:
        served = [mount for mount in self.mounts.all() if mount.path]
        self.modules.unload(source, [(mount.place, bool(mount.mark)) for mount in served])
        return ""

    def loaded(self, source: str, words: list[str]) -> str:
        return "".join(f"{name}: {text}\n" for name, text in self.modules.listed())
