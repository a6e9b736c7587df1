"""In which of several real trees a change is made, when a layer stands upon more than one.

A change is made where what it changes is shown from; a new name comes into the topmost tree that has its
directory. Afterwards the trees must show together what the layer shows now. That cannot be had where another
tree below has something of the same name, which would come to light: such a change is undecided.
"""

from vuosd.layers.beneath import parent_of
from vuosd.layers.changes import Change, Comparison, Kind
from vuosd.layers.errors import name_of
from vuosd.layers.overlay import Found


class Homes:
    """Of the changes of one comparison, to be asked for in their order: a directory before what is in it. A
    real tree is known by its level."""

    def __init__(self, comparison: Comparison) -> None:
        self._stack = comparison.stack
        self._first = comparison.first_lower
        self.levels = tuple(range(self._first, len(self._stack.levels)))
        self._made: dict[bytes, int] = {}  # where directories come to be
        self._homes: dict[bytes, tuple[int, ...]] = {}
        self._below: dict[bytes, Found | None] = {}

    def of(self, change: Change) -> tuple[int, ...]:
        """Of a directory that goes: all trees that have it. OSError."""
        if len(self.levels) == 1:
            return self.levels
        home = self._home(change)
        self._homes[change.path] = home
        if change.new is not None and change.new.is_directory:
            self._made[change.path] = home[0]
        return home

    def _home(self, change: Change) -> tuple[int, ...]:
        old = change.old
        if old is not None and old.is_directory and change.kind is Kind.DELETED:
            return tuple(level for level, _ in old.parts)
        if old is not None:
            return (old.top[0],)
        parent = parent_of(change.path)
        if parent in self._made:
            return (self._made[parent],)
        directory = self._directory(parent)
        return (directory.top[0] if directory is not None else self._first,)

    def _directory(self, path: bytes) -> Found | None:
        """What the real trees show there."""
        if path not in self._below:
            self._below[path] = self._stack.lookup(path, self._first)
        return self._below[path]

    def undecided(self, change: Change) -> str | None:
        """Why the change cannot be made in any tree, or None; of one that has a home. OSError."""
        home = self._homes.get(change.path)
        if home is None:
            return None
        for other in change.links:
            if other in self._homes and self._homes[other] != home:
                here, there = self._name(home[0]), self._name(self._homes[other][0])
                return f"belongs into {here}, and is one file with {name_of(other)}, which does into {there}"
        shown = self._shows_through(change, home[-1])
        if shown is None:
            return None
        tree = self._name(shown.top[0])
        if change.new is None:
            return f"is in {tree} as well, and would show from there once it has gone"
        if change.new.is_directory and shown.is_directory and not (change.old and change.old.is_directory):
            return f"is a directory in {tree} as well, and what is in that would show"
        return None

    def _shows_through(self, change: Change, home: int) -> Found | None:
        """What the trees below `home` have at the path."""
        directory = self._directory(parent_of(change.path)) if change.path else None
        if directory is None or not directory.is_directory:
            return None
        parts = [part for part in directory.parts if part[0] > home]
        return self._stack.child(parts, change.path.rpartition(b"/")[2])

    def _name(self, level: int) -> str:
        return name_of(self._stack.levels[level].root.root)
