"""The table against the kernel's header, the engine's header and itself."""

import re
from pathlib import Path
from typing import Any

import pytest

from vuosd.abi.rows import Arg, Level, Op, Row, When, check
from vuosd.abi.syscalls import FIRST_GAP, LAST, ROWS, engine_rows

API = Path(__file__).parents[2] / "vuosd/supervisor/engine/api.h"
HEADERS = [Path("/usr/include/asm/unistd_64.h"), Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")]

FREE = """
    read write close dup dup2 dup3 fork vfork clone clone3 exit exit_group wait4 waitid pipe pipe2 futex mmap
    munmap poll ppoll select epoll_wait epoll_ctl fstat lseek ftruncate fchdir socket sendfile getpid
    nanosleep rt_sigaction accept recvmsg
"""
PAST_THE_VIEW = "pivot_root move_mount open_tree io_uring_setup listmount bpf swapon acct"
NEWEST = """
    cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount
    lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat removexattrat
    open_tree_attr file_getattr file_setattr
"""

LEVELS = {(row.name, row.level) for row in ROWS}


def test_every_number_has_a_row() -> None:
    assert {row.nr for row in ROWS} == {*range(FIRST_GAP.start), *range(FIRST_GAP.stop, LAST + 1)}


def test_names_are_those_of_the_header() -> None:
    header = next((path for path in HEADERS if path.exists()), None)
    if header is None:
        pytest.skip("no kernel headers")
    theirs = {int(nr): name for name, nr in re.findall(r"#define __NR_(\w+) (\d+)", header.read_text())}
    ours = {row.nr: row.name for row in ROWS}
    assert len(theirs) > 350
    assert {nr: name for nr, name in theirs.items() if nr <= LAST and ours.get(nr) != name} == {}


def test_newest_numbers() -> None:
    """Newer than the headers of the distributions we build on; from syscall_64.tbl of Linux 6.18."""
    assert [row.name for row in ROWS if row.nr >= 451] == NEWEST.split()


def test_operations_are_those_of_the_engine() -> None:
    body = re.search(r"enum vu_op \{(.*?)\};", API.read_text(), re.DOTALL)
    assert body is not None
    names = re.findall(r"^\tVU_OP_(\w+)", body[1], re.MULTILINE)
    assert names == [*(op.name for op in Op), "COUNT"]


def test_columns_are_those_of_the_engine() -> None:
    line = re.search(r"int8_t (dirfd.*);", API.read_text())
    assert line is not None
    assert line[1].split(", ") == [arg.name.lower() for arg in Arg]


def test_engine_rows() -> None:
    rows = {row[0]: row for row in engine_rows()}
    assert len(rows) == sum(row.level is Level.HANDLED for row in ROWS)
    #                        nr, op, dirfd, path, dirfd2, path2, flags, mode, buf, size, extra, fd, implied
    assert rows[257] == (257, Op.OPEN, 0, 1, -1, -1, 2, 3, -1, -1, -1, -1, 0)
    assert rows[6] == (6, Op.STAT, -1, 0, -1, -1, -1, -1, 1, -1, -1, -1, 0x100)
    assert rows[265] == (265, Op.LINK, 0, 1, 2, 3, 4, -1, -1, -1, -1, -1, 0)
    assert rows[301] == (301, Op.FANOTIFY, 3, 4, -1, -1, -1, 1, -1, -1, 2, 0, 0)
    assert rows[44] == (44, Op.SENDTO, -1, -1, -1, -1, -1, -1, 4, 5, -1, 0, 0)


def test_every_operation_is_used() -> None:
    assert {row.op for row in ROWS} == set(Op)


@pytest.mark.parametrize("name", FREE.split())
def test_calls_that_must_cost_nothing_pass(name: str) -> None:
    assert (name, Level.NATIVE) in LEVELS or name in {row.name for row in ROWS if row.stacked}


@pytest.mark.parametrize("name", PAST_THE_VIEW.split())
def test_calls_that_go_past_the_view_are_refused(name: str) -> None:
    assert (name, Level.REFUSED) in LEVELS


def test_every_call_with_at_in_its_name_takes_a_directory() -> None:
    without = {"stat", "lstat", "fstat", "creat", "open_by_handle_at"}
    for row in ROWS:
        if row.level is Level.HANDLED and row.name.endswith(("at", "at2")):
            assert (Arg.DIRFD in row.args) == (row.name not in without), row.name


def _handled(**other: Any) -> Row:
    return Row(nr=1, name="x", level=Level.HANDLED, op=Op.UNLINK, args=(Arg.PATH,))._replace(**other)


@pytest.mark.parametrize(
    "rows",
    [
        (_handled(args=()),),
        (_handled(args=(Arg.PATH, Arg.PATH)),),
        (_handled(args=(Arg.PATH, Arg.DIRFD2)),),
        (_handled(errno=1),),
        (_handled(unmounted=1, when=(When(0, 1, 1, "odd"),)),),
        (Row(1, "x", Level.NATIVE, unmounted=1, note="why"),),
        (_handled(op=Op.NONE),),
        (_handled(remote=True, args=(Arg.PATH, None, None, None, None, Arg.FLAGS)),),
        (_handled(), _handled(nr=2)),
        (_handled(), _handled(name="y")),
        (_handled(), Row(1, "x", Level.REFUSED, errno=1, note="why")),
        (Row(1, "x", Level.NATIVE),),
        (Row(1, "x", Level.REFUSED, note="why"),),
        (Row(1, "x", Level.NATIVE, note="why", args=(Arg.PATH,)),),
    ],
)
def test_a_wrong_row_fails_at_import(rows: tuple[Row, ...]) -> None:
    check((_handled(),))
    with pytest.raises(AssertionError):
        check(rows)
