"""What a mount gives by the kernel's FUSE it gives by wire, and both what the server's file system does."""

import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from harness import places
from harness.box import Box
from supervisor.engine import fuse_shell

pytestmark = [pytest.mark.app, pytest.mark.places(places.FUSE)]


@pytest.fixture(params=["kernel", "wire"])
def transport(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def mnt(box: Box) -> Path:
    return box.directory("mnt")


def in_mount(box: Box, mnt: Path, transport: str, program: str) -> Any:
    """What a Python program prints, as JSON, whose `root` is a mount of box.scratch/source."""
    box.give(box.scratch)
    script = f"""
        vumount -t real -o transport={transport} $1 $2
        /usr/bin/python3 -c "$3" $2
        vuumount $2
    """
    head = "import errno, json, os, stat, sys\nroot = sys.argv[1]\n"
    words = ["sh", "-ec", script, "sh", box.scratch / "source", mnt, head + program]
    return json.loads(box.view(words, timeout=60).check().stdout)


def test_path_descriptors(box: Box, mnt: Path, transport: str) -> None:
    """O_PATH: of what no path of the caller's leads to, by the kernel's transport."""
    source = box.directory("source")
    (source / "file").write_text("content")
    (source / "link").symlink_to("file")
    (source / "directory").mkdir()
    told = in_mount(
        box,
        mnt,
        transport,
        """if True:
        import fcntl
        said = {}
        opened = ("file", 0), ("link", os.O_NOFOLLOW), ("directory", 0), ("directory", os.O_DIRECTORY)
        for name, flags in opened:
            fd = os.open(root + "/" + name, os.O_PATH | flags)
            there = fcntl.fcntl(fd, fcntl.F_GETFL) & ~0o100000
            said[name] = [stat.filemode(os.fstat(fd).st_mode)[0], there == os.O_PATH | flags]
            said[name].append(os.path.samestat(os.fstat(fd), os.lstat(root + "/" + name)))
            if name == "file":
                said[name].append(open(f"/proc/self/fd/{fd}").read())
            os.close(fd)
        try:
            os.open(root + "/file", os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            said["error"] = errno.errorcode[error.errno]
        print(json.dumps(said))""",
    )
    assert told == {
        "file": ["-", True, True, "content"],
        "link": ["l", True, True],
        "directory": ["d", True, True],
        "error": "ENOTDIR",
    }


def shell(box: Box, script: str, *arguments: object) -> list[str]:
    """The lines that a script prints in a view; it must succeed."""
    box.give(box.scratch)
    words = ["sh", "-ec", script, "sh", *map(str, arguments)]
    return box.view(words, timeout=60).check().stdout.splitlines()


def test_stacked_and_unmounted_in_turn(box: Box, mnt: Path, transport: str) -> None:
    for name in ("one", "two", "three"):
        (box.directory(name) / name).write_text("")
    script = """
        for name in one two three; do vumount -t real -o transport=$3 $1/$name $2; done
        ls $2; findmnt -n -o SOURCE $2 | wc -l
        for name in three two one; do vuumount $2; ls $2; done
        vuumount $2 2>&1 || true
    """
    said = shell(box, script, box.scratch, mnt, transport)
    assert said == ["three", "3", "two", "one", f"vuumount: {mnt} is not mounted"]


def test_in_use_and_lazily_unmounted(box: Box, mnt: Path, transport: str) -> None:
    """By a descriptor, by who stands in it, and by a mount in it."""
    source = box.directory("source")
    (source / "file").write_text("kept\n")
    (source / "inner").mkdir()
    script = """
        vumount -t real -o transport=$3 $1 $2
        exec 3<$2/file; vuumount $2 2>/dev/null || echo open; exec 3<&-
        (cd $2/inner; vuumount $2 2>/dev/null || echo stood in)
        vumount -t memory none $2/inner; vuumount $2 2>/dev/null || echo mounted in; vuumount $2/inner
        exec 3<$2/file; vuumount -l $2; ls $2; cat <&3
    """
    assert shell(box, script, source, mnt, transport) == ["open", "stood in", "mounted in", "kept"]


def test_remounted(box: Box, mnt: Path, transport: str) -> None:
    """Read-only and back; the options are told."""
    source = box.directory("source")
    script = """
        vumount -t real -o transport=$3,nosuid $1 $2
        echo before >$2/file
        vumount -o remount,ro,noatime none $2
        echo no 2>/dev/null >$2/file || echo read-only
        touch $2/new 2>/dev/null || echo not made
        cat $2/file; findmnt -n -o OPTIONS $2 | tr , '\\n' | grep -x -e ro -e noatime
        vumount -o remount,rw none $2
        echo after >$2/file; cat $2/file; findmnt -n -o OPTIONS $2 | tr , '\\n' | grep -x -e rw
        vuumount $2; cat $1/file
    """
    said = shell(box, script, source, mnt, transport)
    assert said[:3] == ["read-only", "not made", "before"]
    assert set(said[3:5]) == {"ro", "noatime"}
    assert said[5:] == ["after", "rw", "after"]


def test_moved(box: Box, mnt: Path, transport: str) -> None:
    """What is cached, asked for later, written and unmounted at the new place."""
    source, other = box.directory("source"), box.directory("other")
    (source / "seen").write_text("seen\n")
    (source / "later").write_text("later\n")
    script = """
        vumount -t real -o transport=$4 $1 $2; cat $2/seen
        vumount -M $2 $3; ls $2; cat $3/seen $3/later; echo written >$3/new
        vuumount $2 2>/dev/null || echo not there
        vuumount $3; ls $3; cat $1/new
    """
    said = shell(box, script, source, mnt, other, transport)
    assert said == ["seen", "seen", "later", "not there", "written"]


def test_what_is_told_of_it(box: Box, mnt: Path, transport: str) -> None:
    """df, stat -f and the tables of mounts."""
    box.directory("source")
    script = """
        vumount -t real -o ro,transport=$3 $1 $2
        df --output=target $2 | tail -1
        stat -f -c %T $2
        awk -v at=$2 '$2 == at { print $1, $3 }' /proc/self/mounts
        awk -v at=$2 '$5 == at { print $5 }' /proc/self/mountinfo
        test $(stat -f -c %b $2) = $(stat -f -c %b $1) && echo same size
    """
    source = box.scratch / "source"
    said = shell(box, script, source, mnt, transport)
    assert said == [str(mnt), "fuseblk", f"{source} fuse.real", str(mnt), "same size"]


def test_a_missing_target_is_made(box: Box, mnt: Path, transport: str) -> None:
    """With -o create; without it a sentence. What has been made for nothing goes again."""
    source = box.directory("source")
    (source / "file").write_text("there\n")
    script = """
        vumount -t real -o transport=$3 $1 $2/a/b 2>&1 || true
        vumount -t real -o create,transport=$3 $1 $2/a/b; cat $2/a/b/file; vuumount $2/a/b
        vumount -t real -o transport=$3,create $1/nosuch $2/c/d 2>/dev/null || ls $2
        vumount -B -o create $1/file $2/bound; cat $2/bound; vuumount $2/bound
    """
    said = shell(box, script, source, mnt, transport)
    hint = "No such file or directory (vumount -o create makes it)"
    assert said == [f"vumount: {mnt}/a/b: {hint}", "there", "a", "there"]


def test_written_at_the_end_of_the_session(box: Box, mnt: Path, transport: str) -> None:
    source = box.directory("source")
    shell(box, "vumount -t real -o transport=$3 $1 $2; echo at the end >$2/file", source, mnt, transport)
    assert (source / "file").read_text() == "at the end\n"


def test_images_in_images(box: Box, mnt: Path, transport: str) -> None:
    """A squashfs in an ext2 in a squashfs."""
    for number, name in enumerate(("innermost", "middle", "outer")):
        tree = box.directory(f"tree-{name}")
        if number:
            os.rename(box.scratch / f"image-{number - 1}", tree / "image")
        else:
            (tree / "file").write_text("innermost\n")
        image = box.scratch / f"image-{number}"
        if number == 1:
            subprocess.run(["truncate", "-s", "4M", image], check=True)
            words = ["mke2fs", "-q", "-t", "ext2", "-d", tree, image]
        else:
            words = ["mksquashfs", tree, image, "-quiet", "-no-progress"]
        subprocess.run(words, check=True, capture_output=True)
    script = """
        a=$2/a b=$2/b c=$2/c t=transport=$3
        vumount -t squashfs -o create,$t $1/image-2 $a
        vumount -t ext2 -o create,ro,$t $a/image $b
        vumount -t squashfs -o create,$t $b/image $c
        cat $c/file
        vuumount $b 2>/dev/null || echo in use
        vuumount $c; vuumount $b; vuumount $a
    """
    assert shell(box, script, box.scratch, mnt, transport) == ["innermost", "in use"]


KINDS = {
    "raw": "$bin/raw_fuse $mnt &",
    "libfuse 2": "bindfs $source $mnt",
    "libfuse 3": "$bin/mirror $source $mnt -f &",
    "pyfuse3": "$python $source/server.py $mnt &",
}
"""Servers as they are started by hand, in a view: each opens /dev/fuse and mounts by itself."""

PYFUSE3 = """
import errno, os, stat, sys
import pyfuse3, trio

class One(pyfuse3.Operations):
    data = b"served\\n"

    async def getattr(self, inode, ctx=None):
        entry = pyfuse3.EntryAttributes()
        entry.st_ino, entry.st_uid, entry.st_gid = inode, os.getuid(), os.getgid()
        entry.st_mode = stat.S_IFDIR | 0o755 if inode == 1 else stat.S_IFREG | 0o644
        entry.st_size = 0 if inode == 1 else len(self.data)
        return entry

    async def lookup(self, parent, name, ctx=None):
        if name != b"file":
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(2)

    async def opendir(self, inode, ctx):
        return inode

    async def readdir(self, inode, start, token):
        if start == 0:
            pyfuse3.readdir_reply(token, b"file", await self.getattr(2), 1)

    async def setattr(self, inode, attr, fields, handle, ctx):
        if fields.update_size:
            self.data = self.data[: attr.st_size].ljust(attr.st_size, b"\\0")
        return await self.getattr(inode)

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=inode)

    async def read(self, handle, offset, size):
        return self.data[offset : offset + size]

    async def write(self, handle, offset, data):
        self.data = self.data[:offset] + data + self.data[offset + len(data) :]
        return len(data)

pyfuse3.init(One(), sys.argv[1], {"fsname=one"})
trio.run(pyfuse3.main)
pyfuse3.close()
"""


@pytest.mark.places(places.FUSE, places.NO_FUSE)
@pytest.mark.only("user", "me")
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_of_each_kind(box: Box, mnt: Path, kind: str) -> None:
    """By the kernel's FUSE and, where there is no /dev/fuse, by wire."""
    source = box.directory("source")
    (source / "file").write_text("served\n")
    (source / "server.py").write_text(PYFUSE3)
    box.programs.probe("raw_fuse")
    if not (box.programs.directory / "mirror").exists():
        fuse_shell.build_server(box.programs.directory / "mirror", fuse_shell.HERE / "fuse_mirror.c")
    script = f"""
        source=$1 mnt=$2 bin=$3 python=$4
        {KINDS[kind]}
        until test -e $mnt/file; do sleep 0.01; done
        grep -c . $mnt/file; echo written >$mnt/file; cat $mnt/file; ls $mnt | grep file
        test -e $mnt/other || echo none
        vuumount $mnt; ls $mnt
    """
    python = box.installation.python
    said = shell(box, script, source, mnt, box.programs.directory, python)
    assert said == ["1", "written", "file", "none"]


def test_protected_links(box: Box, mnt: Path, transport: str) -> None:
    """Also in a view that began without entries: fs.protected_hardlinks and protected_symlinks, proc(5)."""
    source = box.directory("source")
    (source / "sub").mkdir()
    for name in ("file", "target"):
        (source / name).write_text("somebody else's")
        os.chown(source / name, 0, 0)
    (source / "link").symlink_to("target")
    os.lchown(source / "link", 4321, 4321)
    os.chown(source, 0, 0)
    source.chmod(0o1777)
    (source / "sub").chmod(0o777)
    program = """if True:
        import errno, os, sys
        if not os.geteuid():
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        for call in "os.link('file', 'sub/new')", "os.stat('link')":
            try:
                eval(call)
                print("fine")
            except OSError as error:
                print(errno.errorcode[error.errno])"""
    script = f"""
        vumount -t real -o transport={transport} $1 $2
        (cd $2; /usr/bin/python3 -c "$3")
        vuumount $2
    """
    said = box.view(["sh", "-ec", script, "sh", source, mnt, program], timeout=60).check().stdout.split()

    def expected(name: str, error: str) -> str:
        return error if int(Path(f"/proc/sys/fs/protected_{name}").read_text()) else "fine"

    # Of an ordinary user's namespace the kernel's transport mounts, and there root's file has no owner.
    there = transport == "wire" or not box.identity.uid
    hardlink = expected("hardlinks", "EPERM") if there else "EOVERFLOW"
    assert said == [hardlink, expected("symlinks", "EACCES")]


def test_a_mount_is_for_all_whom_its_modes_let(box: Box, mnt: Path, transport: str) -> None:
    """Natively a FUSE mount would be its starter's alone."""
    source = box.directory("source")
    (source / "open").write_text("open\n")
    (source / "closed").write_text("closed\n")
    (source / "closed").chmod(0o600)
    box.give(box.scratch)
    image = box.scratch / "image"
    subprocess.run(["truncate", "-s", "4M", image], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext2", "-d", source, image], check=True, capture_output=True)
    os.chown(image, box.identity.uid, box.identity.gid)
    script = f"""
        as=
        test $(id -u) = 0 && as="setpriv --reuid=65534 --regid=65534 --clear-groups"
        look() {{
            vumount -t $1 -o transport={transport} $2 $3; $as cat $3/open $3/closed || :; vuumount $3
        }}
        look real $1 $2; look ext4 $3 $2
    """
    result = box.view(["sh", "-ec", script, "sh", source, mnt, image], timeout=60).check()
    expected = ["open", "open"] if not box.identity.uid else ["open", "closed"] * 2
    assert result.stdout.splitlines() == expected
    assert result.stderr.count("closed: Permission denied") == (2 if not box.identity.uid else 0)


def test_a_readonly_server_that_hangs(box: Box, mnt: Path, transport: str) -> None:
    """It has nothing to write, so nobody waits for its end."""
    source = box.directory("source")
    mirror = fuse_shell.build_server(box.scratch / "mirror", fuse_shell.HERE / "fuse_mirror.c")
    box.give(box.scratch)
    script = f"""
        vumount -t fuse.$1 -o ro,transport={transport} $2 $3
        ls $3; echo there; read x
        vuumount $3; echo gone; read x
    """
    process = box.popen(
        [*box.vuos_run(None), "sh", "-ec", script, "sh", mirror, source, mnt],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == b"there\n"
    server = server_of(mirror)
    os.kill(server, signal.SIGSTOP)
    goes_on = threading.Timer(12, os.kill, (server, signal.SIGCONT))  # so that a wait ends, and is seen
    goes_on.start()
    try:
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"gone\n"
        assert goes_on.is_alive()
    finally:
        goes_on.cancel()
        os.kill(server, signal.SIGCONT)
    process.stdin.close()
    process.wait(20)


def server_of(program: Path) -> int:
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path("/proc", entry, "exe").readlink() == program:
                return int(entry)
        except OSError:
            continue
    raise AssertionError("there is no server")
