"""A process that serves a file system for the length of a test."""

import ctypes
import os
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Literal

from vuosd.api import Filesystem
from vuosd.testing.place import KernelPlace, Place
from vuosd.testing.wire import WirePlace

_PR_SET_PDEATHSIG = 1
_ENDS_WITHIN = 10

Transport = Literal["kernel", "wire"]


class Served:
    """`place` is for using it; `pid` the server's process; `root` the descriptor of the mount (kernel
    only)."""

    def __init__(self, place: Place, pid: int, said: IO[bytes], root: int | None) -> None:
        self.place, self.pid, self.root = place, pid, root
        self._said = said

    def log(self) -> str:
        """What the server has said on stderr until now."""
        self._said.seek(0)
        return self._said.read().decode("utf-8", "replace")


def transports() -> list[Transport]:
    """What this machine allows: FUSE by the kernel, if /dev/fuse can be mounted, and without it always."""
    from vuosd.fuse.kernel import mount

    try:
        mount().close()
    except OSError:
        return ["wire"]
    return ["kernel", "wire"]


@contextmanager
def serving(
    served: object, transport: Transport = "kernel", deadline: float | None = None
) -> Iterator[Served]:
    """Serve a Filesystem or a pyfuse3.Operations in a child process. OSError: there is no such transport
    here. At the end the file system is unmounted, and the server must end well: AssertionError."""
    if transport == "kernel":
        from vuosd.fuse.kernel import mount

        readonly = isinstance(served, Filesystem) and served.readonly
        mounted = mount(["default_permissions"], readonly=readonly and served_readonly_by_option(served))
        said, pid = _fork(served, mounted.fuse, deadline, mounted.close_view)
        mounted.close_fuse()
        with _ending(pid, said):
            try:
                yield Served(KernelPlace(mounted.root), pid, said, mounted.root)
            finally:
                mounted.close()
    else:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 19)
        said, pid = _fork(served, theirs.fileno(), deadline, ours.close)
        theirs.close()
        with _ending(pid, said), ours:
            place = WirePlace(ours)
            yield Served(place, pid, said, None)
            place.close()


def served_readonly_by_option(served: object) -> bool:
    """Mounted with `ro`: then the kernel refuses changes by itself."""
    return isinstance(served, Filesystem) and bool(served.options.ro)


def _fork(served: object, fd: int, deadline: float | None, drop: Callable[[], None]) -> tuple[IO[bytes], int]:
    """The server's process. `drop` closes what the server must not hold: the other end."""
    from vuosd.fuse.host import serve  # before the fork, so that it is imported once for all tests

    said = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as Served)
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return said, pid
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.setitimer(signal.ITIMER_REAL, 0)  # a test's own time-out
        os.dup2(said.fileno(), 2)
        drop()
        if os.getppid() == parent:
            serve(type(served).__name__, served, fd, deadline)  # type: ignore[arg-type]
        status = 0
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


@contextmanager
def _ending(pid: int, said: IO[bytes]) -> Iterator[None]:
    """Nothing is left running, whatever the test has come to; a server that does not end by itself is a
    failure."""
    process = os.pidfd_open(pid)
    try:
        yield
        ended, _, _ = select.select([process], [], [], _ENDS_WITHIN)
        assert ended, f"the server has not ended {_ENDS_WITHIN} s after the file system was unmounted"
        _, status = os.waitpid(pid, 0)
        pid = 0
        said.seek(0)
        assert status == 0, f"the server ended with status {status}: {said.read().decode()}"
    except BaseException as error:
        said.seek(0)
        error.add_note(f"the server said: {said.read().decode('utf-8', 'replace') or 'nothing'}")
        raise
    finally:
        if pid and os.waitpid(pid, os.WNOHANG)[0] == 0:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(process)
        said.close()
