"""The worker's side of the helper: its start, requests to it, and what it tells unasked."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import trio

import vuosd
from vuosd.supervisor import messages
from vuosd.supervisor.messages import Type
from vuosd.supervisor.mounting.bounds import Bounds
from vuosd.supervisor.mounting.helper import LARGEST, MOST_FDS

_START_SECONDS = 10.0
_CODE = """
import sys
sys.path.insert(0, {root!r})
from vuosd.supervisor.mounting.helper import main
main({fd}, {number})
"""


class NamespaceUnavailable(Exception):
    """There is no helper; the text says why."""


class Root(NamedTuple):
    """What has been mounted: an O_PATH descriptor of its root, MAJOR:MINOR of its device."""

    fd: int
    device: str


class Program(NamedTuple):
    """A server to be started.

    mark: a word by which its processes are known
    output: its stdout and stderr
    fds: descriptors, by the number that it shall have them by
    kernel: options that its own mount(2) gets as well, where we are root
    bounds: what it is kept within
    probed: a path that it may open for writing, and what it gets then: a descriptor for reading
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    mark: str
    output: int
    fds: Mapping[int, int]
    kernel: Sequence[str] = ()
    bounds: Bounds | None = None
    probed: tuple[str, int] | None = None


class Served(NamedTuple):
    """What a server of ours has mounted."""

    root: Root
    pid: int
    type: str
    source: str
    flags: int
    options: str


class Namespace:
    """The helper of one session. All but `finish` in trio, while `listen` runs."""

    def __init__(self, moved: Callable[[str, int], None], ended: Callable[[str, int], None]) -> None:
        """`moved(mark, pid)`: a server goes on in another process. `ended(mark, status)`: none of it is
        left; the status of its first process, negative for a signal.
        """
        self.why = ""
        """Why it can mount nothing; "" where it can. Servers it starts in any case."""
        self._moved, self._ended = moved, ended
        self._sock: socket.socket
        self._process: subprocess.Popen[bytes] | None = None
        """The helper, if it is a child of ours."""
        self._pidfd = -1
        self._answers: dict[int, trio.MemorySendChannel[tuple[dict[str, Any], tuple[int, ...]]]] = {}
        self._number = 0
        self._deaf = False

    async def start(self, session: int, zygote: socket.socket | None = None) -> None:
        """The helper has started, forked by the zygote where there is one, or NamespaceUnavailable."""
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            if zygote is None or not _forked(zygote, session, theirs):
                self._execute(session, theirs)
        self._sock.setblocking(False)
        said: dict[str, Any] | None = None
        with trio.move_on_after(_START_SECONDS):
            said, fds = await self._receive()
        if not said:
            self.finish(0)
            raise NamespaceUnavailable("the process that mounts does not start")
        self._pidfd = fds[0]
        self.why = "" if said["ready"] in ("user", "root") else said["why"]

    def _execute(self, session: int, theirs: socket.socket) -> None:
        root = os.path.dirname(os.path.dirname(vuosd.__file__))
        code = _CODE.format(root=root, fd=theirs.fileno(), number=session)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    async def listen(self) -> None:
        """Takes in what the helper says, until it has gone. Who waits for an answer then gets none."""
        try:
            await self._listen()
        finally:
            self._deaf = True
            for waiting in self._answers.values():
                waiting.close()
            self._answers.clear()

    async def _listen(self) -> None:
        while True:
            said, fds = await self._receive()
            if said is None:
                break
            if "moved" in said:
                self._moved(said["moved"], said["pid"])
            elif "ended" in said:
                self._ended(said["ended"], said["status"])
            elif (waiting := self._answers.pop(said["id"], None)) is not None:
                waiting.send_nowait((said, fds))
            else:
                _close(fds)  # whoever asked has given up

    async def _receive(self) -> tuple[dict[str, Any] | None, tuple[int, ...]]:
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._sock, LARGEST, MOST_FDS)
                break
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._sock)
            except ConnectionResetError:
                return None, ()
        for fd in fds:
            os.set_inheritable(fd, False)
        return (json.loads(data) if data else None), tuple(fds)

    async def _ask(
        self, do: str, fds: Sequence[int] = (), **fields: Any
    ) -> tuple[dict[str, Any], tuple[int, ...]]:
        if self._deaf:
            raise NamespaceUnavailable("the session ends")
        self._number += 1
        number = self._number
        tell, told = trio.open_memory_channel[tuple[dict[str, Any], tuple[int, ...]]](1)
        self._answers[number] = tell
        try:
            socket.send_fds(self._sock, [json.dumps({"id": number, "do": do, **fields}).encode()], fds)
            answer, got = await told.receive()
        except (trio.EndOfChannel, OSError) as error:
            raise NamespaceUnavailable(f"the process that mounts has died ({error})") from None
        finally:
            self._answers.pop(number, None)
        if "error" in answer:
            _close(got)
            raise OSError(answer["error"], answer["text"])
        return answer, got

    async def open_device(self, flags: int) -> int:
        """A /dev/fuse that can be mounted in the helper's namespace, and in no other."""
        _, fds = await self._ask("open", flags=flags)
        return fds[0]

    async def mount(
        self, device: int, path: bytes, kind: bytes, source: bytes, data: bytes, *, flags: int
    ) -> Root:
        """mount(2) in the namespace, with `fd=` of `device`."""
        names = {
            "path": os.fsdecode(path),
            "type": os.fsdecode(kind),
            "source": os.fsdecode(source),
            "data": os.fsdecode(data),
        }
        answer, fds = await self._ask("mount", [device], flags=flags, **names)
        return Root(fds[0], answer["device"])

    async def serve(self, program: Program, path: bytes) -> Served:
        """Start a server that mounts itself at `path`. OSError (EIO) when it ends without having done
        so.
        """
        said, got = await self._start(program, os.fsdecode(path))
        root = Root(got[0], said["device"])
        return Served(root, said["pid"], said["type"], said["source"], said["flags"], said["options"])

    async def serve_socket(self, program: Program, path: bytes, sock: int) -> Served:
        """The same, but what it opens as /dev/fuse is `sock`, and nothing is mounted: its root is no
        descriptor.
        """
        said, _ = await self._start(program, os.fsdecode(path), sock)
        root = Root(-1, said["device"])
        return Served(root, said["pid"], said["type"], said["source"], said["flags"], said["options"])

    async def start_server(self, program: Program) -> int:
        """Start a server of a descriptor that it is given; its process."""
        said, _ = await self._start(program, None)
        pid: int = said["pid"]
        return pid

    async def _start(
        self, program: Program, path: str | None, sock: int | None = None
    ) -> tuple[dict[str, Any], tuple[int, ...]]:
        content = {"argv": program.argv, "env": program.env, "cwd": "/", "fds": list(program.fds)}
        spec = messages.memfd("server", json.dumps(content).encode())
        try:
            handed = [spec, program.output, *program.fds.values()]
            bounds: dict[str, bool | str] | None = None
            if (within := program.bounds) is not None:
                bounds = {**within._asdict(), "ruleset": within.ruleset >= 0}
                handed += [within.ruleset] if within.ruleset >= 0 else []
            if program.probed is not None:
                handed.append(program.probed[1])
            handed += [] if sock is None else [sock]
            return await self._ask(
                "start",
                handed,
                path=path,
                mark=program.mark,
                socket=sock is not None,
                kernel=list(program.kernel),
                bounds=bounds,
                probed=None if program.probed is None else program.probed[0],
            )
        finally:
            os.close(spec)

    async def root(self, path: bytes) -> int:
        """The root of what is mounted at `path`, opened anew."""
        _, fds = await self._ask("root", path=os.fsdecode(path))
        return fds[0]

    async def remount(self, path: bytes, flags: int) -> None:
        """mount(2) with MS_REMOUNT in the namespace: these flags, and no others, for mount and file
        system.
        """
        await self._ask("remount", path=os.fsdecode(path), flags=flags)

    async def unmount(self, path: bytes, flags: int, *, patience: float = 0.0) -> None:
        """umount2(2) in the namespace, tried for `patience` seconds while it is EBUSY."""
        await self._ask("unmount", path=os.fsdecode(path), flags=flags, seconds=patience)

    async def signal(self, mark: str, number: int) -> None:
        """To all processes of a server."""
        await self._ask("signal", mark=mark, signal=number)

    def finish(self, seconds: float) -> bool:
        """Everything is unmounted and the servers end, within about so many seconds; False if the helper
        had to be killed. Blocks.
        """
        try:
            self._sock.setblocking(True)
            request = json.dumps({"id": 0, "do": "finish", "seconds": seconds})
            socket.send_fds(self._sock, [request.encode()], [])
        except OSError:
            pass  # it has gone, or goes when the socket does
        self._sock.close()
        if self._process is not None and self._pidfd < 0:
            self._pidfd = os.pidfd_open(self._process.pid)
        if self._pidfd < 0:
            return True  # it never began, and ends when it finds its socket closed
        ended = _has_ended(self._pidfd, seconds + 3.0)
        if not ended:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            _has_ended(self._pidfd, seconds + 3.0)
        os.close(self._pidfd)
        self._pidfd = -1
        if self._process is not None:
            self._process.wait()
        return ended


def _forked(zygote: socket.socket, session: int, theirs: socket.socket) -> bool:
    """Whether the zygote is there to fork a helper."""
    try:
        messages.send(zygote, Type.HELPER, messages.SESSION.pack(session), [theirs.fileno()])
    except OSError:
        return False
    return True


def _has_ended(pidfd: int, seconds: float) -> bool:
    """A process, within so many seconds."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
