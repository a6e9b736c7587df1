"""vuctl's side of the control socket."""

import json
import os
import socket
from typing import Any

from vuosd.supervisor import messages, runtime
from vuosd.supervisor.messages import Type

_SECONDS = 10.0


class ControlError(Exception):
    """The daemon could not be asked, or refused; the text tells the person."""


class NoDaemon(ControlError):
    """Nobody listens."""


def connect() -> socket.socket:
    """A connection to this user's daemon, or NoDaemon."""
    try:
        path = runtime.control_path(os.environ)
    except runtime.RuntimeUnavailable as error:
        raise NoDaemon(f"no vuosd is running: {error}") from None
    try:
        sock = runtime.connect(path)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        raise NoDaemon(f"no vuosd is running (nobody listens on {path})") from None
    except OSError as error:
        raise ControlError(f"cannot reach vuosd at {path}: {error.strerror}") from None
    sock.settimeout(_SECONDS)
    return sock


def ask(command: str, *, seconds: float = _SECONDS, **arguments: Any) -> dict[str, Any]:
    """The daemon's reply to one request, for which it may take so long."""
    with connect() as sock:
        sock.settimeout(seconds)
        return exchange(sock, command, **arguments)


def exchange(sock: socket.socket, command: str, **arguments: Any) -> dict[str, Any]:
    try:
        messages.send(sock, Type.CONTROL, json.dumps({"command": command, **arguments}).encode())
        message = messages.receive(sock)
    except TimeoutError:
        raise ControlError(f"vuosd does not answer within {sock.gettimeout():.0f} s") from None
    except messages.VersionError as error:
        raise ControlError(
            f"vuosd speaks {error}: it is of another version; end it and start this one"
        ) from None
    except (OSError, messages.ProtocolError) as error:
        raise ControlError(f"vuosd: {error}") from None
    if message is None:
        raise ControlError("vuosd ended before it answered")
    if message.type == Type.FAIL:
        message.close()
        raise ControlError(message.payload[messages.FAIL.size :].decode("utf-8", "replace").strip())
    reply: dict[str, Any] = json.loads(messages.large(message))
    if "error" in reply:
        raise ControlError(reply["error"])
    return reply


def wait_for_end(sock: socket.socket) -> bool:
    """After `stop`: the daemon closes the connection when it has ended. False when it takes too long."""
    try:
        return messages.receive(sock) is None
    except (OSError, messages.ProtocolError):
        return False
