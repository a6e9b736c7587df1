"""Layers on disk, and what is said when one cannot be used."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from layers.trees import Made, make

from vuosd.layers import LayerError, branch, create, drop, open_layer
from vuosd.layers.changes import Comparison
from vuosd.layers.lock import holder
from vuosd.layers.places import store_of
from vuosd.layers.record import System


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path, {b"a": b"1", b"d/x": b"2"}, {b"a": b"2"}, name="first")


def layer_file(made: Made) -> Path:
    return Path(os.fsdecode(made.layer.path), "layer.json")


def test_what_is_written(made: Made) -> None:
    value = json.loads(layer_file(made).read_text())
    real = os.fsdecode(made.lower)
    assert value.pop("created") > 0
    assert value == {
        "format": 1,
        "name": "first",
        "parent": None,
        "trees": [{"directory": "0", "target": real, "lower": [real]}],
    }
    assert sorted(os.listdir(made.layer.path)) == [b"0", b"layer.json", b"lock"]
    assert os.stat(made.store).st_mode & 0o7777 == 0o700


def test_open(made: Made) -> None:
    with open_layer("first", made.env) as layer:
        assert (layer.name, layer.path, layer.parent) == ("first", made.layer.path, None)
        (tree,) = layer.trees
        assert (tree.target, tree.lowers) == (made.lower, (made.lower,))
        assert tree.upper == made.layer.path + b"/0/upper"


def test_upon_what_only_a_view_has(tmp_path: Path) -> None:
    """Of another format than the rest: an older vuosd would not know what it stands upon."""
    env = {"XDG_STATE_HOME": str(tmp_path / "state"), "HOME": str(tmp_path)}
    name, how = b"ext4 of /caf\xe9.img", System("ext4", "/caf\udce9.img", "offset=1M", "in/it", True)
    (tmp_path / "real").mkdir()
    lowers: list[tuple[bytes, ...]] = [(), (os.fsencode(tmp_path / "real"),)]
    for number, lower in enumerate(lowers):
        create(str(number), [(b"/%d" % number, lower)], env, systems={b"/0": (name, how)}).close()
    records = [tmp_path / "state/vuos" / str(number) / "layer.json" for number in (0, 1)]
    assert [json.loads(path.read_text())["format"] for path in records] == [2, 1]
    branch("0", "2", env)
    with open_layer("2", env, reading=True) as layer:
        (tree,) = layer.trees
        assert (tree.target, tree.lowers[1:], tree.parents, tree.system) == (b"/0", (), 1, name)
        assert (tree.hosts, tree.mount) == ((), how)
    drop("2", env)
    with open_layer("0", env) as layer:
        layer.note({b"/0": (other := System("ext4", "/other"))})
    with open_layer("0", env, reading=True) as layer:
        assert layer.trees[0].mount == other
        with pytest.raises(LayerError, match="which only a view has mounted"):
            Comparison(tree)


def test_any_byte(tmp_path: Path) -> None:
    real = os.path.join(os.fsencode(tmp_path), b"\xff \n\xe9")
    os.mkdir(real)
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    create("n\udcff\n", [(real, (real,))], env).close()
    with open_layer("n\udcff\n", env) as layer:
        assert layer.trees[0].lowers == (real,)
    assert layer_file(Made(real, layer, b"", env)).read_text().isascii()


def test_the_upper_is_as_what_it_stands_upon(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    os.chmod(real, 0o2751)
    with create("x", [(b"/", (os.fsencode(real),))], {"XDG_STATE_HOME": str(tmp_path)}) as layer:
        upper, lower = os.stat(layer.trees[0].upper), real.stat()
    assert (upper.st_mode, upper.st_mtime_ns) == (lower.st_mode, lower.st_mtime_ns)


def test_places() -> None:
    assert store_of({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == b"/s/vuos"
    assert store_of({"HOME": "/h"}) == b"/h/.local/state/vuos"
    assert store_of({"XDG_STATE_HOME": "relative", "HOME": "/h"}) == b"/h/.local/state/vuos"
    assert store_of({"XDG_STATE_HOME": "/s"}, b"/t") == b"/t"
    assert store_of({}).endswith(b"/.local/state/vuos")


def test_exists(made: Made) -> None:
    with pytest.raises(LayerError, match="there is already a layer first"):
        create("first", [(made.lower, (made.lower,))], made.env)


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "-x", "a/b", "x" * 201])
def test_bad_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(LayerError, match="cannot be the name of a layer"):
        create(name, [(b"/", (os.fsencode(tmp_path),))], {"HOME": str(tmp_path / "h")})


def test_no_such_layer(made: Made) -> None:
    with pytest.raises(LayerError, match=r'no layer "frist" in .*: did you mean first\?'):
        open_layer("frist", made.env)
    with pytest.raises(LayerError, match="`vuctl layers` lists"):
        open_layer("another", made.env)


@pytest.fixture
def other(made: Made) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that holds the lock."""
    code = (
        "import sys, os\nfrom vuosd.layers import open_layer\n"
        "layer = open_layer('first', os.environ)\nprint('locked', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **made.env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def test_in_use(made: Made, other: "subprocess.Popen[bytes]") -> None:
    said = f"layer first is in use by process {other.pid}"
    for use in (open_layer, drop):
        with pytest.raises(LayerError, match=said):
            use("first", made.env)
    with pytest.raises(LayerError, match=said):
        branch("first", "second", made.env)
    busy = holder(made.layer.path)
    assert busy is not None
    assert busy.pid == other.pid
    open_layer("first", made.env, reading=True).close()


def test_a_holder_that_is_dying_is_waited_for(made: Made) -> None:
    """The main thread has ended, and another holds the lock for a while yet."""
    code = (
        "import ctypes, os, threading, time\nfrom vuosd.layers import open_layer\n"
        "layer = open_layer('first', os.environ)\nprint('locked', flush=True)\n"
        "def end():\n time.sleep(0.5)\n os._exit(0)\n"
        "threading.Thread(target=end).start()\n"
        "ctypes.CDLL(None).syscall(60, 0)"
    )
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, env={**os.environ, **made.env}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        stat = Path(f"/proc/{process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.001)
        assert holder(made.layer.path) is not None
        open_layer("first", made.env).close()


def test_a_lock_ends_with_its_holder(made: Made, other: "subprocess.Popen[bytes]") -> None:
    other.kill()
    other.wait()
    assert holder(made.layer.path) is None
    open_layer("first", made.env).close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is damaged: .*layer.json.* is no JSON"),
        ("[]", "is damaged"),
        ("", "is damaged"),
        ('{"format": 3}', "has format 3, and this vuosd knows only formats up to 2"),
        ('{"format": 2}', "is damaged"),
        (
            '{"format": 2, "name": "first", "created": 1, "parent": null, '
            '"trees": [{"directory": "0", "target": "/", "lower": ["/"], "system": "ext4 of x"}]}',
            "is damaged",
        ),
        ('{"format": 1, "name": "first", "created": 1, "parent": null, "trees": []}', "is damaged"),
        (
            '{"format": 1, "name": "first", "created": 1, "parent": null, '
            '"trees": [{"directory": "../x", "target": "/", "lower": ["/"]}]}',
            "is damaged",
        ),
    ],
)
def test_damaged(made: Made, text: str, said: str) -> None:
    layer_file(made).write_text(text)
    with pytest.raises(LayerError, match=said):
        open_layer("first", made.env)
    drop("first", made.env)
    assert os.listdir(made.store) == []


def test_the_record_is_missing(made: Made) -> None:
    layer_file(made).unlink()
    with pytest.raises(LayerError, match=r'is damaged: .*layer\.json" is missing'):
        open_layer("first", made.env)


def test_the_tree_is_missing(made: Made) -> None:
    os.rename(made.lower, made.lower + b".away")
    with pytest.raises(LayerError, match=r'the tree below it, .*real": no such file or directory'):
        open_layer("first", made.env)


def test_inside_its_tree(tmp_path: Path) -> None:
    tree = os.fsencode(tmp_path)
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    with pytest.raises(LayerError, match="inside the tree"):
        create("x", [(tree, (tree,))], env)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(LayerError, match="inside the tree"):
        create("x", [(tree, (tree,))], {}, store=os.fsencode(tmp_path / "link" / "other"))
    create("x", [(tree, (tree,))], env, apart=[os.fsencode(tmp_path / "state")]).close()


def test_no_attributes(tmp_path: Path) -> None:
    """/proc has none; nor can anything be made there: the first thing that fails is told."""
    with pytest.raises(LayerError, match='cannot make "/proc/self/vuos" for layers'):
        create("x", [(b"/", (os.fsencode(tmp_path),))], {"XDG_STATE_HOME": "/proc/self"})


def test_no_user_attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refused)
    with pytest.raises(LayerError, match="has no user extended attributes; name a directory elsewhere"):
        create("x", [(b"/", (b"/usr",))], {"XDG_STATE_HOME": str(tmp_path / "s")})
    assert os.listdir(tmp_path / "s" / "vuos") == []


def test_branch(made: Made) -> None:
    branch("first", "second", made.env)
    branch("second", "third", made.env)
    with open_layer("third", made.env) as layer:
        uppers = [os.path.join(made.store, name, b"0/upper") for name in (b"second", b"first")]
        assert layer.trees[0].lowers == (*uppers, made.lower)
        assert layer.trees[0].parents == 2
        assert layer.created == made.layer.created
    with pytest.raises(LayerError, match="layer second has a branch, third"):
        open_layer("second", made.env)
    with pytest.raises(LayerError, match="layer first has a branch, second: drop that first"):
        drop("first", made.env)
    for name in ("third", "second", "first"):
        drop(name, made.env)
    assert os.listdir(made.store) == []


def test_what_a_crash_left_is_removed(made: Made) -> None:
    left = os.path.join(made.store, b".123.left")
    os.makedirs(os.path.join(left, b"0/upper/closed"))
    os.chmod(os.path.join(left, b"0/upper/closed"), 0)
    store_clock = pytest.MonkeyPatch()
    with store_clock.context() as patched:
        from vuosd.layers import store

        patched.setattr(store, "_BEING_MADE", -1)
        create("next", [(made.lower, (made.lower,))], made.env).close()
    assert sorted(os.listdir(made.store)) == [b"first", b"next"]
