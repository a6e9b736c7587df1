"""From the type of a file system to the program that serves it: "fuse.PROGRAM", or "fuse" with a source
of "PROGRAM#SOURCE", as mount.fuse(8) has them.
"""

import errno
import os
import shutil
from collections.abc import Mapping
from typing import NamedTuple

from vuosd.supervisor.mounting.errors import MountError

_MORE_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
_PACKAGES = {
    "archivemount": "archivemount",
    "bindfs": "bindfs",
    "fuse-ext2": "fuseext2",
    "fuse-zip": "fuse-zip",
    "fuse2fs": "fuse2fs",
    "fuseiso": "fuseiso",
    "rclone": "rclone",
    "rofs-filtered": "rofs-filtered",
    "s3fs": "s3fs",
    "squashfuse": "squashfuse",
    "sshfs": "sshfs",
    "unionfs": "unionfs-fuse",
}
"""Debian's packages."""


class Command(NamedTuple):
    """How a server is started.

    argv: with the place at which it shall mount
    env: all of its environment
    fds: descriptors to give it, by number
    kernel: None if it mounts itself; else the options of the mount whose descriptor it takes
    readonly: it does not write
    type: as the table of mounts shall tell it
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    fds: Mapping[int, int]
    kernel: tuple[str, ...] | None
    readonly: bool
    type: str


class Type:
    """A type of file system: a program that mounts itself, started as mount.fuse(8) starts it."""

    def __init__(self, name: str, program: str) -> None:
        self.name = name
        self.program = program

    @property
    def takes_descriptor(self) -> bool:
        return False

    def command(self, source: str, target: str, options: str, env: Mapping[str, str]) -> Command:
        path = shutil.which(self.program, path=f"{env.get('PATH', os.defpath)}:{_MORE_PATH}")
        if path is None:
            package = _PACKAGES.get(self.program)
            hint = f": install Debian's package {package}" if package else ""
            raise MountError(errno.ENODEV, f"type {self.name} needs the program {self.program}{hint}")
        argv = [path, *([source] if source else []), target, *(["-o", options] if options else [])]
        return Command(tuple(argv), env, {}, None, False, self.name)


def find(name: str, source: str) -> tuple[Type, str]:
    """The type of a name, and what is left of the source; or MountError (ENODEV)."""
    kind, _, program = name.partition(".")
    if kind in ("fuse", "fuseblk"):
        if program:
            return Type(name, program), source
        program, hash, rest = source.partition("#")
        if hash:
            return Type(f"fuse.{program}", program), rest
        text = f'type "{name}" is for FUSE servers; say which program serves: "{name}.PROGRAM"'
        raise MountError(errno.ENODEV, text)
    raise MountError(errno.ENODEV, f'no file system type "{name}"')
