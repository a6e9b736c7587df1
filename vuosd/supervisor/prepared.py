"""What a session is made of once everything has been looked up. Imports nothing, so that the run without a
profile is quick.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vuosd.supervisor.held import Layers
    from vuosd.supervisor.values import Placed, Stacked
    from vuosd.views import Entry, View


class Refused(Exception):
    """There will be no session; the text is printed by the launcher as it is."""

    def __init__(self, text: str, status: int = 125) -> None:
        super().__init__(text)
        self.status = status


class Prepared(NamedTuple):
    """`view` is None without a profile. `late` is mounted when the session runs, outermost first: file
    systems, what lies in them, and cows upon them. `several`: an entry shows several trees as one. `allow`:
    what may be changed from inside, None: everything. `start` is the view path of the directory the command
    starts in. The descriptors are the session's.
    """

    name: str
    command: bytes
    view: "View | None" = None
    enforce: bool = False
    allow: "frozenset[str] | None" = None
    keep_tree: bool = False
    placed: "Sequence[Placed]" = ()
    stacked: "Sequence[Stacked]" = ()
    layers: "Layers | None" = None
    cwd: int | None = None
    start: bytes = b"/"
    landlock: int | None = None
    late: "Sequence[Entry | Placed | Stacked]" = ()
    several: bool = False

    @property
    def watched(self) -> bool:
        """Whether we hear of calls that matter only where there are entries, as listings do. `allow` says so
        for those of nested views, and for cows that come later.
        """
        later = self.allow is not None and not self.allow.isdisjoint({"view", "cow"})
        return bool(self.placed or self.stacked or self.enforce or later)

    @property
    def controlled(self) -> bool:
        """Whether anything of the view can be changed while it runs, or calls are answered by more than the
        engine.
        """
        return self.allow is None or bool(self.allow or self.late or self.modules)

    @property
    def modules(self) -> bool:
        return self.view is not None and bool(self.view.modules)
