"""File systems that a profile mounts: there before the command, or no command."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from harness import places, processes
from harness.box import Box

pytestmark = [pytest.mark.app, pytest.mark.places(places.FUSE)]


@pytest.fixture
def image(box: Box) -> Path:
    """An ext4 image with a file and a directory."""
    tree = box.directory("tree")
    (tree / "file").write_text("in the image\n")
    (tree / "dir").mkdir()
    box.give(tree)
    path = box.scratch / "disk.img"
    subprocess.run(["truncate", "-s", "4M", path], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, path], check=True, capture_output=True)
    os.chown(path, box.identity.uid, box.identity.gid)
    return path


def mount(type: str, target: object, **keys: object) -> str:
    lines = [f'{key} = "{value}"\n' for key, value in {"type": type, "target": target, **keys}.items()]
    return "[[mount]]\n" + "".join(lines)


def said(box: Box, profile: str, script: str, *arguments: object) -> list[str]:
    words = ["sh", "-ec", script, "sh", *map(str, arguments)]
    return box.view(words, profile, timeout=30).check().stdout.splitlines()


def refused(box: Box, profile: str) -> str:
    """What is said instead of running the command."""
    result = box.view(["sh", "-c", "echo ran"], profile, timeout=40)
    assert (result.returncode, result.stdout) == (125, "")
    return result.stderr


def test_an_image_in_a_place_that_the_host_has_not(box: Box, image: Path) -> None:
    profile = mount("ext4", "/nowhere/mnt", source=image, options="ro")
    script = "ls / | grep nowhere; ls $1; cat $1/file; touch $1/x 2>/dev/null || echo read-only"
    assert said(box, profile, script, "/nowhere/mnt") == [
        "nowhere", "dir", "file", "lost+found", "in the image", "read-only"
    ]  # fmt: skip


def test_a_relative_source_is_the_profiles(box: Box, image: Path) -> None:
    """The box writes the profile beside the image; the command starts elsewhere."""
    path = box.profile(mount("ext4", "/v", source="disk.img", options="ro"))
    assert path.parent == image.parent
    command = [*box.vuos_run(path), "cat", "/v/file"]
    assert box.native(command, cwd="/").check().stdout == "in the image\n"


def test_several_in_order_and_one_in_another(box: Box, image: Path) -> None:
    shown = box.directory("shown")
    (shown / "bound").write_text("")
    profile = (
        mount("bind", "/v/mnt/gone", source=shown)
        + mount("ext4", "/v/mnt", source=image, options="ro")
        + mount("memory", "/v/mnt/dir")
        + mount("bind", "/v/mnt/dir/sub", source=shown)
        + mount("hide", "/v/mnt/lost+found")
        + mount("memory", "/v/frozen")
        + mount("ro", "/v/frozen")
        + mount("memory", "/v/covered")
        + mount("hide", "/v/covered")
    )
    script = """
        ls $1 $1/mnt; ls $1/mnt/dir/sub
        echo kept >$1/mnt/dir/new; cat $1/mnt/dir/new
        touch $1/frozen/x 2>/dev/null || echo read-only
    """
    expected = ["/v:", "frozen", "mnt", "", "/v/mnt:", "dir", "file", "bound", "kept", "read-only"]
    assert said(box, profile, script, "/v") == expected


def test_it_is_listed_and_can_be_unmounted(box: Box) -> None:
    """Below it is nothing, whatever the host has there."""
    place = box.directory("place")
    (place / "of the host").write_text("")
    script = (
        "findmnt -n -o FSTYPE $1 | tail -1; touch $1/x; ls $1; vuumount $1; ls $1; touch $1/x || echo empty"
    )
    assert said(box, mount("memory", place), script, place) == ["fuse.memory", "x", "empty"]


def test_what_was_written_is_in_the_image_at_the_end(box: Box, image: Path) -> None:
    options = f"fakeroot,uid={box.identity.uid},gid={box.identity.gid}"
    profile = mount("fuse.fuse2fs", "/v", source=image, options=options)
    assert said(box, profile, "echo new >/v/new") == []
    out = subprocess.run(["debugfs", "-R", "cat new", image], capture_output=True, text=True, check=True)
    assert out.stdout == "new\n"


def test_a_cow_over_all_lets_no_image_be_changed(box: Box, image: Path) -> None:
    before = image.read_bytes()
    words = ["sh", "-c", "cat /v/file; touch /v/new; touch new; ls /v | grep new"]
    result = box.view(words, mount("ext4", "/v", source=image), options=["--cow=/", "--name=all"], timeout=30)
    assert result.stdout == "in the image\n"
    assert "Read-only file system" in result.stderr
    assert image.read_bytes() == before
    assert not (box.scratch / "new").exists()
    box.native([box.installation.bin / "vuctl", "drop", "all"]).check()


def test_show(box: Box) -> None:
    profile = '[view]\nname = "files"\n' + mount("memory", "/v", source="some")
    process = box.popen([*box.vuos_run(profile), "sleep", "60"])
    vuctl = box.installation.bin / "vuctl"
    shown = [vuctl, "show", "files", "--json"]
    assert processes.until(lambda: box.native(shown).returncode == 0)
    entries = json.loads(box.native(shown).check().stdout)["entries"]
    assert {"type": "memory", "target": "/v", "source": "some", "readonly": False} in entries
    process.kill()


@pytest.mark.private
def test_in_a_session_of_its_own_daemon(box: Box, image: Path) -> None:
    profile = mount("ext4", "/v", source=image, options="ro")
    assert said(box, profile, "cat /v/file") == ["in the image"]


MISTAKES = [
    (mount("ext5", "/v"), 2, 8, 'unknown type "ext5"', 'did you mean "ext4"?'),
    (mount("ext4", "/v", source="/nosuch.img"), 4, 10, "/nosuch.img: no such file", ""),
    (mount("ext4", "/v"), 3, 10, "type ext4 needs a source", ""),
    (mount("ext4", "/v", source="/etc/passwd", options="offsett=1"), 5, 11, '"offsett"', '"offset"'),
    (mount("ext4", "/v", source="/etc/passwd", options="offset=x"), 5, 11, 'option "offset" cannot be', ""),
    (mount("ext4", "/v", source="/etc/passwd", options="bind"), 5, 11, "bind, move and remount", ""),
    (mount("memory", "/v", options="sise=3"), 4, 11, 'no option "sise"', '"size"'),
    (mount("fuse.nosuch", "/v"), 2, 8, "needs the program nosuch", ""),
]


@pytest.mark.parametrize(("profile", "line", "column", "text", "hint"), MISTAKES)
def test_mistakes_that_are_seen_beforehand(
    box: Box, profile: str, line: int, column: int, text: str, hint: str
) -> None:
    path = box.profile(profile)
    checked = box.native([box.installation.bin / "vuctl", "check", path])
    assert checked.returncode == 1
    first = checked.stderr.splitlines()[0]
    assert first.startswith(f"{path}:{line}:{column}: ")
    assert text in first
    assert hint in checked.stderr
    assert refused(box, profile).splitlines()[0].partition(": ")[2] == first.partition(": ")[2]


@pytest.mark.parametrize(
    ("profile", "line", "text"),
    [
        (mount("ext4", "/v", source="/etc/passwd", options="ro"), 4, "/etc/passwd"),
        (mount("real", "/v", source="/etc/passwd"), 4, "Not a directory: '/etc/passwd'"),
        (mount("memory", "/v", options="transport=fast"), 4, "it is kernel or wire"),
        (mount("memory", "/v") + mount("memory", "/v/no/such"), 6, '"/v/no/such" has no place in the file'),
    ],
)
def test_mistakes_that_a_server_sees(box: Box, profile: str, line: int, text: str) -> None:
    """The box finds out what is left behind."""
    first = refused(box, profile).splitlines()[0]
    assert re.search(rf":{line}:\d+: ", first), first
    assert text in first


def test_the_first_is_unmounted_when_the_second_fails(box: Box, image: Path) -> None:
    profile = mount("ext4", "/v", source=image) + mount("real", "/w", source="/etc/passwd")
    assert "Not a directory: '/etc/passwd'" in refused(box, profile)
    subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_while_a_server_starts(box: Box, number: signal.Signals) -> None:
    """Nobody waits for a server that is wanted no more; the box finds out what is left."""
    plugin = box.scratch / "slow.py"
    plugin.write_text(
        "import time\n"
        "from vuosd.api import Filesystem\n"
        "class Slow(Filesystem):\n"
        "    def start(self):\n"
        "        open(self.source + '/x', 'w').close()\n"
        "        time.sleep(60)\n"
    )
    box.give(box.scratch)
    profile = box.profile(mount("./slow.py", "/v", source=box.directory("told")))
    process = box.popen([*box.vuos_run(profile), "true"])
    assert processes.until((box.scratch / "told/x").exists)
    process.send_signal(number)
    began = time.monotonic()
    status = process.wait(15)
    assert time.monotonic() - began < 10
    assert status == (-number if number == signal.SIGKILL else 128 + number)


def test_enforcing(box: Box) -> None:
    profile = "[view]\nenforce = true\n" + mount("memory", "/v")
    text = refused(box, profile)
    assert ":5:10: a view with enforce = true can have no file system mounted\n" in text


def test_the_command_cannot_start_in_one(box: Box) -> None:
    text = refused(box, '[view]\ncwd = "/v"\n' + mount("memory", "/v"))
    assert 'the file system at "/v" is mounted over the directory that the command starts in' in text


@pytest.mark.only("user", "me")
@pytest.mark.places(places.NO_FUSE, places.NO_USERNS)
def test_by_wire_where_the_kernel_mounts_nothing(box: Box) -> None:
    profile = mount("memory", "/v") + mount("memory", "/v/w")
    assert said(box, profile, "echo x >/v/x; echo y >/v/w/y; cat /v/x /v/w/y") == ["x", "y"]
