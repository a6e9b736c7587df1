"""A profile on this machine: its view, with the files, links and sources that are there looked up."""

from collections.abc import Collection, Mapping

from vuosd.supervisor.eyes import Eyes, Machine
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


def _types() -> Collection[str]:
    from vuosd.api import registry  # most profiles need none

    return registry.names()


def view_of(profile: bytes, env: Mapping[str, str], cwd: bytes, eyes: Eyes | None = None) -> View:
    """The view of a profile on this machine, or as `eyes` see that, complete but for the command;
    ProfileErrors with all that is wrong.
    """
    by = eyes or Machine()
    given = load(profile, env=env, cwd=cwd, read=by.read, types=_types)
    view = available(resolved(given, by.readlink), by.lexists)
    errors = missing_sources(view, by.lexists) + misplaced_stores(view, by.realpath)
    if eyes is None and any(entry.kind is Kind.FILESYSTEM for entry in view.entries):
        from vuosd.supervisor.mounting.profile import problems

        errors += problems(view, env)
    if errors:
        raise ProfileErrors(errors)
    return view
