"""Messages (messages.py) for who waits in trio."""

import socket

import trio

from vuosd.supervisor import messages
from vuosd.supervisor.messages import Message


async def receive(sock: socket.socket) -> Message | None:
    """The next message of a non-blocking socket."""
    while True:
        try:
            return messages.receive(sock, flags=socket.MSG_DONTWAIT)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)
