"""What a worker does while its session runs: it waits, in trio, for what ends the session and for questions
about it.
"""

import os
import select
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from vuosd.supervisor import members, messages
from vuosd.supervisor.log import log
from vuosd.supervisor.messages import Message, Type
from vuosd.supervisor.mounting.mounter import Mounter
from vuosd.supervisor.mounting.profile import mount_all
from vuosd.supervisor.prepared import Refused
from vuosd.supervisor.session import Placed, Stacked
from vuosd.supervisor.stacks import system_of
from vuosd.views import Entry

if TYPE_CHECKING:
    from vuosd.supervisor.worker import Running

_GOODBYE_SECONDS = 2.0
_INTERRUPT_SECONDS = 0.2


class Ended(NamedTuple):
    """`refused`: it has not begun, since not all of its profile could be mounted."""

    reason: str
    expected: bool = False
    refused: Refused | None = None


def watch(running: "Running") -> Ended:
    """Returns when the session is over; its members may still be alive."""
    log.name = f"vuosd {running.prepared.name}"
    command = b" ".join(running.request.arguments[:16])
    log.debug("session %x: %s", running.number, os.fsdecode(command)[:200])
    return trio.run(_Watch(running).run)


async def receive(sock: socket.socket) -> Message | None:
    """The next message of a non-blocking socket."""
    while True:
        try:
            return messages.receive(sock, flags=socket.MSG_DONTWAIT)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)


class _Watch:
    def __init__(self, running: "Running") -> None:
        self.running = running
        self.ended = Ended("")
        self.said_goodbye = trio.Event()
        self.scope = trio.CancelScope()
        self.mounter = Mounter(running) if running.prepared.controlled else None

    async def run(self) -> Ended:
        with self.scope:
            async with trio.open_nursery() as nursery:
                tasks: list[Callable[[], Awaitable[None]]] = [
                    self.keeper,
                    self.listener,
                    self.engine_log,
                    self.signals,
                ]
                if self.running.channel is not None:
                    tasks.append(self.daemon)
                if self.mounter is not None:
                    tasks.append(self.mount)
                for task in tasks:
                    nursery.start_soon(task)
        return self.ended

    def end(self, reason: str, *, expected: bool = False) -> None:
        self.ended = Ended(reason, expected)
        self.scope.cancel()

    async def mount(self) -> None:
        assert self.mounter is not None
        await self.mounter.run(self.begin)

    async def begin(self) -> None:
        """What the profile mounts is there before the command is."""
        prepared = self.running.prepared
        if not prepared.late:
            return
        assert self.mounter is not None
        assert prepared.view is not None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.interrupted)
                await mount_all(self.mounter, prepared.view, prepared.late, prepared.layers)
                nursery.cancel_scope.cancel()
            messages.send(self.running.connection, Type.READY)
        except* Refused as group:
            refused = next(one for one in group.exceptions if isinstance(one, Refused))
            self.ended = Ended("", True, refused)
            self.scope.cancel()
        except* OSError as errors:
            self.end(f"its launcher has gone: {errors.exceptions[0]}")

    async def interrupted(self) -> None:
        """Refused when a signal shall end the command, which holds them all back until it runs."""
        while not (number := await trio.to_thread.run_sync(members.ending, self.running.child)):
            await trio.sleep(_INTERRUPT_SECONDS)
        raise Refused("vuosd: interrupted while file systems were mounted", 128 + number)

    async def keeper(self) -> None:
        while True:
            message = await receive(self.running.connection)
            if message is None:
                self.said_goodbye.set()
                if not self.running.prepared.keep_tree:
                    self.end("its launcher has died")
                return
            message.close()
            if message.type == Type.EXITED:
                self.running.status = messages.PAIR.unpack(message.payload)[1]
            elif message.type == Type.BYE:
                self.end("its last process has ended", expected=True)
                return

    async def listener(self) -> None:
        """The listener hangs up when no process has the filter any more. Asking for no events leaves
        EPOLLHUP, which is always told; asking for readability would wake us for each notification.
        """
        with select.epoll() as poller:
            poller.register(self.running.listener, 0)
            await trio.lowlevel.wait_readable(poller.fileno())
        with trio.move_on_after(_GOODBYE_SECONDS):
            await self.said_goodbye.wait()  # the keeper has yet to reap the last one
        self.end("no process is left", expected=True)

    async def engine_log(self) -> None:
        sock = self.running.session.log
        while True:
            await trio.lowlevel.wait_readable(sock)
            try:
                line = sock.recv(4096)
            except BlockingIOError:
                continue
            log.warning("%s", line.decode("utf-8", "replace").rstrip())

    async def signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as received:
            async for _ in received:
                self.end("the worker was told to end")

    async def daemon(self) -> None:
        async with trio.open_nursery() as nursery:
            await self.listen_to_daemon(nursery)

    async def listen_to_daemon(self, nursery: trio.Nursery) -> None:
        """Answers the daemon. Without one the session goes on."""
        import msgspec

        channel = self.running.channel
        assert channel is not None
        try:
            about = msgspec.json.encode({"number": 0, "answer": self.about()})
            messages.send_large(channel, Type.REPLY, about)
            while (message := await receive(channel)) is not None:
                question = msgspec.json.decode(messages.large(message), type=dict[str, Any])
                if question["ask"] == "end":
                    self.end("vuosd ends")
                    return
                nursery.start_soon(self.answer, channel, question)
        except OSError:
            return

    async def answer(self, channel: socket.socket, question: dict[str, Any]) -> None:
        import msgspec

        if question["ask"] == "show":
            answer = self.show()
        elif question["ask"] == "stats":
            answer = self.running.session.stats()
        elif self.mounter is None:
            answer = {"error": "the view enforces its rules: nothing can be mounted in it ([control] allow)"}
        else:
            answer = await self.mounter.outside.answer(question)
        try:
            encoded = msgspec.json.encode({"number": question["number"], "answer": answer})
            messages.send_large(channel, Type.REPLY, encoded)
        except OSError:
            pass  # the daemon has gone; the session goes on

    def about(self) -> dict[str, Any]:
        """What the daemon keeps."""
        running = self.running
        return {
            "session": running.number,
            "name": _text(os.fsencode(running.prepared.name)),
            "pid": running.child,
            "keeper": running.keeper,
            "command": [_text(word) for word in running.request.arguments],
            "enforce": running.prepared.enforce,
        }

    def show(self) -> dict[str, Any]:
        """All about the session."""
        running, view = self.running, self.running.prepared.view
        return {
            **self.about(),
            "profile": _text(running.request.profile),
            "cwd": _text((view.cwd if view else None) or running.request.cwd),
            "keep_tree": running.prepared.keep_tree,
            "status": running.status,
            "modules": running.modules.about() if running.modules is not None else [],
            "entries": [self.entry(placed) for placed in (*running.prepared.placed, *running.prepared.late)]
            + [_several(stack) for stack in running.prepared.stacked],
            "env": {
                "set": {
                    _text(os.fsencode(key)): _text(os.fsencode(value)) for key, value in view.env.set.items()
                }
                if view
                else {},
                "unset": list(view.env.unset) if view else [],
                "keep": list(view.env.keep) if view else [],
            },
            "stats": running.session.stats(),
            "nested": [child.about() for child in self.mounter.children.all.values()] if self.mounter else [],
            "log": [_text(os.fsencode(line)) for line in log.last],
        }

    def entry(self, placed: Placed | Entry | Stacked) -> dict[str, Any]:
        """An entry of the view; of a file system, as the profile has it."""
        if isinstance(placed, Stacked):
            return _several(placed)
        if isinstance(placed, Entry) and placed.upon is not None:
            kind = "mincow" if placed.layering and placed.layering.minimal else "cow"
            source = system_of(placed)
        elif isinstance(placed, Entry):
            assert placed.served is not None
            kind, source = placed.served.type, os.fsencode(placed.served.source)
        else:
            kind, source = KINDS[placed.kind], placed.source_path
        return {
            "type": kind,
            "target": _text(placed.target),
            "source": _text(source),
            "readonly": placed.readonly,
        }


KINDS = {1: "bind", 2: "hide", 3: "tmpfs", 4: "root"}


def _several(stack: Stacked) -> dict[str, Any]:
    return {
        "type": stack.kind,
        "target": _text(stack.target),
        "source": _text(stack.sources[0]),
        "sources": [_text(source) for source in stack.sources],
        "readonly": not stack.writable,
        "layer": _text(os.fsencode(stack.layer)),
    }


def _text(name: bytes) -> str:
    """For JSON, which has no place for names that are not UTF-8."""
    return name.decode("utf-8", "backslashreplace")
