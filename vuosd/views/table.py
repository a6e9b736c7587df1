"""From entries in order to the engine's table: one entry a target, the longest prefix of a path decides. No
I/O, no trio.

All kinds but RO cover: what earlier entries put at or below their target is gone. RO keeps it and makes it
read-only. A COW has what was at its target as the tree that it copies from; a file system stays below it.
Whatever takes the place of "/" leaves /dev, /proc and /sys to the host, as systemd's ProtectSystem=strict
does: nothing runs without /dev/null and /dev/shm, and "the system read-only" does not mean them. Entries that
name them, or what is below them, count as usual.

Both passes look only at the prefixes of each target, so the time is that of the entries times their depth.
"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from vuosd.views.model import Entry, Kind

KERNEL_DIRECTORIES = (b"/dev", b"/proc", b"/sys")
_GENERATED = (b"/proc", b"/sys")


def flatten(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The engine's table. `source` of a HIDE is the host path that it withholds, None where there is none."""
    return tuple(fold(entries)[0].values())


def fold(entries: Iterable[Entry]) -> tuple[dict[bytes, Entry], list[tuple[Entry, Entry | None]]]:
    """The table by target; and each RO that counts, beside the earlier entry that decides what lies at its
    target.

    An RO of what lies nowhere (below a TMPFS or a HIDE) leaves no trace in the table.
    """
    table: dict[bytes, Entry] = {}
    continued: list[tuple[Entry, Entry | None]] = []
    for entry, given in _survivors(entries):
        target = entry.target
        if not given:
            table.setdefault(target, entry)
        elif entry.kind is Kind.RO:
            below = lookup(table, target)
            continued.append((entry, below))
            found = host_paths(below, target)
            if found and target not in table:
                kind = Kind.BIND if len(found) == 1 else Kind.MERGE
                table[target] = replace(entry, kind=kind, source=found[0], more=found[1:], readonly=True)
        elif entry.kind is Kind.HIDE:
            # Of /dev, /proc and /sys the HIDE itself has covered the row that says they are the host's.
            shown = target if target in KERNEL_DIRECTORIES else host_path(lookup(table, target), target)
            table[target] = replace(entry, source=shown)
        else:
            table[target] = entry
    return table, continued


def lookup(table: Mapping[bytes, Entry], path: bytes) -> Entry | None:
    """The entry that decides about an absolute, normalised path."""
    for prefix in prefixes(path):
        entry = table.get(prefix)
        if entry is not None:
            return entry
    return None


def host_path(entry: Entry | None, path: bytes) -> bytes | None:
    """The host path that a path means under the entry that decides about it; None where there is none. Of a
    COW or a MERGE it is the one in the topmost tree, whether or not something is there.
    """
    found = host_paths(entry, path)
    return found[0] if found else None


def host_paths(entry: Entry | None, path: bytes) -> tuple[bytes, ...]:
    """The same in each of the trees that the entry shows, the topmost first."""
    if entry is None:
        return (path,)
    if entry.kind in (Kind.HIDE, Kind.TMPFS, Kind.FILESYSTEM):
        return ()
    rest = path[len(entry.target) :].lstrip(b"/")
    return tuple(source.rstrip(b"/") + b"/" + rest if rest else source for source in entry.sources)


class Cover:
    """What the entries so far put where: of the prefixes of a path the one that came last decides."""

    def __init__(self) -> None:
        self._count = 0
        self._entries: dict[bytes, tuple[int, Entry]] = {}

    def add(self, entry: Entry) -> None:
        self._count += 1
        self._entries[entry.target] = (self._count, entry)

    def at(self, path: bytes) -> Entry | None:
        """The entry that decides about a path; of "/" the kernel's directories are no part."""
        found = [self._entries[prefix] for prefix in prefixes(path) if prefix in self._entries]
        entry = max(found, key=lambda cover: cover[0])[1] if found else None
        return None if entry and entry.target == b"/" and in_kernel_directory(path) else entry


def ungrounded(entry: Entry) -> bool:
    """Whether it shows what earlier entries put at its target."""
    return entry.kind in (Kind.BIND, Kind.COW) and entry.source is None


def grounded(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries, with the trees that those without a source show: what earlier entries put at their target,
    else the host. Where that is nowhere (in a HIDE, or a TMPFS) they stay as they are.
    """
    cover = Cover()
    for entry in entries:
        if ungrounded(entry):
            below = cover.at(entry.target)
            found = host_paths(below, entry.target)
            if found:
                kind = Kind.MERGE if entry.kind is Kind.BIND and len(found) > 1 else entry.kind
                entry = replace(entry, kind=kind, source=found[0], more=found[1:])
            elif below and below.kind is Kind.TMPFS and below.target == entry.target:
                entry = replace(entry, mode=below.mode)
            elif below and entry.kind is Kind.COW and (below.kind is Kind.FILESYSTEM or below.upon):
                entry = replace(entry, upon=below.upon or below)
        if entry.kind is not Kind.RO:
            cover.add(entry)
        yield entry


def is_generated(path: bytes) -> bool:
    """Whether it is of /proc or /sys, whose files the kernel makes up: written to, they act."""
    return path in _GENERATED or any(is_below(path, directory) for directory in _GENERATED)


def is_below(path: bytes, directory: bytes) -> bool:
    """Whether it lies in the directory, and is not that itself."""
    return path != directory and path.startswith(directory.rstrip(b"/") + b"/")


def in_kernel_directory(path: bytes) -> bool:
    return path.startswith(KERNEL_DIRECTORIES) and any(
        path == directory or path.startswith(directory + b"/") for directory in KERNEL_DIRECTORIES
    )


def _survivors(entries: Iterable[Entry]) -> Iterator[tuple[Entry, bool]]:
    """In order, the entries that no later one covers, read-only where a later RO says so; False: not given,
    implied.

    Seen from the end an entry is covered when a later one covers a prefix of its target. The entry whose
    source an RO continues is never covered without the RO being covered too, so the survivors alone tell all
    sources.
    """
    covered: set[bytes] = set()
    frozen: set[bytes] = set()
    kept: list[tuple[Entry, bool]] = []
    for entry, given in reversed(list(_with_kernel_directories(entries))):
        above = list(prefixes(entry.target))
        if not covered.isdisjoint(above):
            continue
        if entry.kind is not Kind.HIDE and not entry.readonly and not frozen.isdisjoint(above):
            if in_kernel_directory(entry.target):
                above.remove(b"/")
            if not frozen.isdisjoint(above):
                entry = replace(entry, readonly=True)
        kept.append((entry, given))
        if entry.kind is Kind.RO:
            frozen.add(entry.target)
        elif given:
            covered.add(entry.target)
    return reversed(kept)


def _with_kernel_directories(entries: Iterable[Entry]) -> Iterator[tuple[Entry, bool]]:
    for entry in grounded(entries):
        yield entry, True
        if entry.target == b"/" and entry.kind is not Kind.HIDE:
            for directory in KERNEL_DIRECTORIES:
                yield Entry(Kind.BIND, directory, directory, where=entry.where), False


def prefixes(path: bytes) -> Iterator[bytes]:
    """The path and the directories above it, longest first."""
    while len(path) > 1:
        yield path
        path = path[: path.rindex(b"/")]
    yield b"/"
