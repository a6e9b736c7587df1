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
from vuosd.supervisor.entering import Launcher, enter
from vuosd.supervisor.held import wait_for_layers
from vuosd.supervisor.log import log
from vuosd.supervisor.messages import Message, Type
from vuosd.supervisor.mounting.mounter import Mounter
from vuosd.supervisor.mounting.profile import mount_all
from vuosd.supervisor.prepared import Refused
from vuosd.supervisor.receive import receive
from vuosd.supervisor.request import RequestError, read
from vuosd.supervisor.stacks import system_of
from vuosd.supervisor.values import Placed, Stacked
from vuosd.views import Entry

if TYPE_CHECKING:
    from vuosd.supervisor.running import Running

_GOODBYE_SECONDS = 2.0
_INTERRUPT_SECONDS = 0.2
_ENTER_SECONDS = 2.0
"""For a launcher that is about to enter, when no other is left: it may have been stopped."""


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


class _Watch:
    def __init__(self, running: "Running") -> None:
        self.running = running
        self.ended = Ended("")
        self.first = _first(running)
        self.launchers = [self.first]
        self.begun = trio.Event()
        self.scope = trio.CancelScope()
        self.mounter = Mounter(running) if running.prepared.controlled else None
        if self.mounter is not None:
            self.mounter.family.losses.listen(self.first.report)

    async def run(self) -> Ended:
        with self.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.attend, self.first)
                tasks: list[Callable[[], Awaitable[None]]] = [self.engine_log, self.signals]
                if self.running.channel is not None:
                    tasks.append(self.daemon)
                if self.mounter is not None:
                    tasks.append(self.mount)
                else:
                    self.begun.set()
                for task in tasks:
                    nursery.start_soon(task)
        for launcher in self.launchers[1:]:
            self.tell_of_layers(launcher)
        if self.launchers:  # not of its own accord
            self.running.report = self.launchers[0].report
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
            self.begun.set()
            return
        assert self.mounter is not None
        assert prepared.view is not None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.interrupted)
                await mount_all(self.mounter, prepared.view, prepared.late, prepared.layers)
                nursery.cancel_scope.cancel()
            messages.send(self.running.connection, Type.READY)
            self.begun.set()
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

    async def attend(self, launcher: Launcher) -> None:
        """Until nothing is left of what a launcher has started; the last one's end is the session's."""
        goodbye = trio.Event()
        ended: list[Ended] = []
        async with trio.open_nursery() as nursery:

            def end(reason: str, *, expected: bool = False) -> None:
                ended.append(Ended(reason, expected))
                nursery.cancel_scope.cancel()

            nursery.start_soon(self.keeper, launcher, goodbye, end)
            nursery.start_soon(self.listener, launcher, goodbye, end)
        await self.left(launcher, ended[0])

    async def left(self, launcher: Launcher, ended: Ended) -> None:
        """It is one less: the end of the session, or of what the launcher had in it."""
        self.launchers.remove(launcher)
        self.hurry()
        running = self.running
        if not self.launchers:
            running.report, launcher.report = launcher.report, None
            self.end(ended.reason, expected=ended.expected)
            return
        if launcher is self.first:
            running.report = None
        self.tell_of_layers(launcher)
        if not ended.expected:
            ancestors = [pid for other in self.launchers for pid in (other.front, other.keeper) if pid]
            await trio.to_thread.run_sync(lambda: members.kill(running.number, but=ancestors))
        launcher.close()
        self.tell_daemon()
        if launcher.number:  # the last: a thread may still wait for a file system, on behalf of the dead
            unlisten = running.session.unlisten
            await trio.to_thread.run_sync(unlisten, launcher.number, abandon_on_cancel=True)

    def hurry(self) -> None:
        """Who is about to enter keeps nobody's session alive for long."""
        if any(launcher.number for launcher in self.launchers):
            return
        for launcher in self.launchers:
            if launcher.entering is not None:
                deadline = trio.current_time() + _ENTER_SECONDS
                launcher.entering.deadline = min(launcher.entering.deadline, deadline)

    def tell_of_layers(self, launcher: Launcher) -> None:
        """One that ends before the layers do. Who has begun the session waits for news of them."""
        layers = self.running.prepared.layers
        if launcher.report is not None and layers is not None:
            layers.leave(launcher.report, tell=launcher is self.first)
        if self.mounter is not None:
            self.mounter.family.losses.leave(launcher.report)

    async def keeper(self, launcher: Launcher, goodbye: trio.Event, end: Callable[..., None]) -> None:
        while True:
            try:
                message = await receive(launcher.connection)
            except messages.ProtocolError as error:
                log.warning("launcher %d: %s", launcher.keeper, error)
                message = None  # what it says further has no meaning
            if message is None:
                goodbye.set()
                if not self.running.prepared.keep_tree:
                    end("its launcher has died")
                return
            message.close()
            if message.type == Type.EXITED and len(message.payload) == messages.PAIR.size:
                launcher.status = messages.PAIR.unpack(message.payload)[1]
            elif message.type == Type.BYE:
                end("its last process has ended", expected=True)
                return

    async def listener(self, launcher: Launcher, goodbye: trio.Event, end: Callable[..., None]) -> None:
        """The listener hangs up when no process has the filter any more. Asking for no events leaves
        EPOLLHUP, which is always told; asking for readability would wake us for each notification.
        """
        with select.epoll() as poller:
            poller.register(launcher.listener, 0)
            await trio.lowlevel.wait_readable(poller.fileno())
        with trio.move_on_after(_GOODBYE_SECONDS):
            await goodbye.wait()  # the keeper has yet to reap the last one
        end("no process is left", expected=True)

    async def enter(self, message: Message) -> None:
        """A launcher that the daemon sends: served to the end of what it starts."""
        if len(message.fds) not in (3, 4):
            message.close()
            return
        connection = socket.socket(fileno=message.fds[0])  # the daemon's: it has come by it
        try:
            report = [socket.socket(fileno=fd) for fd in message.fds[3:]]
        except OSError as error:
            text = f"vuosd: where the launcher wants to be told is no socket: {error.strerror}"
            messages.send_failure(connection, text)
            connection.close()
            message._replace(fds=message.fds[1:]).close()
            return
        launcher = Launcher(connection, *report)
        self.launchers.append(launcher)
        if await self.has_entered(launcher, message._replace(fds=message.fds[1:3])):
            self.tell_daemon()
            await self.attend(launcher)
        else:
            await self.left(launcher, Ended("its last launcher could not enter it", True))

    async def has_entered(self, launcher: Launcher, message: Message) -> bool:
        """False: it could not, and has been told why, or has gone."""
        refusal = "vuosd: the view has just ended"
        try:
            (state,) = messages.STATE.unpack(message.payload)
            request = read(*message.fds)
            await self.begun.wait()
            layers = self.running.prepared.layers
            if launcher.report is not None and not (layers and layers.announce(launcher.report)):
                if self.running.shape.stacked:  # as in handshake.py
                    wait_for_layers(launcher.report)
                elif self.mounter is None:
                    launcher.report.close()
                    launcher.report = None
            if self.mounter is not None:
                self.mounter.family.losses.listen(launcher.report)
            children = self.mounter.children if self.mounter is not None else None
            with trio.CancelScope() as launcher.entering:
                self.hurry()
                await enter(self.running, children, launcher, request, state)
                launcher.entering = None
                refusal = ""
                return True
            refusal = "vuosd: the view has ended: entering it took too long"
        except Refused as refused:
            refusal = str(refused)
        except RequestError as error:
            refusal = f"vuosd: bad request: {error}"
        except messages.ProtocolError as error:
            refusal = f"vuosd: the launcher sent what is no message: {error}"
        except OSError as error:
            refusal = f"vuosd: the view cannot be entered: {error.strerror}"
        except EOFError:
            refusal = ""  # the launcher has gone
        finally:
            message.close()
            if refusal:
                messages.send_failure(launcher.connection, refusal)
        return False

    def tell_daemon(self) -> None:
        """What it keeps of us has changed."""
        import msgspec

        channel = self.running.channel
        if channel is None:
            return
        try:
            about = msgspec.json.encode({"number": 0, "answer": self.about()})
            messages.send_large(channel, Type.REPLY, about, flags=socket.MSG_DONTWAIT)
        except OSError:
            pass  # it has gone; the session goes on

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
            self.tell_daemon()
            while (message := await receive(channel)) is not None:
                if message.type == Type.ENTER:
                    nursery.start_soon(self.enter, message)
                    continue
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
        oldest, *others = self.launchers or [self.first]
        return {
            "session": running.number,
            "name": _text(os.fsencode(running.prepared.name)),
            **oldest.about(),
            "enforce": running.prepared.enforce,
            "entered": [one.about() for one in others if one.number],
        }

    def show(self) -> dict[str, Any]:
        """All about the session."""
        running, view = self.running, self.running.prepared.view
        return {
            **self.about(),
            "profile": _text(running.request.profile),
            "cwd": _text((view.cwd if view else None) or running.request.cwd),
            "keep_tree": running.prepared.keep_tree,
            "status": self.first.status,
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


def _first(running: "Running") -> Launcher:
    """The one that began the session."""
    launcher = Launcher(running.connection, running.report)
    launcher.listener, launcher.number = running.listener, running.listener_number
    launcher.child, launcher.keeper = running.child, running.keeper
    launcher.arguments, launcher.status = running.request.arguments, running.status
    return launcher


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
