"""Servers of file systems outside of the view that have been taken over: what they try fails, whatever their
type, and whoever has asked for them.
"""

import json
import os
import socket
from collections.abc import Iterator

import pytest
from harness import places, processes
from harness.box import Box

pytestmark = [pytest.mark.app, pytest.mark.places(places.FUSE)]

_TRIES = """
import ctypes, errno, json, os, resource, signal, socket, sys

TOP, DAEMON, SOURCE, CONTROL = {top!r}, {daemon}, {source!r}, {control!r}
libc = ctypes.CDLL(None, use_errno=True)


def tried(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


def read(path):
    with open(path, "rb") as file:
        file.read(1)


def write(path, mode):
    with open(path, mode):
        pass


def connect(address, family=socket.AF_UNIX, kind=socket.SOCK_SEQPACKET):
    with socket.socket(family, kind) as sock:
        sock.connect(address)


def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")


def tries():
    helper = os.getppid()
    return {{
        "hidden": tried(lambda: read(TOP + "/hidden/secret")),
        "hidden-by-proc": tried(lambda: read("/proc/self/root" + TOP + "/hidden/secret")),
        "hidden-of-system": tried(lambda: os.listdir("/usr/share/doc")),
        "diary": tried(lambda: read(TOP + "/diary")),
        "write": tried(lambda: write(TOP + "/diary", "a")),
        "truncate": tried(lambda: os.truncate(TOP + "/diary", 7)),
        "make": tried(lambda: write(TOP + "/new", "x")),
        "link": tried(lambda: os.link(TOP + "/left", TOP + "/linked")),
        "rename": tried(lambda: os.rename(TOP + "/left", TOP + "/moved")),
        "remove": tried(lambda: os.unlink(TOP + "/gone")),
        "chmod": tried(lambda: os.chmod(TOP + "/diary", 0o600)),
        "utime": tried(lambda: os.utime(TOP + "/diary")),
        "signal": tried(lambda: os.kill(DAEMON, 0)),
        "signal-to-parent": tried(lambda: os.kill(helper, 0)),
        "memory": tried(lambda: read(f"/proc/{{DAEMON}}/maps")),
        "environment": tried(lambda: read(f"/proc/{{helper}}/environ")),
        "trace": tried(lambda: call(101, 0x4206, helper, 0, 0)),
        "limits": tried(lambda: resource.prlimit(DAEMON, resource.RLIMIT_CORE)),
        "daemon": tried(lambda: connect(CONTROL)),
        "agent": tried(lambda: connect(TOP + "/agent", kind=socket.SOCK_STREAM)),
        "another-socket": tried(lambda: connect(TOP + "/bus", kind=socket.SOCK_STREAM)),
        "abstract": tried(lambda: connect("\\0" + TOP, kind=socket.SOCK_STREAM)),
        "pair": tried(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)),
        "internet": tried(lambda: connect(("127.0.0.1", 9), socket.AF_INET, socket.SOCK_DGRAM)),
        "keys": tried(lambda: call(250, 0, -3, 0)),
        "source": tried(lambda: write(SOURCE, "r+")),
    }}
"""

_PLUGIN = """
from vuosd.api import Filesystem, MemFile, Stat

class Taken(Filesystem):
    def start(self):
        self.report = json.dumps(tries()).encode()

    def lstat(self, path):
        return Stat.directory() if path == b"/" else Stat.file(len(self.report))

    def listdir(self, path):
        return [b"report"]

    def open(self, path, flags, mode):
        return MemFile(self.report)
"""

_PROGRAM = """
done = sorted(name for name, said in tries().items() if said == "done")
print("failed, and has done", *done, file=sys.stderr)
sys.exit(1)
"""


class Trap:
    """What a server could reach, in a box."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.mnt = box.directory("mnt")
        for name in ("hidden/secret", "diary", "left", "gone", "source/image"):
            box.file(name, "content")
        self.source = box.scratch / "source/image"
        hidden = (box.scratch / "hidden", "/usr/share/doc")
        self.profile = "".join(f'[[mount]]\ntype = "hide"\ntarget = "{path}"\n' for path in hidden)
        self.sockets = [self.listener(f"{box.scratch}/{name}") for name in ("agent", "bus")]
        self.sockets.append(self.listener(f"\0{box.scratch}"))
        control = f"{box.runtime}/vuosd/control"
        self.code = _TRIES.format(
            top=str(box.scratch), daemon=box.daemon, source=str(self.source), control=control
        )
        self.plugin = box.file("taken.py", self.code + _PLUGIN)

    def listener(self, address: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        if address.startswith("/"):
            os.chmod(address, 0o777)
        listener.listen()
        return listener

    def program(self, name: str) -> dict[str, str]:
        """… in PATH."""
        self.box.file(f"bin/{name}", "#!/usr/bin/python3\n" + self.code + _PROGRAM, 0o755)
        path = f"{self.box.scratch}/bin:{self.box.env['PATH']}"
        return {"PATH": path, "SSH_AUTH_SOCK": f"{self.box.scratch}/agent"}

    def check(self, report: str, *done: str) -> None:
        """These it may do, and nothing else."""
        found: dict[str, str] = json.loads(report)
        assert {name for name, said in found.items() if said == "done"} == set(done), found
        assert set(found.values()) <= {"done", "EACCES", "EPERM", "EXDEV"}, found


@pytest.fixture
def trap(box: Box) -> Iterator[Trap]:
    trap = Trap(box)
    yield trap
    for listener in trap.sockets:
        listener.close()


def test_where_nothing_is_in_the_way_it_can_be_done(trap: Trap) -> None:
    """What the others test is refused by the bounds, and by nothing else."""
    trap.program("taken")
    said = trap.box.native([trap.box.scratch / "bin/taken"]).stderr.split()[4:]
    everything = {line.split('"')[1] for line in _TRIES.splitlines() if line.startswith('        "')}
    others = {"trace", "memory", "environment", "signal-to-parent"}  # as Yama lets, and of whom the parent is
    assert set(said) | others == everything


@pytest.mark.parametrize("transport", ["kernel", "wire"])
def test_a_class_mounted_in_the_view(trap: Trap, transport: str) -> None:
    """It may read what the view shows. What its source is tells an option."""
    script = 'vumount -t python -o "source=$1,transport=$4" "$2" "$3"; cat "$3/report"'
    words = ["sh", "-ec", script, "sh", trap.source, trap.plugin, trap.mnt, transport]
    trap.check(trap.box.view(words, trap.profile).check().stdout, "diary", "source")


def test_a_class_mounted_by_a_profile(trap: Trap) -> None:
    more = f"""
        [[mount]]
        type = "python"
        source = "{trap.plugin}"
        target = "{trap.mnt}"
        options = "ro,source={trap.source}"
    """
    told = trap.box.view(["cat", trap.mnt / "report"], trap.profile + more).check().stdout
    trap.check(told, "diary")


@pytest.mark.parametrize("enforce", [False, True])
def test_a_class_mounted_from_outside(trap: Trap, enforce: bool) -> None:
    """Its source is what it may write to, although the view hides it; nothing else that is hidden."""
    vuctl = trap.box.installation.bin / "vuctl"
    head = '[view]\nenforce = true\n[control]\nallow = ["mount"]\n' if enforce else ""
    profile = head + trap.profile + f'[[mount]]\ntype = "hide"\ntarget = "{trap.source}"\n'
    script = 'until test -e "$1/report"; do sleep 0.01; done; cat "$1/report"'
    words = [*trap.box.vuos_run(profile, "--name=job"), "sh", "-c", script, "sh", trap.mnt]
    with open(trap.box.scratch / "said", "w+") as said:
        process = trap.box.popen(words, stdout=said)
        assert processes.until(lambda: trap.box.native([vuctl, "mounts", "job"]).returncode == 0)
        mount = [vuctl, "mount", "job", "-t", "python", "-o", f"source={trap.source}", trap.plugin, trap.mnt]
        trap.box.native(mount).check()
        process.wait(20)
        said.seek(0)
        trap.check(said.read(), "diary", "source")


@pytest.mark.parametrize(
    ("name", "options", "done"),
    [
        ("fuse2fs", "rw", ["source"]),
        ("squashfuse", "ro", []),
        ("sshfs", "rw", ["agent", "internet"]),
        ("another", "rw", ["diary", "source"]),
    ],
)
def test_a_program(trap: Trap, name: str, options: str, done: list[str]) -> None:
    """Known ones have their source and no more; others read what the view shows."""
    env = trap.program(name)
    source = "host:/" if name == "sshfs" else trap.source
    words = ["vumount", "-t", f"fuse.{name}", "-o", options, source, trap.mnt]
    result = trap.box.view(words, trap.profile, env=env)
    assert result.stderr == f"vumount: {' '.join(['failed, and has done', *done])}\n"


def test_a_directory_by_a_transport_that_is_asked_for(trap: Trap) -> None:
    """Then its server is not a process of the view, and cannot be kept from what that hides there."""
    script = 'vumount -t fuse.bindfs -o transport=kernel "$1" "$2" && cat "$2/image"'
    words = ["sh", "-c", script, "sh"]
    said = trap.box.view([*words, trap.box.scratch, trap.mnt], trap.profile).stderr
    assert "only processes of the view see this directory without" in said
    assert trap.box.view([*words, trap.source.parent, trap.mnt], trap.profile).check().stdout == "content"
