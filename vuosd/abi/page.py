"""Writes docs/syscalls.md from the table: python -m vuosd.abi.page > docs/syscalls.md"""

import errno
from collections import Counter
from collections.abc import Iterator

from vuosd.abi.rows import Level, Row
from vuosd.abi.syscalls import FIRST_GAP, LAST, ROWS

_HEAD = """\
# System calls

<!-- Written by `python -m vuosd.abi.page`; the table is vuosd/abi/syscalls.py. -->

Every system call of x86-64 up to Linux 6.18, and what a view does with it:

- **handled**: the call is trapped and the engine answers it, by the operation named
- **native**: the call is never trapped and costs nothing; the reason says why that is right
- **refused**: the kernel answers with the errno named, without asking anybody

Where a condition stands under *when*, all other uses of the call are native. Rows marked *root* count only
when the supervisor is root and acts with the credentials of its callers; else those calls are native. Rows
marked *entries* count only in views that have an entry, *trees* where an entry shows several trees as one,
*mounts* (also) in sessions with a mounter: elsewhere every such call would go on. In a session without a
mounter those with an errno behind *else* are refused with that. Numbers
{gap} and above {last} are refused with ENOSYS: a call that nobody has looked at may take a path. Calls of
32-bit programs (i386) and of the x32 interface are refused with ENOSYS, and the session's log says so.

{handled} handled, {native} native, {refused} refused.

| number | call | level | when | operation, errno | note |
|---:|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    levels = Counter(row.level for row in ROWS)
    counts = {level.value: levels[level] for level in Level}
    head = _HEAD.format(gap=f"{FIRST_GAP.start} to {FIRST_GAP.stop - 1}", last=LAST, **counts)
    return head + "".join(f"| {' | '.join(_cells(row))} |\n" for row in ROWS)


def _cells(row: Row) -> Iterator[str]:
    yield str(row.nr)
    yield f"`{row.name}`"
    yield row.level.value
    conditions = ", ".join(when.says for when in row.when)
    marks = ["*root*" if row.privileged else "", "*entries*" if row.entries else ""]
    marks.append("*trees*" if row.stacked else "")
    marks.append("*mounts*" if row.mounted else "")
    marks.append("*root without CAP_SYS_PTRACE*" if row.carries else "")
    yield " ".join(filter(None, [conditions, *marks]))
    becomes = row.op.name.lower() if row.level is Level.HANDLED else errno.errorcode.get(row.errno, "")
    yield f"{becomes}, else {errno.errorcode[row.unmounted]}" if row.unmounted else becomes
    yield row.note


if __name__ == "__main__":
    print(page(), end="")
