"""Where a view prints something else than the machine, and why. docs/fidelity.md says the same to users.

A mask replaces, in both outputs, what cannot agree; an exception drops lines; `TOLD` has both answers of a
call. Each names the views it is for, so that the others must agree in that as well.
"""

import re
from dataclasses import dataclass

EVERY = ("pass-through", "unrelated", "bind", "bind-absent", "enforce", "unreal", "cow")
ACTING = ("bind", "bind-absent", "enforce", "unreal", "cow")
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


SEVERAL = "what the view shows at several places is meant by the path that the working directory has"
"""So a descriptor of / is one of the target."""

MASKS = (
    Mask(("unreal",), r"(exe\) = |exe=)/\S*(/[^/\s]+)", r"\1\2", SEVERAL),
    Mask(("unreal",), r"(size 4 readlink\(/proc/self/exe\) = )/\w+", r"\1?", SEVERAL),
    Mask(("unreal",), r"-> \S*/tmp/(#\d+ \(deleted\))", r"-> /tmp/\1", SEVERAL),
    Mask(EVERY, r"/#\d+ \(deleted\)", "/#N (deleted)", "the probe's output: another file in each run"),
    Mask(("unreal",), r"ino=i\d+", "ino=iN", "numbered as they are seen first: / is another, see there"),
    Mask(
        ("cow",),
        r"(mode=4\d{4} )nlink=\d+",
        r"\1nlink=N",
        "of a directory of two trees nobody counts the directories in it: 1, as in overlayfs",
    ),
    Mask(("cow",), r"^(  \./.* )uid=\d+ gid=\d+ ", r"\1", "a user's files may be given away: see below"),
    Mask(("cow",), r"^(  \./dir/sub .* atime=)\S+", r"\1?", "a directory that is copied up is read"),
    Mask(("cow",), r"(whiteout\(\w+/white\) = )(0|-1 EPERM)", r"\1?", "nobody makes one, as in overlayfs"),
    Mask(("cow",), r"^(  \./.* )ino=i\d+", r"\1ino=iN", "numbered as they are seen: that one is not there"),
    Mask(
        ("cow",),
        r"(dgram sendmmsg\(a name of .*?\.\.\.\) = )[12](.*) lengths 4 \d",
        r"\1N\2 lengths 4 N",
        "the same as of other addresses, see below: this has brackets",
    ),
    Mask(("cow",), r"(inotify_add_watch.*\) = )\d+", r"\1N", "the directory that is watched is the layer's"),
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
        ACTING,
        r"sendmmsg\(([^()]*)\) = [12](.*) lengths 4 \d",
        r"sendmmsg(\1) = N\2 lengths 4 N",
        "sendmmsg sends what it can up to a virtual address, as the kernel may; the caller sends the rest",
    ),
)


@dataclass(frozen=True)
class Told:
    """A call that is answered in another way, and by what: (natively, in the view)."""

    views: tuple[str, ...]
    call: str
    answers: tuple[tuple[str, str], ...]
    why: str

    def explains(self, native: str, ours: str) -> bool:
        return any(re.fullmatch(one, native) and re.fullmatch(other, ours) for one, other in self.answers)


WARNINGS = (
    Exception_(
        (*ACTING, "unrelated"),
        r"^vuos-run: execonly \(process \d+\): its memory may not be read ",
        "of a program that its user may not read",
    ),
)

EXCEPTIONS = (
    Exception_(("unreal",), r"^. (dirfd|fd) .*\(/[,)]", SEVERAL),
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
    Exception_(("enforce",), r"^. +\./emptydir", "what was made by way of a removed directory, see there"),
    Exception_(("cow",), r"^. +\./emptydir/file ", "the same"),
    Exception_(("cow",), r"^[<>]   \./locked(/file|:) EACCES", "its owner is another now"),
    Exception_(
        ("enforce",),
        r"^< dgram recvfrom\(@abstract-probe\) = 2 from 0|^< dgram recvfrom\(\) = 2 from 0",
        "datagrams to an abstract name are refused, so none comes",
    ),
    Exception_(("cow",), r"^<   \./(emptydir|setgid|sticky)/white ", "a whiteout, which was not made"),
    Exception_(
        (*ACTING, "unrelated"),
        r" (exe=\S*/execonly|exe=EACCES) ",
        "the memory of a program that its user may not read is closed to a supervisor of that user too",
    ),
)

_RESULT = re.compile(r"^[<>] (.*?\)) = (.*)$")

_ABSTRACT = "datagrams to an abstract name, whose owner cannot be told, are refused"
_OWN_FD = "only its own thread group may write to /proc/PID/fd (proc_fd_permission), and we are asked"

TOLD = (
    Told(
        ("enforce",),
        r"^names (unlink|rmdir|unlinkat \w+)\(/(proc/self|dev)/fd/9[01]\)$",
        ((r"-1 (EPERM|ENOTDIR)", "-1 EACCES"),),
        _OWN_FD,
    ),
    Told(
        ("enforce",),
        r"^TMPFILE\|(RDWR|WRONLY\|EXCL): flags open\(/proc/self/fd\)$",
        (("-1 EOPNOTSUPP", "-1 EACCES"),),
        _OWN_FD,
    ),
    Told(
        ("enforce",),
        r"^access (access|faccessat2?)\(/proc/self/fd\)$",
        (("0", "-1 EACCES"),),
        _OWN_FD,
    ),
    Told(
        ("enforce",),
        r"^attributes [\w -]+\(/proc/self/fd/91/file\)$",
        (("-1 EACCES", "-1 ENOENT"),),
        "descriptor 91 is of a directory that has been removed: only what has a name can be judged",
    ),
    Told(
        ("cow",),
        r"^attributes (l?chown|fchownat).*\(",
        (("-1 EPERM", "0"),),
        "the owner is kept in the layer (docs/layers.md)",
    ),
    Told(
        ("cow",),
        r"^names link file\(/proc/self/fd/89\)",
        (("-1 ENOENT", "-1 EXDEV"),),
        "a removed file is of no tree",
    ),
    Told(
        ("cow",),
        r"^names rename \w+\((missing/)?name of 256\)",
        (("-1 ENOENT", "-1 ENAMETOOLONG"),),
        "both names are read before anything is looked up",
    ),
    Told(
        ("enforce", "cow"),
        r"^numbers open at the limit\(missing\)$",
        (("-1 EMFILE(numbers .*)?", "-1 ENOENT(numbers .*)?"),),
        "no descriptor is free, which the kernel sees before it looks for the file, and we when we have it",
    ),
    Told(
        ("enforce",),
        r"^fd fstat\(AT_FDCWD\)$",
        ((r".*fsetxattr\(AT_FDCWD\) = 0.*", r".*fsetxattr\(AT_FDCWD\) = -1 EBADF.*"),),
        "the kernel takes AT_FDCWD for a descriptor there, and in none of the other calls on descriptors",
    ),
    Told(
        ("enforce",),
        r"^dgram connect (early|late)\((@abstract-probe)?\)$",
        (("-1 ECONNREFUSED", "-1 EPERM"),),
        _ABSTRACT,
    ),
    Told(
        ("enforce",),
        r"^dgram bind again\((@abstract-probe)?\)$",
        ((r"(.* connect\(.*\) = )0", r"(.* connect\(.*\) = )-1 EPERM"),),
        _ABSTRACT,
    ),
    Told(("enforce",), r"^dgram getpeername\(\)$", (("0 family=1 length=.*", "-1 ENOTCONN"),), _ABSTRACT),
    Told(
        ("enforce",),
        r"^dgram sendto\((@abstract-probe)?\)$",
        (("2dgram sendmsg.*", r"-1 EPERM.*send\(.*\) = -1 ENOTCONN lengths 0 .*"),),
        _ABSTRACT,
    ),
)


def mask(text: str, view: str) -> str:
    for rule in MASKS:
        if view in rule.views:
            text = re.sub(rule.pattern, rule.replacement, text, flags=re.MULTILINE)
    return text


def unexplained(lines: list[str], view: str) -> list[str]:
    """What is left of diff's lines."""
    rules = [re.compile(rule.pattern) for rule in EXCEPTIONS if view in rule.views]
    left = [line for line in lines if not any(rule.search(line) for rule in rules)]
    results: dict[tuple[str, str], list[str]] = {}
    for line in left:
        if found := _RESULT.match(line):
            results.setdefault((line[0], found[1]), []).append(found[2])

    def told(line: str) -> bool:
        """Whether one rule has both answers, natively and in the view, each time the call is made."""
        if not (found := _RESULT.match(line)):
            return False
        native, ours = results.get(("<", found[1]), []), results.get((">", found[1]), [])
        rule = next((rule for rule in TOLD if view in rule.views and re.search(rule.call, found[1])), None)
        return (
            rule is not None
            and len(native) == len(ours)
            and all(rule.explains(*pair) for pair in zip(native, ours, strict=True))
        )

    return [line for line in left if not told(line)]


def heard(stderr: str, view: str) -> str:
    """The probe's stderr, without what the launcher has to say of it there."""
    lines = stderr.splitlines(keepends=True)
    rules = [rule for rule in WARNINGS if view in rule.views]
    return "".join(line for line in lines if not any(re.search(rule.pattern, line) for rule in rules))
