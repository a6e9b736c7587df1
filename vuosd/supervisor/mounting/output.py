"""What a server of ours says on stdout and stderr: the log has it, and its last lines are the reason when
it fails.
"""

import os
import re
from collections import deque

import trio

from vuosd.supervisor.log import log

_LINES = 30
_LONGEST = 500
_WRONG = re.compile(
    "error|fail|cannot|can't|could not|unable|no such|not found|denied|refused|invalid|unknown|wrong|bad",
    re.IGNORECASE,
)


class Output:
    """One server's; `write` is what it gets."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._read, self.write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self.write, True)
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._rest = b""
        self.done = trio.Event()
        """Nobody can say anything any more."""

    def given(self) -> None:
        """The server has its end."""
        os.close(self.write)
        self.write = -1

    async def read(self) -> None:
        """Until the last process that could say something has ended."""
        try:
            while True:
                try:
                    data = os.read(self._read, 4096)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self._read)
                    continue
                if not data:
                    return
                self._take(data)
        finally:
            self._take(b"\n")
            self.done.set()
            os.close(self._read)
            if self.write >= 0:
                self.given()

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data)[-_LONGEST * _LINES :].split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "backslashreplace").strip()[:_LONGEST]
            if text:
                self._lines.append(text)
                log.debug("%s: %s", self.name, text)

    def reason(self) -> str:
        """What it says has gone wrong, for a sentence; many print how they are used after it."""
        wrong = [line for line in self._lines if _WRONG.search(line)]
        return "; ".join((wrong or list(self._lines))[:2])
