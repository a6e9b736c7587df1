"""From what a mount names to the object that is served: a Filesystem or a pyfuse3.Operations.

SPEC is the name of a type in Python, `module:Class`, the path of a .py file, or `file.py:Class`. The class
may be left out when there is only one."""

import importlib
import inspect
import os
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

import pyfuse3

from vuosd.api import Filesystem, MountOptions, OptionError, TypeProblem
from vuosd.api.options import split, unknown
from vuosd.api.registry import GROUP, missing
from vuosd.api.source import described, from_file

Servable = Filesystem | pyfuse3.Operations


def load(spec: str, source: str, options: str) -> Servable:
    """An instance of what SPEC names. TypeProblem, OptionError: a sentence for the person who mounts."""
    made = find_class(spec)
    try:
        if issubclass(made, Filesystem):
            return made(source, options)
        return _operations(made, source, options)
    except (OptionError, TypeProblem):
        raise
    except ImportError as error:
        raise TypeProblem(missing("type", spec, error)) from error
    except OSError as error:
        raise TypeProblem(f"{spec}: {error}") from error
    except Exception as error:
        raise TypeProblem(f"{spec}: {made.__name__} cannot be made: {described(error)}") from error


def find_class(spec: str) -> type[Servable]:
    """The class. TypeProblem."""
    place, _, name = spec.partition(":")
    try:
        for point in entry_points(group=GROUP, name=spec):
            return _servable(point.load(), spec)
        module = _file(place) if "/" in place else importlib.import_module(place)
    except TypeProblem:
        raise
    except ImportError as error:
        raise TypeProblem(missing("type", spec, error)) from error
    except Exception as error:
        raise TypeProblem(f"{spec} cannot be loaded: {described(error)}") from error
    if not name:
        return _only(module, spec)
    try:
        return _servable(getattr(module, name), spec)
    except AttributeError:
        there = ", ".join(one.__name__ for one in _classes(module))
        raise TypeProblem(
            f"{spec}: there is no {name} in {place}; it has {there or 'no file system'}"
        ) from None


def _file(path: str) -> ModuleType:
    if not os.path.isfile(path):
        raise TypeProblem(f"no such file: {path}")
    return from_file(path)


def _classes(module: ModuleType) -> list[type[Servable]]:
    """The file systems that a module defines itself."""
    classes = (value for value in vars(module).values() if isinstance(value, type))
    return [one for one in classes if issubclass(one, Servable) and one.__module__ == module.__name__]


def _only(module: ModuleType, spec: str) -> type[Servable]:
    classes = _classes(module)
    if len(classes) == 1:
        return classes[0]
    if not classes:
        raise TypeProblem(f"{spec} defines no subclass of vuosd.api.Filesystem or pyfuse3.Operations")
    names = ", ".join(one.__name__ for one in classes)
    raise TypeProblem(f"{spec} defines {names}; say which, as {spec}:{classes[0].__name__}")


def _servable(found: object, spec: str) -> type[Servable]:
    if isinstance(found, type) and issubclass(found, Servable):
        return found
    raise TypeProblem(f"{spec} is {found!r}, no subclass of vuosd.api.Filesystem or pyfuse3.Operations")


def _operations(made: Any, source: str, options: str) -> pyfuse3.Operations:
    """Its first parameter, if it has one, gets the source; options are keyword arguments."""
    given = dict(split(options))
    for common in MountOptions.__struct_fields__:
        given.pop(common, None)  # the kernel sees to a read-only mount
    given.pop("rw", None)
    parameters = list(inspect.signature(made).parameters.values())
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    takes_source = bool(positional) and (positional[0].default is inspect.Parameter.empty or bool(source))
    names = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    known = names[1:] if takes_source else names
    for word in given:
        if word not in known:
            raise unknown(word, known, made.__name__)
    keywords = {name: True if value is None else value for name, value in given.items()}
    operations = made(source, **keywords) if takes_source else made(**keywords)
    assert isinstance(operations, pyfuse3.Operations)
    return operations
