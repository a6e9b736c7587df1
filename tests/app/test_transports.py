"""What a mount gives by the kernel's FUSE it gives by wire, and both what the server's file system does."""

import json
from pathlib import Path
from typing import Any

import pytest
from harness import places
from harness.box import Box

pytestmark = [pytest.mark.app, pytest.mark.places(places.FUSE)]


@pytest.fixture(params=["kernel", "wire"])
def transport(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def mnt(box: Box) -> Path:
    return box.directory("mnt")


def in_mount(box: Box, mnt: Path, transport: str, program: str) -> Any:
    """What a Python program prints, as JSON, whose `root` is a mount of box.scratch/source."""
    box.give(box.scratch)
    script = f"""
        vumount -t real -o transport={transport} $1 $2
        /usr/bin/python3 -c "$3" $2
        vuumount $2
    """
    head = "import errno, json, os, stat, sys\nroot = sys.argv[1]\n"
    words = ["sh", "-ec", script, "sh", box.scratch / "source", mnt, head + program]
    return json.loads(box.view(words, timeout=60).check().stdout)


def test_path_descriptors(box: Box, mnt: Path, transport: str) -> None:
    """O_PATH: of what no path of the caller's leads to, by the kernel's transport."""
    source = box.directory("source")
    (source / "file").write_text("content")
    (source / "link").symlink_to("file")
    (source / "directory").mkdir()
    told = in_mount(
        box,
        mnt,
        transport,
        """if True:
        import fcntl
        said = {}
        opened = ("file", 0), ("link", os.O_NOFOLLOW), ("directory", 0), ("directory", os.O_DIRECTORY)
        for name, flags in opened:
            fd = os.open(root + "/" + name, os.O_PATH | flags)
            there = fcntl.fcntl(fd, fcntl.F_GETFL) & ~0o100000
            said[name] = [stat.filemode(os.fstat(fd).st_mode)[0], there == os.O_PATH | flags]
            said[name].append(os.path.samestat(os.fstat(fd), os.lstat(root + "/" + name)))
            if name == "file":
                said[name].append(open(f"/proc/self/fd/{fd}").read())
            os.close(fd)
        try:
            os.open(root + "/file", os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            said["error"] = errno.errorcode[error.errno]
        print(json.dumps(said))""",
    )
    assert told == {
        "file": ["-", True, True, "content"],
        "link": ["l", True, True],
        "directory": ["d", True, True],
        "error": "ENOTDIR",
    }
