"""procinfo: what the machine and the server are doing, as files: the sample for plugins that show values
and take some."""

import os
import time
from collections.abc import Callable

from vuosd.api import Directory, Entries, MountOptions, Value, Values


class Procinfo(Values):
    """load, time, greeting (which can be written to), server/, descriptors/."""

    class Options(MountOptions):
        """greeting: what the file of that name says at first."""

        greeting: str = "hello"

    def start(self) -> None:
        self._greeting = self.options.greeting
        self._began = time.monotonic()

    def tree(self) -> Entries:
        return {
            "load": Value(lambda: " ".join(f"{load:.2f}" for load in os.getloadavg()) + "\n"),
            "time": Value(lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime())),
            "greeting": Value(lambda: f"{self._greeting}\n", self._greet),
            "server": {
                "pid": Value(lambda: f"{os.getpid()}\n"),
                "uptime": Value(lambda: f"{time.monotonic() - self._began:.0f}\n"),
            },
            "descriptors": Directory(
                lambda: {name: Value(_leads_to(name)) for name in os.listdir("/proc/self/fd")}
            ),
        }

    def _greet(self, text: str) -> None:
        if not text:
            raise ValueError("no greeting")
        self._greeting = text


def _leads_to(name: str) -> Callable[[], bytes]:
    def show() -> bytes:
        return os.readlink(f"/proc/self/fd/{name}".encode()) + b"\n"

    return show
