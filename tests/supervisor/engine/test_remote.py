"""Remote calls: remote_probe.c is target and supervisor in one; each of its modes, as root and as a user."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ENGINE = HERE.parents[2] / "vuosd" / "supervisor" / "engine"
USERS: list[list[str]] = [[]]
if os.geteuid() == 0:
    USERS.append(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def probe(public: Path) -> str:
    """Not below pytest's own directory, which each pytest that starts closes to other users."""
    out = public / "remote-probe"
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-pthread", f"-I{ENGINE}"]
    flags += ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
    tested = (ENGINE / f"{name}.c" for name in ("remote", "remote_ask", "tracee"))
    sources = [HERE / "remote_probe.c", *tested]
    subprocess.run(["gcc", *flags, *sources, "-o", out], check=True)
    return str(out)


def run(probe: str, user: list[str], *words: str, seconds: float = 60) -> str:
    """Runs the probe in a session of its own, and kills all of that when it takes too long."""
    command = [*user, probe, *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, cwd="/", text=True
    ) as process:
        try:
            out, _ = process.communicate(timeout=seconds)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    assert process.returncode == 0, out
    return out


@pytest.mark.parametrize("user", USERS, ids=lambda user: "user" if user else "self")
@pytest.mark.parametrize(
    "mode",
    [
        "bench",
        "registers",
        "signals",
        "open",
        "open map",
        "small-stack",
        "relocate",
        "relocate map",
        "spawn",
        "spawn map",
        "spawn-signals",
        "exec-thread",
        "kill",
        "stop",
        "tstp",
        "traced",
        "rewritten",
    ],
)
def test_mode(probe: str, user: list[str], mode: str) -> None:
    print(run(probe, user, *mode.split()))
