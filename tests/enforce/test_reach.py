"""Every way but racing to what an enforcing view withholds, and to the processes that keep it up: reach.c."""

import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from enforce.tree import Tree
from harness.box import Box
from harness.programs import Programs

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

OUTSIDE = """
import ctypes, os, sys
os.chdir(sys.argv[1] + "/sec")
os.dup2(os.open("file", os.O_RDONLY), 9)
text = ctypes.create_string_buffer(b"SECRET")
print(ctypes.addressof(text), flush=True)
sys.stdin.read()
"""

KERNEL = {"foreign-calls", "io_uring", "exec-check"}
"""What natively depends on how the kernel was built."""


def program(programs: Programs, name: str) -> Path:
    return programs.build(Path(__file__).parent / f"{name}.c", "-static", "-Wno-format-truncation")


@contextmanager
def outside(box: Box, tree: Tree) -> Iterator[tuple[int, str]]:
    """A process of the same user that works with what is withheld."""
    argv = [box.installation.python, "-c", OUTSIDE, tree.top]
    process = box.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    assert select.select([process.stdout], [], [], 30)[0]
    try:
        yield process.pid, process.stdout.readline().decode().strip()
    finally:
        process.kill()
        process.wait()


def attack(
    box: Box, tree: Tree, *, profile: str | None, keepers: bool = False, enters: bool = False
) -> dict[str, str]:
    """What came of each attack, natively when there is no profile. `enters`: by a command that has entered
    the view.
    """
    directory = os.open(tree.top / "sec", os.O_RDONLY | os.O_DIRECTORY)
    path_only = os.open(tree.top / "sec", os.O_PATH | os.O_DIRECTORY)
    assert box.runtime
    with outside(box, tree) as (pid, address):
        env = {"DIRECTORY": str(directory), "PATHONLY": str(path_only), "AT": address,
               "CONTROL": str(box.runtime / "vuosd" / "control")}  # fmt: skip
        if keepers:
            env["KEEPERS"] = "1"
        argv = [program(box.programs, "reach"), tree.top, str(pid)]
        command = argv if profile is None else [*box.vuos_run(profile), *argv]
        if enters:
            name = box.scratch.name
            box.popen([*box.vuos_run(profile, f"--name={name}"), "sleep", "1000"])
            command = [box.installation.vuos_run, f"--enter={name}", "--", *argv]
        result = box.native(command, env=env, pass_fds=(directory, path_only), cwd=tree.top / "pub").check()
    os.close(directory)
    os.close(path_only)
    print(result.stdout)
    lines = [line for line in result.stdout.splitlines() if not line.startswith("#")]
    return dict(line.split(" ", 1) for line in lines)


@pytest.fixture
def tree(box: Box) -> Iterator[Tree]:
    tree = Tree(box)
    yield tree
    tree.close()


def test_natively_each_attack_reaches_its_end(box: Box, tree: Tree) -> None:
    got = attack(box, tree, profile=None)
    assert len(got) > 20
    assert {name for name, how in got.items() if how != "GOT"} <= KERNEL


@pytest.mark.parametrize("enters", [False, True], ids=["first", "entered"])
def test_nothing_is_reached(box: Box, tree: Tree, enters: bool) -> None:
    got = attack(box, tree, profile=tree.profile(), keepers=True, enters=enters)
    assert {
        "names",
        "control",
        "ptrace-outside",
        "proc-keeper",
        "proc-front",
        "proc-vuosd-worker",
    } <= got.keys()
    assert {name for name, how in got.items() if how != "nothing"} == set()
    assert tree.changed() == []


def test_commands_that_enter_have_domains_of_their_own(box: Box) -> None:
    """A Landlock domain cannot be joined: what docs/entering.md says of signals."""
    name = box.scratch.name
    profile = '[view]\nenforce = true\n[[mount]]\ntype = "hide"\ntarget = "/srv"\n'
    first = box.popen(
        [*box.vuos_run(profile, f"--name={name}"), "sh", "-c", "echo $$; exec sleep 1000"],
        stdout=subprocess.PIPE,
    )
    assert first.stdout
    pid = int(first.stdout.readline())
    script = f"kill -0 {pid} && echo theirs; sleep 1000 & kill $! && echo own; ls /srv"
    done = box.native([box.installation.vuos_run, f"--enter={name}", "--", "sh", "-c", script])
    assert done.stdout == "own\n"
    assert "Operation not permitted" in done.stderr
    assert "/srv" in done.stderr
    os.kill(pid, 0)
