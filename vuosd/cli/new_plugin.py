"""`vuctl new-plugin NAME`: a file system, or with --kind=module a module, in Python that works, to be changed
into what one wants, and its test."""

import argparse
import os
import re
import shlex

from vuosd.cli.output import fail, print_text

_NAME = re.compile(r"[a-z][a-z0-9_]*")

_PLUGIN = '''\
"""{name}: a file system. See docs/plugins.md of vuosd; `pydoc vuosd.api.Filesystem` tells what each method
returns."""

import errno
import os

from vuosd.api import Filesystem, MemFile, MountOptions, Stat


class {title}(Filesystem):
    """Greetings, a file for each name."""

    class Options(MountOptions):
        """names: whom to greet, as in -o names=ada,names=grace. greeting: how."""

        names: list[str] = []
        greeting: str = "hello"

    def start(self) -> None:
        # Before the first request: open what self.source names. ValueError tells who mounts what is wrong.
        self.files = {{}}
        for name in self.options.names or ["world"]:
            self.files[b"/" + name.encode()] = f"{{self.options.greeting}}, {{name}}\\n".encode()

    def lstat(self, path: bytes) -> Stat:
        if path == b"/":
            return Stat.directory()
        return Stat.file(size=len(self._contents(path)))

    def listdir(self, path: bytes) -> list[bytes]:
        return [name[1:] for name in self.files]

    def open(self, path: bytes, flags: int, mode: int) -> MemFile:
        return MemFile(self._contents(path))

    def _contents(self, path: bytes) -> bytes:
        if path not in self.files:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self.files[path]
'''

_TEST = '''\
"""pytest test_{name}.py"""

from {name} import {title}

from vuosd.testing import FilesystemConformance, serving


class Test{title}(FilesystemConformance):
    """What every file system must do."""

    filesystem = {title}(names=["ada", "grace"])


def test_greetings() -> None:
    with serving({title}(names=["ada"], greeting="good morning")) as served:
        assert served.place.names("/") == ["ada"]
        assert served.place.read("/ada") == b"good morning, ada\\n"
        assert served.log() == ""
'''


_MODULE = '''\
"""{name}: a module. See docs/plugins.md of vuosd; `pydoc vuosd.api.Module` tells what methods return."""

import os
import struct

from vuosd.api import Call, Calls, Module, ModuleOptions


class {title}(Module):
    """uname(2) tells another name of the machine."""

    class Options(ModuleOptions):
        """name: what uname(2) tells, as in -o name=ada."""

        name: str = "{name}"

    # Which calls it answers, each by the method of its name: also Paths, Ioctls, Families and Types.
    boundaries = (Calls(("uname",)),)

    def start(self) -> None:
        # Before the first call. ValueError tells who loads it what is wrong.
        if not 0 < len(self.options.name.encode()) < 65:
            raise ValueError("a name has 1 to 64 bytes")

    def uname(self, call: Call) -> int:
        fields = [*map(os.fsencode, os.uname()), b""]
        fields[1] = self.options.name.encode()
        call.write(call.args[0], struct.pack("65s" * 6, *fields))  # EFAULT is the caller's
        return 0
'''

_MODULE_TEST = '''\
"""pytest test_{name}.py"""

import errno

import pytest
from {name} import {title}

from vuosd.testing import ModuleConformance, asking, in_view


class Test{title}(ModuleConformance):
    """What every module must do."""

    module = {title}()


def test_uname() -> None:
    with asking({title}(name="ada")) as asked:
        address = asked.memory.room(65 * 6)
        assert asked.call("uname", address) == 0
        assert asked.memory.read_string(address + 65, 65) == b"ada"
        with pytest.raises(OSError) as caught:
            asked.call("uname", 8)
        assert caught.value.errno == errno.EFAULT


def test_a_program() -> None:
    assert in_view({title}(name="ada"), ["uname", "-n"]).stdout == "ada\\n"
'''


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="its name: vumount -t NAME …, vu_insmod NAME")
    parser.add_argument(
        "--kind", choices=("filesystem", "module"), default="filesystem", help="default: filesystem"
    )
    parser.add_argument(
        "--directory",
        metavar="DIR",
        help="where to write NAME.py and test_NAME.py; else where views look for types",
    )


def run(arguments: argparse.Namespace) -> int:
    from vuosd.api.registry import plugin_directory

    name: str = arguments.name
    if not _NAME.fullmatch(name) or name.startswith("test_"):
        better = re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_0123456789")
        hint = f'; "{better}" would do' if _NAME.fullmatch(better) else ""
        return fail(
            f'"{name}" cannot be a plugin\'s name: lower-case letters, digits and _, a letter first{hint}'
        )
    directory = arguments.directory or plugin_directory()
    words = {"name": name, "title": "".join(part.capitalize() for part in name.split("_") if part)}
    plugin, test = (_MODULE, _MODULE_TEST) if arguments.kind == "module" else (_PLUGIN, _TEST)
    files = {f"{name}.py": plugin.format(**words), f"test_{name}.py": test.format(**words)}
    try:
        os.makedirs(directory, exist_ok=True)
        for file in files:
            if os.path.lexists(os.path.join(directory, file)):
                return fail(f"{os.path.join(directory, file)} is there already")
        for file, text in files.items():
            with open(os.path.join(directory, file), "x", encoding="utf-8") as written:
                written.write(text)
    except OSError as error:
        return fail(error)
    plugin = os.path.join(directory, f"{name}.py")
    print_text(f"{plugin} and its test are written. Next:")
    print_text(f"    pytest {shlex.quote(os.path.join(directory, f'test_{name}.py'))}")
    kind = name if directory == plugin_directory() else shlex.quote(os.path.abspath(plugin))
    if arguments.kind == "module":
        print_text("    [[module]]                       # in a profile")
        print_text(f'    name = "{kind}"')
    else:
        print_text(f"    vumount -t {kind} none /mnt      # in a view")
    return 0
