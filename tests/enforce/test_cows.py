"""Cows that come while an enforcing view runs: `vumount -t cow`."""

from pathlib import Path

import pytest
from enforce.test_race import race
from enforce.tree import Tree
from harness import places
from harness.box import Box, Result

pytestmark = [pytest.mark.app, pytest.mark.places(places.PLAIN)]

ALLOW = '[control]\nallow = ["mount", "umount", "cow"]\n'
PROFILE = f"""
[view]
enforce = true
{ALLOW}
[[mount]]
type = "hide"
target = "{{top}}/d/hidden"
[[mount]]
type = "ro"
target = "{{top}}/d/fixed"
"""


@pytest.fixture
def top(box: Box) -> Path:
    for name in ("hidden", "fixed", "free"):
        box.file(f"t/d/{name}/file", f"{name}\n")
    box.file("t/d/prog", "#!/bin/sh\necho below\n", 0o755)
    box.directory("t/at")
    box.file("home/.local/state/vuos/other/0/upper/secret", "SECRET\n")
    box.give(box.scratch / "home")
    return box.give(box.scratch / "t")


def run(box: Box, top: Path, script: str, profile: str = PROFILE) -> Result:
    words = ["sh", "-c", f"exec 2>&1; cd $1; {script}", "sh", str(top)]
    return box.view(words, profile.format(top=top), options=["--name=it"], timeout=60)


@pytest.mark.places(places.PLAIN, places.DOCKER)
def test_a_cow_is_one(box: Box, top: Path) -> None:
    """With programs of the layer, sockets, and a second time; and it shows what the view shows."""
    script = """
        vumount -t cow -o layer=it,except=free d at || exit 9
        cd at; ./prog; sed s/below/above/ prog >new; chmod 755 new; ./new; echo more >>prog; ./prog
        ls; cat hidden/file; echo x >fixed/file; mkdir hidden; echo real >>free/file; cd ..; cat d/new
        /usr/bin/python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.bind("at/sock"); s.listen()
c = socket.socket(socket.AF_UNIX); c.connect("at/sock"); print("connected")'
        vuumount at; vumount -t cow -o layer=it d at; ls at; at/new; vuumount at
        vumount -t cow -o ephemeral d at; echo x >at/x; ls at; vuumount at; ls at
        ls $HOME/.local/state/vuos $HOME/.local/state; cat $HOME/.local/state/vuos/other/0/upper/secret
    """
    said = run(box, top, script).stdout
    listed = ["fixed", "free", "new", "prog"]
    missing = "No such file or directory"
    stores = "/home/.local/state"
    for plain, text in (("", str(box.scratch)), ("'", "\u2018"), ("'", "\u2019"), ("", "sh: 4: ")):
        said = said.replace(text, plain)
    assert said.splitlines() == [
        *("below", "above", "below", *listed),
        f"cat: hidden/file: {missing}", "cannot create fixed/file: Read-only file system",
        "mkdir: cannot create directory 'hidden': Permission denied", f"cat: d/new: {missing}",
        *("connected", *listed, "sock", "above", "fixed", "free", "prog", "x"),
        f"ls: cannot access '{stores}/vuos': {missing}", f"{stores}:",
        f"cat: {stores}/vuos/other/0/upper/secret: {missing}",
    ]  # fmt: skip
    store = box.scratch / "home/.local/state/vuos"
    assert sorted(path.name for path in store.iterdir()) == ["it", "other"]
    assert (top / "d/free/file").read_text() == "free\nreal\n"
    assert sorted(path.name for path in (top / "d").iterdir()) == ["fixed", "free", "hidden", "prog"]


def test_what_a_fence_does_not_let_come(box: Box, top: Path) -> None:
    """Another's layer, or a place that the floor does not know."""
    script = """
        mkdir store; vumount -t cow -o layer=other d at; vumount -t cow -o store=store d at
        vumount -t cow d/hidden at; vumount -t mincow d/fixed at; ls at
    """
    said = run(box, top, script).stdout.splitlines()
    while_runs = "in an enforcing view a cow that comes while it runs"
    assert said == [
        f"vumount: layer other was there before: {while_runs} goes on in no layer but its own",
        f"vumount: {while_runs} has no store= of its own",
        "vumount: d/hidden: No such file or directory",
        "vumount: the view shows d/fixed read-only, and a mincow would write there: -t cow",
    ]
    refused = run(box, top, "vumount -t cow d at", PROFILE.replace(', "cow"', "")).stdout
    assert "the profile of this view does not grant it" in refused
    assert [path.name for path in (box.scratch / "home/.local/state/vuos").iterdir()] == ["other"]


def test_no_race_is_won_in_a_cow(box: Box) -> None:
    """What is hidden in its source, by its paths in it."""
    tree = Tree(box)
    try:
        at = box.directory("at")
        calls = (
            "open",
            "openat2",
            "stat",
            "chdir",
            "exec",
            "rename",
            "connect",
            "bind",
            "readlink",
            "unlink",
        )
        before = ["sh", "-c", 'vumount -t cow -o ephemeral / "$0" && exec "$@"', at]
        profile = tree.profile() + ALLOW
        found = race(box, tree, "sec", profile, *calls, at=str(at), before=before)
        assert {call: finds for call, (_, finds) in found.items() if finds} == {}
        assert len(found) > 5
        assert tree.changed() == []
    finally:
        tree.close()
