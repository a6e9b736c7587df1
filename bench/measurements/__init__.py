"""The rows. Each knows its command and what the output means; main.py knows the order of runs."""

from bench.measurements import eintr, entries, layers, macro, memory, micro, mounts, startup
from bench.measurements.row import Row
from bench.places import Place


def rows(place: Place, *, quick: bool) -> list[Row]:
    budget = 60 if quick else 300
    return [
        *micro.rows(budget),
        *entries.rows(place, budget),
        *eintr.rows(1000 if quick else 4000),
        *startup.rows(),
        *macro.rows(place, quick=quick),
        *layers.rows(place, quick=quick),
        *mounts.rows(place, budget, quick=quick),
        *memory.rows(place),
    ]
