"""The window between a call and its reception, in which the kernel lets a signal turn it into EINTR."""

from bench.columns import Column
from bench.measurements.row import Row, Sample
from bench.places import Place
from bench.run import Daemon, run


def rows(milliseconds: int) -> list[Row]:
    def output(place: Place, column: Column, daemon: Daemon | None) -> tuple[float, float]:
        command = [str(place.bin / "eintr"), str(column.tree), "-m", str(milliseconds)]
        interrupted, calls, _ticks = run(place, column, command, daemon=daemon).output.split()
        return float(interrupted), float(calls)

    def per_million(place: Place, column: Column, daemon: Daemon | None) -> Sample:
        interrupted, calls = output(place, column, daemon)
        return Sample(interrupted / calls * 1e6, interrupted / calls * 1e6)

    only = ("native", "pass", "bind", "enforce", "proot", "strace", "umvu", "sandlock")
    return [Row("EINTR, 1 kHz timer", per_million, unit="per million calls", only=only)]
