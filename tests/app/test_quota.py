"""Layers of limited size that are kept: what is refused once they are full, and what is not."""

import os
from pathlib import Path

import pytest
from app.test_layers import run, state, tree
from harness import places
from harness.box import Box, Result

pytestmark = pytest.mark.app

MIB = 1 << 20
PROFILE = '[view]\nname = "q"\n[[mount]]\ntype = "cow"\ntarget = "."\nsize = "2M"\n'

FILL = "head -c 2097152 /dev/zero > full;"

PROBE = r"""
import errno, os, sys
def tried(call, *arguments, **named):
    try:
        result = call(*arguments, **named)
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
"""


def upper(box: Box) -> Path:
    return box.scratch / "home/.local/state/vuos/q/0/upper"


def used(box: Box) -> int:
    return sum(path.lstat().st_blocks * 512 for path in upper(box).rglob("*"))


def python(box: Box, text: str, profile: str = PROFILE) -> Result:
    box.file("probe.py", PROBE + text)
    return run(box, f"exec python3 {box.scratch}/probe.py", profile=profile)


@pytest.mark.parametrize("enforce", ["false", "true"])
def test_what_a_full_layer_refuses(box: Box, enforce: str) -> None:
    top = tree(box)
    before = state(top)
    done = python(
        box,
        r"""
with open("full", "wb") as file:
    file.write(os.urandom(2 << 20))
print("create", tried(os.open, "new", os.O_CREAT | os.O_WRONLY))
print("mkdir", tried(os.mkdir, "new"))
print("symlink", tried(os.symlink, "x", "new"))
print("link", tried(os.link, "full", "new"))
print("mkfifo", tried(os.mkfifo, "new"))
print("tmpfile", tried(os.open, ".", os.O_TMPFILE | os.O_RDWR))
print("copy", tried(os.open, "f", os.O_WRONLY))
print("chmod", tried(os.chmod, "g", 0o600))
print("append", tried(os.open, "full", os.O_WRONLY | os.O_APPEND))
print("read", tried(os.open, "full", os.O_RDONLY))
print("remove", tried(os.unlink, "g"))
print("rename", tried(os.rename, "full", "d/moved"))
print("chmod above", tried(os.chmod, "d/moved", 0o600))
print("shorten", tried(os.truncate, "d/moved", 4096))
print("create", tried(os.open, "new", os.O_CREAT | os.O_WRONLY))
print("copy", tried(os.open, "f", os.O_WRONLY))
""",
        PROFILE.replace("[view]\n", f"[view]\nenforce = {enforce}\n"),
    )
    refused = ("create", "mkdir", "symlink", "link", "mkfifo", "tmpfile", "copy", "chmod", "append")
    expected = [f"{what} ENOSPC" for what in refused]
    expected += [f"{what} done" for what in ("read", "remove", "rename", "chmod above", "shorten")]
    assert done.stdout.splitlines() == [*expected, "create done", "copy done"], done.stderr
    assert state(top) == before


def test_a_copy_that_would_not_fit_is_not_made(box: Box) -> None:
    top = tree(box)
    (top / "big").write_bytes(os.urandom(3 * MIB))
    os.chmod(top / "big", 0o666)
    script = "echo >> big; echo $?; mv big large; echo $?; cp f new && echo done; : > big && cat big"
    done = run(box, script, profile=PROFILE)
    assert done.stdout == "2\n1\ndone\n", done.stderr
    assert done.stderr.count("No space left on device") == 2
    assert sorted(os.listdir(upper(box))) == ["big", "new"]


def test_emptying_a_file_makes_room(box: Box) -> None:
    tree(box)
    done = run(box, f"{FILL} echo > new; : > full; echo 1 > new && cat new", profile=PROFILE)
    assert done.stdout == "1\n"
    assert done.stderr.count("No space left on device") == 1


def test_what_the_last_run_left_counts(box: Box) -> None:
    tree(box)
    run(box, FILL, profile=PROFILE).check()
    done = run(box, "echo > new; echo $?; rm full; echo > new; echo $?", profile=PROFILE)
    assert done.stdout == "2\n0\n"


def test_several_names_count_once(box: Box) -> None:
    tree(box)
    script = "head -c 1500000 /dev/zero > a; ln a b; ln a d/c; echo > new && echo fits"
    done = run(box, script, profile=PROFILE)
    assert done.stdout == "fits\n", done.stderr


@pytest.mark.places(*places.ALL)
def test_who_writes_on_is_stopped(box: Box) -> None:
    """A child that it has made meanwhile is, too; both may go on when there is room."""
    top = tree(box)
    box.file("log", "x" * 100)
    done = python(
        box,
        """
import signal, time
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def fill(fd):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            os.write(fd, bytes(1 << 12))  # some MiB a second: it must be stopped before that fills the layer
        except OSError as error:
            return errno.errorcode[error.errno]
        time.sleep(0.001)
fd, small = os.open("a", os.O_CREAT | os.O_WRONLY), os.open("b", os.O_CREAT | os.O_WRONLY)
print(fill(fd))
child = os.fork()
if not child:
    os._exit(fill(small) != "EFBIG")
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os.unlink("a")
os.close(fd)
end = time.monotonic() + 30
while tried(os.write, small, b"x") != "done" and time.monotonic() < end:
    time.sleep(0.01)
print(tried(os.write, small, b"x"))
""",
    )
    assert done.stdout == "EFBIG\n0\ndone\n", done.stderr
    assert "a" not in os.listdir(upper(box))
    assert used(box) < 2 * MIB
    assert not (top / "a").exists()


def test_a_writer_dies_as_of_ulimit(box: Box) -> None:
    tree(box)
    done = run(box, "cat /dev/zero > a; kill -l $?", profile=PROFILE)
    assert done.stdout == "XFSZ\n", done.stderr


def test_other_processes_are_left_alone(box: Box) -> None:
    tree(box)
    box.file("outside", "")
    box.give(box.scratch / "outside")
    script = f"(cat /dev/zero > a); head -c 3000000 /dev/zero > {box.scratch}/outside; ulimit -f"
    done = run(box, script, profile=PROFILE)
    assert done.stdout == "unlimited\n", done.stderr
    assert (box.scratch / "outside").stat().st_size == 3000000


