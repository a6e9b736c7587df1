"""Rights in a cow over a tree that is partly somebody else's: as natively, also of what has been copied up,
which for an ordinary user really belongs to that user."""

import os
import shutil
from pathlib import Path

import pytest
from app import rights
from harness.box import Box

pytestmark = pytest.mark.app

PROGRAM = Path(__file__).with_name("rights.py")
SCRIPT = "#!/bin/sh\nexit 7\n"
NONE = 0xFFFFFFFF
FILE_MODES = (0o644, 0o666, 0o464, 0o646, 0o604, 0o444, 0o755, 0o555, 0o466, 0o605, 0o074)
DIRECTORY_MODES = (0o755, 0o777, 0o1777, 0o575, 0o775, 0o557, 0o2777, 0o757, 0o077, 0o177)


def tree(box: Box, name: str) -> Path:
    """The same for each run: files and directories of root's, of root's and the user's group, of the user's
    and a foreign group, with all kinds of modes."""
    if os.geteuid():
        pytest.fail("the tests' own user has to be root here, to make another's files")
    me, mine = box.identity.uid, box.identity.gid
    top = box.scratch / name
    owners = {"root": (0, 0, 0), "group": (0, mine, 3), "foreign": (me, 5, 6)}
    (top / "other").mkdir(parents=True)
    for kind, (uid, gid, shift) in owners.items():
        for mode in FILE_MODES:
            if not mode >> shift & 4:
                continue  # what may not be read cannot be copied, which rename(2) takes
            path = top / f"f-{kind}-{mode:04o}"
            path.write_text(SCRIPT)
            os.chown(path, uid, gid)
            path.chmod(mode)
        for mode in DIRECTORY_MODES:
            if mode >> shift & 5 != 5:
                continue  # nor what may not be searched
            path = top / f"d-{kind}-{mode:04o}"
            path.mkdir()
            for file in ("mine", "theirs"):
                (path / file).write_text(SCRIPT)
            os.chown(path / "mine", me, mine)
            (path / "theirs").chmod(0o666)
            os.chown(path, uid, gid)
            path.chmod(mode)
    lists = [(2, me, 6, 6), (2, me, 4, 6), (2, me, 6, 4), (8, mine, 6, 6), (8, mine, 6, 5), (2, me, 7, 7)]
    for number, (tag, who, bits, mask) in enumerate(lists):
        path = top / f"f-list-{number}"
        path.write_text(SCRIPT)
        entries = [(1, 6, NONE), (4, 4, NONE), (tag, bits, who), (16, mask, NONE), (32, 4, NONE)]
        entries.sort()
        os.setxattr(path, "system.posix_acl_access", rights.access_list(*entries))
    for path in (top, top / "other"):
        os.chown(path, me, mine)
    return top


def snapshot(top: Path) -> list[object]:
    found: list[object] = []
    for path in sorted(top.rglob("*")):
        st = path.lstat()
        found.append((path, st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_nlink))
    return found


VIEWS = {
    "cow": '[[mount]]\ntype = "cow"\ntarget = "{tree}"\nephemeral = true\n',
    "enforce": '[view]\nenforce = true\n[[mount]]\ntype = "ro"\ntarget = "/"\n'
    '[[mount]]\ntype = "cow"\ntarget = "{tree}"\nephemeral = true\n',
}


@pytest.mark.parametrize("kind", VIEWS)
def test_same_as_natively(box: Box, kind: str) -> None:
    program = box.scratch / PROGRAM.name
    shutil.copy(PROGRAM, program)
    native, lower = tree(box, "native"), tree(box, "lower")
    argv = [box.installation.python, "-S", program]
    said = box.native([*argv, native]).check().stdout
    before = snapshot(lower)
    done = box.view([*argv, lower], VIEWS[kind].format(tree=lower)).check()
    assert done.stdout.splitlines() == said.splitlines()
    assert snapshot(lower) == before
