"""A file system in Python that is served by a fork of a warm helper is in the state of one that has been
executed.
"""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import trio

from vuosd.api.types import HOST
from vuosd.supervisor import members
from vuosd.supervisor.mounting import native
from vuosd.supervisor.mounting.namespace import Namespace, Program
from vuosd.supervisor.mounting.output import Output

pytestmark = pytest.mark.kernel

_WARM = """
import os, sys
sys.path.insert(0, {root!r})
os.set_inheritable(0, True)
from vuosd.supervisor.mounting import helper, warm
warm.prepare()
secret = os.open("/etc/passwd", os.O_RDONLY)
os.set_inheritable(secret, True)
helper.begin({fd}, {number})
"""

_PLUGIN = """
import json, os, signal, sys
from vuosd.api import Filesystem, MemFile, Stat

class Facts(Filesystem):
    def start(self):
        paths = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        links = [os.readlink(path) for path in paths if os.path.lexists(path)]
        with open("/proc/self/status") as file:
            status = dict(line.rstrip("\\n").split(":\\t", 1) for line in file if ":\\t" in line)
        with open("/proc/self/environ", "rb") as file:
            shown = file.read().rstrip(b"\\0").decode()
        told = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "SigIgn", "SigBlk",
                "Umask", "Uid", "Gid", "Groups", "Threads")
        facts = {
            "kinds": sorted(link.partition(":")[0] for link in links),
            "env": dict(os.environ),
            "status": {name: status[name] for name in told},
            "cwd": os.getcwd(),
            "leads": os.getsid(0) == os.getpid(),
            "path": sorted(sys.path),
            "argv": sys.argv[1:],
            "parent": os.getppid(),
            "shown": shown,
            "int": signal.getsignal(signal.SIGINT).__qualname__,
            "encodings": [sys.stdout.encoding, sys.stderr.encoding, sys.getfilesystemencoding()],
        }
        with open(self.source + ".new", "w") as file:
            json.dump(facts, file)
        os.rename(self.source + ".new", self.source)

    def lstat(self, path):
        return Stat.directory()
"""


class Started:
    """What a file system says of its process, by a helper of either kind."""

    def __init__(self, path: Path, env: dict[str, str]) -> None:
        self.path, self.env = path, env
        self.ended: dict[str, int] = {}
        self.end = trio.Event()

    def _ended(self, mark: str, status: int) -> None:
        self.ended[mark] = status
        self.end.set()

    async def facts(self, name: str, signal: int = 0) -> dict[str, Any]:
        """… and that it ends: at this signal, or when nobody speaks to it any more."""
        plugin, said = self.path / "plugin.py", self.path / name
        plugin.write_text(_PLUGIN)
        self.end = trio.Event()
        namespace = Namespace(lambda mark, pid: None, self._ended)
        await namespace.start(members.new_session())
        output = Output(name)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(namespace.listen)
            nursery.start_soon(output.read)
            with ours, theirs:
                words = [*HOST, str(plugin), "--fd", "40", "--source", str(said)]
                program = Program(words, self.env, "abcd", output.write, {40: theirs.fileno()})
                pid = await namespace.start_server(program)
                output.given()
                theirs.close()
                with trio.fail_after(20):
                    while not said.exists():
                        assert not self.end.is_set(), output.reason()
                        await trio.sleep(0.01)
                facts: dict[str, Any] = json.loads(said.read_text())
                assert native.marked("abcd") == [pid]
                if signal:
                    await namespace.signal("abcd", signal)
                    with trio.fail_after(10):
                        await self.end.wait()
            with trio.fail_after(10):
                await self.end.wait()
            assert await trio.to_thread.run_sync(namespace.finish, 5.0)
            nursery.cancel_scope.cancel()
        helper = facts.pop("parent")
        assert not Path(f"/proc/{helper}").exists()
        return facts


@pytest.fixture
def env() -> dict[str, str]:
    """Of a session: another than the helper's own."""
    kept = {name: text for name, text in os.environ.items() if name.startswith(("PYTHON", "LD_", "LANG"))}
    return {**kept, "PATH": os.defpath, "ONLY": "here", "HOME": "/nowhere", "TZ": "UTC"}


async def test_it_is_in_the_state_of_one_that_was_executed(
    tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Descriptors, environment, capabilities, signals, working directory, where it looks for modules; and it
    ends when the other end does."""
    executed = Started(tmp_path, env)
    cold = await executed.facts("cold")
    monkeypatch.setattr("vuosd.supervisor.mounting.namespace._CODE", _WARM)
    monkeypatch.setenv("SECRET", "of who has started the daemon")
    forked = Started(tmp_path, env)
    warm = await forked.facts("warm")
    assert "\0" in cold.pop("shown")
    assert warm.pop("shown").rstrip("\0") == "VUOSD_MOUNT=abcd"
    del cold["argv"][-1], warm["argv"][-1]
    assert warm == cold
    assert executed.ended == forked.ended == {"abcd": 0}


async def test_it_is_killed_by_its_mark(
    tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vuosd.supervisor.mounting.namespace._CODE", _WARM)
    forked = Started(tmp_path, env)
    facts = await forked.facts("warm", signal=9)
    assert facts["shown"].rstrip("\0") == "VUOSD_MOUNT=abcd"
    assert forked.ended == {"abcd": -9}


@pytest.mark.parametrize("name", ["PYTHONPATH", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX"])
async def test_what_an_interpreter_begins_with_is_heeded(
    name: str, tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is executed."""
    monkeypatch.setattr("vuosd.supervisor.mounting.namespace._CODE", _WARM)
    text = "1" if name == "MALLOC_ARENA_MAX" else str(tmp_path)
    facts = await Started(tmp_path, {**env, name: text}).facts("said")
    assert "ONLY=here" in facts["shown"]
    assert (str(tmp_path) in facts["path"]) == (name == "PYTHONPATH")
