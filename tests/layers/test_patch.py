"""The patch that `vuctl diff --patch` prints, taken by git and by patch(1)."""

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layers.model import merged, plain
from layers.random_trees import NAMES, consistent
from layers.trees import Dir, File, Link, Made, Pipe, Spec, Whiteout, make, summary

from vuosd.layers.changes import Comparison
from vuosd.layers.patch import patch, size

LOWER: Spec = {
    b"a": b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n",
    b"d/x": b"no newline",
    b"d/run": File(b"#!\n", mode=0o755),
    b"gone": b"1\n2\n",
    b"link": Link(b"a"),
    b"empty": b"",
    b"with space": b"1\n",
    b"type": b"file\n",
}
UPPER: Spec = {
    b"a": b"1\n2\n3\n4\nfive\n6\n7\n8\n9\n10\n11",
    b"d/x": b"no newline\nhas now\n",
    b"d/run": File(b"#!\n", mode=0o644),
    b"gone": Whiteout(),
    b"empty": Whiteout(),
    b"link": Link(b"elsewhere"),
    b"new": b"",
    b'new dir/\xff\n"x"': b"1\n",
    b"with space": b"2\n",
    b"type": Link(b"a"),
}


def text_of(made: Made) -> bytes:
    with Comparison(made.layer.trees[0]) as comparison:
        return b"".join(patch(comparison, comparison.changes(), b""))


def files(tree: dict[bytes, Any]) -> dict[bytes, Any]:
    """What a patch knows of a tree."""
    found: dict[bytes, Any] = {}
    for path, what in tree.items():
        if what[0] == "file":
            found[path] = (what[1], bool(what[2] & 0o100))
        elif what[0] == "link":
            found[path] = what
    return found


def apply(made: Made, text: bytes, *command: str) -> dict[bytes, Any]:
    real = os.fsdecode(made.lower)
    env = {**os.environ, "GIT_CEILING_DIRECTORIES": os.path.dirname(real)}
    done = subprocess.run(command, cwd=real, input=text, capture_output=True, check=False, env=env)
    assert done.returncode == 0, done.stdout + done.stderr + text
    return files(summary(real))


@pytest.mark.parametrize("command", [("git", "apply"), ("patch", "-p1", "--quiet")], ids=" ".join)
def test_applies(tmp_path: Path, command: tuple[str, ...]) -> None:
    upper = dict(UPPER)
    if command[0] == "patch":
        del upper[b"empty"]  # it has no way to be told that an empty file goes
    made = make(tmp_path, LOWER, upper)
    assert apply(made, text_of(made), *command) == files(plain(merged(LOWER, upper)))


CONTENT = st.lists(st.sampled_from([b"x\n", b"y\n", b"z"]), max_size=6).map(b"".join)
FILES = st.builds(File, CONTENT, mode=st.sampled_from([0o644, 0o755]))
LINKS = st.builds(Link, st.sampled_from([b"nowhere", b"else\nwhere"]))
PLAIN = st.one_of(FILES, LINKS)  # a patch does not take empty directories away
PATHS = st.lists(NAMES, min_size=1, max_size=2).map(b"/".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lower=st.dictionaries(PATHS, PLAIN, max_size=6).map(consistent),
    upper=st.dictionaries(PATHS, st.one_of(PLAIN, st.just(Whiteout())), max_size=6).map(consistent),
)
def test_random(tmp_path_factory: pytest.TempPathFactory, lower: Spec, upper: Spec) -> None:
    top = tmp_path_factory.mktemp("t")
    made = make(top, lower, upper)
    if text := text_of(made):
        text = b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"vuctl:"))
        if text:
            found = apply(made, text, "git", "apply")
            assert found == files(plain(merged(lower, upper)))
    shutil.rmtree(top)


def test_what_a_patch_cannot_say(tmp_path: Path) -> None:
    upper: Spec = {
        b"bin": b"\0\1",
        b"pipe": Pipe(),
        b"dir": Dir(),
        b"a": File(LOWER[b"a"], mode=0o600),  # type: ignore[arg-type]
    }
    text = text_of(make(tmp_path, LOWER, upper))
    assert b"Binary files /dev/null and b/bin differ\nvuctl: binary bin: 0 -> 2 bytes\n" in text
    assert b"vuctl: new pipe (prw-r--r--)\n" in text
    assert b"vuctl: new dir (drwxr-xr-x)\n" in text
    assert b"vuctl: other attributes of a: mode\n" in text


def test_size(tmp_path: Path) -> None:
    made = make(tmp_path, LOWER, {**UPPER, b"bin": b"\0" * 7})
    with Comparison(made.layer.trees[0]) as comparison:
        found = {change.path: size(comparison, change) for change in comparison.changes()}
    assert found[b"a"] == (2, 1, False)
    assert found[b"gone"] == (0, 2, False)
    assert found[b"bin"] == (7, 0, True)
    assert found[b"d/run"] is None
    assert stat.S_ISDIR(os.lstat(made.upper).st_mode)
