"""What the worker has to tell the person while the command runs appears on the launcher's stderr, whatever
that is, and holds up nobody."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from pathlib import Path

from conftest import Launcher, members

SAID = "vuos-run: a sentence\n"
SCRIPT = "echo before >&2; cd /usr; sleep 0.3; echo after >&2"
"""The sleep: who holds nobody up may have his say too late for a command that ends at once."""


def complete(text: str) -> bool:
    """Both say all they say; the launcher and the command, who go on at once, in any order."""
    return text in (f"before\n{SAID}after\n", f"before\nafter\n{SAID}")


def test_pipe(launcher: Launcher) -> None:
    result = launcher.run("sh", "-c", SCRIPT, name="warn")
    assert result.returncode == 0
    assert complete(result.stderr)


def test_redirected_by_the_command(launcher: Launcher) -> None:
    """It is for the person, not for whoever reads the command's stderr."""
    read, write = os.pipe()
    try:
        script = "exec 2>/dev/null; cd /usr; echo after >&2"
        assert launcher.popen("sh", "-c", script, name="warn", stderr=write).wait(10) == 0
        assert os.read(read, 4096).decode() == SAID
    finally:
        os.close(read)
        os.close(write)


def test_the_last_thing_the_command_does(launcher: Launcher) -> None:
    """Printed before the launcher ends. (Who leaves a pipe when its last writer has gone may miss that.)"""
    for _ in range(20):
        read, write = os.pipe()
        try:
            assert launcher.popen("sh", "-c", "cd /usr", name="warn", stderr=write).wait(10) == 0
            os.set_blocking(read, False)
            assert os.read(read, 4096).decode() == SAID
        finally:
            os.close(read)
            os.close(write)


def test_file(launcher: Launcher, tmp_path: Path) -> None:
    """What is written later does not lie over it: the position is shared."""
    with open(tmp_path / "log", "w+") as file:
        assert launcher.popen("sh", "-c", SCRIPT, name="warn", stderr=file).wait(10) == 0
        file.seek(0)
        assert complete(file.read())


def test_socket(launcher: Launcher) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        process = launcher.popen(
            "sh", "-c", f"{SCRIPT}; exec sleep 300 >&- 2>&- &", name="warn", stderr=theirs
        )
        theirs.close()
        assert process.wait(10) == 0
        ours.settimeout(5)
        said = b""
        while data := ours.recv(4096):  # to the end, which comes though a process of the session lives on
            said += data
        assert complete(said.decode())
    for pid in members():
        os.kill(pid, signal.SIGKILL)


def test_terminal(launcher: Launcher) -> None:
    master, slave = os.openpty()
    try:
        assert launcher.popen("sh", "-c", SCRIPT, name="warn", stderr=slave).wait(10) == 0
        said = ""
        while said.count("\n") < 3:
            assert select.select([master], [], [], 5)[0], said
            said += os.read(master, 4096).decode().replace("\r", "")
        assert complete(said)
    finally:
        os.close(master)
        os.close(slave)


def test_full_pipe(launcher: Launcher) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        pass
    try:
        assert launcher.popen("sh", "-c", "cd /usr", name="warn", stderr=write).wait(10) == 0
    finally:
        os.close(read)
        os.close(write)


def test_closed(launcher: Launcher) -> None:
    wrapped = [
        "sh",
        "-c",
        'exec "$@" 2>&-',
        "sh",
        *launcher.argv("sh", "-c", "cd /usr && exit 3", name="warn"),
    ]
    with subprocess.Popen(wrapped, env=launcher.env, cwd="/tmp") as process:
        assert process.wait(10) == 3
