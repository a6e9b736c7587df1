"""What the number of entries in a view costs each call: nothing, it is claimed."""

from dataclasses import replace
from functools import partial

from bench.columns import Column
from bench.measurements.row import Row, Sample, operations
from bench.places import Place
from bench.run import Daemon

COUNTS = (10, 1000, 10000)


def _profile(place: Place, count: int) -> None:
    """The bind view's profile and `count` further entries: half of them hide, half bind a directory."""
    many = place.top / "many"
    for i in range(0, count, 2):
        (many / f"bound-{i}").mkdir(parents=True, exist_ok=True)
    entries = "".join(
        f'\n[[mount]]\ntype = "hide"\ntarget = "{many}/hidden-{i}"\n'
        if i % 2
        else f'\n[[mount]]\ntype = "bind"\nsource = "{place.tree}/list"\ntarget = "{many}/bound-{i}"\n'
        for i in range(count)
    )
    base = (place.top / "bind.toml").read_text().replace("bench-bind", f"bench-{count}")
    (place.top / f"entries-{count}.toml").write_text(base + entries)


def _with(place: Place, column: Column, count: int) -> Column:
    words = column.wrap([])
    return replace(
        column, wrap=lambda command: [words[0], f"--view={place.top}/entries-{count}.toml", "--", *command]
    )


def _stat(count: int, budget: int, place: Place, column: Column, daemon: Daemon | None) -> Sample:
    return operations("stat", budget=budget)(
        place, _with(place, column, count) if column.is_view else column, daemon
    )


def rows(place: Place, budget: int) -> list[Row]:
    return [
        Row(
            f"stat, {count} entries",
            partial(_stat, count, budget),
            trips=True,
            only=("native", "bind"),
            prepare=partial(_profile, place, count),
        )
        for count in COUNTS
    ]
