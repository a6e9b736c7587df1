"""The program, run as the kernel would, against the table; then under the kernel itself."""

import ctypes
import errno
import os
import struct
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vuosd.abi import constants as c
from vuosd.abi.rows import LONG, WORD, Level, Op, Row
from vuosd.abi.syscalls import FIRST_GAP, LAST, ROWS
from vuosd.supervisor.filter import COOKIE_ARGUMENT, Shape, Trap, build

COOKIE = 0x0123_4567_89AB_CDEF
AUDIT_ARCH_I386 = 0x40000003
NOTIFY, ALLOW = c.SECCOMP_RET_USER_NOTIF, c.SECCOMP_RET_ALLOW
Args = tuple[int, ...]
NO_ARGS: Args = (0,) * 6


def ret_errno(number: int) -> int:
    return c.SECCOMP_RET_ERRNO | number


class NotConstant(Exception):
    """The program looked at something else than number and architecture."""


def run(
    program: bytes, nr: int, args: Args = NO_ARGS, arch: int = c.AUDIT_ARCH_X86_64, constant: bool = False
) -> int:
    """The few BPF instructions that libseccomp uses. `constant`: as seccomp_is_const_allow does."""
    data = struct.pack("=IIQ6Q", nr & WORD, arch, 0x7FFF_0000_1234, *args)
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator = at = 0
    while True:
        opcode, yes, no, value = code[at]
        at += 1
        if opcode == 0x20:
            if constant and value not in (0, 4):
                raise NotConstant
            accumulator = int.from_bytes(data[value : value + 4], "little")
        elif opcode == 0x06:
            return int(value)
        elif opcode == 0x05:
            at += value
        elif opcode == 0x54:
            accumulator &= value
        else:
            taken = {0x15: accumulator == value, 0x25: accumulator > value, 0x35: accumulator >= value,
                     0x45: bool(accumulator & value)}[opcode]  # fmt: skip
            at += yes if taken else no


def wanted(nr: int, args: Args, privileged: bool, cookie: int = COOKIE, mounts: bool = False) -> int:
    """What the table says."""
    for row in (row for row in ROWS if row.nr == nr):
        if row.level is Level.NATIVE or row.stacked or row.carries or (row.privileged and not privileged):
            continue
        if row.mounted and not row.entries and not mounts:
            continue
        if row.remote and args[COOKIE_ARGUMENT] == cookie:
            continue
        if not row.when or any(when.holds(args) for when in row.when):
            if row.unmounted and not mounts:
                return ret_errno(row.unmounted)
            return NOTIFY if row.level is Level.HANDLED else ret_errno(row.errno)
    return ALLOW


@pytest.fixture(params=[False, True], ids=["user", "privileged"], scope="module")
def privileged(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def program(privileged: bool) -> bytes:
    return build(cookie=COOKIE, shape=Shape(privileged=privileged))


def test_length(program: bytes) -> None:
    assert len(program) % 8 == 0
    assert len(program) // 8 < 300, "the kernel runs it for each call that is not in its bitmap"


def test_every_row_without_conditions(program: bytes, privileged: bool) -> None:
    for row in ROWS:
        if not row.when:
            for args in (NO_ARGS, (LONG,) * 6, (1, 2, 3, 4, 5, 6)):
                assert run(program, row.nr, args) == wanted(row.nr, args, privileged), (
                    row.nr,
                    row.name,
                    args,
                )


def test_every_condition_and_its_neighbours(program: bytes, privileged: bool) -> None:
    for row in ROWS:
        for when in row.when:
            for value in (
                when.value,
                when.value ^ 1,
                when.value | 1 << 32,
                when.value | 0xFFFF_FFFF << 32,
                0,
                LONG,
                when.mask,
            ):
                args = tuple(value if position == when.arg else 77 for position in range(6))
                assert run(program, row.nr, args) == wanted(row.nr, args, privileged), (
                    row.name,
                    when,
                    hex(value),
                )


def test_with_a_mounter(privileged: bool) -> None:
    program = build(cookie=COOKIE, shape=Shape(privileged=privileged, mounts=True))
    assert run(program, 165) == run(program, 166) == NOTIFY, "mount, umount2"
    assert run(program, 430) == ret_errno(errno.ENOSYS), "fsopen: libmount goes on with mount(2)"
    assert run(program, 155) == ret_errno(errno.EPERM), "pivot_root"
    for row in ROWS:
        if not row.when:
            assert run(program, row.nr) == wanted(row.nr, NO_ARGS, privileged, mounts=True), row.name


def test_upper_half_of_an_int_does_not_slip_past(program: bytes) -> None:
    """The kernel takes an int from the low word; a 64-bit comparison would let this call pass."""
    assert run(program, 302, (0, c.RLIMIT_LOCKS | 1 << 32, 0, 0, 0, 0)) == NOTIFY
    assert run(program, 157, (c.PR_SET_DUMPABLE | 1 << 63, 0, 0, 0, 0, 0)) == NOTIFY
    assert run(program, 16, (3, c.FS_IOC_SETFLAGS | 1 << 40, 0, 0, 0, 0)) == NOTIFY
    assert run(program, 308, (3, 1 << 32, 0, 0, 0, 0)) == ret_errno(errno.EPERM)


NUMBERS = st.integers(0, LAST + 5) | st.integers(0, WORD)
VALUES = (
    st.sampled_from([COOKIE, COOKIE ^ 1, COOKIE ^ 1 << 32, COOKIE & WORD, COOKIE >> 32 << 32, 0, LONG])
    | st.sampled_from([when.value for row in ROWS for when in row.when])
    | st.integers(0, LONG)
)


@settings(max_examples=500, deadline=None)
@given(nr=NUMBERS, args=st.tuples(*[VALUES] * 6), privileged=st.booleans())
@example(nr=257, args=(0, 0, 0, 0, 0, COOKIE), privileged=False)
def test_any_call(nr: int, args: Args, privileged: bool) -> None:
    program = build(cookie=COOKIE, shape=Shape(privileged=privileged))
    if nr == WORD:
        expected = ALLOW
    elif nr >= c.X32_BIT:
        expected = NOTIFY
    elif nr > LAST or nr in FIRST_GAP:
        expected = ret_errno(errno.ENOSYS)
    else:
        expected = wanted(nr, args, privileged)
    assert run(program, nr, args) == expected


REMOTE = [row for row in ROWS if row.remote]


IDS = {row.name for row in ROWS if row.op is Op.CREDENTIALS}


def concerned(row: Row, sixth: int, others: int = 9) -> Args:
    """Arguments that meet the row's first condition, if it has any."""
    args = [others] * 5 + [sixth]
    if row.when:
        args[row.when[0].arg] = row.when[0].value
    first, second, third, fourth, fifth, last = args
    return first, second, third, fourth, fifth, last


def test_calls_made_remotely() -> None:
    files = "open openat openat2 chdir execve execveat inotify_add_watch fanotify_mark"
    sockets = "bind connect sendmsg sendmmsg"
    assert {row.name for row in REMOTE} == {*files.split(), *sockets.split(), "prctl"} | IDS


@pytest.mark.parametrize("row", REMOTE, ids=lambda row: row.name)
def test_only_the_whole_cookie_passes(row: Row, program: bytes, privileged: bool) -> None:
    asked = NOTIFY if privileged or not row.privileged else ALLOW
    assert run(program, row.nr, concerned(row, COOKIE)) == ALLOW
    for value in (0, COOKIE ^ 1, COOKIE ^ 1 << 32, COOKIE & WORD, COOKIE >> 32, 0x9E3779B1_85EBCA77, LONG):
        assert run(program, row.nr, concerned(row, value)) == asked
    assert run(program, row.nr, concerned(row, 0, COOKIE)) == asked


@given(cookie=st.integers(1, LONG))
@settings(max_examples=50, deadline=None)
@example(cookie=1)
@example(cookie=1 << 32)
@example(cookie=LONG)
@example(cookie=0x85EBCA77_9E3779B1)
def test_any_cookie(cookie: int) -> None:
    program = build(cookie=cookie, shape=Shape(privileged=False))
    assert run(program, 257, (0, 0, 0, 0, 0, cookie)) == ALLOW
    assert run(program, 257, (0, 0, 0, 0, 0, cookie ^ 1)) == NOTIFY
    assert run(program, 257, (0, 0, 0, 0, 0, cookie ^ 1 << 63)) == NOTIFY


def test_what_passes_always_is_in_the_kernels_bitmap(program: bytes, privileged: bool) -> None:
    """seccomp_is_const_allow follows a program as long as it looks at number and architecture only."""
    conditional = {row.nr for row in ROWS if row.when}
    for row in ROWS:
        if row.nr not in conditional and wanted(row.nr, NO_ARGS, privileged) == ALLOW:
            assert run(program, row.nr, constant=True) == ALLOW, row.name
    with pytest.raises(NotConstant):
        run(program, 257, constant=True)


def test_foreign_architectures_are_notified(program: bytes) -> None:
    for nr in (0, 1, 5, 11, 45, 358, 400, 434, 460, 1000, WORD):
        assert run(program, nr, arch=AUDIT_ARCH_I386) == NOTIFY
    for nr in (0, 2, 257, 512, 520, 547, LAST + 1, 0xBFFF_FFFE):
        assert run(program, nr | c.X32_BIT) == NOTIFY


def test_outside_the_table(program: bytes) -> None:
    for nr in (*FIRST_GAP, LAST + 1, 512, 547, 1000, c.X32_BIT - 1):
        assert run(program, nr) == ret_errno(errno.ENOSYS), nr


def test_a_call_that_a_tracer_skips_passes(program: bytes) -> None:
    assert run(program, -1) == ALLOW


def test_a_view_without_entries_leaves_listings_and_changes_by_descriptor_alone(privileged: bool) -> None:
    program = build(cookie=COOKIE, shape=Shape(privileged=privileged, entries=False))
    passing = set()
    for row in ROWS:
        values = [when.value for when in row.when] or [0]
        for args in [(value,) * 6 for value in values]:
            expected = wanted(row.nr, args, privileged)
            if row.entries and expected == NOTIFY:
                passing.add(row.name)
                expected = ALLOW
            assert run(program, row.nr, args) == expected, (row.name, args)
    changes = {"fchmod", "fchown", "fsetxattr", "fremovexattr", "ioctl"}
    sockets = {"getsockopt", "getsockname", "getpeername"}
    assert passing == {"getdents", "getdents64", *sockets, *changes}


def test_a_view_of_several_trees_asks_about_descriptors_too() -> None:
    program = build(cookie=COOKIE, shape=Shape(privileged=False, stacked=True))
    asked = {row.name for row in ROWS if row.stacked}
    assert asked == {"fstat"}
    assert {row.name for row in ROWS if row.stacked and run(program, row.nr) == NOTIFY} == asked


def test_a_session_with_a_mounter_asks_about_what_a_server_must_hear_of() -> None:
    without = build(cookie=COOKIE, shape=Shape(privileged=False, entries=False))
    program = build(cookie=COOKIE, shape=Shape(privileged=False, entries=False, mounts=True))
    asked = {row.name for row in ROWS if row.mounted}
    attributes = {"fsetxattr", "fremovexattr", "fgetxattr", "flistxattr"}
    assert asked == {"fsync", "fdatasync", "syncfs", "fchmod", "fchown", *attributes}
    assert {row.name for row in ROWS if row.mounted and run(program, row.nr) == NOTIFY} == asked
    assert not [row.name for row in ROWS if row.mounted and run(without, row.nr) == NOTIFY]


def test_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(cookie=5, shape=Shape(privileged=False))
    monkeypatch.setattr("vuosd.supervisor.filter._body", None)
    second = build(cookie=6, shape=Shape(privileged=False))
    assert len(first) == len(second)
    assert first != second


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _under(program: bytes, call: Callable[[ctypes.CDLL], int]) -> int:
    """What `call` gives in a child under the program; with nobody listening a trapped call is ENOSYS."""
    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if child == 0:
        status = 255
        try:
            libc.prctl(38, 1, 0, 0, 0)
            filters = _Program(len(program) // 8, program)
            if libc.syscall(317, 1, 0, ctypes.byref(filters)) == 0:
                status = call(libc)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _raw(nr: int, *args: int) -> Callable[[ctypes.CDLL], int]:
    def call(libc: ctypes.CDLL) -> int:
        result = libc.syscall(nr, *(ctypes.c_ulong(arg & LONG) for arg in args))
        return ctypes.get_errno() if result < 0 else 0

    return call


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("call", "result"),
    [
        ((39,), 0),  # getpid
        ((262, -100, 0, 0, 0), errno.ENOSYS),  # newfstatat, trapped
        ((257, -100, 0, 0, 0, COOKIE), errno.ENOSYS),  # the cookie in the fifth argument
        ((257, -100, 0, 0, 0, 0, COOKIE), errno.EFAULT),  # openat with the cookie: done by the kernel
        ((165, 0, 0, 0, 0, 0), errno.EPERM),  # mount
        ((425, 0, 0), errno.ENOSYS),
        ((302, 0, 7, 0, 0), 0),  # prlimit64(RLIMIT_NOFILE)
        ((302, 0, 10 | 1 << 32, 0, 0), errno.ENOSYS),
    ],
)
def test_the_kernel_takes_it(call: tuple[int, ...], result: int) -> None:
    assert _under(build(cookie=COOKIE, shape=Shape(privileged=False)), _raw(*call)) == result


def test_under_enforcement_the_cookie_opens_only_what_landlock_governs(privileged: bool) -> None:
    program = build(cookie=COOKIE, shape=Shape(privileged=privileged, enforce=True))
    sends = build(cookie=COOKIE, shape=Shape(privileged=privileged, enforce=True, sends=True))
    passing = {row.name for row in REMOTE if run(program, row.nr, concerned(row, COOKIE)) == ALLOW}
    assert passing == {"execve", "execveat", "bind", "prctl"} | IDS
    sending = {row.name for row in REMOTE if run(sends, row.nr, concerned(row, COOKIE)) == ALLOW}
    assert sending == passing | {"sendmsg"}


def test_traps_for_modules(privileged: bool) -> None:
    """What modules answer is trapped, whatever the table says; all else is as it was."""
    traps = (
        Trap(63),  # uname
        Trap(41, 0, WORD, 31),  # socket of a family
        Trap(16, 1, WORD, 0x1234),  # ioctl with a code
        Trap(16, 1, WORD, 0x40086602),  # one that is trapped anyway: FS_IOC_SETFLAGS
        Trap(44),  # sendto, which is trapped with an address
        Trap(257),  # openat, which always is
        Trap(105),  # setuid, which is if the supervisor is root
    )
    shape = Shape(privileged=privileged, traps=traps)
    program, plain = build(cookie=COOKIE, shape=shape), build(cookie=COOKIE, shape=Shape(privileged))
    assert all(shape.trapped(trap) for trap in traps)
    assert not Shape(privileged).trapped(Trap(63))
    assert not Shape(privileged).trapped(Trap(44))
    assert Shape(privileged).trapped(Trap(16, 1, WORD, 0x40086602))
    assert run(program, 63) == run(program, 44) == run(program, 44, (1, 2, 3, 4, 5, 6)) == NOTIFY
    cookie = (0, 0, 0, 0, 0, COOKIE)
    assert (run(program, 257), run(program, 257, cookie)) == (NOTIFY, ALLOW)
    assert run(program, 105) == NOTIFY
    assert run(program, 105, cookie) == (ALLOW if privileged else NOTIFY)
    for value, family, code in ((31, NOTIFY, ALLOW), (0x1234, ALLOW, NOTIFY), (32, ALLOW, ALLOW)):
        for high in (0, 1 << 32):
            assert run(program, 41, (value | high, 0, 0, 0, 0, 0)) == family
            assert run(program, 16, (0, value | high, 0, 0, 0, 0)) == code
    for row in ROWS:
        if row.nr not in (63, 41, 16, 44, 105):
            assert run(program, row.nr) == run(plain, row.nr), row.name
    for when in (when for row in ROWS if row.nr == 16 for when in row.when):
        args = (0, when.value, 0, 0, 0, 0)
        assert run(program, 16, args) == run(plain, 16, args), when
