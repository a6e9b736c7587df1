"""unreal: the whole tree of the view again, below /unreal and below /unreal/unreal. Real programs must not be
able to tell.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.box import Box, Result

pytestmark = pytest.mark.app

UNREAL = '[[mount]]\ntype = "unreal"\n'


def shell(box: Box, script: str, *arguments: object, profile: str | None = UNREAL) -> Result:
    words = ["sh", "-c", script, "sh", *map(str, arguments)]
    return box.view(words, profile, timeout=100)


def lines(result: Result) -> list[str]:
    result.check()
    return (result.stdout + result.stderr).splitlines()


def find(box: Box, top: str) -> str:
    """What is there, but for the paths."""
    return f"cd {top} && find . -printf '%p %y %m %u %g %n %s %i %T@ %l\\n' | sort"


def tar(box: Box, top: str) -> str:
    return f"cd {top} && tar -c --sort=name . | tar -tv --full-time && tar -c --sort=name . | md5sum"


def git(box: Box, top: str) -> str:
    return f"""
        export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
        cd {top} && git init -q repository 2>/dev/null && cd repository && cp -r ../sub . &&
        git -c user.name=a -c user.email=b add . && git -c user.name=a -c user.email=b commit -qm first &&
        echo more >>sub/file && git status --porcelain && git diff --stat && git log --format=%H &&
        git worktree add -q ../worktree HEAD && ls ../worktree/sub && git gc -q && git fsck && cat .git/HEAD
    """


def gcc(box: Box, top: str) -> str:
    return f"""
        cd {top} && echo '#define X 7' >sub/x.h && cat >x.c <<'END'
#include "sub/x.h"
#include <stdio.h>
int main(void) {{ return printf("%d\\n", X) < 0; }}
END
        gcc -Wall -O1 -o x x.c && ./x && {top}/x && gcc -M {top}/x.c | grep -c x[.]h
    """


@pytest.mark.parametrize("program", [find, tar, git, gcc], ids=lambda one: one.__name__)
def test_programs(box: Box, program: Callable[[Box, str], str]) -> None:
    """In a tree of their own, named by its path through /unreal/unreal: as natively."""
    said = []
    for depth in (0, 1, 2):
        work = box.scratch / "work"
        if work.exists():
            shutil.rmtree(work)
        box.directory("work/sub")
        for name in ("file", "other"):
            path = work / "sub" / name
            path.write_text(name * 10)
        (work / "link").symlink_to("sub/file")
        os.link(work / "sub/file", work / "second")
        for path in (work / "link", work / "sub/file", work / "sub/other", work / "sub", work):
            os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
        box.give(work)
        script = program(box, "/unreal" * depth + str(work))
        ran = shell(box, script, profile=UNREAL if depth else None).check()
        assert ran.stderr == ""
        assert ran.stdout
        said.append(ran.stdout)
    if program is find:
        said = [_without_numbers(text) for text in said]
    assert said[1:] == [said[0]] * 2


def _without_numbers(text: str) -> str:
    """The tree was made anew each time: other inodes, other times of directories and links."""
    return "\n".join(" ".join(line.split()[:7]) for line in text.splitlines())


def test_the_system_itself(box: Box) -> None:
    """As `find` and `tar` see it: the same objects, by another path."""
    script = """
        for top in / /unreal/ /unreal/unreal/; do
            cd $top
            find etc/alternatives usr/share/doc bin -printf '%p %y %m %i %s %l\\n' 2>&1 | sort | md5sum
            tar -c --sort=name -C ${top}usr/share perl5 dict 2>/dev/null | md5sum
        done | uniq -c | awk '{print $1}'
    """
    said = lines(
        shell(box, f"({script}) | sort -u; cd /unreal/unreal/usr/bin; pwd; ./env pwd; ./ls -d ../../../")
    )
    assert said == ["1", "/unreal/unreal/usr/bin", "/unreal/unreal/usr/bin", "../../../"]
    hashes = lines(shell(box, script.replace(" | uniq -c | awk '{print $1}'", "")))
    assert len(hashes) == 6
    assert hashes[0::2] == [hashes[0]] * 3
    assert hashes[1::2] == [hashes[1]] * 3


def test_twice_and_no_deeper(box: Box) -> None:
    script = """
        exec 2>&1
        ls -d /unreal/etc /unreal/unreal/etc; ls -A /unreal/unreal/unreal; ls -d /unreal/unreal/unreal/etc
        ls / | grep unreal; ls /unreal | grep unreal; touch /unreal/unreal/unreal/x
        ls /unreal/unreal | grep unreal
        cd /unreal/unreal/usr; cd ../..; pwd -P; cd ..; pwd -P
        findmnt -n -o FSTYPE /unreal | tail -n 1
    """
    said = shell(box, script).check().stdout.splitlines()
    refused = "Read-only file system" if box.identity.uid == 0 else "Permission denied"
    assert said == [
        "/unreal/etc",
        "/unreal/unreal/etc",
        "ls: cannot access '/unreal/unreal/unreal/etc': No such file or directory",
        "unreal",
        "unreal",
        said[5],
        "unreal",
        "/unreal",
        "/",
        "unreal",
    ]
    assert said[5].endswith((refused, "Read-only file system"))


def test_all_that_the_view_shows(box: Box) -> None:
    """Binds, hidden files, a tmpfs, a cow; and what is mounted later, until it is unmounted."""
    for name in ("shown", "hidden", "cow", "mnt"):
        box.file(f"{name}/{name}", name + "\n")
    s = box.scratch
    profile = f"""
[[mount]]
type = "bind"
source = "{s}/shown"
target = "/srv/shown"
[[mount]]
type = "hide"
target = "{s}/hidden"
[[mount]]
type = "cow"
target = "{s}/cow"
ephemeral = true
[[mount]]
type = "unreal"
"""
    script = """
        exec 2>&1
        for top in '' /unreal /unreal/unreal; do
            cat $top/srv/shown/shown; ls $top$1/hidden; cat $top$1/cow/cow; echo $top >>$top$1/cow/new
        done
        cat $1/cow/new | wc -l; cmp $1/cow/new /unreal/unreal$1/cow/new
        vumount -t memory none $1/mnt; echo in >/unreal$1/mnt/x; cat $1/mnt/x /unreal/unreal$1/mnt/x
        vuumount $1/mnt; ls /unreal$1/mnt /unreal/unreal$1/mnt $1/mnt
        cd /unreal$1/cow; /bin/pwd; cd /unreal/unreal/srv/shown; /bin/pwd
    """
    said = shell(box, script, s, profile=profile).check().stdout.splitlines()
    expected = []
    for top in ("", "/unreal", "/unreal/unreal"):
        expected += ["shown", f"ls: cannot access '{top}{s}/hidden': No such file or directory", "cow"]
    places = (f"/unreal/unreal{s}/mnt", f"/unreal{s}/mnt", f"{s}/mnt")
    expected += ["3", "in", "in"]
    assert said[: len(expected)] == expected
    rest = said[len(expected) :]
    assert sorted(line for line in rest if line.endswith(":")) == sorted(f"{place}:" for place in places)
    assert rest.count("mnt") == 3
    assert rest[-2:] == [f"/unreal{s}/cow", "/unreal/unreal/srv/shown"]
    assert not (s / "cow/new").exists()


def test_while_the_view_runs(box: Box) -> None:
    script = """
        exec 2>&1
        vu_insmod unreal; vu_lsmod; cat /unreal/unreal/$1; vu_insmod unreal; vumount -t unreal none $2
        vu_rmmod unreal; ls -d /unreal
        vumount -t unreal none $2/new; ls $2/new/$2/new/etc/hostname; vuumount $2/new
        vumount -t unreal -o ro none $2; echo x >$2/$1; cat $2/$1; vuumount $2; ls $2
        vumount -t unreal -o x=1 none $2; vumount -t unreal none $2/a/b; vumount -t unreal none /
        vumount -t unreal none $1 || true
    """
    file, mnt = box.file("file", "content\n"), box.directory("mnt")
    said = lines(shell(box, script, file, mnt, profile=None))
    assert said == [
        "unreal: the whole tree of the view again, at /unreal and /unreal/unreal",
        "content",
        "vu_insmod: module unreal is loaded already",
        "vumount: /unreal shows the tree of the view already",
        "ls: cannot access '/unreal': No such file or directory",
        f"{mnt}/new/{mnt}/new/etc/hostname",
        f"sh: 6: cannot create {mnt}/{file}: Read-only file system",
        "content",
        "vumount: type unreal has no options of its own, such as x=1",
        f"vumount: {mnt}/a/b: No such file or directory",
        "vumount: the tree of the view cannot be shown below itself at /",
        f"vumount: {file} is no directory",
    ]


def test_in_a_profile(box: Box) -> None:
    mnt = box.directory("mnt")
    other = f'[[mount]]\ntype = "unreal"\ntarget = "{mnt}"\nreadonly = true\n'
    script = "ls -d $1/usr; touch $1/$1/new 2>&1; grep unreal /proc/self/mounts"
    assert lines(shell(box, script, mnt, profile=other)) == [
        f"{mnt}/usr",
        f"touch: cannot touch '{mnt}/{mnt}/new': Read-only file system",
        f"none {mnt} unreal ro 0 0",
    ]
    for text, said in (
        ('type = "unreal"\ntarget = "/"', 'cannot be shown again at "/"'),
        ('type = "unreal"\nsource = "/x"', 'unknown key "source" for type "unreal"'),
        ('type = "unreel"', 'unknown type "unreel"'),
    ):
        result = box.view(["true"], f"[[mount]]\n{text}\n")
        assert result.returncode == 125
        assert said in result.stderr, result.stderr


def test_programs_run_from_there(box: Box) -> None:
    work = box.directory("work")
    script = """
        /unreal/usr/bin/python3 -c 'import sys, json; print(sys.argv, json.dumps([1]))' a b
        cd /unreal/unreal$1; printf '#!/unreal/bin/sh\\necho "$0" "$@"\\n' >script; chmod +x script
        ./script x
        /unreal/unreal/usr/bin/find . -name 'scr*' -exec /unreal/bin/echo {} \\;
        for i in 1 2 3 4; do /unreal/bin/sh -c 'echo $0' $i & done; wait
    """
    said = lines(shell(box, script, work))
    assert said[:3] == ["['-c', 'a', 'b'] [1]", "./script x", "./script"]
    assert sorted(said[3:]) == ["1", "2", "3", "4"]


def test_nested_views(box: Box) -> None:
    """A nested view has it too, and what is mounted in one of the two is there in that one."""
    mnt, inner = box.directory("mnt"), box.directory("inner")
    profile = box.profile(f'[[mount]]\ntype = "tmpfs"\ntarget = "{inner}"\n')
    script = f"""
        exec 2>&1
        ls -d /unreal/unreal$1
        vuos-run --view={profile} -- sh -c '
            echo in >$1/x; ls /unreal$1 /unreal/unreal$1
            vumount -t memory none $2; echo y >/unreal$2/y; ls /unreal/unreal$2' sh $2 $1
        ls -A /unreal$1 /unreal$2
        vumount -t memory none $1; ls -d /unreal/unreal$1/.; vuumount $1; vuumount /unreal; ls /unreal
    """
    said = shell(box, script, mnt, inner).stdout.splitlines()
    assert said == [
        f"/unreal/unreal{mnt}",
        f"/unreal{inner}:", "x", "", f"/unreal/unreal{inner}:", "x", "y",
        f"/unreal{inner}:", "", f"/unreal{mnt}:",
        f"/unreal/unreal{mnt}/.",
    ]  # fmt: skip


@pytest.mark.tmpfs
def test_over_a_cow_of_everything(box: Box, public: Path) -> None:
    """The root itself is several trees: what is changed by one path is so by the others, and nowhere else."""
    place = public / f"cow-{box.identity.uid}"
    place.mkdir()
    (place / "file").write_text("real\n")
    box.give(place)
    cow = '[[mount]]\ntype = "cow"\ntarget = "/"\nephemeral = true\n'
    script = """
        cd /unreal$1; /bin/pwd; echo changed >file; cat $1/file /unreal/unreal$1/file
        echo new >/unreal/unreal$1/new; cat new; rm file; ls $1 /unreal$1; mkdir -p a/b; cd a/b; /bin/pwd
        mv ../b ../c; ls $1/a; ls -d /unreal/unreal/unreal/etc 2>/dev/null || echo no deeper
    """
    words = ["sh", "-c", script, "sh", str(place)]
    result = box.view(words, cow + UNREAL, env={"XDG_STATE_HOME": str(box.scratch / "home")}, timeout=60)
    assert lines(result) == [
        f"/unreal{place}", "changed", "changed", "new", f"{place}:", "new", "", f"/unreal{place}:", "new",
        f"/unreal{place}/a/b", "c", "no deeper",
    ]  # fmt: skip
    assert [path.name for path in place.iterdir()] == ["file"]
    assert (place / "file").read_text() == "real\n"
    shutil.rmtree(place)
