"""A row of the table: what is run, and what one run says."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bench.columns import Column
from bench.places import Place
from bench.run import Daemon, Run, run


@dataclass(frozen=True)
class Sample:
    """One run's figures in the row's unit (seconds, mostly); `cpu` None where it means nothing."""

    best: float
    middle: float
    cpu: float | None = None


Take = Callable[[Place, Column, Daemon | None], Sample]


@dataclass
class Row:
    name: str
    take: Take
    unit: str = "s"
    """s, or what the figures are in: then no ratio is meant."""
    trips: bool = False
    """The cost can be told in round trips of a notification: one operation is about one trapped call."""
    only: tuple[str, ...] = ()
    """Columns in which it means something; all when empty."""
    target: dict[str, str] = field(default_factory=dict)
    runs: float = 1.0
    """How many times the usual number of runs."""
    prepare: Callable[[], object] | None = None


def operations(program: str, *options: str, budget: int) -> Take:
    """A program of micro/, by operation; its CPU is that of a run less that of a run without operations."""

    def take(place: Place, column: Column, daemon: Daemon | None) -> Sample:
        base = [str(place.bin / program), *options]
        tree = str(column.tree)
        empty = run(place, column, [*base, "-m", "0", tree], daemon=daemon)
        full = run(place, column, [*base, "-m", str(budget), tree], daemon=daemon)
        best, middle, count = full.output.split()
        more = full.cpu - empty.cpu  # not positive when the empty run was the one that was disturbed
        return Sample(float(best) / 1e9, float(middle) / 1e9, more / int(count) if more > 0 else None)

    return take


def whole(command: Callable[[Place, Column], list[str]], *, seconds: int = 120) -> Take:
    """A command from its start to its end."""

    def take(place: Place, column: Column, daemon: Daemon | None) -> Sample:
        result: Run = run(place, column, command(place, column), daemon=daemon, seconds=seconds)
        return Sample(result.wall, result.wall, result.cpu)

    return take
