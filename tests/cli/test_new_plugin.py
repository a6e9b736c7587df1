"""vuctl new-plugin: what it writes works as it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vuosd.api import find
from vuosd.cli.main import main


def test_the_skeleton_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert main(["new-plugin", "my_hello"]) == 0
    place = tmp_path / "share/vuosd/plugins"
    assert f"pytest {place}/test_my_hello.py" in capsys.readouterr().out
    assert sorted(os.listdir(place)) == ["my_hello.py", "test_my_hello.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(place / "test_my_hello.py")],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert find("my_hello").command("", "/dev/fd/3").argv[4] == str(place / "my_hello.py")
    assert main(["new-plugin", "my_hello"]) == 1
    assert "my_hello.py is there already" in capsys.readouterr().err


def test_the_skeleton_of_a_module_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "plugins"
    assert main(["new-plugin", "--kind=module", "--directory", str(place), "my_name"]) == 0
    assert f'name = "{place}/my_name.py"' in capsys.readouterr().out
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(place / "test_my_name.py")],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout


def test_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, better in (
        ("My-Type", '"my_type" would do'),
        ("../x", '"x" would do'),
        ("3", "a letter first\n"),
    ):
        assert main(["new-plugin", name, "--directory", str(tmp_path)]) == 1
        assert better in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
