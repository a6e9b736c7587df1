"""One session, from the launcher's request to the end of its last process.

    the handshake with the launcher (handshake.py)      (blocking)
    then trio: the keeper's socket, the listener's hang-up, the engine's log, the daemon's questions,
             what is mounted
    the end: members killed, engine stopped, directories removed, os._exit

The worker exits 0 when it has cleaned up itself; whatever else it ends with, the zygote (or the private
daemon's guard) does it.

It stays dumpable: a process in an enforcing view cannot trace or read what is outside its Landlock domain
(the ptrace_access_check hook of security/landlock/task.c), and without the flag /proc/self of an ordinary
user's worker would belong to root.
"""

import os
import select
import signal
import socket
from typing import NoReturn

from vuosd.supervisor import members, messages, permitted
from vuosd.supervisor.handshake import establish
from vuosd.supervisor.log import log
from vuosd.supervisor.messages import Type
from vuosd.supervisor.prepared import Prepared, Refused
from vuosd.supervisor.running import Running
from vuosd.supervisor.session import Session

_TEARDOWN_SECONDS = 30
_SHORT_MILLISECONDS = 50


def main(
    number: int,
    *,
    channel: socket.socket | None = None,
    zygote: socket.socket | None = None,
    connection: socket.socket | None = None,
) -> NoReturn:
    """The worker's life: a spare gets its launcher by `channel` from the daemon, a private one has it from
    the start.
    """
    status = 1
    try:
        members.mark_supervisor(number)
        status = _main(Running(number, channel, zygote), connection)
    except BaseException:
        log.exception("a worker failed")
    finally:
        os._exit(status)


def _main(running: Running, connection: socket.socket | None) -> int:
    number, channel = running.number, running.channel
    if channel is not None:
        _rehearse(number)
        message = messages.receive(channel)
        if message is None:
            return 0
        connection = socket.socket(fileno=message.fds[0])
        message = message._replace(fds=message.fds[1:])
    else:
        assert connection is not None
        try:
            message = messages.receive(connection)
        except messages.VersionError as error:
            messages.send_failure(connection, messages.version_failure(error.version))
            return 0
        if message is None:
            return 0
    running.connection = connection
    try:
        establish(running, message)
    except Refused as refused:
        _give_up(running)
        messages.send_failure(connection, str(refused), refused.status)
        return 0
    except (BrokenPipeError, ConnectionResetError, EOFError):
        _give_up(running)
        return 0  # the launcher has gone, and with it the command
    except Exception as error:
        log.exception("a session could not be set up")
        _give_up(running)
        messages.send_failure(connection, f"vuosd: {type(error).__name__}: {error}")
        return 0
    if running.prepared.late or running.modules is not None or not _ends_soon(running):
        from vuosd.supervisor.watch import watch  # imports trio, which a private worker has not needed so far

        ended = watch(running)
        if ended.refused is not None:
            _stop(running)
            _give_up(running)
            messages.send_failure(connection, str(ended.refused), ended.refused.status)
            return 0
        if not ended.expected:
            log.info("session %x: ended: %s", number, ended.reason)
            if not members.kill(number):
                log.warning("session %x: some processes do not die", number)
    _tear_down(running)
    return 0


def _rehearse(number: int) -> None:
    """Does once, for nobody, what stands between a request and the command: a forked process pays for each
    page that it first writes to, and a spare has the time.
    """
    from vuosd.supervisor.request import Request

    tag = number << members.STATE_BITS
    Request(b"profile\0\0name\0\0argc\0001\0x\0envc\0001\0X=1\0", b"/")
    os.close(messages.memfd("rehearsal", b"x"))
    permitted.may_read(os.getpid())
    Session(tag=tag, cookie=1, broker=-1, enforce=False, privileged=False, broker_memory=False).stop()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        messages.send(ours, Type.SETUP, messages.SETUP.pack(0, 0, 0), [0])
        message = messages.receive(theirs)
        assert message
        message.close()


def _ends_soon(running: Running) -> bool:
    """Most commands are short: such a session ends here, and needs no event loop (5 ms of CPU)."""
    poller = select.poll()
    poller.register(running.connection, select.POLLIN)
    if running.prepared.controlled:
        poller.register(running.session.asked_fd(), select.POLLIN)
    while ready := poller.poll(_SHORT_MILLISECONDS):
        if ready[0][0] != running.connection.fileno():
            return False
        message = messages.receive(running.connection, flags=socket.MSG_PEEK)
        if message is None or message.type not in (Type.EXITED, Type.BYE):
            return False
        messages.receive(running.connection)
        if message.type == Type.BYE:
            return True
        running.status = messages.PAIR.unpack(message.payload)[1]
    return False


def _tear_down(running: Running) -> None:
    _stop(running)
    if running.prepared.layers is not None:
        running.prepared.layers.finish(running.report)
    running.scratch.remove()


def _stop(running: Running) -> None:
    # A thread that never comes back from the kernel must not keep the session: then SIGALRM ends us, and the
    # zygote cleans up.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_TEARDOWN_SECONDS)
    if running.quota is not None:
        running.quota.stop()
    if running.modules is not None:
        running.modules.finish()
    if running.family is not None:
        from vuosd.supervisor.mounting.ending import finish

        finish(running.family)
    running.session.stop()
    signal.alarm(0)


def _give_up(running: Running) -> None:
    """There will be no session."""
    prepared: Prepared | None = getattr(running, "prepared", None)
    if prepared is not None and prepared.layers is not None:
        prepared.layers.finish(None)
    if running.begun:
        from vuosd.supervisor.modules.profile import end

        end(running.begun)
    running.scratch.remove()
