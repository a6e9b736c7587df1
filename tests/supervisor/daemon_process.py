"""A real vuosd in a directory of its own, for tests of the daemon, of its workers and of vuctl."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from harness import processes
from supervisor.launcher_stand_in import Launcher

from vuosd.supervisor import members


class DaemonProcess:
    def __init__(self, directory: Path, **env: str) -> None:
        self.runtime = directory / "run"
        self.runtime.mkdir(mode=0o700, exist_ok=True)
        self.log = directory / "log"
        self.env = {**os.environ, "XDG_RUNTIME_DIR": str(self.runtime), "VUOSD_LOG_LEVEL": "debug", **env}
        self.control = self.runtime / "vuosd" / "control"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vuosd.cli.vuosd"],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def ready(self) -> "DaemonProcess":
        """Its spare is there."""
        assert processes.until(lambda: self.process.poll() is not None or bool(self.workers())), (
            self.log.read_text()
        )
        assert self.process.poll() is None, self.log.read_text()
        return self

    def launcher(self) -> Launcher:
        return Launcher.at(self.control)

    def below(self) -> list[int]:
        return [process.pid for process in processes.descendants(self.process.pid) if process.state != "Z"]

    def workers(self) -> dict[int, int]:
        """Process id of each worker, by session."""
        below = self.below()
        tags = {pid: members.tag_of(pid) for pid in below}
        return {tag.session: pid for pid, tag in tags.items() if tag and tag.state == members.SUPERVISOR}

    def zygote(self) -> int:
        (pid,) = (
            process.pid
            for process in processes.descendants(self.process.pid)
            if process.ppid == self.process.pid
        )
        return pid

    def vuctl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "vuosd.cli.main", *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            processes.kill_tree(self.process.pid)
            raise
