import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import processes
from supervisor.daemon_process import DaemonProcess

pytestmark = pytest.mark.kernel


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    daemon = DaemonProcess(tmp_path).ready()
    yield daemon
    daemon.stop()


def vuctl(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "vuosd.cli.main", *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


@pytest.mark.parametrize("command", ["ps", "show", "stop"])
@pytest.mark.parametrize("directory", ["", "/nonexistent"])
def test_no_daemon(command: str, directory: str) -> None:
    done = vuctl(command, XDG_RUNTIME_DIR=directory)
    assert done.returncode == 1
    assert done.stderr.startswith("vuctl: no vuosd is running")
    assert done.stderr.count("\n") == 1


def test_ps_show_stop(daemon: DaemonProcess, tmp_path: Path) -> None:
    profile = tmp_path / "view.toml"
    profile.write_text(
        '[view]\nname = "mine"\n[[mount]]\ntype = "hide"\ntarget = "/mnt"\n[env]\nunset = ["X_*"]\n'
    )
    assert "no view is running" in daemon.vuctl("show").stderr
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/sleep", "100"], profile=str(profile))
        launcher.start()
        launcher.release()
        assert processes.until(lambda: "mine" in daemon.vuctl("ps").stdout)
        head, row = daemon.vuctl("ps").stdout.splitlines()[:2]
        assert head.split() == ["PID", "VIEW", "AGE", "PROCESSES", "CALLS", "COMMAND"]
        assert row.split()[:2] == [str(launcher.child), "mine"]
        assert row.endswith("/bin/sleep 100")
        assert json.loads(daemon.vuctl("ps", "--json").stdout)["sessions"][0]["name"] == "mine"
        for wanted in ((), ("mine",), (str(launcher.child),)):
            shown = daemon.vuctl("show", *wanted).stdout
            assert ["hide", "/mnt"] in [line.split()[:2] for line in shown.splitlines()], shown
            assert "unset: X_*" in shown
        assert json.loads(daemon.vuctl("show", "--json").stdout)["entries"][0]["target"] == "/mnt"
        assert daemon.vuctl("show", "other").returncode == 1
        refused = daemon.vuctl("stop")
        assert refused.returncode == 1
        assert "1 session is running" in refused.stderr
        assert daemon.vuctl("stop", "--force").returncode == 0
        assert daemon.process.wait(1) == 0, "it has ended when stop returns"
        assert processes.until(lambda: (seen := processes.look(launcher.child)) is None or seen.state == "Z")


def test_two_views_need_a_name(daemon: DaemonProcess) -> None:
    with daemon.launcher() as one, daemon.launcher() as other:
        for launcher in (one, other):
            launcher.ask(["/bin/sleep", "100"], name="twin")
            launcher.start()
        assert processes.until(lambda: daemon.vuctl("ps").stdout.count("twin") == 2)
        done = daemon.vuctl("show", "twin")
        assert "which one?" in done.stderr
        assert daemon.vuctl("show", str(other.child)).returncode == 0


def test_show_of_many_entries(daemon: DaemonProcess, tmp_path: Path) -> None:
    targets = ", ".join(f'"/mnt/{index}"' for index in range(3000))
    profile = tmp_path / "many.toml"
    profile.write_text(f'[[mount]]\ntype = "hide"\ntarget = [{targets}]\n')
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/sleep", "100"], profile=str(profile))
        launcher.start()
        assert processes.until(lambda: "many" in daemon.vuctl("ps").stdout)
        assert len(json.loads(daemon.vuctl("show", "--json").stdout)["entries"]) == 3000


def test_check(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('[[mount]]\ntype = "hide"\ntarget = "/x"\n')
    bad.write_text('[view]\nnam = "x"\n[[mount]]\ntype = "hid"\ntarget = "/x"\n')
    assert vuctl("check", str(good)).returncode == 0
    done = vuctl("check", str(bad), str(good))
    assert done.returncode == 1
    assert ":2:1: unknown key" in done.stderr
    assert ":4:8: unknown type" in done.stderr
    assert "no mistakes (1 entry)" in done.stdout
    assert vuctl("check", "nonexistent").returncode == 1


def test_doctor() -> None:
    before = {process.pid for process in processes.descendants()}
    done = vuctl("doctor", "--json")
    report = json.loads(done.stdout)
    names = {finding["name"] for finding in report["findings"]}
    assert {
        "kernel",
        "Landlock",
        "seccomp user notification",
        "ptrace of others",
        "libseccomp",
        "daemon",
    } <= names
    assert all(finding["why"] for finding in report["findings"])
    assert done.returncode == (0 if report["runs"] else 1)
    assert "Views run here" in vuctl("doctor").stdout or not report["runs"]
    assert {process.pid for process in processes.descendants()} <= before


@pytest.mark.parametrize("arguments", [["--help"], ["ps", "--help"], ["--version"]])
def test_help(arguments: list[str]) -> None:
    assert vuctl(*arguments).returncode == 0


def test_usage() -> None:
    assert vuctl().returncode == 2
    assert vuctl("frobnicate").returncode == 2


def test_vuosd_options() -> None:
    def vuosd(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "vuosd.cli.vuosd", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)

    assert vuosd("--version").stdout.startswith("vuosd ")
    assert "usage" in vuosd("--help").stdout
    assert vuosd("--nonsense").returncode == 2


def test_vuctl_imports_nothing_heavy() -> None:
    code = "import sys\nfrom vuosd.cli.main import main\n"
    code += "try: main(['--version'])\nexcept SystemExit: pass\n"
    code += "print([name for name in ('trio', 'msgspec', 'rich', 'cffi') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout.splitlines()[-1] == "[]"
