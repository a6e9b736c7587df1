"""Module: the class that a plugin subclasses which answers system calls. Its docstrings are the manual."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

import msgspec

from vuosd.api.boundaries import Boundary
from vuosd.api.options import ModuleOptions, OptionError, Value, decode

_PIECE = 1 << 16


class Proceed:
    """The type of PROCEED."""

    def __repr__(self) -> str:
        return "PROCEED"


PROCEED: Final = Proceed()
"""What a method returns to have a call go on as if no module had claimed it."""


class Descriptor(msgspec.Struct, frozen=True):
    """A result: a new descriptor of the caller's, of the open file description of `fd`, a descriptor of the
    module's own process, which is closed there. `cloexec`: the caller's is close-on-exec; None: as the call
    asks for (O_CLOEXEC, SOCK_CLOEXEC)."""

    fd: int
    cloexec: bool | None = None


class MountAs(msgspec.Struct, frozen=True):
    """A result of `mount`: what is to be mounted instead, by its own type, which is not the module's."""

    type: str
    source: str = ""
    options: str = ""


class MountRequest(msgspec.Struct, frozen=True):
    """What somebody wants mounted; `target` is a path in the view."""

    type: str
    source: str
    target: bytes
    options: str


class Memory(Protocol):
    """Of a caller; what a test of a module puts in its place."""

    def read(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes."""

    def read_string(self, address: int, limit: int) -> bytes:
        """Up to the NUL, which is left out."""

    def write(self, address: int, data: bytes) -> None:
        """All of it."""


class Call:
    """A system call that waits for its answer.

    `name`: of the call, "openat"; `operation`: what it does with a path, "open", or ""
    `args`: the six registers as numbers; an argument that the kernel takes for 32 bits may have others above
    `pid`, `tid`: the process, and the thread of it that waits
    `path`: of a call that is claimed by a path, that path: canonical, in the view; else b""
    """

    def __init__(
        self,
        name: str,
        args: Sequence[int],
        memory: Memory,
        *,
        operation: str = "",
        path: bytes = b"",
        pid: int = 0,
        tid: int = 0,
    ) -> None:
        self.name, self.operation, self.path, self.pid, self.tid = name, operation, path, pid, tid
        self.args = (*args, *(0,) * (6 - len(args)))
        self._memory = memory

    def read(self, address: int, size: int) -> bytes:
        """Memory of the caller. OSError: EFAULT where it has none; ESRCH if it has gone: let both pass."""
        pieces = (
            self._memory.read(at, min(_PIECE, address + size - at))
            for at in range(address, address + size, _PIECE)
        )
        return b"".join(pieces)

    def read_string(self, address: int, limit: int = 4096) -> bytes:
        """A string of the caller, without its NUL. Also ENAMETOOLONG: none ends within `limit` bytes."""
        return self._memory.read_string(address, min(limit, _PIECE))

    def write(self, address: int, data: bytes) -> None:
        """Into the caller's memory, all of it: EFAULT if that cannot be."""
        for at in range(0, len(data), _PIECE):
            self._memory.write(address + at, data[at : at + _PIECE])


class Module:
    """Answers system calls of a view's processes.

    `boundaries` says which; for each there is a method of its name, `uname(call)`, or for calls that name a
    path one of what they do, `open(call)` for all that open. It gets a `Call`, and returns

    - an int, the call's result (None is 0); or a `Descriptor`, for calls whose result is one;
    - for `stat` and `readlink` by a path also a Stat, or the link's text as bytes: they are written to where
      the call wants them;
    - PROCEED: the call goes on as if there were no module.

    It raises OSError to answer with its errno. Anything else it raises, what makes no sense as a result, and
    an answer that takes longer than the option `deadline` are EIO to the caller and one line in the log.

    A method may be `def`, and then must not wait, since no other call of this module is answered meanwhile,
    and the module ends when it does not return within the deadline; or `async def` (trio). With `threads` a
    `def` may block. A module runs in a process of its own, outside of the view.
    """

    Options: ClassVar[type[ModuleOptions]] = ModuleOptions
    """The schema of the module's options; a nested class named Options, derived from ModuleOptions."""

    boundaries: Sequence[Boundary] = ()
    """What it answers. Where that depends on the options, set it in `start`."""

    permanent: ClassVar[bool] = False
    """It cannot be unloaded."""

    threads: ClassVar[int] = 0
    """How many `def` methods may run at once, each in a thread of its own. 0: in turn."""

    options: Any

    def __init__(self, options: Mapping[str, Value] | str | None = None, **more: Value) -> None:
        """Options are given as the text after -o, a table or keywords, and end up in `self.options`. Errors:
        OptionError."""
        name = type(self).__name__
        if isinstance(options, str):
            if more:
                raise OptionError(f"{name}: options are given as text or as keywords, not both")
            self.options = decode(type(self).Options, options, name)
        else:
            self.options = decode(type(self).Options, {**(options or {}), **more}, name)

    def start(self) -> Any:
        """Before the first call. OSError, or ValueError with a sentence for the person who loads it, when it
        cannot be."""

    def stop(self) -> Any:
        """After the last call, when it is unloaded or the view ends."""

    def uses(self) -> Iterable[str]:
        """What of the module is in use, in words, for the person who wants to unload it: while there is
        something, that is EBUSY. Calls under way, and mounts, need not be told."""
        return ()

    def mount(self, request: MountRequest) -> Any:
        """Somebody mounts one of the module's `Types`: a MountAs, or PROCEED. ENODEV, EINVAL."""
        return PROCEED
