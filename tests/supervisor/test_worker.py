import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import processes
from supervisor.daemon_process import DaemonProcess
from supervisor.launcher_stand_in import Launcher

from vuosd.supervisor import members, scratch
from vuosd.supervisor.messages import SetupFlag

pytestmark = pytest.mark.kernel

# What a private worker must not need: it must not be reachable either.
DAEMONS = ("private", "daemon")


class Private:
    """A `vuosd --private` for each launcher."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def launcher(self) -> Launcher:
        import socket

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        env = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
        process = subprocess.Popen(
            [sys.executable, "-m", "vuosd.cli.vuosd", f"--private={theirs.fileno()}"],
            pass_fds=[theirs.fileno()],
            env=env,
        )
        theirs.close()
        self.started.append(process)
        return Launcher(ours)

    def stop(self) -> None:
        for process in self.started:
            assert process.wait(10) == 0


@pytest.fixture(params=DAEMONS)
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DaemonProcess | Private]:
    before = set(leftovers())
    daemon = Private() if request.param == "private" else DaemonProcess(tmp_path).ready()
    yield daemon
    daemon.stop()
    assert set(leftovers()) <= before


def leftovers() -> Iterator[Path]:
    for parent in scratch.parents():
        path = Path(os.fsdecode(parent))
        if path.is_dir():
            yield from path.iterdir()


def profile(tmp_path: Path, text: str) -> str:
    path = tmp_path / "view.toml"
    path.write_text(text)
    return str(path)


def test_without_a_profile_the_command_is_what_was_asked(daemon: DaemonProcess | Private) -> None:
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/true", "", "ä b"], env={"A": "1", "B": "", "C": "x=y"})
        launcher.start()
        assert launcher.arguments == [b"/bin/true", b"", "ä b".encode()]
        assert launcher.environment == [b"A=1", b"B=", b"C=x=y"]
        assert launcher.flags == 0
        launcher.release()
        assert launcher.finish() == 0


def test_environment_rules(daemon: DaemonProcess | Private, tmp_path: Path) -> None:
    text = profile(tmp_path, '[env]\nunset = ["*_TOKEN"]\nset = { HELLO = "x" }\n')
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/true"], profile=text, env={"A_TOKEN": "1", "B": "2"})
        launcher.start()
        assert launcher.environment == [b"B=2", b"HELLO=x"]
        launcher.release()
        assert launcher.finish() == 0


def test_mistakes_are_the_answer(daemon: DaemonProcess | Private, tmp_path: Path) -> None:
    text = profile(tmp_path, '[view]\nnam = "x"\n[[mount]]\ntype = "hid"\ntarget = "/x"\n')
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/true"], profile=text)
        said = launcher.failure()
    assert 'view.toml:2:1: unknown key "nam"' in said
    assert 'did you mean "hide"?' in said


@pytest.mark.parametrize(
    ("mounts", "sentence"),
    [
        ('type = "bind"\ntarget = "/x"\nsource = "/nonexistent"', 'source "/nonexistent" does not exist'),
        ('type = "hide"\ntarget = "/usr/bin/env"', "this hides the command itself"),
        ('type = "tmpfs"\ntarget = "/usr"', "hides the command itself"),
        ('type = "hide"\ntarget = "/tmp"', "the directory that the command starts in"),
    ],
)
def test_refused_before_the_command_starts(
    daemon: DaemonProcess | Private, tmp_path: Path, mounts: str, sentence: str
) -> None:
    text = profile(tmp_path, f"[[mount]]\n{mounts}\n")
    with daemon.launcher() as launcher:
        launcher.ask(["/usr/bin/env"], profile=text, cwd="/tmp")
        assert sentence in launcher.failure()
        assert launcher.receive() is None


def test_unknown_profile(daemon: DaemonProcess | Private) -> None:
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/true"], profile="nonexistent")
        assert "no such profile" in launcher.failure()


def test_a_thousand_mistakes_fit_a_message(daemon: DaemonProcess | Private, tmp_path: Path) -> None:
    text = profile(tmp_path, '[[mount]]\ntype = "hid"\ntarget = "/x"\n' * 1000)
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/true"], profile=text)
        assert "1000 mistakes" in launcher.failure()


TMPFS = """
[[mount]]
type = "tmpfs"
target = "/mnt"
mode = "1770"
[[mount]]
type = "tmpfs"
target = "/opt"
size = "1M"
mode = "0750"
"""


def test_tmpfs_is_private_sized_and_gone(daemon: DaemonProcess | Private, tmp_path: Path) -> None:
    program = """
set -e
test "$(stat -c %a:%u /mnt)" = 1770:$(id -u); test "$(stat -c %a:%u /opt)" = 750:$(id -u)
mkdir -p /mnt/a/b /opt/a; echo x > /mnt/a/b/f; echo x > /opt/a/f
if head -c 2000000 /dev/zero > /opt/big 2>/dev/null; then exit 3; fi
test "$(stat -c %s /opt/big)" -lt 1048577
chmod 0 /mnt/a/b/f /mnt/a/b; chmod 500 /mnt/a
"""
    with daemon.launcher() as launcher:
        assert launcher.run(["/bin/sh", "-c", program], profile=profile(tmp_path, TMPFS)) == 0
    with open("/proc/self/mountinfo") as mounts:
        assert "vuosd" not in mounts.read()


def test_command_starts_in_the_view_s_directory(daemon: DaemonProcess | Private, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    text = profile(
        tmp_path,
        f'[view]\ncwd = "/mnt/x"\n[[mount]]\ntype = "bind"\ntarget = "/mnt/x"\nsource = "{tmp_path}/there"\n',
    )
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/sh", "-c", "test $(pwd) = /mnt/x; echo > made"], profile=text)
        launcher.start()
        assert launcher.flags == SetupFlag.CWD
        launcher.release()
        assert launcher.finish() == 0
    assert (tmp_path / "there" / "made").exists()


def test_directory_that_an_entry_covers(daemon: DaemonProcess | Private, tmp_path: Path) -> None:
    """vuos-run is started in a directory that the view shows from elsewhere."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    text = profile(
        tmp_path, f'[[mount]]\ntype = "bind"\ntarget = "{tmp_path}/here"\nsource = "{tmp_path}/there"\n'
    )
    with daemon.launcher() as launcher:
        assert launcher.run(["/bin/sh", "-c", "echo > made"], profile=text, cwd=str(tmp_path / "here")) == 0
    assert (tmp_path / "there" / "made").exists()
    assert not (tmp_path / "here" / "made").exists()


def test_death_of_the_launcher_kills_the_tree(daemon: DaemonProcess | Private) -> None:
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/sh", "-c", "(setsid sleep 100 &) ; sleep 100"])
        launcher.start()
        launcher.release()
        session = launcher.tag >> members.STATE_BITS
        assert processes.until(lambda: len(members.of_session(session)) >= 2)
        launcher.die()
        assert processes.until(lambda: not members.of_session(session))


def test_survive(daemon: DaemonProcess | Private, tmp_path: Path) -> None:
    text = profile(tmp_path, "[view]\nsurvive = true\n")
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/sh", "-c", f"sleep 0.3; echo > {tmp_path}/lived"], profile=text)
        launcher.start()
        assert launcher.flags == SetupFlag.KEEP_TREE
        launcher.release()
        launcher.die()
        session = launcher.tag >> members.STATE_BITS
        assert processes.until((tmp_path / "lived").exists)
        os.waitpid(launcher.child, 0)
        assert processes.until(lambda: session not in {tag.session for _, tag in members.tagged()})


@pytest.mark.parametrize("step", ["request", "setup", "listener"])
def test_launcher_that_goes_away_early(daemon: DaemonProcess | Private, tmp_path: Path, step: str) -> None:
    with daemon.launcher() as launcher:
        if step != "request":
            launcher.ask(["/bin/true"], profile=profile(tmp_path, TMPFS))
        if step == "listener":
            launcher.start()
            os.kill(launcher.child, signal.SIGKILL)


def test_killed_worker_leaves_nothing(daemon: DaemonProcess | Private, tmp_path: Path) -> None:
    with daemon.launcher() as launcher:
        launcher.ask(
            ["/bin/sh", "-c", "mkdir -p /mnt/a; chmod 0 /mnt/a; sleep 100"], profile=profile(tmp_path, TMPFS)
        )
        launcher.start()
        launcher.release()
        session = launcher.tag >> members.STATE_BITS
        (worker,) = (pid for pid, tag in members.tagged() if tag == (session, members.SUPERVISOR))
        os.kill(worker, signal.SIGKILL)
        assert processes.until(lambda: not members.of_session(session))
        assert processes.until(lambda: not any(f"{session:010x}" in str(path) for path in leftovers()))


def test_enforcing_view_hides_the_daemon_s_places(daemon: DaemonProcess | Private, tmp_path: Path) -> None:
    text = profile(tmp_path, "[view]\nenforce = true\n" + TMPFS)
    parent = os.fsdecode(scratch.parent())
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/sh", "-c", f"echo x > /mnt/f && echo x > /opt/f && ! ls {parent}"], profile=text)
        launcher.start()
        assert SetupFlag.LANDLOCK in launcher.flags
        launcher.release()
        assert launcher.finish() == 0


def test_ten_thousand_entries(daemon: DaemonProcess | Private, tmp_path: Path) -> None:
    targets = ", ".join(f'"/mnt/{index}"' for index in range(10000))
    text = profile(tmp_path, f'[[mount]]\ntype = "bind"\nsource = "/etc"\ntarget = [{targets}]\n')
    import resource

    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 10100:
        pytest.skip("the hard limit of descriptors is below what the view needs")
    begin = time.monotonic()
    with daemon.launcher() as launcher:
        assert (
            launcher.run(["/bin/sh", "-c", "test -e /mnt/9999/passwd && ! test -e /mnt/10000"], profile=text)
            == 0
        )
    assert time.monotonic() - begin < 20
