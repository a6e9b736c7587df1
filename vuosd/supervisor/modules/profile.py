"""The modules of a profile: their processes start before the session does, because what they answer must be
in its filter.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vuosd.supervisor.filter import Trap
from vuosd.supervisor.modules import boundaries
from vuosd.supervisor.modules.errors import ModuleError
from vuosd.supervisor.modules.process import Process
from vuosd.views import ModuleEntry, ProfileError, ProfileErrors, View
from vuosd.views.document import error_at
from vuosd.views.errors import quote
from vuosd.views.model import Source


class Begun(NamedTuple):
    """What a profile's module has trapped; `process`: the one that is to be loaded, or is kept for that; or
    None.
    """

    entry: ModuleEntry
    traps: tuple[Trap, ...]
    process: Process | None


def begin(view: View, session: int, env: Mapping[str, str]) -> list[Begun]:
    """All that a view names. ProfileErrors with what is wrong with any of them; none runs then."""
    begun: list[Begun] = []
    errors = []
    for entry in view.modules:
        try:
            process = Process(entry.name, entry.options, session, env)
        except ModuleError as error:
            errors.append(_told(view, entry, error))
            continue
        traps = boundaries.traps(process.ready.boundaries)
        keeps = entry.load or view.enforce
        if not keeps:
            process.end()
        begun.append(Begun(entry, traps, process if keeps else None))
    if errors:
        end(begun)
        raise ProfileErrors(errors)
    return begun


def end(begun: Sequence[Begun]) -> None:
    """There is no session that they could be modules of."""
    for one in begun:
        if one.process is not None:
            one.process.end()


def _told(view: View, entry: ModuleEntry, error: ModuleError) -> ProfileError:
    source = next(
        (source for source in view.sources if source.path == entry.where.path), Source(entry.where.path, "")
    )
    return error_at(source, entry.where, f"module {quote(entry.name)} cannot be loaded: {error}")
