"""A server of ours is started, and mounted, one way or the other: libfuse 2 mounts by itself at the place
it is told; what takes a descriptor gets one of a /dev/fuse that is mounted already.
"""

import errno
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import trio

from vuosd.supervisor.mounting import options, reach, types
from vuosd.supervisor.mounting.bounds import Bounds
from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.mount import Mount, Wanted
from vuosd.supervisor.mounting.namespace import Namespace, Program, Root
from vuosd.supervisor.mounting.output import Output
from vuosd.supervisor.values import Wired

_T = TypeVar("_T")
_START_SECONDS = 30.0
_LAST_WORDS_SECONDS = 0.5
_ALLOCATION = {
    "MALLOC_MMAP_THRESHOLD_": "4194304",
    "MALLOC_TOP_PAD_": "16777216",
    "MALLOC_TRIM_THRESHOLD_": "67108864",
}
"""For glibc in servers (mallopt(3)): libfuse allocates room for each answer and frees it, which otherwise
goes to the kernel and back each time. A quarter of the time of large reads is left.
"""


class Start:
    """Of one server."""

    def __init__(
        self,
        namespace: Namespace,
        kind: types.Type,
        path: str,
        wanted: Wanted,
        mount: Mount,
        output: Output,
        env: Mapping[str, str],
        shown: reach.Shown,
        temporary: Callable[[], bytes],
    ) -> None:
        """`path` is the source as the server is to be told it; what comes of the start is noted in
        `mount`. `shown`: by the view; `temporary` makes a directory.
        """
        self.namespace, self.kind, self.path = namespace, kind, path
        self.shown, self.temporary = shown, temporary
        self.bounds: Bounds | None = None
        self.probed: tuple[str, int] | None = None
        self.wanted, self.mount, self.output, self.env = wanted, mount, output, env
        readonly = ["ro"] if wanted.flags & options.MS_RDONLY else []
        self.options = ",".join([*readonly, *([wanted.data] if wanted.data else [])])
        self.begun = False
        """There may be a process of it."""

    async def run(self) -> Root:
        """The root of a file system that answers; MountError."""
        start = self.with_device
        if self.kind.prefers_to_mount or not self.kind.takes_descriptor(self.env):
            start = self.and_let_mount

        async def started() -> Root:
            root = await start()
            await _answers(root)
            return root

        return await self._guarded(started)

    async def run_wire(self) -> int:
        """The socket to a server that has been started, and has said nothing yet; MountError."""
        takes = self.kind.takes_descriptor(self.env)
        return await self._guarded(self.with_socket if takes else self.and_let_it_open_a_socket)

    async def _guarded(self, start: Callable[[], Awaitable[_T]]) -> _T:
        try:
            with trio.fail_after(_START_SECONDS):
                return await start()
        except trio.TooSlowError:
            text = f"the server of {self.wanted.type} has not answered in {_START_SECONDS:.0f} s"
            raise MountError(errno.ETIMEDOUT, text) from None
        except OSError as error:
            raise await self.failed(error) from None
        finally:
            self._let_go()

    async def failed(self, error: OSError) -> MountError:
        """With what the server says."""
        with trio.move_on_after(_LAST_WORDS_SECONDS):
            await self.output.done.wait()
        text = self.output.reason() or f"{self.kind.name}: {error.strerror}"
        return MountError(error.errno or errno.EIO, text)

    def _let_go(self) -> None:
        """Of what the server has by now."""
        if self.bounds is not None and self.bounds.ruleset >= 0:
            os.close(self.bounds.ruleset)
        if self.probed is not None:
            os.close(self.probed[1])

    async def command(self, target: str) -> types.Command:
        return await trio.to_thread.run_sync(self.kind.command, self.path, target, self.options, self.env)

    async def program(self, command: types.Command, fds: Mapping[int, int], place: bytes = b"") -> Program:
        """`place`: where it mounts itself."""
        env = {**_ALLOCATION, **command.env}
        needs = self.kind.needs(self.path, self.wanted.data)
        temporary = None
        if needs.sees or command.argv[0] == sys.executable:
            temporary = self.temporary()
            env["TMPDIR"] = os.fsdecode(temporary)
        wants = reach.Wants(
            needs,
            command.argv,
            env,
            self.wanted.data,
            self.path,
            self.wanted.fds,
            readonly=bool(self.wanted.flags & options.MS_RDONLY) or command.readonly,
            place=place,
            temporary=temporary,
            inside=self.wanted.inside,
        )
        self.bounds = await trio.to_thread.run_sync(reach.bounds, wants, self.shown)
        self.mount.bounded = self.bounds.ruleset >= 0
        if needs.probes and wants.readonly:
            fd = await trio.to_thread.run_sync(os.open, self.path, os.O_RDONLY | os.O_CLOEXEC)
            self.probed = self.path, fd
        self.begun = True
        mark, output = self.mount.mark, self.output.write
        return Program(command.argv, env, mark, output, fds, command.kernel, self.bounds, self.probed)

    async def and_let_mount(self) -> Root:
        mount = self.mount
        command = await self.command(os.fsdecode(mount.path))
        program = await self.program(command, self.wanted.fds, mount.path)
        served = await self.namespace.serve(program, mount.path)
        self.output.given()
        mount.pid = mount.pid or served.pid
        mount.flags |= served.flags & options.KEPT
        mount.data, mount.shown_type = served.options, served.type
        return served.root

    async def with_device(self) -> Root:
        mount = self.mount
        device = await self.namespace.open_device(os.O_RDWR)
        try:
            command = await self.command(f"/dev/fd/{device}")
            mode = "40000" if self.wanted.directory else "100000"
            words = (f"rootmode={mode}", f"user_id={os.geteuid()}", f"group_id={os.getegid()}")
            mount.data, mount.shown_type = ",".join([*words, *command.kernel]), command.type
            mount.flags = (mount.flags | (options.MS_RDONLY if command.readonly else 0)) & options.KEPT
            names = (os.fsencode(word) for word in (command.type, mount.source or mount.type, mount.data))
            root = await self.namespace.mount(device, mount.path, *names, flags=mount.flags)
            try:
                fds = {**self.wanted.fds, device: device}
                program = await self.program(command, fds)
                mount.pid = await self.namespace.start_server(program)
            except BaseException:
                os.close(root.fd)
                raise
            self.output.given()
            return root
        finally:
            os.close(device)

    async def and_let_it_open_a_socket(self) -> int:
        """Of libfuse 2: it finds the socket where it looks for a /dev/fuse."""
        mount = self.mount
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            mount.device = os.readlink(f"/proc/self/fd/{theirs.fileno()}")
            place = mount.path if self.wanted.directory else os.path.dirname(mount.path)
            command = await self.command(os.fsdecode(place))
            program = await self.program(command, self.wanted.fds, place)
            served = await self.namespace.serve_socket(program, place, theirs.fileno())
            self.output.given()
            mount.pid = mount.pid or served.pid
            mount.flags |= served.flags & options.KEPT
            mount.data, mount.shown_type = "", served.type
            return ours.detach()

    async def with_socket(self) -> int:
        mount = self.mount
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            number = theirs.fileno()
            mount.device = os.readlink(f"/proc/self/fd/{number}")
            command = await self.command(f"/dev/fd/{number}")
            mount.shown_type = command.type if command.type != "fuse" else mount.type
            mount.flags = (mount.flags | (options.MS_RDONLY if command.readonly else 0)) & options.KEPT
            mount.data = ""
            fds = {**self.wanted.fds, number: number}
            program = await self.program(command, fds)
            mount.pid = await self.namespace.start_server(program)
            self.output.given()
            return ours.detach()


async def begin(
    mount_wire: Callable[[Wired], int], wired: Wired, type: str, seconds: float = _START_SECONDS
) -> int:
    """The number of a mount by wire, when its server has told of the root. OSError; MountError (ETIMEDOUT)
    after so many seconds.
    """
    late, failed, number = False, None, 0
    with socket.socket(fileno=os.dup(wired.socket)) as again:

        async def give_up() -> None:
            nonlocal late
            await trio.sleep(seconds)
            late = True
            again.shutdown(socket.SHUT_RDWR)  # ENOTCONN for the engine, which waits in a thread

        async with trio.open_nursery() as nursery:
            nursery.start_soon(give_up)
            try:
                number = await trio.to_thread.run_sync(mount_wire, wired)
            except OSError as error:
                failed = error
            nursery.cancel_scope.cancel()
    if failed and late:
        raise MountError(errno.ETIMEDOUT, f"the server of {type} has not answered in {seconds:.0f} s")
    if failed:
        raise failed
    return number


async def _answers(root: Root) -> None:
    """Returns when the server has answered for the first time."""
    try:
        await trio.to_thread.run_sync(os.stat, root.fd, abandon_on_cancel=True)
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.EIO, errno.ECONNABORTED):
            os.close(root.fd)
            raise
    except BaseException:
        os.close(root.fd)
        raise
