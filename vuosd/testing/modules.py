"""Tests of modules: their methods called as a view's process would, with memory of its own; and real programs
in a real view.
"""

import errno
import inspect
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import msgspec
import pytest
import trio

from vuosd.abi.syscalls import ROWS
from vuosd.api import Calls, Families, Ioctls, Module, ModuleOptions, OptionError, Paths, Types
from vuosd.api.boundaries import OPERATIONS, Boundary, operation_of
from vuosd.api.options import join
from vuosd.modules.asked import Answers
from vuosd.modules.messages import Answer, Asked, Wanted

_SECONDS = 60
_PAGE = 4096


class CallersMemory:
    """Memory of a caller: pieces at addresses; all else is EFAULT."""

    def __init__(self) -> None:
        self._pieces: dict[int, bytearray] = {}
        self._next = 1 << 32

    def put(self, data: bytes) -> int:
        """The address of new memory with this in it."""
        address = self._next
        self._pieces[address] = bytearray(data)
        self._next += (len(data) // _PAGE + 2) * _PAGE
        return address

    def room(self, size: int) -> int:
        """The address of so many bytes, all of them 0xA5."""
        return self.put(b"\xa5" * size)

    def _find(self, address: int, size: int) -> tuple[bytearray, int]:
        for start, piece in self._pieces.items():
            if start <= address and address + size <= start + len(piece):
                return piece, address - start
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))

    def read(self, address: int, size: int) -> bytes:
        """Exactly so many bytes."""
        piece, at = self._find(address, size)
        return bytes(piece[at : at + size])

    def read_string(self, address: int, limit: int) -> bytes:
        """Up to a NUL, which is left out."""
        piece, at = self._find(address, 1)
        text, end, _ = bytes(piece[at : at + limit]).partition(b"\0")
        if not end:
            number = errno.ENAMETOOLONG if len(text) == limit else errno.EFAULT
            raise OSError(number, os.strerror(number))
        return text

    def write(self, address: int, data: bytes) -> None:
        """All of it."""
        piece, at = self._find(address, len(data))
        piece[at : at + len(data)] = data


class Asking:
    """A module that has been started. `memory` is that of its callers."""

    def __init__(self, module: Module) -> None:
        self.memory = CallersMemory()
        self._answers = Answers(type(module).__name__, module, module.options.deadline)
        self.boundaries: tuple[Boundary, ...] = self._answers.boundaries()

    def call(self, name: str, *args: int, path: str = "") -> int | None:
        """What a call gives: its result; of one that opens something a descriptor, which the test closes;
        None if it proceeds. OSError; AssertionError for what would be EIO and a line in the log."""
        nr = next(row.nr for row in ROWS if row.name == name)
        asked = Asked(
            1, nr, name, (*args, *(0,) * (6 - len(args))), os.getpid(), os.getpid(), os.fsencode(path)
        )
        answer, fd = trio.run(self._answers.answer, asked, self.memory)
        return self._result(answer, fd)

    def _result(self, answer: Answer, fd: int) -> int | None:
        if answer.log:
            raise AssertionError(answer.log)
        if answer.errno:
            raise OSError(answer.errno, os.strerror(answer.errno))
        if answer.proceeds:
            return None
        return fd if answer.descriptor else answer.value

    def mount(
        self, kind: str, source: str = "", target: str = "/mnt", options: str = ""
    ) -> tuple[str, str, str] | None:
        """Type, source and options of what is mounted instead; None if it proceeds. As `call`."""
        mounted = trio.run(self._answers.mount, Wanted(1, kind, source, os.fsencode(target), options))
        if mounted.log:
            raise AssertionError(mounted.log)
        if mounted.errno:
            raise OSError(mounted.errno, mounted.text)
        return mounted.mount


@contextmanager
def asking(module: Module) -> Iterator[Asking]:
    """Started, and stopped at the end."""

    async def run(method: str) -> None:
        if (waits := getattr(module, method)()) is not None:
            await waits

    trio.run(run, "start")
    try:
        yield Asking(module)
    finally:
        trio.run(run, "stop")


def in_view(module: Module, argv: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """A command, run to its end in a view that has a module of this class, with these options."""
    found = type(module)
    spec = f"{inspect.getfile(found)}:{found.__qualname__}"
    options = join(msgspec.structs.asdict(module.options))
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as profile:
        profile.write(f"[[module]]\nname = {_quoted(spec)}\noptions = {_quoted(options)}\n")
        profile.flush()
        programs = os.path.dirname(sys.executable)
        launcher = os.path.join(programs, "vuos-run")
        return subprocess.run(
            [launcher, f"--view={profile.name}", "--", *argv],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}"},
            timeout=_SECONDS,
        )


def _quoted(text: str) -> str:
    """As a string of TOML; JSON's are."""
    return msgspec.json.encode(text).decode()


class ModuleConformance:
    """What every module must do. A subclass, named Test…, says which: `module`, an instance."""

    module: ClassVar[Module]

    def test_what_it_says_of_itself(self) -> None:
        found = type(self.module)
        assert (found.__doc__ or "").strip(), "the first line of the class's docstring is what vu_lsmod shows"
        assert issubclass(found.Options, ModuleOptions)
        with pytest.raises(OptionError):
            found("no_module_has_such_an_option=1")

    def test_every_boundary_has_its_method(self) -> None:
        with asking(self.module) as asked:
            assert asked.boundaries

    def test_calls_with_bad_addresses(self) -> None:
        """A caller gives any numbers; whatever they are, it gets an errno or a result."""
        with asking(self.module) as asked:
            for name, args, path in _attempts(asked.boundaries):
                try:
                    result = asked.call(name, *args, path=path)
                except OSError:
                    continue
                if result is not None and name in ("socket", "open"):
                    os.close(result)

    def test_it_can_be_loaded_and_unloaded_in_a_view(self) -> None:
        done = in_view(self.module, ["sh", "-c", "true; vu_lsmod"])
        assert (done.returncode, done.stderr) == (0, ""), done
        name = done.stdout.partition(": ")[0]
        script = 'vu_rmmod "$1"; vu_lsmod; true'
        unloaded = in_view(self.module, ["sh", "-c", script, "sh", name])
        if type(self.module).permanent:
            assert "is permanent" in unloaded.stderr, unloaded
        else:
            assert (unloaded.stdout, unloaded.stderr) == ("", ""), unloaded


def _attempts(boundaries: Sequence[Boundary]) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Calls that the boundaries contain, with no usable address."""
    wild = ((0,) * 6, (8,) * 6, (2**64 - 1,) * 6)
    for boundary in boundaries:
        if isinstance(boundary, Calls):
            yield from ((name, args, "") for name in boundary.names for args in wild)
        elif isinstance(boundary, Ioctls):
            yield from (("ioctl", (args[0], code, args[2]), "") for code in boundary.codes for args in wild)
        elif isinstance(boundary, Families):
            yield from (
                ("socket", (family, args[1], args[2]), "") for family in boundary.families for args in wild
            )
        elif isinstance(boundary, Paths):
            names = {operation_of(row.name): row.name for row in ROWS if operation_of(row.name)}
            for path in boundary.paths:
                for operation in boundary.operations:
                    assert operation in OPERATIONS
                    yield from ((names[operation], args, path + "/no such name") for args in wild)
        else:
            assert isinstance(boundary, Types)
