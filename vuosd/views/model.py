"""The values a profile becomes. No I/O, no trio.

Paths are bytes: absolute, normalised text, no trailing slash. `target` is a path as the view's processes name
it, `source` a path of the host; a source is never looked up through the view itself.
"""

import enum
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import msgspec


class Kind(enum.IntEnum):
    """What an entry puts at its target. All but RO and FILESYSTEM are the engine's: the former is gone after
    `flatten`, the latter is mounted when the session runs.
    """

    BIND = 1
    HIDE = 2
    TMPFS = 3
    ROOT = 4
    RO = 5
    COW = 6
    MERGE = 7
    FILESYSTEM = 8


class Position(msgspec.Struct, frozen=True):
    """Where in a profile something was said. Line and column count from one, in characters, as editors do."""

    path: bytes
    line: int
    column: int
    length: int = 1


NOWHERE = Position(b"", 0, 0)


class Layering(msgspec.Struct, frozen=True):
    """How a COW entry keeps what is written to it. `store` is its layer's directory; None: the user's."""

    minimal: bool = False
    ephemeral: bool = False
    sync: bool = False
    store: bytes | None = None


class Served(msgspec.Struct, frozen=True):
    """What a FILESYSTEM entry mounts. `source` is as it was said, `path` what it is as a path of the host;
    `options` as after `vumount -o`.
    """

    type: str
    source: str
    path: bytes
    options: str


class ModuleEntry(msgspec.Struct, frozen=True):
    """A module: what it is called (a name, module:Class, a path), its options as after `vu_insmod -o`, and
    whether it is loaded from the start, or only can be later.
    """

    name: str
    options: str = ""
    load: bool = True
    where: Position = NOWHERE


class Entry(msgspec.Struct, frozen=True):
    """One row of the mount table.

    A COW without a source, and a BIND without one, show what is at the target from earlier entries: see
    `table.grounded`. `more` are the trees below `source`, of a MERGE and of a COW over one. A COW that is
    `upon` a FILESYSTEM has no source.
    """

    kind: Kind
    target: bytes
    source: bytes | None = None
    more: tuple[bytes, ...] = ()
    readonly: bool = False
    size: int | None = None
    mode: int = 0o1777
    optional: bool = False
    layering: Layering | None = None
    served: Served | None = None
    upon: "Entry | None" = None
    where: Position = NOWHERE

    @property
    def sources(self) -> tuple[bytes, ...]:
        """The trees that it shows, the topmost first; none for a HIDE, a TMPFS, a FILESYSTEM and
        what is not grounded.
        """
        return () if self.source is None else (self.source, *self.more)


class EnvRules(msgspec.Struct, frozen=True):
    """What happens to the environment: `unset` takes away except what `keep` names, then `set` gives."""

    set: Mapping[str, str] = {}
    unset: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    def apply(self, env: Mapping[str, str]) -> dict[str, str]:
        """The environment of the command. Patterns are fnmatch(3) patterns and mind upper and lower case."""
        out = {
            name: value
            for name, value in env.items()
            if not _matches(name, self.unset) or _matches(name, self.keep)
        }
        out.update(self.set)
        return out


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class Source(msgspec.Struct, frozen=True):
    """A file that took part in a view: its path as messages show it, and its text, to quote from."""

    path: bytes
    text: str


class View(msgspec.Struct, frozen=True):
    """A whole view. `entries` stand in profile order; `flatten` makes the engine's table of them. `allow`:
    what its processes may change of it, None: everything.
    """

    name: str
    enforce: bool = False
    keep_tree: bool = False
    allow: frozenset[str] | None = None
    entries: tuple[Entry, ...] = ()
    env: EnvRules = EnvRules()
    cwd: bytes | None = None
    sources: tuple[Source, ...] = ()
    modules: tuple[ModuleEntry, ...] = ()


PASS_THROUGH = View(name="pass-through")
