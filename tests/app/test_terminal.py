"""Job control and terminals: bash in a view in tmux, tmux in a view. What the screen shows is what counts."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import processes
from harness.box import Box

pytestmark = pytest.mark.app


class Screen:
    """A tmux server of its own, with one window."""

    def __init__(self, box: Box, command: str) -> None:
        self.box, self.socket = box, box.scratch / "tmux"
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "200", "-y", "50", command)

    def tmux(self, *words: str) -> str:
        done = subprocess.run(
            [*map(str, self.box.outer), "tmux", "-S", str(self.socket), *words],
            env={**self.box.env, "TERM": "xterm"},
            cwd=self.box.scratch,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return done.stdout

    def type(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def shows(self, text: str) -> None:
        assert processes.until(lambda: text in self.tmux("capture-pane", "-p")), self.tmux(
            "capture-pane", "-p"
        )

    def close(self) -> None:
        self.tmux("kill-server")


@pytest.fixture
def screen(box: Box) -> Iterator[Screen]:
    words = " ".join(str(word) for word in box.vuos_run())
    screen = Screen(box, f"PS1='ready> ' {words} bash --norc --noprofile -i")
    screen.shows("ready>")
    yield screen
    screen.close()


#: Says "up1" when it has the terminal: what is typed before that means the shell, natively too.
READY_CAT = "sh -c 'echo up$((1)); exec cat'"
JOB = "sh -c 'echo up$((1)); exec sleep 1000'"


def test_interrupt_reaches_the_foreground_job(screen: Screen) -> None:
    screen.type(JOB, "Enter")
    screen.shows("up1")
    screen.type("C-c")
    screen.type("echo status $?", "Enter")
    screen.shows("status 130")


def test_stop_and_continue(screen: Screen) -> None:
    screen.type(READY_CAT, "Enter")
    screen.shows("up1")  # what is typed before may reach the shell's line editor
    screen.type("typed", "Enter")
    screen.shows("typed\ntyped")
    screen.type("C-z")
    screen.shows("Stopped")
    screen.type("jobs", "Enter")
    screen.shows("[1]+  Stopped")
    screen.type("fg", "Enter")
    screen.shows(f"fg\n{READY_CAT}")
    screen.type("again", "Enter")
    screen.shows("again\nagain")
    screen.type("C-d")
    screen.type("echo over $?", "Enter")
    screen.shows("over 0")


def test_the_end_of_the_terminal_ends_shell_and_job(screen: Screen) -> None:
    """The kernel tells the session's leader only: the launcher. The box sees whether anything is left."""
    screen.type(JOB, "Enter")
    screen.shows("up1")
    screen.close()


def test_background_jobs_and_wait(screen: Screen) -> None:
    screen.type("(exit 3) & wait $!; echo waited $?", "Enter")
    screen.shows("waited 3")


@pytest.mark.parametrize("enters", [False, True], ids=["begins", "enters"])
def test_the_launcher_stops_and_continues_with_its_command(box: Box, enters: bool) -> None:
    """An outer shell's Ctrl-Z, fg and Ctrl-C on vuos-run itself are the command's; on `vuctl enter` too."""
    words = box.vuos_run()
    if enters:
        name = box.scratch.name
        box.popen([*box.vuos_run(None, f"--name={name}"), "sleep", "1000"])
        words = [box.installation.bin / "vuctl", "enter", name, "--"]
    screen = Screen(box, "PS1='outer> ' bash --norc --noprofile -i")
    try:
        screen.shows("outer>")
        screen.type(" ".join([*map(str, words), READY_CAT]), "Enter")
        screen.shows("up1")
        screen.type("one", "Enter")
        screen.shows("one\none")
        screen.type("C-z")
        screen.shows("Stopped")
        screen.type("fg", "Enter")
        screen.shows(f"fg\n{str(words[0])[:40]}")
        screen.type("two", "Enter")
        screen.shows("two\ntwo")
        screen.type("C-c")
        screen.type("echo status $?", "Enter")
        screen.shows("status 130")
    finally:
        screen.close()


def test_tmux_inside(box: Box) -> None:
    """A server that daemonises, a socket of its own, a pseudoterminal."""
    script: list[str | Path] = ["/bin/sh", "-c", """
        tmux -S ./socket -f /dev/null new-session -d -x 80 -y 24 'echo from-inside; exec sleep 1000'
        until tmux -S ./socket capture-pane -p | grep from-inside; do :; done
        tmux -S ./socket kill-server"""]  # fmt: skip
    assert box.view(script, env={"TERM": "xterm"}).check().stdout == "from-inside\n"
