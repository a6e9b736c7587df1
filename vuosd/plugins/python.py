"""python: any class, named by the source: `vumount -t python my.module:Hello /hello`. What the class itself
is to mount, if anything, is the option `source`."""

from collections.abc import Mapping

from msgspec.structs import replace

from vuosd.api import FileSystemType, Needs, PythonType, Server, TypeProblem
from vuosd.api.options import Value, join, take
from vuosd.api.types import unknown_needs


class AnyPython(FileSystemType):
    """The class is the source's, not the type's."""

    name = "python"
    summary = "module:Class, or a .py file: a Filesystem or a pyfuse3.Operations"

    def check(self, source: str, options: str) -> None:
        inner, rest = take(options, "source")
        PythonType(source, source).check(inner or "", rest)

    def needs(self, source: str, options: str) -> Needs:
        """Those of any class. Its own source is an option."""
        inner = take(options, "source")[0] or ""
        return replace(unknown_needs(inner), sources=(inner,) if inner.startswith("/") else ())

    def command(self, source: str, target: str, options: Mapping[str, Value] | str = "") -> Server:
        if not source:
            raise TypeProblem("type python: name module:Class, or a .py file, as the source")
        inner, rest = take(options if isinstance(options, str) else join(options), "source")
        return PythonType(source, source).command(inner or "", target, rest)


python = AnyPython()
