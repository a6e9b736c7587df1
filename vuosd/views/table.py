"""From entries in order to the engine's table: one entry a target, the longest prefix of a path decides. No
I/O, no trio.

BIND, HIDE, TMPFS and ROOT cover: what earlier entries put at or below their target is gone. RO keeps it and
makes it read-only. Whatever takes the place of "/" leaves /dev, /proc and /sys to the host, as systemd's
ProtectSystem=strict does: nothing runs without /dev/null and /dev/shm, and "the system read-only" does not
mean them. Entries that name them, or what is below them, count as usual.

Both passes look only at the prefixes of each target, so the time is that of the entries times their depth.
"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from vuosd.views.model import Entry, Kind

KERNEL_DIRECTORIES = (b"/dev", b"/proc", b"/sys")


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
            source = host_path(below, target)
            if source is not None and target not in table:
                table[target] = replace(entry, kind=Kind.BIND, source=source, readonly=True)
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
    """The host path that a path means under the entry that decides about it; None where there is none."""
    if entry is None:
        return path
    if entry.kind in (Kind.HIDE, Kind.TMPFS) or entry.source is None:
        return None
    rest = path[len(entry.target) :].lstrip(b"/")
    return entry.source.rstrip(b"/") + b"/" + rest if rest else entry.source


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
    for entry in entries:
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
