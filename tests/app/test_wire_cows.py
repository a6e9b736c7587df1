"""Copy-on-write upon images and archives that are mounted by wire."""

import ast
import os
import signal
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest
from harness import places
from harness.box import Box, Result

pytestmark = [pytest.mark.app, pytest.mark.places(places.NO_FUSE)]

PROGRAM = """if True:
    import ctypes, errno, os, shutil, stat, subprocess, sys, tarfile
    libc = ctypes.CDLL(None, use_errno=True)
    os.chdir(sys.argv[1])
    TOP = os.getcwd()
    said = []

    def put(path, text, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
        fd = os.open(path, flags, 0o644)
        os.write(fd, text)
        os.close(fd)

    def get(path):
        with open(path, "rb") as file:
            return file.read()

    def names(path="."):
        return sorted(os.listdir(path))

    def tree(path="."):
        found = []
        for above, directories, files in os.walk(path):
            directories.sort()
            for name in sorted(directories + files):
                one = os.path.join(above, name)
                st = os.lstat(one)
                entry = [one, st.st_mode]
                if stat.S_ISREG(st.st_mode):
                    entry += [st.st_size, hash_of(one)]
                if stat.S_ISLNK(st.st_mode):
                    entry.append(os.readlink(one))
                if not stat.S_ISDIR(st.st_mode):
                    entry.append(st.st_mtime if st.st_mtime < 1.5e9 else "now")
                found.append(tuple(entry))
        return found

    def hash_of(path):
        import hashlib
        return hashlib.sha256(get(path)).hexdigest()[:8]

    def rename2(old, new, flags):
        if libc.renameat2(-100, old, -100, new, flags) < 0:
            raise OSError(ctypes.get_errno(), "")

    def shown(path):
        return "T" + path[len(TOP):] if path == TOP or path.startswith(TOP + "/") else path

    def say(label, function, *arguments, **named):
        try:
            said.append((label, function(*arguments, **named)))
        except OSError as error:
            said.append((label, errno.errorcode[error.errno]))

    def run(*words):
        done = subprocess.run(words, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr
"""

FILES = """
    say("tar", run, "sh", "-c", "tar cf - d bin full | tar tf - | sort")
    say("tree", tree)
    say("append", put, "f", b"more", os.O_WRONLY | os.O_APPEND)
    say("read", get, "f")
    say("again", put, "d/s/deep", b"new")
    say("empty path", get, "d/s/deep")
    large = os.open("large", os.O_RDWR)
    say("in the middle", os.pwrite, large, b"XX", 70000)
    os.close(large)
    say("large", hash_of, "large")
    say("attribute", os.getxattr, "attr", "user.color")
    say("attribute of a directory", os.getxattr, "d", "user.color")
    say("no attribute", os.getxattr, "f2", "user.color")
    for name in ("attr", "d"):
        held = os.open(name, os.O_RDONLY)
        say("by descriptor", lambda: (os.getxattr(held, "user.color"), os.listxattr(held)))
        os.close(held)
    say("attributes", os.listxattr, "attr")
    say("set", os.setxattr, "attr", "user.other", b"2")
    say("attributes", lambda: sorted(os.listxattr("attr")))
    say("kept", os.getxattr, "attr", "user.color")
    say("set beside", os.setxattr, "d", "user.other", b"3")
    say("kept", lambda: sorted(os.listxattr("d")))
    say("chmod", os.chmod, "f2", 0o600)
    say("mode", lambda: (oct(os.stat("f2").st_mode), get("f2")))
    say("times", os.utime, "f2", (1, 2))
    say("times", lambda: os.stat("f2").st_mtime)
    say("truncate", os.truncate, "f2", 2)
    say("read", get, "f2")
    say("unlink", os.unlink, "d/x")
    say("unlink", os.unlink, "d/x")
    say("not there", get, "d/x")
    say("names", names, "d")
    say("exclusive", put, "d/y", b"", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    say("anew", put, "d/x", b"anew", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    say("anew", get, "d/x")
    say("rename", os.rename, "d/y", "y")
    say("rename over", os.rename, "y", "f")
    say("renamed", get, "f")
    say("names", names)
    say("symlink", os.readlink, "l")
    say("through", get, "l")
    say("written through", put, "l", b"through")
    say("written through", get, "d/s/deep")
    say("replaced", lambda: (os.unlink("l"), os.symlink("f", "l"), get("l")))
    say("dangling", get, "dangling")
    say("mkdir there", os.mkdir, "d")
    say("mkdir", os.mkdir, "d/new")
    say("put", put, "d/new/file", b"file")
    say("rmdir", os.rmdir, "full")
    say("rm", shutil.rmtree, "full")
    say("gone", names, "full")
    say("anew", lambda: (os.mkdir("full"), names("full")))
    say("no directory", names, "f")
    say("below a file", get, "f/x")
    say("access", os.access, "f", os.W_OK)
    say("mmap", lambda: __import__("mmap").mmap(os.open("m", os.O_RDONLY), 0, access=1)[:4])
    say("exec", run, "./script", "one")
    say("exec", run, "bin/program", "two")
    say("git", run, "sh", "-ec", "git init -q; git add .; git -c user.name=a -c user.email= commit -qm x; "
        "git rm -q m; git checkout -q HEAD m; git mv attr d; git status --short; git gc -q; git fsck")
    say("without it", shutil.rmtree, ".git")
    say("link", os.link, "m", "linked")
    say("link", lambda: os.stat("m").st_nlink)
    say("linked", lambda: (put("linked", b"L"), get("m")))
    say("tree", tree)
"""

DIRECTORIES = """
    fd = os.open("d/s", os.O_RDONLY)
    say("link", lambda: shown(os.readlink("/proc/self/fd/%d" % fd)))
    say("rename", os.rename, "d", "e")
    say("link", lambda: shown(os.readlink("/proc/self/fd/%d" % fd)))
    say("by descriptor", lambda: os.close(os.open("deep", os.O_RDONLY, dir_fd=fd)))
    say("gone", names, "d")
    say("tree", tree)
    say("attribute", os.getxattr, "e", "user.color")
    os.chdir("e/s")
    say("cwd", lambda: (shown(os.getcwd()), shown(os.readlink("/proc/self/cwd"))))
    say("up", names, "..")
    say("from below", get, "../../f")
    say("put", put, "../z", b"z")
    os.chdir(TOP)
    say("into itself", os.rename, "e", "e/s/e")
    say("exchange", rename2, b"e", b"full", 2)
    say("tree", tree)
    say("exchange", rename2, b"f", b"e", 2)
    say("no replace", rename2, b"f", b"e", 1)
    say("tree", tree)
    say("over a full one", os.rename, "full", "bin")
    say("over an empty one", lambda: (os.mkdir("empty"), os.rename("bin", "empty")))
    say("over one below", os.rename, "empty", "nothing")
    say("tree", tree)
    say("mkdir", os.mkdir, "bin")
    say("names", names, "bin")
    say("whole", shutil.rmtree, "full")
    say("whole", lambda: (shutil.copytree("nothing", "copied", symlinks=True), tree("copied"))[1])
    os.mkdir("many/new")
    say("many", lambda: len(names("many")))
    say("many", os.rename, "many", "lots")
    say("many", lambda: (len(names("lots")), get("lots/n77")))
    file = os.open("m", os.O_RDONLY)
    say("link", lambda: shown(os.readlink("/proc/self/fd/%d" % file)))
    say("by it", lambda: (os.fchmod(file, 0o640), os.stat("m").st_mode, os.read(file, 3)))
    say("link of what is written", lambda: put("/proc/self/fd/%d" % file, b"by link"))
    say("written", get, "m")
    def number(one):
        return one.is_dir() or one.inode() == one.stat(follow_symlinks=False).st_ino
    say("scan", lambda: sorted((one.name, one.is_dir(), number(one)) for one in os.scandir(".")))
    say("rm all", run, "sh", "-c", "rm -r *")
    say("names", names)
"""


@pytest.fixture
def tree(box: Box) -> Path:
    """What is in the image."""
    top = box.directory("in")
    for name in ("f", "f2", "d/x", "d/y", "d/s/deep", "full/a", "full/b/c", "m", "attr"):
        box.file(f"in/{name}", f"this is {name}\n")
    for number in range(120):
        box.file(f"in/many/n{number}", str(number))
    box.directory("in/nothing")
    box.file("in/large", os.urandom(300000))
    box.file("in/script", '#!/bin/sh\necho script "$0" "$1"\n', 0o755)
    box.file("in/bin/program", Path("/bin/echo").read_bytes(), 0o755)
    (top / "l").symlink_to("d/s/deep")
    (top / "dangling").symlink_to("nowhere")
    for name in ("attr", "d"):
        os.setxattr(top / name, "user.color", b"blue")
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, ns=(10**18, 10**18 + 10**9), follow_symlinks=False)
    box.give(top)
    image = box.scratch / "image"
    plain = ["-quiet", "-no-progress", "-noI", "-noD", "-noF", "-noX"]
    subprocess.run(["mksquashfs", top, image, *plain], check=True, capture_output=True)
    box.give(image)
    return image


def profile(image: Path, target: Path, cow: str = "", options: str = "ro") -> str:
    return f"""
        [control]
        allow = ["mount", "umount", "cow"]
        [[mount]]
        type = "squashfs"
        source = "{image}"
        target = "{target}"
        options = "{options}"
        [[mount]]
        type = "cow"
        target = "{target}"
        {cow}
    """


@pytest.mark.places(places.DOCKER)
@pytest.mark.parametrize("program", [FILES, DIRECTORIES], ids=["files", "directories"])
def test_as_natively(box: Box, tree: Path, program: str) -> None:
    """The same calls give the same results on a copy of what is in the image, and in a cow upon it."""
    text = PROGRAM + program + "    print(said)"
    native, target = box.scratch / "native", box.directory("target")
    subprocess.run(["cp", "-a", box.scratch / "in", native], check=True)
    box.give(target)
    words = ["/usr/bin/python3", "-c", text]
    expected = ast.literal_eval(box.native([*words, native]).check().stdout)
    view = box.view([*words, target], profile(tree, target), options=["--name=it"], timeout=60)
    found = ast.literal_eval(view.check().stdout)
    assert [one for one in zip(expected, found, strict=True) if one[0] != one[1]] == []
    assert len(found) > 25


def vuctl(box: Box, *words: object) -> Result:
    return box.native([box.installation.bin / "vuctl", *map(str, words)], cwd=box.scratch)


def shell(box: Box, text: str, script: str, *arguments: object) -> list[str]:
    """The lines that a script prints in a view; it must succeed."""
    words = ["sh", "-ec", script, "sh", *map(str, arguments)]
    return box.view(words, text, options=["--name=it"], timeout=60).check().stdout.splitlines()


@pytest.mark.only("user")
def test_what_was_changed(box: Box, tree: Path) -> None:
    """Compared while the view runs and afterwards, exported, gone on in; the image stays as it is."""
    before = tree.read_bytes()
    target = box.directory("target")
    text = profile(tree, target)
    script = """
        cd $1; echo more >>f; rm -r d; mkdir d; echo new >d/new; chmod 600 attr; mv full nothing/moved
        echo ready; read x
    """
    words = [*box.vuos_run(text, "--name=it"), "sh", "-ec", script, "sh", target]
    process = box.popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    running = vuctl(box, "diff", "--name-only", "it")
    assert running.returncode == 1, running.stderr
    assert "it may be changing" in running.stderr
    process.stdin.close()
    process.wait(20)
    below = ["d/s", "d/s/deep", "d/x", "d/y", "f", "full", "full/a", "full/b", "full/b/c"]
    moved = ["nothing/moved", "nothing/moved/a", "nothing/moved/b", "nothing/moved/b/c"]
    assert running.stdout.split() == ["attr", "d", "d/new", *below, *moved]
    patch = vuctl(box, "diff", "-p", "it", "--", target / "f").stdout
    assert patch.splitlines()[-2:] == [" this is f", "+more"]
    vuctl(box, "export", "it", box.scratch / "layer.tar").check()
    with tarfile.open(box.scratch / "layer.tar") as archive:
        assert {"f", "d/new", ".wh.full", "nothing/moved/b/c"} < set(archive.getnames())
    done = vuctl(box, "commit", "it")
    assert (done.returncode, tree.read_bytes()) == (1, before)
    assert "read-only, and so nothing is written there: `vuctl export` takes" in done.stderr
    again = shell(box, text, "cd $1; cat f d/new nothing/moved/a; ls d; rm f; echo f >f", target)
    assert again == ["this is f", "more", "new", "this is full/a", "new"]
    vuctl(box, "drop", "it").check()
    assert box.view(["cat", target / "f"], text).stdout == "this is f\n"


def test_at_run_time(box: Box, tree: Path) -> None:
    """Upon the whole, and a directory of it, at another place: the one that is mounted below is in use."""
    text = '[control]\nallow = ["mount", "umount", "cow"]\n'
    target, other = box.directory("target"), box.directory("other")
    script = """
        vumount -t squashfs -o ro,transport=wire $1 $2; vumount -t cow -o ephemeral $2/d $3
        echo more >>$3/x; cat $3/x $2/d/x; exec 5<$3/y; readlink /proc/self/fd/5; chmod 600 /proc/self/fd/5
        stat -c %a $3/y $2/d/y; cd $3; pwd; cd ..; cat <&5
        vuumount $2 2>&1 || true; vuumount $3 2>&1 | cut -d ' ' -f 2-5; exec 5<&-
        vuumount -l $2; ls $2; cat $3/s/deep; vuumount $3; ls $3
        vumount -t squashfs -o ro,transport=wire $1 $2; vumount -t cow $2 $2; echo new >$2/f
        vumount -t cow -o ephemeral $2 $3 2>&1 || true
        vumount -B $2/d $3; cat $3/x; echo bound >$3/x; cat $2/d/x; vuumount $3
        vuumount $2; cat $2/f; vuumount $2; ls $2
    """
    found = shell(box, text, script, tree, target, other)
    assert found[:7] == ["this is d/x", "more", "this is d/x", f"{other}/y", "600", "644", str(other)]
    assert found[7] == "this is d/y"
    assert found[8].endswith(f"{target} is in use: {other} stands upon it")
    assert found[9] == f"{other} is in use:"
    assert found[10] == "this is d/s/deep"
    assert "lies in an entry of several trees: a cow can be of none" in found[11]
    assert found[12:] == ["this is d/x", "bound", "this is f"]


@pytest.mark.only("user")
def test_an_image_that_could_be_written(box: Box, tree: Path) -> None:
    """Covered as a whole it is mounted read-only; the layer can be committed where the kernel mounts it."""
    target, image = box.directory("target"), box.scratch / "ext4"
    subprocess.run(["truncate", "-s", "4M", image], check=True)
    made = ["mke2fs", "-q", "-t", "ext4", "-d", box.scratch / "in", image]
    subprocess.run(made, check=True, capture_output=True)
    box.give(image)
    before = image.read_bytes()
    text = profile(image, target, options="").replace('"squashfs"', '"ext4"')
    script = """
        cd $1; echo more >>f; mv d e; cat e/s/deep; cd ..
        vuumount $1; touch $1/f 2>/dev/null || cat $1/f
    """
    assert shell(box, text, script, target) == ["this is d/s/deep", "this is f"]
    done = vuctl(box, "commit", "it")
    assert done.returncode == 2
    assert "it cannot be mounted now: this machine lets us mount no FUSE file system" in done.stderr
    assert image.read_bytes() == before


REFUSED = [
    ("memory", "cow", "by wire it must be an image or archive that is mounted read-only"),
    ("squashfs", "mincow", "by wire a mincow cannot write there: a cow can"),
]


@pytest.mark.parametrize(("system", "type", "text"), REFUSED, ids=[row[1] for row in REFUSED])
def test_upon_what_can_be_none(box: Box, tree: Path, system: str, type: str, text: str) -> None:
    """Said before the command is started; at run time it is an error of vumount's."""
    target = box.directory("target")
    wanted = profile(tree, target).replace('"cow"\n        target', f'"{type}"\n        target')
    if system == "memory":
        wanted = wanted.replace('"squashfs"', '"memory"').replace('options = "ro"', "")
    done = box.view(["echo", "ran"], wanted, timeout=30)
    assert (done.returncode, done.stdout) == (125, "")
    assert text in done.stderr
    control = '[control]\nallow = ["mount", "umount", "cow"]\n'
    script = f"vumount -t {system} $1 $2; vumount -t {type} $2 $2 2>&1 || true"
    found = shell(box, control, script, tree, target)
    assert text in found[-1]


def server_of(image: Path) -> int:
    """The process that serves it."""
    for entry in os.listdir("/proc"):
        try:
            words = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"squashfuse") and os.fsencode(image) in words:
            return int(entry)
    raise AssertionError("there is no server")


def test_a_server_that_hangs(box: Box, tree: Path) -> None:
    """Who needs it waits, and can be killed; others go on, in the same cow too."""
    target = box.directory("target")
    box.give(box.scratch)
    script = """
        cd $1; ls -l >/dev/null; echo more >>f2; cat f2; read x
        (echo more >>f) & (sha256sum <large) & mv full moved & sh -c 'read x <m' &
        echo new >new; echo again >>f2; cat f2 new; ls -d nothing; kill -KILL $!; wait $! || echo killed
        echo hanging; read x; wait; cat f; ls moved
    """
    process = box.popen(
        [*box.vuos_run(profile(tree, target), "--name=it"), "sh", "-c", script, "sh", target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    assert [process.stdout.readline() for _ in range(2)] == [b"this is f2\n", b"more\n"]
    server = server_of(tree)
    os.kill(server, signal.SIGSTOP)
    goes_on = threading.Timer(20, os.kill, (server, signal.SIGCONT))  # so that a wait ends, and is seen
    goes_on.start()
    try:
        process.stdin.write(b"\n")
        process.stdin.flush()
        said = [process.stdout.readline() for _ in range(7)]
        assert goes_on.is_alive()
    finally:
        goes_on.cancel()
        os.kill(server, signal.SIGCONT)
    assert said == [
        *(b"this is f2\n", b"more\n", b"again\n", b"new\n", b"nothing\n", b"killed\n", b"hanging\n")
    ]
    process.stdin.write(b"\n")
    process.stdin.close()
    rest = process.stdout.read()
    assert process.wait(20) == 0
    assert rest.endswith(b"this is f\nmore\na\nb\n")
