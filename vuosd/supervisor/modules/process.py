"""One module's process: started, asked, ended."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from vuosd.modules import messages
from vuosd.modules.messages import Ready, Refused
from vuosd.supervisor.modules.errors import ModuleError
from vuosd.supervisor.mounting.output import Output

_START_SECONDS = 30.0
_END_SECONDS = 3.0

Received: TypeAlias = "tuple[messages.FromModule | None, tuple[int, ...]]"


class Process:
    """What is on the other side of `sock`."""

    def __init__(self, name: str, options: str, session: int, env: Mapping[str, str]) -> None:
        """Started, and ready; it blocks for that. ModuleError: with what it says is wrong. `options` are the
        text after -o, `env` is its environment.
        """
        self.name, self.options = name, options
        self.output = Output(f"module {name}")
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [name, "--fd", str(theirs.fileno()), "--session", str(session), "-o", options]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vuosd.modules.host", *words],
                pass_fds=[theirs.fileno()],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=self.output.write,
                stderr=self.output.write,
                start_new_session=True,
                cwd="/",
            )
        self.output.given()
        try:
            self.ready = self._begin()
        except BaseException:
            self.end(0)
            raise

    def _begin(self) -> Ready:
        self.sock.settimeout(_START_SECONDS)
        try:
            said, _ = messages.receive_answer(self.sock)
        except TimeoutError:
            text = f"module {self.name} has not started in {_START_SECONDS:.0f} s"
            raise ModuleError(errno.ETIMEDOUT, text) from None
        except (OSError, msgspec.DecodeError) as error:
            raise ModuleError(errno.EIO, f"module {self.name}: {error}") from None
        self.sock.setblocking(False)
        if isinstance(said, Refused):
            raise ModuleError(said.errno, said.text)
        if not isinstance(said, Ready):
            reason = self.output.reason() or "its process has ended before it was ready"
            raise ModuleError(errno.EIO, f"module {self.name}: {reason}")
        return said

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: messages.ToModule) -> None:
        """OSError when it has gone, or does not take in what it is sent."""
        messages.send(self.sock, message)

    def receive(self) -> Received:
        """BlockingIOError when there is nothing. See `messages.receive_answer`."""
        return messages.receive_answer(self.sock)

    def kill(self) -> None:
        self._process.kill()

    def fate(self) -> str:
        """Of one that has hung up."""
        try:
            status = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "it hung up"
        return f"killed by signal {-status}" if status < 0 else f"status {status}"

    def end(self, seconds: float = _END_SECONDS) -> None:
        """It has nothing more to do; blocks until it has ended, for so long at most, and then kills it."""
        self.sock.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def closed(fds: tuple[int, ...]) -> None:
    """Descriptors that nobody wanted."""
    for fd in fds:
        os.close(fd)
