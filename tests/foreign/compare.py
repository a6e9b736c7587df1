"""Each test natively and in the views.

Where a view gives something else, again, so that chance is not taken for a difference.
"""

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from foreign.explained import Difference, reason
from foreign.settings import Settings
from foreign.suite import Outcomes, Suite, Test

ABSENT = "-"
STATUS = "status"


@dataclass
class Count:
    """Of one identity and view."""

    tests: int = 0
    checks: int = 0
    explained: int = 0  # tests that differ, in nothing but what is explained
    unexplained: int = 0


def unlike(native: Sequence[Outcomes], inside: Sequence[Outcomes]) -> dict[str, tuple[str, str]]:
    """The checks of which no run inside gave what a native run gave."""
    found = {}
    for check in sorted({check for outcomes in (*native, *inside) for check in outcomes}):
        here = {outcomes.get(check, ABSENT) for outcomes in native}
        there = {outcomes.get(check, ABSENT) for outcomes in inside}
        if not here & there:
            found[check] = (" | ".join(sorted(here)), " | ".join(sorted(there)))
    if len(found) > 1:
        found.pop(STATUS, None)  # which follows from the others
    return found


class NativeRuns:
    """The first native run of each test, kept in a file of JSON lines if one is named."""

    def __init__(self, file: Path | None) -> None:
        self.file, self.lock = file, threading.Lock()
        self.known: dict[tuple[str, str, str], Outcomes] = {}
        if file is not None and file.exists():
            for line in file.read_text().splitlines():
                *key, outcomes = json.loads(line)
                self.known[key[0], key[1], key[2]] = outcomes

    def get(self, suite: str, identity: str, test: str, run: Callable[[], Outcomes]) -> Outcomes:
        key = (suite, identity, test)
        if key not in self.known:
            outcomes = run()
            with self.lock:
                self.known[key] = outcomes
                if self.file is not None:
                    with self.file.open("a") as lines:
                        print(json.dumps([*key, outcomes]), file=lines)
        return self.known[key]


class Comparer:
    """One identity's tests, one after the other: a setting has one work directory."""

    def __init__(
        self, suite: Suite, settings: Settings, views: Sequence[str], tries: int, native: NativeRuns
    ) -> None:
        self.suite, self.settings, self.views, self.tries = suite, settings, views, tries
        self.native = native
        self.counts: dict[str, Count] = defaultdict(Count)

    def run(self, test: Test, view: str) -> tuple[Outcomes, str]:
        ended = self.settings.settings[view].run(test.argv, test.env, test.timeout, test.report)
        return test.read(ended), ended.output

    def difference(self, test: Test, view: str, check: str, pair: tuple[str, str], said: str) -> Difference:
        name = self.settings.identity.name
        return Difference(self.suite.name, test.name, check, name, (view,), *pair, said)

    def compare_in(self, test: Test, view: str, native: list[Outcomes]) -> list[Difference]:
        inside: list[Outcomes] = []
        while True:
            outcomes, said = self.run(test, view)
            inside.append(outcomes)
            found = [
                self.difference(test, view, check, pair, said)
                for check, pair in unlike(native, inside).items()
            ]
            if len(inside) == self.tries or all(map(reason, found)):
                return found
            if len(native) <= len(inside):
                native.append(self.run(test, "native")[0])

    def compare(self, test: Test) -> Iterator[Difference]:
        if test.root and self.settings.identity.uid:
            return
        identity = self.settings.identity.name
        first = self.native.get(self.suite.name, identity, test.name, lambda: self.run(test, "native")[0])
        native = [first]
        if not self.suite.says_something(native[0]):
            return
        alike: dict[tuple[str, str, str], list[Difference]] = {}
        for view in self.views:
            found = self.compare_in(test, view, native)
            count = self.counts[view]
            count.tests += 1
            count.checks += len(native[0])
            count.explained += bool(found) and all(map(reason, found))
            count.unexplained += not all(map(reason, found))
            for one in found:
                alike.setdefault((one.check, one.native, one.inside), []).append(one)
        for ones in alike.values():
            yield replace(ones[0], views=tuple(one.views[0] for one in ones))


def compare(
    suite: Suite,
    places: Sequence[Settings],
    views: Sequence[str],
    tries: int,
    native: NativeRuns,
    tell: Callable[[Difference], None],
    stopping: threading.Event,
) -> dict[tuple[str, str], Count]:
    """The counts of each identity and view; every difference is told as soon as it is known.

    `stopping` ends it after the tests that run.
    """

    def all_of(settings: Settings) -> Comparer:
        comparer = Comparer(suite, settings, views, tries, native)
        try:
            for test in suite.tests:
                if stopping.is_set():
                    break
                for difference in comparer.compare(test):
                    tell(difference)
        except BaseException:  # the others would go on for hours before anybody heard of it
            stopping.set()
            raise
        return comparer

    with ThreadPoolExecutor(len(places)) as pool:
        comparers = list(pool.map(all_of, places))
    return {
        (comparer.settings.identity.name, view): count
        for comparer in comparers
        for view, count in comparer.counts.items()
    }
