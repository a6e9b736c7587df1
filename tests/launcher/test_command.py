"""What the command gets and what the caller sees: as from env(1)."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import Launcher

pytestmark = pytest.mark.kernel

SHOW = """
import fcntl, json, os, resource, signal, sys
fds = {}
for fd in range(0, 64):
    try: fds[fd] = [fcntl.fcntl(fd, fcntl.F_GETFD), fcntl.fcntl(fd, fcntl.F_GETFL)]
    except OSError: pass
lines = open("/proc/self/status").read().splitlines()
status = dict(line.split(":\\t", 1) for line in lines if ":\\t" in line)
keys = ("SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd", "NoNewPrivs", "Seccomp", "Umask")
print(json.dumps({"fds": fds, "argv": sys.argv[1:], "cwd": os.getcwd(), "pgrp": os.getpgrp(),
    "sid": os.getsid(0), "locks": resource.getrlimit(10)[0], "env": dict(os.environ),
    **{key: status[key] for key in keys}}))
"""


def show(launcher: Launcher, *words: str, **options: object) -> dict[str, object]:
    result = launcher.run(launcher.python, "-Ic", SHOW, *words, **options)  # type: ignore[arg-type]
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("status", [0, 1, 7, 125, 255])
def test_exit_status(launcher: Launcher, status: int) -> None:
    assert launcher.run("sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "INT", "HUP", "PIPE", "ABRT", "USR1", "RTMIN"])
def test_death_by_signal_is_reported_as_such(launcher: Launcher, name: str) -> None:
    number = getattr(signal, f"SIG{name}")
    assert launcher.run("bash", "-c", f"kill -{name} $$").returncode == -number


def test_streams_arguments_environment(launcher: Launcher) -> None:
    result = launcher.run(
        "sh",
        "-c",
        'cat; echo "$1" "$WORD" >&2',
        "x",
        "a b\nc",
        stdin=subprocess.DEVNULL,
        env={**launcher.env, "WORD": "é"},
    )
    assert (result.stdout, result.stderr) == ("", "a b\nc é\n")


def test_everything_inherited_is_as_without_us(launcher: Launcher, tmp_path: Path) -> None:
    read_end, write_end = os.pipe2(0)
    high = fcntl.fcntl(read_end, fcntl.F_DUPFD, 40)
    fcntl.fcntl(high, fcntl.F_SETFL, os.O_NONBLOCK)

    def before() -> None:
        os.close(0)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGCHLD])
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
        os.umask(0o027)

    options = {"pass_fds": [read_end, write_end, high], "preexec_fn": before, "restore_signals": True}
    try:
        with_us = show(launcher, "a", **options)
        command = [*launcher.prefix, launcher.python, "-Ic", SHOW, "a"]
        plain = json.loads(
            subprocess.run(
                command, stdout=-1, stderr=-1, cwd="/tmp", env=launcher.env, check=True, **options
            ).stdout
        )  # type: ignore[call-overload]
    finally:
        for fd in (read_end, write_end, high):
            os.close(fd)
    assert (with_us.pop("locks"), plain.pop("locks")) == (launcher.session.tag, -1)
    assert (with_us.pop("NoNewPrivs"), with_us.pop("Seccomp")) == ("1", "2")
    plain.pop("NoNewPrivs"), plain.pop("Seccomp")
    assert with_us.pop("pgrp") == os.getpgrp() == plain.pop("pgrp")
    with_us["env"].pop("_", None), plain["env"].pop("_", None)  # type: ignore[attr-defined]
    assert with_us == plain


def test_request(launcher: Launcher) -> None:
    env = {"XDG_RUNTIME_DIR": str(launcher.runtime), "A": "", "B": "x=y"}
    launcher.run("/bin/true", "", "two words", name="the name", env=env, cwd="/usr/bin")
    session = launcher.session
    assert session.cwd == os.path.realpath("/usr/bin")
    assert session.request[:4] == [b"profile", b"", b"name", b"the name"]
    assert session.request[4:9] == [b"argc", b"3", b"/bin/true", b"", b"two words"]
    assert session.request[9] == b"envc"
    assert {b"A=", b"B=x=y"} < set(session.request[11:])
    assert len(session.request[11:]) == int(session.request[10])


def test_working_directory_of_the_view(launcher: Launcher) -> None:
    assert launcher.run("sh", "-c", "pwd -P", name="cwd").stdout == "/usr\n"


def test_not_found(launcher: Launcher) -> None:
    result = launcher.run("nonesuch")
    assert (result.returncode, result.stderr) == (127, "vuos-run: nonesuch: No such file or directory\n")
    assert launcher.run("/none/such").returncode == 127
    assert launcher.run("").returncode == 127


def test_not_executable(launcher: Launcher) -> None:
    result = launcher.run("/etc/passwd")
    assert (result.returncode, result.stderr) == (126, "vuos-run: /etc/passwd: Permission denied\n")
    assert launcher.run("/").returncode == 126


def test_path_is_searched_in_order(launcher: Launcher, tmp_path: Path) -> None:
    for name, mode in (("one", 0o644), ("two", 0o755), ("three", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").write_text(f"#!/bin/sh\necho {name}\n")
        (tmp_path / name / "tool").chmod(mode)
    (tmp_path / "one" / "only").write_text("")
    path = f"/none:/etc/passwd:{tmp_path}/one:{tmp_path}/two:{tmp_path}/three"
    env = {**launcher.env, "PATH": path + ":/usr/bin:/bin"}
    assert launcher.run("tool", env=env).stdout == "two\n"
    assert launcher.run("only", env=env).returncode == 126
    env["PATH"] = ":/usr/bin:/bin"
    assert launcher.run("tool", env=env, cwd=tmp_path / "three").stdout == "three\n"


def test_a_file_of_no_format_is_a_script(launcher: Launcher, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('echo "$0" "$@"\n')
    script.chmod(0o755)
    assert launcher.run(str(script), "a", "b").stdout == f"{script} a b\n"


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("fail", 9, "ci.toml:1:1: no — not this\n"),
        ("hang-up", 125, "vuos-run: vuosd ended before the session began\n"),
        ("version", 125, "vuosd speaks protocol 2, vuos-run 1"),
        ("garbage", 125, "vuosd sent something that is not understood"),
        ("bad-filter", 125, "vuos-run: "),
        ("late-fail", 125, "too late\n"),
    ],
)
def test_the_daemon_refuses(launcher: Launcher, name: str, status: int, text: str) -> None:
    result = launcher.run("true", name=name)
    assert result.returncode == status
    assert text in result.stderr
    assert result.stderr.count("\n") == 1


def test_usage(launcher: Launcher) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(launcher.path), *words], capture_output=True, text=True, check=False, env=launcher.env
        )

    assert run("--version").stdout == "vuos-run test\n"
    assert run("--help").stdout.startswith("usage: vuos-run")
    assert run().returncode == 125
    assert run("--bogus", "true").returncode == 125
    assert run("sh", "-c", "exit 3").returncode == 3
    assert run("-n", "x", "sh", "-c", "echo $0", "--help").stdout == "--help\n"


def test_no_daemon_starts_a_private_one(launcher: Launcher, tmp_path: Path) -> None:
    """The stand-in is a script beside a copy of vuos-run; it says what it was given."""
    copy = tmp_path / "launcher-copy"
    copy.write_bytes(launcher.path.read_bytes())
    copy.chmod(0o755)
    stand_in = tmp_path / "vuosd"
    stand_in.write_text(
        f"""#!{launcher.python}
import os, socket, struct, sys
fd = int(sys.argv[1].removeprefix("--private="))
sock = socket.socket(fileno=fd)
sock.recv(4096)
open_fds = sorted(int(n) for n in os.listdir("/proc/self/fd"))
clean = [0, 1, 2] == open_fds[:3] and fd in open_fds and len(open_fds) == 5
text = f"{{clean}} {{os.getsid(0) == os.getpid()}}\\n".encode()
sock.send(struct.pack("<4sIIII", b"VUOS", 1, 3, 4 + len(text), 33) + text)
"""
    )
    stand_in.chmod(0o755)
    env = {k: v for k, v in launcher.env.items() if k != "XDG_RUNTIME_DIR"}
    result = subprocess.run(
        [*launcher.prefix, str(copy), "true"],
        capture_output=True,
        text=True,
        env=env,
        check=False,
        timeout=20,
    )
    assert (result.returncode, result.stderr) == (33, "True True\n")
    stand_in.unlink()
    result = subprocess.run(
        [*launcher.prefix, str(copy), "true"],
        capture_output=True,
        text=True,
        env={**env, "PATH": "/none"},
        check=False,
        timeout=20,
    )
    assert result.returncode == 125
    assert result.stderr == "vuos-run: cannot find vuosd beside vuos-run or in PATH, and none is running\n"
