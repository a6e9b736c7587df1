"""Signals, job control, orphans, and who dies with whom."""

from __future__ import annotations

import errno
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Launcher, members, wait_until

pytestmark = pytest.mark.kernel


LOOP = "echo ready; while :; do sleep 0.01; done"


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def wait_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == line + "\n"


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1", "WINCH", "RTMIN"])
def test_signals_to_vuos_run_reach_the_command(launcher: Launcher, name: str) -> None:
    process = launcher.popen("bash", "-c", f"trap 'exit 5' {name}; {LOOP}", stdout=-1)
    wait_line(process, "ready")
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert process.wait(10) == 5


def test_a_queued_value_arrives(launcher: Launcher) -> None:
    script = (
        "import signal; signal.pthread_sigmask(0, [40]); print('ready', flush=True);"
        "i = signal.sigwaitinfo([40]); raise SystemExit(i.si_code == -1)"
    )
    process = launcher.popen(launcher.python, "-c", script, stdout=-1)
    wait_line(process, "ready")
    subprocess.run(["kill", "-40", "-q", "7", str(process.pid)], check=True)
    assert process.wait(10) in (0, 1)


def test_a_signal_for_the_group_arrives_once(launcher: Launcher) -> None:
    script = (
        "import os, signal, time\n"
        "count = 0\n"
        "def tick(*_):\n    global count\n    count += 1\n"
        "signal.signal(signal.SIGUSR1, tick)\n"
        "print('ready', flush=True)\n"
        "while not count: time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        "raise SystemExit(count)"
    )
    process = launcher.popen(launcher.python, "-c", script, stdout=-1, process_group=0)
    wait_line(process, "ready")
    os.killpg(process.pid, signal.SIGUSR1)
    assert process.wait(10) == 1


def test_stop_and_continue(launcher: Launcher) -> None:
    process = launcher.popen("sh", "-c", LOOP, stdout=-1, process_group=0)
    wait_line(process, "ready")
    child = launcher.session.child
    for number in (signal.SIGTSTP, signal.SIGSTOP, signal.SIGTTIN) * 10:
        os.kill(child, number)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert os.WSTOPSIG(status) == number
        os.kill(child, signal.SIGCONT)
        _, status = os.waitpid(process.pid, os.WCONTINUED)
        assert os.WIFCONTINUED(status)
    # And by way of vuos-run alone.
    for _ in range(10):
        # A late SIGCONT of KEEPER's may take a SIGTSTP away before it is read: as any SIGCONT would.
        while os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG) == (0, 0):
            process.send_signal(signal.SIGTSTP)
            time.sleep(0.01)
        assert state(child) == "T"
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: state(child) != "T")
        os.waitpid(process.pid, os.WCONTINUED)
    process.terminate()
    assert process.wait(10) == -signal.SIGTERM


def test_killed_while_it_is_stopped(launcher: Launcher) -> None:
    process = launcher.popen("sh", "-c", LOOP, stdout=-1, process_group=0)
    wait_line(process, "ready")
    child = launcher.session.child
    os.kill(child, signal.SIGSTOP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    os.kill(child, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL


def test_stop_and_continue_as_fast_as_they_come(launcher: Launcher) -> None:
    process = launcher.popen("sh", "-c", LOOP, stdout=-1, process_group=0)
    wait_line(process, "ready")
    child = launcher.session.child
    for i in range(300):
        os.kill(child, signal.SIGSTOP if i % 2 else signal.SIGTSTP)
        if i % 3 == 0:
            time.sleep(0.0005)
        os.kill(child, signal.SIGCONT)
    wait_until(lambda: state(process.pid) != "T")
    time.sleep(0.1)
    assert state(process.pid) != "T"
    process.terminate()
    assert process.wait(10) == -signal.SIGTERM


def test_orphans_live_on_and_keep_no_pipe(launcher: Launcher) -> None:
    result = launcher.run("sh", "-c", "sleep 300 >/dev/null 2>&1 & echo $!", timeout=5)
    assert result.returncode == 0
    orphan = int(result.stdout)
    wait_until(lambda: state(orphan) == "S")
    session = launcher.session
    assert not session.ended.is_set()
    wait_until(lambda: (6, struct.pack("<II", session.child, 0)) in session.events)
    # Its parent is KEEPER, which reaps it and then says BYE.
    assert Path(f"/proc/{orphan}/stat").read_text().rsplit(")", 1)[1].split()[1] == str(session.keeper)
    os.kill(orphan, signal.SIGKILL)
    wait_until(session.ended.is_set)
    assert session.events[-1][0] == 7
    wait_until(lambda: not Path(f"/proc/{session.keeper}/fd").exists() or state(session.keeper) == "Z")


def test_the_reader_sees_the_end_when_the_command_closes(launcher: Launcher) -> None:
    process = launcher.popen("sh", "-c", "exec >&- 2>&-; exec sleep 300", stdout=-1, stderr=-1)
    assert process.stdout is not None
    assert process.stdout.read() == ""
    process.terminate()
    process.wait(10)


TREE = "for i in 1 2 3 4 5; do (setsid sleep 300 & sleep 300) & done; echo ready; wait"


def test_killed_launcher_takes_its_tree_along(launcher: Launcher) -> None:
    process = launcher.popen("sh", "-c", TREE, stdout=-1)
    wait_line(process, "ready")
    wait_until(lambda: len(members()) >= 11)
    process.kill()
    wait_until(lambda: not members())
    wait_until(launcher.session.ended.is_set)
    assert launcher.session.events[-1][0] == 7


def test_killed_launcher_against_a_fork_storm(launcher: Launcher) -> None:
    storm = "f() { while :; do (sleep 0.01; :) & sleep 0.005; done; }; f & f & f & echo ready; f"
    process = launcher.popen("sh", "-c", storm, stdout=-1)
    wait_line(process, "ready")
    time.sleep(0.2)
    process.kill()
    wait_until(lambda: not members())


def test_a_view_may_keep_its_tree(launcher: Launcher) -> None:
    process = launcher.popen("sh", "-c", "echo ready; exec sleep 300", name="keep", stdout=-1)
    wait_line(process, "ready")
    process.kill()
    process.wait()
    time.sleep(0.1)
    child = launcher.session.child
    assert state(child) == "S"
    os.kill(child, signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signal_before_the_session_began(launcher: Launcher, number: int) -> None:
    process = launcher.popen("true", name="silent")
    wait_until(lambda: launcher.daemon.sessions and launcher.session.name == "silent")
    process.send_signal(number)
    assert process.wait(10) == -number
    wait_until(launcher.session.ended.is_set)


def test_a_killed_keeper_ends_vuos_run(launcher: Launcher) -> None:
    process = launcher.popen("sleep", "300")
    wait_until(lambda: launcher.daemon.sessions and launcher.session.listening.is_set())
    session = launcher.session
    wait_until(lambda: Path(f"/proc/{session.child}/comm").read_text() == "sleep\n")
    os.kill(session.keeper, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    # The worker would end the members; this one leaves it to us.
    os.kill(session.child, signal.SIGKILL)


def test_a_dead_worker_makes_the_view_pause(launcher: Launcher) -> None:
    script = "read x; cd /usr && echo went"
    process = launcher.popen("sh", "-c", script, stdin=-1, stdout=-1)
    wait_until(lambda: launcher.daemon.sessions and launcher.session.listening.is_set())
    session = launcher.session
    wait_until(lambda: Path(f"/proc/{session.child}/comm").read_text() == "sh\n")
    assert session.sock is not None
    session.sock.shutdown(socket.SHUT_RDWR)
    wait_until(session.ended.is_set)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("x\n")
    process.stdin.flush()
    assert not select.select([process.stdout], [], [], 0.3)[0]
    assert process.poll() is None
    process.kill()


def test_broker_memory(launcher: Launcher) -> None:
    process = launcher.popen("sleep", "300")
    wait_until(lambda: launcher.daemon.sessions and launcher.session.listening.is_set())
    session = launcher.session
    wait_until(lambda: Path(f"/proc/{session.child}/comm").read_text() == "sleep\n")
    start = int(Path(f"/proc/{session.child}/maps").read_text().split("-")[0], 16)
    for _ in range(100):
        result, fds = session.broker_memory(session.child)
        assert result == 0
        assert os.pread(fds[0], 4, start) == b"\x7fELF"
        os.close(fds[0])
    assert session.broker_memory(4_000_000) == (-errno.ENOENT, [])
    process.terminate()
    process.wait(10)


@pytest.mark.parametrize("name", ["remote", "remote-big"])
def test_remote_calls_by_the_broker(launcher: Launcher, name: str) -> None:
    """The traced thread is KEEPER's own child: its ptrace stops must not look like the command's."""
    script = "for i in 1 2 3 4 5 6 7 8 9; do cd /usr; pwd -P; cd /etc; pwd -P; cd /none; (cd /; pwd -P); done"
    result = launcher.run("sh", "-c", script + "; exit 6", name=name)
    assert result.stdout == "/usr\n/etc\n/\n" * 9
    assert result.stderr.count("/none") == 9
    assert result.returncode == 6
    calls = [payload for kind, payload in launcher.session.events if kind == 9]
    assert len(calls) == 36
    assert set(calls) == {struct.pack("<qI", 0, 1), struct.pack("<qI", -errno.ENOENT, 1)}


def test_stops_during_remote_calls(launcher: Launcher) -> None:
    process = launcher.popen(
        "sh", "-c", "echo ready; while :; do cd /usr; cd /; done", name="remote", stdout=-1
    )
    wait_line(process, "ready")
    child = launcher.session.child
    for _ in range(30):
        os.kill(child, signal.SIGSTOP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        wait_until(lambda: state(child) == "T")
        os.kill(child, signal.SIGCONT)
        _, status = os.waitpid(process.pid, os.WCONTINUED)
        assert os.WIFCONTINUED(status)
    process.kill()


class Shell:
    """An interactive bash on a terminal of its own."""

    def __init__(self, launcher: Launcher) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(launcher.env, PS1="$ ", RUN=" ".join(launcher.argv()))
            os.execvp("bash", ["bash", "--norc", "--noediting", "-i"])
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect(self, pattern: str, seconds: float = 10) -> re.Match[str]:
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.seen)):
            assert select.select([self.fd], [], [], max(0, end - time.monotonic()))[0], (pattern, self.seen)
            self.seen += os.read(self.fd, 4096).decode(errors="replace").replace("\r", "")
        self.seen = self.seen[match.end() :]
        return match

    def wait_foreground(self, name: str = "") -> None:
        """Until bash has given the terminal to a job (whose leader has this name), and that runs."""

        def given() -> bool:
            group = os.tcgetpgrp(self.fd)
            if group == self.pid or state(group) == "T":
                return False
            return not name or Path(f"/proc/{group}/comm").read_text() == f"{name}\n"

        wait_until(given)

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def shell(launcher: Launcher) -> Iterator[Shell]:
    it = Shell(launcher)
    it.expect(r"\$ ")
    yield it
    it.close()


def test_terminal_interrupt(shell: Shell) -> None:
    shell.type("$RUN perl -e '$| = 1; print \"be\\ngun\\n\"; sleep 300'\n")
    shell.expect("be\ngun")
    shell.type("\x03")
    shell.expect(r"\$ ")
    shell.type("echo status $?\n")
    shell.expect("status 130")


def test_terminal_stop_and_foreground(shell: Shell) -> None:
    shell.type("$RUN sh -c 'echo be; echo gun; read x; echo got $x; exit 3'\n")
    shell.expect("be\ngun")
    for _ in range(3):
        shell.type("\x1a")
        shell.expect("Stopped")
        shell.expect(r"\$ ")
        shell.type("jobs\n")
        shell.expect("Stopped")
        shell.type("fg\n")
        shell.expect("exit 3'")
        shell.wait_foreground()
    shell.type("line\n")
    shell.expect("got line")
    shell.type("echo status $?\n")
    shell.expect("status 3")


def test_terminal_background_and_reading(shell: Shell) -> None:
    shell.type("$RUN sh -c 'read x; echo got $x' &\n")
    shell.expect(r"\[1\]")
    shell.expect(r"\$ ")
    time.sleep(0.3)
    shell.type("jobs\n")
    shell.expect("Stopped")
    shell.type("fg\n")
    shell.expect("read x")
    shell.wait_foreground()
    shell.type("line\n")
    shell.expect("got line")


def test_terminal_shell_inside(shell: Shell) -> None:
    """A shell makes a process group of its own; suspend and fg must work all the same."""
    shell.type("$RUN bash --norc --noediting -i\n")
    shell.type("echo in; echo side; sleep 300\n")
    shell.expect("in\nside")
    shell.wait_foreground("sleep")
    shell.type("\x1a")
    shell.expect("Stopped")
    shell.type("kill %1; suspend\n")
    shell.expect("Stopped.*RUN bash")
    shell.type("echo out; echo side; fg\n")
    shell.expect("out\nside")
    shell.type("echo again $((1 + 1)); exit 4\n")
    shell.expect("again 2")
    shell.type("echo status $?\n")
    shell.expect("status 4")


def test_session_leader(launcher: Launcher) -> None:
    process = launcher.popen("bash", "-c", f"trap 'exit 5' TERM; {LOOP}", stdout=-1, start_new_session=True)
    wait_line(process, "ready")
    assert os.getpgid(launcher.session.child) == process.pid
    process.terminate()
    assert process.wait(10) == 5
