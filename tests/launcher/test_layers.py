"""What the launcher says of a view's layers at the end, and who is asked; the status stays the command's."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Launcher, wait_until

SAID = "vuos-run: all is kept\n"


@pytest.fixture
def vuctl(launcher: Launcher, tmp_path: Path) -> Iterator[Path]:
    """One that tells where it was called, and how, and does what it is told at the terminal."""
    program = launcher.path.with_name("vuctl")
    program.write_text(
        '#!/bin/sh\npwd\nfor word; do echo "<$word>"; done\n'
        'if [ -n "$ANSWER" ]; then read answer < /dev/tty && echo "got $answer"; fi\nexit ${STATUS:-0}\n'
    )
    program.chmod(0o755)
    yield program
    program.unlink()


def test_request(launcher: Launcher) -> None:
    more = ["--view=x", "--cow", "--cow=/a b", "--on=it", "--store=dir"]
    assert launcher.run("true", name="n", more=more).returncode == 0
    words = [b"profile", b"x", b"name", b"n", b"layer", b"4", b"cow=.", b"cow=/a b", b"on=it", b"store=dir"]
    assert launcher.session.request[: len(words)] == words
    assert launcher.session.request[len(words)] == b"argc"


@pytest.mark.parametrize("more", [["--cow="], ["--on", ""], ["--store="], ["--ask"]])
def test_options_that_mean_nothing(launcher: Launcher, more: list[str]) -> None:
    result = launcher.run("true", more=more)
    assert result.returncode == 125
    assert result.stderr.count("\n") == 1


def test_the_sentence_comes_last_and_the_status_is_the_commands(launcher: Launcher) -> None:
    result = launcher.run("sh", "-c", "echo out; echo before >&2; exit 3", name="layer", more=["--cow"])
    assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", f"before\n{SAID}")


def test_after_a_signal(launcher: Launcher) -> None:
    result = launcher.run("sh", "-c", "kill -TERM $$", name="layer", more=["--cow"])
    assert (result.returncode, result.stderr) == (-signal.SIGTERM, SAID)


def test_nothing_was_changed(launcher: Launcher) -> None:
    assert launcher.run("true", name="same", more=["--cow"]).stderr == ""
    assert (
        launcher.run("true", name="same", more=["--cow", "--ask"]).stderr == "vuos-run: nothing was changed\n"
    )


def test_a_worker_that_dies(launcher: Launcher) -> None:
    result = launcher.run("true", name="layer-lost", more=["--cow"])
    assert result.returncode == 0
    assert "vuosd ended before it could say" in result.stderr


def test_processes_that_stay(launcher: Launcher) -> None:
    result = launcher.run("sh", "-c", "sleep 300 >&- 2>&- & echo $!", name="layer", more=["--cow", "--ask"])
    os.kill(int(result.stdout), signal.SIGKILL)
    assert "processes of the view still run" in result.stderr


def test_what_could_not_be_written_to_mounts(launcher: Launcher) -> None:
    result = launcher.run("sh", "-c", "echo before >&2; exit 3", name="mounts")
    assert (result.returncode, result.stderr) == (3, "before\nvuos-run: a is lost\n")
    result = launcher.run("sh", "-c", "exit 3", name="mounts-lost")
    assert result.returncode == 3
    assert result.stderr.startswith("vuos-run: vuosd ended before it could say whether all is there")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["n", "silent-report"])
def test_the_end_of_stderr_is_the_commands_where_there_is_nothing_to_tell(
    launcher: Launcher, name: str
) -> None:
    read, write = os.pipe()
    os.fchmod(write, 0o666)  # the keeper opens it anew for warnings, or else has to keep it
    script = "exec 2>&-; read line"
    process = launcher.popen(
        "sh", "-c", script, name=name, more=["--view=x"], stdin=subprocess.PIPE, stderr=write
    )
    os.close(write)
    with open(read, "rb") as file:
        assert file.read() == b""
    assert process.poll() is None
    process.communicate("\n")
    assert process.returncode == 0


def test_ask(launcher: Launcher, vuctl: Path) -> None:
    """Its words are vuctl's to read: names may begin with a dash."""
    result = launcher.run(
        "sh", "-c", "exit 7", name="layer", more=["--view=v.toml", "--cow", "--ask"], cwd="/usr"
    )
    assert result.returncode == 7
    assert result.stderr == "/usr\n<ask>\n<--store=/a store>\n<--view=v.toml>\n<-->\n<-the\nlayer>\n"
    env = {**launcher.env, "STATUS": "1"}
    assert launcher.run("true", name="layer", more=["--cow", "--ask"], env=env).stderr.endswith(f">\n{SAID}")


def test_no_vuctl(launcher: Launcher) -> None:
    result = launcher.run(
        "/bin/true", name="layer", more=["--cow", "--ask"], env={**launcher.env, "PATH": "/nonexistent"}
    )
    assert result.stderr.startswith("vuos-run: cannot run vuctl")
    assert result.stderr.endswith(SAID)


JOB = """
set -m
"$@" &
fg
echo "status $?"
"""


@pytest.mark.parametrize("words", [["sh", "-c", "exit 7"], ["sh", "-c", "kill -TERM $$"]])
def test_the_terminal_is_the_questions(launcher: Launcher, vuctl: Path, words: list[str]) -> None:
    """As a job of a shell: what is typed reaches vuctl, which is in the foreground as the command was."""
    ours, theirs = pty.openpty()
    argv = launcher.argv(*words, name="layer", more=["--cow", "--ask"])
    process = subprocess.Popen(
        ["setsid", "-c", "bash", "-c", JOB, "job", *argv],
        env={**launcher.env, "ANSWER": "1"},
        cwd="/tmp",
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    text = ""
    try:
        while "layer>" not in text:
            text += os.read(ours, 4096).decode()
        os.write(ours, b"commit\n")
        while "status" not in text:
            text += os.read(ours, 4096).decode()
        assert "got commit" in text
        assert f"status {7 if '7' in words[2] else 143}" in text
    finally:
        assert process.wait(10) == 0
        os.close(ours)
    wait_until(launcher.session.ended.is_set)
