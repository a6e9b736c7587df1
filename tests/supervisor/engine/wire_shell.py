"""Wire mounts (engine/wire_*.c) by themselves: wire_shell.c is built with them, sanitized, and spoken to."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from supervisor.engine import fuse_shell
from supervisor.engine.fuse_shell import ENGINE, HERE, Shell

SECONDS = 10.0
LIST, PARENT, CACHED = 1, 2, 4


def build(
    output: Path, main: Path = HERE / "wire_shell.c", flags: Sequence[str] = fuse_shell.SANITIZED
) -> Path:
    return fuse_shell.build(output, main, *sorted(ENGINE.glob("wire_*.c")), flags=flags)


class Mount:
    """A mount whose anchors are at `tree`."""

    def __init__(self, shell: Shell, tree: Path) -> None:
        self.shell = shell
        self.tree = tree

    def __call__(self, *words: object) -> dict[str, object]:
        return self.shell(*words)

    def stat(self, path: str) -> os.stat_result:
        self.shell("prepare", path, 0)
        return os.lstat(self.tree / path.lstrip("/"))

    def names(self, path: str = "/") -> set[str]:
        self.shell("prepare", path, LIST)
        return set(os.listdir(self.tree / path.lstrip("/")))

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        """As a program in a view would have it: the server first, then the anchor."""
        if flags & os.O_CREAT:
            self.shell("create", path, flags, 1, mode)
        else:
            self.shell("prepare", path, 0)
            self.shell("open", path, flags, 1)
        try:
            return os.open(self.tree / path, flags & ~(os.O_CREAT | os.O_EXCL))
        finally:
            self.shell("opened", 1)

    def read(self, path: str) -> bytes:
        with open(self.open(path, os.O_RDONLY), "rb") as file:
            return file.read()

    def write(self, path: str, data: bytes, flags: int = os.O_WRONLY | os.O_CREAT | os.O_TRUNC) -> None:
        with open(self.open(path, flags), "wb") as file:
            file.write(data)


@contextmanager
def running(program: Path, cache: Path, *command: object, deadline: float = 20) -> Iterator[Mount]:
    cache.mkdir()
    shell = Shell(program, deadline, [str(cache), "--", *map(str, command)])
    try:
        shell.answer()
        yield Mount(shell, cache / "tree")
    finally:
        shell.end()
        assert os.listdir(cache) == []


def wait_for(condition: Callable[[], bool]) -> None:
    """What happens soon, and not at once: data goes back after a close, not in it."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it has not come to pass"
        time.sleep(0.002)
