"""Copies share their blocks with what they were made from where the file system can: ioctl_ficlone(2)."""

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from app.test_layers import state, vuctl
from harness.box import Box

pytestmark = [pytest.mark.app, pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")]

MIB = 1 << 20
FS_IOC_FIEMAP = 0xC020660B
FIEMAP_FLAG_SYNC = 1
FIEMAP_EXTENT_SHARED = 0x2000
HEADER, EXTENT = struct.Struct("=QQLLLL"), struct.Struct("=QQQQQLLLL")
MANY = 256


def shared(path: Path) -> int:
    """How many bytes of a file are in blocks that another file has too."""
    with path.open("rb") as file:
        header = HEADER.pack(0, 2**64 - 1, FIEMAP_FLAG_SYNC, 0, MANY, 0)
        request = bytearray(header + bytes(EXTENT.size * MANY))
        fcntl.ioctl(file, FS_IOC_FIEMAP, request)
    count = HEADER.unpack_from(request)[3]
    found = [EXTENT.unpack_from(request, HEADER.size + number * EXTENT.size) for number in range(count)]
    return sum(extent[2] for extent in found if extent[5] & FIEMAP_EXTENT_SHARED)


@pytest.fixture(params=["btrfs", "xfs"])
def volume(request: pytest.FixtureRequest, box: Box) -> Iterator[Path]:
    """A directory of the identity's, on a file system of its own."""
    image, where = box.scratch / "image", box.scratch / "mount"
    with image.open("wb") as file:
        file.truncate(320 * MIB)
    make = {"btrfs": ["mkfs.btrfs", "-q"], "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"]}[request.param]
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    subprocess.run([*make, image], check=True, capture_output=True, env={**os.environ, "PATH": path})
    where.mkdir()
    subprocess.run(["mount", "-o", "loop", image, where], check=True)
    try:
        (where / "tree").mkdir()
        box.give(where)
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def test_copies_share_their_blocks(box: Box, volume: Path) -> None:
    content = os.urandom(8 * MIB)
    tree, store = volume / "tree", volume / "store"
    (tree / "big").write_bytes(content)
    with (tree / "sparse").open("wb") as file:
        file.seek(16 * MIB)
        file.write(content[:MIB])
    box.give(volume)
    before = [state(tree / name) for name in ("big", "sparse")]
    options = ("--cow", f"--store={store}", "--name=n")
    script = "echo more >> big; chmod 600 sparse; cat big | wc -c"
    done = box.view(["/bin/sh", "-c", script], options=options, cwd=tree)
    assert done.stdout.split() == [str(8 * MIB + 5)], done.stderr
    upper = store / "n/0/upper"
    assert shared(upper / "big") >= 8 * MIB
    assert shared(upper / "sparse") >= MIB
    assert (upper / "sparse").stat().st_blocks * 512 < 2 * MIB
    assert (upper / "big").read_bytes() == content + b"more\n"
    assert [state(tree / name) for name in ("big", "sparse")] == before
    done = vuctl(box, "commit", f"--store={store}", "n", cwd=tree)
    assert done.stdout == "2 changes committed\n", done.stderr
    assert (tree / "big").read_bytes() == content + b"more\n"
    assert (tree / "sparse").stat().st_mode & 0o777 == 0o600


def test_a_commit_of_a_branch_shares_blocks(box: Box, volume: Path) -> None:
    """Its files stay its parent's, so they are copied."""
    tree, store = volume / "tree", f"--store={volume / 'store'}"
    box.give(volume)
    script = "head -c 4194304 /dev/urandom > new"
    box.view(["/bin/sh", "-c", script], options=("--cow", store, "--name=n"), cwd=tree).check()
    vuctl(box, "branch", store, "n", "more", cwd=tree).check()
    vuctl(box, "commit", store, "more", cwd=tree).check()
    assert shared(tree / "new") >= 4 * MIB
    assert (tree / "new").read_bytes() == (volume / "store/n/0/upper/new").read_bytes()
