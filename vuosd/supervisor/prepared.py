"""What a session is made of once everything has been looked up. Imports nothing that a worker has not, so
that the run without a profile is quick.
"""

from typing import TYPE_CHECKING, NamedTuple

from vuosd.supervisor.messages import SetupFlag

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
    def merges(self) -> bool:
        """Whether an entry shows several trees as one, or may later."""
        return self.several or bool(self.allow and "cow" in self.allow)

    @property
    def setup(self) -> SetupFlag:
        """What a launcher is to do, of what is the same for all of the view.

        A core dump is written by the kernel where the working directory really is: below a cow, or in what
        is read-only. There is none, unless the command sets a limit itself. Landlock holds the kernel too.
        """
        flags = SetupFlag(0)
        if self.landlock is not None:
            flags |= SetupFlag.LANDLOCK
        if self.keep_tree:
            flags |= SetupFlag.KEEP_TREE
        kept = self.merges or any(placed.readonly for placed in self.placed)
        if kept and not self.enforce and _cores_are_files():
            flags |= SetupFlag.NO_CORES
        return flags

    @property
    def controlled(self) -> bool:
        """Whether anything of the view can be changed while it runs, or calls are answered by more than the
        engine.
        """
        return self.allow is None or bool(self.allow or self.late or self.modules)

    @property
    def modules(self) -> bool:
        return self.view is not None and bool(self.view.modules)


def _cores_are_files() -> bool:
    """Else a program, or who listens to a socket, gets them: core(5)."""
    try:
        with open("/proc/sys/kernel/core_pattern", "rb") as file:
            return not file.read(1).startswith((b"|", b"@"))
    except OSError:
        return True
