"""What a worker has of its own, before and after a thousand processes in its view."""

import os
import subprocess
from pathlib import Path

from bench.columns import Column
from bench.measurements.row import Row, Sample
from bench.places import Place
from bench.run import Daemon, Failed, descendants

PROCESSES = 1000
_SCRIPT = f"echo; read x; i=0; while [ $i -lt {PROCESSES} ]; do /bin/true; i=$((i+1)); done; echo; read x"


class _Worker:
    """The figures of one session, kept for the rows that show them."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, float]] = {}

    def figures(self, place: Place, column: Column, daemon: Daemon | None) -> dict[str, float]:
        if daemon is None:
            raise Failed("no daemon")
        daemon.settle()
        spare = max(pid for pid in daemon.clocks() if not list(descendants(pid)))
        process = subprocess.Popen(
            column.wrap(["/bin/sh", "-c", _SCRIPT]),
            env=daemon.environment,
            cwd=place.tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin
        assert process.stdout
        try:
            found: dict[str, float] = {}
            for when in ("before", "after"):
                process.stdout.readline()
                found |= {f"{name} {when}": value for name, value in _look(spare).items()}
                process.stdin.write(b"\n")
                process.stdin.flush()
            process.wait(10)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdin.close()
            process.stdout.close()
        return found


def _look(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    size = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return {
        "USS": (size["Private_Clean"] + size["Private_Dirty"]) / 1024,
        "PSS": size["Pss"] / 1024,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
    }


def rows(place: Place) -> list[Row]:
    worker = _Worker()

    def row(name: str, unit: str, first: bool) -> Row:
        def take(place: Place, column: Column, daemon: Daemon | None) -> Sample:
            if first or column.name not in worker.kept:
                worker.kept[column.name] = worker.figures(place, column, daemon)
            value = worker.kept[column.name][name]
            return Sample(value, value)

        target = {"pass": "20 MB", "bind": "20 MB", "enforce": "20 MB"} if "USS" in name else {}
        return Row(
            f"worker, {name}", take, unit=unit, only=("pass", "bind", "enforce"), target=target, runs=0.01
        )

    names = [(name, when) for when in ("before", "after") for name in ("USS", "PSS", "descriptors")]
    return [
        row(f"{name} {when}", "" if name == "descriptors" else "MB", i == 0)
        for i, (name, when) in enumerate(names)
    ]
