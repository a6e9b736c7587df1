"""A file system in Python is served by a process that has long imported what that takes: a fork of the
helper's, which is a fork of the zygote's.

What would be executed is this very program, so nothing is: the child makes itself what execve(2) would have
made of it. It has the descriptors, environment, capabilities and signals of a new process, and nothing of
the helper's in its memory that is not public: the helper knows the mounts of this session, and no more. Whose
interpreter would begin in another way than ours has is executed: is_host().
"""

import ctypes
import io
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import ClassVar, NoReturn, TextIO

from vuosd.supervisor.log import log

_DECISIVE = ("PYTHON", "LD_", "MALLOC_", "GLIBC_")
"""How names of variables begin that an interpreter, or the C library, looks at when it starts."""
_LOCALE = ("LC_ALL", "LC_CTYPE", "LANG")
_MALLOPT = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_TOP_PAD_": -2, "MALLOC_MMAP_THRESHOLD_": -3}
"""Those that can be set later as well: mallopt(3)."""
_PR_SET_NAME = 15
_LEAST_ROOM = 64
"""Bytes for the one variable that proc_pid_environ(5) is to show."""


class _Prepared:
    """How this interpreter has begun."""

    command: tuple[str, ...] = ()
    path: ClassVar[list[str]] = []
    env: ClassVar[Mapping[str, str]] = {}


def prepare() -> None:
    """Imports what serves file systems, and notes how this interpreter has begun. Where the package pyfuse3
    is not installed there is nothing to be served.
    """
    try:
        import vuosd.fuse.host  # noqa: F401
    except ImportError:
        return
    from vuosd.api.types import HOST

    start, end = _environment()
    if end - start < _LEAST_ROOM:
        return
    _Prepared.command = HOST
    script = os.path.dirname(os.path.abspath(sys.argv[0])) if sys.argv and sys.argv[0] else ""
    first = not sys.flags.safe_path and sys.path[:1] in ([script], [""], [os.getcwd()])
    _Prepared.path = sys.path[1:] if first else sys.path[:]  # as of `python -P`
    _Prepared.env = _decisive(os.environ)


def _decisive(env: Mapping[str, str]) -> dict[str, str]:
    found = {
        name: text for name, text in env.items() if name.startswith(_DECISIVE) and name not in _MALLOPT
    }
    said = next((env[name] for name in _LOCALE if env.get(name)), "C")
    if said not in ("C", "POSIX") and not said.lower().endswith(("utf-8", "utf8")):
        found["LC_CTYPE"] = said  # Python makes UTF-8 of C and POSIX (PEP 538, PEP 540)
    return found


def is_host(argv: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether this process can become what `argv` starts with this environment."""
    command = _Prepared.command
    return bool(command) and tuple(argv[: len(command)]) == command and _decisive(env) == _Prepared.env


def become_host(argv: Sequence[str], env: Mapping[str, str], shown: str, keep: Sequence[int]) -> NoReturn:
    """`shown`: the variable by which this process is known. Of all descriptors these stay."""
    import importlib
    import time
    import traceback

    status = 1
    try:
        _close_all_but(keep)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        os.environ.clear()
        _show(os.fsencode(shown))
        os.environ.update(env)
        libc = ctypes.CDLL(None)
        for name, what in _MALLOPT.items():
            if env.get(name, "").isdigit():
                libc.mallopt(what, int(env[name]))
        time.tzset()
        if "tempfile" in sys.modules:
            vars(sys.modules["tempfile"])["tempdir"] = None  # it remembers where the zygote's is
        log.begin()
        sys.stdin, sys.stdout, sys.stderr = (_stream(fd, mode) for fd, mode in enumerate("rww"))
        libc.prctl(_PR_SET_NAME, b"vuosd-fuse", 0, 0, 0)
        sys.path[:] = _Prepared.path
        importlib.invalidate_caches()
        status = _serve(argv[len(_Prepared.command) :])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _stream(fd: int, mode: str) -> TextIO:
    raw = io.FileIO(fd, mode, closefd=False)
    buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, sys.getfilesystemencoding(), "backslashreplace", line_buffering=True)


def _serve(words: Sequence[str]) -> int:
    """As an interpreter ends: threads, then what has been registered for the end."""
    import atexit
    import threading

    from vuosd.fuse import host

    sys.argv = [host.__file__, *words]
    try:
        status = host.main(words)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _close_all_but(keep: Sequence[int]) -> None:
    """Objects of the helper's that are left refer to closed descriptors; none of them is ever finalized."""
    first = 0
    for fd in sorted(set(keep)):
        if first < fd:
            os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, 1 << 30)


def _environment() -> tuple[int, int]:
    """Where the kernel has put the environment that this program was executed with: proc_pid_stat(5)."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[47]), int(fields[48])


def _show(text: bytes) -> None:
    """In the place of that environment, which is another process's. Nobody refers to it any more:
    os.environ.clear() has taken its strings out of the C library's list.
    """
    start, end = _environment()
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text + b"\0", len(text) + 1)
