"""Calls of a plugin's methods: in turn, as task or in a thread, with a deadline; and what becomes of their
errors.

A plugin's OSError is the answer. Anything else that it raises, and every result that checks.py refuses, is
EIO to the process and one line in the log that names the method, its path, and the last line of the
plugin's code that ran."""

import errno
import inspect
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pyfuse3
import trio

from vuosd.api import Filesystem
from vuosd.api.source import described
from vuosd.fuse.checks import Nonsense
from vuosd.supervisor.log import log

_Checked = TypeVar("_Checked")
_MOST = 511  # errnos from 512 on are the kernel's own; FUSE refuses the whole answer, fs/fuse/dev.c
_KINDS = {
    FileNotFoundError: errno.ENOENT,
    FileExistsError: errno.EEXIST,
    PermissionError: errno.EACCES,
    NotADirectoryError: errno.ENOTDIR,
    IsADirectoryError: errno.EISDIR,
    TimeoutError: errno.ETIMEDOUT,
    ConnectionRefusedError: errno.ECONNREFUSED,
    ConnectionResetError: errno.ECONNRESET,
}
"""Libraries raise these with a text alone."""


class Calls:
    """All calls of one file system. `deadline` is in seconds, None: no call is ever given up."""

    def __init__(self, name: str, plugin: Filesystem, deadline: float | None = None) -> None:
        self.name = name
        self.plugin = plugin
        self.deadline = float("inf") if deadline is None else deadline
        self._running: tuple[float, Callable[..., Any], tuple[Any, ...]] | None = None
        self._threads = trio.CapacityLimiter(plugin.threads) if plugin.threads else None

    async def __call__(
        self, check: Callable[[Any], _Checked], method: Callable[..., Any], *arguments: Any
    ) -> _Checked:
        """What the method returns, checked. Raises pyfuse3.FUSEError and nothing else."""
        try:
            with trio.move_on_after(self.deadline):
                if self._threads is not None and not inspect.iscoroutinefunction(method):
                    return await trio.to_thread.run_sync(
                        _checked, check, method, arguments, abandon_on_cancel=True, limiter=self._threads
                    )
                self._running = (time.monotonic(), method, arguments)
                try:
                    result = method(*arguments)
                finally:
                    self._running = None
                if inspect.isawaitable(result):
                    result = await result
                elif hasattr(result, "__aiter__"):
                    result = [item async for item in result]
                return check(result)
            self._log(method, arguments, f"no answer within {self.deadline:g} s")
            raise pyfuse3.FUSEError(errno.EIO)
        except pyfuse3.FUSEError as error:
            raise pyfuse3.FUSEError(self._errno(error.errno, method, arguments)) from None
        except OSError as error:
            raise pyfuse3.FUSEError(self._errno(error.errno, method, arguments, error)) from None
        except Nonsense as error:
            self._log(method, arguments, str(error))
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            self._log(method, arguments, described(error))
        raise pyfuse3.FUSEError(errno.EIO)

    def stuck(self) -> bool:
        """Whether a `def` has been running in the main thread for longer than the deadline; nobody can be
        answered then. Told in the log. For another thread to ask."""
        running = self._running
        if running is None or time.monotonic() - running[0] < self.deadline:
            return False
        _, method, arguments = running
        self._log(method, arguments, f"has not returned within {self.deadline:g} s: the file system ends")
        return True

    def _errno(
        self,
        number: object,
        method: Callable[..., Any],
        arguments: Iterable[Any],
        error: OSError | None = None,
    ) -> int:
        if number is None and error is not None:
            number = next((known for kind, known in _KINDS.items() if isinstance(error, kind)), None)
        if number == errno.ENOSYS:  # would tell the kernel never to ask again
            return errno.EOPNOTSUPP
        if isinstance(number, int) and 0 < number <= _MOST:
            return number
        said = described(error) if error is not None else f"FUSEError with errno {number}"
        self._log(method, arguments, f"raised an error without an errno that there is: {said}")
        return errno.EIO

    def _log(self, method: Callable[..., Any], arguments: Iterable[Any], what: str) -> None:
        shown = ", ".join(_shown(argument) for argument in arguments)
        log.error("%s", f"{self.name}: {method.__name__}({shown}): {what}".replace("\n", " "))


def _checked(
    check: Callable[[Any], _Checked], method: Callable[..., Any], arguments: tuple[Any, ...]
) -> _Checked:
    return check(method(*arguments))


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        value = value if len(value) <= 80 else value[:77] + b"..."
        return repr(value)[1:]
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
