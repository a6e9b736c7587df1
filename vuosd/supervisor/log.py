"""The log: lines on stderr, which systemd takes to the journal; $VUOSD_LOG names a file instead.

logging of the standard library would cost a private start 15 ms, so this is the little of it that is needed;
the last lines are kept, for `vuctl show`.
"""

import os
import time
from collections import deque

LEVELS = {"debug": 7, "info": 6, "warning": 4, "error": 3}
"""Priorities of syslog(3), which the journal understands at the start of a line: sd-daemon(3)."""


class Log:
    """One line a write, so that lines of several processes stay whole."""

    def __init__(self) -> None:
        self.name = "vuosd"
        self.begin()

    def begin(self) -> None:
        """As the environment says now, and nothing has been said yet."""
        self.level = LEVELS.get(os.environ.get("VUOSD_LOG_LEVEL", "info"), 6)
        self.last: deque[str] = deque(maxlen=100)
        self._fd: int | None = None
        self._journal = "JOURNAL_STREAM" in os.environ

    def _write(self, level: str, text: str) -> None:
        priority = LEVELS[level]
        if priority > self.level:
            return
        stamp = time.strftime("%H:%M:%S")
        self.last.append(f"{stamp} {text}")
        if self._fd is None:
            self._fd = self._open()
        head = f"<{priority}>" if self._journal else f"{stamp} "
        lines = "".join(f"{head}{self.name}[{os.getpid()}]: {line}\n" for line in text.splitlines())
        try:
            os.write(self._fd, lines.encode("utf-8", "replace"))
        except OSError:
            pass  # a full log holds nobody up

    def _open(self) -> int:
        path = os.environ.get("VUOSD_LOG")
        if not path:
            return 2
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:
            return 2

    def debug(self, text: str, *arguments: object) -> None:
        self._write("debug", text % arguments if arguments else text)

    def info(self, text: str, *arguments: object) -> None:
        self._write("info", text % arguments if arguments else text)

    def warning(self, text: str, *arguments: object) -> None:
        self._write("warning", text % arguments if arguments else text)

    def error(self, text: str, *arguments: object) -> None:
        self._write("error", text % arguments if arguments else text)

    def exception(self, text: str) -> None:
        """An error with the traceback of the exception being handled."""
        import traceback

        self._write("error", f"{text}\n{traceback.format_exc().rstrip()}")


log = Log()
