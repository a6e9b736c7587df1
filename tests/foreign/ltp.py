"""The Linux Test Project's system call tests, where it is installed: DIR/runtest, DIR/testcases/bin."""

import os
import re
import shlex
from collections import Counter, defaultdict
from pathlib import Path

from foreign.settings import Ended
from foreign.suite import Outcomes, Suite, Test

KINDS = "TPASS|TFAIL|TBROK|TCONF|TWARN"
# "open01.c:54: TPASS: …", and of tests that are not yet in the new style "sendmsg01    1  TPASS  :  …"
NEW = re.compile(rf"^([\w.+-]+:\d+): ({KINDS}):", re.MULTILINE)
OLD = re.compile(rf"^(\w[\w.-]*\s+\d+)\s+({KINDS})\s", re.MULTILINE)

# They measure time or memory of the whole machine, or change it for everybody.
LEFT_OUT = re.compile(
    r"^(clock_settime|settimeofday|stime|adjtimex|clock_adjtime|reboot|swapo|oom|sysfs|syslog|"
    r"(delete|finit|init)_module|quotactl|sethostname|setdomainname|acct|kexec|vhangup)"
)


def count(kinds: list[str]) -> str:
    """Checks of one place in the source come in no certain order, when several processes make them."""
    return " ".join(f"{times}x{kind}" for kind, times in sorted(Counter(kinds).items()))


def read(ended: Ended) -> Outcomes:
    found: dict[str, list[str]] = defaultdict(list)
    for pattern in (NEW, OLD):
        for match in pattern.finditer(ended.output):
            found[" ".join(match[1].split())].append(match[2])
    outcomes = {place: count(kinds) for place, kinds in found.items()}
    outcomes["status"] = str(ended.status)
    return outcomes


def says_something(outcomes: Outcomes) -> bool:
    return any("TPASS" in said for said in outcomes.values()) or outcomes["status"] == "0"


def suite(directory: Path, wanted: re.Pattern[str]) -> Suite:
    binaries = directory / "testcases/bin"
    env = {
        "LTPROOT": str(directory),
        "PATH": f"{binaries}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "LTP_COLORIZE_OUTPUT": "n",
        "LTP_SINGLE_FS_TYPE": "tmpfs",  # what is asked is what the view does, not what each file system does
    }
    tests = []
    for line in (directory / "runtest/syscalls").read_text().splitlines():
        words = shlex.split(line, comments=True)
        if (
            len(words) > 1
            and os.access(binaries / words[1], os.X_OK)
            and wanted.search(words[0])
            and not LEFT_OUT.match(words[0])
        ):
            tests.append(Test(words[0], tuple(words[1:]), read, env))
    return Suite("ltp", tests, says_something)
