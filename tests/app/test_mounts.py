"""File systems mounted while a view runs, by real FUSE servers of Debian's: as VUOS's users do it, by the
ordinary commands, from outside.
"""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from harness import places, processes
from harness.box import Box

pytestmark = [pytest.mark.app, pytest.mark.places(places.FUSE)]


@pytest.fixture
def image(box: Box) -> Path:
    """An ext2 image with a file."""
    tree = box.directory("tree")
    (tree / "file").write_text("in the image\n")
    box.give(tree)
    path = box.scratch / "image"
    subprocess.run(["truncate", "-s", "4M", path], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext2", "-d", tree, path], check=True, capture_output=True)
    os.chown(path, box.identity.uid, box.identity.gid)
    return path


@pytest.fixture
def mnt(box: Box) -> Path:
    return box.directory("mnt")


def shell(box: Box, script: str, *arguments: object, profile: str | None = None) -> list[str]:
    """The lines that a script prints in a view; it must succeed."""
    words = ["sh", "-ec", script, "sh", *map(str, arguments)]
    return box.view(words, profile, timeout=30).check().stdout.splitlines()


def test_vuos_readme_fuse_ext2(box: Box, image: Path, mnt: Path) -> None:
    script = """
        vu_insmod fuse
        ls $2
        echo --; fuse-ext2 -o ro $1 $2
        ls $2; cat $2/file
        echo --; vuumount $2
        ls $2
    """
    assert shell(box, script, image, mnt) == ["--", "file", "lost+found", "in the image", "--"]


def test_vuos_readme_vufuse(box: Box, image: Path, mnt: Path) -> None:
    script = """
        vu_insmod vufuse
        vumount -t fuse.fuse-ext2 -o ro $1 $2
        cat $2/file
        vuumount $2
        ls $2
    """
    assert shell(box, script, image, mnt) == ["in the image"]


def test_seen_by_the_view_and_by_nobody_else(box: Box, image: Path, mnt: Path) -> None:
    fifo = box.scratch / "go"
    os.mkfifo(fifo)
    box.give(box.scratch)
    script = """
        (read x <$3; cat $2/file) &
        fuse-ext2 -o ro $1 $2
        mount_point=$(findmnt -n -o TARGET $2)
        echo $mount_point
        ls /proc/1/root$2 2>/dev/null || ls $2 >/dev/null
        echo >$3; wait %1
    """
    assert shell(box, script, image, mnt, fifo) == [str(mnt), "in the image"]
    assert os.listdir(mnt) == []


def test_an_unmodified_server_is_unmounted_by_the_ordinary_commands(box: Box, mnt: Path) -> None:
    tree = box.directory("source")
    (tree / "file").write_text("bound\n")
    script = """
        bindfs $1 $2; cat $2/file; umount $2; ls $2
        bindfs $1 $2; cat $2/file; fusermount3 -u $2; ls $2
        bindfs $1 $2; cd $2; fusermount3 -u $2 2>/dev/null || echo busy; cd /
        fusermount3 -u -z $2; ls $2
    """
    assert shell(box, script, tree, mnt) == ["bound", "bound", "busy"]


def test_what_is_on_a_mount_can_be_run_mapped_and_written(box: Box, mnt: Path) -> None:
    tree = box.directory("source")
    script = """
        bindfs $1 $2
        cp /bin/true $2/true; $2/true && echo runs
        python3 -c 'if True:
            import mmap, sys
            file = open(sys.argv[1], "rb")
            print(mmap.mmap(file.fileno(), 4, prot=mmap.PROT_READ)[:])' $2/true
        mkdir -p $2/a/b; echo x >$2/a/b/c; mv $2/a/b/c $2/a/d; rm -r $2/a/b
        cd $2/a; pwd; cat d; stat -c %n $2/a/d
        cd /; vuumount $2; cat $1/a/d
    """.replace("python3", "/usr/bin/python3")
    expected = ["runs", r"b'\x7fELF'", f"{mnt}/a", "x", f"{mnt}/a/d", "x"]
    assert shell(box, script, tree, mnt) == expected


def test_mounts_stack_and_go_in_the_order_in_which_they_came(box: Box, mnt: Path) -> None:
    for name in ("one", "two"):
        (box.directory(name) / name).write_text("")
    script = """
        vumount -t fuse.bindfs $1/one $2; vumount -t fuse.bindfs $1/two $2; ls $2
        vuumount $2; ls $2; vuumount $2; ls $2
    """
    assert shell(box, script, box.scratch, mnt) == ["two", "one"]


def test_in_use(box: Box, mnt: Path) -> None:
    tree = box.directory("source")
    (tree / "file").write_text("kept\n")
    script = """
        vumount -t fuse.bindfs $1 $2
        exec 3<$2/file
        vuumount $2 2>&1 && exit 1
        vuumount -l $2; ls $2; cat <&3
    """
    said, kept = shell(box, script, tree, mnt)
    assert said.startswith(f"vuumount: {mnt} is in use: sh (")
    assert kept == "kept"


def test_a_server_that_dies(box: Box, mnt: Path) -> None:
    script = """
        bindfs -f $1 $2 & until test -e $2/file; do :; done
        kill -9 $!; wait $! || true
        cat $2/file 2>&1 || true
        vuumount $2; ls $2
    """
    tree = box.directory("source")
    (tree / "file").write_text("")
    assert shell(box, script, tree, mnt) == [f"cat: {mnt}/file: Transport endpoint is not connected"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("vumount -t fuse.fuse-ext2 -o ro /etc/passwd {mnt}", "/etc/passwd"),
        ("vumount -t fuse.nosuch x {mnt}", "type fuse.nosuch needs the program nosuch"),
        ("vumount -t fuse.bindfs /nosuch {mnt}", "/nosuch: No such file or directory"),
        ("vumount -t fuse.bindfs /usr {mnt}/nosuch", "{mnt}/nosuch: No such file or directory"),
        ("vumount -t memry /usr {mnt}", 'no file system type "memry"; did you mean "memory"?'),
        ("vumount -t memory -o sise=3 none {mnt}", '"sise"'),
        ("vumount -t real /nosuch {mnt}", "/nosuch: No such file or directory"),
        ("vumount -t ./nosuch.py:Class x {mnt}", "./nosuch.py: No such file or directory"),
        ("vumount -t fat /etc/passwd {mnt}", "/etc/passwd is no image of type fat"),
        ("vumount /usr {mnt}", "which type of file system? (-t TYPE)"),
        ("vuumount {mnt}", "{mnt} is not mounted"),
        ("vu_insmod fusee", "no module fusee; did you mean fuse?"),
        ("vu_rmmod fuse", "module fuse is not loaded"),
    ],
)
def test_refused_with_a_sentence(box: Box, mnt: Path, command: str, said: str) -> None:
    result = box.view(["sh", "-c", command.format(mnt=mnt)])
    assert result.returncode == 1
    assert said.format(mnt=mnt) in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not result.stdout


def test_types_of_ours(box: Box, mnt: Path) -> None:
    script = """
        vumount -t memory none $1; echo kept >$1/x; cat $1/x
        findmnt -n -o FSTYPE,SOURCE $1; df --output=target $1 | tail -1
        vuumount $1; ls $1
        vumount -t vufusereal -o ro /usr $1; test -d $1/bin; touch $1/x 2>/dev/null || echo read-only
        vuumount $1
    """
    lines = shell(box, script, mnt)
    assert [" ".join(line.split()) for line in lines] == ["kept", "fuse.memory none", str(mnt), "read-only"]


def test_a_plugin_by_the_path_that_the_view_shows(box: Box, mnt: Path) -> None:
    plugins, elsewhere = box.directory("plugins"), box.directory("elsewhere")
    (plugins / "hello.py").write_text("""
from vuosd.api import Filesystem, MemFile, Stat
class Hello(Filesystem):
    def lstat(self, path):
        return Stat.directory() if path == b"/" else Stat.file(6)
    def listdir(self, path):
        return [(b"hello", None)]
    def open(self, path, flags, mode):
        return MemFile(b"hello\\n")
""")
    script = """
        cd $1; vumount -t ./hello.py:Hello none $2; cat $2/hello; vuumount $2
        vumount --bind $1 $3; mv hello.py other.py; vumount -t $3/other.py:Hello none $2; cat $2/hello
    """
    assert shell(box, script, plugins, mnt, elsewhere) == ["hello", "hello"]


def test_a_program_by_its_path(box: Box, mnt: Path) -> None:
    """Whoever mounts it looks whether libfuse3.so stands in it."""
    source = box.directory("source")
    (source / "file").write_text("there\n")
    program = box.file("server", '#!/bin/sh\n# of libfuse3.so\nexec bindfs -f "$@"\n')
    program.chmod(0o755)
    assert shell(box, "vumount -t fuse.$1 $2 $3; cat $3/file", program, source, mnt) == ["there"]


def test_modules_as_in_vuos(box: Box, mnt: Path) -> None:
    script = """
        vu_insmod fuse vufuse; vu_lsmod
        vumount -t fuse.bindfs /usr $1
        vu_rmmod vufuse 2>&1 && exit 1
        vu_rmmod fuse; vu_insmod -p fuse; vu_rmmod fuse 2>&1 && exit 1
        vuumount $1; vu_rmmod vufuse; vu_lsmod
    """
    lines = shell(box, script, mnt)
    assert [line.partition(":")[0] for line in lines] == ["fuse", "vufuse", "vu_rmmod", "vu_rmmod", "fuse"]
    assert f"in use: {mnt}" in lines[2]


def test_servers_end_with_the_last_other_process(box: Box, mnt: Path) -> None:
    """The box finds out what is left behind."""
    assert shell(box, "bindfs $1 $2; ls $2", box.directory("source"), mnt) == []


def test_what_is_mounted_at_the_end_is_written(box: Box, image: Path, mnt: Path) -> None:
    script = "vumount -t fuse.fuse2fs -o fakeroot,uid=$(id -u),gid=$(id -g) $1 $2; echo new >$2/new"
    shell(box, script, image, mnt)
    said = subprocess.run(["debugfs", "-R", "cat new", image], capture_output=True, text=True, check=True)
    assert said.stdout == "new\n"


@pytest.mark.private
def test_in_a_session_of_its_own_daemon(box: Box, image: Path, mnt: Path) -> None:
    assert shell(box, "fuse-ext2 -o ro $1 $2; cat $2/file", image, mnt) == ["in the image"]


def test_readonly_where_the_source_is(box: Box, image: Path, mnt: Path) -> None:
    """A server of the view writes where the view may; one outside of it to a copy of what is copied on write,
    unless the view shows that read-only.
    """
    source = box.directory("source")
    places = {"ro": source, "cow": box.directory("cow")}
    for path in places.values():
        shutil.copy(image, path / "image")
        box.give(path)
    profile = "".join(f'[[mount]]\ntype = "{kind}"\ntarget = "{path}"\n' for kind, path in places.items())
    script = """
        for place in source cow; do
            vumount -t fuse.bindfs $1/$place $2
            touch $2/x 2>/dev/null && echo written
            vuumount $2
        done
        ls $1/cow
        for place in source cow; do
            vumount -t fuse.fuse-ext2 -o rw+ $1/$place/image $2
            findmnt -n -o OPTIONS $2 | cut -d , -f 1
            vuumount $2
        done
    """
    assert shell(box, script, box.scratch, mnt, profile=profile) == ["written", "image", "x", "ro", "rw"]
    for path in places.values():
        assert os.listdir(path) == ["image"]
        assert (path / "image").read_bytes() == image.read_bytes()


def test_a_server_of_a_directory_sees_the_view_below_its_mount(box: Box, mnt: Path) -> None:
    """It could show what the view hides, and would meet itself."""
    hidden = box.directory("source/hidden")
    (hidden / "file").write_text("hidden\n")
    (mnt / "beneath").touch()
    box.give(mnt)
    profile = f'[[mount]]\ntype = "hide"\ntarget = "{hidden}"\n'
    script = """
        for type in real fuse.bindfs; do
            vumount -t $type $1/source $2; ls $2; cat $2/hidden/file 2>/dev/null || echo hidden; vuumount $2
            vumount -t $type / $2; ls $2$1/source; ls $2$2; ls $2/proc/self/root$1/source; vuumount $2
        done
        ls $2
    """
    found = shell(box, script, box.scratch, mnt, profile=profile)
    assert found == ["hidden", "beneath", "hidden", "beneath"]


def test_bind_move_and_remount(box: Box, mnt: Path) -> None:
    tree = box.directory("source")
    (tree / "file").write_text("bound\n")
    other = box.directory("other")
    script = """
        vumount -B $1 $2; cat $2/file
        vumount -o remount,bind,ro none $2; touch $2/x 2>/dev/null || echo read-only
        vumount -M $2 $3; ls $2; cat $3/file
        vuumount $3; ls $3
    """
    assert shell(box, script, tree, mnt, other) == ["bound", "read-only", "bound"]


@pytest.mark.parametrize("mounted", ["vumount -B", "vumount -t fuse.bindfs"], ids=["bind", "server"])
@pytest.mark.places(places.FUSE, places.NO_FUSE)
def test_a_bind_of_what_is_renamed(box: Box, mnt: Path, mounted: str) -> None:
    """It holds the directory, and not its path; under enforcement too, where objects are judged by theirs."""
    tree = box.directory("source/tree")
    (tree / "file").write_text("bound\n")
    box.give(tree.parent)
    script = f"""
        {mounted} $1 $3
        vumount -B $3/tree $2; mv $3/tree $3/moved; cat $2/file; ls $2; echo x >$2/new; ls $3/moved
        cd $2; cat file; cd /; vuumount $2
    """
    profile = '[view]\nenforce = true\n[control]\nallow = ["mount", "umount"]\n'
    said = shell(box, script, tree.parent, mnt, box.directory("other"), profile=profile)
    assert said == ["bound", "file", "file", "new", "bound"]


def test_an_enforcing_view_lets_nothing_be_mounted(box: Box, mnt: Path) -> None:
    result = box.view(["vumount", "-t", "fuse.bindfs", "/usr", mnt], "[view]\nenforce = true\n")
    assert result.returncode == 1
    assert "lets nothing be mounted" in result.stderr


def test_from_outside(box: Box, image: Path, mnt: Path) -> None:
    """On a running view: seen at once by its processes, and by nobody else."""
    fifo = box.scratch / "go"
    os.mkfifo(fifo)
    box.give(box.scratch)
    script = "while read x; do cat $1/file 2>&1; done <$2"
    vuctl = box.installation.bin / "vuctl"
    with open(box.scratch / "said", "w+") as said:
        process = box.popen(
            [*box.vuos_run(None, "--name=job"), "sh", "-c", script, "sh", mnt, fifo], stdout=said
        )
        with open(fifo, "w", buffering=1) as go:
            # The daemon learns of a session when it has lived for a moment.
            assert processes.until(lambda: box.native([vuctl, "mounts", "job"]).returncode == 0)
            mounted = box.native([vuctl, "mount", "job", "-t", "fuse.fuse-ext2", "-o", "ro", "image", mnt])
            mounted.check()
            listed = json.loads(box.native([vuctl, "mounts", "job", "--json"]).check().stdout)["mounts"]
            go.write("\n")
            assert processes.until(lambda: os.fstat(said.fileno()).st_size > 0)
            assert os.listdir(mnt) == []
            again = box.native([vuctl, "umount", str(process.pid + 10**6), mnt])
            busy = box.native([vuctl, "mount", "job", "-t", "fuse.fuse-ext2", "nosuch", mnt])
            missing = box.native([vuctl, "mount", "job", "-t", "fuse.fuse-ext2", "image", f"{mnt}/nosuch"])
            box.native([vuctl, "umount", "job", mnt]).check()
            go.write("\n")
        process.wait(10)
        said.seek(0)
        assert said.read() == f"in the image\ncat: {mnt}/file: No such file or directory\n"
    assert [(one["target"], one["transport"], one["ours"]) for one in listed] == [(str(mnt), "kernel", True)]
    assert again.returncode == busy.returncode == missing.returncode == 1
    assert "nosuch" in busy.stderr
    assert f"{mnt}/nosuch: No such file or directory" in missing.stderr


def test_a_server_of_the_view_for_many_at_once(box: Box, mnt: Path) -> None:
    """The view's root, served from inside the view: each look at it makes the server ask in turn."""
    script = """
        bindfs / $1
        for i in 1 2 3 4 5 6 7 8; do
            find $1/usr/include -name '*.h' | wc -l &
        done; wait
    """
    counts = shell(box, script, mnt)
    assert len(counts) == 8
    assert len(set(counts)) == 1
    assert int(counts[0]) > 10


@pytest.mark.only("user", "me")
@pytest.mark.places(places.NO_FUSE, places.NO_USERNS)
def test_by_wire_where_the_kernel_mounts_nothing(box: Box, mnt: Path) -> None:
    script = """
        vumount -t memory none $1; echo kept >$1/x; cat $1/x
        (cd $1; vuumount $1 2>/dev/null || echo in use)
        vuumount $1; ls $1
    """
    assert shell(box, script, mnt) == ["kept", "in use"]


@pytest.mark.only("user", "me")
@pytest.mark.places(places.NO_FUSE, places.NO_USERNS)
def test_an_unmodified_server_by_wire(box: Box, image: Path, mnt: Path) -> None:
    script = """
        fuse-ext2 -o ro $1 $2; until test -e $2/file; do :; done
        cat $2/file; fusermount3 -u $2; ls $2
    """
    assert shell(box, script, image, mnt) == ["in the image"]


@pytest.mark.only("user", "me")
@pytest.mark.places(places.NO_FUSE, places.DOCKER)
def test_a_server_that_ends_late_unmounts_nothing_of_others(box: Box, mnt: Path) -> None:
    """A library unmounts when its server ends; by then something else may be there. (`hash`: else a look-up
    in the shell meets the signal that its child has stopped, and dash does not take EINTR.)
    """
    script = """
        hash vumount vuumount cat
        bindfs -f $1 $2 & server=$!
        until test -e $2/file; do sleep 0.01; done
        kill -STOP $server; vuumount $2
        vumount -t memory none $2; echo kept >$2/x
        kill -CONT $server; wait $server || true
        cat $2/x; vuumount $2
    """
    tree = box.directory("source")
    (tree / "file").write_text("")
    assert shell(box, script, tree, mnt) == ["kept"]


@pytest.mark.only("user", "me")
@pytest.mark.places(places.NO_FUSE, places.NO_USERNS)
def test_a_server_of_libfuse_2_by_wire(box: Box, image: Path, mnt: Path) -> None:
    """It is given the socket for the /dev/fuse that it opens; with its options, its last words, its end."""
    tree = box.directory("source")
    script = """
        vumount -t ext4 -o ro $1/image $2; cat $2/file; findmnt -n -o FSTYPE $2
        vuumount $2; ls $2
        vumount -t fuse.bindfs $1/source $2; echo bound >$2/file; vuumount $2; cat $1/source/file
        vumount -t fuse.bindfs -o nosuch $1/source $2 2>&1 && exit 1
        vumount -t ext4 $1/source/file $2 2>&1 && exit 1
        vumount -t memory -o transport=kernel none $2 2>&1 && exit 1 || true
    """
    box.give(tree)
    said = shell(box, script, box.scratch, mnt)
    assert said[:3] == ["in the image", "fuse.ext4", "bound"]
    assert len(said) == 6
    assert "nosuch" in said[3]
    assert "source/file" in said[4]
    assert "this machine lets us mount no FUSE file system (" in said[5]


def test_the_transport_can_be_chosen(box: Box, mnt: Path) -> None:
    source = box.directory("source")
    script = """
        vumount -t real -o transport=wire $1 $2; echo by wire >$2/x; vuumount $2; cat $1/x
        vumount -t real -o transport=fast $1 $2 2>&1 && exit 1 || true
    """
    said = 'vumount: transport="fast": it is kernel or wire'
    assert shell(box, script, source, mnt) == ["by wire", said]


ONE_FILE = """
from vuosd.api import Filesystem, MemFile, Stat

TEXT = bytearray(b"served\\n")

class OneFile(Filesystem):
    def lstat(self, path):
        return Stat.file(size=len(TEXT), mode=0o666)

    def open(self, path, flags, mode):
        return MemFile(TEXT)

    def truncate(self, path, size):
        del TEXT[size:]
"""


@pytest.mark.parametrize("transport", ["kernel", "wire"])
def test_on_a_file(box: Box, transport: str) -> None:
    """By both transports; a root of another type than the target's is refused, or cannot be used."""
    plugin, target = box.file("one.py", ONE_FILE), box.file("target", "beneath\n")
    script = """
        vumount -t $1 -o transport=$3 none $2; cat $2
        echo written >$2; cat $2
        (exec <$2; vuumount $2 2>/dev/null) || echo in use
        vuumount $2; cat $2
    """
    said = ["served", "written", "in use", "beneath"]
    assert shell(box, script, plugin, target, transport) == said
    script = "vumount -t memory -o transport=$2 none $1 2>/dev/null && ls $1/. 2>/dev/null || echo refused"
    assert shell(box, script, target, transport) == ["refused"]


@pytest.mark.parametrize("transport", ["kernel", "wire"])
def test_flags_are_shown_and_hold(box: Box, mnt: Path, transport: str) -> None:
    """A set-id file gives nothing in a view (no_new_privs), a device cannot be opened, and times of access
    are the server's."""
    source = box.directory("source")
    (source / "file").write_text("x")
    os.utime(source / "file", (1, 1))
    shutil.copy("/usr/bin/id", source / "id")
    (source / "id").chmod(0o4755)
    box.give(source)
    if box.identity.uid == 0:
        os.mknod(source / "null", 0o20666, os.makedev(1, 3))
    script = """
        vumount -t real -o nosuid,nodev,noatime,transport=$3 $1 $2
        grep " $2 " /proc/self/mountinfo | cut -d" " -f6
        cat $2/file >/dev/null; stat -c %X $2/file
        test ! -e $2/null || { cat $2/null 2>&1 | sed "s|.*: ||"; stat -c %F $2/null
            setpriv --reuid=65534 --clear-groups $2/id -u; }
        python3 -c "import os, sys; print(os.statvfs(sys.argv[1]).f_flag & 1030)" $2
    """
    said = shell(box, script, source, mnt, transport)
    device = ["Permission denied", "character special file", "65534"] if box.identity.uid == 0 else []
    assert {"rw", "nosuid", "nodev", "noatime"} <= set(said[0].split(","))
    assert said[2:] == [*device, "1030"]
    assert said[1] == "1" or transport == "kernel"  # as `real` reads it


NAMES = """
from vuosd.api import Filesystem, MemFile, Stat

class Names(Filesystem):
    def lstat(self, path):
        return Stat.directory() if path == b"/" else Stat.file(size=0)

    def listdir(self, path):
        with open("/proc/self/comm", "rb") as file:
            return [file.read().rstrip()]
"""


def test_a_server_in_python_is_not_executed(box: Box, mnt: Path) -> None:
    """It is a fork of what has been imported; and it ends."""
    script = """
        for transport in kernel wire; do
            vumount -t $1 -o transport=$transport none $2; ls $2; vuumount $2
        done
    """
    plugin = box.file("names.py", NAMES)
    assert shell(box, script, plugin, mnt) == ["vuosd-fuse", "vuosd-fuse"]


def test_noexec_that_would_not_hold_is_refused(box: Box, image: Path, mnt: Path) -> None:
    """Only a mount of the kernel's keeps programs from being executed."""
    script = """
        vumount -t ext2 -o ro,noexec,transport=wire $1 $2 2>&1 || echo refused
        vumount -B -o noexec $3 $2 2>&1 || echo refused
        vumount -t ext2 -o ro,transport=wire $1 $2
        vumount -o remount,ro,noexec none $2 2>&1 || echo refused
        cat $2/file; grep -c noexec.*$2 /proc/self/mounts || true
    """
    why = f"vumount: {mnt}: noexec holds only of a file system that is mounted by the kernel's FUSE"
    told = shell(box, script, image, mnt, box.directory("other"))
    assert told == [why, "refused"] * 3 + ["in the image", "0"]


def test_what_cannot_change_is_asked_for_once(box: Box, image: Path, mnt: Path) -> None:
    """A read-only image by wire: what its server has said once is known, also when it says nothing more."""
    script = """
        vumount -t ext2 -o ro,transport=wire $1 $2
        look() {
            find $2 -name lost+found -prune -o -print; cat $2/file; stat -c %s $2/file
            for i in 1 2; do test -e $2/none || echo none; done
        }
        look $1 $2 > $3/first; server=$(pgrep -f "fuse2fs $1"); kill -STOP $server
        look $1 $2 > $3/second; kill -CONT $server
        cat $3/first; cmp $3/first $3/second && echo same
    """
    lines = [str(mnt), f"{mnt}/file", "in the image", "13", "none", "none", "same"]
    assert shell(box, script, image, mnt, box.directory("looks")) == lines


def test_a_worker_that_is_killed_leaves_nothing(box: Box, mnt: Path) -> None:
    """Nor a mount, nor a helper, nor a server: the box finds out."""
    process = box.popen(
        [
            *box.vuos_run(None, "--name=job"),
            "sh",
            "-c",
            "vumount -t fuse.bindfs /usr $1; sleep 100",
            "sh",
            mnt,
        ]
    )
    vuctl = box.installation.bin / "vuctl"

    def worker() -> int:
        listed = box.native([vuctl, "mounts", "job", "--json"])
        if listed.returncode or not json.loads(listed.stdout)["mounts"]:
            return 0
        sessions = json.loads(box.native([vuctl, "ps", "--json"]).check().stdout)["sessions"]
        return next(int(one["worker"]) for one in sessions if one["name"] == "job")

    assert processes.until(lambda: worker() > 0)
    os.kill(worker(), signal.SIGKILL)
    process.wait(10)


def test_a_server_that_hangs_harms_those_who_ask_it(box: Box, mnt: Path) -> None:
    script = """
        bindfs -f $1 $2 & server=$!
        until test -e $2/file; do :; done
        kill -STOP $server
        cat $2/other & reader=$!
        cat $1/file; ls /usr >/dev/null; sleep 0.2
        kill -KILL $reader; wait $reader || echo killed
        vuumount -f $2; ls $2; kill -KILL $server
    """
    tree = box.directory("source")
    (tree / "file").write_text("there\n")
    assert shell(box, script, tree, mnt) == ["there", "killed"]


def test_a_stopped_server_does_not_keep_its_session(box: Box, mnt: Path) -> None:
    """The box finds out."""
    script = "bindfs -f $1 $2 & until test -e $2/file; do :; done; kill -STOP $!"
    tree = box.directory("source")
    (tree / "file").write_text("")
    assert shell(box, script, tree, mnt) == []


@pytest.mark.places(places.DOCKER)
@pytest.mark.parametrize("profile", [None, '[[mount]]\ntype = "hide"\ntarget = "/srv"\n'])
def test_in_docker_our_own_commands_need_no_mount_call(box: Box, mnt: Path, profile: str | None) -> None:
    """Its filter refuses mount(2) and umount2(2) before anybody is asked."""
    tree = box.directory("source")
    (tree / "file").write_text("there\n")
    box.give(tree)
    script = """
        vu_insmod fuse; vu_lsmod | cut -d: -f1
        vumount -t memory none $2; echo kept >$2/x; cat $2/x
        (cd $2; vuumount $2 2>/dev/null || echo in use)
        findmnt -n -o FSTYPE $2
        vuumount $2; ls $2
        vumount -t real $1 $2; cat $2/file; echo written >$2/file; vuumount $2; cat $1/file
        vumount -B $1 $2; cat $2/file; vuumount $2
        umount $2 2>/dev/null || vuumount $2 2>&1 || true
    """
    said = ["fuse", "kept", "in use", "fuse.memory", "there", "written", "written"]
    assert shell(box, script, tree, mnt, profile=profile) == [*said, f"vuumount: {mnt} is not mounted"]


@pytest.mark.places(places.DOCKER)
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("vumount -t memry none {mnt}", 'no file system type "memry"; did you mean "memory"?'),
        ("vumount -t memory none {mnt}/nosuch", "{mnt}/nosuch: No such file or directory"),
        ("vuumount {mnt}", "{mnt} is not mounted"),
    ],
)
def test_in_docker_refused_with_a_sentence(box: Box, mnt: Path, command: str, said: str) -> None:
    test_refused_with_a_sentence(box, mnt, command, said)


@pytest.mark.places(places.DOCKER)
@pytest.mark.parametrize("profile", [None, '[[mount]]\ntype = "hide"\ntarget = "/srv"\n'])
def test_in_docker_an_unmodified_server_mounts(
    box: Box, image: Path, mnt: Path, profile: str | None
) -> None:
    """By what stands in for fusermount, of libfuse 2 and 3."""
    tree = box.directory("source")
    (tree / "file").write_text("bound\n")
    subprocess.run(["mksquashfs", tree, box.scratch / "archive", "-quiet", "-no-progress"], check=True)
    script = """
        wait_for() { until test -e $1; do :; done; }
        fuse-ext2 -o ro $1/image $2; wait_for $2/file; cat $2/file
        findmnt -n -o FSTYPE,SOURCE $2
        fusermount3 -u $2; ls $2
        squashfuse $1/archive $2; wait_for $2/file; cat $2/file
        (cd $2; fusermount -u $2 2>/dev/null || echo in use)
        vuumount $2; ls $2
        fusermount3 -u -q $2 || echo not mounted
        fusermount3 -o ro $2 2>&1 || true
        /nosuch/fusermount3 -V | cut -d' ' -f1-3
    """
    said = [" ".join(line.split()) for line in shell(box, script, box.scratch, mnt, profile=profile)]
    assert said[:2] == ["in the image", f"fuse {image}"]
    assert said[2:5] == ["bound", "in use", "not mounted"]
    assert said[5:] == [
        "fusermount3: a FUSE library calls this, with a socket's number in _FUSE_COMMFD",
        "fusermount3 version: 3",
    ]


def test_fusermount_is_the_machines_where_mount_can_be_called(box: Box) -> None:
    result = box.view(["sh", "-c", "fusermount3 -V && /nosuch/fusermount3 -V"])
    assert "vuosd" not in result.stdout
    assert result.stdout
    assert result.returncode == 127


@pytest.mark.places(places.DOCKER)
def test_in_docker_a_server_that_wants_to_be_unmounted(box: Box, mnt: Path) -> None:
    """With auto_unmount it has fusermount do all, which stays; nor does that keep the session."""
    tree = box.directory("source")
    (tree / "file").write_text("there\n")
    subprocess.run(["mksquashfs", tree, box.scratch / "archive", "-quiet", "-no-progress"], check=True)
    script = """
        squashfuse -f -o auto_unmount $1 $2 & until test -e $2/file; do :; done
        kill -9 $!; wait $! || true
        until ! test -e $2/file 2>/dev/null && ls $2; do :; done 2>/dev/null
        squashfuse -o auto_unmount $1 $2; until test -e $2/file; do :; done; cat $2/file
    """
    assert shell(box, script, box.scratch / "archive", mnt) == ["there"]


@pytest.mark.parametrize("command", ["vumount -t memory none {mnt}", "vuumount {mnt}", "vu_lsmod"])
def test_outside_of_a_view(box: Box, mnt: Path, command: str) -> None:
    program, *arguments = command.format(mnt=mnt).split()
    result = box.native([box.installation.bin / program, *arguments])
    assert result.returncode == 1
    assert result.stderr == f"{program}: this is no view, or one that lets nothing be mounted\n"


def test_a_file_system_in_another(box: Box, image: Path, mnt: Path) -> None:
    """What the inner one lies in cannot be unmounted under it. By wire vumount has the content of a file
    fetched that is a source; who serves a directory is in the view.
    """
    script = """
        vumount -t fuse.bindfs $1 $2/outer
        vumount -t fuse.fuse-ext2 -o ro $2/outer/image $2/inner; cat $2/inner/file
        vuumount $2/outer 2>&1 && exit 1
        ls $2/outer | grep image
        vuumount $2/inner; vuumount $2/outer
        vumount -t real -o transport=wire $1 $2/outer
        vumount -t fuse.fuse-ext2 $2/outer/image $2/inner; cat $2/inner/file
        touch $2/inner/new 2>/dev/null || echo read-only
        vuumount $2/outer 2>&1 && exit 1
        vuumount $2/inner
        vumount -B $2/outer $2/inner; ls $2/inner | grep image; vuumount $2/inner
        vumount -t fuse.bindfs $2/outer $2/inner; ls $2/inner | grep image; vuumount $2/inner
        vuumount $2/outer; ls $2/outer
    """
    for name in ("outer", "inner"):
        box.directory(f"mnt/{name}")
    outer = mnt / "outer"
    assert shell(box, script, image.parent, mnt) == [
        "in the image",
        f"vuumount: {outer} is in use outside of the view, perhaps by the server of another mount",
        "image",
        "in the image",
        "read-only",
        f"vuumount: {outer} is in use: {mnt}/inner is mounted from a file in it",
        "image",
        "image",
    ]
