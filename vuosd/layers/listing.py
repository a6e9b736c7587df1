"""The layers of a store."""

import os
from collections.abc import Iterator

from vuosd.layers import record
from vuosd.layers.errors import LayerError, name_of, reason
from vuosd.layers.record import Record


def names_in(store: bytes) -> list[str]:
    """The layers of a store, by name. LayerError."""
    try:
        with os.scandir(store) as entries:
            found = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(b".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LayerError(f"cannot list the layers in {name_of(store)}: {reason(error)}") from None
    return sorted(map(os.fsdecode, found))


def children_of(name: str, store: bytes) -> list[str]:
    """The branches of a layer; damaged ones are nobody's."""
    return [child for child, made_as in records_in(store) if made_as is not None and made_as.parent == name]


def records_in(store: bytes) -> Iterator[tuple[str, Record | None]]:
    """Each layer of a store, with None for one that is damaged or of a newer format."""
    for name in names_in(store):
        try:
            yield name, record.read(os.path.join(store, os.fsencode(name)), name)
        except LayerError:
            yield name, None
