"""/bin/true, from its start to its end: what putting a command into a view costs once."""

from bench.columns import Column
from bench.measurements.row import Row, Sample
from bench.places import Place
from bench.run import Daemon, run


def _with_daemon(place: Place, column: Column, daemon: Daemon | None) -> Sample:
    if daemon and column.is_view:
        daemon.settle()
    result = run(place, column, ["/bin/true"], daemon=daemon)
    return Sample(result.wall, result.wall, result.cpu)


def _without(place: Place, column: Column, daemon: Daemon | None) -> Sample:
    result = run(place, column, ["/bin/true"])
    return Sample(result.wall, result.wall, result.cpu)


def rows() -> list[Row]:
    views = {"pass": "+2 ms", "bind": "+2 ms", "enforce": "+2 ms"}
    return [
        Row("start, daemon", _with_daemon, runs=4, target=views),
        Row(
            "start, no daemon",
            _without,
            runs=1,
            only=("native", "pass", "bind", "enforce"),
            target=dict.fromkeys(views, "0.5 s"),
        ),
    ]
