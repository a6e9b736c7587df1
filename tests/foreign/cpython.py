"""CPython's own tests of what touches files, processes and sockets, of the Python that is named."""

import re
from pathlib import Path

from foreign.settings import Ended
from foreign.suite import Outcomes, Suite, Test

QUICK = ("os", "pathlib", "glob", "shutil", "fcntl")
MODULES = (
    *QUICK,
    "posix",
    "subprocess",
    "tempfile",
    "mmap",
    "socket",
    "multiprocessing_fork",
)
RUNNER = Path(__file__).with_name("outcomes.py").read_text()  # given by -c: not everybody can reach this file


def read(ended: Ended) -> Outcomes:
    outcomes = {}
    for line in ended.report.splitlines():
        outcome, _, name = line.partition(" ")
        outcomes[name] = outcome
    outcomes["status"] = str(ended.status)
    return outcomes


def suite(python: Path, wanted: re.Pattern[str]) -> Suite:
    tests = [
        Test(
            f"test_{module}",
            (str(python), "-c", RUNNER, "{fd}", f"test.test_{module}"),
            read,
            timeout=900,
            report=True,
        )
        for module in MODULES
        if wanted.search(f"test_{module}")
    ]
    return Suite("cpython", tests)
