"""Symlinks in targets: against the kernel's own walk, and through earlier entries."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vuosd.views import Entry, Kind, View, resolved

LINKS = {
    b"/var/run": b"../run",
    b"/home": b"/export/home",
    b"/export/home/u/.aws": b"dots/aws",
    b"/export/home/u/.bash_history": b"/dev/null",
    b"/loop": b"/loop",
    b"/alpine/bin": b"usr/bin",
}


def targets(*entries: Entry) -> list[tuple[str, bytes]]:
    view = resolved(View(name="v", entries=entries), LINKS.get)
    return [(entry.kind.name, entry.target) for entry in view.entries]


def test_a_link_on_the_way() -> None:
    assert targets(Entry(Kind.HIDE, b"/var/run/docker.sock")) == [("HIDE", b"/run/docker.sock")]
    assert targets(Entry(Kind.TMPFS, b"/home/u/x")) == [("TMPFS", b"/export/home/u/x")]


def test_a_link_at_the_end() -> None:
    assert targets(Entry(Kind.TMPFS, b"/var/run")) == [("TMPFS", b"/run")]
    assert targets(Entry(Kind.HIDE, b"/home/u/.aws")) == [
        ("HIDE", b"/export/home/u/.aws"),
        ("HIDE", b"/export/home/u/dots/aws"),
    ]


def test_a_hidden_link_to_a_device_leaves_the_device() -> None:
    assert targets(Entry(Kind.HIDE, b"/home/u/.bash_history")) == [("HIDE", b"/export/home/u/.bash_history")]


def test_a_loop_ends() -> None:
    assert targets(Entry(Kind.RO, b"/loop/x")) == [("RO", b"/loop/x")]


def test_links_of_a_foreign_root_count_and_those_of_the_host_do_not() -> None:
    root = Entry(Kind.ROOT, b"/", b"/alpine")
    assert targets(root, Entry(Kind.RO, b"/bin/sh"), Entry(Kind.TMPFS, b"/var/run")) == [
        ("ROOT", b"/"),
        ("RO", b"/usr/bin/sh"),
        ("TMPFS", b"/var/run"),
    ]


def test_what_is_covered_is_no_link() -> None:
    assert targets(Entry(Kind.TMPFS, b"/"), Entry(Kind.BIND, b"/home/u", b"/x")) == [
        ("TMPFS", b"/"),
        ("BIND", b"/home/u"),
    ]


NAMES = st.sampled_from(["a", "b", "c"])
PLACES = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TEXTS = st.lists(st.sampled_from(["a", "b", "c", "..", "."]), min_size=1, max_size=4).map("/".join)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path.resolve()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(PLACES, st.tuples(TEXTS, st.booleans()), max_size=6), PLACES)
def test_agrees_with_realpath(tree: Path, links: dict[str, tuple[str, bool]], target: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir=tree) as name:
        base = Path(name)
        for place, (text, absolute) in links.items():
            try:
                (base / place).parent.mkdir(parents=True, exist_ok=True)
                (base / place).symlink_to(f"{base}/{text}" if absolute else text)
            except OSError:
                continue  # another link, or a directory, is there

        def readlink(path: bytes) -> bytes | None:
            try:
                return os.readlink(path)
            except OSError:
                return None

        path = os.fsencode(base / target)
        try:
            expected = os.path.realpath(path, strict=True)
        except OSError:
            return  # nothing there, or a loop: nothing to agree on
        view = resolved(View(name="v", entries=(Entry(Kind.TMPFS, path),)), readlink)
        assert view.entries[0].target == expected


def test_in_a_merge_the_topmost_tree_that_has_the_name_decides() -> None:
    links = {b"/top/d": b"", b"/below/d": b"/elsewhere", b"/below/l": b"/srv"}
    merge = Entry(Kind.MERGE, b"/m", b"/top", (b"/below",))
    view = resolved(
        View(name="v", entries=(merge, Entry(Kind.HIDE, b"/m/d/x"), Entry(Kind.TMPFS, b"/m/l/x"))), links.get
    )
    assert [entry.target for entry in view.entries] == [b"/m", b"/m/d/x", b"/srv/x"]


def test_a_cow_of_what_is_there_hides_no_link() -> None:
    cow = Entry(Kind.COW, b"/var")
    assert targets(cow, Entry(Kind.TMPFS, b"/var/run/x")) == [("COW", b"/var"), ("TMPFS", b"/run/x")]
