"""`vuctl reload`: a plugin in development is changed while views run."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import places
from harness.box import Box, Result

pytestmark = [pytest.mark.app, pytest.mark.places(places.FUSE)]

FILES = """
from vuosd.api import Filesystem, MemFile, Stat

class Files(Filesystem):
    def lstat(self, path):
        return Stat.directory() if path == b"/" else Stat.file(size={size})

    def listdir(self, path):
        return [b"{name}"]

    def open(self, path, flags, mode):
        return MemFile(b"{text}")
"""
MODULE = '''
import trio
from vuosd.api import Calls, Module

class Answers(Module):
    """{text}"""

    boundaries = (Calls({calls}),)

    async def getpgid(self, call):
        await trio.sleep({sleep})
        return {answer}

    def uname(self, call):
        raise OSError(1, "")
'''


def files(name: str, text: str) -> str:
    return FILES.format(name=name, text=text, size=len(text))


def module(answer: int, sleep: float = 0, text: str = "Answers", calls: str = '("getpgid",)') -> str:
    return MODULE.format(answer=answer, sleep=sleep, text=text, calls=calls)


def plugin(box: Box, name: str, code: str) -> Path:
    return box.file(f"home/.local/share/vuosd/plugins/{name}.py", code)


class View:
    """A shell in a view, which does what it is told."""

    def __init__(self, box: Box, process: "subprocess.Popen[bytes]") -> None:
        self.box, self.process = box, process

    def do(self, script: str) -> list[str]:
        """The lines that it prints."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{script}\necho --\n".encode())
        self.process.stdin.flush()
        said = []
        while (line := self.process.stdout.readline().decode()) != "--\n":
            assert line, said
            said.append(line.rstrip("\n"))
        return said

    def vuctl(self, *words: str) -> Result:
        return self.box.native([self.box.installation.bin / "vuctl", *words], timeout=60)


@contextmanager
def view(box: Box, profile: str) -> Iterator[View]:
    process = box.popen_view(
        ["sh"], profile, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    yield View(box, process)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(20) == 0


def test_file_systems(box: Box) -> None:
    name = f"files{box.identity.uid}"
    plugin(box, name, files("one", "first"))
    one, two = box.directory("one"), box.directory("two")
    mounts = "".join(f'[[mount]]\ntype = "{name}"\ntarget = "{place}"\n' for place in (one, two))
    with view(box, mounts) as shell:
        assert shell.do(f"ls {one}; cat {two}/one; echo") == ["one", "first"]
        plugin(box, name, files("two", "other"))  # of the same length, in the same second
        assert shell.do(f"ls {one}") == ["one"]
        said = shell.vuctl("reload", name).check().stdout
        assert said == f"{one} is mounted anew\n{two} is mounted anew\n"
        assert shell.do(f"ls {one}; cat {two}/two; echo") == ["two", "other"]
        # In use: nothing changes.
        plugin(box, name, files("three", "third"))
        shell.do(f"exec 3<{two}/two")
        busy = shell.vuctl("reload", name)
        assert busy.returncode == 1
        assert busy.stderr.startswith(f"vuctl: {two} is in use: sh (")
        assert shell.do(f"ls {one} {two}; cat <&3; echo") == [f"{one}:", "two", "", f"{two}:", "two", "other"]
        shell.do("exec 3<&-")
        # What is wrong with the code is said, and nothing changes.
        plugin(box, name, "1 / 0\n")
        wrong = shell.vuctl("reload", name)
        assert wrong.returncode == 1
        assert "cannot be loaded: ZeroDivisionError: division by zero" in wrong.stderr
        assert shell.do(f"ls {one}") == ["two"]
        plugin(box, name, files("four", "fourth"))
        shell.vuctl("reload", name, *shell.do("echo $$")).check()
        assert shell.do(f"cat {one}/four; echo") == ["fourth"]
        assert shell.do(f"vuumount {one}; ls {one}; grep -c {name} /proc/self/mounts")[-1] == "1"


def test_modules(box: Box) -> None:
    name = f"answers{box.identity.uid}"
    plugin(box, name, module(1))
    asked = "/usr/bin/python3 -c 'import os; print(os.getpgid(0))'"
    with view(box, f'[[module]]\nname = "{name}"\n') as shell:
        assert shell.do(asked) == ["1"]
        plugin(box, name, module(2, 1.0))
        assert shell.vuctl("reload", name).check().stdout == f"module {name} is reloaded\n"
        assert shell.do(f"vu_lsmod; {asked}") == [f"{name}: Answers", "2"]
        # Swapped between two calls: who asked the old code is answered by it.
        plugin(box, name, module(3))
        shell.do(f"{asked} >{box.scratch}/tmp/old & sleep 0.5")
        shell.vuctl("reload", name).check()
        assert shell.do(f"{asked}; wait; cat {box.scratch}/tmp/old") == ["3", "2"]
        # What it did not answer when the view began is not trapped.
        plugin(box, name, module(4, calls='("getpgid", "uname")'))
        wrong = shell.vuctl("reload", name)
        assert (wrong.returncode, wrong.stdout) == (1, "")
        assert "this view does not trap uname(2)" in wrong.stderr
        plugin(box, name, "class\n")
        assert "SyntaxError" in shell.vuctl("reload", name).stderr
        assert shell.do(asked) == ["3"]


def test_a_dead_module_lives_again(box: Box) -> None:
    name = f"answers{box.identity.uid}"
    plugin(box, name, module(1).replace("await trio.sleep(0)", "__import__('os')._exit(1)"))
    asked = "/usr/bin/python3 -c 'import os; print(os.getpgid(0))' 2>&1 | tail -n 1"
    with view(box, f'[[module]]\nname = "{name}"\n') as shell:
        assert shell.do(f"{asked}; {asked}") == ["OSError: [Errno 5] Input/output error"] * 2
        plugin(box, name, module(7))
        shell.vuctl("reload", name).check()
        assert shell.do(f"{asked}; vu_lsmod") == ["7", f"{name}: Answers"]


def test_what_there_is_not(box: Box) -> None:
    image, mnt = box.scratch / "image", box.directory("mnt")
    subprocess.run(["truncate", "-s", "4M", image], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext2", image], check=True, capture_output=True)
    os.chown(image, box.identity.uid, box.identity.gid)
    with view(box, f'[[mount]]\ntype = "ext2"\nsource = "{image}"\ntarget = "{mnt}"\n') as shell:
        (pid,) = shell.do("echo $$")
        none = shell.vuctl("reload", "nothing", pid)
        assert none.stderr == f"vuctl: view {pid} has no module nothing, or file system of that type\n"
        program = shell.vuctl("reload", "ext2", pid)
        assert program.returncode == 1
        assert "type ext2 is a program, whose code is not a plugin's" in program.stderr
        assert "lost+found" in shell.do(f"ls {mnt}")
