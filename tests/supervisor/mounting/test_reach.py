"""What a server is let have, put on a process that tries: of a view's entries, and who asks for it."""

import os
from pathlib import Path

import pytest

from vuosd.api import Needs
from vuosd.supervisor.mounting import bounds, reach
from vuosd.supervisor.mounting.errors import MountError
from vuosd.views import Entry, Kind, View

pytestmark = pytest.mark.kernel


def entry(kind: Kind, target: Path, source: Path | None = None, *, readonly: bool = False) -> Entry:
    return Entry(kind, bytes(target), None if source is None else bytes(source), readonly=readonly)


def view(*entries: Entry) -> View:
    return View(name="", entries=entries)


def wants(needs: Needs, source: Path | str = "", *, inside: bool = True, **more: object) -> reach.Wants:
    given = {"argv": ["/bin/true"], "env": {}, "options": "", "fds": {}, "readonly": False, "place": b"",
             "temporary": None, **more}  # fmt: skip
    return reach.Wants(needs=needs, source=str(source), inside=inside, **given)  # type: ignore[arg-type]


def has(wanted: reach.Wants, shown: reach.Shown, path: Path, flags: int = os.O_RDONLY) -> bool:
    """Whether a process within these bounds can open a file."""
    within = reach.bounds(wanted, shown)
    child = os.fork()
    if not child:
        status = 2
        try:
            bounds.enter(within)
            status = 1
            os.close(os.open(path, flags))
            status = 0
        finally:
            os._exit(status)
    if within.ruleset >= 0:
        os.close(within.ruleset)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 1)
    return status == 0


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for name in ("plain", "hidden", "covered", "other", "locked"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    return tmp_path


@pytest.fixture
def shown(top: Path) -> reach.Shown:
    return reach.of_views([view(*entries(top))])


def entries(top: Path) -> tuple[Entry, ...]:
    return (
        entry(Kind.HIDE, top / "hidden"),
        entry(Kind.BIND, top / "covered", top / "other"),
        entry(Kind.BIND, top / "locked", top / "locked", readonly=True),
    )


def test_who_asks_in_the_view_names_what_that_shows(top: Path, shown: reach.Shown) -> None:
    for name, reads, writes in (
        ("plain", True, True), ("hidden", False, False), ("covered", False, False), ("locked", True, False),
    ):  # fmt: skip
        path = top / name / "file"
        file, directory = (str(path),), (str(top / name),)
        for needs in (Needs(writes=file), Needs(sources=file), Needs(writes=directory)):
            assert has(wants(needs), shown, path) == reads
            assert has(wants(needs), shown, path, os.O_WRONLY) == writes
            assert has(wants(needs, inside=False), shown, path, os.O_WRONLY)
        option = wants(Needs(), options=f"x=y=-i {path}")
        assert has(option, shown, path) == reads
        assert not has(option, shown, path, os.O_WRONLY)
        assert has(wants(Needs(), env={"PYTHONPATH": f"/usr:{path.parent}"}), shown, path) == reads
        (top / "link").unlink(missing_ok=True)
        (top / "link").symlink_to(path)
        assert has(wants(Needs(reads=(str(top / "link"),))), shown, path) == reads


def test_what_the_view_shows(top: Path, shown: reach.Shown) -> None:
    unknown = Needs(sees=True)
    seen = {name for name in os.listdir(top) if has(wants(unknown), shown, top / name / "file")}
    assert seen == {"plain", "other", "locked"}
    assert not has(wants(unknown), shown, top / "plain/file", os.O_WRONLY)


def test_a_view_in_a_view_shows_no_more(top: Path) -> None:
    """Its sources are names of the view outside."""
    inner = view(
        entry(Kind.BIND, top / "covered", top / "covered"), entry(Kind.BIND, top / "new", top / "hidden"),
        entry(Kind.HIDE, top / "plain"),
    )  # fmt: skip
    shown = reach.of_views([view(*entries(top)), inner])
    for name in ("covered", "hidden", "plain"):
        assert not has(wants(Needs(sees=True)), shown, top / name / "file")
        assert not has(wants(Needs(reads=(str(top / name / "file"),))), shown, top / name / "file")


def test_a_directory_that_is_not_shown_whole(top: Path, shown: reach.Shown) -> None:
    with pytest.raises(MountError, match="vumount without transport="):
        reach.bounds(wants(Needs(), top), shown)
    with pytest.raises(MountError, match="mount it with -o ro"):
        reach.bounds(wants(Needs(beside=True), top / "image"), shown)
    assert has(wants(Needs(), top, inside=False), shown, top / "hidden/file")
    assert has(wants(Needs(), top / "plain"), shown, top / "plain/file", os.O_WRONLY)
    assert not has(wants(Needs(), top / "plain", readonly=True), shown, top / "plain/file", os.O_WRONLY)
    assert not has(wants(Needs(changes=False), top / "plain"), shown, top / "plain/file", os.O_WRONLY)


def test_the_agent_is_the_one_that_the_view_shows(top: Path, shown: reach.Shown) -> None:
    for name, there in (("plain", True), ("hidden", False), ("locked", False)):
        env = {"SSH_AUTH_SOCK": str(top / name / "file")}
        asked = wants(Needs(network=True, agent=True), env=env)
        within = reach.bounds(asked, shown)
        os.close(within.ruleset)
        assert bool(within.agent) == there
