"""`vuctl enter`: a command in a view that runs, which shares it and is otherwise as env(1) would start it."""

import json
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import places, processes
from harness.box import Argument, Box, Result

pytestmark = pytest.mark.app

EVERYWHERE = pytest.mark.places(places.PLAIN, places.DOCKER, places.ANCESTORS, places.NO_USERNS)


class Shell:
    """sh, to which a test says what to do, line by line."""

    def __init__(self, box: Box, before: list[Argument], **more: object) -> None:
        pipe = subprocess.PIPE
        self.process = box.popen([*before, "sh"], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, **more)
        self.pid = int(self.says("echo $$"))

    def says(self, line: str) -> str:
        """What it prints on the way, without the last newline."""
        assert self.process.stdin
        assert self.process.stdout
        os.write(self.process.stdin.fileno(), f"{line}\necho; echo END\n".encode())
        said = b""
        while not said.endswith(b"\nEND\n"):
            assert select.select([self.process.stdout], [], [], 20)[0], said
            part = os.read(self.process.stdout.fileno(), 65536)
            assert part, f"it has ended: {said!r}"
            said += part
        return said[: -len(b"\nEND\n")].decode().rstrip("\n")

    def end(self) -> tuple[int, str]:
        """Exit status, and what is said at last."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        said = self.process.stdout.read().decode()
        return self.process.wait(20), said


Start = Callable[..., Shell]


@pytest.fixture
def start(box: Box) -> Iterator[Start]:
    """A view named after the box, with a shell in it."""
    shells: list[Shell] = []

    def start(profile: str | None = None, *options: str, **more: object) -> Shell:
        shells.append(Shell(box, box.vuos_run(profile, f"--name={box.scratch.name}", *options), **more))
        return shells[-1]

    yield start
    for shell in shells:
        if shell.process.poll() is None:
            shell.end()


def entering(box: Box, view: object = None) -> list[Argument]:
    return [box.installation.bin / "vuctl", "enter", str(view or box.scratch.name), "--"]


def enter(box: Box, *argv: Argument, view: object = None, **more: object) -> Result:
    return box.native([*entering(box, view), *argv], **more)


def sessions(box: Box) -> list[dict[str, object]]:
    """Of this box's view."""
    said = box.native([box.installation.bin / "vuctl", "ps", "--json"]).check().stdout
    return [row for row in json.loads(said)["sessions"] if row["name"] == box.scratch.name]


@pytest.fixture
def profile(box: Box) -> str:
    """A view with something of each kind; its directories are in `box.scratch`."""
    for name in ("src", "mnt", "hidden", "memory", "other"):
        box.directory(name)
    (box.scratch / "src/file").write_text("bound\n")
    box.give(box.scratch / "src")
    source = f'source = "{box.scratch}/src"'
    entries = [("bind", "mnt", source), ("hide", "hidden", ""), ("tmpfs", "memory", "")]
    tables = [
        f'[[mount]]\ntype = "{kind}"\ntarget = "{box.scratch}/{name}"\n{more}\n'
        for kind, name, more in entries
    ]
    return "\n".join(tables) + '[env]\nunset = ["GONE"]\n[env.set]\nGIVEN = "yes"\n'


@EVERYWHERE
def test_it_is_the_same_view(box: Box, profile: str, start: Start) -> None:
    first = start(profile)
    script = """
        cat mnt/file; ls hidden; echo "$GIVEN ${GONE-unset}"; pwd
        echo from outside >memory/new; cd mnt; pwd; vumount -B . ../other
    """
    done = enter(box, "sh", "-c", script, env={"GONE": "there"})
    assert done.stdout == f"bound\nyes unset\n{box.scratch}\n{box.scratch}/mnt\n", done.stderr
    assert "hidden" in done.stderr
    assert first.says("cat memory/new other/file") == "from outside\nbound"
    first.says("echo back >memory/new; vuumount other")
    by_pid = enter(box, "sh", "-c", "cat memory/new; ls other", view=first.pid).check()
    assert by_pid.stdout == "back\n"
    assert not (box.scratch / "memory/new").exists()


def test_three_work_at_a_time(box: Box, profile: str, start: Start) -> None:
    first = start(profile)
    others = [Shell(box, entering(box)) for _ in range(2)]
    for number, shell in enumerate([first, *others]):
        shell.says(f"i=0; while [ $i -lt 200 ]; do echo x >memory/{number}.$i; i=$((i+1)); done & ")
    for shell in (first, *others):
        shell.says("wait")
    for shell in (first, *others):
        assert shell.says("ls memory | wc -l") == "600"
    assert len(sessions(box)) == 1
    (row,) = sessions(box)
    assert row["pid"] == first.pid
    assert {one["pid"] for one in row["entered"]} == {shell.pid for shell in others}  # type: ignore[attr-defined]
    for shell in others:
        assert shell.end() == (0, "")
    assert processes.until(lambda: sessions(box)[0]["entered"] == [])


def test_exit_status(box: Box, start: Start) -> None:
    start()
    assert enter(box, "sh", "-c", "exit 3").returncode == 3
    assert enter(box, "sh", "-c", "kill -USR1 $$").returncode == -signal.SIGUSR1
    assert enter(box, "/etc/passwd").returncode == 126
    assert enter(box, "no-such-command").returncode == 127
    for words in (["enter", "--nonsense"], ["enter"], ["enter", box.scratch.name]):
        refused = box.native([box.installation.bin / "vuctl", *words])
        assert refused.returncode == 125
        assert "vuctl" in refused.stderr


def test_what_the_command_finds(box: Box, start: Start) -> None:
    """Descriptors, environment, what is ignored, the process group: as a native command does."""
    start()
    box.file("input", "of a descriptor\n")
    env = {"LANG": "", "LC_ALL": "", "EMPTY": ""}
    ask = """
        env | grep -v ^PWD; grep SigIgn /proc/self/status; cat <&9; ls /proc/self/fd | wc -l; umask
        read pid name state parent group session rest </proc/self/stat; echo $group $session
    """
    both = f'exec 9<input; sh -c "$1"; echo; exec 9<input; {" ".join(map(str, entering(box)))} sh -c "$1"'
    done = box.native(["sh", "-c", both, "sh", ask], env=env).check()
    native, entered = done.stdout.split("\n\n")
    assert native.count("\n") > 8
    assert entered == native + "\n"
    assert done.stderr == ""


def test_signals_reach_the_command(box: Box, start: Start) -> None:
    start()
    script = "trap 'echo term; exit 9' TERM; echo up; while :; do sleep 0.01; done"
    process = box.popen([*entering(box), "sh", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    process.terminate()
    assert process.stdout.readline() == b"term\n"
    assert process.wait(20) == 9


@EVERYWHERE
def test_a_nested_view_is_entered_by_a_process_of_it(box: Box, profile: str, start: Start) -> None:
    first = start(profile)
    inner = box.profile('[view]\ncwd = "/"\n[env.set]\nINNER = "too"\n')
    os.mkfifo(box.scratch / "go")
    box.give(box.scratch)
    launcher = box.installation.vuos_run
    first.says(f"{launcher} --view={inner} -- sh -c 'cd {box.scratch}; vumount -B mnt other; read x <go' &")
    assert processes.until(lambda: first.says("vumount >/dev/null 2>&1; ls /proc/$!/cwd/mnt") == "file")
    pid = int(first.says("echo $!"))
    look = f"cat {box.scratch}/other/file; pwd; echo $GIVEN $INNER"
    assert processes.until(
        lambda: enter(box, "sh", "-c", look, view=pid).stdout == "bound\n/\nyes too\n"
    ), enter(box, "sh", "-c", look, view=pid)
    assert enter(box, "ls", box.scratch / "other").stdout == "", "that of the session is another"
    there = Shell(box, entering(box, pid))
    first.says("echo >go; wait")
    assert there.says(f"cat {box.scratch}/other/file") == "bound", "it lives as long as somebody is in it"
    there.end()
    refused = enter(box, "true", view=pid)
    assert refused.returncode == 125
    assert "no process of that number" in refused.stderr


def test_where_it_begins(box: Box, profile: str, start: Start) -> None:
    start(profile)
    refused = enter(box, "true", cwd=box.scratch / "hidden")
    assert refused.returncode == 125
    assert f"cannot begin in {box.scratch}/hidden, as the view shows it" in refused.stderr
    inside = enter(box, "sh", "-c", "pwd; ls", cwd=box.scratch / "mnt").check()
    assert inside.stdout == f"{box.scratch}/mnt\nfile\n"


def test_the_cwd_of_a_profile(box: Box, start: Start) -> None:
    start('[view]\ncwd = "/usr"\n[[mount]]\ntype = "hide"\ntarget = "/srv"\n')
    assert enter(box, "pwd").check().stdout == "/usr\n"


def test_the_session_lasts_as_long_as_any_of_them(box: Box, profile: str, start: Start) -> None:
    first = start(profile)
    second = Shell(box, entering(box))
    first.says("echo kept >memory/kept")
    assert first.end() == (0, "")
    assert second.says("cat memory/kept mnt/file") == "kept\nbound"
    assert processes.until(lambda: [row["pid"] for row in sessions(box)] == [second.pid])
    third = enter(box, "cat", "memory/kept").check()
    assert third.stdout == "kept\n"
    assert second.end() == (0, "")
    assert processes.until(lambda: not sessions(box))
    refused = enter(box, "true")
    assert refused.returncode == 125
    assert f"no view named '{box.scratch.name}'" in refused.stderr


@pytest.mark.parametrize("whose", ["first", "second"])
@pytest.mark.parametrize("half", ["launcher", "keeper"])
def test_a_killed_launcher_takes_its_own_tree_along(
    box: Box, profile: str, start: Start, whose: str, half: str
) -> None:
    first = start(profile)
    second = Shell(box, entering(box))
    (row,) = sessions(box)
    keepers = {"first": row["keeper"], "second": row["entered"][0]["keeper"]}  # type: ignore[index]
    victim, other = (first, second) if whose == "first" else (second, first)
    orphan = int(victim.says("(setsid sleep 1000 >/dev/null 2>&1 & echo $!)"))
    stays = int(other.says("(setsid sleep 1000 >/dev/null 2>&1 & echo $!)"))
    # The first process of those we have started is the one that puts them in their place.
    front = processes.look(int(keepers[whose]))  # type: ignore[call-overload]
    assert front
    os.kill(front.ppid if half == "launcher" else front.pid, signal.SIGKILL)
    assert processes.until(lambda: not os.path.exists(f"/proc/{orphan}/exe"))
    assert victim.process.wait(20) in (-signal.SIGKILL, 128 + signal.SIGKILL)
    assert other.says("cat mnt/file") == "bound"
    other.says(f"kill {stays}")
    assert other.end() == (0, "")


def test_a_layer_is_told_of_by_who_ends_last(box: Box, start: Start) -> None:
    tree = box.directory("tree")
    (tree / "file").write_text("below\n")
    first = start(None, f"--cow={tree}")
    second = Shell(box, entering(box))
    first.says("echo 1 >tree/one")
    short = enter(box, "sh", "-c", "cat tree/one; echo 3 >tree/three").check()
    assert (short.stdout, short.stderr) == ("1\n", "")
    status, said = first.end()
    assert (status, said.count("\n")) == (0, 1)
    assert said.startswith("vuos-run: processes of the view still run")
    second.says("echo 2 >tree/two")
    status, said = second.end()
    assert status == 0
    assert "3 changes" in said
    assert os.listdir(tree) == ["file"]
    box.native([box.installation.bin / "vuctl", "drop", box.scratch.name]).check()


def test_who_may_not(box: Box, start: Start) -> None:
    first = start()
    run = box.installation.vuos_run
    inside = first.says(f"{run} --enter={box.scratch.name} -- true; echo status $?")
    assert inside.startswith("vuosd: no view can be controlled from inside a view")
    assert inside.endswith("status 125")
    mixed = box.native([run, f"--enter={box.scratch.name}", "--name=x", "--", "true"])
    assert (mixed.returncode, "--enter takes no other option" in mixed.stderr) == (125, True)
    none = enter(box, "true", env={"XDG_RUNTIME_DIR": str(box.scratch)})
    assert none.returncode == 125
    assert "no vuosd is running" in none.stderr
    private = box.popen(
        [run, "--name=private", "--", "sleep", "1000"], env={"XDG_RUNTIME_DIR": str(box.scratch)}
    )
    refused = enter(box, "true", view="private")
    assert (refused.returncode, "no view named 'private'" in refused.stderr) == (125, True)
    private.terminate()
    private.wait(20)
    if not box.identity.is_us:
        of_root = enter(box, "true", outer=())
        assert of_root.returncode == 125
        assert "belongs to another user" in of_root.stderr


def test_while_sessions_end(box: Box, start: Start) -> None:
    """Who enters a session that ends has entered it, or is told in one sentence."""
    for _ in range(6):
        first = start()
        late = [
            box.popen([box.installation.vuos_run, f"--enter={box.scratch.name}", "--", "echo", "in"],
                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(3)
        ]  # fmt: skip
        assert first.end() == (0, "")
        for process in late:
            said, told = process.communicate(timeout=20)
            if process.returncode == 0:
                assert (said, told) == (b"in\n", b"")
            else:
                assert (process.returncode, said, told.count(b"\n")) == (125, b"", 1)
        assert processes.until(lambda: not sessions(box))


def test_a_server_that_an_entered_command_starts(box: Box, profile: str, start: Start) -> None:
    """What it mounts outlives it, as what the first one mounts does."""
    first = start(profile)
    Path(box.scratch / "plugin.py").write_text(
        "from vuosd.api import Filesystem, MemFile, Stat\n"
        "class Hello(Filesystem):\n"
        "    def lstat(self, path):\n"
        "        if path == b'/':\n            return Stat.directory()\n"
        "        if path == b'/hello':\n            return Stat.file(size=6)\n"
        "        raise FileNotFoundError(2, 'none')\n"
        "    def readdir(self, path):\n        return [b'hello']\n"
        "    def open(self, path, flags, mode):\n        return MemFile(b'hello\\n')\n"
    )
    os.chmod(box.scratch / "plugin.py", 0o644)
    done = enter(box, "sh", "-c", f"vumount -t {box.scratch}/plugin.py none other; cat other/hello")
    assert done.stdout == "hello\n", done.stderr
    assert first.says("cat other/hello") == "hello"
    first.says("vuumount other")
