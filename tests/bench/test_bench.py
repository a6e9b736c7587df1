"""The bench runs, says what is absent, and writes what it has measured. Figures are nobody's to test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

WANTED = (
    *(
        "getpid",
        "stat",
        "open+close",
        "read 4",
        "write 4",
        "mmap",
        "fork+exec",
        "chdir",
        "readlink",
        "getdents",
    ),
    *(
        "start, daemon",
        "start, no daemon",
        "10 entries",
        "10000 entries",
        "4 threads",
        "4 processes",
        "EINTR",
    ),
    *("find", "tar", "git status", "git log", "gcc", "import 200", "worker, USS after"),
    *("mounted: stat", "mounted: read", "mounted: find", "mounted: tar", "mount+umount, Python"),
    *("git checkout", "create 3", "of the layer", "below", "vuctl diff"),
)
REPOSITORY = Path(__file__).parent.parent.parent


def bench(*arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, REPOSITORY / "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.kernel
def test_a_row_in_all_columns(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    said = bench("--quick", "--runs=1", "--only=stat, absolute", f"--json={out}")
    document = json.loads(out.read_text())
    cells = document["rows"]["stat, absolute"]
    for name in (
        "native",
        "pass",
        "bind",
        "enforce",
        "bwrap",
        "proot",
        "fakeroot",
        "strace",
        "umvu",
        "sandlock",
    ):
        assert name in cells or f"{name}: absent: {document['absent'][name]}" in said
    assert cells["native"]["min"] > 0
    assert len(cells["native"]["samples"]) == 1


def test_rows_cover_what_is_promised() -> None:
    rows = bench("--list")
    for wanted in WANTED:
        assert wanted in rows


def test_an_unknown_row_is_no_table() -> None:
    assert bench("--list", "--only=nothing has this name").strip() == ""
