"""Racing threads in an enforcing view get nothing: race.c. `make race` makes a full run: a million tries of
each call in each kind of race (--race-tries, --race-calls, --race-log).

That the races are real is shown twice: natively each call gets at the object, and in the same view without
enforcement the race is won, so the threads do flip what is looked at between judging and acting.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import LONGEST_RACE
from enforce.tree import WITHHELD, Tree
from harness.box import Box, Result

KINDS = {
    "sec": "sec",
    "mnt": "mnt",
    "tmp": "tmp",
    "rot": "rot",
    "stall": "sec",
    "empty": "sec",
    "number": "sec",
    "link": "sec",
    "exchange": "y/d",
}
"""How the path changes, and which part of the tree it is about."""
TRIES = 100_000
MILLISECONDS = 110
"""Of each call, in a short run: what comes first."""

OUTSIDE = {
    *("chmod", "chmod_plain", "chown", "utimensat", "utimes", "setxattr", "removexattr", "truncate", "creat"),
    *("mkdir", "mknod", "symlink", "rename", "rmdir", "bind", "unlink", "link", "statfs", "utime_omit"),
    *("sendto", "sendmsg", "sendto_family", "sendmsg_name", "sendmmsg", "connect"),
    *("fchmod", "fchown", "fsetxattr", "mkdirat", "renameat", "unlinkat"),
}
"""What they do is seen in the tree or at the sockets, not by the program."""

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(180)]


class Extent(NamedTuple):
    """How much of it. `tries` of each call, or 0 for as many as take a moment; `calls`: only these."""

    tries: int
    calls: tuple[str, ...]
    log: str


@pytest.fixture
def extent(request: pytest.FixtureRequest) -> Extent:
    get = request.config.getoption
    return Extent(get("--race-tries"), tuple(filter(None, get("--race-calls").split(","))), get("--race-log"))


@pytest.fixture
def tree(box: Box) -> Iterator[Tree]:
    tree = Tree(box)
    yield tree
    tree.close()


def race(
    box: Box,
    tree: Tree,
    kind: str,
    profile: str | None,
    *calls: str,
    full: int = 0,
    at: str = "",
    before: list[Any] | None = None,
) -> dict[str, tuple[int, int]]:
    """Tries and finds of each call; `full`: so many tries, and no limit of time; `at`: where the view shows
    its tree once more; `before`: the beginning of the command.
    """
    program = box.programs.build(Path(__file__).parent / "race.c", "-static", "-Wno-format-truncation")
    part = tree.top / KINDS[kind]
    inodes = [0, 0] if kind == "rot" else [(part / name).stat().st_ino for name in ("file", "dir")]
    tries, milliseconds = (full, 1000 * int(LONGEST_RACE)) if full else (TRIES, MILLISECONDS)
    argv = [
        *(before or []),
        program,
        kind,
        f"{at}{tree.top}",
        *map(str, inodes),
        str(tries),
        str(milliseconds),
        *calls,
    ]
    more: dict[str, Any] = {"timeout": LONGEST_RACE if full else 120.0}
    directory = os.open(tree.top / "sec", os.O_RDONLY | os.O_DIRECTORY)
    more |= {"env": {"DIRECTORY": str(directory)}, "pass_fds": (directory,)}
    result: Result = box.native(argv, **more) if profile is None else box.view(argv, profile, **more)
    os.close(directory)
    result.check()
    found = {}
    for line in result.stdout.splitlines():
        call, tries, finds = line.split()
        found[call] = (int(tries), int(finds))
    print(kind, found)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_got(box: Box, tree: Tree, kind: str, extent: Extent) -> None:
    found = race(box, tree, kind, tree.profile(), *extent.calls, full=extent.tries)
    if extent.log:
        with open(extent.log, "a") as file:
            for call, (tries, finds) in found.items():
                print(box.identity.name, kind, call, tries, finds, file=file)
    assert found or extent.calls  # no socket is connected to by way of a link, for one
    assert all(tries >= (extent.tries or 1) for tries, _ in found.values())
    if kind != "rot":  # which may be seen, but not changed
        assert {call: finds for call, (_, finds) in found.items() if finds} == {}
    assert tree.changed() == []
    assert {name: tree.received(name) for name in WITHHELD} == dict.fromkeys(WITHHELD, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_natively_it_is_got(box: Box, tree: Tree, kind: str) -> None:
    # A file system may have neither handles nor extended attributes.
    optional = OUTSIDE | {"exec_check", "connect_family", "handle", "getxattr", "listxattr"}

    def missed(*calls: str) -> list[str]:
        found = race(box, tree, kind, None, *calls)
        return [call for call, (_, finds) in found.items() if not finds and call not in optional]

    left = missed()
    assert tree.changed(*{KINDS[kind]}) != []
    for _ in range(20):  # a moment may be too short on a busy machine
        if left and kind != "rot":
            tree.make_anew()
            left = missed(*left)
    assert not left or kind == "rot"


def test_without_enforcement_the_race_is_won(box: Box, tree: Tree) -> None:
    """In the view that only hides, calls are left to the kernel once their paths have been judged."""
    calls = ("stat", "statx", "access", "connect_family")
    won = race(box, tree, "sec", tree.profile(enforce=False), *calls)
    again = race(box, tree, "empty", tree.profile(enforce=False), "stat", "statx", "access")
    assert sum(finds for _, finds in [*won.values(), *again.values()]) > 0
