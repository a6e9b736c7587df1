"""What an overlay shows, said a second time and in the simplest way: on specifications instead of a disk."""

from typing import Any

from layers.trees import Dir, File, Link, Pipe, Spec, Thing, Whiteout


def normal(spec: Spec) -> dict[bytes, Thing]:
    """With the directories that lead to each path, and content as files."""
    found: dict[bytes, Thing] = {b"": Dir()}
    for path, thing in spec.items():
        parent = path.rpartition(b"/")[0]
        while parent not in found:
            found[parent] = Dir()
            parent = parent.rpartition(b"/")[0]
        if isinstance(thing, File) and thing.same_as is not None:
            thing = spec[thing.same_as]
        found[path] = File(thing) if isinstance(thing, bytes) else thing
    return found


def merged(lower: Spec, upper: Spec) -> dict[bytes, Thing]:
    """The tree that the two show."""
    below, above = normal(lower), normal(upper)
    result = dict(below)
    for path, thing in sorted(above.items(), key=lambda item: item[0].split(b"/")):
        hides = not isinstance(thing, Dir) or thing.xattrs.get("user.overlay.opaque") == b"y"
        if hides or not isinstance(result.get(path), Dir):
            for other in [other for other in result if other.startswith(path + b"/") or not path]:
                del result[other]
        if isinstance(thing, Whiteout):
            result.pop(path, None)
        else:
            result[path] = thing
    return result


def plain(tree: dict[bytes, Thing]) -> dict[bytes, Any]:
    """What of it trees.summary() reads back from the disk."""
    found: dict[bytes, Any] = {}
    for path, thing in tree.items():
        match thing:
            case File(content, mode):
                own = {name: value for name, value in thing.xattrs.items() if ".overlay." not in name}
                found[path] = ("file", content, mode, thing.mtime, own)
            case Dir(mode):
                found[path] = ("directory", mode)
            case Link(text):
                found[path] = ("link", text)
            case Pipe(mode):
                found[path] = ("pipe", mode)
    return found
