"""`vuctl new-plugin NAME`: a file system in Python that works, to be changed into what one wants, and its
test."""

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


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the type's name: vumount -t NAME …")
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
            f'"{name}" cannot be a type\'s name: lower-case letters, digits and _, a letter first{hint}'
        )
    directory = arguments.directory or plugin_directory()
    words = {"name": name, "title": "".join(part.capitalize() for part in name.split("_") if part)}
    files = {f"{name}.py": _PLUGIN.format(**words), f"test_{name}.py": _TEST.format(**words)}
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
    print_text(f"    vumount -t {kind} none /mnt      # in a view")
    return 0
