"""What a difference is, and which are known.

Those are meant, or cannot be otherwise; docs/fidelity.md says why, each under its own heading.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    suite: str
    test: str
    check: str
    identity: str
    views: tuple[str, ...]  # which all gave the same
    native: str
    inside: str
    said: str  # the test, in the last of these views

    def __str__(self) -> str:
        where = f"{self.identity}: {' '.join(self.views)}"
        return f"{self.test} {self.check}: natively {self.native}, inside {self.inside} ({where})"


@dataclass(frozen=True)
class Explained:
    why: str  # the heading in docs/fidelity.md
    suite: str
    tests: str = ".*"  # a regular expression for the whole name of a test, or of TEST CHECK
    said: str = ""  # one that is found in what the test said inside
    native: str = ".*"  # one for all of what the check gave natively
    inside: str = ".*"  # one for all of what the check gave inside
    views: frozenset[str] | None = None  # None: any


ENTRIES = frozenset({"hide", "bind", "enforce", "cow", "cow-root"})

EXPLAINED = [
    Explained(
        "No mounts",
        "ltp",
        said=r"[Mm]ount.*(EPERM|ENODEV)|TCONF: (There are no supported|The \S+) filesystem"
        r"|Mounting RO device RW failed .* EIO",
    ),
    Explained(
        "No mounts",
        "ltp",
        r"(fanotify10|mmap16)( .*)?",
        said=r"Mounting /dev/loop\d+ to \S+ fstyp=ext",
    ),
    Explained("Maps are text", "ltp", "ioctl10", views=ENTRIES),
    Explained("Refused calls", "ltp", said=r"tst_fd\.c:\d+: TCONF: ", inside=r"(\d+x(TPASS|TCONF) ?)+|-"),
    Explained("No new privileges", "ltp", r"prctl02 .*|seccomp01"),
    Explained("What the kernel writes", "ltp", r"ioctl_loop0[12]", views=frozenset({"bind"})),
    Explained(
        "Owners in a layer",
        "cpython",
        r"test_(os|posix) .*\.(test_chown_without_permission|test_f?chown)",
        views=frozenset({"cow", "cow-root"}),
    ),
    Explained("Who watches sees the supervisor", "ltp", r"fanotify(02|03|11|12)"),
    Explained("Abstract datagrams under enforcement", "ltp", "bind05", views=frozenset({"enforce"})),
    Explained(
        "Times of change by wire",
        "fuse",
        r".*/chown/00\.t \d+",
        native="ok",
        inside="not ok",
        views=frozenset({"wire"}),
    ),
    Explained(
        "Inode numbers by wire",
        "fuse",
        r"passthrough/rename/00\.t (9|12|24|27|39|42|54|57|69|72)",
        native="ok",
        inside=r"not ok, expected (\w+),N,0644,2, got \1,N,0644,2",
        views=frozenset({"wire"}),
    ),
    Explained(  # nothing but comparisons of times say "not ok" and no more
        "What memfs_ll says by wire",
        "fuse",
        r"memfs_ll-no_timeout/.*\.t \d+",
        native="ok",
        inside="not ok",
        views=frozenset({"wire"}),
    ),
    Explained(
        "What memfs_ll says by wire",
        "fuse",
        r"memfs_ll-no_timeout/.*\.t \d+",
        native="not ok.*",
        inside="ok",
        views=frozenset({"wire"}),
    ),
    *(
        Explained(  # a symlink, which it has none, in place of what could not be renamed away natively
            "What memfs_ll says by wire",
            "fuse",
            r"memfs_ll-no_timeout/rename/(09|10)\.t \d+",
            native=native,
            inside=inside,
            views=frozenset({"wire"}),
        )
        for native, inside in (
            ("not ok, expected 0, got EEXIST", "not ok, expected 0, got ENOSYS"),
            ("ok", "not ok, expected 0, got ENOENT"),
        )
    ),
    Explained(
        "Files without a name by wire",
        "fuse",
        r"passthrough_(ll|hp)/test_syscalls \d+ create tmpfile",
        native="OK",
        inside="-",
        views=frozenset({"wire"}),
    ),
    Explained(
        "Servers that do not truncate",
        "fuse",
        r"memfs_ll/test_syscalls \d+ open\(\+, O_RDWR \| O_CREAT \| O_TRUNC, 0600\)",
        native=r"st_check_size\(\) - length 45 instead of 0; .*",
        inside="OK",
        views=frozenset({"wire"}),
    ),
    Explained(
        "Long paths by wire",
        "fuse",
        r".*\.t \d+",
        native="ok",
        inside=r"not ok, expected \S+, got ENAMETOOLONG",
        views=frozenset({"wire"}),
    ),
    Explained(  # of the file that could not be linked or renamed to such a path
        "Long paths by wire",
        "fuse",
        r".*/(link/03\.t (3|6|7|10|11|12)|rename/02\.t 5)",
        native="ok",
        inside=r"not ok, expected (\d|ENAMETOOLONG), got ENOENT",
        views=frozenset({"wire"}),
    ),
    Explained(
        "Long paths under enforcement",
        "pjdfstest",
        said=r"expected \S+, got ENAMETOOLONG",
        views=frozenset({"enforce"}),
    ),
]


def reason(difference: Difference) -> str | None:
    names = (difference.test, f"{difference.test} {difference.check}")
    for row in EXPLAINED:
        if (
            row.suite == difference.suite
            and any(re.fullmatch(row.tests, name) for name in names)
            and (row.views is None or row.views.issuperset(difference.views))
            and re.fullmatch(row.native, difference.native)
            and re.fullmatch(row.inside, difference.inside)
            and re.search(row.said, difference.said)
        ):
            return row.why
    return None
