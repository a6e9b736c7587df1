"""A profile on this machine: its view, with the files, links and sources that are there looked up."""

import os
from collections.abc import Collection, Mapping
from errno import EINVAL

from vuosd.views import (
    Kind,
    ProfileErrors,
    View,
    available,
    load,
    misplaced_stores,
    missing_sources,
    resolved,
)


def read_file(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def readlink(path: bytes) -> bytes | None:
    try:
        return os.readlink(path)
    except OSError as error:
        return b"" if error.errno == EINVAL else None


def _types() -> Collection[str]:
    from vuosd.api import registry  # most profiles need none

    return registry.names()


def view_of(profile: bytes, env: Mapping[str, str], cwd: bytes) -> View:
    """The view of a profile on this machine, complete but for the command; ProfileErrors with all that is
    wrong.
    """
    given = load(profile, env=env, cwd=cwd, read=read_file, types=_types)
    view = available(resolved(given, readlink), os.path.lexists)
    errors = missing_sources(view, os.path.lexists) + misplaced_stores(view, os.path.realpath)
    if any(entry.kind is Kind.FILESYSTEM for entry in view.entries):
        from vuosd.supervisor.mounting.profile import problems

        errors += problems(view, env)
    if errors:
        raise ProfileErrors(errors)
    return view
