"""git's own tests t0000 to t3999; DIR is where git was built (DIR/git, DIR/t)."""

import re
from pathlib import Path

from foreign.settings import Ended
from foreign.suite import Outcomes, Suite, Test

NUMBERS = "t[0-3]*.sh"
LINE = re.compile(r"^(ok|not ok) (\d+)( - .*)?$", re.MULTILINE)
DIRECTIVE = re.compile(r"# (skip|TODO).*")
# The scripts read what lies beside them from the current directory, and write where they are told.
RUNNER = 'cd "$1" && TEST_OUTPUT_DIRECTORY=$TMPDIR && export TEST_OUTPUT_DIRECTORY && exec sh "./$2"'


def read(ended: Ended) -> Outcomes:
    outcomes = {}
    for match in LINE.finditer(ended.output):
        directive = DIRECTIVE.search(match[3] or "")
        outcomes[match[2]] = f"{match[1]} {directive[0]}" if directive else match[1]
    outcomes["status"] = str(ended.status)
    return outcomes


def suite(directory: Path, wanted: re.Pattern[str]) -> Suite:
    scripts = sorted((directory / "t").glob(NUMBERS))
    return Suite(
        "git",
        [
            Test(
                script.stem,
                ("/bin/sh", "-c", RUNNER, "sh", str(script.parent), script.name),
                read,
                {"GIT_TEST_CHAIN_LINT": "0"},  # it looks at the scripts, not at git
                timeout=900,
            )
            for script in scripts
            if wanted.search(script.stem)
        ],
        views=("cow-root",),
    )
