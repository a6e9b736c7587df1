import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import processes
from supervisor.daemon_process import DaemonProcess

from vuosd.supervisor import members, messages, runtime
from vuosd.supervisor.messages import HEADER, Type

pytestmark = pytest.mark.kernel


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    daemon = DaemonProcess(tmp_path).ready()
    yield daemon
    daemon.stop()
    assert list(daemon.runtime.iterdir()) == [], "the daemon leaves nothing in the runtime directory"
    assert "Traceback" not in daemon.log.read_text()


def gone(pid: int) -> bool:
    process = processes.look(pid)
    return process is None or process.state == "Z"


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_session_from_request_to_end(daemon: DaemonProcess) -> None:
    with daemon.launcher() as launcher:
        assert launcher.run(["/bin/sh", "-c", "exit 7"]) == 7


def test_runtime_directory_is_closed_to_others(daemon: DaemonProcess) -> None:
    assert daemon.control.parent.stat().st_mode & 0o777 == 0o700
    assert daemon.control.stat().st_mode & 0o777 == 0o600


def test_the_spare_is_replaced_and_one_only(daemon: DaemonProcess) -> None:
    before = daemon.workers()
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/true"])
        launcher.start()
        assert launcher.tag >> members.STATE_BITS in before, "the spare got the session"
        assert processes.until(lambda: len(daemon.workers()) == 2)
        launcher.release()
        launcher.finish()
    assert processes.until(lambda: len(daemon.workers()) == 1)


def test_many_sessions_leave_no_descriptor_and_no_process(daemon: DaemonProcess) -> None:
    before, zygote = descriptors(daemon.process.pid), descriptors(daemon.zygote())
    for _ in range(20):
        with daemon.launcher() as launcher:
            assert launcher.run(["/bin/true"]) == 0
    assert processes.until(lambda: len(daemon.below()) == 2)
    assert processes.until(lambda: descriptors(daemon.process.pid) == before)
    assert processes.until(lambda: descriptors(daemon.zygote()) == zygote)


def test_a_worker_holds_no_socket_of_another_session(daemon: DaemonProcess) -> None:
    launchers = [daemon.launcher() for _ in range(3)]
    for launcher in launchers:
        launcher.ask(["/bin/true"])
        launcher.start()
    counts = set()
    for launcher in launchers:
        worker = daemon.workers()[launcher.tag >> members.STATE_BITS]
        links = [os.readlink(f"/proc/{worker}/fd/{fd}") for fd in os.listdir(f"/proc/{worker}/fd")]
        # the daemon, the zygote, launcher and broker, which the engine has again, both ends of its log
        counts.add(sum(link.startswith("socket:") for link in links))
        assert not any("control" in link or "lock" in link for link in links)
    assert counts <= {8, 10, 12}, links  # and the pairs by which trio wakes itself
    for launcher in launchers:
        launcher.release()
        launcher.finish()
        launcher.die()


_BROKEN = ("no message", "short listener", "no report")


def test_who_breaks_off_entering_harms_nobody(daemon: DaemonProcess) -> None:
    with daemon.launcher() as first:
        first.ask(["/bin/sh", "-c", "read x; exit 5"], name="here")
        first.start()
        for how in ("at once", "after the set-up", "nonsense", "no listener", "no descriptors", *_BROKEN):
            with daemon.launcher() as guest:
                if how == "no descriptors":
                    messages.send(guest.connection, Type.ENTER, b"here")
                    assert "expected" in guest.failure()
                    continue
                guest.ask(["/bin/true"], enter="here", report=os.devnull if how == "no report" else None)
                if how == "at once":
                    continue
                if how == "no report":
                    assert "no socket" in guest.failure()
                    continue
                setup = guest.receive()
                assert setup is not None
                assert setup.type == Type.SETUP
                flags, _, tag = messages.SETUP.unpack(setup.payload)
                assert (flags & messages.SetupFlag.CHDIR, tag) == (messages.SetupFlag.CHDIR, first.tag)
                assert os.pread(setup.fds[1], 100, 0).startswith(b"cwd\0/\0argc\x001\0/bin/true\0")
                setup.close()
                if how == "nonsense":
                    messages.send(guest.connection, Type.EXITED, messages.PAIR.pack(1, 0))
                    assert "no listener" in guest.failure()
                elif how == "no listener":
                    null = os.open("/dev/null", os.O_RDWR)
                    messages.send(guest.connection, Type.LISTENER, messages.PAIR.pack(1, 1), [null, null])
                    os.close(null)
                    assert "no listener" in guest.failure()
                elif how == "no message":
                    guest.connection.send(b"x")
                    assert "too short" in guest.failure()
                elif how == "short listener":
                    null = os.open("/dev/null", os.O_RDWR)
                    messages.send(guest.connection, Type.LISTENER, b"x", [null, null])
                    os.close(null)
                    assert "no listener" in guest.failure()
        with daemon.launcher() as guest:
            guest.ask(["/bin/true"], enter="nowhere")
            assert "no view named 'nowhere'" in guest.failure()
        first.release()
        assert first.finish() == 5
    assert processes.until(lambda: len(daemon.workers()) == 1)


def test_who_is_stopped_while_entering_keeps_no_session(daemon: DaemonProcess) -> None:
    """It has time as long as another is there, and then not for long."""
    with daemon.launcher() as first, daemon.launcher() as stopped, daemon.launcher() as slow:
        first.ask(["/bin/sh", "-c", "read x; exit 5"], name="here")
        first.start()
        for guest in (stopped, slow):
            guest.ask(["/bin/true"], enter="here")
        setup = stopped.receive()
        assert setup is not None
        assert setup.type == Type.SETUP
        setup.close()
        slow.start()
        first.release()
        assert first.finish() == 5
        slow.release()
        assert slow.finish() == 0
        assert "entering it took too long" in stopped.failure()
    assert processes.until(lambda: len(daemon.workers()) == 1)


def test_who_has_entered_and_speaks_no_protocol_any_more_harms_nobody(daemon: DaemonProcess) -> None:
    with daemon.launcher() as first:
        first.ask(["/bin/sh", "-c", "read x; exit 5"], name="here")
        first.start()
        with daemon.launcher() as guest:
            guest.ask(["/bin/true"], enter="here")
            guest.start()
            messages.send(guest.connection, Type.EXITED, b"x")
            guest.connection.send(b"x")
            assert guest.receive() is None
            os.kill(guest.child, signal.SIGKILL)
        first.release()
        assert first.finish() == 5
    assert processes.until(lambda: len(daemon.workers()) == 1)


def test_who_has_connected_and_ended_is_not_spoken_for(daemon: DaemonProcess) -> None:
    """Else a member could hand its connection on, and be known for one no more."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = os.fork()
        if not child:
            with daemon.launcher() as launcher:
                socket.send_fds(theirs, [b"x"], [launcher.connection.fileno()])
                os._exit(0)
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        os.waitpid(child, 0)
    with socket.socket(fileno=fds[0]) as connection:
        connection.settimeout(10)
        messages.send(connection, Type.CONTROL, b'{"ask": "ps"}')
        answer = messages.receive(connection)
    assert answer is not None
    assert answer.type == Type.FAIL
    assert b"the process that connected has ended" in answer.payload


def test_second_instance_names_the_first(daemon: DaemonProcess) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "vuosd.cli.vuosd"],
        env=daemon.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert second.returncode == 1
    assert f"already running (process {daemon.process.pid}" in second.stderr
    assert second.stderr.count("\n") == 1
    with daemon.launcher() as launcher:
        assert launcher.run(["/bin/true"]) == 0


def test_stale_socket_of_a_killed_daemon(tmp_path: Path) -> None:
    first = DaemonProcess(tmp_path).ready()
    below = first.below()
    first.process.kill()
    first.process.wait()
    assert first.control.exists()
    assert processes.until(lambda: all(map(gone, below))), "spare and zygote end with the daemon"
    second = DaemonProcess(tmp_path).ready()
    with second.launcher() as launcher:
        assert launcher.run(["/bin/true"]) == 0
    assert second.stop() == 0
    assert list(second.runtime.iterdir()) == []


def test_sessions_go_on_when_the_daemon_is_killed(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path).ready()
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/sh", "-c", "sleep 0.2; test -e /etc/passwd && exit 5"])
        launcher.start()
        below = daemon.below()
        daemon.process.kill()
        daemon.process.wait()
        launcher.release()
        assert launcher.finish() == 5
    assert processes.until(lambda: all(map(gone, below)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_ends_the_sessions(tmp_path: Path, number: int) -> None:
    daemon = DaemonProcess(tmp_path).ready()
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/sleep", "100"])
        launcher.start()
        launcher.release()
        below = daemon.below()
        assert daemon.stop(number) == 0
        assert processes.until(lambda: gone(launcher.child))
        assert all(map(gone, below))
    assert list(daemon.runtime.iterdir()) == []


@pytest.mark.parametrize("early", [True, False])
def test_killed_worker_ends_its_session_alone(daemon: DaemonProcess, early: bool) -> None:
    with daemon.launcher() as other, daemon.launcher() as launcher:
        for each in (other, launcher):
            each.ask(["/bin/sh", "-c", "sleep 100 & wait"])
            each.start()
            if each is other or not early:
                each.release()
        if not early:
            session = launcher.tag >> members.STATE_BITS
            assert processes.until(lambda: len(members.of_session(session)) == 2)
        os.kill(daemon.workers()[launcher.tag >> members.STATE_BITS], signal.SIGKILL)
        assert processes.until(lambda: not members.of_session(launcher.tag >> members.STATE_BITS))
        assert launcher.receive() is None
        assert members.of_session(other.tag >> members.STATE_BITS)
        other.die()
        assert processes.until(lambda: not members.of_session(other.tag >> members.STATE_BITS))
    assert processes.until(lambda: "was killed by signal 9" in daemon.log.read_text())


def test_killed_spare_is_no_obstacle(daemon: DaemonProcess) -> None:
    (spare,) = daemon.workers().values()
    os.kill(spare, signal.SIGKILL)
    assert processes.until(lambda: gone(spare))
    with daemon.launcher() as launcher:
        assert launcher.run(["/bin/true"]) == 0


def test_killed_zygote_ends_the_daemon_and_no_session(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path).ready()
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/sh", "-c", "test -e /etc/passwd && exit 5"])
        launcher.start()
        os.kill(daemon.zygote(), signal.SIGKILL)
        assert daemon.process.wait(10) == 1
        launcher.release()
        assert launcher.finish() == 5
    assert list(daemon.runtime.iterdir()) == []
    assert "the zygote has died" in daemon.log.read_text()


def test_another_protocol_version(daemon: DaemonProcess) -> None:
    with daemon.launcher() as launcher:
        launcher.connection.send(HEADER.pack(b"VUOS", 9, Type.RUN, 0))
        assert launcher.failure() == (
            "vuosd speaks protocol 1, vuos-run 9: they are of different versions; run `vuctl stop`\n"
        )


@pytest.mark.parametrize(
    "data", [b"x", b"GET / HTTP/1.1\r\n\r\n", HEADER.pack(b"VUOS", 1, 99, 0), HEADER.pack(b"VUOS", 1, 1, 5)]
)
def test_nonsense_is_refused(daemon: DaemonProcess, data: bytes) -> None:
    with daemon.launcher() as launcher:
        launcher.connection.send(data)
        assert launcher.failure().startswith("vuosd: ")
        assert launcher.receive() is None


def test_run_without_descriptors(daemon: DaemonProcess) -> None:
    with daemon.launcher() as launcher:
        messages.send(launcher.connection, Type.RUN)
        assert "no request" in launcher.failure()
    with daemon.launcher() as launcher, open("/dev/null") as null:
        messages.send(launcher.connection, Type.RUN, b"", [null.fileno(), null.fileno()])
        assert "bad request" in launcher.failure()


def test_a_silent_client_holds_nobody_up(daemon: DaemonProcess) -> None:
    with daemon.launcher(), daemon.launcher() as launcher:
        assert launcher.run(["/bin/true"]) == 0


def test_from_inside_a_view_nothing_is_controlled(daemon: DaemonProcess) -> None:
    """The daemon's socket is worth as much as a shell outside."""
    program = f"""
import sys
from vuosd.supervisor import messages, runtime
from pathlib import Path
sock = runtime.connect(Path({str(daemon.control)!r}))
messages.send(sock, messages.Type.CONTROL, b'{{"command": "stop", "force": true}}')
reply = messages.receive(sock)
sys.exit(3 if reply and b"from inside a view" in reply.payload else 1)
"""
    with daemon.launcher() as launcher:
        assert launcher.run([sys.executable, "-c", program]) == 3
    assert daemon.process.poll() is None


def test_systemd_activation(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "vuosd").mkdir(mode=0o700, parents=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control = run / "vuosd" / "control"
    os.chdir(control.parent)
    listener.bind("control")
    os.chdir("/")
    listener.listen()
    starter = "import os,sys; os.dup2(int(sys.argv[1]), 3);"
    starter += "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
    starter += "os.execv(sys.executable, [sys.executable, '-m', 'vuosd.cli.vuosd'])"
    process = subprocess.Popen(
        [sys.executable, "-c", starter, str(listener.fileno())],
        env={**os.environ, "XDG_RUNTIME_DIR": str(run)},
        pass_fds=[listener.fileno()],
        stderr=subprocess.PIPE,
    )
    try:
        from supervisor.launcher_stand_in import Launcher

        with Launcher.at(control) as launcher:
            assert launcher.run(["/bin/true"]) == 0
    finally:
        process.terminate()
        _, said = process.communicate(timeout=10)
    assert b"a socket from systemd" in said
    assert process.returncode == 0
    assert [path.name for path in control.parent.iterdir()] == ["control"], "systemd's socket stays"
    listener.close()


@pytest.mark.parametrize(
    ("directory", "sentence"),
    [
        ("", "XDG_RUNTIME_DIR is not set"),
        ("relative", "not an absolute path"),
        ("/nonexistent", "No such file or directory"),
        ("/proc", "cannot use /proc/vuosd"),
        ("/dev/null", "Not a directory"),
    ],
)
def test_no_runtime_directory(directory: str, sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vuosd.cli.vuosd"],
        env={**os.environ, "XDG_RUNTIME_DIR": directory},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_long_runtime_path(tmp_path: Path) -> None:
    """sockaddr_un has room for 108 bytes."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    daemon = DaemonProcess(deep).ready()
    with daemon.launcher() as launcher:
        assert launcher.run(["/bin/true"]) == 0
    assert daemon.stop() == 0


def test_short_of_descriptors(tmp_path: Path) -> None:
    """With a limit of descriptors the daemon refuses, does not spin, and is well again afterwards."""
    daemon = DaemonProcess(tmp_path).ready()
    pid = daemon.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors(pid), hard))
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/true"])
        assert processes.until(lambda: "no connection can be accepted" in daemon.log.read_text())
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (1024, hard))
        launcher.start()
        launcher.release()
        assert launcher.finish() == 0
    assert daemon.stop() == 0


def test_ps_counts_what_runs(daemon: DaemonProcess) -> None:
    with daemon.launcher() as launcher:
        launcher.ask(["/bin/sh", "-c", "sleep 100 & wait"], name="mine")
        launcher.start()
        launcher.release()
        session = launcher.tag >> members.STATE_BITS
        assert processes.until(lambda: len(members.of_session(session)) == 2)
        assert processes.until(lambda: b"mine" in ask(daemon, "ps"))
        (row,) = json.loads(ask(daemon, "ps"))["sessions"]
        assert (row["name"], row["pid"], row["processes"]) == ("mine", launcher.child, 2)
        assert row["stats"]["notifications"] > 0
    assert processes.until(lambda: not members.of_session(session)), "the launcher's death ends the session"


def ask(daemon: DaemonProcess, command: str) -> bytes:
    with runtime.connect(daemon.control) as sock:
        messages.send(sock, Type.CONTROL, json.dumps({"command": command}).encode())
        message = messages.receive(sock)
        assert message
        return messages.large(message)
