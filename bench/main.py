"""Options, the order of the runs, and what is written at the end."""

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from typing import Any

from bench.columns import Column, all_columns
from bench.measurements import rows as all_rows
from bench.measurements.row import Row
from bench.places import Place
from bench.run import Daemon, Failed, run
from bench.table import Cell, Results, lines, seconds


def main() -> int:
    options = _options()
    place = Place()
    daemon = None
    try:
        columns = [
            c
            for c in all_columns(place)
            if not options.columns or c.name in ("native", *options.columns.split(","))
        ]
        chosen = [r for r in all_rows(place, quick=options.quick) if _wanted(r, options.only)]
        if options.list:
            print("\n".join(row.name for row in chosen))
            return 0
        trip = _round_trip(place)
        machine = _machine() | {"round trip": trip}
        print(_heading(machine), flush=True)
        if any(column.is_view and not column.absent for column in columns):
            daemon = _daemon(place, columns)
        _probe(place, columns, daemon)
        for column in columns:
            if column.about or column.absent:
                print(f"{column.name}: {'absent: ' + column.absent if column.absent else column.about}")
        print(flush=True)
        runs = options.runs or (2 if options.quick else 7)
        results = _measure(place, chosen, columns, daemon, runs)
        print("\n".join(lines(chosen, columns, results, trip.get("sync", 0) / 1e9)))
        for name, cells in results.items():
            for where, cell in cells.items():
                if cell.failed:
                    print(f"{name}, {where}: {cell.failed}")
        if options.json:
            with open(options.json, "w") as file:
                json.dump(_document(machine, columns, results), file, indent=1)
        return 0
    finally:
        if daemon:
            daemon.stop()
        place.remove()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description="Views beside native and other programs of the kind."
    )
    parser.add_argument(
        "--only", metavar="NAME", action="append", help="rows whose name contains NAME; may be repeated"
    )
    parser.add_argument("--columns", metavar="NAMES", help="these columns (comma between them) beside native")
    parser.add_argument("--runs", type=int, metavar="N", help="runs of each row in each column (default 7)")
    parser.add_argument("--json", metavar="FILE", help="write all samples there")
    parser.add_argument("--quick", action="store_true", help="few and short runs: a look, not a measurement")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    return parser.parse_args()


def _wanted(row: Row, only: list[str] | None) -> bool:
    return not only or any(part.lower() in row.name.lower() for part in only)


def _round_trip(place: Place) -> dict[str, float]:
    """The least of several tries, each on its own: other programs' work only ever adds."""
    best: dict[str, float] = {}
    for _ in range(3):
        result = subprocess.run(
            [place.bin / "roundtrip", "100"], capture_output=True, text=True, timeout=30, check=False
        )
        if result.returncode:
            return {}
        found = json.loads(result.stdout)
        best = {key: min(value, best.get(key, value)) for key, value in found.items()}
    return best


def _machine() -> dict[str, Any]:
    model = "unknown CPU"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    release = ".".join(platform.release().split("-")[0].split(".")[:2])
    return {"cpu": model, "cores": os.cpu_count(), "kernel": release, "load": round(os.getloadavg()[0], 1)}


def _heading(machine: dict[str, Any]) -> str:
    trip = machine["round trip"]
    head = (
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, load {machine['load']:.1f}\n"
    )
    if not trip:
        return head + "no seccomp listener can be had here"
    ns = {key: seconds(value / 1e9) for key, value in trip.items()}
    return head + (
        f"bare notification: {ns['sync']} with SYNC_WAKE_UP, {ns['plain']} without it, "
        f"{ns['memory']} with the path read, {ns['descriptor']} with a descriptor given back\n"
        f"from the call to its reception: {ns['window_min']} at least, {ns['window_median']} usually, "
        f"{ns['window_99']} in one of a hundred\n"
        f"getpid: {ns['getpid']}, under a filter of four instructions {ns['getpid_filtered']}"
    )


def _daemon(place: Place, columns: list[Column]) -> Daemon | None:
    try:
        return Daemon(place)
    except (Failed, OSError) as error:
        print(f"bench: {error}; views start private daemons", file=sys.stderr)
        return None


def _probe(place: Place, columns: list[Column], daemon: Daemon | None) -> None:
    """A column in which not even a look at the tree works is absent, with the reason."""
    for column in columns:
        if not column.absent and not column.special:
            try:
                run(
                    place,
                    column,
                    [str(place.bin / "stat"), "-m", "0", str(column.tree)],
                    daemon=daemon,
                    seconds=10,
                )
            except (Failed, OSError) as error:
                column.absent = str(error)


def _measure(
    place: Place, rows: list[Row], columns: list[Column], daemon: Daemon | None, runs: int
) -> Results:
    results: Results = {}
    present = [column for column in columns if not column.absent]
    for row in rows:
        chosen = [c for c in present if (c.name in row.only if row.only else not c.special)]
        cells = results[row.name] = {column.name: Cell() for column in chosen}
        if row.prepare:
            row.prepare()
        for number in range(max(1, round(runs * row.runs))):
            shift = number % len(chosen) if chosen else 0  # nobody is always after the same neighbour
            for column in chosen[shift:] + chosen[:shift]:
                cell = cells[column.name]
                if not cell.failed:
                    _progress(f"{row.name}, {column.name}, {number + 1}")
                    try:
                        cell.samples.append(row.take(place, column, daemon))
                    except (Failed, OSError, ValueError) as error:
                        cell.failed = str(error) or type(error).__name__
    _progress("")
    return results


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _document(machine: dict[str, Any], columns: list[Column], results: Results) -> dict[str, Any]:
    return {
        "machine": machine,
        "absent": {column.name: column.absent for column in columns if column.absent},
        "rows": {
            row: {
                name: {"failed": cell.failed}
                if cell.failed or not cell.samples
                else {
                    "min": cell.best,
                    "median": cell.middle,
                    "cpu": cell.cpu,
                    "samples": [asdict(s) for s in cell.samples],
                }
                for name, cell in cells.items()
            }
            for row, cells in results.items()
        },
    }
