"""A relative path begins in the working directory, whoever may search the directories above it."""

import os
from pathlib import Path

import pytest
from harness import places
from harness.box import Box

USER = 4321  # nobody's
CONTAINER = places.Place("container", around=("docker",), daemon=("ancestors",))
pytestmark = [pytest.mark.app, pytest.mark.places(places.PLAIN, CONTAINER)]

SCRIPT = """
    cat f; cat a/f; ls . | wc -l; ls a; echo n > n; cat n; mkdir a/m; ls a; rm n; rmdir a/m; pwd; /bin/pwd
    cd a && cat f && cat ../f; stat -c %a . ../f; ls -l ../..; ls ..//; cat $PWD/f
    ln -s f l; cat l; mv l l2; ln f f2; cat f2 l2; rm f2 l2; ln -s ../f up; cat up; rm up
    touch -d @1 f; stat -c %Y f; chmod 600 f; mkdir -p q/r; echo z > q/r/t; find . | sort; mv q w; rm -r w
    tar cf t.tar f; tar tf t.tar; rm t.tar; mkfifo p; cat p & echo via > p; wait; rm p
"""
ENTRY = '[[mount]]\ntype = "{}"\nsource = "{}"\ntarget = "{}"\n'


def tree(box: Box) -> Path:
    top = box.scratch / "closed/top"
    (top / "a").mkdir(parents=True)
    for path in (top / "f", top / "a/f"):
        path.write_text("text\n")
    return top


def same(box: Box, kind: str, script: str, top: Path) -> None:
    """Natively, and where the view shows it. `script` has the tree as $1."""
    target = str(top.parent) if kind == "cow" else "/srv/view"
    profile = ENTRY.format("cow" if kind == "cow" else "bind", top.parent, target)
    if kind == "enforce":
        profile = "[view]\nenforce = true\n" + profile
    if kind == "cow":
        profile += "ephemeral = true\n"
    words = ["/bin/bash", "-c", script, "bash"]
    mode = top.parent.stat().st_mode
    view = box.view([*words, f"{target}/top"], profile)
    top.parent.chmod(mode)
    native = box.native([*words, top])
    top.parent.chmod(mode)
    said = [text.replace(target, str(top.parent)) for text in (view.stdout, view.stderr)]
    assert said == [native.stdout, native.stderr]
    assert native.stdout.count("text\n") == 8  # of all that is tried


@pytest.mark.only("root")
@pytest.mark.parametrize("kind", ["bind", "enforce", "cow"])
def test_by_another_user(box: Box, kind: str) -> None:
    top = tree(box)
    box.scratch.chmod(0o755)
    for path in (top, *top.rglob("*")):
        os.chown(path, USER, USER)
    top.parent.chmod(0o700)
    inside = box.file("script", SCRIPT)
    script = f"cd $1; setpriv --reuid={USER} --regid={USER} --clear-groups /bin/bash {inside}"
    same(box, kind, script, top)


@pytest.mark.only("user")
@pytest.mark.parametrize("kind", ["bind", "enforce"])
def test_by_who_has_closed_it(box: Box, kind: str) -> None:
    top = tree(box)
    box.give(box.scratch)
    same(box, kind, f"cd $1; chmod 0 ..; {SCRIPT}", top)
