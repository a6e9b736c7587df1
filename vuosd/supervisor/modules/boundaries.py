"""From what a module says it answers to claims of the engine and traps of the filter. No I/O."""

from collections.abc import Iterable, Iterator

from vuosd.abi.rows import WORD, Level
from vuosd.abi.syscalls import ROWS
from vuosd.api.boundaries import OPERATIONS, Boundary, Calls, Families, Ioctls, Paths
from vuosd.supervisor.filter import Shape, Trap
from vuosd.supervisor.values import Claim, Ordinary

NAMES = {row.nr: row.name for row in ROWS}
_NUMBERS = {row.name: row.nr for row in ROWS}
_SOCKETS = ("socket", "socketpair")


def traps(boundaries: Iterable[Boundary]) -> tuple[Trap, ...]:
    """What must be trapped for these; calls that name a path always are."""
    return tuple(trap for boundary in boundaries for trap in _traps(boundary))


def _traps(boundary: Boundary) -> Iterator[Trap]:
    if isinstance(boundary, Calls):
        yield from (Trap(_NUMBERS[name]) for name in boundary.names)
    elif isinstance(boundary, Ioctls):
        yield from (Trap(_NUMBERS["ioctl"], 1, WORD, code) for code in boundary.codes)
    elif isinstance(boundary, Families):
        for family in boundary.families:
            yield from (Trap(_NUMBERS[name], 0, WORD, family) for name in _SOCKETS)


def untrapped(shape: Shape, boundaries: Iterable[Boundary]) -> list[str]:
    """What a session's processes do without anybody hearing of it, for people: "uname(2)"."""
    return list(dict.fromkeys(_said(trap) for trap in traps(boundaries) if not shape.trapped(trap)))


def _said(trap: Trap) -> str:
    name = f"{NAMES[trap.nr]}(2)"
    if trap.arg < 0:
        return name
    return f"{name} with code {trap.value:#x}" if trap.arg else f"{name} of family {trap.value}"


def claims(id: int, boundaries: Iterable[Boundary]) -> list[Claim]:
    """For the engine, all with this id."""
    found = [Claim(id, trap.nr, trap.arg, trap.mask, trap.value) for trap in traps(boundaries)]
    for boundary in boundaries:
        if isinstance(boundary, Paths):
            ops = sum({1 << op for name in boundary.operations for op in OPERATIONS[name]})
            found += [
                Claim(id, ops=ops, path=path.encode("utf-8", "surrogateescape")) for path in boundary.paths
            ]
    return found


def ordinary(shape: Shape) -> tuple[list[int], list[Ordinary]]:
    """The calls that are trapped for modules, and when they would be without."""
    calls = sorted({trap.nr for trap in shape.traps})
    conditions = []
    for nr in calls:
        row = shape.handled(nr)
        if row is not None and not row.when:
            conditions.append(Ordinary(nr))
        elif row is not None:
            conditions += [Ordinary(nr, when.arg, when.mask, when.value, when.equal) for when in row.when]
    assert all(
        NAMES[nr] and any(row.nr == nr and row.level is not Level.REFUSED for row in ROWS) for nr in calls
    )
    return calls, conditions
