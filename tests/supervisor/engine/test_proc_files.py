"""mountinfo, mounts and mountstats as a process of the view reads them."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor.engine.driver import USERS, View, bind, directory, hide, run

pytestmark = pytest.mark.kernel


@pytest.fixture
def tree() -> Iterator[Path]:
    root = directory()
    (root / "real").mkdir()
    (root / "real" / "file").touch()
    yield root
    shutil.rmtree(root)


def unescape(text: str) -> str:
    return re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), text)


def mountinfo(text: str) -> dict[str, list[str]]:
    return {unescape(line.split()[4]): line.split() for line in text.splitlines()}


@pytest.mark.parametrize("user", USERS)
def test_mountinfo(tree: Path, user: int | None) -> None:
    native = mountinfo(Path("/proc/self/mountinfo").read_text())

    def body() -> None:
        with open("/proc/self/mountinfo") as file:
            text = file.read()
            file.seek(0)
            assert file.read() == text
            with pytest.raises(PermissionError):
                open(f"/proc/self/fd/{file.fileno()}", "w").close()
        for path in ("/proc/thread-self/mountinfo", f"/proc/{os.getpid()}/mountinfo"):
            assert Path(path).read_text() == text
        found = mountinfo(text)
        assert {point: found.get(point) for point in native} == native
        assert set(found) - set(native) == {f"{tree}/v", f"{tree}/a b\t\\c", f"{tree}/v/in"}
        ids = [line[0] for line in found.values()]
        assert len(set(ids)) == len(ids)
        assert found[f"{tree}/v/in"][1] == found[f"{tree}/v"][0]
        above = max((p for p in native if f"{tree}/".startswith(p.rstrip("/") + "/")), key=len)
        assert found[f"{tree}/v"][1] == native[above][0]
        assert found[f"{tree}/v"][3].endswith(f"{tree.name}/real")
        assert found[f"{tree}/v"][5].split(",")[0] == "rw"
        assert found[f"{tree}/a b\t\\c"][5].split(",")[0] == "ro"
        assert found[f"{tree}/v"][-3:] == native[above][-3:]
        st = os.stat(tree / "v")
        assert found[f"{tree}/v"][2] == f"{os.major(st.st_dev)}:{os.minor(st.st_dev)}"

    entries = [
        bind(tree / "v", tree / "real"),
        bind(tree / "v" / "in", tree / "real" / "file"),
        bind(tree / "a b\t\\c", tree / "real", readonly=True),
        hide(tree / "hidden"),
    ]
    run(body, View(entries, user=user))


def test_hidden_and_replaced(tree: Path) -> None:
    native = mountinfo(Path("/proc/self/mountinfo").read_text())

    def body() -> None:
        found = mountinfo(Path("/proc/self/mountinfo").read_text())
        assert not [point for point in found if point.startswith(("/sys", "/dev/"))]
        assert found["/dev"][3].endswith("/real")
        assert set(found) == {point for point in native if not point.startswith(("/sys", "/dev"))} | {"/dev"}
        plain = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        assert [unescape(point) for point in plain] == list(found)
        stats = re.findall(r"mounted on (\S+) with", Path("/proc/self/mountstats").read_text())
        assert stats == plain

    run(body, View([hide("/sys"), bind("/dev", tree / "real")]))


def test_foreign_root(tree: Path) -> None:
    (tree / "real" / "proc").mkdir()

    def body() -> None:
        found = mountinfo(Path("/proc/self/mountinfo").read_text())
        assert list(found) == ["/proc", "/"]
        assert found["/"][3].endswith("/real")
        assert found["/proc"][1] == found["/"][0]

    run(body, View([bind("/", tree / "real"), bind("/proc", "/proc")]))


@pytest.mark.skipif(not shutil.which("findmnt"), reason="no findmnt here")
def test_findmnt_and_df(tree: Path) -> None:
    def told(*command: str) -> list[str]:
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        assert not out.stderr
        return out.stdout.split()

    def body() -> None:
        assert told("findmnt", "-n", "-o", "TARGET,OPTIONS", str(tree / "v"))[0] == str(tree / "v")
        assert told("findmnt", "-n", "-r", "-o", "TARGET", "-T", str(tree / "v" / "file")) == [
            str(tree / "v")
        ]
        assert str(tree / "v") in told("findmnt", "-r", "-n", "-o", "TARGET")
        assert told("df", "--output=target", str(tree / "v" / "file"))[-1] == str(tree / "v")

    run(body, View([bind(tree / "v", tree / "real", readonly=True)]))


def test_a_file_of_that_name_elsewhere(tree: Path) -> None:
    (tree / "real" / "1").mkdir()
    (tree / "real" / "1" / "mounts").write_text("mine")

    def body() -> None:
        assert (tree / "v" / "1" / "mounts").read_text() == "mine"

    run(body, View([bind(tree / "v", tree / "real")]))
