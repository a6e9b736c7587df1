"""Fixtures for everything that runs programs: see tests/harness.

`box` is what a test asks for; it is parametrised over the identities, and over the places with
`@pytest.mark.places(...)`.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import identities, installation, parallel, places, processes
from harness.box import Box, Result
from harness.programs import Programs


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--native",
        action="store_true",
        help="run everything natively: what fails then is a test's own noise, not the view's",
    )
    parser.addoption(
        "--race-tries",
        type=int,
        default=0,
        metavar="N",
        help="N tries of each call in each kind of race (tests/enforce), however long that takes",
    )
    parser.addoption(
        "--race-calls", default="", metavar="CALLS", help="only these, separated by commas: open,stat,…"
    )
    parser.addoption("--race-log", default="", metavar="FILE", help="append what each race came to")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "places(*places): run in these places, not only in the plain one")
    config.addinivalue_line("markers", "private: no daemon; each run starts its own")
    config.addinivalue_line("markers", "only(identity): run as this identity alone")
    config.addinivalue_line("markers", "tmpfs: the box is on a tmpfs, where many small files cost little")
    if hasattr(config, "workerinput"):
        parallel.live_alone()
    processes.become_subreaper()
    os.umask(0o022)


LONGEST_RACE = 4 * 3600.0
"""Seconds of one kind of race with --race-tries."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--race-tries"):
        for item in items:
            if item.path.name == "test_race.py":
                item.add_marker(pytest.mark.timeout(LONGEST_RACE))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "box" not in metafunc.fixturenames and "run_in_view" not in metafunc.fixturenames:
        return
    markers = {marker.name: marker.args for marker in reversed(list(metafunc.definition.iter_markers()))}
    names = [name for name in identities.names() if name in markers.get("only", (name,))]
    where = markers.get("places", (places.PLAIN,))
    metafunc.parametrize("identity_name", names)
    metafunc.parametrize("place", where, ids=str)


@pytest.fixture(scope="session")
def public() -> Iterator[Path]:
    """A directory that every identity can enter, for what they share; pytest's own is closed to others."""
    path = Path(tempfile.mkdtemp(prefix="vuosd-tests-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_memory(public: Path) -> Iterator[Path]:
    """The same on a tmpfs, where there is one that programs can be run from; in a container there may not
    be."""
    if not os.path.isdir("/dev/shm") or os.statvfs("/dev/shm").f_flag & os.ST_NOEXEC:
        yield public
        return
    path = Path(tempfile.mkdtemp(prefix="vuosd-tests-", dir="/dev/shm"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def programs(public: Path) -> Programs:
    return Programs(public / "programs")


class Daemons:
    """One vuosd for each identity and place, started when first wanted: what it leaks from one test to the
    next shows."""

    def __init__(self, public: Path, programs: Programs) -> None:
        self.public, self.programs = public, programs
        self.started: dict[tuple[str, str], tuple[subprocess.Popen[bytes], Path]] = {}

    def get(self, box: Box) -> tuple[int, Path]:
        key = (box.identity.name, box.place.name)
        if key in self.started and self.started[key][0].poll() is not None:
            # A test ended it, or it died: the next test gets a new one, and its own verdict.
            shutil.rmtree(self.started.pop(key)[1], ignore_errors=True)
        if key not in self.started:
            runtime = Path(tempfile.mkdtemp(prefix="run-", dir=self.public))
            os.chown(runtime, box.identity.uid, box.identity.gid)
            log = open(self.public / f"daemon-{'-'.join(key)}.log", "ab")  # noqa: SIM115 the daemon's, until it ends
            process = subprocess.Popen(
                # After the identity is taken, which would undo it: it goes with us if we are killed.
                [*box.outer, "setpriv", "--pdeathsig=TERM", box.installation.bin / "vuosd"],
                env={**box.env, "XDG_RUNTIME_DIR": str(runtime)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
            log.close()
            control = runtime / "vuosd" / "control"
            if (
                not processes.until(lambda: control.exists() or process.poll() is not None)
                or process.poll() is not None
            ):
                raise RuntimeError(f"vuosd did not start:\n{Path(log.name).read_text()}")
            # The spare worker is part of the steady state: counted before it is there, it would look like a
            # leak. Its channel is there when the daemon listens to anybody.
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
                asking.settimeout(10.0)
                asking.connect(os.fsencode(control))
                asking.shutdown(socket.SHUT_WR)
                asking.recv(1)
            processes.until(lambda: len(processes.descendants(process.pid)) >= 2, 10.0)
            self.started[key] = process, runtime
        process, runtime = self.started[key]
        return process.pid, runtime

    def stop(self) -> list[str]:
        said = []
        for (name, place), (process, _) in self.started.items():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    processes.kill_tree(process.pid)
                    process.wait()
                    said.append(f"the daemon of {name} in {place} did not end on SIGTERM")
        return said


@pytest.fixture(scope="session")
def daemons(public: Path, programs: Programs) -> Iterator[Daemons]:
    daemons = Daemons(public, programs)
    yield daemons
    if said := daemons.stop():
        pytest.fail("\n".join(said))


@pytest.fixture
def box(
    request: pytest.FixtureRequest,
    public: Path,
    shared_memory: Path,
    programs: Programs,
    daemons: Daemons,
    identity_name: str,
    place: places.Place,
) -> Iterator[Box]:
    identity = identities.get(identity_name)
    installed = installation.for_identity(identity, public)
    native = bool(request.config.getoption("--native"))
    if not native and not installed.vuos_run.exists():
        pytest.fail(f"{installed.vuos_run} is not built: make build")
    if place.daemon and not native:
        kept = public / f"{identity.name}-{place.name}"
        kept.mkdir(exist_ok=True)
        installed = installation.with_wrapped_daemon(installed, kept, programs.confine, place.daemon)
    top = shared_memory if any(request.node.iter_markers("tmpfs")) else public
    scratch = Path(tempfile.mkdtemp(prefix="box-", dir=top))
    box = Box(identity, place, installed, programs, scratch, pretend=native)
    for name in ("home", "tmp"):
        (scratch / name).mkdir(mode=0o700)
    box.give(scratch)
    if not native and not any(request.node.iter_markers("private")):
        box.daemon, box.runtime = daemons.get(box)
    before = box.census()
    yield box
    if left := box.finish(before):
        pytest.fail("left behind:\n  " + "\n  ".join(left))


@pytest.fixture
def run_in_view(box: Box) -> Callable[..., Result]:
    """run_in_view(argv, profile) -> Result, for a test that needs nothing else of the box."""
    return box.view
