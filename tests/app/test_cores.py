"""The kernel writes core dumps by itself, where the working directory really is: core(5)."""

from pathlib import Path

import pytest
from harness.box import Box, Result

pytestmark = pytest.mark.app

CRASH = 'ulimit -c; sh -c "kill -SEGV \\$\\$"; ls'
ENTRY = '[[mount]]\ntype = "{}"\nsource = "{}"\ntarget = "{}"\n'


def crash(box: Box, top: Path, profile: str, script: str = CRASH) -> Result:
    """Where natively there would be a core dump, if that is a file here and its hard limit allows one."""
    inside = [*box.vuos_run(profile), "/bin/sh", "-c", script]
    return box.native(["/bin/sh", "-c", 'ulimit -c $(ulimit -Hc); exec "$@"', "sh", *inside], cwd=top)


def is_file() -> bool:
    with open("/proc/sys/kernel/core_pattern") as file:
        return file.read(1) not in "|@"


@pytest.fixture
def top(box: Box) -> Path:
    box.file("tree/f", "f\n")
    box.give(box.scratch / "tree")
    return box.scratch / "tree"


@pytest.mark.parametrize("kind", ["cow", "ro"])
def test_nothing_is_written_below(box: Box, top: Path, kind: str) -> None:
    entry = ENTRY.format("cow" if kind == "cow" else "bind", top, top)
    if kind == "ro":
        entry += "readonly = true\n"
    done = crash(box, top, entry)
    assert done.stdout.split()[1:] == ["f"]
    assert (done.stdout.split()[0] == "0") == is_file()
    assert [path.name for path in top.iterdir()] == ["f"]


def test_who_wants_one_gets_it(box: Box, top: Path) -> None:
    """The limit is a soft one; and in a view where all that is written may be, it stays as it was."""
    hard = box.native(["/bin/sh", "-c", "ulimit -Hc"]).check().stdout
    inside = crash(box, top, ENTRY.format("cow", top, top), "ulimit -c $(ulimit -Hc); ulimit -c")
    assert inside.check().stdout == hard
    assert crash(box, top, ENTRY.format("bind", top, "/srv/tree"), "ulimit -c").check().stdout == hard
