"""Hunks, applied by patch(1), give the new file."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vuosd.layers import lines


def hunks(directory: Path, old: bytes, new: bytes) -> bytes:
    fds = []
    for name, content in (("old", old), ("new", new)):
        (directory / name).write_bytes(content)
        fds.append(os.open(directory / name, os.O_RDONLY))
    try:
        return b"".join(lines.hunks(*fds))
    finally:
        for fd in fds:
            os.close(fd)


def applied(directory: Path, old: bytes, text: bytes) -> bytes:
    if not text:
        return old
    target = directory / "target"
    target.write_bytes(old)
    command = ["patch", "--quiet", "--force", "--fuzz=0", "--binary", str(target)]
    done = subprocess.run(command, input=b"--- target\n+++ target\n" + text, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout, text)
    return target.read_bytes() if target.exists() else b""


LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"\n", b"long line\r\n", b"\r", b"-- x\n"]), max_size=40)
TEXTS = st.builds(lambda parts, end: b"".join(parts) + end, LINES, st.sampled_from([b"", b"end"]))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=TEXTS, new=TEXTS, short=st.booleans())
def test_random(tmp_path: Path, old: bytes, new: bytes, short: bool) -> None:
    """`short`: as if it were too much to be compared."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lines, "_CHUNK", 16)
        if short:
            patched.setattr(lines, "_MOST_LINES", 3)
        text = hunks(tmp_path, old, new)
    assert applied(tmp_path, old, text) == new
    assert (text == b"") == (old == new)


def test_a_line_in_a_huge_file(tmp_path: Path) -> None:
    """It is found by reading, and neither file is held in memory."""
    half = b"".join(b"%d\n" % number for number in range(200_000))
    text = hunks(tmp_path, half + b"x\n" + half, half + b"y\n" + half)
    assert text == (b"@@ -199998,7 +199998,7 @@\n 199997\n 199998\n 199999\n-x\n+y\n 0\n 1\n 2\n")


def test_a_huge_middle_is_replaced(tmp_path: Path) -> None:
    old = b"start\n" + b"x\n" * 3_000_000 + b"end\n"
    new = b"start\n" + b"y\n" * 3_000_000 + b"end\n"
    text = hunks(tmp_path, old, new)
    assert text.startswith(b"@@ -1,3000002 +1,3000002 @@\n start\n-x\n")
    assert applied(tmp_path, old, text) == new
