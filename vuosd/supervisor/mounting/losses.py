"""What was written to a mount and could not be kept, and who hears of it: whoever unmounts, by an error; else
the person at the session's end, by vuos-run (launcher/layers.c), and the log.
"""

import os
import socket
from collections.abc import Sequence

from vuosd.supervisor.log import log
from vuosd.supervisor.mounting.mount import Mount
from vuosd.supervisor.values import Lost

_NAMED = 3
_LONGEST = 4000
"""Bytes of a sentence."""


class Losses:
    """Of one session."""

    def __init__(self) -> None:
        self._reports: list[socket.socket] = []
        self._announced = False
        self._sentences: list[str] = []

    def announce(self) -> None:
        """Something is mounted that can be written to: vuos-run waits at the end for `tell`."""
        if not self._announced:
            self._announced = True
            self._send(b"mounts")

    def listen(self, report: socket.socket | None) -> None:
        """A launcher's, that hears of it here; its owner closes it."""
        if report is not None:
            self._reports.append(report)
            if self._announced:
                _send(report, b"mounts")

    def leave(self, report: socket.socket | None) -> None:
        """One that ends before the session does, to which others belong."""
        if report in self._reports:
            self._reports.remove(report)
            if self._announced:
                _send(report, b"unmounted")

    def add(self, text: str) -> None:
        """Nobody who unmounts can be told."""
        log.warning("%s", text)
        self._sentences.append(text)

    def tell(self) -> None:
        """The session's mounts have gone."""
        if self._announced:
            for text in self._sentences:
                self._send(b"lost", os.fsencode(text)[:_LONGEST])
            self._send(b"unmounted")

    def _send(self, what: bytes, text: bytes = b"") -> None:
        for report in self._reports:
            _send(report, what, text)


def _send(report: socket.socket, what: bytes, text: bytes = b"") -> None:
    try:
        report.send(b"\0".join((what, b"", b"", text, b"")), socket.MSG_NOSIGNAL)
    except OSError:
        pass  # the launcher has gone, and nobody listens


def sentence(mount: Mount, lost: Sequence[Lost]) -> str:
    """For a person."""
    named = [f"{one.path.decode('utf-8', 'backslashreplace')} ({os.strerror(one.error)})" for one in lost]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    which = ", ".join(named[:_NAMED]) + more
    return f"{mount.place} ({mount.type}): what was written could not all be given to its server: {which}"
