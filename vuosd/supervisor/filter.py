"""The BPF program of a view: from the system call table to raw `struct sock_filter[]`.

libseccomp (by pyseccomp, imported late: it costs more than the rest of a start) makes the decision tree and
the comparisons of arguments. Two things it cannot say, so a few instructions of our own stand before its
program:

- "calls of the table pass unless a rule says otherwise, calls beyond the table are ENOSYS": it has one
  default action. Ours has to be ALLOW, because a rule with conditions falls through to the default when none
  holds, and the other way round, "ALLOW unless the low word of an argument equals one of these", has no
  comparison (SCMP_CMP_MASKED_EQ has no opposite, and an argument may appear once in a rule). So the bounds of
  the table are tested first.
- "-1 passes, whatever the architecture bits": a tracer skips a call by that number, and nothing may ask us
  about it.

Calls that pass without a condition look at the number and the architecture only, so the kernel keeps them in
its bitmap and does not run the program at all (seccomp_is_const_allow in kernel/seccomp.c).

A program differs from session to session in the cookie only: it is built once with a placeholder, and
patched.
"""

import functools
import os
import struct
from collections.abc import Iterator
from errno import ENOSYS
from typing import NamedTuple

from vuosd.abi import constants as c
from vuosd.abi.rows import LONG, WORD, Level, Op, Row, When
from vuosd.abi.syscalls import FIRST_GAP, LAST, ROWS

COOKIE_ARGUMENT = 5

_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _EQUAL, _GREATER, _GREATER_EQUAL, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x06
_NR, _ARCH = 0, 4
"""Offsets in struct seccomp_data."""

_PLACEHOLDER = 0x9E3779B1_85EBCA77

_ENOSYS = c.SECCOMP_RET_ERRNO | ENOSYS


_GOVERNED = (Op.EXECVE, Op.BIND, Op.CREDENTIALS, Op.DUMPABLE)
"""What Landlock bounds of the calls that are made remotely, or what opens nothing."""


class Trap(NamedTuple):
    """Calls that are trapped for a module, whatever the table says of them: of one number, `arg` under `mask`
    being `value` where it is not -1.
    """

    nr: int
    arg: int = -1
    mask: int = WORD
    value: int = 0


class Shape(NamedTuple):
    """What a program depends on, but for the cookie.

    privileged: the supervisor acts with its callers' credentials, so it must hear when they change
    enforce: see `build`
    sends: the machine leaves no way but sendmsg to get at a descriptor
    entries: without, the view has none: a directory lists what the kernel lists, and a descriptor changes
    what the kernel lets it change, so nobody asks
    stacked: an entry shows several trees as one, and a descriptor of a directory does not tell everything
    mounts: the session has a mounter, who is asked about mount(2) and umount2(2)
    carries: the supervisor is root without CAP_SYS_PTRACE
    traps: for modules
    """

    privileged: bool
    enforce: bool = False
    sends: bool = False
    entries: bool = True
    stacked: bool = False
    mounts: bool = False
    carries: bool = False
    traps: tuple[Trap, ...] = ()

    def has(self, row: Row) -> bool:
        """Whether the table's row is in the program: a call that it is of is trapped, or refused."""
        if row.level is Level.NATIVE or (row.privileged and not self.privileged):
            return False
        if (row.stacked and not self.stacked) or (row.carries and not self.carries):
            return False
        wanted = (row.entries and self.entries, row.mounted and self.mounts)
        return any(wanted) or not (row.entries or row.mounted)

    def handled(self, nr: int) -> Row | None:
        """The row by which calls of this number are trapped without a module; it may have conditions."""
        return next(
            (row for row in ROWS if row.nr == nr and row.level is Level.HANDLED and self.has(row)), None
        )

    def trapped(self, trap: Trap) -> bool:
        """Whether the program traps all that a module would have trapped."""
        row = self.handled(trap.nr)
        if row is not None and (not row.when or _covers(row.when, trap)):
            return True
        return any(one in (trap, Trap(trap.nr)) for one in self.traps)


def _covers(when: tuple[When, ...], trap: Trap) -> bool:
    return any(one.equal and (one.arg, one.mask, one.value) == trap[1:] for one in when)


def build(*, cookie: int, shape: Shape) -> bytes:
    """The program of one session.

    A handled call that the engine also makes remotely passes when its sixth argument is `cookie`, a random
    number of 64 bits. It is no secret from the process it is used in: /proc/PID/task/TID/syscall shows the
    registers of a thread that waits in such a call. So under enforcement it opens nothing but what the
    Landlock floor bounds in any case, and sendmsg where `sends`.
    """
    assert 0 < cookie <= LONG
    assert shape.entries or not shape.enforce
    program = bytearray()
    for code, yes, no, value in _INSTRUCTION.iter_unpack(_template(shape)):
        if code & 0x7 == 0x5:  # a jump: the placeholder's halves are compared, never loaded or returned
            value = {_PLACEHOLDER >> 32: cookie >> 32, _PLACEHOLDER & 0xFFFFFFFF: cookie & 0xFFFFFFFF}.get(
                value, value
            )
        program += _INSTRUCTION.pack(code, yes, no, value)
    return bytes(program)


@functools.cache
def _template(shape: Shape) -> bytes:
    program = _prologue() + _body(shape)
    values = [value for _, _, _, value in _INSTRUCTION.iter_unpack(program)]
    high, low = values.count(_PLACEHOLDER >> 32), values.count(_PLACEHOLDER & 0xFFFFFFFF)
    assert high == low > 0, "the cookie is compared in halves, each as often as the other"
    assert len(values) <= 4096, "BPF_MAXINSNS"
    return program


def _prologue() -> bytes:
    """Answers what lies outside the table; falls into libseccomp's program for the rest."""
    lines: list[tuple[int, str, str, int]] = [
        (_LOAD, "", "", _ARCH),
        (_EQUAL, "", "notify", c.AUDIT_ARCH_X86_64),
        (_LOAD, "", "", _NR),
        (_EQUAL, "allow", "", 0xFFFFFFFF),
        (_GREATER_EQUAL, "notify", "", c.X32_BIT),
        (_GREATER, "enosys", "", LAST),
        (_GREATER_EQUAL, "body", "", FIRST_GAP.stop),
        (_GREATER_EQUAL, "enosys", "body", FIRST_GAP.start),
    ]
    returns = {"notify": c.SECCOMP_RET_USER_NOTIF, "allow": c.SECCOMP_RET_ALLOW, "enosys": _ENOSYS}
    targets = {name: len(lines) + position for position, name in enumerate([*returns, "body"])}

    def jump(name: str, here: int) -> int:
        return targets[name] - here - 1 if name else 0

    program = [_INSTRUCTION.pack(code, jump(yes, here), jump(no, here), value)
               for here, (code, yes, no, value) in enumerate(lines)]  # fmt: skip
    program += [_INSTRUCTION.pack(_RETURN, 0, 0, value) for value in returns.values()]
    return b"".join(program)


def _remote(row: Row, enforce: bool, sends: bool) -> bool:
    return row.remote and (not enforce or row.op in _GOVERNED or (sends and row.op is Op.SENDMSG))


def _body(shape: Shape) -> bytes:
    import pyseccomp

    program = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    program.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, 2)
    traps = [trap for trap in shape.traps if not shape._replace(traps=()).trapped(trap)]
    whole = {trap.nr for trap in traps if trap.arg < 0}
    """Of these no condition of the table counts."""
    for row in ROWS:
        if not shape.has(row) or row.nr in whole:
            continue
        errno = row.errno if shape.mounts else row.unmounted or row.errno
        action = pyseccomp.ERRNO(errno) if errno else pyseccomp.NOTIFY
        for condition in _conditions(row._replace(remote=_remote(row, shape.enforce, shape.sends))):
            program.add_rule_exactly(action, row.nr, *condition)
    for trap in traps:
        if trap.nr in whole and trap.arg >= 0:
            continue
        handled = shape.handled(trap.nr)
        remote = handled is not None and _remote(handled, shape.enforce, shape.sends)
        when = () if trap.arg < 0 else (When(trap.arg, trap.mask, trap.value, ""),)
        for condition in _conditions(Row(trap.nr, "", Level.HANDLED, when=when, remote=remote)):
            program.add_rule_exactly(pyseccomp.NOTIFY, trap.nr, *condition)
    with open(os.memfd_create("filter"), "r+b") as file:
        program.export_bpf(file)
        file.seek(0)
        return file.read()


def _conditions(row: Row) -> Iterator[tuple[object, ...]]:
    """What libseccomp is to compare, one tuple a rule; any of the rules is enough."""
    import pyseccomp

    strange = (pyseccomp.Arg(COOKIE_ARGUMENT, pyseccomp.NE, _PLACEHOLDER),) if row.remote else ()
    if not row.when:
        yield strange
    for when in row.when:
        if when.equal:
            yield (pyseccomp.Arg(when.arg, pyseccomp.MASKED_EQ, when.mask, when.value), *strange)
        else:
            assert when.mask == LONG
            yield (pyseccomp.Arg(when.arg, pyseccomp.NE, when.value), *strange)
