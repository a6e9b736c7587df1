"""Where a view prints something else than the machine, and why. docs/fidelity.md says the same to users.

A mask replaces, in both outputs, what cannot agree; an exception drops lines. Each names the views it is
for, so that the others must agree in that as well.
"""

import re
from dataclasses import dataclass

ACTING = ("bind", "bind-absent", "enforce")
"""Views in which our answer, and not the kernel's, is what the probe sees."""


@dataclass(frozen=True)
class Mask:
    views: tuple[str, ...]
    pattern: str
    replacement: str
    why: str


@dataclass(frozen=True)
class Exception_:
    views: tuple[str, ...]
    pattern: str
    why: str


MASKS = (
    Mask(
        ACTING,
        r"execfn=\S+ comm=\S+",
        "execfn=? comm=?",
        "a program executed by descriptor has /dev/fd/N as AT_EXECFN, and a script its interpreter's name",
    ),
    Mask(
        ACTING,
        r"/fd/\d\b",
        "/fd/N",
        "the descriptor that the program is executed by takes a number for a moment",
    ),
    Mask(("enforce",), r"fds=0,1,2,\d,", "fds=0,1,2,N,", "the same, where it stays open"),
    Mask(
        ("enforce",),
        r"((?:PATH|create=2)[^=]*(?:=2: \w+)?[^=]*\) = )\d+ ",
        r"\1N ",
        "an O_PATH descriptor is handed over through a socket, which takes a number for a moment",
    ),
    Mask(
        ("enforce",),
        r"fl=10[0246]00000 ",
        "fl=PATH ",
        "… and has O_DIRECTORY or O_NOFOLLOW by how it was made",
    ),
    Mask(
        ("enforce",),
        r"^(  \./.* )ino=i\d+",
        r"\1ino=iN",
        "inodes are numbered as they are met, and one that is told of by an error less shifts them",
    ),
    Mask(
        ("enforce",),
        r"^(dirfd \S+ ?\S*\([^)]*\) = )\d+",
        r"\1N",
        "the same: numbers of the probe's own descriptors",
    ),
    Mask(
        ACTING,
        r"sendmmsg\(([^()]*)\) = [12](.*) lengths 4 \d",
        r"sendmmsg(\1) = N\2 lengths 4 N",
        "sendmmsg sends what it can up to a virtual address, as the kernel may; the caller sends the rest",
    ),
    Mask(
        ("bind", "bind-absent"),
        r"family=1 length=\d+ .*",
        "family=1",
        "a bound socket has the host's path as its name",
    ),
)

EXCEPTIONS = (
    Exception_(
        ACTING,
        r"^. NO_XDEV ",
        "mounts are compared where a path starts and ends, not at each link between",
    ),
    Exception_(
        ACTING,
        r"^. NO_SYMLINKS .* = -1 (ELOOP|ENOENT)",
        "that a link leads nowhere is seen before that it is a link",
    ),
    Exception_(
        ACTING, r"^. dgram recvfrom\(.* = (4 from 0|-1 EAGAIN)", "what sendmmsg has not sent, see there"
    ),
    Exception_(
        ("enforce",),
        r"^. (dirfd .*\(removed, |chdir .*removed)",
        "a directory that has been removed has no name, and only what has one can be judged",
    ),
    Exception_(
        ("enforce",),
        r"^. xattr listxattrat EMPTY_PATH\((empty string|NULL)\)",
        "the kernel takes no AT_FDCWD there, we do",
    ),
    Exception_(("enforce",), r"^. +\./emptydir", "what was made by way of a removed directory, see there"),
    Exception_(
        ("enforce",),
        r"^. dirfd openat2\((file|file O_PATH), /\)",
        "RESOLVE_BENEATH and the like: an absolute path is seen to be one before the descriptor is looked at",
    ),
    Exception_(
        ("enforce",),
        r"^. fd fstat\((pipe|socket|anonymous|AT_FDCWD)",
        "getdents64 of no directory is ESPIPE; a number that is no descriptor is EBADF in all calls",
    ),
    Exception_(
        ("enforce",),
        r"^. numbers open at the limit\(missing\)",
        "two faults: no descriptor is free, and no such file",
    ),
    Exception_(
        ("enforce",),
        r"^. access (access|faccessat2?)\(/proc/self/fd\) = (0|-1 EACCES)",
        "only its own thread group may write to /proc/PID/fd (proc_fd_permission), and we are asked",
    ),
    Exception_(
        ("enforce",),
        r"^. (dgram (bind again|getpeername|sendto|recvfrom|send|connect late)|\w+ (bind again|getpeername))",
        "datagrams to an abstract name, whose owner cannot be told, are refused",
    ),
    Exception_(
        ACTING,
        r" (exe=\S*/execonly|exe=EACCES) ",
        "the memory of a program that its user may not read is closed to a supervisor of that user too",
    ),
    Exception_(
        ("bind", "bind-absent"),
        r"^. rename rename\w*\(homelink/newname, file/x, ",
        "two faults: a name that does not exist, below the entry, and a file that is no directory",
    ),
)

_BARE = re.compile(r"^[<>] {5}E[A-Z0-9]+$")
_RESULT = re.compile(r"^[<>] (.*) = -1 (E\w+)$")


def mask(text: str, view: str) -> str:
    for rule in MASKS:
        if view in rule.views:
            text = re.sub(rule.pattern, rule.replacement, text, flags=re.MULTILINE)
    return text


def unexplained(lines: list[str], view: str) -> list[str]:
    """What is left of diff's lines. Under enforcement errors are our answers: where a call has two faults,
    which of them is told may differ; that a call fails may not.
    """
    rules = [re.compile(rule.pattern) for rule in EXCEPTIONS if view in rule.views]
    left = [line for line in lines if not any(rule.search(line) for rule in rules)]
    if view != "enforce":
        return left
    both: dict[str, set[str]] = {}
    for line in left:
        found = _RESULT.match(line)
        if found:
            both.setdefault(found[1], set()).add(line[0])
    left = [line for line in left if not ((found := _RESULT.match(line)) and len(both[found[1]]) == 2)]
    errors = [line for line in left if _BARE.match(line)]  # exec's, on a line of their own
    balanced = sum(line[0] == "<" for line in errors) * 2 == len(errors)
    return [line for line in left if not (balanced and _BARE.match(line))]
