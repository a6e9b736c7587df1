"""Servers of file systems outside of the view that have been taken over: what they try fails, whatever their
type, and whoever has asked for them.
"""

import http.server
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from functools import partial

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
        "scheduling": tried(lambda: os.sched_setaffinity(DAEMON, os.sched_getaffinity(0))),
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


@pytest.mark.places(places.DOCKER, places.NO_USERNS)
def test_in_other_places(trap: Trap) -> None:
    words = ["sh", "-ec", 'vumount -t python -o "source=$1" "$2" "$3"; cat "$3/report"', "sh"]
    told = trap.box.view([*words, trap.source, trap.plugin, trap.mnt], trap.profile).check().stdout
    trap.check(told, "diary", "source")


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


def test_programs(trap: Trap) -> None:
    """Known ones have their source and no more; others read what the view shows."""
    for name in ("fuse2fs", "squashfuse", "sshfs", "another"):
        env = trap.program(name)
    script = """
        vumount -t fuse.fuse2fs "$1" "$2"; vumount -t fuse.squashfuse -o ro "$1" "$2"
        vumount -t fuse.sshfs host:/ "$2"; vumount -t fuse.another "$1" "$2"
    """
    words = ["sh", "-c", script, "sh", trap.source, trap.mnt]
    said = trap.box.view(words, trap.profile, env=env).stderr.replace("vumount: failed, and has done", "")
    assert said == " source\n\n agent internet\n diary source\n"


def test_a_directory_by_a_transport_that_is_asked_for(trap: Trap) -> None:
    """Then its server is not a process of the view, and cannot be kept from what that hides there."""
    script = 'vumount -t fuse.bindfs -o transport=kernel "$1" "$2" && cat "$2/image"'
    words = ["sh", "-c", script, "sh"]
    said = trap.box.view([*words, trap.box.scratch, trap.mnt], trap.profile).stderr
    assert "only processes of the view see this directory with" in said
    assert trap.box.view([*words, trap.source.parent, trap.mnt], trap.profile).check().stdout == "content"


_SFTP = '''#!/usr/bin/python3
"""Of ssh(1) and sftp-server(8) what sshfs(1) needs to list a directory."""
import struct, sys

def take(size):
    return sys.stdin.buffer.read(size)

def string(text):
    return struct.pack(">I", len(text)) + text

ATTRIBUTES = struct.pack(">I", 4)
listed = False
while head := take(4):
    data = take(*struct.unpack(">I", head))
    kind, number = data[0], data[1:5]
    if kind == 1:
        answer = b"\\2" + struct.pack(">I", 3)
    elif kind in (7, 17):
        answer = b"\\x69" + number + ATTRIBUTES + struct.pack(">I", 0o40755)
    elif kind == 16:
        answer = b"\\x68" + number + struct.pack(">I", 1) + string(b"/") * 2 + struct.pack(">I", 0)
    elif kind == 11:
        answer, listed = b"\\x66" + number + string(b"handle"), False
    elif kind == 12 and not listed:
        entry = string(b"afar") * 2 + ATTRIBUTES + struct.pack(">I", 0o100644)
        answer, listed = b"\\x68" + number + struct.pack(">I", 1) + entry, True
    else:
        answer = b"\\x65" + number + struct.pack(">I", 1 if kind == 12 else 0) + string(b"") * 2
    sys.stdout.buffer.write(struct.pack(">I", len(answer)) + answer)
    sys.stdout.buffer.flush()
'''

_EVERY = """
cd "$1"
ours="fakeroot,uid=$(id -u),gid=$(id -g)"
mounted() { type=$1; shift; vumount -t "$type" "$@" mnt || echo "$type: not mounted"; }
gone() { vuumount mnt || echo "$type: not unmounted"; }
mounted ext4 -o "ro" ext4.img; cat mnt/file; gone
mounted ext4 -o "ro,offset=1M" parts.img; cat mnt/file; gone
mounted fuse.fuse2fs -o "$ours" ext4.img; echo new >mnt/new; gone
mounted fuse.fuse-ext2 -o "ro" ext4.img; cat mnt/new; gone
mounted squashfs squash.img; cat mnt/file; gone
mounted fat fat.img; ls mnt; gone
mounted iso iso.img; cat mnt/file; gone
mounted memory none; echo memory >mnt/new; cat mnt/new; gone
mounted procinfo none; ls mnt >/dev/null; gone
mounted real -o "transport=$2" tree; cat mnt/file; echo real >mnt/real; chmod 600 mnt/real; gone
mounted bindfs -o "transport=$2" tree; cat mnt/file; echo bind >mnt/bind; chmod 600 mnt/bind; gone
cat tree/real tree/bind
mounted python plugin.py; cat mnt/told; gone
mounted sshfs -o "ssh_command=$1/sftp" host:/; ls mnt; gone
mounted zip tree.zip; cat mnt/file; test ! -w mnt || echo zip >mnt/zip; gone
mounted zip -o ro tree.zip; test ! -e mnt/zip || cat mnt/zip; gone
"""
_WITH_PACKAGES = """
mounted archive -o "index=$1/index/list" tree.tar.gz; cat mnt/file; gone; test -s index/list || echo no index
mounted archive tree.tar.00; cat mnt/file; gone
mounted fsspec -o "ro=no" "file://$1/tree"; echo stored >mnt/stored; gone; cat tree/stored
mounted fsspec "$3"; cat mnt/file; gone
"""

_TOLD = """
import tempfile
from vuosd.api import Value, Values

class Told(Values):
    def tree(self):
        with tempfile.TemporaryFile() as file:
            file.write(b"told")
        return {"told": Value(lambda: "told\\n")}
"""


@pytest.fixture
def web(box: Box) -> Iterator[str]:
    served = box.directory("web")
    (served / "file").write_text("content\n")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=served)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.places(places.FUSE, places.NO_FUSE)
def test_every_type_has_what_it_needs(box: Box, web: str) -> None:
    tree = box.directory("tree")
    (tree / "file").write_text("content\n")
    box.directory("index")
    box.directory("mnt")
    box.file("plugin.py", _TOLD)
    box.file("sftp", _SFTP, 0o755)
    make = """
        truncate -s 4M ext4.img fat.img; mke2fs -q -t ext4 -d tree ext4.img; mkfs.vfat fat.img >/dev/null
        truncate -s 1M parts.img; cat ext4.img >>parts.img
        mksquashfs tree squash.img -quiet -no-progress >/dev/null; genisoimage -quiet -r -o iso.img tree
        tar -C tree -czf tree.tar.gz file; python3 -m zipfile -c tree.zip tree/file
        tar -C tree -cf - file | split -d -b 6000 - tree.tar.
    """.replace("python3", "/usr/bin/python3")
    subprocess.run(["sh", "-ec", make], cwd=box.scratch, check=True, capture_output=True)
    box.give(box.scratch)
    transport = "kernel" if box.place is places.FUSE else "wire"
    packages = box.identity.is_us and transport == "kernel"  # else they are not in the installation
    script = _EVERY + (_WITH_PACKAGES if packages else "")
    result = box.view(["sh", "-c", script, "sh", box.scratch, transport, web], timeout=60)
    assert result.stderr == ""
    # In a user namespace what a program says is root's is nobody's.
    more = (["zip"] if packages or transport == "wire" else []) + (["stored"] if packages else [])
    assert set(result.stdout.split()) == {"content", "new", "memory", "real", "bind", "told", "afar", *more}
    assert result.stdout.count("content") == (10 if packages else 7)
