"""What a commit is going to do, step by step, in a form that can be written down. No I/O."""

import os
import stat
from enum import Enum

import msgspec

from vuosd.layers.attributes import Attributes


class Action(Enum):
    REMOVE = "remove"  # a name that is no directory
    RMDIR = "rmdir"
    MKDIR = "mkdir"
    PLACE = "place"  # what was made ready under a temporary name, in place of what is there
    GIVE = "give"  # attributes, to what is there


class Seen(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An object of the real tree, as it was when it was judged."""

    dev: int
    ino: int
    mode: int
    size: int
    mtime_ns: int

    def is_still(self, st: os.stat_result | None) -> bool:
        """Whether that is it. The time of a last change is not asked: names of it come and go in a commit."""
        if st is None or (st.st_dev, st.st_ino) != (self.dev, self.ino):
            return False
        if stat.S_IFMT(st.st_mode) != stat.S_IFMT(self.mode):
            return False
        return stat.S_ISDIR(self.mode) or (st.st_size, st.st_mtime_ns) == (self.size, self.mtime_ns)


def seen(st: os.stat_result) -> Seen:
    return Seen(st.st_dev, st.st_ino, st.st_mode, st.st_size, st.st_mtime_ns)


class Source(msgspec.Struct, frozen=True, array_like=True):
    """Where the content of a PLACE is taken from: a tree's root, and the path in it.

    own: the tree is the layer's own upper, which the file leaves: it need not be copied
    size: in bytes; `device`: of a device
    same_as: number, among the steps that PLACE, of that whose file this is another name of
    """

    root: bytes
    path: bytes
    mode: int
    size: int
    device: int
    own: bool
    same_as: int | None = None


class Step(msgspec.Struct, array_like=True):
    """`path` and `temporary` are relative to the real tree. before: what is replaced or removed, None for
    nothing."""

    action: Action
    path: bytes
    before: Seen | None = None
    temporary: bytes = b""
    source: Source | None = None
    give: Attributes | None = None


class TreePlan(msgspec.Struct, array_like=True):
    """All of one tree, in the order in which it is to be done.

    opened: directories that had to be made writable for their owner, with their modes
    roots: the paths that the layer will have no changes of any more, nor below them; None: all
    brought: single paths of which it will have none either
    closed: directories of the layer that its owner may not write as they are, with their modes
    whiteout_files, redirected: how the layer was made: overlay.py
    """

    root: bytes
    directory: bytes
    steps: list[Step]
    opened: list[tuple[bytes, int]]
    roots: list[bytes] | None
    brought: list[bytes]
    whiteout_files: bool
    redirected: bool
    closed: list[tuple[bytes, int]]


class Plan(msgspec.Struct, array_like=True):
    """`detach`: the layer stands on no parent any more, as what that changed is committed too."""

    format: int
    layer: str
    trees: list[TreePlan]
    detach: bool
