import os
import socket
from collections.abc import Iterator

import pytest

from vuosd.supervisor import messages
from vuosd.supervisor.messages import HEADER, MAGIC, ProtocolError, Type, VersionError

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_payload_and_descriptors_arrive(pair: Pair) -> None:
    fds = os.pipe()
    messages.send(pair[0], Type.SETUP, b"payload", fds)
    message = messages.receive(pair[1])
    assert message
    assert (message.type, message.payload, len(message.fds)) == (Type.SETUP, b"payload", 2)
    assert not any(os.get_inheritable(fd) for fd in message.fds)
    os.write(message.fds[1], b"x")
    assert os.read(fds[0], 1) == b"x"
    message.close()
    for fd in fds:
        os.close(fd)


def test_the_end(pair: Pair) -> None:
    pair[0].close()
    assert messages.receive(pair[1]) is None


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"VUOS", ProtocolError),
        (HEADER.pack(b"HTTP", 1, 1, 0), ProtocolError),
        (HEADER.pack(MAGIC, 2, 1, 0), VersionError),
        (HEADER.pack(MAGIC, 1, 1, 1), ProtocolError),
        (HEADER.pack(MAGIC, 1, 1, 0) + b"x", ProtocolError),
    ],
)
def test_refused(pair: Pair, data: bytes, error: type[Exception]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(pair[0], [data], [0, 1])
    with pytest.raises(error):
        messages.receive(pair[1])
    assert len(os.listdir("/proc/self/fd")) == before, "what came with it is closed"


@pytest.mark.parametrize("size", [0, 1, messages.LARGEST, messages.LARGEST + 1, 3_000_000])
def test_large(pair: Pair, size: int) -> None:
    messages.send_large(pair[0], Type.REPLY, b"x" * size)
    message = messages.receive(pair[1])
    assert message
    assert messages.large(message) == b"x" * size


def test_failure_is_one_that_the_launcher_can_read(pair: Pair) -> None:
    messages.send_failure(pair[0], "ä" * 20000)
    message = messages.receive(pair[1])
    assert message
    assert messages.FAIL.unpack_from(message.payload) == (125,)
    text = message.payload[4:].decode()
    assert len(message.payload) < 16384
    assert text.endswith("ä…\n")
    pair[1].close()
    messages.send_failure(pair[0], "nobody there")
