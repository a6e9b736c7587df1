"""`python -m vuosd.fuse.host SPEC --fd N`: the process that serves one file system.

Descriptor N is a /dev/fuse that has been mounted, or an end of a SOCK_SEQPACKET socketpair whose other end
speaks the kernel's part. The process ends, with status 0, when the file system is unmounted or the other
end is closed, and at SIGTERM; with status 1 and a sentence on stderr when the file system cannot be served.
"""

import argparse
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Sequence

import pyfuse3
import trio

from vuosd.api import Filesystem, OptionError, TypeProblem
from vuosd.api.registry import missing
from vuosd.api.source import described
from vuosd.fuse import checks
from vuosd.fuse.calls import Calls
from vuosd.fuse.guard import Guard
from vuosd.fuse.libfuse import take_messages
from vuosd.fuse.load import Servable, load
from vuosd.fuse.operations import TreeOperations
from vuosd.supervisor.log import log


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="vuosd.fuse.host", description="Serve a file system in Python over FUSE."
    )
    parser.add_argument("spec", metavar="SPEC", help="a type's name, module:Class, or the path of a .py file")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--fd", type=int, metavar="N", help="a mounted /dev/fuse, or a socket")
    how.add_argument(
        "--check", action="store_true", help="serve nothing: status 2 when it has no such options"
    )
    parser.add_argument("--source", default="", help="what is mounted: an image, a directory, an address")
    parser.add_argument("-o", "--options", default="", help="options of the file system")
    parser.add_argument(
        "--deadline", type=float, metavar="SECONDS", help="after which a call of the plugin is EIO"
    )
    arguments = parser.parse_args(argv)
    name = os.path.basename(arguments.spec)
    log.name = "vuosd-fuse"
    try:
        if not arguments.check:
            os.fstat(arguments.fd)
        served = load(arguments.spec, arguments.source, arguments.options)
        if not arguments.check:
            serve(name, served, arguments.fd, arguments.deadline)
    except (OptionError, TypeProblem) as error:
        print(f"vuosd: {error}", file=sys.stderr)
        return 2 if arguments.check and isinstance(error, OptionError) else 1
    except OSError as error:
        print(f"vuosd: {name}: {error}", file=sys.stderr)
        return 1
    return 0


def serve(name: str, served: Servable, fd: int, deadline: float | None = None) -> None:
    """Until the file system is unmounted. TypeProblem if it cannot start; OSError of the connection."""
    trio.run(_serve, name, served, fd, deadline)


async def _serve(name: str, served: Servable, fd: int, deadline: float | None) -> None:
    tree = None
    operations: object = served
    if isinstance(served, Filesystem):
        calls = Calls(name, served, deadline)
        await _start(name, served)
        if deadline is not None:
            threading.Thread(target=_watch, args=(calls, deadline), daemon=True).start()
        operations = tree = TreeOperations(served, calls)
    take_messages(name)
    # pyfuse3 asks for nothing but the methods, and says so: "or another class defining the same methods".
    pyfuse3.init(Guard(name, operations), f"/dev/fd/{fd}", set())  # type: ignore[arg-type]
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch_signals)
            await _loop(fd)
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            if tree is not None:
                await tree.tree.opened.release_all()
                await _stop(tree)
        pyfuse3.close(unmount=False)


def _watch(calls: Calls, deadline: float) -> None:
    """A `def` that hangs cannot be given up, but those who wait for it can be let go: they are told
    ENOTCONN when the server ends."""
    while not calls.stuck():
        time.sleep(deadline / 4)
    os._exit(1)


async def _start(name: str, plugin: Filesystem) -> None:
    """What goes wrong here the person who mounts is told, not the process that uses it."""
    try:
        result = plugin.start()
        if result is not None:
            await result
    except (OSError, ValueError) as error:
        raise TypeProblem(f"{name}: {error}") from error
    except ImportError as error:
        raise TypeProblem(missing("type", name, error)) from error
    except Exception as error:
        raise TypeProblem(f"{name}: {described(error)}") from error


async def _stop(tree: TreeOperations) -> None:
    try:
        await tree.calls(checks.nothing, tree.plugin.stop)
    except pyfuse3.FUSEError as error:
        log.error("%s: stop: %s", tree.calls.name, os.strerror(error.errno))


async def _loop(fd: int) -> None:
    try:
        await pyfuse3.main()
    except* OSError:
        # The end of a connection reads as a short splice there. A socket says itself whether that is what
        # happened.
        if not _hung_up(fd):
            raise


async def _watch_signals() -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            pyfuse3.terminate()


def _hung_up(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


if __name__ == "__main__":
    sys.exit(main())
