"""A profile on this machine: its view, with the files, links and sources that are there looked up."""

import os
from collections.abc import Mapping
from errno import EINVAL

from vuosd.views import ProfileErrors, View, available, load, misplaced_stores, missing_sources, resolved


def read_file(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def readlink(path: bytes) -> bytes | None:
    try:
        return os.readlink(path)
    except OSError as error:
        return b"" if error.errno == EINVAL else None


def view_of(profile: bytes, env: Mapping[str, str], cwd: bytes) -> View:
    """The view of a profile on this machine, complete but for the command; ProfileErrors with all that is
    wrong.
    """
    view = available(resolved(load(profile, env=env, cwd=cwd, read=read_file), readlink), os.path.lexists)
    errors = missing_sources(view, os.path.lexists) + misplaced_stores(view, os.path.realpath)
    if errors:
        raise ProfileErrors(errors)
    return view
