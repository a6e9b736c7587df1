"""The one table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.columns import Column
from bench.measurements.row import Row, Sample


@dataclass
class Cell:
    """What one row has measured in one column."""

    samples: list[Sample] = field(default_factory=list)
    failed: str = ""

    @property
    def best(self) -> float:
        return min(sample.best for sample in self.samples)

    @property
    def middle(self) -> float:
        return median(sample.middle for sample in self.samples)

    @property
    def cpu(self) -> float | None:
        found = [sample.cpu for sample in self.samples if sample.cpu is not None]
        return median(found) if found else None


Results = dict[str, dict[str, Cell]]


def seconds(value: float) -> str:
    units = ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
    scale, unit = next((pair for pair in units if value >= pair[0]), units[-1])
    number = value / scale
    return f"{number:.{0 if number >= 99.5 else 1 if number >= 9.95 else 2}f} {unit}"


def ratio(value: float, native: float | None) -> str:
    if not native:
        return ""
    r = value / native
    return f"{r:.2f}x " if r < 9.95 else f"{r:.0f}x "


def _text(row: Row, kind: str, cell: Cell | None, native: Cell | None, trip: float) -> str:
    if cell is None:
        return ""
    if cell.failed or not cell.samples:
        return "fails" if kind == "min" else ""
    if row.unit != "s":
        return (
            f"{cell.best:.{0 if cell.best >= 100 or cell.best == int(cell.best) else 1}f}"
            if kind == "min"
            else ""
        )
    base = native if native and native.samples else None
    if kind == "min":
        return ratio(cell.best, base.best if base else None) + seconds(cell.best)
    if kind == "median":
        return ratio(cell.middle, base.middle if base else None) + seconds(cell.middle)
    if kind == "cpu":
        return "" if cell.cpu is None else ratio(cell.cpu, base.cpu if base else None) + seconds(cell.cpu)
    if base is None or cell is base or not trip:
        return ""
    return f"{(cell.best - base.best) / trip:.1f}"


def lines(
    rows: Sequence[Row], columns: Sequence[Column], results: Mapping[str, Mapping[str, Cell]], trip: float
) -> list[str]:
    """Three or four lines a row: least and middle elapsed time, CPU, cost above native in round trips."""
    grid = [["", "", *(column.name for column in columns), "target"]]
    for row in rows:
        cells = results.get(row.name, {})
        kinds = (
            ["min"]
            if row.unit != "s"
            else ["min", "median", "cpu", *(["trips"] if row.trips and trip else [])]
        )
        target = " ".join(f"{name} {text}" for name, text in row.target.items())
        if len(set(row.target.values())) == 1:
            target = "views " + next(iter(row.target.values()))
        for kind in kinds:
            head = row.name if kind == "min" else ""
            label = row.unit if row.unit != "s" else kind
            texts = [
                "absent"
                if column.absent and kind == "min"
                else _text(row, kind, cells.get(column.name), cells.get("native"), trip)
                for column in columns
            ]
            grid.append([head, label, *texts, target if kind == "min" else ""])
    widths = [max(len(line[i]) for line in grid) for i in range(len(grid[0]))]
    out = []
    for line in grid:
        padded = [
            text.ljust(width) if i < 2 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        out.append("  ".join(padded).rstrip())
    return out
