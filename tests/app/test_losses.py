"""What was written and could not be kept is told: to who unmounts, by a failure and a sentence; at the end of
a session to the person, by vuos-run.
"""

from pathlib import Path

import pytest
from harness import places
from harness.box import Box

pytestmark = [pytest.mark.app, pytest.mark.places(places.FUSE)]

FULL = """
import errno, os
from vuosd.api import Filesystem, MemFile, Stat

class Sink(MemFile):
    def flush(self):
        raise OSError(errno.ENOSPC, "full")

class Full(Filesystem):
    def lstat(self, path):
        return Stat.directory() if path == b"/" else Stat.file(size=4, mode=0o666)

    def listdir(self, path):
        return [b"file"]

    def open(self, path, flags, mode):
        return Sink(bytearray(b"old\\n"))

    def truncate(self, path, size):
        pass
"""
WHAT = "what was written could not all be given to its server"
SAID = f"{{mnt}} ({{kind}}): {WHAT}: {{name}} (No space left on device)\n"


@pytest.fixture
def mnt(box: Box) -> Path:
    return box.directory("mnt")


def run(box: Box, script: str, *arguments: object) -> tuple[int, str, str]:
    result = box.view(["sh", "-c", script, "sh", *map(str, arguments)], timeout=30)
    return result.returncode, result.stdout, result.stderr


def test_who_unmounts_hears_it(box: Box, mnt: Path) -> None:
    script = """
        vumount -t memory -o size=4096,transport=wire none $1
        echo short >$1/kept; head -c 100000 /dev/zero | tr '\\0' x >$1/full
        vuumount $1; echo $?
        test -e $1/full; echo $?
    """
    said = "vuumount: " + SAID.format(mnt=mnt, kind="memory", name="full")
    assert run(box, script, mnt) == (0, "1\n1\n", said)


@pytest.mark.parametrize("options", ["", "-l", "-f"])
def test_the_person_hears_it_at_the_end(box: Box, mnt: Path, options: str) -> None:
    """… whatever the command's status is; also of what nobody waited for."""
    script = """
        vumount -t memory -o size=4096,transport=wire none $1
        head -c 100000 /dev/zero | tr '\\0' x >$1/full
        test -z "$2" || vuumount $2 $1
        exit 3
    """
    said = "vuos-run: " + SAID.format(mnt=mnt, kind="memory", name="full")
    assert run(box, script, mnt, options) == (3, "", said)


@pytest.mark.private
def test_without_a_daemon(box: Box, mnt: Path) -> None:
    script = """
        vumount -t memory -o size=4096,transport=wire none $1
        head -c 100000 /dev/zero | tr '\\0' x >$1/full
    """
    said = "vuos-run: " + SAID.format(mnt=mnt, kind="memory", name="full")
    assert run(box, script, mnt) == (0, "", said)


def test_a_server_that_fails_to_flush(box: Box, mnt: Path) -> None:
    """By wire it is known when the file goes back; by the kernel close(2) fails."""
    plugin = box.file("full.py", FULL)
    script = """
        vumount -t $1 -o transport=$3 none $2
        echo new >$2/file; echo $?
        vuumount $2; echo $?
    """
    said = "vuumount: " + SAID.format(mnt=mnt, kind=plugin, name="file")
    assert run(box, script, plugin, mnt, "wire") == (0, "0\n1\n", said)
    status, out, _ = run(box, script, plugin, mnt, "kernel")
    assert (status, out.splitlines()[-1]) == (0, "0")


def test_nothing_is_said_where_nothing_is_lost(box: Box, mnt: Path) -> None:
    """Of the kernel's transport each writer hears himself what fails."""
    script = """
        for transport in kernel wire; do
            vumount -t memory -o size=4096,transport=$transport none $1
            echo short >$1/kept
            test $transport = wire || head -c 100000 /dev/zero 2>/dev/null >$1/full || echo refused
            rm -f $1/full
            test $transport = wire || vuumount $1
        done
    """
    assert run(box, script, mnt) == (0, "refused\n", "")
