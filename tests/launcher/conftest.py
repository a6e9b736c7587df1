"""vuos-run compiled on the spot, and a fake daemon; everything twice: as whom we are and as a user."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from fake_daemon import RUN_ID, FakeDaemon, Session  # noqa: E402

ROOT = HERE.parents[1]
NOBODY = 65534
USERS = ["self", "user"] if os.geteuid() == 0 else ["self"]


@pytest.fixture
def tmp_path(public: Path) -> Iterator[Path]:
    """Where the user may go too; not below pytest's own, which each pytest that starts closes to others."""
    path = Path(tempfile.mkdtemp(prefix="launcher-", dir=public))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def vuos_run(public: Path) -> Path:
    directory = public / "launcher"
    directory.mkdir()
    out = directory / "launcher-tested"  # a name of its own, so that nobody takes it for theirs
    built = (ROOT / "launcher/meson.build").read_text()
    names = re.findall(r"'([^']+\.c)'", built[built.index("launcher_sources") : built.index("executable")])
    sources = [ROOT / "launcher" / name for name in names]
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-g", "-static", '-DVUOSD_VERSION="test"']
    subprocess.run(["gcc", *flags, *sources, "-o", out], check=True)
    return out


def members() -> list[int]:
    """The processes of our sessions, by their tag."""
    out = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                limits = Path(f"/proc/{entry}/limits").read_text()
                state = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            soft = next(line for line in limits.splitlines() if line.startswith("Max file locks"))[
                25:
            ].split()[0]
            if soft.isdigit() and int(soft) >> 40 == RUN_ID and state != "Z":
                out.append(int(entry))
    return out


def wait_until(condition: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


@dataclass
class Launcher:
    path: Path
    user: str
    runtime: Path
    daemon: FakeDaemon
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def prefix(self) -> list[str]:
        if self.user == "self":
            return []
        return [
            shutil.which("setpriv") or "setpriv",
            f"--reuid={NOBODY}",
            f"--regid={NOBODY}",
            "--clear-groups",
        ]

    @property
    def python(self) -> str:
        """An interpreter that this user may run: ours may be in a home directory."""
        return sys.executable if self.user == "self" else "/usr/bin/python3"

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "XDG_RUNTIME_DIR": str(self.runtime), "LC_ALL": "C", "PATH": "/usr/bin:/bin"}

    def argv(self, *words: str, name: str = "", more: Sequence[str] = ()) -> list[str]:
        return [*self.prefix, str(self.path), *([f"--name={name}"] if name else []), *more, "--", *words]

    def popen(
        self, *words: str, name: str = "", more: Sequence[str] = (), **options: Any
    ) -> subprocess.Popen[str]:
        options = {"env": self.env, "cwd": "/tmp", "text": True, **options}
        process = subprocess.Popen(self.argv(*words, name=name, more=more), **options)
        self.started.append(process)
        return process

    def run(
        self, *words: str, name: str = "", timeout: float = 20, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = self.popen(*words, name=name, **{**pipes, **options})
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @property
    def session(self) -> Session:
        return self.daemon.sessions[-1]


@pytest.fixture(params=USERS)
def launcher(request: pytest.FixtureRequest, vuos_run: Path, tmp_path: Path) -> Iterator[Launcher]:
    runtime = tmp_path / "run"
    runtime.mkdir()
    daemon = FakeDaemon(runtime)
    if request.param == "user":
        for path in (runtime, daemon.path.parent, daemon.path):
            os.chown(path, NOBODY, NOBODY)
    it = Launcher(vuos_run, request.param, runtime, daemon)
    try:
        yield it
        wait_until(lambda: not members())
        wait_until(lambda: all(s.ended.is_set() for s in daemon.sessions))
    finally:
        for process in it.started:
            if process.returncode is None:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()
        for pid in members():
            os.kill(pid, signal.SIGKILL)
        daemon.close()
    assert not daemon.errors
