"""What file systems are tested with, in directories that libfuse's examples show: DIR is where libfuse was
built (DIR/test/test_syscalls, DIR/example). With FSX=PROGRAM and PJD=DIR in the environment also fsx, as of
xfstests, and pjdfstest.
"""

import os
import re
from pathlib import Path

from foreign import pjdfstest
from foreign.mounted import SERVERS
from foreign.settings import Ended
from foreign.suite import Outcomes, Suite, Test

LINE = re.compile(r"^ *(\d+) \[(.*?)\] (.*)$", re.MULTILINE)
FSX_SEEDS = 6


def read(ended: Ended) -> Outcomes:
    """test_syscalls: a line for each test that is passed, one or more for one that is not."""
    outcomes: dict[str, str] = {}
    for number, name, said in LINE.findall(ended.output):
        check = f"{number} {name}"
        outcomes[check] = f"{outcomes[check]}; {said}" if check in outcomes else said
    outcomes["status"] = str(ended.status)
    return outcomes


def read_status(ended: Ended) -> Outcomes:
    return {"status": str(ended.status)}


def suite(directory: Path, wanted: re.Pattern[str]) -> Suite:
    tests = []
    for server in SERVERS:
        program = str(directory / "test/test_syscalls")
        tests.append(Test(f"{server}/test_syscalls", (server, program, "{mnt}", ":{src}", "-u"), read))
        if fsx := os.environ.get("FSX"):
            # It closes and opens again, and what the server has at the end is what it wrote.
            script = '"$@" && cmp f {src}/f'
            for seed in range(1, FSX_SEEDS + 1):
                words = (fsx, "-q", "-c", "20", "-N", "3000", "-S", str(seed), "f")
                argv = (server, "sh", "-c", script, "sh", *words)
                tests.append(Test(f"{server}/fsx {seed}", argv, read_status, timeout=300))
        # By all of them it would take hours, and say the same: this one keeps to inodes, as a kernel does.
        if (pjd := os.environ.get("PJD")) and server == "passthrough_ll" and not os.geteuid():
            for test in pjdfstest.suite(Path(pjd).absolute(), re.compile("")).tests:
                argv = (server, *test.argv)
                tests.append(Test(f"{server}/{test.name}", argv, test.read, timeout=test.timeout))
    return Suite("fuse", [test for test in tests if wanted.search(test.name)], views=("kernel", "wire"))
