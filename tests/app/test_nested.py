"""Views inside views: mount namespaces of their own in one session."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import places
from harness.box import Box, Result

pytestmark = [pytest.mark.app, pytest.mark.places(places.PLAIN, places.DOCKER, places.ANCESTORS)]

OUTER = '[control]\nallow = ["mount", "umount", "view"]\n'


def run(box: Box, script: str, *arguments: object, outer: str | None = None, **more: object) -> Result:
    """A script in a view, in which `in_view PROFILE COMMAND…` and `in_copy COMMAND…` start nested ones."""
    launcher = box.installation.vuos_run
    functions = f"""
        in_view() {{ view=$1; shift; {launcher} --view="$view" -- "$@"; }}
        in_copy() {{ {launcher} -- "$@"; }}
    """
    words = ["sh", "-c", functions + script, "sh", *map(str, arguments)]
    return box.view(words, outer, **{"timeout": 30, **more})


def lines(box: Box, script: str, *arguments: object, outer: str | None = None) -> list[str]:
    return run(box, "set -e;" + script, *arguments, outer=outer).check().stdout.splitlines()


@pytest.fixture
def trees(box: Box) -> tuple[Path, Path, Path]:
    """Two directories with a file each, and a place to mount them at."""
    found = [box.directory(name) for name in ("a", "b", "mnt")]
    for directory in found[:2]:
        (directory / "file").write_text(f"of {directory.name}\n")
        box.give(directory)
    return found[0], found[1], found[2]


def test_two_children_of_a_shell_have_different_things_at_one_place(
    box: Box, trees: tuple[Path, Path, Path]
) -> None:
    for name in ("go1", "go2"):
        os.mkfifo(box.scratch / name)
    box.give(box.scratch)
    script = """
        cd $4
        in_copy sh -ec 'vumount -B $1 $2; echo >go1; read x <go2; cat $2/file' sh $1 $3 &
        read x <go1
        in_copy sh -ec 'vumount -B $1 $2; cat $2/file; echo >go2' sh $2 $3
        wait $!
        ls $3
    """
    assert lines(box, script, *trees, box.scratch) == ["of b", "of a"]


def test_a_profile_is_read_with_the_eyes_of_the_view_outside(
    box: Box, trees: tuple[Path, Path, Path]
) -> None:
    a, b, mnt = trees
    inner = box.profile(f'[[mount]]\ntype = "bind"\nsource = "{a}"\ntarget = "{mnt}"\n')
    outer = f'[[mount]]\ntype = "bind"\nsource = "{b}"\ntarget = "{a}"\n'
    assert lines(box, "in_view $1 cat $2/file", inner, mnt, outer=outer) == ["of b"]


def test_what_is_hidden_outside_cannot_be_shown_inside(box: Box, trees: tuple[Path, Path, Path]) -> None:
    a, _, mnt = trees
    show = box.profile(f'[[mount]]\ntype = "bind"\nsource = "{a}"\ntarget = "{mnt}"\n')
    above = box.profile(f'[[mount]]\ntype = "bind"\nsource = "{box.scratch}"\ntarget = "{mnt}"\n')
    hide = f'[[mount]]\ntype = "hide"\ntarget = "{a}"\n'
    refused = run(box, "in_view $1 true", show, outer=hide)
    assert refused.returncode == 125
    assert f'source "{a}" does not exist' in refused.stderr
    script = "in_view $1 sh -c 'ls $1; cat $1/a/file' sh $2 2>&1 || vumount -B $3 $2; cat $2/a/file 2>&1"
    result = run(box, script, above, mnt, box.scratch, outer=hide)
    assert "of a" not in result.stdout
    assert result.stdout.count("No such file or directory") == 2
    assert "\na\n" not in "\n" + result.stdout


def test_what_is_read_only_outside_stays_so(box: Box, trees: tuple[Path, Path, Path]) -> None:
    a, _, mnt = trees
    inner = box.profile(f'[[mount]]\ntype = "bind"\nsource = "{a}"\ntarget = "{mnt}"\n')
    above = box.profile(f'[[mount]]\ntype = "bind"\nsource = "{box.scratch}"\ntarget = "{mnt}"\n')
    outer = f'[[mount]]\ntype = "ro"\ntarget = "{a}"\n'
    script = """
        in_view $1 sh -c 'echo x >$1/file' sh $3
        in_view $2 sh -c 'echo x >$1/a/file' sh $3
        vumount -B $4 $3; echo x >$3/file
        vumount -o remount,rw $4 $3
        echo x >$3/file
    """
    said = run(box, script, inner, above, mnt, a, outer=outer).stderr
    assert said.count("Read-only file system") == 4
    assert (a / "file").read_text() == "of a\n"


def test_entries_of_every_kind(box: Box, trees: tuple[Path, Path, Path]) -> None:
    a, b, mnt = trees
    inner = box.profile(
        f"""
        [view]
        cwd = "{mnt}"
        [[mount]]
        type = "tmpfs"
        target = "{mnt}"
        [[mount]]
        type = "bind"
        source = "{b}"
        target = "{mnt}/deep/b"
        [[mount]]
        type = "hide"
        target = "{a}"
        [[mount]]
        type = "ro"
        target = "{b}"
        [env.set]
        SAID = "yes"
        """
    )
    script = """
        in_view $1 sh -c '
            pwd; echo $SAID; cat deep/b/file; echo x >new; ls; echo x >deep/b/new
            echo x 2>&- >$1/file || echo read-only; test -e $2 || echo hidden; ls $3' sh $3 $2 $4
        cat $2/file; ls $5
    """
    expected = [str(mnt), "yes", "of b", "deep", "new", "read-only", "hidden"]
    listed = sorted(name for name in os.listdir(box.scratch) if name != "a" and "view" not in name)
    found = lines(box, script, inner, a, b, box.scratch, mnt, outer=OUTER)
    found = [name for name in found if not name.startswith("view")]
    assert found == [*expected, *listed, "of a"]
    assert (b / "new").read_text() == "x\n"


def test_the_namespace_is_a_copy(box: Box, trees: tuple[Path, Path, Path]) -> None:
    """mount_namespaces(7): what is mounted before is there, what is mounted later is not, either way."""
    a, b, mnt = trees
    other = box.directory("other")
    for name in ("go1", "go2"):
        os.mkfifo(box.scratch / name)
    box.give(box.scratch)
    script = """
        cd $5
        vumount -B $1 $3
        in_copy sh -ec '
            cat $1/file; echo >go1; read x <go2; cat $1/file; ls $2; vuumount $1; ls $1' sh $3 $4 &
        read x <go1
        vuumount $3; vumount -B $2 $4; ls $3
        echo >go2; wait $!
        cat $4/file
    """
    assert lines(box, script, a, b, mnt, other, box.scratch) == ["of a", "of a", "of b"]


def test_who_belongs_to_a_namespace_survives_exec_fork_and_orphaning(
    box: Box, trees: tuple[Path, Path, Path]
) -> None:
    a, _, mnt = trees
    os.mkfifo(box.scratch / "go")
    box.give(box.scratch)
    script = """
        cd $3
        in_copy sh -ec '
            vumount -B $1 $2
            env sh -c "(setsid sh -c \\"read x <go; cat $2/file >out; echo >go\\" &)"' sh $1 $2
        ls $2
        echo >go; read x <go; cat out
    """
    assert lines(box, script, a, mnt, box.scratch) == ["of a"]


def test_a_view_in_a_view_in_a_view(box: Box, trees: tuple[Path, Path, Path]) -> None:
    a, b, mnt = trees
    one = box.profile(f'[[mount]]\ntype = "bind"\nsource = "{a}"\ntarget = "{mnt}"\n')
    two = box.profile(f'[[mount]]\ntype = "bind"\nsource = "{mnt}"\ntarget = "{b}"\n')
    script = "in_view $1 $2 --view=$3 -- sh -c 'cat $1/file; exit 7' sh $4; echo $?; cat $4/file"
    assert lines(box, "set +e;" + script, one, box.installation.vuos_run, two, b) == ["of a", "7", "of b"]


def test_exit_status_and_signals_are_the_commands(box: Box) -> None:
    script = """
        in_copy sh -c 'exit 9'; echo $?
        in_copy sh -c 'kill -TERM $$'; echo $?
        in_copy nothing-of-that-name 2>/dev/null; echo $?
        in_copy / 2>/dev/null; echo $?
        $1 -- sh -c 'kill -STOP $$; echo on' &
        until grep -q 'State:.T' /proc/$!/status; do :; done
        kill -CONT $!; wait $!; echo $?
    """
    assert run(box, script, box.installation.vuos_run).check().stdout.split() == [
        "9",
        "143",
        "127",
        "126",
        "on",
        "0",
    ]


REFUSED = {
    "[view]\nenforce = true\n": "enforce = true cannot be held in a nested view",
    "[view]\nsurvive = true\n": "survive = true cannot be held in a nested view",
    '[[mount]]\ntype = "cow"\ntarget = "."\n': 'a nested view has no entry of type "cow"',
    '[[mount]]\ntype = "bind"\nsource = "/none"\ntarget = "/mnt"\n': 'source "/none" does not exist',
    "[vieww]\n": "unknown key",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_held_is_refused_with_a_sentence(box: Box, text: str) -> None:
    result = run(box, "in_view $1 true", box.profile(text), outer=OUTER)
    assert result.returncode == 125
    assert REFUSED[text] in result.stderr


def test_layers_are_refused(box: Box) -> None:
    for option in ("--cow", "--on=x", "--store=/tmp"):
        result = run(box, "$1 $2 -- true", box.installation.vuos_run, option)
        assert result.returncode == 125
        assert "layers" in result.stderr


def test_entries_that_need_a_filter_the_view_outside_has_not(
    box: Box, trees: tuple[Path, Path, Path]
) -> None:
    inner = box.profile(f'[[mount]]\ntype = "hide"\ntarget = "{trees[0]}"\n')
    result = run(box, "in_view $1 true", inner)
    assert result.returncode == 125
    assert '[control] allow = ["view", …]' in result.stderr
    assert run(box, "in_view $1 true", inner, outer=OUTER).returncode == 0


@pytest.mark.only("user")
@pytest.mark.places(places.PLAIN)  # the numbers are the engine's, which is the same everywhere
def test_numbers_of_ended_views_are_used_again(box: Box) -> None:
    """More views, one after the other, than a session has room for at a time."""
    script = "i=0; while [ $i -lt 1100 ]; do in_copy true || exit 1; i=$((i + 1)); done"
    run(box, script, timeout=100).check()


@pytest.mark.places(places.FUSE)
def test_servers_of_a_nested_view_end_with_it(box: Box, trees: tuple[Path, Path, Path]) -> None:
    a, b, mnt = trees
    empty = box.directory("empty")
    inner = box.profile(f'[[mount]]\ntype = "fuse.bindfs"\nsource = "{a}"\ntarget = "{mnt}"\n')
    script = """
        in_view $1 sh -ec 'cat $1/file; bindfs $2 $3; cat $3/file' sh $4 $3 $6
        i=0; while pgrep -f "^bindfs .*$5" && [ $i -lt 100 ]; do sleep 0.1; i=$((i + 1)); done >&2
        pgrep -f "^bindfs .*$5" || echo gone
        ls $4
    """
    assert lines(box, script, inner, a, b, mnt, box.scratch, empty) == ["of a", "of b", "gone"]


@pytest.mark.places(places.FUSE)
def test_a_file_system_lives_until_the_last_namespace_has_unmounted_it(
    box: Box, trees: tuple[Path, Path, Path]
) -> None:
    a, _, mnt = trees
    for name in ("go1", "go2"):
        os.mkfifo(box.scratch / name)
    box.give(box.scratch)
    script = """
        cd $3
        vumount -t fuse.bindfs $1 $2
        in_copy sh -ec 'echo >go1; read x <go2; cat $1/file; vuumount $1; ls $1' sh $2 &
        read x <go1
        vuumount $2; ls $2
        echo >go2; wait $!
    """
    assert lines(box, script, a, mnt, box.scratch) == ["of a"]


@pytest.mark.only("root")
def test_a_chroot_cannot_nest(box: Box) -> None:
    root = box.directory("root")
    shutil.copy(box.installation.vuos_run, root / "vuos-run")
    result = run(box, "chroot $1 /vuos-run -- /none", root)
    assert result.returncode == 125
    assert "chroot(2)" in result.stderr


@pytest.mark.places(places.FUSE)
def test_from_outside_by_the_number_of_a_process(box: Box, trees: tuple[Path, Path, Path]) -> None:
    a, _, mnt = trees
    for name in ("go1", "go2"):
        os.mkfifo(box.scratch / name)
    box.give(box.scratch)
    script = """
        cd $3; in_copy sh -ec 'vumount -B $1 $2; echo $PPID $$ >go1; read x <go2; ls $2' sh $1 $2
    """
    launcher = box.installation.vuos_run
    words = ["sh", "-ec", f'in_copy() {{ {launcher} -- "$@"; }}' + script, "sh", a, mnt, box.scratch]
    view = box.popen_view(list(map(str, words)), stdout=subprocess.PIPE)
    above, pid = (box.scratch / "go1").read_text().split()
    vuctl = box.installation.bin / "vuctl"
    listed = json.loads(box.native([vuctl, "mounts", "--json", pid]).check().stdout)["mounts"]
    assert [mount["target"] for mount in listed] == [str(mnt)]
    outer = json.loads(box.native([vuctl, "mounts", "--json", above]).check().stdout)["mounts"]
    assert outer == []
    shown = json.loads(box.native([vuctl, "show", "--json", pid]).check().stdout)
    assert [nested["pid"] for nested in shown["nested"]] == [int(pid)]
    refused = box.native([vuctl, "mount", pid, "-t", "memory", "none", mnt])
    assert refused.returncode == 1
    assert "vumount" in refused.stderr
    box.native([vuctl, "umount", pid, mnt]).check()
    (box.scratch / "go2").write_text("\n")
    assert view.communicate(timeout=30)[0] == b""
