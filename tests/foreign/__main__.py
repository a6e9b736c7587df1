"""Compare another project's tests natively and in views; exit 1 if anything differs that is not explained.

python -m foreign ltp|pjdfstest|cpython|git|fuse PATH
"""

import argparse
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from harness import identities

from foreign import cpython, fuse, git, ltp, mounted, pjdfstest, settings
from foreign.compare import NativeRuns, compare
from foreign.explained import Difference, reason
from foreign.suite import Suite

SUITES: dict[str, Callable[[Path, re.Pattern[str]], Suite]] = {
    "ltp": ltp.suite,
    "pjdfstest": pjdfstest.suite,
    "cpython": cpython.suite,
    "git": git.suite,
    "fuse": fuse.suite,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="foreign", description=(__doc__ or "").partition(";")[0])
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("path", type=Path, help="where the suite is, or the python whose tests to run")
    parser.add_argument("--only", default="", metavar="REGEX", help="tests whose name matches")
    parser.add_argument(
        "--view",
        action="append",
        choices=[name for name in (*settings.VIEWS, *mounted.TRANSPORTS) if name != "native"],
        help="default: those that suit the suite; in cow the tests' directory lies in a cow of an empty one, "
        "in cow-root in a cow of everything; fuse has the transports kernel and wire",
    )
    parser.add_argument("--identity", action="append", choices=["root", "user", "me"])
    parser.add_argument("--on", default="/tmp", metavar="DIR", help="where the tests' directories are made")
    parser.add_argument("--tries", type=int, default=3, help="runs before something counts as a difference")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth of these tests")
    parser.add_argument(
        "--natively",
        type=Path,
        metavar="FILE",
        help="what tests gave natively is read from FILE in place of a first run, and written to it",
    )
    return parser.parse_args()


def main() -> int:
    given = arguments()
    suite = SUITES[given.suite](given.path.absolute(), re.compile(given.only))
    suite = replace(suite, tests=suite.tests[:: given.every])
    if not suite.tests:
        sys.exit(f"{given.path}: no tests there")
    os.umask(0o022)
    names = given.identity or (
        ["root"] if given.suite == "pjdfstest" and not os.geteuid() else identities.names()
    )
    views = given.view or suite.views
    known: Counter[str] = Counter()
    new: list[Difference] = []

    def tell(difference: Difference) -> None:
        if why := reason(difference):
            known[why] += 1
        else:
            new.append(difference)
            print(difference, flush=True)

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    native = NativeRuns(given.natively)
    places: Sequence[settings.Settings]
    if given.suite == "fuse":
        libfuse = given.path.absolute()
        places = [mounted.MountedSettings(identities.get(name), given.on, libfuse) for name in names]
    else:
        places = settings.of(names, given.on)
    try:
        counts = compare(suite, places, views, given.tries, native, tell, stopping)
    finally:
        for place in places:
            place.close()
    for (identity, view), count in sorted(counts.items()):
        print(
            f"{suite.name}, {identity}, {view}: {count.tests} tests, {count.checks} checks; "
            f"differing tests: {count.unexplained}, and {count.explained} explained"
        )
    for why, times in known.most_common():
        print(f"explained in docs/fidelity.md, {times} times: {why}")
    return 1 if new or stopping.is_set() else 0


if __name__ == "__main__":
    sys.exit(main())
