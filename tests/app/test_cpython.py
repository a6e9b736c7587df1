"""CPython's own tests of files and paths say in a view what they say natively.

tests/foreign compares all of them, in more views.
"""

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from foreign import cpython, settings
from foreign.compare import NativeRuns, compare
from foreign.explained import Difference, reason
from harness import identities, installation

pytestmark = [pytest.mark.app, pytest.mark.slow, pytest.mark.timeout(600)]


def python_of(identity: str) -> Path:
    """A Python with the standard library's tests, which distributions may leave out."""
    base = Path(sys.executable).resolve()
    if not identities.get(identity).is_us and not installation.open_to_others(base):
        base = installation.interpreter() or base
    has_tests = subprocess.run([base, "-c", "import test.test_os"], capture_output=True, check=False)
    if has_tests.returncode or (not installation.open_to_others(base) and not identities.get(identity).is_us):
        pytest.fail(f"{base} has no test.test_os: install the package with the standard library's tests")
    return base


@pytest.mark.parametrize("identity", identities.names())
def test_same_as_natively(identity: str, public: Path) -> None:
    python = python_of(identity)
    suite = cpython.suite(python, re.compile(f"^test_({'|'.join(cpython.QUICK)})$"))
    found: list[Difference] = []
    places = settings.of([identity], str(public))
    try:
        views, natively = ["pass-through", "bind"], NativeRuns(None)
        counts = compare(suite, places, views, 3, natively, found.append, threading.Event())
    finally:
        for place in places:
            place.close()
    assert {view: count.tests for (_, view), count in counts.items()} == {
        "pass-through": len(suite.tests),
        "bind": len(suite.tests),
    }
    assert [str(difference) for difference in found if not reason(difference)] == []
