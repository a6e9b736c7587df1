"""Versions of the mount table while threads use them, under the sanitizers; and what a change costs."""

import subprocess
from pathlib import Path

import pytest
from supervisor.engine.fuse_shell import CHECKED, ENGINE

PROBE = Path(__file__).with_name("table_probe.c")
NO_SANITIZER = ""


def run(tmp_path: Path, sanitizer: str, rounds: int) -> float:
    program = tmp_path / "table_probe"
    flags = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"] if sanitizer else []
    names = ["table.c", "namespace.c", "namespace_change.c", "claims.c", "unreal.c", "spaces.c"]
    sources = [PROBE, *(ENGINE / name for name in names)]
    command = ["cc", *CHECKED, *flags, "-D_GNU_SOURCE", f"-I{ENGINE}", *sources, "-o", program]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run(
        [
            "setarch",
            "-R",
            program,
            tmp_path,
            str(rounds),
        ],  # TSan knows no more than 28 random bits of an address
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_changes_while_threads_look(tmp_path: Path, sanitizer: str) -> None:
    run(tmp_path, sanitizer, 1000)


def test_a_change_among_a_thousand_costs_a_millisecond_at_most(tmp_path: Path) -> None:
    assert run(tmp_path, NO_SANITIZER, 10) < 1
