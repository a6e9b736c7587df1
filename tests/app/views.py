"""The views that real programs run in, and how a test asks for all of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from harness.box import Box

Profile = Callable[[Box], str | None]


def pass_through(box: Box) -> str | None:
    return None


def bind(box: Box) -> str:
    """The work directory is another place's: every path in it is virtual."""
    store = box.scratch / "store"
    if not store.exists():
        box.directory("store")
    return f'[[mount]]\ntype = "bind"\nsource = "{store}"\ntarget = "{box.scratch}/work"\n'


def enforce(box: Box) -> str:
    hidden = box.scratch / "hidden"
    if not hidden.exists():
        box.directory("hidden")
    return f'[view]\nenforce = true\n[[mount]]\ntype = "hide"\ntarget = "{hidden}"\n'


in_all_views = pytest.mark.parametrize(
    "profile", [pass_through, bind, enforce], ids=lambda view: view.__name__
)


def work(box: Box) -> Path:
    """The directory that the program works in, empty, and starts in."""
    path = box.scratch / "work"
    return path if path.exists() else box.directory("work")
