"""What file systems are tested with, in directories that libfuse's examples show: DIR is where libfuse was
built (DIR/test/test_syscalls, DIR/example). With FSX=PROGRAM and PJD=DIR in the environment also fsx, as of
xfstests, and pjdfstest.
"""

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

from foreign import pjdfstest
from foreign.mounted import IN_MEMORY, SERVERS, program_of
from foreign.settings import Ended
from foreign.suite import Outcomes, Suite, Test

# Since libfuse 3.17 with the time before it, which says nothing, and a line where a test begins.
LINE = re.compile(r"^(?:\+ *[\d.]+s)? *(\d+) \[(.*?)\] (?!START)(.*)$", re.MULTILINE)
CHANCE = re.compile(r"recycled \d+/| *\+ +[\d.]+s +")  # natively, too, it is another each time
FSX_SEEDS = 6
# By all of them it would take hours. One that keeps to inodes, as a kernel does; one that has paths; and one
# whose LOOKUP tells no owners, by which the kernel refuses what it should not, so that it is not to be asked.
WITH_PJDFSTEST = ("passthrough_ll", "passthrough", "memfs_ll-no_timeout")
WITH_OTHERS = tuple(server for server in SERVERS if server != "memfs_ll-no_timeout")


def read(ended: Ended) -> Outcomes:
    """test_syscalls: a line for each test that is passed, one or more for one that is not."""
    outcomes: dict[str, str] = {}
    for number, name, said in LINE.findall(ended.output):
        check = f"{number} {name}"
        said = CHANCE.sub(" ", said)
        outcomes[check] = f"{outcomes[check]}; {said}" if check in outcomes else said
    outcomes["status"] = str(ended.status)
    return outcomes


def read_status(ended: Ended) -> Outcomes:
    return {"status": str(ended.status)}


def servers(directory: Path) -> list[str]:
    """Those that this libfuse has; of the others it is told on stderr that they are left out."""
    there = [server for server in SERVERS if program_of(server, directory).exists()]
    for server in SERVERS.keys() - set(there):
        print(f"{program_of(server, directory)} is not there, and left out", file=sys.stderr)
    return there


def of_calls(server: str, directory: Path) -> list[Test]:
    source = server not in IN_MEMORY
    program = str(directory / "test/test_syscalls")
    behind = (":{src}",) if source else ()  # where it looks at what the server has
    tests = [Test(f"{server}/test_syscalls", (server, program, "{mnt}", *behind, "-u"), read)]
    if fsx := os.environ.get("FSX"):
        # It closes and opens again, and what the server has at the end is what it wrote.
        script = '"$@" && cmp f {src}/f' if source else '"$@"'
        for seed in range(1, FSX_SEEDS + 1):
            words = (fsx, "-q", "-c", "20", "-N", "3000", "-S", str(seed), "f")
            argv = (server, "sh", "-c", script, "sh", *words)
            tests.append(Test(f"{server}/fsx {seed}", argv, read_status, timeout=300))
    return tests


def of_pjdfstest(server: str, pjd: Path) -> list[Test]:
    return [
        Test(f"{server}/{test.name}", (server, *test.argv), test.read, timeout=test.timeout)
        for test in pjdfstest.suite(pjd, re.compile("")).tests
    ]


def of_server(server: str, directory: Path) -> list[Test]:
    tests = of_calls(server, directory) if server in WITH_OTHERS else []
    if (pjd := os.environ.get("PJD")) and server in WITH_PJDFSTEST and not os.geteuid():
        tests += of_pjdfstest(server, Path(pjd).absolute())
    return [replace(test, root=server in IN_MEMORY) for test in tests]


def suite(directory: Path, wanted: re.Pattern[str]) -> Suite:
    tests = [test for server in servers(directory) for test in of_server(server, directory)]
    return Suite("fuse", [test for test in tests if wanted.search(test.name)], views=("kernel", "wire"))
