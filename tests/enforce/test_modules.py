"""Modules and unreal in enforcing views: what a profile grants, and nothing that is hidden comes through."""

from pathlib import Path

import pytest
from enforce.test_race import race
from enforce.tree import Tree
from harness import places
from harness.box import Box, Result

pytestmark = [pytest.mark.app, pytest.mark.places(places.PLAIN)]

ENFORCE = '[view]\nenforce = true\n[[mount]]\ntype = "hide"\ntarget = "{top}/hidden"\n'
UNREAL = '[[mount]]\ntype = "unreal"\n'

GUARD = '''
from vuosd.api import *


class Guard(Module):
    """A guard."""

    class Options(ModuleOptions):
        place: str

    def start(self):
        self.boundaries = (Paths((self.options.place,), ("open", "stat", "rename")),)

    def open(self, call):
        if call.path.endswith(b"/no"):
            raise OSError(13, "no")
        return PROCEED

    def rename(self, call):
        return PROCEED

    def stat(self, call):
        return self.open(call)
'''
FLIP = """
import ctypes, os, sys, threading
paths = [f"{sys.argv[1]}/{name}".encode() + b"\\0" for name in ("ye", "no")]
address, going = ctypes.create_string_buffer(paths[0]), True
def flip():
    while going:
        for path in paths:
            ctypes.memmove(address, path, len(path))
thread = threading.Thread(target=flip)
thread.start()
sys.setswitchinterval(1e-5)
libc, got = ctypes.CDLL(None), []
for number in range(150):
    fd = libc.open(address, os.O_RDONLY)
    if fd >= 0:
        got.append(os.read(fd, 10))
        os.close(fd)
going = False
thread.join()
print(got.count(b"ye") > 0, got.count(b"no"))
"""


@pytest.fixture
def top(box: Box) -> Path:
    box.file("t/hidden/file", "hidden\n")
    for name in ("ye", "no"):
        box.file(f"t/place/{name}", name)
    return box.give(box.scratch / "t")


def run(box: Box, top: Path, more: str, script: str, *arguments: object) -> Result:
    words = ["sh", "-c", f"exec 2>&1; {script}", "sh", str(top), *map(str, arguments)]
    return box.view(words, ENFORCE.format(top=top) + more, timeout=60)


def guard(box: Box, top: Path, *, load: bool = True) -> str:
    """A profile's entry for the guard, whose code the view may change."""
    path = box.file("guard.py", GUARD)
    box.give(path)
    keys = f'name = "{path}"\noptions = "place={top}/place"\nload = {str(load).lower()}\n'
    return f"[[module]]\n{keys}"


@pytest.mark.places(places.PLAIN, places.DOCKER)
def test_a_profiles_module_answers(box: Box, top: Path) -> None:
    """Also where nothing can be changed from inside."""
    more = '[[module]]\nname = "nodename"\noptions = "name=box"\n'
    script = """
        uname -n; cat $1/place/ye $1/hidden/file
        vu_rmmod nodename; vu_insmod nodename; vumount -B $1 $1/place
    """
    refused = "the profile of this view does not grant it: [control] allow ="
    assert run(box, top, more, script).stdout.replace(f"cat: {top}", "cat: ").splitlines() == [
        *("box", "yecat: /hidden/file: No such file or directory"),
        *(f"{command}: {refused} " + f'["{word}"]' for command, word in
          (("vu_rmmod", "rmmod"), ("vu_insmod", "insmod"), ("vumount", "mount"))),
    ]  # fmt: skip


def test_what_is_loaded_from_inside_is_the_profiles(box: Box, top: Path) -> None:
    """With its options, and with the code that it had before the view could change it."""
    allow = '[control]\nallow = ["insmod", "rmmod"]\n'
    script = """
        cat $1/place/no; echo; echo "raise SystemExit" >$2; cp $2 $HOME/other.py
        vu_insmod $2; cat $1/place/no; cat $1/place/ye; echo; mv $1/place/ye $1/place/yes && ls $1/place
        vu_rmmod $2; cat $1/place/no; echo
        vu_insmod -o place=/ $2; vu_insmod $HOME/other.py; vu_insmod nodename; vu_insmod -p $2
        vu_rmmod $2; vu_lsmod; cat $1/place/no
    """
    path = box.scratch / "guard.py"
    said = run(box, top, guard(box, top, load=False) + allow, script, path).stdout.splitlines()
    refused, denied = "in an enforcing view its", f"cat: {top}/place/no: Permission denied"
    assert said == [
        *("no", denied, "ye", "no", "yes", "no"),
        f"vu_insmod: module {path}: {refused} options are the profile's",
        *(f"vu_insmod: module {name}: {refused} profile names it ([[module]])"
          for name in (f"{box.scratch}/home/other.py", "nodename")),
        f"vu_rmmod: module {path} was loaded for good (-p)", f"{path}: A guard", denied,
    ]  # fmt: skip


@pytest.mark.parametrize("enforce", [True, False])
def test_what_proceeds_is_what_was_asked_about(box: Box, top: Path, enforce: bool) -> None:
    """A path that is exchanged while a module is asked: the module is asked about the other as well.
    Without enforcement the race is won now and then.
    """
    profile = guard(box, top) + (ENFORCE.format(top=top) if enforce else "")
    won, seen = 0, False
    for _ in range(20):
        result = box.view(["/usr/bin/python3", "-c", FLIP, str(top / "place")], profile, timeout=60).check()
        some, times = result.stdout.split()
        seen |= some == "True"
        won += int(times)
        if won or (enforce and seen):
            break
    assert seen
    assert (won == 0) == enforce


def test_nothing_comes_through_unreal(box: Box, top: Path) -> None:
    script = """
        cat /unreal$1/place/ye; echo; /unreal/bin/echo ran; cd /unreal/unreal$1; pwd; ls
        for at in /unreal /unreal/unreal; do
            cat $at$1/hidden/file; ls -d $at$1/hidden; mkdir $at$1/hidden; cd $at$1/hidden
            cat $at/proc/self/root$1/hidden/file $at/proc/1/root$1/hidden/file; stat $at$1/place/../hidden
            mv $at$1/hidden $at$1/place/x; ln $at$1/hidden/file $at$1/place/x; $at/bin/sh $at$1/hidden/file
        done 2>/dev/null
    """
    allow = '[control]\nallow = ["insmod"]\n'
    expected = ["ye", "ran", f"/unreal/unreal{top}", "place"]
    assert run(box, top, UNREAL, script).stdout.splitlines() == expected
    assert run(box, top, allow, "vu_insmod unreal; " + script).stdout.splitlines() == expected
    assert [path.name for path in (top / "hidden").iterdir()] == ["file"]


def test_no_race_is_won_through_unreal(box: Box) -> None:
    tree = Tree(box)
    try:
        calls = ("open", "openat2", "stat", "chdir", "exec", "rename", "connect", "bind", "readlink")
        found = race(box, tree, "sec", tree.profile() + UNREAL, *calls, at="/unreal")
        assert {call: finds for call, (_, finds) in found.items() if finds} == {}
        assert len(found) > 5
        assert tree.changed() == []
    finally:
        tree.close()


def test_a_nested_view_has_no_server_outside_of_the_fence(box: Box, top: Path) -> None:
    """Its profile is written by those who are fenced in."""
    allow = '[control]\nallow = ["mount", "view"]\n'
    evil = box.file("evil.py", f"open({str(top / 'place' / 'made')!r}, 'w')\n")
    for kind in ('"real"\nsource = "/"', f'"{evil}"', f'"fuse.sh"\nsource = "{evil}"'):
        nested = box.profile(f'[[mount]]\ntype = {kind}\ntarget = "{top}/place"\n')
        script = "$2 --view=$3 -- cat $1/place$1/hidden/file"
        result = run(box, top, allow, script, box.installation.vuos_run, nested)
        assert "the view outside enforces, and its servers of file systems are outside" in result.stdout
        assert "\nhidden" not in result.stdout
    assert sorted(path.name for path in (top / "place").iterdir()) == ["no", "ye"]
