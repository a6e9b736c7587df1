"""From the launcher's request to a session whose command may start:

    receive RUN ─▶ prepare ─▶ SETUP ─▶ LISTENER ─▶ the engine starts ─▶ READY
"""

import os
import resource
import socket
from typing import TYPE_CHECKING

from vuosd.supervisor import members, messages, permitted
from vuosd.supervisor.messages import Message, SetupFlag, Type
from vuosd.supervisor.prepared import Prepared, Refused
from vuosd.supervisor.request import Request, RequestError, read
from vuosd.supervisor.running import Running
from vuosd.supervisor.scratch import Scratch
from vuosd.supervisor.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vuosd.supervisor.modules.profile import Begun
    from vuosd.views import View


def establish(running: Running, message: Message) -> None:
    """The handshake; nobody else is to be served meanwhile, so it blocks."""
    connection = running.connection
    if message.type != Type.RUN or len(message.fds) not in (2, 3):
        raise Refused("vuosd: the launcher's first message is no request")
    try:
        running.request = request = read(*message.fds[:2])
        if len(message.fds) == 3:
            running.report = socket.socket(fileno=os.dup(message.fds[2]))
    except (RequestError, OSError) as error:
        raise Refused(f"vuosd: bad request: {error}") from None
    finally:
        message.close()
    prepared = running.prepared = _prepare(request, running.scratch)
    if prepared.view is not None and prepared.view.modules:
        running.begun = _begin_modules(prepared.view, running)
    running.fit(prepared)
    tag = running.number << members.STATE_BITS
    _send_setup(running, tag)
    broker = _receive_listener(running)
    session = running.session = Session(
        tag=tag,
        cookie=running.cookie,
        broker=broker,
        enforce=prepared.enforce,
        privileged=running.privileged,
        broker_memory=not permitted.may_read(running.child),
        keeper=connection.fileno(),
        protected_links=permitted.is_protected("symlinks"),
        protected_hardlinks=permitted.is_protected("hardlinks"),
        mounts=prepared.controlled,
        fusermount=permitted.fusermount() if prepared.controlled else -1,
    )
    for entry in prepared.placed:
        session.add(entry)
    for stack in prepared.stacked:
        session.add_stack(stack)
    if running.shape.traps:
        from vuosd.supervisor.modules.boundaries import ordinary

        session.announce(*ordinary(running.shape))
    running.listener_number = session.start(running.listener, prepared.start)
    if running.begun:
        _load_modules(running)
    limited = [stack for stack in prepared.stacked if stack.size]
    if limited:
        from vuosd.supervisor.quota import Watcher

        running.quota = Watcher(session, limited, running.number, running.child)
        running.quota.start()
    if running.channel is None:
        _let_go_of_stderr()
    if running.report is not None and not (prepared.layers and prepared.layers.announce(running.report)):
        if running.shape.stacked:  # there may be layers later
            from vuosd.supervisor.held import wait_for_layers

            wait_for_layers(running.report)
        elif not prepared.controlled:
            running.report.close()
            running.report = None
    if not prepared.late:
        messages.send(connection, Type.READY)


def _begin_modules(view: "View", running: Running) -> "Sequence[Begun]":
    """The processes of a profile's modules, ready; Refused."""
    from vuosd.supervisor.modules.profile import begin
    from vuosd.views import ProfileErrors

    try:
        return begin(view, running.number, running.request.variables())
    except ProfileErrors as errors:
        raise Refused(str(errors)) from None


def _load_modules(running: Running) -> None:
    """They answer from here on; Refused."""
    from vuosd.supervisor.modules.errors import ModuleError
    from vuosd.supervisor.modules.loaded import Modules

    env = running.request.variables()
    running.modules = Modules(running.number, running.session, running.shape, env)
    for one in running.begun:
        if one.process is not None:
            try:
                running.modules.add(one.process, load=one.entry.load)
            except ModuleError as error:
                raise Refused(f"vuosd: {error}") from None


def _as_asked_by(env: "Mapping[str, str]") -> None:
    """The plugins of whoever asks are looked for, not of whoever has started the daemon."""
    for name in ("HOME", "XDG_DATA_HOME"):
        if name in env:
            os.environ[name] = env[name]
        else:
            os.environ.pop(name, None)


def _prepare(request: Request, scratch: Scratch) -> Prepared:
    _as_asked_by(request.variables())
    if request.plain:
        return Prepared(os.fsdecode(request.name) or "pass-through", request.command)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each entry has a descriptor
    from vuosd.supervisor.prepare import prepare

    return prepare(request, scratch)


def _send_setup(running: Running, tag: int) -> None:
    prepared = running.prepared
    flags = prepared.setup
    fds = [running.program, messages.memfd("command", prepared.command)]
    if prepared.landlock is not None:
        fds.append(prepared.landlock)
    if prepared.cwd is not None:
        flags |= SetupFlag.CWD
        fds.append(prepared.cwd)
    try:
        payload = messages.SETUP.pack(flags, running.program_length, tag)
        messages.send(running.connection, Type.SETUP, payload, fds)
    finally:
        # Program and floor are kept for launchers that enter later, which only a daemon can send us.
        kept = (running.program, prepared.landlock) if running.channel is not None else ()
        for fd in fds:
            if fd not in kept:
                os.close(fd)


def _receive_listener(running: Running) -> int:
    """Fills in listener, child and keeper; returns the broker socket."""
    message = messages.receive(running.connection)
    if message is None:
        raise EOFError  # the launcher has said itself what went wrong
    if message.type != Type.LISTENER or len(message.fds) != 2:
        message.close()
        raise Refused("vuosd: the launcher sent no listener")
    running.child, running.keeper = messages.PAIR.unpack(message.payload)
    running.listener = message.fds[0]
    return message.fds[1]


def _let_go_of_stderr() -> None:
    """A private worker has it from the launcher, for a start that fails; a reader of that pipe must see its
    end.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
