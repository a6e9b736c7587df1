"""The number by which the filter knows the supervisor's own calls: it can be learnt, and is of no use."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from enforce.tree import Tree
from harness.box import Box

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(180)]


@pytest.fixture
def tree(box: Box) -> Iterator[Tree]:
    tree = Tree(box)
    yield tree
    tree.close()


def attack(box: Box, tree: Tree, *words: str, profile: str | None = None) -> dict[str, str]:
    program = box.programs.build(Path(__file__).parent / "cookie.c", "-static", "-Wno-format-truncation")
    argv = [program, tree.top, *words]
    command = argv if profile is None else [*box.vuos_run(profile), *argv]
    result = box.native(command, timeout=120.0).check()
    print(result.stdout)
    lines = [line for line in result.stdout.splitlines() if not line.startswith("#")]
    return dict(line.split(" ", 1) for line in lines)


def test_natively_each_call_reaches_its_end(box: Box, tree: Tree) -> None:
    got = attack(box, tree, "native")
    assert len(got) == 17
    assert {call for call, what in got.items() if what != "GOT"} == set()


def test_it_is_learnt_and_opens_nothing(box: Box, tree: Tree) -> None:
    got = attack(box, tree, profile=tree.profile())
    assert got.pop("learnt") != "never"
    assert (got.pop("genuine"), got.pop("frames")) == ("yes", "yes")
    # It is in the registers of a thread that is stopped in the call, and nowhere else.
    assert {got.pop(f"seen-by-{way}") for way in ("memory", "frame", "tracer")} == {"0"}
    assert len(got) == 17
    assert {call for call, what in got.items() if what != "nothing"} == set()
    assert tree.changed() == []
    assert tree.received("sec") == 0
