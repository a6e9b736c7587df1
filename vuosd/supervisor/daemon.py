"""The daemon: accepts launchers and vuctl on the control socket, hands each launcher to the spare worker,
keeps the list.

It serves no session itself, so nothing that a session does can hold it up, and when it is killed the sessions
go on. SIGTERM, SIGINT, SIGHUP and `vuctl stop` end it, and with it all sessions: `vuctl stop` refuses while
there are any, unless it is forced.
"""

import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM
from typing import Any, NoReturn

import msgspec
import trio

from vuosd.supervisor import members, messages, zygote
from vuosd.supervisor.log import log
from vuosd.supervisor.messages import Message, Type
from vuosd.supervisor.receive import receive
from vuosd.supervisor.runtime import Place, inherited

_GREETING_SECONDS = 10.0
_ANSWER_SECONDS = 1.0
_NAME_SECONDS = 1.0
_ENDING_SECONDS = 2.5
_UCRED = struct.Struct("=iII")
_SHORT_OF_RESOURCES = (EMFILE, ENFILE, ENOBUFS, ENOMEM)

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Answer = Callable[["Daemon", bytes], Awaitable[bytes]]
Find = Callable[["Daemon", str], "tuple[Worker, int]"]


class Unclear(Exception):
    """Which session is meant; the text is for the person."""


def start(answer: Answer, find: Find) -> int:
    """`vuosd`: take the place or say why not (Running, RuntimeUnavailable), serve until told to end.

    `answer`: to a question of vuctl. `find`: the session that a text of a person means, and the state of the
    process by which it was named, 0 for none; Unclear.
    """
    for number in _ENDING:
        signal.signal(number, _end_early)
    activated = inherited()
    place = Place(os.environ)
    try:
        listener = activated or place.listen()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if not pid:
            _become_zygote(place, listener, ours, theirs)
        theirs.close()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        daemon = Daemon(listener, ours, answer, find)
        log.info("listening on %s", "a socket from systemd" if activated else place.control)
        trio.run(daemon.run)
        ours.close()
        os.waitpid(pid, 0)
        listener.close()
        log.info("ended")
        return 1 if daemon.failed else 0
    finally:
        place.leave()


def _end_early(number: int, _: object) -> NoReturn:
    """Before the loop runs, and after."""
    raise SystemExit(0)


def _become_zygote(
    place: Place, listener: socket.socket, ours: socket.socket, theirs: socket.socket
) -> NoReturn:
    try:
        place.forget()
        listener.close()
        ours.close()
    except BaseException:
        os._exit(1)
    zygote.main(theirs)


class Worker:
    """A worker as the daemon sees it: the spare, and from the hand-off on a session."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.about: dict[str, Any] | None = None
        self.since = 0.0
        self.busy = False
        self._number = 0
        self._waiting: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}

    async def listen(self) -> None:
        """Takes in what the worker says, until it has gone."""
        try:
            while (message := await receive(self.channel)) is not None:
                said = msgspec.json.decode(messages.large(message), type=dict[str, Any])
                if said["number"] == 0:
                    self.about = said["answer"]
                elif waiting := self._waiting.pop(said["number"], None):  # else who asked has given up
                    waiting.send_nowait(said["answer"])
        except (OSError, messages.ProtocolError, msgspec.DecodeError) as error:
            log.warning("a worker's channel broke: %s", error)
        finally:
            for waiting in self._waiting.values():
                waiting.close()
            self._waiting.clear()

    async def ask(
        self, question: str, *, seconds: float = _ANSWER_SECONDS, **fields: Any
    ) -> dict[str, Any] | None:
        """The worker's answer; None when it gives none in time."""
        self._number += 1
        number = self._number
        self._waiting[number], answers = trio.open_memory_channel[dict[str, Any]](1)
        try:
            self.tell(question, number, **fields)
            with trio.move_on_after(seconds):
                return await answers.receive()
        except (OSError, trio.EndOfChannel):
            pass
        finally:
            self._waiting.pop(number, None)
        return None

    def tell(self, what: str, number: int = 0, **fields: Any) -> None:
        request = msgspec.json.encode({**fields, "ask": what, "number": number})
        messages.send_large(self.channel, Type.CONTROL, request, flags=socket.MSG_DONTWAIT)


class Daemon:
    """The control socket, the spare and the sessions."""

    def __init__(self, listener: socket.socket, zygote: socket.socket, answer: Answer, find: Find) -> None:
        self.listener = listener
        self.listener.setblocking(False)
        self.zygote = zygote
        self.answer = answer
        self.find = find
        self.spare: Worker | None = None
        self.workers: set[Worker] = set()
        self.started = time.time()
        self.failed = False
        self.connections: set[socket.socket] = set()
        self._stop = trio.Event()
        self._nursery: trio.Nursery
        self._short = False

    @property
    def sessions(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.busy]

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._signals)
            nursery.start_soon(self._accept)
            nursery.start_soon(self._zygote_says)
            self._ask_for_spare()
            await self._stop.wait()
            await self._end()
            nursery.cancel_scope.cancel()
        for connection in self.connections:
            connection.close()

    def stop(self) -> None:
        """End, and end all sessions."""
        self._stop.set()

    async def _signals(self) -> None:
        with trio.open_signal_receiver(*_ENDING) as received:
            async for number in received:
                log.info("%s: ending", signal.Signals(number).name)
                self.stop()

    async def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
                self._short = False
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.listener)
            except OSError as error:
                if error.errno not in _SHORT_OF_RESOURCES:
                    log.warning("accept: %s", error.strerror)
                elif not self._short:
                    log.error("no connection can be accepted: %s", error.strerror)
                    self._short = True
                await trio.sleep(0.05)
            else:
                self._greet(connection)

    def _greet(self, connection: socket.socket) -> None:
        """The launcher sends its request at once, so mostly it is there and no task is needed."""
        try:
            self._first(connection, messages.receive(connection, flags=socket.MSG_DONTWAIT))
        except BlockingIOError:
            self._nursery.start_soon(self._wait_for_first, connection)
        except (OSError, messages.ProtocolError) as error:
            self._reject(connection, error)

    async def _wait_for_first(self, connection: socket.socket) -> None:
        try:
            with trio.move_on_after(_GREETING_SECONDS):
                self._first(connection, await receive(connection))
                return
            connection.close()
        except (OSError, messages.ProtocolError) as error:
            self._reject(connection, error)
        except trio.Cancelled:
            connection.close()
            raise

    def _refusal(self, connection: socket.socket, message: Message) -> str:
        """Why this peer may not talk to us, or "". The directory is closed to other users; this is the second
        lock.
        """
        pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid != os.geteuid() and (uid != 0 or message.type in (Type.RUN, Type.ENTER)):
            # root may ask, but a view's supervisor must be of the user whose processes it serves
            return f"this is the daemon of user {os.geteuid()}, not of {uid}"
        if pid and members.tag_of(pid) is not None:
            # A member, or the worker that connects in its name.
            return "no view can be controlled from inside a view, nor started where [control] grants none"
        if pid and not os.path.exists(f"/proc/{pid}"):
            # Whether it was a member cannot be known; a child of its may still speak for it.
            return "the process that connected has ended"
        return ""

    def _reject(self, connection: socket.socket, error: Exception) -> None:
        if isinstance(error, messages.VersionError):
            messages.send_failure(connection, messages.version_failure(error.version))
        else:
            messages.send_failure(connection, f"vuosd: {error}")
        connection.close()

    def _first(self, connection: socket.socket, message: Message | None) -> None:
        if message is None:
            connection.close()
        elif refusal := self._refusal(connection, message):
            log.warning("a connection was refused: %s", refusal)
            message.close()
            messages.send_failure(connection, f"vuosd: {refusal}")
            connection.close()
        elif message.type == Type.RUN:
            self._hand_off(connection, message)
        elif message.type == Type.ENTER and len(message.fds) in (2, 3):
            self._nursery.start_soon(self._hand_on, connection, message)
        elif message.type == Type.CONTROL:
            self._nursery.start_soon(self._control, connection, messages.large(message))
        else:
            message.close()
            self._reject(connection, messages.ProtocolError(f"nobody expected message {message.type} first"))

    def _hand_off(self, connection: socket.socket, message: Message) -> None:
        try:
            for _ in range(3):  # the spare may have been killed
                worker, self.spare = self.spare or self._new_worker(), None
                try:
                    fds = [connection.fileno(), *message.fds]
                    messages.send(worker.channel, Type.RUN, message.payload, fds, flags=socket.MSG_DONTWAIT)
                    worker.busy = True
                    worker.since = time.time()
                    break
                except (BrokenPipeError, ConnectionResetError):
                    continue
            else:
                messages.send_failure(connection, "vuosd: its workers do not start; see its log")
        except OSError as error:
            messages.send_failure(connection, f"vuosd: no worker: {error.strerror}")
        finally:
            message.close()
            connection.close()
        self._ask_for_spare()

    async def _found(self, wanted: str) -> tuple[Worker, int]:
        """As `find`; a session that has just begun has not told its name yet."""
        with trio.move_on_after(_NAME_SECONDS):
            while True:
                try:
                    return self.find(self, wanted)
                except Unclear:
                    if all(worker.about is not None for worker in self.sessions):
                        raise
                await trio.sleep(0.005)
        return self.find(self, wanted)

    async def _hand_on(self, connection: socket.socket, message: Message) -> None:
        """A launcher that enters a session goes to its worker."""
        wanted = os.fsdecode(message.payload)
        try:
            worker, state = await self._found(wanted)
            fds = [connection.fileno(), *message.fds]
            messages.send(
                worker.channel, Type.ENTER, messages.STATE.pack(state), fds, flags=socket.MSG_DONTWAIT
            )
        except Unclear as error:
            messages.send_failure(connection, f"vuosd: {error}")
        except (BrokenPipeError, ConnectionResetError):
            messages.send_failure(connection, f"vuosd: view {wanted} has just ended")
        except OSError as error:
            messages.send_failure(connection, f"vuosd: the view's worker does not answer: {error.strerror}")
        finally:
            message.close()
            connection.close()

    def _ask_for_spare(self) -> None:
        if self.spare is None and not self._stop.is_set():
            try:
                self.spare = self._new_worker()
            except OSError as error:
                log.error("no spare worker: %s", error.strerror)  # made when it is needed, then

    def _new_worker(self) -> Worker:
        """The channel can be used before the zygote has forked."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            messages.send(self.zygote, Type.SPARE, b"", [theirs.fileno()], flags=socket.MSG_DONTWAIT)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        worker = Worker(ours)
        self.workers.add(worker)
        self._nursery.start_soon(self._look_after, worker)
        return worker

    async def _look_after(self, worker: Worker) -> None:
        try:
            await worker.listen()
        finally:
            worker.channel.close()
            self.workers.discard(worker)
            if self.spare is worker:
                # The next launcher makes one: a spare that dies at birth must not make us fork for ever.
                self.spare = None

    async def _zygote_says(self) -> None:
        """Its messages are news only; its end is ours, for without it there are no more sessions."""
        while (message := await receive(self.zygote)) is not None:
            if message.type == Type.ENDED:
                pid, status = messages.PAIR.unpack(message.payload)
                log.debug("worker %d ended, status %d", pid, status)
            message.close()
        if not self._stop.is_set():
            log.error("the zygote has died; the sessions go on without a daemon")
            self.failed = True
            self._stop.set()

    async def _control(self, connection: socket.socket, request: bytes) -> None:
        """One question of vuctl. The connection of one that stops us stays open until we have ended: that is
        the answer.
        """
        try:
            messages.send_large(connection, Type.REPLY, await self.answer(self, request))
        except OSError:
            pass
        finally:
            if self._stop.is_set():
                self.connections.add(connection)
            else:
                connection.close()

    async def _end(self) -> None:
        """Sessions, then workers, then the zygote: each is given a moment before the next means are taken."""
        if self.failed:
            return
        if self.sessions:
            log.info("ending %d session(s)", len(self.sessions))
        for worker in list(self.workers):
            if worker.busy:
                try:
                    worker.tell("end")
                except OSError:
                    pass
            else:
                worker.channel.shutdown(socket.SHUT_RDWR)  # the spare
        self.zygote.shutdown(socket.SHUT_WR)
        with trio.move_on_after(_ENDING_SECONDS):
            await self._zygote_gone()
            return
        for pid, tag in members.tagged():
            if tag.state == members.SUPERVISOR and tag.session in self._numbers():
                log.error("worker %d does not end: killed", pid)
                os.kill(pid, signal.SIGKILL)
        with trio.move_on_after(_ENDING_SECONDS):
            await self._zygote_gone()

    async def _zygote_gone(self) -> None:
        while self.workers:
            await trio.sleep(0.002)

    def _numbers(self) -> set[int]:
        return {worker.about["session"] for worker in self.workers if worker.about}
