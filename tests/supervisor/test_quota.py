"""Who writes to a full layer by what is open already: real processes, a layer as full as the test says."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import pytest

from vuosd.supervisor import members
from vuosd.supervisor.quota import Watcher, writes_to
from vuosd.supervisor.session import Session
from vuosd.supervisor.values import Stacked

pytestmark = pytest.mark.kernel

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

WRITER = """
import os, resource, signal, sys
resource.setrlimit(10, (int(sys.argv[1]) << 24, resource.RLIM_INFINITY))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
files = {path: os.open(path, os.O_WRONLY | os.O_APPEND) for path in sys.argv[2:]}
print("ready", flush=True)
for line in sys.stdin:
    word, *rest = line.split()
    if word == "fork" and os.fork():
        os.wait()
        continue
    try:
        if word == "write":
            os.write(files[rest[0]], b"x" * int(rest[1]))
        elif word == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(rest[0]), resource.RLIM_INFINITY))
        print("done", os.getpid(), flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""


class Writer:
    def __init__(self, session: int, *paths: Path) -> None:
        arguments = [sys.executable, "-c", WRITER, str(session), *map(str, paths)]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        assert self._read() == "ready"

    def _read(self) -> str:
        return cast(IO[str], self.process.stdout).readline().split()[0]

    def write(self, path: Path, count: int) -> str:
        return self.tell(f"write {path} {count}")

    def tell(self, text: str) -> str:
        stdin = cast(IO[str], self.process.stdin)
        stdin.write(text + "\n")
        stdin.flush()
        return self._read()

    @property
    def limit(self) -> tuple[int, int]:
        return resource.prlimit(self.pid, resource.RLIMIT_FSIZE)


class Layer:
    """A changed tree, with a limit of 100; `used` is what it holds."""

    def __init__(self, path: Path) -> None:
        self.session = members.new_session()
        self.top, self.used = path / "upper", 0
        self.top.mkdir()
        for name in ("a", "b"):
            (self.top / name).touch()
        self.outside = path / "upper-not"
        self.outside.touch()
        self.writers: list[Writer] = []
        stack = Stacked("cow", b"/t", True, (), (os.fsencode(self.top),), (), size=100)
        self.watcher = Watcher(cast(Session, self), [stack], self.session, os.getpid())

    def usage(self, number: int) -> int:
        assert number == 0
        return self.used

    def writer(self, *paths: Path) -> Writer:
        self.writers.append(Writer(self.session, *paths))
        return self.writers[-1]

    def close(self) -> None:
        members.kill(self.session)
        for writer in self.writers:
            with writer.process:
                pass


@pytest.fixture
def layer(tmp_path: Path) -> Iterator[Layer]:
    layer = Layer(tmp_path)
    yield layer
    layer.close()


def test_only_who_makes_a_file_longer_is_limited(layer: Layer) -> None:
    a, b = layer.top / "a", layer.top / "b"
    writer, idle, other = layer.writer(a, b), layer.writer(b), layer.writer(layer.outside)
    layer.watcher.turn()
    writer.write(a, 50)
    layer.watcher.turn()
    layer.used = 101
    layer.watcher.turn()  # how long they are is known from here on
    assert writer.limit == UNLIMITED
    writer.write(a, 20)
    other.write(layer.outside, 20)
    layer.watcher.turn()
    assert (writer.limit, idle.limit, other.limit) == ((70, UNLIMITED[1]), UNLIMITED, UNLIMITED)
    assert writer.write(a, 1) == "27"  # EFBIG
    assert writer.write(b, 1) == "done"
    layer.watcher.turn()
    assert (writer.limit[0], idle.limit[0]) == (1, 1)  # whoever wrote: both have the file that grew
    layer.used = 100
    layer.watcher.turn()
    assert (writer.limit, idle.limit) == (UNLIMITED, UNLIMITED)
    assert writer.write(a, 1) == "done"


def test_a_limit_of_its_own_comes_back(layer: Layer) -> None:
    a = layer.top / "a"
    writer = layer.writer(a)
    writer.tell("limit 1000")
    layer.used = 101
    layer.watcher.turn()
    writer.write(a, 10)
    layer.watcher.turn()
    assert writer.limit[0] == 10
    layer.used = 0
    layer.watcher.turn()
    assert writer.limit[0] == 1000


def test_what_it_sets_itself_meanwhile_stays(layer: Layer) -> None:
    a = layer.top / "a"
    writer = layer.writer(a)
    layer.used = 101
    layer.watcher.turn()
    writer.write(a, 10)
    layer.watcher.turn()
    writer.tell("limit 500")
    layer.used = 0
    layer.watcher.turn()
    assert writer.limit[0] == 500


def test_children_get_it_back_too(layer: Layer) -> None:
    a = layer.top / "a"
    writer = layer.writer(a)
    layer.used = 101
    layer.watcher.turn()
    writer.write(a, 10)
    layer.watcher.turn()
    writer.tell("fork")
    limits = [resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in members.of_session(layer.session)]
    assert limits == [(10, UNLIMITED[1])] * 2
    layer.used = 0
    layer.watcher.turn()
    limits = [resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in members.of_session(layer.session)]
    assert limits == [UNLIMITED] * 2


def test_writes_to(layer: Layer) -> None:
    a = layer.top / "a"
    a.write_bytes(b"12345")
    st = a.stat()
    top = os.fsencode(layer.top)
    before = writes_to(os.getpid(), [top])
    with a.open("rb"):
        assert writes_to(os.getpid(), [top]) == before == {}
        with a.open("ab"), layer.outside.open("ab"):
            assert writes_to(os.getpid(), [top]) == {(st.st_dev, st.st_ino): 5}
