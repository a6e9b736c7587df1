"""What a row of the system call table can say, and the checks it must pass. No I/O.

A handled row names its operation and then what each argument is, in the order of the call's own arguments, so
the position of a word is the number of the register:

    row(257, "openat", Op.OPEN, DirFd, Path, Flags, Mode)

A number may have several rows when each has conditions; what no condition matches passes natively.
"""

import enum
from typing import NamedTuple


class Op(enum.IntEnum):
    """The engine's operations: enum vu_op in supervisor/engine/api.h, which says what each wants (a test
    compares the two).
    """

    NONE = 0
    OPEN = enum.auto()
    OPENAT2 = enum.auto()
    STAT = enum.auto()
    STATX = enum.auto()
    ACCESS = enum.auto()
    READLINK = enum.auto()
    MKDIR = enum.auto()
    MKNOD = enum.auto()
    UNLINK = enum.auto()
    LINK = enum.auto()
    SYMLINK = enum.auto()
    RENAME = enum.auto()
    CHMOD = enum.auto()
    CHOWN = enum.auto()
    UTIME = enum.auto()
    UTIMES = enum.auto()
    UTIMENSAT = enum.auto()
    TRUNCATE = enum.auto()
    STATFS = enum.auto()
    GETXATTR = enum.auto()
    SETXATTR = enum.auto()
    LISTXATTR = enum.auto()
    REMOVEXATTR = enum.auto()
    GETXATTRAT = enum.auto()
    SETXATTRAT = enum.auto()
    LISTXATTRAT = enum.auto()
    REMOVEXATTRAT = enum.auto()
    FILE_GETATTR = enum.auto()
    FILE_SETATTR = enum.auto()
    CHDIR = enum.auto()
    CHROOT = enum.auto()
    GETCWD = enum.auto()
    EXECVE = enum.auto()
    INOTIFY = enum.auto()
    FANOTIFY = enum.auto()
    NAME_TO_HANDLE = enum.auto()
    OPEN_BY_HANDLE = enum.auto()
    BIND = enum.auto()
    CONNECT = enum.auto()
    SENDTO = enum.auto()
    SENDMSG = enum.auto()
    SENDMMSG = enum.auto()
    GETSOCKOPT = enum.auto()
    SOCKNAME = enum.auto()
    GETDENTS64 = enum.auto()
    GETDENTS = enum.auto()
    FCHMOD = enum.auto()
    FCHOWN = enum.auto()
    FSETXATTR = enum.auto()
    FREMOVEXATTR = enum.auto()
    IOCTL_SETFLAGS = enum.auto()
    FSTAT = enum.auto()
    GETRLIMIT = enum.auto()
    SETRLIMIT = enum.auto()
    PRLIMIT = enum.auto()
    DUMPABLE = enum.auto()
    MOUNT = enum.auto()
    UMOUNT = enum.auto()
    SYNC = enum.auto()
    FGETXATTR = enum.auto()
    FLISTXATTR = enum.auto()
    CREDENTIALS = enum.auto()
    IDS = enum.auto()


class Arg(enum.IntEnum):
    """What an argument is; the values are the columns of struct vu_row, in its order."""

    DIRFD = 0
    PATH = 1
    DIRFD2 = 2
    PATH2 = 3
    FLAGS = 4
    MODE = 5
    BUF = 6
    SIZE = 7
    EXTRA = 8
    FD = 9


class Level(enum.Enum):
    """What becomes of a call."""

    HANDLED = "handled"
    NATIVE = "native"
    REFUSED = "refused"


class When(NamedTuple):
    """A condition on one register: (argument & mask) equals value, or differs from it."""

    arg: int
    mask: int
    value: int
    says: str
    equal: bool = True

    def holds(self, args: "tuple[int, ...]") -> bool:
        """Whether the condition holds for these six registers."""
        return ((args[self.arg] & self.mask) == self.value) is self.equal


class Row(NamedTuple):
    """One system call, or some argument values of one."""

    nr: int
    name: str
    level: Level
    op: Op = Op.NONE
    args: "tuple[Arg | None, ...]" = ()
    implied: int = 0
    when: "tuple[When, ...]" = ()
    """Any of these; empty means always."""
    remote: bool = False
    """The engine makes this call in the target: it passes with the session's cookie as sixth argument."""
    privileged: bool = False
    """Matters only to a supervisor that acts with the credentials of its callers."""
    entries: bool = False
    """Matters only where the view has an entry or enforces: else every such call would go on."""
    stacked: bool = False
    """Matters only where an entry of the view shows several trees as one."""
    mounted: bool = False
    """Matters in a session with a mounter, because a FUSE server must hear of it: there (also) without an
    entry."""
    carries: bool = False
    """Matters only to a supervisor that is root without CAP_SYS_PTRACE: engine/op_ids.c."""
    errno: int = 0
    unmounted: int = 0
    """In a session without a mounter the filter answers with this errno instead."""
    note: str = ""

    def columns(self) -> "tuple[int, ...]":
        """The row as struct vu_row has it."""
        where = {arg: position for position, arg in enumerate(self.args) if arg is not None}
        return (self.nr, self.op, *(where.get(arg, -1) for arg in Arg), self.implied)


WORD = 0xFFFF_FFFF
"""Mask of arguments that the kernel declares int or unsigned: it ignores the upper half, so must we."""
LONG = 0xFFFF_FFFF_FFFF_FFFF

_NEEDS = {
    Op.OPENAT2: {Arg.PATH, Arg.BUF, Arg.SIZE},
    Op.STAT: {Arg.PATH, Arg.BUF},
    Op.STATX: {Arg.PATH, Arg.BUF, Arg.FLAGS, Arg.EXTRA},
    Op.ACCESS: {Arg.PATH, Arg.MODE},
    Op.READLINK: {Arg.PATH, Arg.BUF, Arg.SIZE},
    Op.MKDIR: {Arg.PATH, Arg.MODE},
    Op.MKNOD: {Arg.PATH, Arg.MODE, Arg.EXTRA},
    Op.LINK: {Arg.PATH, Arg.PATH2},
    Op.SYMLINK: {Arg.PATH, Arg.BUF},
    Op.RENAME: {Arg.PATH, Arg.PATH2},
    Op.CHMOD: {Arg.PATH, Arg.MODE},
    Op.CHOWN: {Arg.PATH, Arg.MODE, Arg.EXTRA},
    Op.TRUNCATE: {Arg.PATH, Arg.EXTRA},
    Op.GETXATTR: {Arg.PATH, Arg.EXTRA, Arg.BUF, Arg.SIZE},
    Op.SETXATTR: {Arg.PATH, Arg.EXTRA, Arg.BUF, Arg.SIZE, Arg.MODE},
    Op.LISTXATTR: {Arg.PATH, Arg.BUF, Arg.SIZE},
    Op.REMOVEXATTR: {Arg.PATH, Arg.EXTRA},
    Op.GETXATTRAT: {Arg.PATH, Arg.FLAGS, Arg.EXTRA, Arg.BUF, Arg.SIZE},
    Op.SETXATTRAT: {Arg.PATH, Arg.FLAGS, Arg.EXTRA, Arg.BUF, Arg.SIZE},
    Op.LISTXATTRAT: {Arg.PATH, Arg.FLAGS, Arg.BUF, Arg.SIZE},
    Op.REMOVEXATTRAT: {Arg.PATH, Arg.FLAGS, Arg.EXTRA},
    Op.FILE_GETATTR: {Arg.PATH, Arg.BUF, Arg.SIZE, Arg.FLAGS},
    Op.FILE_SETATTR: {Arg.PATH, Arg.BUF, Arg.SIZE, Arg.FLAGS},
    Op.GETCWD: {Arg.BUF, Arg.SIZE},
    Op.EXECVE: {Arg.PATH, Arg.BUF, Arg.EXTRA},
    Op.INOTIFY: {Arg.FD, Arg.PATH, Arg.MODE},
    Op.FANOTIFY: {Arg.FD, Arg.PATH, Arg.MODE, Arg.EXTRA},
    Op.NAME_TO_HANDLE: {Arg.PATH, Arg.BUF, Arg.EXTRA, Arg.FLAGS},
    Op.OPEN_BY_HANDLE: {Arg.FD, Arg.BUF, Arg.FLAGS},
    **{op: {Arg.PATH, Arg.BUF} for op in (Op.UTIME, Op.UTIMES, Op.UTIMENSAT, Op.STATFS)},
    **{op: {Arg.PATH} for op in (Op.OPEN, Op.UNLINK, Op.CHDIR, Op.CHROOT)},
    **{
        op: {Arg.FD, Arg.BUF, Arg.SIZE} for op in (Op.BIND, Op.CONNECT, Op.SENDTO, Op.GETDENTS64, Op.GETDENTS)
    },
    Op.SENDMSG: {Arg.FD, Arg.BUF, Arg.FLAGS},
    Op.SENDMMSG: {Arg.FD, Arg.BUF, Arg.SIZE, Arg.FLAGS},
    Op.GETSOCKOPT: {Arg.FD, Arg.EXTRA, Arg.MODE, Arg.BUF, Arg.SIZE},
    Op.SOCKNAME: {Arg.FD, Arg.BUF, Arg.SIZE},
    Op.FCHMOD: {Arg.FD, Arg.MODE},
    Op.FCHOWN: {Arg.FD, Arg.MODE, Arg.EXTRA},
    **{op: {Arg.FD} for op in (Op.FSETXATTR, Op.FREMOVEXATTR, Op.IOCTL_SETFLAGS)},
    **{op: {Arg.BUF} for op in (Op.GETRLIMIT, Op.SETRLIMIT)},
    Op.FSTAT: {Arg.FD, Arg.BUF},
    Op.PRLIMIT: {Arg.EXTRA, Arg.BUF, Arg.SIZE},
    Op.DUMPABLE: {Arg.EXTRA, Arg.MODE},
    Op.MOUNT: {Arg.PATH},
    Op.UMOUNT: {Arg.PATH},
    Op.SYNC: {Arg.FD},
    Op.FGETXATTR: {Arg.FD, Arg.EXTRA, Arg.BUF, Arg.SIZE},
    Op.FLISTXATTR: {Arg.FD, Arg.BUF, Arg.SIZE},
    Op.CREDENTIALS: set(),
    Op.IDS: set(),
}


def check(rows: "tuple[Row, ...]") -> None:
    """Fails on a row that contradicts itself or another; called when the table is imported."""
    assert set(_NEEDS) == set(Op) - {Op.NONE}
    always: dict[int, str] = {}
    names: dict[str, int] = {}
    handled: set[int] = set()
    seen: dict[int, Row] = {}
    for row in rows:
        who = f"{row.nr} {row.name}"
        assert names.setdefault(row.name, row.nr) == row.nr, f"{who}: another number has this name"
        assert always.setdefault(row.nr, row.name) == row.name, f"{who}: another name has this number"
        first = seen.setdefault(row.nr, row)
        assert first is row or (row.when and first.when), f"{who}: several rows need conditions"
        kinds = [arg for arg in row.args if arg is not None]
        assert len(kinds) == len(set(kinds)), f"{who}: an argument twice"
        assert len(row.args) <= 6, f"{who}: too many arguments"
        for when in row.when:
            assert 0 <= when.arg < 6, f"{who}: no such argument"
            assert when.value & ~when.mask == 0, f"{who}: never holds"
        assert (row.level is Level.REFUSED) == bool(row.errno), f"{who}: errno"
        assert not row.unmounted or not row.when, f"{who}: another errno, and conditions"
        assert (row.level is Level.HANDLED) == (row.op is not Op.NONE), f"{who}: operation"
        assert row.note or row.level is Level.HANDLED, f"{who}: no reason given"
        if row.level is Level.HANDLED:
            assert row.nr not in handled, f"{who}: the engine keeps one operation a number"
            handled.add(row.nr)
            assert _NEEDS[row.op] <= set(kinds), f"{who}: lacks {_NEEDS[row.op] - set(kinds)}"
            assert Arg.DIRFD2 not in kinds or Arg.PATH2 in kinds, f"{who}: a directory without a path"
            assert not row.remote or len(row.args) < 6, f"{who}: no room for the cookie"
        else:
            assert row.level is Level.REFUSED or not row.unmounted, f"{who}: passes"
            limits = (row.privileged, row.entries, row.stacked, row.mounted, row.carries)
            assert not any((row.args, row.implied, row.remote, *limits)), f"{who}: nothing decodes this"
