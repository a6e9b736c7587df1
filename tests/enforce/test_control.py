"""What processes of an enforcing view may change of it: what its profile grants, and nothing that leads past
its limits.
"""

import os
import subprocess
from pathlib import Path

import pytest
from harness import places
from harness.box import Box, Result

pytestmark = [pytest.mark.app, pytest.mark.places(places.FUSE, places.DOCKER)]

PROFILE = """
[view]
enforce = true
[control]
allow = {allow}
[[mount]]
type = "hide"
target = "{top}/hidden"
[[mount]]
type = "ro"
target = "{top}/fixed"
"""
ALL = '["mount", "umount", "insmod", "rmmod", "view"]'


@pytest.fixture
def top(box: Box) -> Path:
    for name in ("hidden", "fixed", "free", "mnt"):
        directory = box.directory(f"t/{name}")
        (directory / "file").write_text(f"of {name}\n")
        box.give(directory)
    return box.give(box.scratch / "t")


def run(box: Box, top: Path, script: str, *arguments: object, allow: str = ALL) -> Result:
    words = ["sh", "-c", script, "sh", str(top), *map(str, arguments)]
    return box.view(words, PROFILE.format(allow=allow, top=top), timeout=40)


def test_nothing_is_granted_at_first(box: Box, top: Path) -> None:
    profile = PROFILE.format(allow="[]", top=top).replace("[control]\nallow = []\n", "")
    words = ["sh", "-c", "vumount -B $1/free $1/mnt; cat $1/mnt/file", "sh", top]
    result = box.view(words, profile)
    assert result.stdout == "of mnt\n"
    assert "this is no view, or one that lets nothing be mounted" in result.stderr


@pytest.mark.parametrize(("granted", "script"), [
    ("mount", "vumount -B $1/free $1/mnt"),
    ("umount", "vuumount $1/mnt"),
    ("insmod", "vu_insmod fuse"),
    ("rmmod", "vu_rmmod fuse"),
    ("view", "$2 -- true"),
])  # fmt: skip
def test_only_what_is_granted(box: Box, top: Path, granted: str, script: str) -> None:
    others = sorted({"mount", "umount", "insmod", "rmmod", "view"} - {granted})
    refused = run(box, top, script, box.installation.vuos_run, allow=str(others).replace("'", '"'))
    assert refused.returncode
    assert f'the profile of this view does not grant it: [control] allow = ["{granted}"]' in refused.stderr
    allowed = run(box, top, script, box.installation.vuos_run, allow=f'["{granted}"]')
    assert "does not grant" not in allowed.stderr


def test_an_unknown_word_is_answered_with_the_nearest(box: Box, top: Path) -> None:
    result = run(box, top, "true", allow='["mont"]')
    assert result.returncode == 125
    assert 'unusable value "mont"' in result.stderr
    assert 'did you mean "mount"?' in result.stderr


def test_binds_show_what_the_view_shows(box: Box, top: Path) -> None:
    script = """
        vumount -B $1/free $1/mnt && cat $1/mnt/file && echo new >$1/mnt/new && vuumount $1/mnt
        cat $1/mnt/file $1/free/new
        try() {
            (cd $1; vumount -B $2 $1/mnt) || echo failed $2
            (cat $3/hidden/file; ls $3/hidden; cd $3/hidden && pwd; stat $3/hidden
            ln -s x $3/hidden/made; mv $3/hidden $1/mnt/other; mkdir $3/hidden) 2>/dev/null
            (echo x >$3/fixed/file; chmod 777 $3/fixed/file; touch $3/fixed/file
            rm $3/fixed/file; ln $3/fixed/file $1/free/more) 2>/dev/null
            test -e $3/free/file || echo not there
            vumount -o remount,rw $2 $1/mnt; vuumount $1/mnt
        }
        try $1 $1 $1/mnt; try $1 / $1/mnt$1; try $1 /proc/self/root $1/mnt$1
        try $1 /proc/self/cwd $1/mnt; try $1 $1/mnt/.. $1/mnt
        vumount -B $1/fixed $1/mnt; vumount -o remount,rw $1/fixed $1/mnt 2>/dev/null || echo locked
        echo x 2>/dev/null >$1/mnt/file || echo read-only
    """
    before = (top / "fixed/file").stat()
    result = run(box, top, script)
    assert result.stdout.splitlines() == ["of free", "of mnt", "new", "locked", "read-only"]
    assert sorted(path.name for path in (top / "hidden").iterdir()) == ["file"]
    assert (top / "fixed/file").stat() == before


def test_a_bind_of_proc_leads_no_further(box: Box, top: Path) -> None:
    script = """
        vumount -B /proc $1/mnt || exit 9
        for pid in self 1 $PPID $2; do
            for path in root cwd exe; do
                cat $1/mnt/$pid/$path/$1/hidden/file $1/mnt/$pid/$path/hidden/file
            done
            cat $1/mnt/$pid/environ $1/mnt/$pid/fd/0 >/dev/null && test $pid != self && echo read $pid
            cat $1/mnt/$pid/task/$pid/root$1/hidden/file
        done 2>/dev/null
        echo end
    """
    outside = box.popen(["sleep", "60"])
    result = run(box, top, script, outside.pid)
    outside.kill()
    assert result.stdout.replace("read 1\n", "") == "end\n"


def test_a_nested_view_has_no_more(box: Box, top: Path) -> None:
    nested = box.profile(
        f'[[mount]]\ntype = "bind"\nsource = "{top}"\ntarget = "{top}/mnt"\n'
        f'[[mount]]\ntype = "tmpfs"\ntarget = "{top}/free"\n'
    )
    script = """
        $2 --view=$3 -- sh -c '
            cat $1/mnt/free/file; ls $1/free; echo x >$1/free/x; cat $1/free/x
            cat $1/mnt/hidden/file; echo x >$1/mnt/fixed/file; chmod 777 $1/mnt/fixed/file' sh $1
        cat $1/free/file
    """
    result = run(box, top, script, box.installation.vuos_run, nested)
    assert result.stdout.splitlines() == ["of free", "x", "of free"]
    assert result.stderr.count("No such file or directory") == 1
    assert result.stderr.count("Read-only file system") == 2


def test_a_servers_eyes_are_its_starters(box: Box, top: Path) -> None:
    """A FUSE server shows what the view shows, whether it was started by hand or by vumount."""
    script = """
        look() {
            i=0; until test -e $1/free/file || [ $i -gt 100 ]; do sleep 0.05; i=$((i + 1)); done
            cat $1/free/file; cat $1/hidden/file; echo x >$1/fixed/file; ls $1/hidden
        }
        mkdir $1/empty
        bindfs $1 $1/empty && look $1/empty; fusermount3 -u $1/empty
        for type in real fuse.bindfs; do
            vumount -t $type $1 $1/empty && look $1/empty; vuumount $1/empty
            vumount -t $type / $1/empty && look $1/empty$1; vuumount $1/empty
        done
        ls $1/empty
    """
    result = run(box, top, script)
    assert result.stdout.splitlines() == ["of free"] * 5, result.stderr
    assert result.stderr.count("hidden/file: No such file or directory") == 5
    assert result.stderr.count("hidden': No such file or directory") == 5
    assert result.stderr.count("Read-only file system") == 5
    assert (top / "fixed/file").read_text() == "of fixed\n"


def test_images_are_mounted_by_servers_inside(box: Box, top: Path) -> None:
    image = box.scratch / "image"
    subprocess.run(["truncate", "-s", "4M", image], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext2", "-d", top / "free", image], check=True, capture_output=True)
    os.chown(image, box.identity.uid, box.identity.gid)
    script = """
        mkdir $1/empty; vumount -t ext4 -o ro $2 $1/empty; cat $1/empty/file; vuumount $1/empty
        vumount -t ext4 -o ro $1/hidden/file $1/mnt; vumount -t memory - $1/mnt && echo x >$1/mnt/new
        cat $1/mnt/new; vuumount $1/mnt; cat $1/mnt/file
    """
    result = run(box, top, script, image)
    assert result.stdout.splitlines() == ["of free", "x", "of mnt"], result.stderr
    assert "hidden/file: No such file or directory" in result.stderr
