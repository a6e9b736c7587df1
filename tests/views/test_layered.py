"""--cow over a view: what is written goes to a layer, and all else stays as the profile says."""

import pytest

from vuosd.views import Entry, Kind, NoCow, View, covered, flatten

FILES = (b"/etc/resolv.conf", b"/home/u/file")


def isdir(path: bytes) -> bool:
    return path not in FILES and b"gone" not in path


def shown(target: bytes, *entries: Entry) -> dict[bytes, tuple[str, tuple[bytes, ...], bool]]:
    view = covered(View(name="v", entries=entries), target, isdir)
    return {entry.target: (entry.kind.name, entry.sources, entry.readonly) for entry in flatten(view.entries)}


def test_over_the_host() -> None:
    assert shown(b"/home/u") == {b"/home/u": ("COW", (b"/home/u",), False)}


def test_over_everything_the_kernels_directories_and_run_stay() -> None:
    assert shown(b"/") == {
        b"/": ("COW", (b"/",), False),
        b"/dev": ("BIND", (b"/dev",), False),
        b"/proc": ("BIND", (b"/proc",), False),
        b"/sys": ("BIND", (b"/sys",), False),
        b"/run": ("BIND", (b"/run",), False),
    }


def test_what_is_withheld_stays_withheld_and_what_is_read_only_read_only() -> None:
    table = shown(
        b"/",
        Entry(Kind.RO, b"/"),
        Entry(Kind.TMPFS, b"/tmp"),
        Entry(Kind.BIND, b"/home/u", b"/home/u"),
        Entry(Kind.BIND, b"/opt", b"/srv/opt", readonly=True),
        Entry(Kind.HIDE, b"/home/u/.ssh"),
        Entry(Kind.HIDE, b"/run"),
    )
    assert table == {
        b"/": ("COW", (b"/",), False),
        b"/dev": ("BIND", (b"/dev",), False),
        b"/proc": ("BIND", (b"/proc",), False),
        b"/sys": ("BIND", (b"/sys",), False),
        b"/tmp": ("TMPFS", (), False),
        b"/home/u": ("COW", (b"/home/u",), False),
        b"/opt": ("BIND", (b"/srv/opt",), True),
        b"/home/u/.ssh": ("HIDE", (b"/home/u/.ssh",), False),
        b"/run": ("HIDE", (b"/run",), False),
    }


def test_over_what_the_view_shows_there() -> None:
    bind = Entry(Kind.BIND, b"/src", b"/home/u/project")
    assert shown(b"/src", bind) == {b"/src": ("COW", (b"/home/u/project",), False)}
    assert shown(b"/src/sub", bind)[b"/src/sub"] == ("COW", (b"/home/u/project/sub",), False)
    merge = Entry(Kind.MERGE, b"/m", b"/x", (b"/gone", b"/y"))
    assert shown(b"/m", merge) == {b"/m": ("COW", (b"/x", b"/y"), False)}
    assert shown(b"/", merge)[b"/m"] == ("COW", (b"/x", b"/gone", b"/y"), False)


def test_of_a_given_tree() -> None:
    view = covered(View(name="v"), b"/src", isdir, (b"/elsewhere",))
    assert [entry.sources for entry in view.entries] == [(b"/elsewhere",)]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (b"/gone", '"/gone" is no directory'),
        (b"/home/u/file", '"/home/u/file" is no directory'),
        (b"/proc/sys", "is the kernel's"),
        (b"/tmp/x", 'private directory at "/tmp"'),
        (b"/hidden/x", 'hides "/hidden/x"'),
        (b"/etc", '"/etc/resolv.conf" to be written'),
    ],
)
def test_where_there_can_be_none(target: bytes, said: str) -> None:
    entries = (
        Entry(Kind.TMPFS, b"/tmp"),
        Entry(Kind.HIDE, b"/hidden"),
        Entry(Kind.BIND, b"/etc/resolv.conf", b"/etc/resolv.conf"),
    )
    with pytest.raises(NoCow, match=said):
        shown(target, *entries)
