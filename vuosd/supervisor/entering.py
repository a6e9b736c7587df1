"""Launchers that enter a session which runs: `vuctl enter`.

    vuos-run --enter ──ENTER, the view's name──▶ daemon ──ENTER, state──▶ worker: `enter`
             ◀──SETUP: filter, command, floor── ──LISTENER──▶ ◀──READY──

A filter cannot be had from a process that is no ancestor, so each launcher installs the same program, with a
listener of its own, at which the engine answers as at the first.
"""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import trio

from vuosd.supervisor import members, messages
from vuosd.supervisor.messages import Message, SetupFlag, Type
from vuosd.supervisor.prepared import Refused
from vuosd.supervisor.receive import receive
from vuosd.supervisor.request import Request, command, pairs

if TYPE_CHECKING:
    from vuosd.supervisor.nested.children import Child, Children
    from vuosd.supervisor.running import Running


_UCRED = struct.Struct("=iII")


class Launcher:
    """One whose processes are in the session: the first has begun it, the others have entered.

    listener, number: its listener, and how the engine calls that; 0: it has none yet
    child, keeper, front: process ids: of the command, of the launcher's half that watches over it, and of the
    other half, by which we were asked
    space: the mount namespace that it has entered
    report: where it is told of the view's layers, if they are its to tell
    """

    def __init__(self, connection: socket.socket, report: socket.socket | None = None) -> None:
        self.connection = connection
        self.report = report
        self.listener = -1
        self.entering: trio.CancelScope | None = None
        """While it does."""
        self.number = self.child = self.keeper = self.space = 0
        self.front, _, _ = _UCRED.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        )
        self.arguments: list[bytes] = []
        self.status: int | None = None
        self.since = time.time()

    def about(self) -> dict[str, Any]:
        return {
            "pid": self.child,
            "keeper": self.keeper,
            "command": [word.decode("utf-8", "backslashreplace") for word in self.arguments],
            "namespace": self.space,
            "since": self.since,
        }

    def close(self) -> None:
        self.connection.close()
        if self.report is not None:
            self.report.close()
        if self.listener >= 0:
            os.close(self.listener)
        self.listener = -1


async def enter(
    running: "Running", children: "Children | None", launcher: Launcher, request: Request, state: int
) -> None:
    """The handshake, to the start of the command. Refused, ProtocolError; OSError and EOFError: the launcher
    has gone.
    """
    launcher.arguments = request.arguments
    child = _nested(running, children, state)
    launcher.space = child.space if child is not None else 0
    with _held(child):
        _send_setup(running, children, launcher, request)
        answer = await receive(launcher.connection)
        if answer is None:
            raise EOFError  # the launcher has said itself what went wrong
        if not _is_answer(answer):
            answer.close()
            raise Refused("vuosd: the launcher sent no listener")
        launcher.child, launcher.keeper = messages.PAIR.unpack(answer.payload)
        launcher.listener, broker = answer.fds
        try:
            keeper = launcher.connection.fileno()
            launcher.number = running.session.listen(launcher.listener, broker, keeper)
        except OSError as error:
            raise Refused(f"vuosd: no one more can enter this view: {error.strerror}") from None
        finally:
            os.close(broker)
    messages.send(launcher.connection, Type.READY, flags=socket.MSG_DONTWAIT)


def _is_answer(message: Message) -> bool:
    sizes = len(message.payload), len(message.fds)
    return message.type == Type.LISTENER and sizes == (messages.PAIR.size, 2) and _is_listener(message.fds[0])


def _is_listener(fd: int) -> bool:
    """What it is not must not be waited at: the others of the session would suffer."""
    return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:seccomp notify"


def _nested(running: "Running", children: "Children | None", state: int) -> "Child | None":
    """The nested view that a process of this state is in; None: it is in none. Refused."""
    if state >= members.SERVER:
        return None  # the session's worker, or a server outside of the view
    try:
        space = running.session.space_of(state)
    except OSError:
        space = -1
    if not space:
        return None
    child = children.all.get(space) if children is not None else None
    if child is None or child.ended:
        raise Refused(
            "vuosd: that process is in a view that has just ended, or serves a file system and sees what is "
            "below its mount: give the view's name, or another process"
        )
    return child


@contextlib.contextmanager
def _held(child: "Child | None") -> Iterator[None]:
    """A nested view does not end while somebody enters it, whom nobody can find by a tag yet."""
    if child is None:
        yield
        return
    child.entries += 1
    child.entering += 1
    try:
        yield
    finally:
        child.entering -= 1


def _send_setup(
    running: "Running", children: "Children | None", launcher: Launcher, request: Request
) -> None:
    prepared = running.prepared
    views = [] if prepared.view is None else [prepared.view]
    if children is not None:
        views += children.views(launcher.space)
    try:
        state = running.session.state_in(launcher.space)
    except OSError as error:
        raise Refused(f"vuosd: the view cannot be entered: {error.strerror}") from None
    env: Mapping[str, str] = request.variables()
    changed = False
    for view in views:
        if view.env.set or view.env.unset:
            env, changed = view.env.apply(env), True
    words = command(request.arguments, pairs(env.items())) if changed else request.command
    cwd = (views[-1].cwd if views else None) or request.cwd
    content = messages.memfd("command", b"cwd\0" + cwd + b"\0" + words)
    flags, fds = prepared.setup | SetupFlag.CHDIR, [running.program, content]
    if prepared.landlock is not None:
        fds.append(prepared.landlock)
    tag = running.number << members.STATE_BITS | state
    payload = messages.SETUP.pack(flags, running.program_length, tag)
    try:
        messages.send(launcher.connection, Type.SETUP, payload, fds, flags=socket.MSG_DONTWAIT)
    finally:
        os.close(content)
