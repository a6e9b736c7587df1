"""docs/plugins.md: its example runs as it stands, and it leaves nothing out."""

import errno
import os
import re
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from vuosd import api
from vuosd.api import Call, File, Filesystem, FileSystemType, Module, filesystems, find, modules
from vuosd.api.boundaries import OPERATIONS
from vuosd.api.source import from_file
from vuosd.testing import WirePlace, asking, in_view
from vuosd.testing.reading import refused

PAGE = (Path(__file__).parents[2] / "docs/plugins.md").read_text()
EXAMPLE, MODULE = (re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[at] for at in (0, 1))


def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len([line for line in EXAMPLE.splitlines() if line]) <= 20
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (tmp_path / "vuosd/plugins").mkdir(parents=True)
    (tmp_path / "vuosd/plugins/tables.py").write_text(EXAMPLE)
    database = sqlite3.connect(tmp_path / "example.db")
    database.execute("create table people (name, born)")
    database.executemany("insert into people values (?, ?)", [("Ada", 1815), ("Grace, Admiral", 1906)])
    database.commit()
    database.close()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        server = find("tables").command(str(tmp_path / "example.db"), f"/dev/fd/{theirs.fileno()}")
        process = subprocess.Popen(server.argv, pass_fds=server.pass_fds, stderr=subprocess.PIPE, text=True)
        theirs.close()
        place = WirePlace(ours)
        assert place.names("/") == ["people.csv"]
        assert place.read("/people.csv") == b'name,born\r\nAda,1815\r\n"Grace, Admiral",1906\r\n'
        refused(errno.ENOENT, place.lstat, "/other.csv")
        refused(errno.EROFS, place.open, "/people.csv", os.O_WRONLY)
        place.close()
    assert process.communicate(timeout=10)[1] == ""
    assert process.returncode == 0


def test_the_module(tmp_path: Path) -> None:
    (tmp_path / "box.py").write_text(MODULE)
    box = from_file(str(tmp_path / "box.py")).Box
    with asking(box(name="ada")) as asked:
        address = asked.memory.room(65 * 6)
        assert asked.call("uname", address) == 0
        assert asked.memory.read_string(address + 65, 65) == b"ada"
        refused(errno.EFAULT, asked.call, "uname", 8)
    assert in_view(box(name="ada"), ["uname", "-n"]).stdout == "ada\n"


def test_every_module_and_boundary_is_on_the_page() -> None:
    for name in (*modules(), "Calls", "Paths", "Ioctls", "Families", "Types"):
        assert f"`{name}" in PAGE, name
    for name in ("open", "stat", "readlink", "execve", "utimens"):
        assert name in OPERATIONS


def test_every_method_is_on_the_page() -> None:
    for kind in (Filesystem, File, Module, Call):
        for name, value in vars(kind).items():
            if callable(value) and not name.startswith("_") and name not in ("answers", "Options"):
                assert f"`{name}" in PAGE, f"{kind.__name__}.{name}"


def test_every_type_is_on_the_page() -> None:
    for name, found in filesystems().items():
        assert isinstance(found, FileSystemType), f"{name}: {found}"
        assert f"`{name}`" in PAGE


def test_what_is_public_is_documented() -> None:
    for name in api.__all__:
        value = getattr(api, name)
        if isinstance(value, type):
            assert value.__doc__, name
            for method, function in vars(value).items():
                if callable(function) and not method.startswith("_") and not isinstance(function, type):
                    assert function.__doc__ or value.__mro__[1] is not object, f"{name}.{method}"
                    assert "return" in getattr(function, "__annotations__", {"return": 0}), f"{name}.{method}"
        elif callable(value):
            assert value.__doc__, name


def test_importing_the_surface_imports_no_server() -> None:
    code = "import sys, vuosd.api; print([m for m in ('trio', 'pyfuse3', 'asyncio') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
