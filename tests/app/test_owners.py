"""Owners in a cow. Whom the kernel would not let give files away is told that he has; nothing below is so."""

import os
from pathlib import Path

import pytest
from harness.box import Box

pytestmark = pytest.mark.app

ASK = """import os, sys
st, held = os.stat(sys.argv[1]), os.fstat(os.open(sys.argv[1], os.O_RDONLY))
print(st.st_uid, st.st_gid, (st.st_uid, st.st_gid, st.st_mode) == (held.st_uid, held.st_gid, held.st_mode))
"""


def tree(box: Box) -> Path:
    box.file("tree/f", "f\n")
    box.file("tree/d/x", "x\n")
    box.give(box.scratch / "tree")
    box.file("ask", ASK)
    return box.scratch / "tree"


def run(box: Box, script: str) -> str:
    ask = f"{box.installation.python} -S {box.scratch}/ask"
    argv = ["/bin/sh", "-c", f"ask() {{ {ask} $1; }}; {script}"]
    done = box.view(argv, options=["--cow"], cwd=box.scratch / "tree")
    assert not done.returncode, done.stderr
    return done.stdout


def test_given_away(box: Box) -> None:
    """By path, by descriptor (python's), by install(1); statx(2) says so too; and it can be taken back."""
    top = tree(box)
    me = f"{box.identity.uid} {box.identity.gid}"
    script = f"""
        chown 12:34 f; ask f; stat -c '%u %g' f
        chown 0 d; ask d; chmod 700 d; echo y > d/y; ask d
        cp f g; install -m 640 -o 7 -g 8 g h; ask h
        chown {me.replace(" ", ":")} f; ask f"""
    said = run(box, script).splitlines()
    group = box.identity.gid
    assert said == [
        *["12 34 True", "12 34", f"0 {group} True", f"0 {group} True", "7 8 True", f"{me} True"],
    ]
    assert {p.name: (p.lstat().st_uid, p.lstat().st_gid) for p in top.iterdir()} == dict.fromkeys(
        ("f", "d"), (box.identity.uid, box.identity.gid)
    )


def test_kept_when_copied_up(box: Box) -> None:
    """A directory of somebody else's that all may write is still somebody else's with a new file in it."""
    if os.geteuid():
        pytest.fail("the tests' own user has to be root here, to make another's directory")
    top = tree(box)
    os.chown(top / "d", 12, 34)
    os.chmod(top / "d", 0o777)
    os.chown(top / "d/x", 56, 78)
    os.chmod(top / "d/x", 0o666)
    assert run(box, "ask d; echo > d/new; ask d; echo more >> d/x; ask d/x; ask d/new") == (
        f"12 34 True\n12 34 True\n56 78 True\n{box.identity.uid} {box.identity.gid} True\n"
    )


def test_the_attribute_is_not_seen(box: Box) -> None:
    tree(box)
    python = box.installation.python
    assert run(box, f"""chown 1:1 f; {python} -c 'import os; print(os.listxattr("f"))'""") == "[]\n"
