"""The first words of a server by wire."""

import errno
import os
import socket

import pytest

from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.starting import begin
from vuosd.supervisor.values import Wired


def wait(wired: Wired) -> int:
    """As the engine does: for an answer, or until the connection has been shut down."""
    with socket.socket(fileno=wired.socket) as ours:
        said = ours.recv(10)
    if not said:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
    return int(said)


async def test_one_that_never_answers() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, pytest.raises(MountError, match=r"^the server of x has not answered in 0 s$") as raised:
        await begin(wait, Wired(b"/", ours.detach(), -1, False, 0.0), "x", seconds=0.05)
    assert raised.value.errno == errno.ETIMEDOUT


async def test_one_that_does() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        theirs.send(b"7")
        assert await begin(wait, Wired(b"/", ours.detach(), -1, False, 0.0), "x", seconds=60) == 7


async def test_one_that_dies() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with pytest.raises(OSError, match="not connected") as raised:
        await begin(wait, Wired(b"/", ours.detach(), -1, False, 0.0), "x", seconds=60)
    assert raised.value.errno == errno.ENOTCONN
