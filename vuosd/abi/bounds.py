"""The seccomp program of a server that runs outside of the view, as data: what Landlock has no word for.
No I/O.

Landlock bounds which files are opened, made and removed, signals, and tracing. It lets be: sockets with a
path, a change of mode, owner, times and extended attributes by a path, other processes' limits, keyrings,
io_uring, which no filter sees.
"""

import errno
import functools
import struct

_LD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ERRNO, _ALLOW, _NOTIFY = 0x00050000, 0x7FFF0000, 0x7FC00000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X86_64, _X32 = 0xC000003E, 0x40000000
_CODE = struct.Struct("=HBBI")

_NONE = 0xFFFF
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOCK_STREAM, _SOCK_SEQPACKET, _SOCK_KIND = 1, 5, 0xF
_CLONE_NEW = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET"""

SOCKET, SOCKETPAIR, CLONE, UTIMENSAT, PRLIMIT64, SETRLIMIT = 41, 53, 56, 280, 302, 160
OF_PROCESS = {142: 0, 144: 0, 203: 0, 314: 0, 141: 1, 251: 1}
"""sched_setparam, sched_setscheduler, sched_setaffinity, sched_setattr, setpriority, ioprio_set: which
argument says whose; 0 is the caller."""
MOUNT, CONNECT, OPEN, OPENAT = 165, 42, 2, 257
_O_RDWR = 2
_RLIMIT_LOCKS = 10
"""What a process is known by as one of a session: vuosd/supervisor/members.py."""

REFUSED = {
    # other processes
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "pidfd_getfd": 438,
    "process_madvise": 440, "process_mrelease": 448, "migrate_pages": 256, "move_pages": 279,
    "perf_event_open": 298,
    # what belongs to the user and has no path: keyrings, System V objects, POSIX queues
    "add_key": 248, "request_key": 249, "keyctl": 250, "shmget": 29, "shmat": 30, "semget": 64, "msgget": 68,
    "mq_open": 240,
    # other roots and namespaces
    "chroot": 161, "pivot_root": 155, "unshare": 272, "setns": 308,
    # files without their paths; and what others do with files
    "open_by_handle_at": 304, "fanotify_init": 300,
    # the kernel itself
    "bpf": 321, "userfaultfd": 323,
}  # fmt: skip
"""EPERM."""
ABSENT = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "clone3": 435, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442,
}  # fmt: skip
"""ENOSYS: they would do unseen what is judged here, and whoever calls them has another way."""
ATTRIBUTES = {
    "chmod": 90, "fchmodat": 268, "fchmodat2": 452, "chown": 92, "lchown": 94, "fchownat": 260, "utime": 132,
    "utimes": 235, "futimesat": 261, "setxattr": 188, "lsetxattr": 189, "removexattr": 197,
    "lremovexattr": 198,
    "setxattrat": 463, "removexattrat": 466, "file_setattr": 469, "inotify_add_watch": 254,
}  # fmt: skip
"""By a path, of which Landlock knows nothing; EPERM for who serves no directory."""

_Code = tuple[int, int, int, int]


def _argument(index: int) -> _Code:
    """Its low half."""
    return (_LD, 0, 0, _ARGUMENTS + 8 * index)


def _refuse(number: int) -> _Code:
    return (_RET, 0, 0, _ERRNO | number)


_LET: _Code = (_RET, 0, 0, _ALLOW)


def _when(call: int, *block: _Code) -> list[_Code]:
    """`block` decides about a call."""
    return [(_JEQ, 0, len(block), call), *block]


@functools.cache
def program(*, network: bool, attributes: bool, agent: bool = False) -> bytes:
    """struct sock_filter[]. `network`: sockets of the internet may be made; `agent`: and such as can be
    connected to a path, which somebody else does (`listening`); `attributes`: the calls of ATTRIBUTES may be
    made.
    """
    code: list[_Code] = [
        (_LD, 0, 0, _ARCHITECTURE),
        (_JEQ, 1, 0, _X86_64),
        _refuse(errno.ENOSYS),
        (_LD, 0, 0, _NUMBER),
        (_JGE, 0, 1, _X32),
        _refuse(errno.ENOSYS),
    ]
    refused = {**REFUSED, **({} if attributes else ATTRIBUTES)}
    for number in refused.values():
        code += _when(number, _refuse(errno.EPERM))
    for number in ABSENT.values():
        code += _when(number, _refuse(errno.ENOSYS))
    code += _when(CLONE, _argument(0), (_JSET, 0, 1, _CLONE_NEW), _refuse(errno.EPERM), _LET)
    own, what = _argument(0), _argument(1)
    code += _when(
        PRLIMIT64, own, (_JEQ, 0, 2, 0), what, (_JEQ, 0, 1, _RLIMIT_LOCKS), _refuse(errno.EPERM), _LET
    )
    for number, index in OF_PROCESS.items():
        code += _when(number, _argument(index), (_JEQ, 1, 0, 0), _refuse(errno.EPERM), _LET)
    code += _when(SETRLIMIT, own, (_JEQ, 0, 1, _RLIMIT_LOCKS), _refuse(errno.EPERM), _LET)
    if not attributes:  # futimens(3) is the one without a path
        low, high = _argument(1), (_LD, 0, 0, _ARGUMENTS + 8 + 4)
        code += _when(UTIMENSAT, low, (_JEQ, 0, 2, 0), high, (_JEQ, 1, 0, 0), _refuse(errno.EPERM), _LET)
    if network:
        code += _when(
            SOCKET,
            _argument(0),
            (_JEQ, 9, 0, _AF_INET),
            (_JEQ, 8, 0, _AF_INET6),
            (_JEQ, 0, 2, _AF_NETLINK),
            _argument(2),
            (_JEQ, 5, 4, 0),  # NETLINK_ROUTE: which addresses there are
            (_JEQ, 0, 3, _AF_UNIX if agent else _NONE),
            _argument(1),
            (_AND, 0, 0, _SOCK_KIND),
            (_JEQ, 1, 0, _SOCK_STREAM),
            _refuse(errno.EACCES),
            _LET,
        )
    else:
        code += _when(SOCKET, _refuse(errno.EACCES))
    # A pair of streams is connected for good; one of datagrams could be connected to anybody.
    code += _when(
        SOCKETPAIR,
        _argument(0),
        (_JEQ, 0, 4, _AF_UNIX),
        _argument(1),
        (_AND, 0, 0, _SOCK_KIND),
        (_JEQ, 2, 0, _SOCK_STREAM),
        (_JEQ, 1, 0, _SOCK_SEQPACKET),
        _refuse(errno.EACCES),
        _LET,
    )
    code.append(_LET)
    return b"".join(_CODE.pack(*one) for one in code)


def listening(*, opens: bool, connects: bool) -> bytes:
    """Of which calls the helper hears: mount(2); `opens`: an open(2) with O_RDWR and nothing else, as
    libfuse 2 opens /dev/fuse; `connects`: connect(2), whatever the socket is.
    """
    notify = (_RET, 0, 0, _NOTIFY)
    code: list[_Code] = [(_LD, 0, 0, _ARCHITECTURE), (_JEQ, 1, 0, _X86_64), _LET, (_LD, 0, 0, _NUMBER)]
    code += _when(MOUNT, notify)
    if connects:
        code += _when(CONNECT, notify)
    if opens:
        code += _when(OPEN, _argument(1), (_JEQ, 0, 1, _O_RDWR), notify, _LET)
        code += _when(OPENAT, _argument(2), (_JEQ, 0, 1, _O_RDWR), notify, _LET)
    code.append(_LET)
    return b"".join(_CODE.pack(*one) for one in code)
