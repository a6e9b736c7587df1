"""Several mounts of one server by wire: binds of what lies in it, as of what lies in any file system."""

import ast
import os
import subprocess
from typing import Any

import pytest
from harness import places
from harness.box import Box
from supervisor.engine import fuse_shell

pytestmark = [pytest.mark.app, pytest.mark.places(places.FUSE)]

HEAD = """if True:
    import ctypes, errno, os, stat, sys
    libc = ctypes.CDLL(None, use_errno=True)
    W, O, P = (os.fsencode(path) for path in sys.argv[1:4])
    BIND, MOVE, REMOUNT, RDONLY, DETACH = 4096, 8192, 32, 1, 2
    said = []

    def call(function, *arguments):
        if function(*arguments) < 0:
            raise OSError(ctypes.get_errno(), "")

    def bind(source, target, flags=BIND):
        call(libc.mount, source, target, None, ctypes.c_ulong(flags), None)

    def umount(target, flags=0):
        call(libc.umount2, target, flags)

    def readonly(target):
        bind(b"none", target, BIND | REMOUNT | RDONLY)

    def put(path, text, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
        fd = os.open(path, flags, 0o644)
        os.write(fd, text)
        os.close(fd)

    def get(path):
        with open(path, "rb") as file:
            return file.read()

    def names(path):
        return sorted(os.listdir(path))

    def same(one, other):
        a, b = os.lstat(one), os.lstat(other)
        return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)

    def place():
        \"\"\"Where the working directory is, by all who know.\"\"\"
        links = os.getcwdb(), os.readlink(b"/proc/self/cwd"), os.readlink(b"/proc/%d/cwd" % os.getpid())
        return [shown(link) for link in links]

    def shown(path):
        for name, letter in (W, b"W"), (O, b"O"), (P, b"P"), (os.path.dirname(W), b"."):
            if path == name or path.startswith(name + b"/"):
                return letter + path[len(name):]
        return path

    def info(target):
        \"\"\"The root, whether read-only, and whether the device is that of the whole.\"\"\"
        lines = [line.split() for line in open("/proc/self/mountinfo", "rb")]
        whole = next(line for line in lines if line[4] == W)
        mine = next((line for line in reversed(lines) if line[4] == target), None)
        return mine and (mine[3], mine[5][:2], mine[2] == whole[2], mine[-3:-1] == whole[-3:-1])

    def say(label, function, *arguments):
        try:
            said.append((label, function(*arguments)))
        except OSError as error:
            said.append((label, errno.errorcode[error.errno]))
"""
TREE = """
    os.makedirs(W + b"/sub/d")
    put(W + b"/sub/f", b"one")
    put(W + b"/sub/d/g", b"two")
    put(W + b"/x", b"three")
"""

SEVERAL = """
    say("bind", bind, W + b"/sub", O)
    say("same directory", same, W + b"/sub", O)
    say("same file", same, W + b"/sub/f", O + b"/f")
    say("names", names, O)
    say("info", info, O)
    say("write there", put, O + b"/new", b"new")
    say("read here", get, W + b"/sub/new")
    say("append here", put, W + b"/sub/new", b"er", os.O_WRONLY | os.O_APPEND)
    say("read there", get, O + b"/new")
    say("rename across", os.rename, O + b"/f", W + b"/y")
    say("rename of nothing", os.rename, O + b"/nothing", W + b"/y")
    say("rename across", os.rename, W + b"/x", O + b"/y")
    say("link across", os.link, O + b"/f", W + b"/y")
    say("rename within", os.rename, O + b"/new", O + b"/d/new")
    say("link within", os.link, O + b"/d/new", O + b"/linked")
    say("rename of the mount", os.rename, O, P + b"2")
    say("below", names, W + b"/sub/d")
    os.chdir(O + b"/d")
    say("place", place)
    say("busy", umount, O)
    say("whole is free, but for the bind", same, b"g", W + b"/sub/d/g")
    os.chdir(b"..")
    say("place", place)
    os.chdir(b"..")
    say("place", place)
    os.chdir(W + b"/sub/d")
    say("place", place)
    os.chdir(b"..")
    say("place", place)
    os.chdir(b"/")
    fd = os.open(O + b"/f", os.O_RDONLY)
    say("link of a descriptor", lambda: shown(os.readlink(b"/proc/self/fd/%d" % fd)))
    say("busy", umount, O)
    os.close(fd)
    fd = os.open(O + b"/d", os.O_RDONLY | os.O_DIRECTORY)
    say("link of a descriptor", lambda: shown(os.readlink(b"/proc/self/fd/%d" % fd)))
    say("by descriptor", lambda: os.close(os.open("g", os.O_RDONLY, dir_fd=fd)))
    os.close(fd)
    fd = os.open(W + b"/sub/d", os.O_RDONLY | os.O_DIRECTORY)
    say("link of a descriptor", lambda: shown(os.readlink(b"/proc/self/fd/%d" % fd)))
    os.close(fd)
    say("renamed", os.rename, W + b"/sub", W + b"/moved")
    say("info", info, O)
    say("goes on", put, O + b"/later", b"later")
    say("there", get, W + b"/moved/later")
    say("names", names, O)
    say("move", bind, O, P, BIND * 2)
    say("gone", names, O)
    say("moved", names, P)
    say("info", info, P)
    say("no mount", umount, O)
    say("umount", umount, P)
    say("no mount", umount, P)
    say("a file", bind, W + b"/x", P + b"/file")
    say("same file", same, W + b"/x", P + b"/file")
    say("info", info, P + b"/file")
    say("write", put, P + b"/file", b"four")
    say("read", get, W + b"/x")
    say("remove the mount", os.unlink, P + b"/file")
    say("no directory", bind, W + b"/x", O)
    say("a directory", bind, W + b"/moved", P + b"/file")
    say("umount", umount, P + b"/file")
    say("read", get, P + b"/file")
"""

READONLY = """
    say("bind", bind, W + b"/sub", O)
    say("readonly", readonly, O)
    say("info", info, O)
    say("write", put, O + b"/f", b"x")
    say("make", put, O + b"/n", b"x")
    say("mkdir", os.mkdir, O + b"/n")
    say("unlink", os.unlink, O + b"/f")
    say("rename", os.rename, O + b"/f", O + b"/n")
    say("rename across", os.rename, O + b"/f", W + b"/n")
    say("chmod", os.chmod, O + b"/f", 0o600)
    say("times", os.utime, O + b"/f", (1, 1))
    say("access", os.access, O + b"/f", os.W_OK)
    say("statvfs", lambda: os.statvfs(O).f_flag & 1)
    say("statvfs", lambda: os.statvfs(W).f_flag & 1)
    say("read", get, O + b"/f")
    fd = os.open(O + b"/d", os.O_RDONLY | os.O_DIRECTORY)
    say("by descriptor", lambda: os.unlink("g", dir_fd=fd))
    os.close(fd)
    fd = os.open(W + b"/sub/d", os.O_RDONLY | os.O_DIRECTORY)
    say("by descriptor", lambda: os.unlink("g", dir_fd=fd))
    os.close(fd)
    say("write", put, W + b"/sub/f", b"changed")
    say("read", get, O + b"/f")
    os.chdir(O + b"/d")
    say("make here", put, b"n", b"x")
    os.chdir(W + b"/sub/d")
    say("make here", put, b"n", b"x")
    os.chdir(b"/")
    say("umount", umount, O)
"""

ORDER = """
    say("bind", bind, W + b"/sub", O)
    say("again", bind, O + b"/d", P)
    say("info", info, P)
    say("up", lambda: (os.chdir(P), os.chdir(b".."), shown(os.getcwdb()))[-1])
    os.chdir(b"/")
    os.rename(W + b"/sub/f", W + b"/f")
    os.unlink(W + b"/sub/d/g")
    say("remove", os.rmdir, W + b"/sub/d")
    say("empty", names, P)
    say("links", lambda: os.stat(P).st_nlink)
    say("make", os.mkdir, P + b"/n")
    say("make", put, P + b"/n", b"x")
    say("info", info, P)
    say("umount", umount, P)
    say("make", put, O + b"/kept", b"kept")
    say("umount the whole", umount, W)
    say("empty", names, W)
    say("names", names, O)
    say("make", put, O + b"/more", b"more")
    say("read", get, O + b"/kept")
    say("bind", bind, O, P)
    os.chdir(O)
    say("busy", umount, O)
    say("lazily", umount, O, DETACH)
    say("make here", put, b"late", b"late")
    say("remove here", os.unlink, b"more")
    say("mkdir here", os.mkdir, b"made")
    os.chdir(b"/")
    say("names", names, P)
    say("read", get, P + b"/late")
    say("umount", umount, P)
    say("empty", names, P)
"""


RENAMED = """
    say("bind", bind, W + b"/sub", O)
    say("bind below", bind, W + b"/sub/d", P)
    os.chdir(O + b"/d")
    os.rename(W + b"/sub", W + b"/moved")
    say("place", place)
    say("up", lambda: (os.chdir(b".."), place())[-1])
    say("here", get, b"f")
    os.mkdir(W + b"/sub")
    put(W + b"/sub/f", b"another")
    say("place", place)
    for path in (P, W + b"/sub", W + b"/moved/d", O + b"/d", W):
        os.chdir(path)
        say("place", place)
        say("names", names, b".")
    fd = os.open(O + b"/d", os.O_RDONLY | os.O_DIRECTORY)
    os.mkdir(W + b"/deep")
    os.rename(W + b"/moved", W + b"/deep/er")
    say("link of a descriptor", lambda: shown(os.readlink(b"/proc/self/fd/%d" % fd)))
    say("busy", umount, O)
    os.close(fd)
    os.chdir(O + b"/d")
    os.rename(W + b"/deep", W + b"/again")
    say("umount the whole", umount, W)
    say("place", place)
    say("here", get, b"g")
    say("up", get, b"../f")
    say("up", lambda: (os.chdir(b".."), place())[-1])
    say("make", put, b"new", b"new")
    say("bind of the bind", bind, b"d", W)
    os.chdir(W)
    say("place", lambda: shown(os.getcwdb()))
    say("here", get, b"g")
    os.chdir(b"/")
    for path in (W, P, O):
        say("umount", umount, path)
"""


def told(box: Box, where: str, program: str, kind: str) -> Any:
    """What a program says natively over a tmpfs, or in a view over a server by wire."""
    top = box.directory(where)
    for name in ("W", "O", "P", "source"):
        box.directory(f"{where}/{name}")
    (top / "P" / "file").write_text("beneath")
    box.give(top)
    text = HEAD + program + "    print(said)"
    arguments = ["/usr/bin/python3", "-c", text, *(top / name for name in "WOP")]
    if where == "native":
        alone = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
        script = 'mount -t tmpfs -o mode=755 tmpfs "$4"; exec "$@"'
        words = [*alone, "sh", "-ec", script, "sh", *arguments]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        out = done.stdout
    else:
        script = f'vumount -t {kind} -o transport=wire $0 "$4"; exec "$@"'
        out = box.view(["sh", "-ec", script, top / "source", *arguments], timeout=30).check().stdout
    return ast.literal_eval(out)


@pytest.mark.parametrize(
    "program", [SEVERAL, READONLY, ORDER, RENAMED], ids=["several", "readonly", "order", "renamed"]
)
def test_as_natively(box: Box, program: str) -> None:
    """On a tmpfs and on a server by wire the same calls give the same results."""
    native, view = (told(box, where, TREE + program, "real") for where in ("native", "view"))
    assert view == native
    assert len(native) > 20


def shell(box: Box, script: str, *arguments: object) -> list[str]:
    """The lines that a script prints in a view; it must succeed."""
    words = ["sh", "-ec", script, "sh", *map(str, arguments)]
    return box.view(words, timeout=30).check().stdout.splitlines()


REMOVED = """
    put(W + b"/f", b"data", os.O_WRONLY | os.O_CREAT)
    for number in range(2):
        put(O + b"/%d" % number, b"beneath")
        say("bind", bind, W + b"/f", O + b"/%d" % number)
    say("remove", os.unlink, W + b"/f")
    say("gone", get, W + b"/f")
    say("names", names, W)
    say("stat", lambda: (os.stat(O + b"/0").st_size, os.stat(O + b"/0").st_nlink))
    say("read", get, O + b"/0")
    say("write", put, O + b"/0", b"other and longer", os.O_WRONLY | os.O_TRUNC)
    say("read", get, O + b"/1")
    say("stat", lambda: os.stat(O + b"/1").st_size)
    say("append", put, O + b"/1", b"!", os.O_WRONLY | os.O_APPEND)
    say("truncate", os.truncate, O + b"/0", 3)
    say("time", os.utime, O + b"/0", (10**9, 10**9))
    say("stat", lambda: (os.stat(O + b"/0").st_size, os.stat(O + b"/0").st_mtime))
    say("umount", umount, O + b"/0")
    say("read", get, O + b"/1")
    say("umount", umount, O + b"/1")
    say("nothing", get, O + b"/1")
"""


def test_a_file_that_has_been_removed(box: Box) -> None:
    """It can be opened by its binds, over a server that knows it by more than its path: as on a tmpfs."""
    shy = fuse_shell.build_server(box.scratch / "shy", fuse_shell.HERE / "fuse_shy.c")
    native, view = (told(box, where, REMOVED, f"fuse.{shy}") for where in ("native", "view"))
    assert view == native
    assert len(native) > 15


def test_it_serves_until_the_last_has_gone(box: Box) -> None:
    """Also what came along with another bind, and what a nested view shows."""
    source, mnt, other = (box.directory(name) for name in ("source", "mnt", "other"))
    for name in ("w", "o"):
        box.directory(f"mnt/{name}")
    (source / "sub").mkdir()
    (source / "sub" / "f").write_text("served\n")
    box.give(source)
    (box.scratch / "inner.toml").write_text(
        f"""
        [[mount]]
        type = "bind"
        source = "{mnt}/w/sub"
        target = "{other}"
        """
    )
    script = """
        vumount -t real -o transport=wire $1 $2/w; vumount -B $2/w/sub $2/o; vumount -R $2 $3
        vuumount $2/o; vuumount $2/w; ls $2/w; cat $3/w/sub/f; echo late >$3/o/late
        sh -c 'cd $0/w; vuumount $0 2>&1' $3 || true
        vuumount $3; cat $1/sub/late
        vumount -t real -o transport=wire $1 $2/w
        vuos-run --view=$4 -- sh -ec '
            echo nested; vuumount $2/w; ls $2/w; cat $3/f; echo >$3/there; read x <$5' sh "$@" &
        until test -e $2/w/sub/there; do sleep 0.01; done
        vuumount $2/w; ls $2/w; echo >$5; wait $!
        until rm $1/sub/there; do sleep 0.01; done
    """
    fifo = box.scratch / "go"
    os.mkfifo(fifo)
    box.give(box.scratch)
    said = shell(box, script, source, mnt, other, box.scratch / "inner.toml", fifo)
    assert said[0] == "served"
    assert said[1].startswith(f"vuumount: {other} is in use: sh (")
    assert said[2:] == ["late", "nested", "served"]


@pytest.mark.places(places.NO_FUSE)
def test_a_server_that_dies(box: Box) -> None:
    """All are ENOTCONN, and go in any order."""
    source, mnt = box.directory("source"), box.directory("mnt")
    for name in ("w", "o"):
        box.directory(f"mnt/{name}")
    (source / "sub").mkdir()
    (source / "sub" / "f").write_text("served\n")
    box.give(source)
    script = """
        bindfs -f $1 $2/w 2>/dev/null & server=$!
        until test -e $2/w/sub; do sleep 0.01; done
        vumount -B $2/w/sub $2/o; cat $2/o/f
        kill -KILL $server; wait $server || true
        LC_ALL=C ls $2/o/f 2>&1 || LC_ALL=C ls $2/w 2>&1 || true
        vuumount $2/w; LC_ALL=C ls $2/o 2>&1 || true
        vuumount $2/o; ls $2/o $2/w
    """
    said = shell(box, script, source, mnt)
    assert said[0] == "served"
    assert len([line for line in said if line.endswith("endpoint is not connected")]) == 3


def test_who_forks_meanwhile(box: Box) -> None:
    """A process that stands there, and hands that on to a child, and ends, is never missed."""
    source, mnt = box.directory("source"), box.directory("mnt")
    for name in ("w", "o"):
        box.directory(f"mnt/{name}")
    (source / "sub").mkdir()
    box.give(source)
    program = """if True:
        import os, sys
        os.chdir(sys.argv[1])
        open(sys.argv[2] + "/there", "w")
        while not os.path.exists(sys.argv[2] + "/enough"):
            if os.fork():
                os._exit(0)
    """
    script = """
        vumount -t real -o transport=wire $1 $2/w; vumount -B $2/w/sub $2/o
        /usr/bin/python3 -c "$3" $2/o $4 &
        until test -e $4/there; do sleep 0.01; done
        for i in 1 2 3 4 5 6 7 8 9 10; do vuumount $2/o 2>/dev/null && exit 1; done
        touch $4/enough
        until vuumount $2/o 2>/dev/null; do sleep 0.01; done
        vuumount $2/w; echo gone
    """
    assert shell(box, script, source, mnt, program, box.directory("here")) == ["gone"]
