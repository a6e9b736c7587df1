"""From what a person calls a module to its class.

SPEC is the name of an entry point of the group `vuosd.modules`, NAME for NAME.py in the user's plugin
directory, the path of a .py file, `file.py:Class` or `module:Class`. The class may be left out where there is
only one.
"""

import errno
import importlib
import os
from importlib.metadata import entry_points
from types import ModuleType

from vuosd.api import Module, registry
from vuosd.api.source import described, from_file

_Class = type[Module]


class ModuleProblem(Exception):
    """Why a module cannot be loaded: a sentence, and the errno for who asks."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.errno = number


def find_class(spec: str) -> _Class:
    """ModuleProblem."""
    place, _, name = spec.partition(":")
    try:
        for point in entry_points(group=registry.MODULES, name=spec):
            return _checked(point.load(), spec)
        if (own := os.path.join(registry.plugin_directory(), f"{spec}.py")) and os.path.isfile(own):
            place = own
        elif not name and "/" not in place and not place.endswith(".py"):
            raise ModuleProblem(errno.ENOENT, str(registry.unknown_module(spec)))
        if "/" in place or place.endswith(".py"):
            if not os.path.isfile(place):
                raise ModuleProblem(errno.ENOENT, f"no such file: {place}")
            found = from_file(place)
        else:
            found = importlib.import_module(place)
    except ModuleProblem:
        raise
    except ImportError as error:
        raise ModuleProblem(errno.ENODEV, registry.missing("module", spec, error)) from error
    except (Exception, SystemExit) as error:
        raise ModuleProblem(errno.ENOEXEC, f"{spec} cannot be loaded: {described(error)}") from error
    if not name:
        return _only(found, spec)
    if not hasattr(found, name):
        there = ", ".join(one.__name__ for one in _classes(found)) or "no module"
        raise ModuleProblem(errno.ENOENT, f"{spec}: there is no {name} in {place}; it has {there}")
    return _checked(getattr(found, name), spec)


def _classes(module: ModuleType) -> list[_Class]:
    classes = (value for value in vars(module).values() if isinstance(value, type))
    return [one for one in classes if issubclass(one, Module) and one.__module__ == module.__name__]


def _only(module: ModuleType, spec: str) -> _Class:
    classes = _classes(module)
    if len(classes) == 1:
        return classes[0]
    if not classes:
        raise ModuleProblem(errno.ENOEXEC, f"{spec} defines no subclass of vuosd.api.Module")
    names = ", ".join(one.__name__ for one in classes)
    raise ModuleProblem(errno.EINVAL, f"{spec} defines {names}; say which, as {spec}:{classes[0].__name__}")


def _checked(found: object, spec: str) -> _Class:
    if isinstance(found, type) and issubclass(found, Module):
        return found
    raise ModuleProblem(errno.ENOEXEC, f"{spec} is {found!r}, no subclass of vuosd.api.Module")
