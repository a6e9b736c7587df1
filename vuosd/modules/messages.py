"""What a worker and the process of a module say to each other: one msgpack array a message, over a socket of
type SOCK_SEQPACKET; a descriptor comes along by SCM_RIGHTS. No I/O but `send` and `receive`.
"""

import socket
from typing import TypeAlias

import msgspec

from vuosd.api.boundaries import Boundary

LARGEST = 1 << 17
"""Bytes of a message."""


class Asked(msgspec.Struct, tag_field="is", tag="asked", array_like=True):
    """A call of a process of the view. To the module."""

    id: int
    nr: int
    name: str
    args: tuple[int, ...]
    pid: int
    tid: int
    path: bytes


class Wanted(msgspec.Struct, tag_field="is", tag="wanted", array_like=True):
    """A mount. To the module."""

    id: int
    type: str
    source: str
    target: bytes
    options: str


class Uses(msgspec.Struct, tag_field="is", tag="uses", array_like=True):
    """What is in use? To the module."""

    id: int


class Done(msgspec.Struct, tag_field="is", tag="done", array_like=True):
    """Of a Memory. To the module."""

    number: int
    errno: int = 0
    data: bytes = b""


class Ready(msgspec.Struct, tag_field="is", tag="ready", array_like=True):
    """It has started. From the module, as the next."""

    boundaries: tuple[Boundary, ...]
    permanent: bool
    summary: str
    deadline: float


class Refused(msgspec.Struct, tag_field="is", tag="refused", array_like=True):
    """It cannot start."""

    errno: int
    text: str


class Memory(msgspec.Struct, tag_field="is", tag="memory", array_like=True):
    """Of the caller of call `id`: `size` bytes are to be read, a string of at most `size` bytes, or `data`
    written.
    """

    number: int
    id: int
    string: bool
    address: int
    size: int = 0
    data: bytes | None = None


class Answer(msgspec.Struct, tag_field="is", tag="answer", array_like=True):
    """To an Asked: `value`, an `errno` if that is not 0, `proceeds`, or a descriptor, which comes along.
    `log` is a line that somebody should see.
    """

    id: int
    value: int = 0
    errno: int = 0
    proceeds: bool = False
    descriptor: bool = False
    cloexec: bool = False
    log: str = ""


class Mounted(msgspec.Struct, tag_field="is", tag="mounted", array_like=True):
    """To a Wanted: type, source and options of another mount, or none of them if it proceeds."""

    id: int
    mount: tuple[str, str, str] | None
    errno: int = 0
    text: str = ""
    log: str = ""


class Used(msgspec.Struct, tag_field="is", tag="used", array_like=True):
    """To a Uses."""

    id: int
    uses: tuple[str, ...]


ToModule: TypeAlias = Asked | Wanted | Uses | Done
FromModule: TypeAlias = Ready | Refused | Memory | Answer | Mounted | Used

_encoder = msgspec.msgpack.Encoder()
_to_module: msgspec.msgpack.Decoder[ToModule] = msgspec.msgpack.Decoder(ToModule)
_from_module: msgspec.msgpack.Decoder[FromModule] = msgspec.msgpack.Decoder(FromModule)


def send(sock: socket.socket, message: ToModule | FromModule, fds: tuple[int, ...] = ()) -> None:
    """OSError when nobody is there."""
    data = _encoder.encode(message)
    if fds:
        socket.send_fds(sock, [data], fds, socket.MSG_NOSIGNAL)
    else:
        sock.send(data, socket.MSG_NOSIGNAL)


def receive_asked(sock: socket.socket) -> ToModule | None:
    """The module's side; None: the worker has gone."""
    data = sock.recv(LARGEST)
    return _to_module.decode(data) if data else None


def receive_answer(sock: socket.socket, flags: int = 0) -> tuple[FromModule | None, tuple[int, ...]]:
    """The worker's side, with the descriptors that came along; None: the module has gone. Raises
    msgspec.DecodeError for what is no message, and OSError.
    """
    data, fds, _, _ = socket.recv_fds(sock, LARGEST, 8, flags | socket.MSG_CMSG_CLOEXEC)
    try:
        return (_from_module.decode(data) if data else None), tuple(fds)
    except msgspec.DecodeError:
        for fd in fds:
            socket.close(fd)
        raise
