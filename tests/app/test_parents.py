"""Directories that exist only because an entry lies below them behave as directories."""

import os

import pytest
from harness.box import Box

LOOK = r"""
import os, stat, sys
top = sys.argv[1]
errors = []
def told(call, *arguments):
    try:
        call(*arguments)
        return "done"
    except OSError as error:
        return os.strerror(error.errno)
for path, names in (("a", ["b"]), ("a/b", ["c", "d"]), ("a/b/c", ["file"])):
    path = f"{top}/{path}"
    st = os.stat(path)
    assert stat.S_ISDIR(st.st_mode), path
    assert stat.S_IMODE(st.st_mode) == 0o755, (path, oct(st.st_mode))
    assert sorted(os.listdir(path)) == names, (path, os.listdir(path))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    assert os.fstat(fd).st_ino == st.st_ino, path
    os.fchdir(fd)
    assert names == ["file"] or os.getcwd() == path, (os.getcwd(), path)  # that has another name, outside
    os.chdir("/")
    os.chdir(path)
    assert os.getcwd() == path
    assert sorted(os.listdir(fd)) == names
    assert os.path.realpath(path) == path
    above = {entry.name: entry for entry in os.scandir(os.path.dirname(path))}
    assert above[os.path.basename(path)].is_dir(), path
    assert above[os.path.basename(path)].inode() == st.st_ino, path
    os.chdir("..")
    assert os.getcwd() == os.path.dirname(path)
assert open(f"{top}/a/b/c/file").read() == "shown"
assert os.listdir(f"{top}/a/b/d/e") == []
os.chdir(f"{top}/a/b/c")
assert open("../../b/c/file").read() == "shown"
print(told(os.mkdir, f"{top}/a/new"), told(os.mkdir, f"{top}/a"), told(os.rmdir, f"{top}/a/b"))
print(told(os.stat, f"{top}/a/x"), told(os.rename, f"{top}/a", f"{top}/z"))
open(f"{top}/t/m/made", "w").close()
print(sorted(os.listdir(f"{top}/t")), sorted(os.listdir(f"{top}/t/m")), os.listdir(f"{top}/t/m/n"))
"""


def profile(box: Box, head: str) -> str:
    source = box.file("source/file", "shown").parent
    top = box.directory("top")
    return f"""
{head}
[[mount]]
type = "bind"
source = "{source}"
target = ["{top}/a/b/c", "{top}/t/m/n"]
[[mount]]
type = "tmpfs"
target = ["{top}/a/b/d/e", "{top}/t"]
[[mount]]
type = "bind"
source = "{source}"
target = "{top}/t/m/n"
"""


@pytest.mark.kernel
@pytest.mark.parametrize("head", ["", "[view]\nenforce = true"], ids=["plain", "enforce"])
def test_they_are_directories(box: Box, head: str) -> None:
    text = profile(box, head)
    result = box.view([box.installation.python, "-c", LOOK, box.scratch / "top"], text).check()
    assert result.stdout.splitlines() == [
        "Read-only file system File exists Device or resource busy",
        "No such file or directory Device or resource busy",
        "['m'] ['made', 'n'] ['file']",
    ]
    assert os.listdir(box.scratch / "top") == []  # nothing of it is made on the host


@pytest.mark.kernel
def test_below_what_is_hidden(box: Box) -> None:
    """What a later entry shows there is there, and what leads to it; nothing else."""
    source = box.file("source/file", "shown").parent
    hidden = box.file("hidden/secret", "x").parent
    text = f"""
[[mount]]
type = "hide"
target = "{hidden}"
[[mount]]
type = "bind"
source = "{source}"
target = "{hidden}/a/b"
"""
    script = f"cd {hidden}/a/b && pwd && cat file && ls {hidden} {hidden}/a; cat {hidden}/secret"
    result = box.view(["/bin/sh", "-c", script], text)
    assert result.stdout == f"{hidden}/a/b\nshown{hidden}:\na\n\n{hidden}/a:\nb\n"
    assert "No such file or directory" in result.stderr


@pytest.mark.kernel
def test_they_are_in_the_root(box: Box) -> None:
    """Natively "/" may not be written to."""
    name = f"/vuosd-test-{os.getpid()}"
    source = box.file("source/file", "shown").parent
    text = f'[[mount]]\ntype = "bind"\nsource = "{source}"\ntarget = "{name}/x/y"\n'
    script = f"cd {name} && pwd && ls && cd x/y && cat file && ls -d {name}; ls / | grep -c {name[1:]}"
    assert box.view(["/bin/sh", "-c", script], text).check().stdout == f"{name}\nx\nshown{name}\n1\n"
