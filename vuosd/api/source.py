"""Plugins that are files: imported as they are now. And what is said of their mistakes."""

import importlib.util
import os
import sys
import traceback
from importlib.machinery import SourceFileLoader
from types import CodeType, ModuleType

_HERE = os.path.dirname(os.path.dirname(__file__))


class _Fresh(SourceFileLoader):
    """No cache of byte code: that goes by the size and the second of the last change, and who changes a
    plugin and tries it again may be quicker. And no __pycache__ in the user's directory."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def from_file(path: str) -> ModuleType:
    """The Python module that a file is. Whatever it raises."""
    name = os.path.basename(path).partition(".")[0]
    spec = importlib.util.spec_from_file_location(name, path, loader=_Fresh(name, path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its classes are looked for there, by msgspec for one
    _Fresh(name, path).exec_module(module)
    return module


def described(error: BaseException) -> str:
    """One line: the exception, and where in the plugin it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [
        frame
        for frame in frames
        if not frame.filename.startswith(
            (
                os.path.join(_HERE, "fuse"),
                os.path.join(_HERE, "modules"),
                os.path.join(_HERE, "api"),
                "<frozen",
            )
        )
    ]
    text = " ".join("".join(traceback.format_exception_only(error)[-1:]).split())
    if not theirs:
        return text
    last = theirs[-1]
    return f"{text} ({os.path.basename(last.filename)}:{last.lineno} in {last.name})"
