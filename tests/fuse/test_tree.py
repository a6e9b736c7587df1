"""Paths stay right while calls wait: renames against everything else, at once, in an order that chance
makes."""

import errno
import os
import random
import threading
from typing import Any

import trio
import trio.testing

from vuosd.api import Caller
from vuosd.api.status import current
from vuosd.fuse.calls import Calls
from vuosd.fuse.operations import TreeOperations
from vuosd.plugins.memory import Memory
from vuosd.testing import serving
from vuosd.testing.place import Place


class Waiting(Memory):
    """Each method waits before it looks: if the path it has been given is wrong by then, it says so."""

    timeout = 0.0

    async def _after(self, method: Any, *arguments: Any) -> Any:
        for _ in range(random.randrange(4)):  # noqa: S311
            await trio.lowlevel.checkpoint()
        return method(*arguments)

    async def lstat(self, path: bytes) -> Any:  # type: ignore[override]
        return await self._after(super().lstat, path)

    async def listdir(self, path: bytes) -> Any:  # type: ignore[override]
        return await self._after(super().listdir, path)

    async def open(self, path: bytes, flags: int, mode: int) -> Any:  # type: ignore[override]
        return await self._after(super().open, path, flags, mode)

    async def rename(self, old: bytes, new: bytes, flags: int) -> Any:  # type: ignore[override]
        return await self._after(super().rename, old, new, flags)

    async def unlink(self, path: bytes) -> Any:  # type: ignore[override]
        return await self._after(super().unlink, path)


MOVES = [
    ("/a", "/b"),
    ("/b", "/a"),
    ("/a/in", "/c/in"),
    ("/c/in", "/b/in"),
    ("/b/in", "/a/in"),
    ("/c", "/a/c"),
    ("/a/c", "/c"),
]
GONE = {errno.ENOENT, errno.ESTALE, errno.ENOTEMPTY, errno.EINVAL, errno.EEXIST}
"""What a path that others move may be told."""


def _lenient(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except OSError as error:
        if error.errno not in GONE:
            raise
        return None


def _move(place: Place, rounds: int) -> None:
    for number in range(rounds):
        _lenient(place.rename, *MOVES[(number * 7 + threading.get_ident()) % len(MOVES)])


def _exchange(place: Place, rounds: int) -> None:
    for _ in range(rounds):
        _lenient(place.rename, "/a", "/b", 2)
        _lenient(place.rename, "/a/in", "/c", 2)


def _read(place: Place, rounds: int) -> None:
    for number in range(rounds):
        found = _lenient(place.read, f"/{'abc'[number % 3]}/in/file")
        assert found in (None, b"the contents")
        _lenient(place.names, f"/{'abc'[number % 3]}")


def _write(place: Place, rounds: int) -> None:
    for number in range(rounds):
        name = f"/{'abc'[number % 3]}/in/new"
        _lenient(place.write, name, b"new", os.O_CREAT)
        _lenient(place.link, name, name + "er")
        _lenient(place.unlink, name)
        _lenient(place.unlink, name + "er")


def test_renames_against_everything() -> None:
    with serving(Waiting(), deadline=20) as served:
        place = served.place
        for path in ("/a", "/b", "/c", "/a/in"):
            place.mkdir(path)
        place.write("/a/in/file", b"the contents")
        wrong: list[BaseException] = []

        def run(work: Any, rounds: int) -> None:
            try:
                work(place, rounds)
            except BaseException as error:
                wrong.append(error)

        workers = [
            threading.Thread(target=run, args=(work, rounds))
            for work, rounds in (
                (_move, 150),
                (_move, 150),
                (_exchange, 60),
                (_read, 150),
                (_read, 150),
                (_write, 60),
            )
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert wrong == []
        assert served.log() == ""
        # Nothing has been lost: the file is somewhere, once.
        waiting, found = ["/"], []
        while waiting:
            top = waiting.pop().rstrip("/")
            for name in place.names(top or "/"):
                found.append(name)
                if place.lstat(f"{top}/{name}").mode & 0o040000:
                    waiting.append(f"{top}/{name}")
        assert found.count("file") == 1


class Asker:
    """A request's context."""

    pid = uid = gid = umask = 0


class Told(Memory):
    """Says which calls have begun and ended; a test lets them go on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.go: dict[str, trio.Event] = {}

    async def _tell(self, call: str, method: Any, *arguments: Any) -> Any:
        self.calls.append(call)
        if call in self.go:
            await self.go[call].wait()
        result = method(*arguments)
        self.calls.append(f"{call} done")
        return result

    async def lstat(self, path: bytes) -> Any:  # type: ignore[override]
        return await self._tell(f"lstat {path.decode()}", super().lstat, path)

    async def rename(self, old: bytes, new: bytes, flags: int) -> Any:  # type: ignore[override]
        return await self._tell("rename", super().rename, old, new, flags)


async def test_a_rename_waits_and_is_waited_for() -> None:
    told = Told()
    told.start()
    current.set(Caller(0, 0, 0, 0))
    told.mkdir(b"/a", 0o755)
    told._add(b"/a/file", 0o100644)
    operations = TreeOperations(told, Calls("told", told))
    asker: Any = Asker()
    directory = (await operations.lookup(1, b"a", asker)).st_ino
    file = (await operations.lookup(directory, b"file", asker)).st_ino
    told.calls.clear()
    told.go = {"lstat /a/file": trio.Event(), "rename": trio.Event()}
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(operations.getattr, file, asker)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(operations.rename, 1, b"a", 1, b"b", 0, asker)
            await trio.testing.wait_all_tasks_blocked()
            assert told.calls == ["lstat /a/file"]  # the path is in use
            nursery.start_soon(operations.getattr, file, asker)
            nursery.start_soon(operations.getattr, 1, asker)  # is in nobody's way
            await trio.testing.wait_all_tasks_blocked()
            assert told.calls == ["lstat /a/file", "lstat /", "lstat / done"]
            told.go["lstat /a/file"].set()
            await trio.testing.wait_all_tasks_blocked()
            assert told.calls[3:] == ["lstat /a/file done", "rename"]  # which the second getattr waits for
            told.go["rename"].set()
            await trio.testing.wait_all_tasks_blocked()
    assert told.calls[5:] == ["rename done", "lstat /b/file", "lstat /b/file done"]
