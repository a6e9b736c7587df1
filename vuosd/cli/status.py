"""Changes as a person reads them (a line each, like git status), and as JSON."""

import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from vuosd.cli.layer_arguments import Paths
from vuosd.layers import Layer, Tree
from vuosd.layers.changes import Change, Kind
from vuosd.layers.overlay import Found
from vuosd.layers.quoting import json_text

Changes = Sequence[tuple[Tree, Sequence[Change]]]

_WORDS = {
    Kind.ADDED: ("new", "32"),
    Kind.MODIFIED: ("modified", "33"),
    Kind.METADATA: ("attributes", "36"),
    Kind.DELETED: ("deleted", "31"),
    Kind.TYPE: ("type", "35"),
}
_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


def type_name(mode: int) -> str:
    return _TYPES.get(stat.S_IFMT(mode), "unknown")


def colours() -> bool:
    """On a terminal, unless it is dumb or the person wants none (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_names(paths: Paths, changes: Changes) -> None:
    _print(paths.text(tree, change.path) for tree, found in changes for change in found)


def print_status(paths: Paths, changes: Changes, *, everything: bool) -> None:
    colour = colours()
    counts: Counter[Kind] = Counter()
    lines = []
    for tree, found in changes:
        counts.update(change.kind for change in found)
        for change, more in _folded(found, everything):
            word, paint = _WORDS[change.kind]
            text = paths.text(tree, change.path, directory=change.is_directory)
            notes = _notes(change, paths, tree) + ([f"and {more} in it"] if more else [])
            line = f"{word + ':':12}{text}"
            if colour:
                line = f"\x1b[{paint}m{line}\x1b[m"
            lines.append(line + (f"  ({'; '.join(notes)})" if notes else ""))
    if counts:
        sums = (f"{counts[kind]} {word}" for kind, (word, _) in _WORDS.items() if counts[kind])
        lines += ["", ", ".join(sums)]
    _print(lines)


def _folded(found: Sequence[Change], everything: bool) -> list[tuple[Change, int]]:
    """New and deleted directories stand for what is in them; with how much that is."""
    lines: list[tuple[Change, int]] = []
    top: Change | None = None
    for change in found:
        if top is not None and change.kind is top.kind and change.path.startswith(top.path + b"/"):
            lines[-1] = (top, lines[-1][1] + 1)
            continue
        lines.append((change, 0))
        folds = not everything and change.is_directory and change.kind in (Kind.ADDED, Kind.DELETED)
        top = change if folds else None
    return lines


def _notes(change: Change, paths: Paths, tree: Tree) -> list[str]:
    notes = []
    if change.kind is Kind.TYPE and change.old and change.new:
        notes.append(f"{type_name(change.old.st.st_mode)} → {type_name(change.new.st.st_mode)}")
    if change.kind in (Kind.METADATA, Kind.MODIFIED) and change.old and change.new:
        notes += [_attribute(name, change.old.st, change.new.st) for name in change.attributes]
    if change.links and (change.kind is Kind.ADDED or "links" in change.attributes):
        notes.append(f"same file as {paths.text(tree, change.links[0])}")
    return notes


def _attribute(name: str, old: os.stat_result, new: os.stat_result) -> str:
    if name == "mode":
        return f"mode {old.st_mode & 0o7777:04o} → {new.st_mode & 0o7777:04o}"
    if name == "owner":
        return f"owner {old.st_uid}:{old.st_gid} → {new.st_uid}:{new.st_gid}"
    return {"xattrs": "extended attributes"}.get(name, name)


def _print(lines: Iterable[str]) -> None:
    """At once, also where each print would be written by itself (PYTHONUNBUFFERED)."""
    encoding = sys.stdout.encoding or "utf-8"
    text = "".join(f"{line}\n" for line in lines)
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def as_json(layer: Layer, changes: Changes) -> dict[str, Any]:
    return {
        "layer": layer.name,
        "parent": layer.parent,
        "trees": [
            {"target": json_text(tree.target), "changes": [_change_json(change) for change in found]}
            for tree, found in changes
        ],
    }


def _change_json(change: Change) -> dict[str, Any]:
    value: dict[str, Any] = {"path": json_text(change.path), "change": change.kind.name.lower()}
    if change.attributes:
        value["attributes"] = list(change.attributes)
    if change.covers:
        value["covers"] = True
    if change.links:
        value["links"] = [json_text(path) for path in change.links]
    for name, found in (("old", change.old), ("new", change.new)):
        if found is not None:
            value[name] = _object_json(found)
    return value


def _object_json(found: Found) -> dict[str, Any]:
    st = found.st
    value: dict[str, Any] = {
        "type": type_name(st.st_mode),
        "mode": f"{st.st_mode & 0o7777:04o}",
        "uid": st.st_uid,
        "gid": st.st_gid,
        "mtime_ns": st.st_mtime_ns,
    }
    if stat.S_ISREG(st.st_mode):
        value["size"] = st.st_size
    if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        value["device"] = [os.major(st.st_rdev), os.minor(st.st_rdev)]
    return value
