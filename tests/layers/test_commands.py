"""vuctl's commands about layers, as a person calls them."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from layers.trees import File, Link, Made, Spec, Whiteout, make

LOWER: Spec = {b"a": b"1\n", b"b": b"2\n", b"d/x": b"3\n", b"gone/x": b"", b"gone/y": b""}
UPPER: Spec = {
    b"a": b"one\n",
    b"b": File(b"2\n", mode=0o755),
    b"d/x": Whiteout(),
    b"gone": Whiteout(),
    b"new/in": b"",
    b"new/\xff\n": b"",
    b"link": Link(b"a"),
}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path, LOWER, UPPER)


def vuctl(made: Made, *words: str | bytes, cwd: str | None = None) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "vuosd.cli.main", *words],
        env={**os.environ, **made.env, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        cwd=cwd or os.fsdecode(made.lower),
        capture_output=True,
        check=False,
        timeout=60,
    )


def said(done: "subprocess.CompletedProcess[bytes]", status: int) -> str:
    assert done.returncode == status, done
    assert b"Traceback" not in done.stderr
    return done.stdout.decode()


def test_status(made: Made) -> None:
    assert said(vuctl(made, "diff"), 1) == (
        "modified:   a\nattributes: b  (mode 0644 → 0755; times)\n".replace("; times", "")
        + "deleted:    d/x\n"
        "deleted:    gone/  (and 2 in it)\n"
        "new:        link\n"
        "new:        new/  (and 2 in it)\n"
        "\n4 new, 1 modified, 1 attributes, 4 deleted\n"
    )


def test_paths_are_as_the_shell_has_them(made: Made) -> None:
    inside = os.path.join(os.fsdecode(made.lower), "d")
    assert said(vuctl(made, "diff", "--name-only", "--", "x", cwd=inside), 1) == "x\n"
    assert said(vuctl(made, "diff", "--name-only", "it", "--", "../a", cwd=inside), 1) == "../a\n"
    assert said(vuctl(made, "diff", "--name-only", "it", "--", "a", "d", cwd="/"), 1) == "a\nd/x\n"
    absolute = os.path.join(os.fsdecode(made.lower), "a")
    assert said(vuctl(made, "diff", "--name-only", "--", absolute, cwd="/"), 1) == "a\n"
    done = vuctl(made, "diff", "--", "/nowhere")
    assert b'"/nowhere" is not in the layer' in done.stderr
    assert done.returncode == 2


def test_any_byte(made: Made) -> None:
    names = said(vuctl(made, "diff", "--name-only", "--", "new"), 1)
    assert names == 'new\nnew/in\n"new/\\377\\n"\n'
    value = json.loads(said(vuctl(made, "diff", "--json", "--", b"new/\xff\n"), 1))
    (tree,) = value["trees"]
    (change,) = tree["changes"]
    assert os.fsencode(change["path"]) == b"new/\xff\n"
    assert change["change"] == "added"
    assert change["new"]["size"] == 0


def test_nothing_changed(tmp_path: Path) -> None:
    made = make(tmp_path, LOWER, {})
    assert said(vuctl(made, "diff"), 0) == ""
    assert said(vuctl(made, "diff", "--patch"), 0) == ""
    assert said(vuctl(made, "commit"), 0) == "layer it changes nothing: nothing to commit\n"


def test_stat(made: Made) -> None:
    assert said(vuctl(made, "diff", "--stat", "--", "a", "d"), 1).splitlines() == [
        " a   |     2 +-",
        " d/x |     1 -",
        " 2 changed, 1 lines added, 2 lines removed",
    ]


def test_colours_on_a_terminal_only(made: Made) -> None:
    assert b"\x1b" not in vuctl(made, "diff").stdout
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "vuosd.cli.main", "diff"],
        env={**os.environ, **made.env, "TERM": "xterm"},
        cwd=made.lower,
        stdout=theirs,
    ) as process:
        os.close(theirs)
        seen = os.read(ours, 4096)
        process.wait()
    os.close(ours)
    assert b"\x1b[33mmodified:   a\x1b[m" in seen


def test_commit(made: Made) -> None:
    assert "modified:   a\n" in said(vuctl(made, "commit", "--dry-run"), 0)
    assert said(vuctl(made, "commit", "it", "a"), 0) == "1 change committed\n"
    assert Path(os.fsdecode(made.lower), "a").read_bytes() == b"one\n"
    done = vuctl(made, "commit", "--", "a")
    assert done.returncode == 2
    assert b"is not changed in the layer" in done.stderr
    assert said(vuctl(made, "commit"), 0) == "9 changes committed\n"
    assert said(vuctl(made, "diff"), 0) == ""


def test_conflict(made: Made) -> None:
    Path(os.fsdecode(made.lower), "a").write_bytes(b"theirs\n")
    done = vuctl(made, "commit")
    assert said(done, 1) == ""
    first, second = done.stderr.decode().splitlines()
    assert first.startswith("vuctl: cannot commit: a: has been changed there since (size, time")
    assert second.startswith("vuctl: nothing was committed: 1 conflict; --ours takes the layer's")
    assert "1 change forgotten" in said(vuctl(made, "commit", "--theirs", "--", "a"), 0)
    assert Path(os.fsdecode(made.lower), "a").read_bytes() == b"theirs\n"


def test_which_layer(made: Made) -> None:
    from vuosd.layers import branch, create

    create("other", [(made.lower, (made.lower,))], made.env).close()
    done = vuctl(made, "diff")
    assert done.returncode == 2
    assert done.stderr == b"vuctl: which layer? there are 2: it, other\n"
    branch("it", "on it", made.env)
    rows = said(vuctl(made, "layers"), 0).splitlines()
    assert rows[0].split() == ["LAYER", "SIZE", "AGE", "PARENT", "STATE", "OVER"]
    assert [row.split()[0] for row in rows[1:]] == ["it", "on", "other"]
    value = json.loads(said(vuctl(made, "layers", "--json"), 0))
    assert [(layer["name"], layer["parent"], layer["in_use"]) for layer in value] == [
        ("it", None, False),
        ("on it", "it", False),
        ("other", None, False),
    ]
    assert value[0]["size"] > 0
    assert said(vuctl(made, "drop", "on it"), 0) == ""
    assert said(vuctl(made, "drop", "it"), 0) == ""
    assert said(vuctl(made, "drop"), 0) == ""
    assert b"there is no layer in" in vuctl(made, "diff").stderr


def test_a_path_in_the_place_of_the_layer(made: Made) -> None:
    from vuosd.layers import branch

    done = vuctl(made, "commit", "d/x")
    assert done.returncode == 2
    assert b"it is a path that layer it changed; `vuctl commit it d/x`" in done.stderr
    assert b"`vuctl diff it a`" in vuctl(made, "diff", "a").stderr
    assert b'no layer "b2" in ' in vuctl(made, "commit", "b2").stderr
    assert b"is a path" not in vuctl(made, "commit", "b2").stderr
    branch("it", "more", made.env)
    os.mkdir(os.path.join(made.store, b"more/0/upper/new"))
    done = vuctl(made, "commit", "new")
    assert b"layers it, more changed; `vuctl commit it new` or `vuctl commit more new`" in done.stderr
    assert "modified:" in said(vuctl(made, "commit", "--dry-run", "more"), 0)


def test_a_store_elsewhere(made: Made, tmp_path: Path) -> None:
    os.rename(made.store, tmp_path / "store")
    assert "modified:   a\n" in said(vuctl(made, "diff", "--store", str(tmp_path / "store")), 1)
    assert vuctl(made, "diff").returncode == 2


def test_branches(made: Made, tmp_path: Path) -> None:
    assert said(vuctl(made, "branch", "it", "more"), 0) == ""
    upper = os.path.join(made.store, b"more/0/upper")
    Path(os.fsdecode(upper), "later").write_bytes(b"x")
    os.unlink(os.path.join(made.upper, b"d/x"))
    assert said(vuctl(made, "diff", "more", "--alone", "--name-only"), 1) == "later\n"
    assert "later\n" in said(vuctl(made, "diff", "more", "--name-only"), 1)
    assert b"only all of it can be committed" in vuctl(made, "commit", "more", "later").stderr
    assert b"layer it has a branch, more" in vuctl(made, "commit", "it").stderr
    said(vuctl(made, "commit", "more"), 0)
    real = Path(os.fsdecode(made.lower))
    assert (real / "later").read_bytes() == b"x"
    assert (real / "a").read_bytes() == b"one\n"
    assert said(vuctl(made, "diff", "more"), 0) == ""
    assert json.loads(said(vuctl(made, "layers", "--json"), 0))[1]["parent"] is None
    assert said(vuctl(made, "diff", "it"), 0) == ""


def test_export(made: Made, tmp_path: Path) -> None:
    file = tmp_path / "layer.tar"
    assert said(vuctl(made, "export", "it", str(file)), 0) == ""
    assert vuctl(made, "export", "it", "-").stdout == file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layer.tar", "real", "state"]
    assert vuctl(made, "export", "it", "/nonexistent/x").returncode == 2


def test_a_full_disk(made: Made) -> None:
    done = vuctl(made, "export", "it", "/dev/full")
    assert done.returncode == 2
    assert done.stderr.decode().count("\n") == 1
    assert "no space left on device" in done.stderr.decode()


@pytest.mark.parametrize("status", [["diff"], ["diff", "--json"], ["diff", "--patch"], ["diff", "--stat"]])
def test_a_reader_that_goes_away(tmp_path: Path, status: list[str]) -> None:
    made = make(tmp_path, {}, {b"%d" % number: b"x\n" * 9 for number in range(3000)})
    with subprocess.Popen(
        [sys.executable, "-m", "vuosd.cli.main", *status, "--all"],
        env={**os.environ, **made.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        process.wait()
