"""A launcher in Python, for tests of daemon and worker by themselves: the messages that vuos-run sends, no
more.

It keeps step by step control, so a test can leave out, break or delay any message.
"""

import ctypes
import os
import resource
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from vuosd.supervisor import messages, runtime
from vuosd.supervisor.messages import Message, Type

_LIBC = ctypes.CDLL(None, use_errno=True)
_PIDFD_GETFD, _SECCOMP = 438, 317
_NEW_LISTENER, _WAIT_KILLABLE_RECV = 1 << 3, 1 << 5


def request(
    arguments: Sequence[str], *, profile: str = "", name: str = "", env: dict[str, str] | None = None
) -> bytes:
    environment = [f"{key}={value}" for key, value in (env if env is not None else dict(os.environ)).items()]
    words = [
        "profile",
        profile,
        "name",
        name,
        "argc",
        str(len(arguments)),
        *arguments,
        "envc",
        str(len(environment)),
    ]
    return b"".join(os.fsencode(word) + b"\0" for word in [*words, *environment])


class Launcher:
    """One run. Use as a context manager: leaving it is the launcher's death."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.connection.settimeout(20)
        self.child = 0
        self.tag = 0
        self.listener = -1
        self.go = -1
        self.broker: socket.socket | None = None

    @classmethod
    def at(cls, control: Path) -> "Launcher":
        return cls(runtime.connect(control))

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.die()
        if self.child:
            try:
                os.waitpid(self.child, 0)
            except ChildProcessError:
                pass

    def die(self) -> None:
        self.connection.close()
        if self.broker:
            self.broker.close()
            self.broker = None
        for fd in (self.listener, self.go):
            if fd >= 0:
                os.close(fd)
        self.listener = self.go = -1

    def ask(
        self,
        arguments: Sequence[str],
        *,
        cwd: str = "/",
        enter: str = "",
        report: str | None = None,
        **more: object,
    ) -> None:
        """`enter`: the session that is to be entered. `report`: a file to be told at."""
        memfd = messages.memfd("request", request(arguments, **more))  # type: ignore[arg-type]
        directory = os.open(cwd, os.O_PATH)
        kind = Type.ENTER if enter else Type.RUN
        fds = [memfd, directory]
        if report is not None:
            fds.append(os.open(report, os.O_RDWR))
        messages.send(self.connection, kind, enter.encode(), fds)
        for fd in fds:
            os.close(fd)

    def receive(self) -> Message | None:
        return messages.receive(self.connection)

    def failure(self) -> str:
        """The text of the FAIL that must come next."""
        message = self.receive()
        assert message is not None
        assert message.type == Type.FAIL, message
        assert messages.FAIL.unpack_from(message.payload) == (125,)
        return message.payload[4:].decode()

    def start(self) -> Message:
        """From SETUP to READY; the command then waits for `release`."""
        setup = self.receive()
        assert setup is not None
        assert setup.type == Type.SETUP, (setup.type, setup.payload[4:].decode(errors="replace"))
        flags, count, self.tag = messages.SETUP.unpack(setup.payload)
        self.flags = messages.SetupFlag(flags)
        program = os.pread(setup.fds[0], 1 << 20, 0)
        assert len(program) == 8 * count
        words = os.pread(setup.fds[1], 1 << 20, 0).split(b"\0")
        if self.flags & messages.SetupFlag.CHDIR:
            del words[:2]
        argc = int(words[1])
        self.arguments = words[2 : 2 + argc]
        self.environment = words[4 + argc : -1]
        told, tell = os.pipe()
        wait, self.go = os.pipe()
        self.child = os.fork()
        if not self.child:
            self._become_command(program, count, tell, wait, setup)
        os.close(tell)
        os.close(wait)
        (number,) = struct.unpack("i", os.read(told, 4))
        os.close(told)
        assert number >= 0, os.strerror(-number)
        pidfd = os.pidfd_open(self.child)
        self.listener = _LIBC.syscall(_PIDFD_GETFD, pidfd, number, 0)
        os.close(pidfd)
        self.broker, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        payload = messages.PAIR.pack(self.child, os.getpid())
        messages.send(self.connection, Type.LISTENER, payload, [self.listener, theirs.fileno()])
        theirs.close()
        ready = self.receive()
        assert ready is not None
        assert ready.type == Type.READY, ready.payload
        setup.close()
        return setup

    def release(self) -> None:
        os.write(self.go, b"g")

    def finish(self) -> int:
        """The command's end, as a keeper tells it."""
        _, status = os.waitpid(self.child, 0)
        messages.send(self.connection, Type.EXITED, messages.PAIR.pack(self.child, status))
        messages.send(self.connection, Type.BYE)
        self.child = 0
        return os.waitstatus_to_exitcode(status)

    def run(self, arguments: Sequence[str], **more: object) -> int:
        self.ask(arguments, **more)  # type: ignore[arg-type]
        self.start()
        self.release()
        return self.finish()

    def _become_command(self, program: bytes, count: int, tell: int, wait: int, setup: Message) -> None:
        try:
            # Another launcher's connection must not live on in here.
            for fd in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, tell, wait, *setup.fds}:
                try:
                    os.close(fd)
                except OSError:
                    pass
            resource.setrlimit(10, (self.tag, resource.getrlimit(10)[1]))
            if messages.SetupFlag.CWD in self.flags:
                os.fchdir(setup.fds[-1])
            _LIBC.prctl(38, 1, 0, 0, 0)
            if messages.SetupFlag.LANDLOCK in self.flags:
                assert _LIBC.syscall(446, setup.fds[2], 0) == 0
            buffer = ctypes.create_string_buffer(program)
            fprog = struct.pack("H6xQ", count, ctypes.addressof(buffer))
            argv = [os.fsdecode(word) for word in self.arguments]
            env = dict(os.fsdecode(word).split("=", 1) for word in self.environment)
            listener = _LIBC.syscall(_SECCOMP, 1, _NEW_LISTENER | _WAIT_KILLABLE_RECV, fprog)
            os.write(tell, struct.pack("i", listener if listener >= 0 else -ctypes.get_errno()))
            os.read(wait, 1)
            os.execvpe(argv[0], argv, env)
        finally:
            os._exit(126)
