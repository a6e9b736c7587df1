"""From the type of a file system to the program that serves it: "fuse.PROGRAM", or "fuse" with a source
of "PROGRAM#SOURCE", as mount.fuse(8) has them.
"""

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vuosd.api import (
    FileSystemType,
    Needs,
    OptionError,
    ProgramType,
    PythonType,
    TypeProblem,
    needs,
    registry,
)
from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.options import split

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

    argv: with the place at which it shall mount, or "/dev/fd/N"
    env: all of its environment
    kernel: options of the mount whose descriptor it takes
    readonly: it does not write
    type: as the table of mounts shall tell it
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    kernel: tuple[str, ...] = ()
    readonly: bool = False
    type: str = "fuse"


class Type:
    """A program that mounts itself, started as mount.fuse(8) starts it."""

    def __init__(self, name: str, program: str) -> None:
        self.name = name
        self.program = program

    needs_path = False
    """Its source is a path of the machine where the server runs, and must be there."""
    exclusive = False
    """Nobody changes what is mounted but this mount."""
    prefers_to_mount = True
    """The options of mount.fuse(8) are read by the library when it mounts, and not for a descriptor."""

    def takes_descriptor(self, env: Mapping[str, str]) -> bool:
        """Whether it serves "/dev/fd/N", in place of a /dev/fuse that it opens; as libfuse 3 does, whose
        name stands in the file as it is (DT_NEEDED, elf(5)).
        """
        with open(self._path(env), "rb") as file:
            return b"libfuse3.so" in file.read()

    def _path(self, env: Mapping[str, str]) -> str:
        path = shutil.which(self.program, path=f"{env.get('PATH', os.defpath)}:{_MORE_PATH}")
        if path is None:
            package = _PACKAGES.get(self.program)
            hint = f": install Debian's package {package}" if package else ""
            raise MountError(errno.ENODEV, f"type {self.name} needs the program {self.program}{hint}")
        return path

    def command(self, source: str, target: str, options: str, env: Mapping[str, str]) -> Command:
        path = self._path(env)
        argv = [path, *([source] if source else []), target, *(["-o", options] if options else [])]
        return Command(tuple(argv), env)

    def check(self, source: str, target: str, options: str, env: Mapping[str, str]) -> None:
        """MountError for what is wrong and can be told without starting it."""
        self.command(source, target, options, env)

    def needs(self, source: str, options: str) -> Needs:
        """What its server has to reach."""
        return needs.of_program(self.program, source)

    def has_name(self, name: str) -> bool:
        """Whether people call it this."""
        return name in (self.name, self.program)

    def check_code(self, source: str, options: str) -> None:
        """Of a plugin: its code, and what it says of these options. MountError."""
        text = f"type {self.name} is a program, whose code is not a plugin's: unmount it, and mount it anew"
        raise MountError(errno.EINVAL, text)


class Registered(Type):
    """A type of vuosd.api."""

    def __init__(self, name: str, system: FileSystemType) -> None:
        super().__init__(name, system.name)
        self.system = system
        self.needs_path = isinstance(system, ProgramType) and system.source_is_file
        self.exclusive = system.exclusive

    prefers_to_mount = False

    def takes_descriptor(self, env: Mapping[str, str]) -> bool:
        try:
            return not self.system.needs_mount
        except TypeProblem as problem:
            raise MountError(errno.ENODEV, str(problem)) from None

    def command(self, source: str, target: str, options: str, env: Mapping[str, str]) -> Command:
        try:
            server = self.system.command(source, target, options)
        except TypeProblem as problem:
            raise MountError(errno.ENODEV, str(problem)) from None
        except OptionError as error:
            raise MountError(errno.EINVAL, str(error)) from None
        kind = f"fuse.{server.name or self.program}"
        return Command(server.argv, {**env, **server.environment}, server.kernel, server.readonly, kind)

    def check(self, source: str, target: str, options: str, env: Mapping[str, str]) -> None:
        super().check(source, target, options, env)
        if isinstance(self.system, PythonType) and options:  # without options a class has nothing to say
            self.check_code(source, options)

    def needs(self, source: str, options: str) -> Needs:
        return self.system.needs(source, options)

    def has_name(self, name: str) -> bool:
        return super().has_name(name) or name in self.system.aliases

    def check_code(self, source: str, options: str) -> None:
        if isinstance(self.system, ProgramType):
            super().check_code(source, options)
        words = [word for word in split(options) if not word.startswith("transport=")]
        try:
            self.system.check(source, ",".join(words))
        except TypeProblem as problem:
            raise MountError(errno.ENODEV, str(problem)) from None
        except OptionError as error:
            raise MountError(errno.EINVAL, str(error)) from None


def writes(name: str, source: str, words: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether its server would write to the source, as far as that is known without starting it.
    MountError.
    """
    kind, rest = find(name, source)
    text = ",".join(word for word in words if not word.startswith("transport="))
    return not kind.command(rest, "/", text, env).readonly


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
    try:
        return Registered(name, registry.find(name)), source
    except TypeProblem as problem:
        raise MountError(errno.ENODEV, str(problem)) from None
