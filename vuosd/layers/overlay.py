"""The on-disk format of the kernel's overlayfs, read: several trees, topmost first, seen as one.

Documentation/filesystems/overlayfs.rst of the kernel describes it. A mark is an extended attribute of
"user.overlay." (-o userxattr, and ours), "trusted.overlay." (seen by root only) or "user.fuseoverlayfs.".

    whiteout    nothing is there: a device 0:0; or an empty file with the mark "whiteout", in a directory
                whose mark "opaque" is "x"; or, in layers of fuse-overlayfs alone, a file .wh.NAME
    opaque      "y", or a file .wh..wh..opq: nothing of the trees below shows in this directory
    redirect    the trees below have this directory (or a metacopy's data) at another path
    metacopy    the attributes are this file's, the data is that of the tree below

"user.fuseoverlayfs.override_stat" keeps an owner, with the mode: see engine/owners.c.

Nouns: a *level* is one tree; a *part* is an object of one level, (number of the level, its path there); a
*found* object is what a path shows: one part, or for a merged directory its parts, topmost first.
"""

import errno
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from vuosd.layers.beneath import Beneath, join

_OWNER = "user.fuseoverlayfs.override_stat"
PREFIXES = ("user.overlay.", "trusted.overlay.", "user.fuseoverlayfs.")
WHITEOUT_FILE = b".wh."
OPAQUE_FILE = b".wh..wh..opq"
_DEEPEST_REDIRECT = 64

Part = tuple[int, bytes]


class Marks(NamedTuple):
    opaque: bool = False
    whiteouts: bool = False  # of a directory: whiteouts in it may be files with a mark
    whiteout: bool = False
    redirect: bytes | None = None
    metacopy: bool = False
    mode: int | None = (
        None  # kept with an owner: of the real mode's bits for the owner those count that it has too
    )

    def told(self, st: os.stat_result) -> os.stat_result:
        """What a view tells of the object's mode."""
        if self.mode is None or not st.st_mode & ~self.mode & stat.S_IRWXU:
            return st
        more = {name: getattr(st, name) for name in dir(st) if name.startswith("st_")}
        return os.stat_result((st.st_mode & (~stat.S_IRWXU | self.mode), *tuple(st)[1:]), more)


NONE = Marks()


def stand_for(path: bytes, below: bytes) -> None:
    """Give `path`, a new directory that we may write to, the owner, mode and times of the directory `below`.

    An owner that may not be given is kept: then the directory is not the user's in a view. OSError.
    """
    st = os.stat(below)
    mode = stat.S_IMODE(st.st_mode)
    kept: bytes | None = None
    try:
        os.chown(path, st.st_uid, st.st_gid)
        kept = os.getxattr(below, _OWNER)  # of a layer that is branched
    except PermissionError:
        kept = b"%d:%d:0%o" % (st.st_uid, st.st_gid, mode)
        others = 0 if st.st_uid == os.geteuid() else (mode >> 3 | mode) & 7
        mode |= stat.S_IRUSR | others << 6
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
    if kept is not None:
        os.setxattr(path, _OWNER, kept)
    os.chmod(path, mode)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def marks_of(path: bytes, names: Sequence[str] | None = None) -> Marks:
    """What the attributes of an object say; `path` is not followed. OSError."""
    found: dict[str, bytes] = {}
    mode: int | None = None
    for name in os.listxattr(path, follow_symlinks=False) if names is None else names:
        if name == _OWNER:
            mode = _kept_mode(os.getxattr(path, name, follow_symlinks=False))
        for prefix in PREFIXES:
            mark = name[len(prefix) :]
            if name.startswith(prefix) and mark in ("opaque", "redirect", "metacopy", "whiteout"):
                valued = mark in ("opaque", "redirect")
                value = os.getxattr(path, name, follow_symlinks=False) if valued else b""
                found.setdefault(mark, value)
    if not found and mode is None:
        return NONE
    opaque = found.get("opaque", b"")
    redirect = found.get("redirect")
    return Marks(opaque == b"y", opaque == b"x", "whiteout" in found, redirect, "metacopy" in found, mode)


def _kept_mode(value: bytes) -> int | None:
    try:
        return int(value.split(b":")[2], 8)
    except (IndexError, ValueError):
        return None  # no mode is kept: the real one counts


class Level(NamedTuple):
    """marked: it holds marks. whiteout_files: also fuse-overlayfs' files."""

    root: Beneath
    marked: bool
    whiteout_files: bool = False


class Found(msgspec.Struct, gc=False):
    """What is at a path. `st` is that of the first part. `data`: where a metacopy's content is."""

    parts: tuple[Part, ...]
    st: os.stat_result
    data: Part | None = None

    @property
    def top(self) -> Part:
        return self.parts[0]

    @property
    def content(self) -> Part:
        return self.data or self.parts[0]

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.st.st_mode)


class Stack:
    """Levels, topmost first, seen as one tree. Asks the disk each time: it may change."""

    def __init__(self, levels: Sequence[Level]) -> None:
        self.levels = tuple(levels)
        self._marks: dict[Part, Marks] = {}

    def root(self, start: int = 0) -> Found:
        """The root of what the levels from `start` on show."""
        st = self.levels[start].root.lstat(b"")
        if st is None:
            raise FileNotFoundError(2, "No such file or directory", self.levels[start].root.root)
        parts: list[Part] = []
        for number in range(start, len(self.levels)):
            parts.append((number, b""))
            if self.marks((number, b"")).opaque:
                break
        return Found(tuple(parts), self.marks(parts[0]).told(st))

    def names(self, part: Part) -> list[bytes]:
        """The names that this directory has something to say about. OSError."""
        level = self.levels[part[0]]
        names = level.root.names(part[1])
        if not level.whiteout_files:
            return names
        return list({name.removeprefix(WHITEOUT_FILE) for name in names if name != OPAQUE_FILE})

    def marks(self, part: Part) -> Marks:
        """Of a directory that is known to be one."""
        level = self.levels[part[0]]
        if not level.marked:
            return NONE
        known = self._marks.get(part)
        if known is None:
            path = level.root.proc(part[1])
            known = marks_of(path if part[1] else level.root.root)
            if level.whiteout_files and level.root.lstat(join(part[1], OPAQUE_FILE)) is not None:
                known = known._replace(opaque=True)
            if len(self._marks) > 256:
                self._marks.clear()
            self._marks[part] = known
        return known

    def is_whiteout(self, parent: Part, name: bytes, st: os.stat_result) -> bool:
        if stat.S_ISCHR(st.st_mode):
            return st.st_rdev == 0
        if st.st_size or not stat.S_ISREG(st.st_mode) or not self.marks(parent).whiteouts:
            return False
        return marks_of(self.levels[parent[0]].root.proc(join(parent[1], name))).whiteout

    def child(self, parts: Sequence[Part], name: bytes) -> Found | None:
        """What the directory with these parts shows by this name. OSError."""
        return self._resolve([(part, name) for part in parts], 0)

    def lookup(self, path: bytes, start: int = 0) -> Found | None:
        """What the levels from `start` on show at `path`; None also for what is below no directory."""
        found: Found | None = self.root(start)
        for name in path.split(b"/") if path else ():
            if found is None or not found.is_directory:
                return None
            found = self.child(found.parts, name)
        return found

    def _resolve(self, places: list[tuple[Part, bytes]], depth: int) -> Found | None:
        """Go through the places where the object may be, topmost first, until one settles it."""
        if depth > _DEEPEST_REDIRECT:
            raise OSError(40, "Too many redirects of overlayfs", places[0][0][1] if places else b"")
        parts: list[Part] = []
        first: os.stat_result | None = None
        data: Part | None = None
        while places:
            parent, name = places.pop(0)
            number, above = parent
            level = self.levels[number]
            path = join(above, name)
            if level.whiteout_files:
                if name.startswith(WHITEOUT_FILE):
                    continue
                if level.root.lstat(join(above, WHITEOUT_FILE + name)) is not None:
                    break
            st = level.root.lstat(path)
            if st is None:
                continue
            if (level.marked or stat.S_ISCHR(st.st_mode)) and self.is_whiteout(parent, name, st):
                break
            directory = stat.S_ISDIR(st.st_mode)
            if first is not None and directory != stat.S_ISDIR(first.st_mode):
                break
            if directory:
                marks = self.marks((number, path))
                parts.append((number, path))
                first = first or marks.told(st)
                if marks.opaque:
                    break
            else:
                regular = stat.S_ISREG(st.st_mode)
                marks = marks_of(level.root.proc(path)) if level.marked and regular else NONE
                if first is None:
                    first = marks.told(st)
                    parts.append((number, path))
                elif regular and not marks.metacopy:
                    data = (number, path)
                if not marks.metacopy:
                    break
            if marks.redirect is not None:
                places = self._redirected(places, number, above, marks.redirect, depth)
        return None if first is None else Found(tuple(parts), first, data)

    def _redirected(
        self, places: list[tuple[Part, bytes]], number: int, above: bytes, redirect: bytes, depth: int
    ) -> list[tuple[Part, bytes]]:
        """Where the levels below have it: by another name in the same directory, or from the root on."""
        if not redirect.startswith(b"/"):
            return [(parent, redirect) for parent, _ in places]
        parent_path, _, name = redirect.strip(b"/").rpartition(b"/")
        if number + 1 >= len(self.levels):
            return []
        parent: Found | None = self.root(number + 1)
        for step in parent_path.split(b"/") if parent_path else ():
            if parent is None or not parent.is_directory:
                return []
            parent = self._resolve([(part, step) for part in parent.parts], depth + 1)
        if parent is None or not parent.is_directory:
            return []
        return [(part, name) for part in parent.parts]
