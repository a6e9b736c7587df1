"""Copy-on-write together with file systems: mounted in a cow, from an image that lies in one."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from harness import places, processes
from harness.box import Box, Result

pytestmark = [pytest.mark.app, pytest.mark.places(places.FUSE)]


@pytest.fixture
def tree(box: Box) -> Path:
    """What a cow is over: a file, directories, an ext4 image with a file."""
    box.file("in/file", "in the image\n")
    path = box.directory("tree")
    for name in ("f", "d/of the tree", "w/of the tree", "mnt/of the tree"):
        box.file(f"tree/{name}", "tree\n")
    image = path / "image"
    subprocess.run(["truncate", "-s", "4M", image], check=True)
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-d", box.scratch / "in", image], check=True, capture_output=True
    )
    box.give(path)
    return path


def entry(type: str, target: object, **keys: object) -> str:
    lines = [f'{key} = "{value}"\n' for key, value in {"type": type, "target": target, **keys}.items()]
    return "[[mount]]\n" + "".join(lines)


def writable(box: Box) -> str:
    """Options by which fuse2fs lets this user write."""
    return f"fakeroot,uid={box.identity.uid},gid={box.identity.gid}"


def shell(box: Box, profile: str, script: str, *arguments: object, name: str = "it") -> list[str]:
    """The lines that a script prints in a view, with its first argument for a working directory."""
    words = ["sh", "-ec", script, "sh", *map(str, arguments)]
    result = box.view(words, profile, options=[f"--name={name}"], cwd=Path(str(arguments[0])), timeout=60)
    return result.check().stdout.splitlines()


def vuctl(box: Box, *words: object) -> Result:
    return box.native([box.installation.bin / "vuctl", *map(str, words)], cwd=box.scratch / "tree")


def changed(box: Box, name: str = "it") -> list[str]:
    """The paths of a layer; [] also when there is none, since nothing was changed."""
    if not (box.scratch / "home/.local/state/vuos" / name).exists():
        return []
    return vuctl(box, "diff", "--name-only", "--all", name).stdout.splitlines()


def dumped(image: Path, name: str) -> str:
    """A file in an image, "" if it is not there."""
    done = subprocess.run(["debugfs", "-R", f"cat {name}", image], capture_output=True, text=True, check=True)
    return done.stdout


def test_a_file_system_of_the_profile_in_a_cow(box: Box, tree: Path) -> None:
    """The layer holds nothing of what is written there. When it is unmounted the cow's directory shows."""
    image = box.scratch / "disk"
    image.write_bytes((tree / "image").read_bytes())
    box.give(box.scratch)
    profile = (
        entry("cow", tree)
        + entry("fuse.fuse2fs", tree / "d", source=image, options=writable(box))
        + entry("memory", tree / "w", options="transport=wire")
        + entry("memory", tree / "nowhere/n")
    )
    script = """
        ls d w nowhere; cat d/file
        for at in d w nowhere/n; do echo new >$at/new; mkdir $at/dir; mv $at/new $at/dir/moved; done
        echo layer >f
        mv d e 2>/dev/null || echo busy; rm -r w 2>/dev/null || echo busy
        mv f d/f; cat d/f
        vuumount d; vuumount w; vuumount nowhere/n; ls d w
        echo kept >d/kept
    """
    assert shell(box, profile, script, tree) == [
        *("d:", "file", "lost+found", "", "nowhere:", "n", "", "w:", "in the image"),
        *("busy", "busy", "layer"),
        *("d:", "of the tree", "", "w:", "of the tree"),
    ]
    assert changed(box) == ["d/kept", "f"]
    assert dumped(image, "dir/moved") == "new\n"
    again = entry("cow", tree) + entry("memory", tree / "made/n")
    assert shell(box, entry("cow", tree), "mkdir made; touch made/here", tree) == []
    assert shell(box, again, "ls made; vuumount made/n; ls made", tree) == ["here", "n", "here", "n"]
    vuctl(box, "commit", "it").check()
    assert sorted(os.listdir(tree)) == ["d", "image", "made", "mnt", "w"]
    assert sorted(os.listdir(tree / "d")) == ["kept", "of the tree"]


@pytest.mark.parametrize("transport", ["kernel", "wire"])
def test_mounted_at_run_time_in_a_cow(box: Box, tree: Path, transport: str) -> None:
    script = """
        mkdir new
        for at in d new made/here; do
            vumount -t memory -o create,transport=$2 none $at
            echo in it >$at/file; ls $at
            mv $at elsewhere 2>/dev/null || echo busy
        done
        mv made elsewhere 2>/dev/null || echo busy
        for at in d new made/here; do vuumount $at; ls $at; done
    """
    found = shell(box, entry("cow", tree), script, tree, transport)
    assert found == ["file", "busy"] * 3 + ["busy", "of the tree"]
    assert changed(box) == ["made", "made/here", "new"]
    assert not (tree / "new").exists()


def test_mounted_from_outside_in_a_cow(box: Box, tree: Path) -> None:
    """Where the tree below has a directory, where the layer has one, and where neither has."""
    fifo = box.scratch / "go"
    os.mkfifo(fifo)
    box.give(box.scratch)
    script = (
        'mkdir new; rm -r w; ln -s d link; echo ready; read x; cp "$1" d/new; cp "$1" new/new; ls -R d new'
    )
    with open(box.scratch / "said", "w+") as said:
        words = ["sh", "-c", f"exec <{fifo}; {script}", "sh", tree / "f"]
        view = box.vuos_run(entry("cow", tree), "--name=it")
        process = box.popen([*view, *words], cwd=tree, stdout=said)
        with open(fifo, "w", buffering=1) as go:
            assert processes.until(lambda: (box.scratch / "said").read_text() == "ready\n")
            assert processes.until(lambda: vuctl(box, "mounts", "it").returncode == 0)
            for place in ("d", "new"):
                vuctl(box, "mount", "it", "-t", "memory", "none", tree / place).check()
            gone = vuctl(box, "mount", "it", "-t", "memory", "none", tree / "w")
            link = vuctl(box, "mount", "it", "-t", "memory", "none", tree / "link")
            go.write("\n")
        process.wait(20)
    assert f"{tree}/w: No such file or directory" in gone.stderr
    assert "a symbolic link is on the way" in link.stderr
    assert (box.scratch / "said").read_text() == "ready\nd:\nnew\n\nnew:\nnew\n"
    assert changed(box) == ["link", "new", "w", "w/of the tree"]


@pytest.mark.parametrize("transport", ["kernel", "wire"])
def test_an_image_in_a_cow(box: Box, tree: Path, transport: str) -> None:
    """To be read it is mounted as the view shows it; to be written it is copied into the layer, as overlayfs
    does it for a loop device.
    """
    before = (tree / "image").read_bytes()
    script = """
        vumount -t ext4 -o ro,transport=$2 image mnt; cat mnt/file; vuumount mnt
    """
    assert shell(box, entry("cow", tree), script, tree, transport) == ["in the image"]
    assert changed(box) == []
    options = f"{writable(box)},transport={transport}"
    script = """
        vumount -t fuse.fuse2fs -o $2 image mnt; echo new >mnt/new; mkdir mnt/dir; vuumount mnt
        ls mnt
        vumount -t ext4 -o ro image mnt; cat mnt/new; vuumount mnt
        mv image moved; vumount -t fuse.fuse2fs -o $2 moved mnt; cat mnt/new; rm mnt/new; vuumount mnt
    """
    assert shell(box, entry("cow", tree), script, tree, options) == ["of the tree", "new", "new"]
    assert changed(box) == ["image", "moved"]
    assert (tree / "image").read_bytes() == before
    layer = box.scratch / "home/.local/state/vuos/it/0/upper/moved"
    assert (dumped(layer, "new"), dumped(layer, "file")) == ("", "in the image\n")


def test_an_image_in_a_cow_that_may_not_be_written(box: Box, tree: Path) -> None:
    profile = entry("cow", tree) + entry("ro", tree)
    script = """
        vumount -t fuse.fuse2fs -o $2 image $3; cat $3/file; touch $3/new 2>/dev/null || echo read-only
        vuumount $3
    """
    found = shell(box, profile, script, tree, writable(box), box.directory("mnt"))
    assert found == ["in the image", "read-only"]
    assert changed(box) == []


def test_an_image_in_a_mincow(box: Box, tree: Path) -> None:
    """It is written where it lies, as a mincow has it."""
    script = "vumount -t fuse.fuse2fs -o $2 image mnt; echo new >mnt/new; vuumount mnt"
    assert shell(box, entry("mincow", tree), script, tree, writable(box)) == []
    assert changed(box) == []
    assert dumped(tree / "image", "new") == "new\n"


def test_an_image_of_the_profile_in_a_cow(box: Box, tree: Path) -> None:
    """That of the view: what one run has written the next one sees, and the tree is as it was."""
    before = (tree / "image").read_bytes()
    source = tree / "image"
    profile = entry("cow", tree) + entry("fuse.fuse2fs", "/v", source=source, options=writable(box))
    assert shell(box, profile, "cat /v/file; echo new >/v/new", tree) == ["in the image"]
    assert shell(box, profile, "cat /v/new", tree) == ["new"]
    assert changed(box) == ["image"]
    assert (tree / "image").read_bytes() == before
    reads = entry("cow", tree) + entry("ext4", "/v", source=source, options="ro")
    assert shell(box, reads, "cat /v/file", tree, name="other") == ["in the image"]
    assert changed(box, "other") == []
    assert shell(box, entry("cow", tree), "rm image", tree) == []
    gone = box.view(["true"], profile, options=["--name=it"], cwd=tree, timeout=30)
    assert gone.returncode == 125
    assert f"{source}, as the cow has it: No such file or directory" in gone.stderr


def test_a_directory_of_a_cow_for_a_server_outside(box: Box, tree: Path) -> None:
    """It would see one tree of them: refused. A server in the view sees what the view shows."""
    script = """
        echo layer >d/new
        vumount -t real -o transport=wire d mnt 2>&1 || true
        vumount -t real d mnt; ls mnt; echo more >mnt/more; cat d/more; vuumount mnt
    """
    refused = (
        "vumount: d lies in an entry of several trees (cow, merge), which only processes of the view see "
        "whole: vumount without transport= starts the server as one"
    )
    found = shell(box, entry("cow", tree), script, tree)
    assert found == [refused, "new", "of the tree", "more"]
    assert changed(box) == ["d/more", "d/new"]


def disk(box: Box, tree: Path, options: str = "") -> str:
    """An entry that mounts the image at /v, for this user to write."""
    words = f"{writable(box)},{options}" if options else writable(box)
    return entry("fuse.fuse2fs", "/v", source=tree / "image", options=words)


def test_a_cow_upon_a_file_system(box: Box, tree: Path) -> None:
    """The image is what is below, and not written to; the layer has what is changed, for the next run too."""
    before = (tree / "image").read_bytes()
    profile = disk(box, tree) + entry("cow", "/v")
    script = """
        cd /v; cat file; echo more >>file; rmdir lost+found; mkdir dir; mv file dir/moved
        ln -s dir/moved link; ls -R; cat link; pwd; (cd dir && pwd)
        test "$(stat -c %i dir)" = "$(ls -di dir | cut -d ' ' -f 1)"
    """
    listed = [".:", "dir", "link", "", "./dir:", "moved"]
    assert shell(box, profile, script, tree) == [
        *("in the image", *listed, "in the image", "more", "/v", "/v/dir")
    ]
    script = """
        cd /v; ls -R; cat link; echo again >file; cd ..
        findmnt -n -o FSTYPE /v | tail -1; vuumount /v; ls /v; vuumount /v; ls /v
    """
    found = shell(box, profile, script, tree)
    assert found == [*listed, "in the image", "more", "overlay", "file", "lost+found"]
    assert shell(box, profile, "cat /v/file", tree) == ["again"]
    assert (tree / "image").read_bytes() == before
    done = box.view(["touch", "/v/again"], profile, options=["--name=it"], cwd=tree, timeout=30).check()
    kept = "changes kept in layer it: up to 6 changes; vuctl diff it | commit it | drop it"
    assert done.stderr == f"vuos-run: {kept}\n"
    name = f"fuse.fuse2fs of {tree}/image"
    assert "it" in vuctl(box, "layers").stdout
    other = box.view(["true"], disk(box, tree, "kernel_cache").replace("image", "other"), cwd=tree)
    assert other.returncode == 125
    (tree / "other").write_bytes(before)
    other = box.view(["true"], profile.replace("/image", "/other"), options=["--name=it"], cwd=tree)
    assert f"layer it holds the changes of {name} at /v, and the view has" in other.stderr
    vuctl(box, "drop", "it").check()


def test_what_is_upon_a_file_system_outside_of_the_view(box: Box, tree: Path) -> None:
    """It is mounted for the command: compared, exported, branched, and made so in the image."""
    before = (tree / "image").read_bytes()
    profile = disk(box, tree) + entry("cow", "/v")
    script = "cd /v; echo more >>file; mkdir dir; echo new >dir/new; ln -s new dir/link; rmdir lost+found"
    shell(box, profile, script, tree)
    patch = vuctl(box, "diff", "-p", "it", "--", "/v/file").stdout
    assert patch.splitlines()[-2:] == [" in the image", "+more"]
    vuctl(box, "export", "it", box.scratch / "layer.tar").check()
    with tarfile.open(box.scratch / "layer.tar") as archive:
        names = [".wh.lost+found", "dir", "dir/link", "dir/new", "file"]
        assert sorted(archive.getnames()) == names
    vuctl(box, "branch", "it", "two").check()
    shell(box, profile, "cat /v/dir/link; rm /v/dir/link", tree, name="two")
    assert vuctl(box, "diff", "--alone", "--name-only", "two").stdout == "dir/link\n"
    vuctl(box, "drop", "two").check()
    assert (tree / "image").read_bytes() == before
    assert vuctl(box, "commit", "it", "/v/file").check().stdout == "1 change committed\n"
    assert dumped(tree / "image", "file") == "in the image\nmore\n"
    subprocess.run(["debugfs", "-w", "-R", "rm file", tree / "image"], check=True, capture_output=True)
    assert vuctl(box, "commit", "it").check().stdout == "4 changes committed\n"
    assert dumped(tree / "image", "dir/new") == "new\n"
    assert dumped(tree / "image", "file") == ""
    (tree / "image").unlink()
    done = vuctl(box, "diff", "it")
    assert done.returncode == 2
    assert f"it cannot be mounted now: {tree}/image: no such file" in done.stderr


def test_a_conflict_in_a_file_system(box: Box, tree: Path) -> None:
    profile = disk(box, tree) + entry("cow", "/v")
    shell(box, profile, "echo more >>/v/file; echo new >/v/new", tree)
    other = box.file("other", "another\n")
    for line in ("rm file", f"write {other} file"):
        subprocess.run(["debugfs", "-w", "-R", line, tree / "image"], check=True, capture_output=True)
    done = vuctl(box, "commit", "it")
    assert done.returncode == 1
    assert "cannot commit: file: has been changed there since" in done.stderr
    assert vuctl(box, "commit", "--theirs", "it").check().stdout == "1 change committed, 1 change forgotten\n"
    assert (dumped(tree / "image", "file"), dumped(tree / "image", "new")) == ("another\n", "new\n")


def test_upon_what_its_view_mounts_read_only(box: Box, tree: Path) -> None:
    shell(box, disk(box, tree, "ro") + entry("cow", "/v"), "echo more >>/v/file", tree)
    before = (tree / "image").read_bytes()
    done = vuctl(box, "commit", "it")
    assert done.returncode == 1
    assert "cannot commit: file: the file system is read-only" in done.stderr
    text = f"the view mounts fuse.fuse2fs of {tree}/image read-only, and so nothing is written there: `vuctl"
    assert text in done.stderr
    assert (tree / "image").read_bytes() == before
    assert changed(box) == ["file"]


def test_upon_a_file_system_while_the_view_runs(box: Box, tree: Path) -> None:
    """Through the view: so it is, too, what nobody else could mount."""
    fifo = box.scratch / "go"
    os.mkfifo(fifo)
    box.give(box.scratch)
    profile = disk(box, tree) + entry("cow", "/v")
    script = f"exec <{fifo}; echo more >>/v/file; echo new >/v/new; echo ready; read x"
    process = box.popen(
        [*box.vuos_run(profile, "--name=it"), "sh", "-c", script], stdout=subprocess.PIPE, cwd=tree
    )
    assert process.stdout
    with open(fifo, "w"):
        assert process.stdout.readline() == b"ready\n"
        (tree / "image").rename(tree / "elsewhere")
        done = vuctl(box, "diff", "--name-only", "it")
        assert done.stdout == "file\nnew\n"
        assert "it may be changing" in done.stderr
        assert vuctl(box, "commit", "it").returncode == 2
    process.wait(20)


def test_a_cow_in_a_file_system(box: Box, tree: Path) -> None:
    """Upon a directory of it, and one of the host's; around them it is written."""
    box.directory("in/d/sub")
    subprocess.run(["debugfs", "-w", "-R", "mkdir d", tree / "image"], check=True, capture_output=True)
    other = box.file("other/there", "host's\n").parent
    profile = (
        disk(box, tree)
        + entry("cow", "/v/d", size="1M").replace("[[mount]]", "[[mount]]\nephemeral = true")
        + entry("cow", "/v/d/other", source=other)
        + entry("merge", "/v/both", source=other).replace(f'"{other}"', f'["{other}"]')
    )
    script = """
        cd /v; mkdir d/x; echo new >d/x/new; echo more >>d/other/there; cat d/other/there both/there
        echo 1 >one; ls d
    """
    assert shell(box, profile, script, tree) == ["host's", "more", "host's", "other", "x"]
    assert (dumped(tree / "image", "one"), dumped(tree / "image", "d/x/new")) == ("1\n", "")
    assert changed(box) == ["there"]
    assert os.listdir(other) == ["there"]


def test_a_mincow_upon_a_file_system(box: Box, tree: Path) -> None:
    profile = disk(box, tree) + entry("mincow", "/v")
    assert shell(box, profile, "echo new >/v/new; cat /v/file", tree) == ["in the image"]
    assert dumped(tree / "image", "new") == "new\n"


def test_the_command_lines_cow_upon_a_file_system(box: Box, tree: Path) -> None:
    before = (tree / "image").read_bytes()
    words = ["sh", "-ec", "echo new >/v/new; cat /v/new /v/file"]
    done = box.view(words, disk(box, tree), options=["--cow=/v", "--name=it"], cwd=tree).check()
    assert done.stdout == "new\nin the image\n"
    assert "changes kept in layer it: up to 1 change" in done.stderr
    again = box.view(["ls", "/v"], disk(box, tree), options=["--on=it"], cwd=tree).check()
    assert again.stdout == "file\nlost+found\nnew\n"
    assert (tree / "image").read_bytes() == before


REFUSED = [
    ("transport=wire", "cow", "no cow can be upon /v: by wire it must be an image or archive that is"),
    ("", "size", "of the cows in file systems only an ephemeral one can have a size"),
]


@pytest.mark.parametrize(("options", "type", "text"), REFUSED, ids=[row[1] for row in REFUSED])
def test_cows_that_no_file_system_has(box: Box, tree: Path, options: str, type: str, text: str) -> None:
    """Said before the command is started."""
    cow = entry("cow", "/v", size="1M") if type == "size" else entry(type, "/v")
    done = box.view(["echo", "ran"], disk(box, tree, options) + cow, cwd=tree, timeout=30)
    assert (done.returncode, done.stdout) == (125, "")
    assert text in done.stderr
    if type == "cow":
        words = [*box.vuos_run(disk(box, tree, options), "--cow=/v", "--name=it"), "echo", "ran"]
        done = box.native(words, cwd=tree)
        assert (done.returncode, done.stdout) == (125, "")
        assert text in done.stderr
        assert "view-" in done.stderr.partition(":")[0]  # the profile's file system is blamed


PREPARED = '[control]\nallow = ["mount", "umount", "cow"]\n'


def test_a_cow_that_comes_while_the_view_runs(box: Box, tree: Path) -> None:
    """A layer as any other; unmounted, it is let go of. What is hidden below its source stays so."""
    bound = entry("bind", tree / "d/b", source=box.directory("bound"))
    profile = PREPARED + entry("hide", tree / "w") + bound
    script = """
        ls -d $3/it 2>/dev/null || echo none
        vumount -t cow -o layer=it . $2; cd $2
        echo more >>f; rm -r mnt; mkdir new; cat f; ls; ls d/b; touch d/b/x 2>/dev/null || echo read-only
        (cd new && pwd); cd new; vuumount $2 2>&1 | cut -d ' ' -f 2-5; cd ..
        ls -d $3 2>/dev/null || echo hidden
        vumount -t cow -o layer=it $1 $4 2>&1 | cut -d ' ' -f 2-7 || true
        cd ..; vuumount $2; ls $2; cat $1/f
        vumount -t cow -o layer=it $1 $2; ls $2; vuumount $2
        vumount -t cow -o ephemeral,fsync $1 $2; rm $2/f; ls $2; vuumount $2
        vumount -t cow $HOME $2; ls $2/.local/state; vuumount $2
        mkdir -p $2/.local/state/vuos; ls $2/.local/state
        vumount -t cow $1 $2; echo x >$2/x
    """
    at, other = box.directory("at"), box.directory("other")
    store = box.scratch / "home/.local/state/vuos"
    found = shell(box, profile, script, tree, at, store, other, name="view")
    assert found == [
        *("none", "tree", "more", "d", "f", "image", "new", "read-only", f"{at}/new"),
        *(f"{at} is in use:", "hidden", "layer it is in use by", "tree", "d", "f", "image", "new"),
        *("d", "image", "mnt", "vuos"),
    ]
    assert changed(box) == ["f", "mnt", "mnt/of the tree", "new"]
    assert changed(box, "at-1") == ["x"]
    assert sorted(os.listdir(store)) == ["at-1", "it"]
    assert sorted(os.listdir(tree)) == ["d", "f", "image", "mnt", "w"]


def test_a_cow_at_run_time_over_itself_in_a_store(box: Box, tree: Path) -> None:
    """Who is there is in it at once; afterwards not any more."""
    script = """
        vumount -t cow -o store=$2,layer=it . .; echo more >>f; mkdir new; ls; cd ..
        vuumount tree; ls tree
        cd tree; vumount -t mincow . .; echo written >>f; cd ..; vuumount tree; cat tree/f
    """
    found = shell(box, PREPARED, script, tree, box.directory("store"))
    listed = ["d", "f", "image", "mnt", "w"]
    assert found == [*listed[:4], "new", "w", *listed, "tree", "written"]
    assert os.listdir(box.scratch / "store") == ["it"]
    shown = vuctl(box, "diff", f"--store={box.scratch}/store", "--name-only", "it")
    assert shown.stdout.splitlines() == ["f", "new"]


def test_a_cow_at_run_time_upon_a_file_system(box: Box, tree: Path) -> None:
    script = """
        vumount -t fuse.fuse2fs -o $2 image mnt; vumount -t cow -o layer=it mnt mnt
        echo layer >mnt/new; cat mnt/new mnt/file; vuumount mnt; ls mnt; vuumount mnt; ls mnt
    """
    found = shell(box, PREPARED, script, tree, writable(box))
    assert found == ["layer", "in the image", "file", "lost+found", "of the tree"]
    assert changed(box) == ["new"]


def test_the_options_of_a_cow_at_run_time(box: Box, tree: Path) -> None:
    """As of a profile's: what stays real, and how much a layer may hold."""
    script = """
        piece() { head -c 65536 /dev/zero >&9 && sleep 0.002; }
        fill() { (exec 9>$1; for i in $(seq $2); do piece || exit 1; done) 2>/dev/null || echo full; }
        vumount -t cow -o layer=it,except=w,except=$2/d,except=f . $2; cd $2
        echo real >>f; echo real >w/new; rm "d/of the tree"; echo layer >new; cd $1; vuumount $2; ls $2
        vumount -t cow -o layer=full,size=1M . $2; (fill $2/a 4; fill $2/b 300); fill $2/c 1
        rm $2/b; sleep 0.1; fill $2/c 1; vuumount $2
        vumount -t cow -o ephemeral,size=1M . $2; fill $2/a 300; ls $2; vuumount $2
    """
    at = box.directory("at")
    listed = ["a", "d", "f", "image", "mnt", "w"]
    assert shell(box, PREPARED, f"cd {tree}\n{script}", tree, at) == ["full", "full", "full", *listed]
    assert changed(box) == ["new"]
    assert changed(box, "full") == ["a", "c"]
    assert (tree / "f").read_text() == "tree\nreal\n"
    assert (os.listdir(tree / "d"), sorted(os.listdir(tree / "w"))) == ([], ["new", "of the tree"])


def test_a_cow_of_run_time_is_told_at_the_end(box: Box, tree: Path) -> None:
    """With or without another from the start; one that changed nothing is gone."""
    words = ["sh", "-ec", "vumount -t cow -o layer=end . mnt; vumount -t cow -o layer=same . w; touch mnt/x"]
    kept = "vuos-run: changes kept in layer end: 1 change; vuctl diff end | commit end | drop end\n"
    for profile in (PREPARED, PREPARED + entry("cow", box.directory("elsewhere"))):
        assert box.view(words, profile, cwd=tree).check().stderr == kept
        assert os.listdir(box.scratch / "home/.local/state/vuos") == ["end"]
        vuctl(box, "drop", "end").check()


def test_a_cow_from_outside(box: Box, tree: Path) -> None:
    at = box.directory("at")
    fifo = box.scratch / "go"
    os.mkfifo(fifo)
    box.give(box.scratch)
    hides = PREPARED + entry("hide", tree / "w") + entry("ro", tree / "mnt")
    script = f"""
        exec <{fifo}; read x; ls {at}; touch {at}/mnt/x {at}/w/x 2>/dev/null
        echo more >>{at}/f; read x; ls {at}
    """
    with open(box.scratch / "said", "w+") as said:
        process = box.popen([*box.vuos_run(hides, "--name=job"), "sh", "-c", script], stdout=said)
        with open(fifo, "w", buffering=1) as go:
            assert processes.until(lambda: vuctl(box, "mounts", "job").returncode == 0)
            vuctl(box, "mount", "job", "-t", "cow", "-o", "layer=it", tree, at).check()
            go.write("\n")
            assert processes.until((box.scratch / "home/.local/state/vuos/it/0/upper/f").exists)
            assert vuctl(box, "mounts", "job").stdout.count("cow") == 1
            vuctl(box, "umount", "job", at).check()
            go.write("\n")
        process.wait(20)
    assert (box.scratch / "said").read_text() == "d\nf\nimage\nmnt\n"
    assert changed(box) == ["f"]


def test_the_store_is_hidden_wherever_the_view_shows_it(box: Box, tree: Path) -> None:
    """By what was bound before and after, in a view inside, below unreal, from a directory in it."""
    store = box.directory("home/.local/state/vuos")
    (store / "secret").mkdir()
    one, two, three = (box.directory(name) for name in ("one", "two", "three"))
    script = """
        vumount -B $HOME/.local $2; vumount -B $HOME/.local/state/vuos $3; vu_insmod unreal
        mkfifo go gone; ls $2/state/vuos $3
        (cd $HOME/.local/state/vuos; read x <$1/go; ls . secret || echo in: $?) >within 2>/dev/null &
        $5 -- sh -c "read x <gone; echo inside; ls $2/state $HOME/.local/state $3" >inside 2>/dev/null &
        vumount -t cow -o ephemeral d d
        ls $2/state /unreal$2/state; ls $3 2>/dev/null || echo gone
        vumount -B $HOME $4; ls -A $4/.local/state
        echo >go; echo >gone; wait; cat within inside; vuumount $4; vuumount $2; ls $2
    """
    allow = PREPARED.replace('"cow"', '"cow", "view", "insmod"')
    said = shell(box, allow, script, tree, one, two, three, box.installation.vuos_run)
    state = [f"{box.scratch}/home/.local/state:", "", f"{one}/state:"]
    assert said == [
        *(f"{one}/state/vuos:", "secret", "", f"{two}:", "secret"),
        *(f"{one}/state:", "", f"/unreal{one}/state:", "gone", "in: 2", "inside", *state),
    ]


NO_COW = [
    (PREPARED, "merge", ".", 'a merge is for profiles: [[mount]] type = "merge"'),
    (PREPARED, "cow", "f", "f is no directory"),
    (PREPARED, "cow -o sise=1M", ".", 'unknown option "sise=1M" of a cow: store=DIR, layer=NAME, size'),
    (PREPARED, "cow -o size=1X", ".", "size=1X is no number of bytes, such as 4096, 64M, 1G"),
    (PREPARED, "cow -o except=../d", ".", "except=../d: this is not in"),
    (PREPARED, "cow -o except=none", ".", "./none: No such file or directory"),
    (PREPARED + '[[mount]]\ntype = "ro"\ntarget = "d"\n', "mincow", "d", "the view shows d read-only, and"),
    (PREPARED, "cow -o store=/nosuch", ".", "store /nosuch: No such file or directory"),
    (PREPARED, "cow -o store=d", ".", "the layer would be kept in"),
    ("", "cow", ".", "this view was started without a cow, and hears too little"),
    ('[control]\nallow = ["mount"]\n', "cow", ".", "the profile of this view does not grant it"),
]


@pytest.mark.parametrize(("profile", "type", "source", "text"), NO_COW, ids=[row[3][:12] for row in NO_COW])
def test_no_cow(box: Box, tree: Path, profile: str, type: str, source: str, text: str) -> None:
    script = f"vumount -t {type} {source} mnt 2>&1 || true; ls mnt"
    said, listed = shell(box, profile or '[env]\nset = { X = "1" }\n', script, tree)
    assert said.startswith(f"vumount: {text}")
    assert listed == "of the tree"
    assert changed(box, "mnt-1") == []


def test_binds_of_what_lies_in_a_cow(box: Box, tree: Path) -> None:
    """Directories and files, of the tree below and of the layer; changes go to the layer by either name."""
    (box.directory("tree/below/deep") / "file").write_text("deep\n")
    box.give(tree)
    for name in ("at", "ro", "at2"):
        box.directory(name)
    box.file("file")
    script = """
        mkdir made; vumount -B d ../at; vumount -B -o ro d ../ro; vumount -B f ../file; cd ..
        echo new >at/new; cat tree/d/new ro/new; echo more >>"at/of the tree"; cat "tree/d/of the tree"
        echo more >>file; cat tree/f; echo again >>tree/f; tail -1 file; chmod 600 file; stat -c %a tree/f
        touch ro/x 2>/dev/null || echo read-only; rm file 2>/dev/null || echo busy
        mkdir at/x at/z; (cd at/x; pwd; cd ..; pwd; ls); mv at/x/ at/y; ls -R tree/d
        test "$(stat -c %d:%i tree/d)" = "$(stat -c %d:%i at)"
        rm at/new; rmdir at/z; ls at; mv at/y at2/y 2>/dev/null && ls at2; ls tree/d
        vuumount at; ls at; vumount -B tree/made at; mkdir at/in; (cd at/in; pwd); (cd tree/made/in; pwd)
        vumount -B at at2; touch at2/in/it; ls tree/made/in; vuumount at2
        vumount -B tree/below at2; cat at2/deep/file; rm -r at2/deep; ls at2 tree/below; vuumount at2
        vumount -B . at2; cat at2/tree/f; echo end >>at2/tree/f; tail -1 tree/f; vuumount at2
    """
    found = shell(box, entry("cow", tree), f"cd {tree}\n{script}", tree)
    at = box.scratch / "at"
    assert found == [
        *("new", "new", "tree", "more", "tree", "more", "again", "600", "read-only", "busy"),
        *(f"{at}/x", f"{at}", "new", "of the tree", "x", "z"),
        *("tree/d:", "new", "of the tree", "y", "z", "", "tree/d/y:", "", "tree/d/z:"),
        *("of the tree", "y", "y", "of the tree"),
        *(f"{at}/in", f"{tree}/made/in", "it", "deep", "at2:", "", "tree/below:"),
        *("tree", "more", "again", "end"),
    ]
    expected = ["below/deep", "below/deep/file", "d/of the tree", "f", "made", "made/in", "made/in/it"]
    assert changed(box) == expected
    assert (tree / "f").read_text() == "tree\n"


def test_binds_of_a_cow_that_came_at_run_time(box: Box, tree: Path) -> None:
    script = """
        vumount -t cow -o layer=it . $2; vumount -B $2/d $3; echo x >$3/new; ls $2/d
        vuumount $2 2>&1 || true; vumount -o remount,ro none $3 2>&1 || true
        vuumount $3; vuumount $2
    """
    one, two = box.directory("one"), box.directory("two")
    assert shell(box, PREPARED, script, tree, one, two) == [
        *("new", "of the tree", f"vuumount: {one} is in use: {two} is bound from it"),
        f"vumount: {two}: what lies in a cow or merge cannot be remounted",
    ]
    assert changed(box) == ["d/new"]


def test_a_bind_in_a_merge(box: Box, tree: Path) -> None:
    upper = box.file("upper/d/above", "above\n").parent.parent
    merge = entry("merge", "/m", source="X").replace('"X"', f'["{upper}", "{tree}"]')
    script = "vumount -B /m/d $2; ls $2; cat $2/above; touch $2/x 2>/dev/null || echo read-only; ls /m/d"
    found = shell(box, merge, script, tree, box.directory("at"))
    assert found == ["above", "of the tree", "above", "read-only", "above", "of the tree"]
