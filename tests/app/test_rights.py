"""Rights in a cow over a tree that is partly somebody else's: as natively, also of what has been copied up,
which for an ordinary user really belongs to that user."""

import json
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


CLOSED = """
exec 2>&1
umask 022
mkdir -p new/below other
echo x > new/f
chmod 600 new; mv new moved; stat -c '%a %n' moved; mv moved other; stat -c %a other/moved
chmod 700 other/moved; ls other/moved
chmod 0 other/moved; mv other/moved out; mv other/moved other/m; rmdir other/m
mkdir e; chmod 0 e; mv e e2; rmdir e2
chmod 600 below; mv below b2; stat -c %a b2; chmod 700 b2; ls -R b2
chmod 500 b2/d; mv b2 b3; ls -R b3; mv b3/d d
mkdir x; chmod 0 x; mkdir y; mv -T y x; mkdir z; touch z/a; chmod 0 z; mv -T x z
stat -c '%a %n' *
"""


def test_closed_directories(box: Box) -> None:
    """rename(2) and rmdir(2) ask for no right to read or search the directory itself."""
    said = []
    for name in ("native", "lower"):
        box.file(f"{name}/below/d/f", "f\n")
        top = box.give(box.scratch / name)
        argv = ["/bin/sh", "-c", CLOSED]
        done = box.native(argv, cwd=top) if name == "native" else box.view(argv, options=["--cow"], cwd=top)
        said.append(done.stdout.splitlines())
    assert said[1] == said[0]


def test_what_is_above_the_tree_of_somebody_else(box: Box) -> None:
    """The top of a layer stands for the directory below: no more may be done in it, and no more is told."""
    if os.geteuid():
        pytest.fail("the tests' own user has to be root here, to make another's directory")
    tops = box.scratch / "native", box.scratch / "lower"
    for top in tops:
        (top / "d").mkdir(parents=True)
        box.give(top / "d")
        os.chown(top, 0, 5)
    text = f'[[mount]]\ntype = "cow"\ntarget = "{tops[1]}"\nephemeral = true\n'
    argv = [
        "/bin/sh",
        "-c",
        "echo > d/f; stat -c '%u:%g %a' .; mkdir e || rmdir d || chmod 777 . || ls; ls d",
    ]
    native, cow = box.native(argv, cwd=tops[0]), box.view(argv, text, cwd=tops[1])
    assert (cow.stdout, cow.stderr) == (native.stdout, native.stderr)


def test_what_chown_gave_away_is_still_the_users(box: Box) -> None:
    """As installers do, who set modes and times after the owner; but not what was never the user's."""
    if not box.identity.uid:
        return  # root gives it away in truth: tests/app/test_owners.py
    top = box.scratch / "tree"
    top.mkdir()
    (top / "theirs").write_text("")
    box.give(top)
    os.chown(top / "theirs", 0, 0)
    script = """exec 2>&1
        echo x > f; chown 0:0 f; chmod 4750 f; touch -d @9 f; echo y >> f; chown 7 f; cat f
        stat -c '%u:%g %a %s' f
        mv theirs t; chmod 600 t; chown 7 t; chown 0 t; touch -d @9 t; stat -c '%u:%g %a' t"""
    said = box.view(["/bin/sh", "-c", script], options=["--cow"], cwd=top).stdout.splitlines()
    denied = ["chmod: changing permissions of 't': Operation not permitted"]
    denied += ["chown: changing ownership of 't': Operation not permitted"] * 2
    denied += ["touch: cannot touch 't': Permission denied"]  # it tries to open first
    assert said == ["x", "y", "7:0 750 4", *denied, "0:0 644"]


def test_what_was_lent_is_no_change(box: Box) -> None:
    """The real mode of a copy may have more for its owner than is told: no change, and not exported."""
    if os.geteuid():
        pytest.fail("the tests' own user has to be root here, to make another's file")
    top = box.scratch / "tree"
    top.mkdir()
    (top / "f").write_text("f\n")
    box.give(top)
    os.chown(top / "f", 0, 0)
    (top / "f").chmod(0o466)
    vuctl = box.installation.bin / "vuctl"
    box.view(["/bin/sh", "-c", "echo more >> f"], options=["--name=lent", "--cow"], cwd=top).check()
    said = box.native([vuctl, "diff", "--json", "lent"], cwd=top).stdout
    (change,) = json.loads(said)["trees"][0]["changes"]
    assert (change["change"], change["old"]["mode"], change["new"]["mode"]) == ("modified", "0466", "0466")
    assert "mode" not in change.get("attributes", ())
    archive = box.scratch / "home/out.tar"
    box.native([vuctl, "export", "lent", archive]).check()
    assert box.native(["tar", "tvf", archive]).check().stdout.startswith("-r--rw-rw-")
