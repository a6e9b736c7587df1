"""Copy-on-write as people use it: run it, look at what it did, go on in it, forget it."""

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from app.test_terminal import Screen
from harness import places, processes
from harness.box import Box, Result

pytestmark = pytest.mark.app

COW = ("--cow",)
KEPT = "vuos-run: changes kept in layer {0}: {1}; vuctl diff {0} | commit {0} | drop {0}\n"


def tree(box: Box) -> Path:
    """A small tree of the identity's."""
    for name, text in (("f", "f\n"), ("g", "g\n"), ("d/x", "x\n"), ("d/e/y", "y\n"), ("h/z", "z\n")):
        box.file(f"tree/{name}", text)
    box.give(box.scratch / "tree")
    return box.scratch / "tree"


def state(top: Path) -> dict[str, tuple[object, ...]]:
    """All there is to see of a tree."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted([top, *top.rglob("*")]):
        st = path.lstat()
        text = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(top))] = (st.st_mode, st.st_uid, st.st_mtime_ns, st.st_ino, text)
    return found


def run(box: Box, script: str, *options: str, profile: str | None = None, cwd: Path | None = None) -> Result:
    return box.view(["/bin/sh", "-c", script], profile, options=options, cwd=cwd or box.scratch / "tree")


def vuctl(box: Box, *words: str, cwd: Path | None = None) -> Result:
    return box.native([box.installation.bin / "vuctl", *words], cwd=cwd or box.scratch / "tree")


def layers(box: Box) -> list[str]:
    store = box.scratch / "home/.local/state/vuos"
    return sorted(os.listdir(store)) if store.exists() else []


CHANGE = "echo more >> f; rm g; echo new > d/new; mv h i; ls; cat f; exit 3"


@pytest.mark.places(*places.ALL)
def test_run_look_forget(box: Box) -> None:
    before = state(tree(box))
    done = run(box, CHANGE, *COW)
    assert (done.returncode, done.stdout) == (3, "d\nf\ni\nf\nmore\n"), done.stderr
    assert state(box.scratch / "tree") == before
    assert layers(box) == ["sh-1"]
    diff = vuctl(box, "diff", "--name-only", "--all", "sh-1")
    assert diff.returncode == 1
    changed = ["d/new", "f", "g", "h", "h/z", "i", "i/z"]
    assert diff.stdout.split() == changed
    assert done.stderr == KEPT.format("sh-1", f"{len(changed)} changes")
    again = run(box, f"cat {box.scratch}/tree/d/new; ls", "--on=sh-1", cwd=box.directory("elsewhere"))
    assert (again.returncode, again.stdout) == (0, "new\n")
    again = run(box, "ls; cat f d/new; rm d/new", "--on=sh-1")
    assert again.stdout == "d\nf\ni\nf\nmore\nnew\n"
    assert "d/new" not in vuctl(box, "diff", "--name-only", "sh-1").stdout.split()


@pytest.mark.private
def test_without_a_daemon(box: Box) -> None:
    before = state(tree(box))
    done = run(box, "echo x > f; kill -9 $$", *COW, "--name=it")
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, KEPT.format("it", "1 change"))
    assert state(box.scratch / "tree") == before
    assert run(box, "cat f", *COW, "--name=it").stdout == "x\n"


def test_nothing_changed_leaves_nothing(box: Box) -> None:
    before = state(tree(box))
    done = run(box, "cat f; ls -lR > /dev/null; find . -type f -exec grep -q x {} +", *COW)
    assert (done.stdout, done.stderr) == ("f\n", "")
    assert run(box, "exit 0", *COW, "--ask").stderr == "vuos-run: nothing was changed\n"
    assert state(box.scratch / "tree") == before
    assert layers(box) == []


def test_over_everything(box: Box) -> None:
    tree(box)
    home = box.scratch / "home"
    script = "echo 1 > ~/new; echo 2 > $TMPDIR/new; echo 3 > f; cat ~/new $TMPDIR/new f; ls -A ~/.local/state"
    done = run(box, script, "--cow=/", "--name=all")
    assert done.stdout == "1\n2\n3\n"
    assert "cannot access" not in done.stderr
    assert not (home / "new").exists()
    assert (box.scratch / "tree/f").read_text() == "f\n"
    shown = vuctl(box, "diff", "--name-only", "all", cwd=Path("/")).stdout.split()
    assert shown == sorted(
        str(path)[1:] for path in (home / "new", box.scratch / "tmp/new", box.scratch / "tree/f")
    )


def test_busy(box: Box) -> None:
    tree(box)
    words = [*box.vuos_run(None, *COW, "--name=n"), "/bin/sh", "-c", "echo > new; exec sleep 100"]
    process = box.popen(words, cwd=box.scratch / "tree")
    assert processes.until((box.scratch / "home/.local/state/vuos/n/0/upper/new").exists)
    for options in ((*COW, "--name=n"), ("--on=n",)):
        refused = run(box, "true", *options)
        assert refused.returncode == 125
        assert "layer n is in use by process" in refused.stderr
    process.terminate()
    process.wait()
    assert processes.until(lambda: run(box, "ls new", "--on=n").stdout == "new\n")


NESTED = """\
[view]
name = "nested"
[[mount]]
type = "bind"
source = "tree"
target = "/mnt"
[[mount]]
type = "cow"
target = "/mnt"
except = ["h"]
[[mount]]
type = "hide"
target = "/mnt/g"
[[mount]]
type = "tmpfs"
target = "/mnt/d/e"
[[mount]]
type = "ro"
target = "/mnt/d/x"
"""


@pytest.mark.parametrize("enforce", ["false", "true"])
def test_entries_in_a_cow(box: Box, enforce: str) -> None:
    top = tree(box)
    profile = NESTED.replace("[[mount]]", f"enforce = {enforce}\n[[mount]]", 1)
    script = """
        cd /mnt; ls; cat g; echo 1 > h/real; echo 2 > d/e/private; ls d/e; echo 3 > d/x; echo 4 > d/mine
        echo 5 > f
        cp /bin/true program; ./program && echo ran; mkdir new; mv f new/; cat new/f
    """
    done = run(box, script, profile=profile)
    assert done.stdout == "d\nf\nh\nprivate\nran\n5\n", done.stderr
    assert "g: No such file" in done.stderr
    assert "d/x: Read-only file system" in done.stderr
    assert (top / "h/real").read_text() == "1\n"
    assert sorted(path.name for path in top.iterdir()) == ["d", "f", "g", "h"]
    names = vuctl(box, "diff", "--name-only", "--all", "nested", cwd=Path("/mnt")).stdout.split()
    assert names == ["d/mine", "f", "new", "new/f", "program"]
    # The next run of the view goes on in it; `ro` after the cow only shows it.
    assert run(box, "cat /mnt/new/f; ls /mnt/f", profile=profile).stdout == "5\n"
    frozen = profile + '[[mount]]\ntype = "ro"\ntarget = "/mnt"\n'
    done = run(box, "cat /mnt/new/f; echo > /mnt/new/f", profile=frozen)
    assert (done.stdout, "Read-only file system" in done.stderr) == ("5\n", True)


def test_the_store_is_not_shown(box: Box) -> None:
    tree(box)
    run(box, "echo > new", *COW, "--name=n").check()
    profile = f'[[mount]]\ntype = "bind"\nsource = "{box.scratch}"\ntarget = "/mnt"\n'
    script = "for home in ~ /mnt/home; do ls $home/.local/state/vuos; ls -A $home/.local/state; done"
    done = run(box, script, *COW, profile=profile)
    assert done.stdout == ""
    assert done.stderr.count("No such file or directory") == 2
    inside = run(box, "true", *COW, cwd=box.scratch / "home/.local/state/vuos/n")
    assert inside.returncode == 125
    assert "layers" in inside.stderr
    refused = run(box, "true", "--cow", "--store=here")
    assert refused.returncode == 125
    assert "inside the tree" in refused.stderr


EPHEMERAL = """\
[[mount]]
type = "tmpfs"
target = "/mnt"
[[mount]]
type = "cow"
target = ["/mnt", "."]
ephemeral = true
"""


def test_ephemeral(box: Box) -> None:
    before = state(tree(box))
    done = run(box, "echo 1 > f; echo 2 > /mnt/x; cat f /mnt/x", profile=EPHEMERAL)
    assert (done.stdout, done.stderr) == ("1\n2\n", "")
    assert state(box.scratch / "tree") == before
    assert processes.until(lambda: layers(box) == [])


def test_ephemeral_and_limited(box: Box) -> None:
    before = state(tree(box))
    script = (
        "head -c 3000000 /dev/zero > big; echo 1 > f; cat f; cp /bin/true program && ./program && echo ran"
    )
    profile = EPHEMERAL + 'size = "2M"\n'
    done = run(box, f"{script}; echo 2 > /mnt/x; cat /mnt/x", profile=profile)
    assert "No space left on device" in done.stderr
    done = run(box, f"rm f; {script.partition(';')[2]}; ls", profile=f"[view]\nenforce = true\n{profile}")
    assert (done.stdout, done.stderr) == ("1\nran\nd\nf\ng\nh\nprogram\n", "")
    assert state(box.scratch / "tree") == before
    assert processes.until(lambda: layers(box) == [])


MINCOW = '[view]\nname = "min"\n[[mount]]\ntype = "mincow"\ntarget = "{}"\n'


@pytest.mark.only("user")
def test_mincow_writes_what_it_may(box: Box) -> None:
    top = tree(box)
    os.chown(top / "d/x", 0, 0)
    os.chown(top / "d/e", 0, 0)
    done = run(
        box, "echo 1 > f; echo 2 > d/x; echo 3 > d/e/new; cat f d/x d/e/new", profile=MINCOW.format(top)
    )
    assert done.stdout == "1\n2\n3\n", done.stderr
    assert [(top / name).read_text() for name in ("f", "d/x")] == ["1\n", "x\n"]
    assert os.listdir(top / "d/e") == ["y"]
    assert vuctl(box, "diff", "--name-only", "min").stdout.split() == ["d/e/new", "d/x"]


def test_a_whiteout_is_not_made_by_name(box: Box) -> None:
    tree(box)
    assert run(box, "mknod w c 0 0; rm f; mknod f c 0 0; ls", *COW).stdout == "d\ng\nh\n"


@pytest.mark.parametrize("writable", ["false", "true"])
def test_merge(box: Box, writable: str) -> None:
    top = tree(box)
    box.file("tree/h/e/w", "w\n")
    box.give(top)
    source = f'source = ["{top}/d", "{top}/h"]\nwritable = {writable}\n'
    profile = f'[[mount]]\ntype = "merge"\ntarget = "/mnt"\n{source}'
    done = run(
        box, "ls /mnt /mnt/e; cat /mnt/x /mnt/z; echo > /mnt/new && ls /mnt; rm /mnt/z", profile=profile
    )
    said = (
        "/mnt:\ne\nx\nz\n\n/mnt/e:\nw\ny\nx\nz\n",
        "/mnt:\ne\nx\nz\n\n/mnt/e:\nw\ny\nx\nz\ne\nnew\nx\nz\n",
    )
    assert done.stdout == said[writable == "true"], done.stderr
    assert (top / "d/new").exists() == (writable == "true")
    assert (top / "h/z").exists()
    assert "Read-only file system" in done.stderr


NAMES = "stat -c '%n %h' a b c | tr '\\n' ' '; cat a b c"


@pytest.mark.parametrize(
    ("first", "shown", "second", "then"),
    [
        ("echo new > t; mv t a", "a 1 b 2 c 2 new\nf\nf\n", "echo x >> b", "new\nf\nx\nf\nx\n"),
        ("echo x >> a", "a 3 b 3 c 3 " + "f\nx\n" * 3, "echo y >> c", "f\nx\ny\n" * 3),
        ("chmod 444 a; rm b; echo new > b", "a 2 b 1 c 2 f\nnew\nf\n", "rm c; cp b c", "f\nnew\nnew\n"),
        ("rm a; echo x >> b; cp g a", "a 1 b 2 c 2 g\nf\nx\nf\nx\n", "rm b; cp a b", "g\ng\nf\nx\n"),
    ],
)
def test_hard_links_in_a_later_run(box: Box, first: str, shown: str, second: str, then: str) -> None:
    """What was put in the place of one of a file's names is no copy of that file; the rest stays one file."""
    top = tree(box)
    for name in "abc":
        (top / name).hardlink_to(top / "f")
    (top / "f").unlink()
    run(box, first, *COW)
    assert run(box, NAMES, "--on=sh-1").stdout == shown
    assert run(box, f"{second}; cat a b c", "--on=sh-1").stdout == then
    assert run(box, "cat a b c", "--on=sh-1").stdout == then


NAMES_LEFT = """
import os
def count(path):
    fd = os.open(path, os.O_RDONLY)
    found = {os.stat(path).st_nlink, os.fstat(fd).st_nlink, os.stat(fd).st_nlink}
    os.close(fd)
    return found
held = os.open("a", os.O_RDONLY)
assert count("a") == {4}
os.unlink("a")
assert os.fstat(held).st_nlink == 3
assert count("b") == count("c") == count("e") == {3}
open("new", "w").close()
os.rename("new", "b")
assert count("c") == count("e") == {2} and count("b") == {1} and os.fstat(held).st_nlink == 2
os.link("c", "again")
assert count("c") == count("e") == count("again") == {3}
os.unlink("e")
assert count("c") == count("again") == {2}
os.rename("c", "other")
assert count("other") == count("again") == {2}
"""


@pytest.mark.parametrize("enforce", ["", "[view]\nenforce = true\n"])
def test_a_name_that_is_removed_is_not_counted(box: Box, enforce: str) -> None:
    top = tree(box)
    for name in ("a", "b", "c", "e"):
        (top / name).hardlink_to(top / "g")
    (top / "g").unlink()
    argv = [box.installation.python, "-c", NAMES_LEFT]
    done = box.view(argv, enforce + f'[[mount]]\ntype = "cow"\ntarget = "{top}"\n', cwd=top)
    assert done.returncode == 0, done.stderr
    assert (top / "a").stat().st_nlink == 4
    done = box.native(argv, cwd=top)
    assert done.returncode == 0, done.stderr


SAME = """
import os
def numbers(st): return st.st_dev, st.st_ino
held = os.open("f", os.O_RDONLY)
before = numbers(os.lstat("f"))
os.link("f", "d/f")
again = os.open("d/f", os.O_RDWR)
assert before == numbers(os.fstat(held)) == numbers(os.lstat("f"))
assert before == numbers(os.stat("d/f")) == numbers(os.fstat(again))
assert os.fstat(again).st_nlink == 2
os.write(again, b"new")
assert open("f").read() == "new"
os.unlink("f"), os.unlink("d/f"), os.close(again)
for number in range(100):
    with open(f"n{number}", "w") as file:
        assert before != numbers(os.fstat(file.fileno())) == numbers(os.lstat(file.name))
"""


@pytest.mark.parametrize("enforce", ["", "[view]\nenforce = true\n"])
def test_a_file_that_is_linked_stays_the_same(box: Box, enforce: str) -> None:
    """git clone compares the numbers. A file that gets the inode of a copy that is gone is another one."""
    top = tree(box)
    profile = enforce + f'[[mount]]\ntype = "cow"\ntarget = "{top}"\n'
    done = box.view([box.installation.python, "-c", SAME], profile, cwd=top)
    assert done.returncode == 0, done.stderr
    assert (top / "f").read_text() == "f\n"
    assert (top / "f").stat().st_nlink == 1


CLOSED = """
echo x >> ro/f && chmod 600 ro/f && echo y >> ro/sub/f && cat ro/f ro/sub/f && stat -c %a ro ro/sub ro/f
test $(id -u) = 0 || ! touch ro/new || exit 1
rm -f ro/new; touch -h ro/link; chmod 755 ro; touch ro/new; mv ro ro2; ls ro2
"""


def test_directories_that_may_not_be_written(box: Box) -> None:
    """What lies in them may be changed, and so may they."""
    top = tree(box)
    for name in ("ro/f", "ro/sub/f"):
        box.file(f"tree/{name}", "f\n")
    (top / "ro/link").symlink_to("f")
    box.give(top)
    for name in ("ro/sub", "ro"):
        (top / name).chmod(0o555)
    done = run(box, CLOSED, *COW)
    assert done.stdout == "f\nx\nf\ny\n555\n555\n600\nf\nlink\nnew\nsub\n", done.stderr


SEARCHED = """
LOOK='look() { for path in x none e/y e/new e/gone e/none; do stat -c %n d/$path 2>&1; done; }'
eval "$LOOK"
as() { if [ $(id -u) = 0 ]; then setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; else "$@"; fi; }
rm d/e/gone; look; echo > d/e/new; look; chmod 700 d; as sh -c "$LOOK; look"
for mode in 0 711 600 755; do
    chmod $mode d; look; as sh -c "$LOOK; look"
    chmod $mode d/e; look; as sh -c "$LOOK; look"
done
"""


def test_what_may_not_be_searched_is_not_known_either(box: Box) -> None:
    """What the layer has by a name is remembered; who may not ask is told what the kernel says."""
    top = tree(box)
    box.file("tree/d/e/gone", "")
    box.give(top)
    shutil.copytree(top, box.scratch / "copy")
    box.give(box.scratch / "copy")
    told = box.native(["/bin/sh", "-c", SEARCHED], cwd=box.scratch / "copy")
    assert told.stdout.count("Permission denied") > 20, told.stdout + told.stderr
    done = run(box, SEARCHED, *COW)
    assert done.stdout == told.stdout, done.stderr


@pytest.mark.parametrize("name", ["with space", "n\new", os.fsdecode(b"\xff\x01"), "é'"])
def test_names_of_any_bytes(box: Box, name: str) -> None:
    top = tree(box)
    done = run(box, 'echo > new; echo > "$(printf "a\\nb\\377")"', *COW, f"--name={name}")
    assert done.returncode == 0
    quoted = shlex.quote(name)
    assert os.fsencode(f"vuctl diff {quoted} | commit") in os.fsencode(done.stderr)
    assert run(box, "ls new", f"--on={name}").stdout == "new\n"
    assert "new" in vuctl(box, "diff", "--name-only", name).stdout
    assert sorted(os.listdir(top)) == ["d", "f", "g", "h"]


def test_a_worker_that_is_killed(box: Box) -> None:
    """Its processes are ended; what they wrote is in the layer."""
    top = tree(box)
    words = [*box.vuos_run(None, *COW, "--name=n"), "/bin/sh", "-c", "echo x > f; echo on; exec sleep 100"]
    process = box.popen(words, cwd=top, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    workers: list[int] = []

    def known() -> bool:
        sessions = json.loads(vuctl(box, "ps", "--json").stdout)["sessions"]
        workers[:] = [session["worker"] for session in sessions if session["name"] == "n"]
        return bool(workers)

    assert processes.until(known)
    os.kill(workers[0], signal.SIGKILL)
    assert b"vuosd ended before it could say" in process.stderr.read()
    assert process.wait() == -signal.SIGKILL
    assert run(box, "cat f", "--on=n").stdout == "x\n"


def test_show(box: Box) -> None:
    top = tree(box)
    words = [*box.vuos_run(None, *COW, "--name=n"), "/bin/sh", "-c", "echo on; exec sleep 100"]
    process = box.popen(words, cwd=top, stdout=-1)
    assert process.stdout is not None
    process.stdout.readline()
    wanted = ["cow", str(top), str(top), "(layer", "n)"]
    shown: list[list[str]] = []

    def is_shown() -> bool:
        shown[:] = [line.split() for line in vuctl(box, "show", "n").stdout.splitlines()]
        return wanted in shown

    assert processes.until(is_shown), shown
    assert "n" in [line.split()[1] for line in vuctl(box, "ps").stdout.splitlines()[1:]]
    process.terminate()


class Shell(Screen):
    """A shell beside the view, that vuos-run is typed into."""

    def __init__(self, box: Box) -> None:
        super().__init__(box, "PS1='ready> ' bash --norc --noprofile -i")
        self.shows("ready>")

    def view(self, *options: str, script: str) -> None:
        words = [*self.box.vuos_run(None, *options), "sh", "-c", script]
        self.type(f"cd {self.box.scratch}/tree; {shlex.join(map(str, words))}; echo status $?", "Enter")


@pytest.fixture
def shell(box: Box) -> Iterator[Shell]:
    tree(box)
    shell = Shell(box)
    yield shell
    shell.close()


ASK = ("--cow", "--ask", "--name=asked")


def test_ask_drop(box: Box, shell: Shell) -> None:
    shell.view(*ASK, script="echo x > f; rm g; exit 5")
    shell.shows("commit, drop, keep, shell, diff?")
    shell.shows("modified:   f")
    shell.type("what", "Enter")
    shell.shows("are enough)?")
    shell.type("dr", "Enter")
    shell.shows("status 5")
    assert layers(box) == []
    assert (box.scratch / "tree/f").read_text() == "f\n"


def test_ask_shell_then_commit(box: Box, shell: Shell) -> None:
    shell.view(*ASK, script="echo x > f; rm g; kill -TERM $$")
    shell.shows("commit, drop, keep, shell, diff?")
    shell.type("shell", "Enter")
    shell.type("PS1='inside> '; cat f; echo y > new; exit", "Enter")
    shell.shows("new:")
    shell.type("commit", "Enter")
    shell.shows("status 143")
    top = box.scratch / "tree"
    assert ((top / "f").read_text(), (top / "new").read_text(), (top / "g").exists()) == ("x\n", "y\n", False)


@pytest.mark.parametrize("keys", [("k", "Enter"), ("C-c",), ("C-d",)])
def test_ask_and_keep(box: Box, shell: Shell, keys: tuple[str, ...]) -> None:
    shell.view(*ASK, script="echo x > f")
    shell.shows("commit, drop, keep, shell, diff?")
    shell.type(*keys)
    shell.shows("kept; vuctl diff asked | commit asked | drop asked")
    shell.shows("status 0")
    assert layers(box) == ["asked"]


def test_ask_and_stop(box: Box, shell: Shell) -> None:
    shell.view(*ASK, script="echo x > f")
    shell.shows("commit, drop, keep, shell, diff?")
    shell.type("C-z")
    shell.shows("Stopped")
    shell.type("echo again $((1 + 1))", "Enter")
    shell.shows("again 2")
    shell.type("fg", "Enter", "keep", "Enter")
    shell.shows("kept; vuctl diff asked")


def test_over_several_trees(box: Box) -> None:
    """Each change goes into the tree that shows the thing."""
    top = tree(box)
    box.file("other/f", "hidden\n")
    box.file("other/only", "only\n")
    box.file("other/d/z", "z\n")
    box.give(box.scratch / "other")
    profile = f"""
[view]
name = "several"
[[mount]]
type = "merge"
target = "/mnt"
source = ["{top}", "{box.scratch}/other"]
[[mount]]
type = "cow"
target = "/mnt"
"""
    script = "cd /mnt; echo 1 >> f; echo 2 >> only; echo 3 > d/new; rm d/z h/z; rmdir h; cat f only; ls d"
    done = run(box, script, profile=profile)
    assert done.stdout == "f\n1\nonly\n2\ne\nnew\nx\n", done.stderr
    some = vuctl(box, "commit", "several", "f", cwd=Path("/"))
    assert (some.returncode, "only all of it can be committed" in some.stderr) == (2, True)
    assert vuctl(box, "commit", "several").stdout == "6 changes committed\n"
    other = box.scratch / "other"
    assert [(top / "f").read_text(), (other / "f").read_text()] == ["f\n1\n", "hidden\n"]
    assert [(top / "d/new").read_text(), (other / "only").read_text()] == ["3\n", "only\n2\n"]
    assert (sorted(os.listdir(top)), os.listdir(other / "d")) == (["d", "f", "g"], [])
    run(box, "rm /mnt/f", profile=profile).check()
    refused = vuctl(box, "commit", "several")
    assert refused.returncode == 1
    assert 'other" as well, and would show from there' in refused.stderr
    assert "could not show 1 change together" in refused.stderr
    assert (top / "f").exists()


NUMBERS = """
import os, shutil, sys
os.chdir(sys.argv[1])
def look(when):
    for directory, _, _ in os.walk('.'):
        for entry in os.scandir(directory):
            if entry.inode() != os.lstat(entry.path).st_ino:
                print(when, entry.path, entry.inode(), os.lstat(entry.path).st_ino)
look('before')
shutil.rmtree('d'); os.mkdir('d'); open('d/n', 'w'); open('g', 'a').write('x')
os.rename('h', 'moved'); os.mkdir('h')
look('after')
os.rename('moved', 'd/moved'); os.link('d/n', 'd/o'); os.chmod('d', 0o700)
os.mkdir('d/e'); os.rename('h', 'i')
look('later')
"""


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_listing_tells_the_numbers_that_stat_does(box: Box, elsewhere: bool) -> None:
    """Also of a directory in place of one below, of which nothing shows."""
    top = tree(box)
    target = box.directory("target") if elsewhere else top
    entry = f'[[mount]]\ntype = "cow"\nephemeral = true\nsource = "{top}"\ntarget = "{target}"\n'
    done = box.view([box.installation.python, "-c", NUMBERS, target], entry).check()
    assert done.stdout == ""
