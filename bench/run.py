"""One run of one command: elapsed time, and the CPU time of everything that took part in it.

The runner (micro/runner.c) is a subreaper and counts all processes below it. A view's worker is not below it
but below the daemon: its time is read from its CPU clock (clock_getcpuclockid(3)), which has nanoseconds, not
the ticks of /proc/PID/stat.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.columns import SCRIPTS, Column
from bench.places import Place


@dataclass(frozen=True)
class Run:
    """Seconds, and what was printed."""

    wall: float
    cpu: float
    output: str


class Failed(Exception):
    """The command did not do what it does natively; the text says how."""


class Daemon:
    """A vuosd of our own, in the place's runtime directory."""

    def __init__(self, place: Place) -> None:
        self.environment = {**place.environment(), "XDG_RUNTIME_DIR": str(place.runtime)}
        self.log = place.top / "vuosd.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [SCRIPTS / "vuosd"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        socket = place.runtime / "vuosd/control"
        deadline = time.monotonic() + 10
        while not socket.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text().strip()
                self.stop()
                raise Failed(f"vuosd does not start: {said.splitlines()[-1] if said else 'no message'}")
            time.sleep(0.01)
        self.settle()

    def settle(self) -> None:
        """Until a spare worker waits in the daemon's zygote, and nothing else moves."""
        deadline = time.monotonic() + 3
        before, now = None, self.clocks()
        while time.monotonic() < deadline and (before != now or len(now) < 3):
            time.sleep(0.02)
            before, now = now, self.clocks()

    def clocks(self) -> dict[int, int]:
        """Nanoseconds of CPU of the daemon and of each process below it."""
        return {
            pid: clock
            for pid in (self.process.pid, *descendants(self.process.pid))
            if (clock := cpu_clock(pid)) is not None
        }

    def since(self, before: dict[int, int]) -> int:
        """CPU since `before`, once the session that ran has ended: its worker is the only process to go."""
        last = dict(before)
        deadline = time.monotonic() + 5
        workers = [pid for pid in before if pid != self.process.pid and not list(descendants(pid))]
        while time.monotonic() < deadline:
            gone = False
            for pid in workers:  # closely: what is read last before the end is what counts
                clock = cpu_clock(pid)
                gone = gone or clock is None
                last[pid] = clock or last[pid]
            if gone:
                break
        last |= self.clocks()
        return sum(clock - before.get(pid, 0) for pid, clock in last.items())

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                for pid in (*descendants(self.process.pid), self.process.pid):
                    os.kill(pid, signal.SIGKILL)
                self.process.wait()


def cpu_clock(pid: int) -> int | None:
    try:
        return time.clock_gettime_ns(
            (~pid << 3) | 2
        )  # CPUCLOCK_SCHED of the process: kernel/time/posix-cpu-timers.c
    except OSError:
        return None


def descendants(pid: int) -> Iterable[int]:
    """A process that ends meanwhile has none."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        try:
            found = [int(word) for word in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()]
        except OSError:
            continue
        for child in found:
            yield child
            yield from descendants(child)


def run(
    place: Place,
    column: Column,
    command: list[str],
    *,
    daemon: Daemon | None = None,
    directory: Path | None = None,
    seconds: int = 60,
) -> Run:
    """`daemon` None: a view starts its private one, and the runner counts that."""
    result = place.top / "result"
    served = daemon if column.is_view else None
    before = served.clocks() if served else {}
    process = subprocess.run(
        [place.bin / "runner", str(seconds), result, *column.wrap(command)],
        env=served.environment if served else place.environment(),
        cwd=directory or place.tree,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    supervisor = served.since(before) if served else 0
    words = result.read_text().split()
    result.unlink()
    wall, cpu, status = (int(word) for word in words)
    if status:
        said = process.stderr.strip().splitlines()
        how = f"no end in {seconds} s" if status == -1 else f"status {os.waitstatus_to_exitcode(status)}"
        raise Failed(f"{how}: {said[-1]}" if said else how)
    return Run(wall / 1e9, (cpu + supervisor) / 1e9, process.stdout)
