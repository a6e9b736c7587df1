"""Sockets that servers in a view get when they open /dev/fuse and the kernel's is not to be had."""

import os
import select
import socket


class Sockets:
    """Our ends, until the server mounts: by what /proc/PID/fd says of theirs."""

    def __init__(self) -> None:
        self._ours: dict[str, socket.socket] = {}

    def open(self, flags: int) -> int:
        """A server's end."""
        self._sweep()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(not flags & os.O_NONBLOCK)
        self._ours[os.readlink(f"/proc/self/fd/{theirs.fileno()}")] = ours
        return theirs.detach()

    def take(self, name: str) -> int:
        """Our end of a socket that reads as `name` ("socket:[INODE]"); -1 if it is none of ours."""
        ours = self._ours.pop(name, None)
        return -1 if ours is None else ours.detach()

    def _sweep(self) -> None:
        """Of servers that have gone without having mounted."""
        for name, ours in list(self._ours.items()):
            poller = select.poll()
            poller.register(ours, 0)
            if poller.poll(0):
                self._ours.pop(name).close()
