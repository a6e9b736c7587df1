"""pjdfstest, the POSIX file system tests: DIR is where it was built (DIR/pjdfstest, DIR/tests)."""

import re
from pathlib import Path

from foreign.settings import Ended
from foreign.suite import Outcomes, Suite, Test

LINE = re.compile(r"^(ok|not ok) (\d+)(?: - tried '.*'(, expected \S+, got \S+))?", re.MULTILINE)
NUMBER = re.compile(r"\b[1-9]\d+\b|(?<=[a-z],)\d+(?=,0)")


def read(ended: Ended) -> Outcomes:
    """As "not ok, expected 0, got EPERM"; numbers of inodes are others each time."""
    outcomes = {match[2]: match[1] + NUMBER.sub("N", match[3] or "") for match in LINE.finditer(ended.output)}
    outcomes["status"] = str(ended.status)
    return outcomes


def suite(directory: Path, wanted: re.Pattern[str]) -> Suite:
    scripts = sorted((directory / "tests").rglob("*.t"))
    names = [str(script.relative_to(directory / "tests")) for script in scripts]
    return Suite(
        "pjdfstest",
        [
            Test(name, ("/bin/sh", str(script)), read, timeout=300)
            for name, script in zip(names, scripts, strict=True)
            if wanted.search(name)
        ],
    )
