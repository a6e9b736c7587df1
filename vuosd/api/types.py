"""FileSystemType: a type of file system, and how the process that serves one is started.

Whoever mounts gives a *mountpoint* as libfuse and pyfuse3 understand it: "/dev/fd/7", where descriptor 7 is
a /dev/fuse that has been mounted already or an end of a SOCK_SEQPACKET socketpair; or, for a server that
must call mount(2) itself (`needs_mount`), a directory that nobody else sees."""

import importlib.util
import os
import re
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from vuosd.api.options import MountOptions, OptionError, Value, decode, join, take

_CHECK_SECONDS = 20
_MORE_PLACES = ":/usr/local/sbin:/usr/sbin:/sbin"
HOST = (sys.executable, "-P", "-m", "vuosd.fuse.host")
"""What serves a file system in Python is started by this command."""
_DESCRIPTOR = re.compile(r"/dev/fd/(\d+)")
KERNEL = ("default_permissions", "allow_other")
"""Owners and modes say who may do what, whoever has mounted: nobody but the view sees it."""


class TypeProblem(Exception):
    """Why a file system cannot be served: unknown type, missing program or package, for a person."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """How a server process is started. It stays in the foreground, ends when the file system is unmounted,
    and says on stderr why, with an exit status other than 0, when it cannot serve.

    `environment` is to be added to that of the process. `kernel` are the options that mount(2) of type fuse
    gets, beside fd, rootmode, user_id and group_id; `name` is what comes after "fuse." in the table of
    mounts."""

    argv: tuple[str, ...]
    pass_fds: tuple[int, ...] = ()
    environment: dict[str, str] = {}
    kernel: tuple[str, ...] = ()
    readonly: bool = False
    name: str = ""
    source: str = ""


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a server reaches when it runs outside of a view, beside the system's programs and libraries,
    its source and a temporary directory.

    `sources`: where the source is no path, the paths in it. `changes`: it writes to its source, unless that
    is mounted read-only. `reads`, `writes`: absolute paths, or such as begin with "~/"; what is not there is
    left out. `network`: it speaks to other machines; `agent`: who keeps the user's keys ($SSH_AUTH_SOCK) may
    be asked, too. `beside`: it stores its source anew, so it makes files
    in the same directory. `probes`: it opens its source for writing even when it is to read only, and is
    given it for reading. `sees`: it may read all that the view shows, as is right for programs of which
    nothing is known."""

    sources: tuple[str, ...] = ()
    changes: bool = True
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    network: bool = False
    agent: bool = False
    beside: bool = False
    probes: bool = False
    sees: bool = False


def unknown_needs(source: str) -> Needs:
    """Of a program or class that nobody has said anything of."""
    network = not os.path.exists(source)
    return Needs(sees=True, network=network, agent=network)


class FileSystemType(ABC):
    """One type: its name, and what it can do."""

    name: str
    aliases: tuple[str, ...] = ()
    summary: str = ""

    exclusive: bool = False
    """Nobody changes what is mounted but this mount: so of a read-only one everything stays as it is."""

    @property
    def needs_mount(self) -> bool:
        """Its server calls mount(2) itself and takes no descriptor."""
        return False

    @abstractmethod
    def command(self, source: str, target: str, options: Mapping[str, Value] | str = "") -> Server:
        """How a server of `source` is started; `target` is "/dev/fd/N" or a directory, see above. `options`
        are those of the file system; what concerns the mount alone (noexec, noatime…) has been taken off.
        OptionError, TypeProblem."""

    def check(self, source: str, options: str) -> None:
        """What can be told of its code and these options without serving anything. OptionError,
        TypeProblem."""
        return

    def needs(self, source: str, options: str) -> Needs:
        """What its server has to reach."""
        return unknown_needs(source)


class PythonType(FileSystemType):
    """A Filesystem, or a pyfuse3.Operations, served by vuosd.fuse.host. Its class is imported by that
    process and no other."""

    def __init__(
        self,
        name: str,
        spec: str,
        aliases: tuple[str, ...] = (),
        summary: str = "",
        needs: Callable[[str, str], Needs] | None = None,
        *,
        reads: bool = False,
    ) -> None:
        """`spec` is what `vuosd.fuse.host` takes: a type's name, module:Class, or a file's path. `needs`
        tells what FileSystemType.needs does. `reads`: its source is an image, which it never writes to."""
        self.exclusive = self._reads = reads
        self.name, self.spec, self.aliases, self.summary = name, spec, aliases, summary
        self._needs = needs or super().needs

    def needs(self, source: str, options: str) -> Needs:
        return self._needs(source, options)

    def command(self, source: str, target: str, options: Mapping[str, Value] | str = "") -> Server:
        text = options if isinstance(options, str) else join(options)
        fd = descriptor_of(target)
        if fd is None:
            raise TypeProblem(f"{self.name}: its server takes a descriptor, /dev/fd/N, not {target}")
        if importlib.util.find_spec("pyfuse3") is None:
            raise TypeProblem(f"type {self.name} needs the package pyfuse3: pip install 'vuosd[fuse]'")
        deadline, rest = take(text, "deadline")
        served = (self.spec, "--fd", str(fd), "--source", source, "-o", rest)
        argv = (*HOST, *served, *self._deadline(deadline))
        return Server(
            argv=argv,
            pass_fds=(fd,),
            kernel=KERNEL,
            readonly=self._reads or "ro" in text.split(","),
            name=self.name,
            source=source or self.name,
        )

    def check(self, source: str, options: str) -> None:
        """OptionError, TypeProblem: what its class says of these options, in a process of its own."""
        rest = take(options, "deadline")[1]
        words = [*HOST, self.spec, "--check", "--source", source]
        try:
            done = subprocess.run(
                [*words, "-o", rest],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_CHECK_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise TypeProblem(f"{self.name}: its options are not looked at in {_CHECK_SECONDS} s") from None
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        if done.returncode:
            text = lines[-1].removeprefix("vuosd: ") if lines else f"{self.name}: status {done.returncode}"
            raise OptionError(text) if done.returncode == 2 else TypeProblem(text)

    def _deadline(self, given: str | None) -> tuple[str, ...]:
        """The option that all file systems in Python have: seconds, after which a call of the plugin is
        given up."""
        if given is None:
            return ()
        try:
            if float(given) > 0:
                return ("--deadline", given)
        except ValueError:
            pass
        raise OptionError(f"{self.name}: deadline={given}: a number of seconds is needed")


class ProgramType(FileSystemType):
    """An existing FUSE server: a program of the system."""

    def __init__(
        self,
        name: str,
        program: str,
        package: str,
        arguments: Callable[[str, str, Any], list[str]],
        *,
        options: type[MountOptions] = MountOptions,
        kernel: tuple[str, ...] = KERNEL,
        readonly: bool = False,
        aliases: tuple[str, ...] = (),
        summary: str = "",
        source_is_file: bool = True,
        exclusive: bool = False,
        recognises: Callable[[bytes], bool] | None = None,
        needs: Needs | None = None,
    ) -> None:
        """`package` is Debian's. `arguments(source, mountpoint, options)` are those of the program,
        `options` an instance of the schema. `source_is_file`: the source is a path of the machine where the
        program runs. `exclusive`: see FileSystemType. `recognises(start)`: whether these, the first 4096
        bytes of a file or all there are, can be of an image; for programs that do not look themselves.
        `needs`: None if nothing is known."""
        self.name, self.program, self.package, self.arguments = name, program, package, arguments
        self.options, self.kernel, self.readonly = options, kernel, readonly
        self.aliases, self.summary, self.source_is_file = aliases, summary, source_is_file
        self.exclusive, self.recognises = exclusive, recognises
        self._needs = needs

    def needs(self, source: str, options: str) -> Needs:
        return super().needs(source, options) if self._needs is None else self._needs

    @property
    def needs_mount(self) -> bool:
        return _library(self._path()) == 2

    def command(self, source: str, target: str, options: Mapping[str, Value] | str = "") -> Server:
        decoded = decode(self.options, options, self.name)
        path = self._path()
        fd = descriptor_of(target)
        if fd is not None and self.needs_mount:
            raise TypeProblem(
                f"{self.name}: {self.program} is linked with libfuse 2, so it must mount itself"
            )
        if self.source_is_file and not os.path.exists(source):
            raise TypeProblem(
                f"{self.name}: {source or 'no source'}: {'no such file' if source else 'name an image, say'}"
            )
        if self.recognises is not None and not self.recognises(_start(source)):
            raise TypeProblem(f"{source} is no image of type {self.name}")
        return Server(
            argv=(path, *self.arguments(source, target, decoded)),
            pass_fds=() if fd is None else (fd,),
            kernel=self.kernel,
            readonly=self.readonly or decoded.ro,
            name=self.name,
            source=source,
        )

    def _path(self) -> str:
        import shutil

        path = shutil.which(self.program, path=os.environ.get("PATH", os.defpath) + _MORE_PLACES)
        if path is None:
            raise TypeProblem(
                f"type {self.name} needs the program {self.program}: Debian's package {self.package}"
            )
        return path


def _start(source: str) -> bytes:
    try:
        with open(source, "rb") as file:
            return file.read(4096)
    except OSError as error:
        raise TypeProblem(f"{source}: {error.strerror}") from error


def descriptor_of(target: str) -> int | None:
    """7 of "/dev/fd/7"."""
    match = _DESCRIPTOR.fullmatch(target)
    return int(match[1]) if match else None


def _library(path: str) -> int:
    """Which libfuse a program is linked with: 2 or 3. Their names stand in the file as they are, ELF(5):
    DT_NEEDED."""
    content = Path(path).read_bytes()
    return 2 if b"libfuse.so.2\0" in content and b"libfuse3.so." not in content else 3
