"""Where a test runs: as whom, in which view, in which directory; and the run itself."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import identities, installation, processes
from harness.identities import Identity
from harness.installation import Installation

MARK = "VUOSD_FOREIGN"  # in the environment of everything that a test starts

HIDDEN = '[[mount]]\ntype = "hide"\ntarget = "{top}/hidden"\n'
VIEWS = {
    "native": None,
    "pass-through": "",
    "hide": HIDDEN,
    "bind": '[[mount]]\ntype = "bind"\nsource = "{top}/store"\ntarget = "{top}/work"\n',
    "enforce": "[view]\nenforce = true\n" + HIDDEN,
    "cow": '[[mount]]\ntype = "cow"\ntarget = "{top}/work"\nephemeral = true\n',
    "cow-root": '[[mount]]\ntype = "cow"\ntarget = "/"\nephemeral = true\n',
}


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit status ("timeout" when it had to be killed), what it wrote.

    A cow's status says also what has come into the tree below, where nothing may.
    """

    status: int | str
    output: str
    report: str  # what came by the descriptor that the command was given, see Setting.run


class Settings:
    """All settings of one identity: a directory for each view, an installation, a daemon of their own."""

    def __init__(self, identity: Identity, parent: str) -> None:
        self.identity = identity
        self.top = Path(tempfile.mkdtemp(prefix="vuosd-foreign-", dir=parent))
        self.top.chmod(0o755)
        self.installation: Installation = installation.for_identity(identity, self.top)
        self.home = self.directory("home", 0o755)
        self.daemons: list[subprocess.Popen[bytes]] = []
        try:
            self.settings = self.make_settings()
        except BaseException:
            self.close()
            raise

    def make_settings(self) -> dict[str, "Setting"]:
        runtime = self.start("run", [])
        return {name: Setting(self, name, runtime) for name in VIEWS}

    def who(self, around: Sequence[str]) -> dict[str, Any]:
        """What makes Popen start a command as the identity, if its first words do not."""
        identity = self.identity
        return {} if around else {"user": identity.uid, "group": identity.gid, "extra_groups": []}

    def start(self, name: str, around: Sequence[str]) -> Path:
        """A daemon, and its XDG_RUNTIME_DIR of that name."""
        runtime = self.directory(name, 0o700)
        daemon = subprocess.Popen(
            [*around, self.installation.bin / "vuosd"],
            env={**self.environment(), "XDG_RUNTIME_DIR": str(runtime)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            **self.who(around),
        )
        self.daemons.append(daemon)
        if not processes.until((runtime / "vuosd/control").exists):
            raise RuntimeError(f"vuosd of {self.identity.name} does not start")
        return runtime

    def directory(self, name: str, mode: int) -> Path:
        path = self.top / name
        path.mkdir(parents=True)
        os.chown(path, self.identity.uid, self.identity.gid)
        path.chmod(mode)
        return path

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "USER": pwd.getpwuid(self.identity.uid).pw_name,
        }

    def close(self) -> None:
        for daemon in self.daemons:
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                processes.kill_tree(daemon.pid)
                daemon.wait()
        shutil.rmtree(self.top, ignore_errors=True)


class Setting:
    """One view of one identity. Tests run one after the other: each gets the work directory empty."""

    around: Sequence[str] = ()

    def __init__(self, settings: Settings, view: str, runtime: Path) -> None:
        self.settings, self.view, self.runtime = settings, view, runtime
        # Short, and as long as the others: gpg's sockets must fit into an address, inside if natively.
        directory = f"v{sum(1 for _ in settings.top.glob('v?'))}"
        self.top = settings.directory(directory, 0o755)
        for name in ("hidden", "store", "work"):
            settings.directory(f"{directory}/{name}", 0o777)
        self.store = self.top / ("store" if view == "bind" else "work")
        self.work = self.top / "work"
        text = VIEWS.get(view)
        self.prefix: list[str] = []
        if text is not None:
            self.prefix = [str(settings.installation.vuos_run)]
            if text:
                profile = self.top / "view.toml"
                profile.write_text(text.format(top=self.top))
                profile.chmod(0o644)
                self.prefix.append(f"--view={profile}")
            self.prefix.append("--")

    def words(self, argv: Sequence[str]) -> list[str]:
        """What is started for a test's command."""
        return [*self.prefix, *argv]

    def run(self, argv: Sequence[str], env: Mapping[str, str], timeout: float, report: bool = False) -> Ended:
        """The work directory is the current one of the command. With `report`, the word "{fd}" in argv
        becomes a descriptor that the command writes to."""
        mark = secrets.token_hex(8)
        environment = {**self.settings.environment(), **env, MARK: mark, "TMPDIR": str(self.work)}
        if self.view != "native":
            environment["XDG_RUNTIME_DIR"] = str(self.runtime)
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as told:
            process = subprocess.Popen(
                self.words([str(told.fileno()) if word == "{fd}" else word for word in argv]),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.work,
                pass_fds=[told.fileno()] if report else [],
                start_new_session=True,
                umask=0o022,
                **self.settings.who(self.around),
            )
            status: int | str
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                status = "timeout"
            kill_marked(mark)
            process.wait()
            output.seek(0)
            told.seek(0)
            if self.view.startswith("cow") and (changed := os.listdir(self.work)):
                status = f"{status}, and below the cow there is {sorted(changed)}"
            ended = Ended(
                status, output.read().decode(errors="replace"), told.read().decode(errors="replace")
            )
        empty(self.store)
        return ended


def kill_marked(mark: str) -> None:
    """Everything that a run has started and left, wherever it has been reparented to."""
    wanted = f"{MARK}={mark}".encode()
    for _ in range(50):
        left = False
        for name in os.listdir("/proc"):
            try:
                if name.isdigit() and wanted in Path("/proc", name, "environ").read_bytes():
                    os.kill(int(name), signal.SIGKILL)
                    left = True
            except OSError:
                pass
        if not left:
            return
        processes.until(lambda: False, 0.02)


def empty(directory: Path) -> None:
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            subprocess.run(["chattr", "-R", "-f", "-i", "-a", entry.path], check=False, capture_output=True)
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)
    directory.chmod(0o777)


def of(names: Sequence[str], parent: str) -> list[Settings]:
    return [Settings(identities.get(name), parent) for name in names]
