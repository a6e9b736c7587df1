"""python: any class, named by the source: `vumount -t python my.module:Hello /hello`. What the class itself
is to mount, if anything, is the option `source`."""

from collections.abc import Mapping

from vuosd.api import FileSystemType, PythonType, Server, TypeProblem
from vuosd.api.options import Value, join, split


class AnyPython(FileSystemType):
    """The class is the source's, not the type's."""

    name = "python"
    summary = "module:Class, or a .py file: a Filesystem or a pyfuse3.Operations"

    def command(self, source: str, target: str, options: Mapping[str, Value] | str = "") -> Server:
        if not source:
            raise TypeProblem("type python: name module:Class, or a .py file, as the source")
        words = split(options if isinstance(options, str) else join(options))
        inner = next((value or "" for name, value in words if name == "source"), "")
        rest = join({name: True if value is None else value for name, value in words if name != "source"})
        return PythonType(source, source).command(inner, target, rest)


python = AnyPython()
