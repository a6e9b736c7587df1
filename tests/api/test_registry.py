"""Finding types: entry points, VUOS's names, the user's files, module:Class, paths; and what is said of the
rest."""

import importlib.util
import re
from pathlib import Path

import pytest

from vuosd.api import OptionError, ProgramType, PythonType, TypeProblem, filesystems, find, registry
from vuosd.api.registry import ALIASES


def test_all_types_can_be_loaded() -> None:
    found = filesystems()
    assert {"memory", "archive", "fsspec", "ext4", "python"} <= found.keys()
    assert all(not isinstance(kind, TypeProblem) for kind in found.values())
    for name, aliases in ALIASES.items():
        assert all(find(alias).name == name for alias in aliases)


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    plugins = tmp_path / "vuosd/plugins"
    plugins.mkdir(parents=True)
    for name in ("mine.py", "test_mine.py", "_hidden.py", "notes.txt"):
        (plugins / name).write_text("")
    assert "mine" in filesystems()
    assert not {"test_mine", "_hidden", "notes"} & filesystems().keys()
    for name, spec in (
        ("mine", str(plugins / "mine.py")),
        (str(plugins / "mine.py"), str(plugins / "mine.py")),
        ("some.module:Class", "some.module:Class"),
    ):
        kind = find(name)
        assert isinstance(kind, PythonType)
        assert kind.spec == spec


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ext5", 'no file system type "ext5"; did you mean "ext'),
        ("vufuseext3", 'no file system type "vufuseext3"; did you mean "vufuseext2"?'),
        ("qqqq", 'no file system type "qqqq"; there are archive, bindfs'),
        ("/no/such.py", "no such file: /no/such.py"),
    ],
)
def test_unknown(name: str, said: str) -> None:
    with pytest.raises(TypeProblem) as caught:
        find(name)
    assert str(caught.value).startswith(said)


def test_python_type() -> None:
    server = find("python").command("my.module:Hello", "/dev/fd/7", "greeting=hi,source=/a,ro")
    assert server.pass_fds == (7,)
    assert server.argv[4:] == ("my.module:Hello", "--fd", "7", "--source", "/a", "-o", "greeting=hi,ro")
    assert server.readonly
    assert server.kernel == ("default_permissions", "allow_other")
    with pytest.raises(TypeProblem, match="name module:Class"):
        find("python").command("", "/dev/fd/7")
    with pytest.raises(TypeProblem, match="takes a descriptor"):
        find("memory").command("", "/mnt")


def test_deadline() -> None:
    server = find("memory").command("", "/dev/fd/7", r"size=1M,name=a\,b,deadline=2.5,name=c,ro")
    assert server.argv[-4:] == ("-o", r"size=1M,name=a\,b,name=c,ro", "--deadline", "2.5")
    for wrong in ("deadline=soon", "deadline", "deadline=-1"):
        with pytest.raises(OptionError, match=r"memory: deadline=.*: a number of seconds"):
            find("memory").command("", "/dev/fd/7", wrong)


def test_without_pyfuse3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        TypeProblem, match=r"type memory needs the package pyfuse3: pip install 'vuosd\[fuse\]'"
    ):
        find("memory").command("", "/dev/fd/7")


def test_which_libfuse(tmp_path: Path) -> None:
    for library, needs in ((b"libfuse.so.2", True), (b"libfuse3.so.3", False), (b"libfuse3.so.4", False)):
        program = tmp_path / "program"
        program.write_bytes(b"\x7fELF\0" + library + b"\0libc.so.6\0")
        kind = ProgramType("x", str(program), "package", lambda source, target, options: [])
        program.chmod(0o755)
        assert kind.needs_mount is needs


def test_what_is_missing_is_named() -> None:
    for kind, spec, package, said in (
        (
            "type",
            "archive",
            "ratarmountcore.mountsource",
            r"type archive needs the package ratarmountcore: pip install 'vuosd\[archive\]'",
        ),
        ("type", "x.py", "fsspec", r"type x.py needs the package fsspec: pip install 'vuosd\[fsspec\]'"),
        ("module", "m", "pyfuse3", r"module m needs the package pyfuse3: pip install 'vuosd\[fuse\]'"),
        ("module", "m", "nothing_such", "module m needs the package nothing_such, which is not installed"),
        ("module", "mine.sub:Class", "mine", "mine.sub:Class cannot be loaded: No module named 'mine'"),
    ):
        top = package.partition(".")[0]
        error = ModuleNotFoundError(f"No module named '{top}'", name=package)
        assert re.fullmatch(said, registry.missing(kind, spec, error))


def test_what_is_unknown_is_answered_for_every_name() -> None:
    """With the nearest, whatever is misspelt; with all, where nothing is near."""
    for name in [*registry.names(), "unreal"]:
        if len(name) > 3:
            wrong = name[:-1] + ("x" if name[-1] != "x" else "y")
            said = str(registry.unknown(wrong))
            assert re.search(f'no file system type "{wrong}"; did you mean "[a-z0-9-]+"', said), said
    said = str(registry.unknown("qqqqqq"))
    assert all(name in said for name in ("archive", "ext4", "unreal", "module:Class", "fuse.PROGRAM"))
    for name in (*registry.modules(), *registry.BUILT_IN):
        assert "did you mean" in str(registry.unknown_module(f"{name}e"))
    assert all(name in str(registry.unknown_module("qqqqqq")) for name in ("fuse", "unreal", "nodename"))


def _of(kind: type) -> list[str]:
    return [name for name, found in filesystems().items() if isinstance(found, kind)]


@pytest.mark.parametrize("name", _of(PythonType))
def test_an_option_that_there_is_not(name: str) -> None:
    """Of each type that is a class: the nearest is named, or all are."""
    kind = find(name)
    for text, said in (("ruo", r'did you mean "(ro|rw)"\?'), ("qqqqqq=1", "it has .*ro")):
        with pytest.raises((OptionError, TypeProblem), match=said):
            kind.check("", text)


@pytest.mark.parametrize("name", _of(ProgramType))
def test_an_option_that_a_program_has_not(name: str) -> None:
    kind = find(name)
    for text, said in (("ruo", 'did you mean "(ro|rw)"'), ("qqqqqq=1", "it has .*ro")):
        with pytest.raises(OptionError, match=said):
            kind.command("/", "/dev/fd/3", text)
