"""layer.json: what a layer is. Paths are text there, any byte of theirs kept (surrogateescape)."""

import json
import os
from collections.abc import Iterable
from typing import Any

import msgspec

from vuosd.layers.errors import LayerError, name_of, reason
from vuosd.layers.quoting import json_path, json_text

FORMAT = 2
"""The newest that is known. Written is 1 where no tree stands upon a file system: then an older vuosd can
read it.
"""
FILE = b"layer.json"


class System(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a file system is mounted, as by `vumount -t TYPE -o OPTIONS SOURCE`; a source that is a path is
    absolute. `directory`: what a tree stands upon in it, relative to its root; `readonly`: so it is mounted.
    """

    type: str
    source: str
    options: str = ""
    directory: str = "."
    readonly: bool = False


class TreeRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One tree. `directory`: its name in the layer; `lower`: host paths, topmost first; none where it stands
    upon what only a view has mounted, which `system` names ("ext4 of /home/ada/disk.img"); `mount`: how that
    can be mounted without the view, None where it is not known.
    """

    directory: str
    target: str
    lower: tuple[str, ...]
    system: str = ""
    mount: System | None = None

    @property
    def lowers(self) -> tuple[bytes, ...]:
        return tuple(map(json_path, self.lower))


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """All of layer.json. `created`: nanoseconds since the epoch."""

    format: int
    name: str
    created: int
    parent: str | None
    trees: tuple[TreeRecord, ...]
    ephemeral: bool = False


def tree_record(
    number: int,
    target: bytes,
    lowers: tuple[bytes, ...],
    system: bytes = b"",
    mount: System | None = None,
) -> TreeRecord:
    return TreeRecord(str(number), json_text(target), tuple(map(json_text, lowers)), json_text(system), mount)


def format_of(trees: Iterable[TreeRecord]) -> int:
    return 2 if any(tree.system for tree in trees) else 1


def write(directory: bytes, record: Record) -> None:
    """Durably, and never half of it. OSError."""
    value: dict[str, Any] = msgspec.to_builtins(record)
    value.setdefault("parent", None)
    text = json.dumps(value, indent=1).encode() + b"\n"  # stdlib: it can escape lone surrogates
    temporary = os.path.join(directory, FILE + b".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(text)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, os.path.join(directory, FILE))
    sync_directory(directory)


def sync_directory(path: bytes) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read(directory: bytes, name: str) -> Record:
    """LayerError: there is none, it is damaged, or of a newer format."""
    path = os.path.join(directory, FILE)
    try:
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError:
        raise LayerError(_damaged(name, path, "is missing")) from None
    except OSError as error:
        raise LayerError(f"cannot read {name_of(path)}: {reason(error)}") from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LayerError(_damaged(name, path, f"is no JSON ({error})")) from None
    version = value.get("format") if isinstance(value, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise LayerError(
            f"layer {name} has format {version}, and this vuosd knows only formats up to {FORMAT}: "
            f"use the newer vuosd that made it ({name_of(path)})"
        )
    try:
        record = msgspec.convert(value, Record)
        for tree in record.trees:
            strange = "/" in tree.directory or tree.directory in ("", ".", "..")
            if strange or bool(tree.lower) == bool(tree.system):
                raise ValueError(f"tree {tree.directory!r} is not one")
            for text_path in (tree.target, *tree.lower):
                if not json_path(text_path).startswith(b"/") or "\0" in text_path:
                    raise ValueError(f"{text_path!r} is no absolute path")
        if version not in (1, FORMAT) or not record.trees:
            raise ValueError("it has no format, or no trees")
    except (msgspec.ValidationError, ValueError) as error:
        raise LayerError(_damaged(name, path, f"does not describe a layer ({error})")) from None
    return record


def _damaged(name: str, path: bytes, what: str) -> str:
    return (
        f"layer {name} is damaged: {name_of(path)} {what}; restore that file, or forget the layer with "
        f"`vuctl drop {name}`"
    )
