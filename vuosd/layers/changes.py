"""What a layer changes: the tree that it shows against the tree below it.

It is the difference of the two that counts, not what happens to lie in the layer: a directory that is there
only because something below it was changed, or a file that was copied up and is as it was, is no change.

Two rules need a word.
- The time of a directory that is below too is no change: it goes with the entries, of both.
- A layer of an ordinary user holds only that user's files, whomever the originals belong to: there an owner
  counts only where the original was the user's too.
"""

import os
import stat
from collections.abc import Iterable
from enum import Enum
from types import TracebackType
from typing import Self

import msgspec

from vuosd.layers.beneath import Beneath, join
from vuosd.layers.compare import same_content, same_file_bytes, same_type, xattr_names, xattrs
from vuosd.layers.errors import LayerError, name_of
from vuosd.layers.overlay import PREFIXES, Found, Level, Part, Stack
from vuosd.layers.store import Tree

# Not to be caught by a pipe that took a file's place.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class Kind(Enum):
    """The letters are those of `git status --short` where it has one."""

    ADDED = "A"
    MODIFIED = "M"  # the content, perhaps attributes too
    METADATA = "m"  # attributes alone
    DELETED = "D"
    TYPE = "T"  # another type of file


class Change(msgspec.Struct, gc=False):
    """One path that differs. `path`: relative to the tree, b"" the tree's own directory.

    new, old: what the layer shows, and what is below it
    attributes: which of "mode", "owner", "times", "xattrs", "links" differ; of METADATA always, of MODIFIED
    without "times" and "xattrs"
    links: the other paths that are this same file in the layer
    covers: of a directory: it hides the one below, entries and all, and does not merge with it
    """

    path: bytes
    kind: Kind
    new: Found | None
    old: Found | None
    attributes: tuple[str, ...] = ()
    links: tuple[bytes, ...] = ()
    covers: bool = False

    @property
    def is_directory(self) -> bool:
        found = self.new or self.old
        return found is not None and found.is_directory


class _Visit(msgspec.Struct):
    """A directory to be gone through."""

    path: bytes
    new: Found | None
    old: Found | None


class Comparison:
    """The changes of one tree, and the means to look at them. A context manager.

    whole: of a branch, with what its parents changed; else only what it changed upon them
    """

    def __init__(self, tree: Tree, *, whole: bool = True) -> None:
        if tree.system and not tree.hosts:
            text = "stands upon a file system, which only a view has mounted: there it can be looked at"
            raise LayerError(f"what the layer has at {name_of(tree.target)} {text} ({name_of(tree.system)})")
        self.tree = tree
        self.owner = os.stat(tree.directory).st_uid
        self._tops = 1 + (tree.parents if whole else 0)
        parents = [_level(path, os.path.dirname(path)) for path in tree.lowers[: tree.parents]]
        host = [Level(Beneath(path), False) for path in tree.hosts]
        for number in range(len(host) - 1):
            host[number] = host[number]._replace(marked=True)
        self.stack = Stack([_level(tree.upper, tree.directory), *parents, *host])
        self.redirected = False  # whether the layer has something that is elsewhere in the trees below
        self.closed: list[tuple[bytes, int]] = []  # directories of the upper not to be written, with modes
        self.found: list[Change] = []  # by changes()
        self.covering: set[bytes] = set()  # directories that hide, and do not merge with, the one below
        self._linked: dict[tuple[int, int, int], list[tuple[bytes, Found, Found | None, int | None]]] = {}

    def close(self) -> None:
        for level in self.stack.levels:
            level.root.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def first_lower(self) -> int:
        """The number of the topmost level that counts as being below."""
        return self._tops

    def changes(self) -> list[Change]:
        """All of them, sorted by path, a directory before what is in it. OSError."""
        self.found, self._linked, self.closed, self.covering = [], {}, [], set()
        pending = [_Visit(b"", self.stack.root(), self.stack.root(self._tops))]
        while pending:
            visit = pending.pop()
            self._entries(visit, pending)
            self._directory_itself(visit)
        self._join_links()
        self.redirected = any(
            change.new is not None and (change.new.data or change.new.parts[-1][1] != change.path)
            for change in self.found
        )
        self.found.sort(key=lambda change: change.path.replace(b"/", b"\0"))  # which no name has
        return self.found

    def _entries(self, visit: _Visit, pending: list[_Visit]) -> None:
        new, old = visit.new, visit.old
        if new is not None and new.top[0] == 0 and new.st.st_mode & 0o700 != 0o700:
            real = self.stack.levels[0].root.lstat(new.top[1])  # the mode that is told may be another
            if real is not None and real.st_mode & 0o700 != 0o700:
                self.closed.append((visit.path, stat.S_IMODE(real.st_mode)))
        if new is not None and old is not None and self._tops == 1 and self._merges(new, old):
            return self._merged_entries(visit, new, old, pending)
        if new is not None and old is not None and not self._merges(new, old):
            self.covering.add(visit.path)
        names: set[bytes] = set()
        for part in _all_parts(new, old):
            if part[0] < self._tops or not (new and old and self._merges(new, old)):
                names.update(self.stack.names(part))
        for name in sorted(names):
            path = join(visit.path, name)
            shown = new and self.stack.child(new.parts, name)
            below = old and self.stack.child(old.parts, name)
            self._compare(path, shown, below, pending)
        return None

    def _merges(self, new: Found, old: Found) -> bool:
        """Whether all that is below shows through, so that only what the layer itself has can differ."""
        return tuple(part for part in new.parts if part[0] >= self._tops) == old.parts

    def _merged_entries(self, visit: _Visit, new: Found, old: Found, pending: list[_Visit]) -> None:
        """The usual case: few calls for each name."""
        if new.parts[0][0] != 0:
            return
        stack, (_, above) = self.stack, new.parts[0]
        root = stack.levels[0].root
        special = stack.levels[0].whiteout_files or stack.marks(new.parts[0]).whiteouts
        lower = self.stack.levels[old.parts[0][0]]
        single = len(old.parts) == 1 and not lower.marked
        names = stack.names(new.parts[0])
        fd = root.directory(above)
        below_fd = lower.root.directory(old.parts[0][1]) if single else -1
        for name in names:
            path = join(visit.path, name)
            below: Found | None
            if single:
                try:
                    st = os.stat(name, dir_fd=below_fd, follow_symlinks=False)
                    below = Found(((old.parts[0][0], join(old.parts[0][1], name)),), st)
                    if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
                        below = None
                except FileNotFoundError:
                    below = None
            else:
                below = stack.child(old.parts, name)
            shown: Found | None
            own = None
            now = None if special else os.stat(name, dir_fd=fd, follow_symlinks=False)
            same: bool | None = None
            if now is None:
                plain = False
            elif stat.S_ISREG(now.st_mode):
                size = st.st_size if single and below is not None and stat.S_ISREG(st.st_mode) else -1
                own, same = _look(fd, below_fd, name, now.st_size, size)
                plain = not own or not any(mark.startswith(PREFIXES) for mark in own)
            else:
                plain = stat.S_ISLNK(now.st_mode)
            if plain and now is not None:
                shown = Found(((0, join(above, name)),), now)
            else:
                same = None
                shown, own = stack.child(new.parts, name), None
            self._compare(path, shown, below, pending, own, same)

    def _compare(
        self,
        path: bytes,
        new: Found | None,
        old: Found | None,
        pending: list[_Visit],
        own: list[str] | None = None,
        same: bool | None = None,
    ) -> None:
        """`own`: names of the new file's attributes; `same`: whether it has the old content; if these are
        known already."""
        if new is None and old is None:
            return
        if new is not None and old is not None and new.parts == old.parts and new.data == old.data:
            return  # the same object
        if (new and new.is_directory) or (old and old.is_directory):
            directory = new if new and new.is_directory else None
            pending.append(_Visit(path, directory, old if old and old.is_directory else None))
        if new is None:
            self.found.append(Change(path, Kind.DELETED, None, old))
            return
        index: int | None = len(self.found)
        if old is None:
            self.found.append(Change(path, Kind.ADDED, new, None, covers=new.is_directory))
        elif not same_type(new.st, old.st):
            self.found.append(Change(path, Kind.TYPE, new, old))
        elif new.is_directory:
            return  # when it is gone through
        elif not (self._same_content(new, old) if same is None else same):
            self.found.append(Change(path, Kind.MODIFIED, new, old, self._cheap_attributes(new, old)))
        elif attributes := self._attributes(new, old, own):
            self.found.append(Change(path, Kind.METADATA, new, old, attributes))
        else:
            index = None
        if new.st.st_nlink > 1 and stat.S_ISREG(new.st.st_mode):
            key = (new.top[0], new.st.st_dev, new.st.st_ino)
            self._linked.setdefault(key, []).append((path, new, old, index))

    def _same_content(self, new: Found, old: Found) -> bool:
        try:
            return same_content(self.stack, new, old)
        except (PermissionError, FileNotFoundError):
            return False  # what may not be read is not known to be the same

    def _directory_itself(self, visit: _Visit) -> None:
        new, old = visit.new, visit.old
        if new is None or old is None or new.top == old.top:
            return
        attributes = tuple(name for name in self._attributes(new, old, None) if name != "times")
        if attributes:
            covers = visit.path in self.covering
            self.found.append(Change(visit.path, Kind.METADATA, new, old, attributes, covers=covers))

    def _cheap_attributes(self, new: Found, old: Found) -> tuple[str, ...]:
        found = []
        if not stat.S_ISLNK(new.st.st_mode) and new.st.st_mode != old.st.st_mode:
            found.append("mode")
        if self.owner_changed(new.st, old.st):
            found.append("owner")
        return tuple(found)

    def owner_changed(self, new: os.stat_result, old: os.stat_result) -> bool:
        if self.owner != 0 and (old.st_uid != self.owner or new.st_uid != self.owner):
            return False
        return (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid)

    def _attributes(self, new: Found, old: Found, own: list[str] | None) -> tuple[str, ...]:
        found = list(self._cheap_attributes(new, old))
        if new.st.st_mtime_ns != old.st.st_mtime_ns:
            found.append("times")
        if not self._same_xattrs(new.top, old.top, own):
            found.append("xattrs")
        return tuple(found)

    def _same_xattrs(self, new: Part, old: Part, own: list[str] | None) -> bool:
        new_path, old_path = self.proc(new), self.proc(old)
        names = xattr_names(os.listxattr(new_path, follow_symlinks=False) if own is None else own)
        if names != xattr_names(os.listxattr(old_path, follow_symlinks=False)):
            return False
        return not names or xattrs(new_path) == xattrs(old_path)

    def proc(self, part: Part) -> bytes:
        """A path for calls on extended attributes, good for now."""
        root = self.stack.levels[part[0]].root
        return root.proc(part[1]) if part[1] else root.root

    def _join_links(self) -> None:
        """Names of one file in the layer. That some were not, below, is a change of those too."""
        for members in self._linked.values():
            if len(members) < 2:
                continue
            below = {(old.st.st_dev, old.st.st_ino) if old else None for _, _, old, _ in members}
            paths = sorted(path for path, *_ in members)
            for path, new, old, index in members:
                others = tuple(other for other in paths if other != path)
                if index is not None:
                    self.found[index].links = others
                elif len(below) > 1:
                    self.found.append(Change(path, Kind.METADATA, new, old, ("links",), others))


def _look(one: int, other: int, name: bytes, size: int, other_size: int) -> tuple[list[str], bool | None]:
    """Of a regular file in a directory the names of its attributes, and whether one of that name in another
    directory has the same content; `other_size` -1: there is none.
    """
    try:
        first = os.open(name, _READ, dir_fd=one) if size == other_size > 0 else -1
    except (PermissionError, FileNotFoundError):
        first = -1
    if first < 0:
        own = os.listxattr(b"/proc/self/fd/%d/%s" % (one, name), follow_symlinks=False)
        # What may not be read is not known to be the same.
        return own, None if other_size < 0 else size == other_size == 0
    try:
        return os.listxattr(first), _same_files(first, other, name, size)
    finally:
        os.close(first)


def _same_files(first: int, other: int, name: bytes, size: int) -> bool:
    try:
        second = os.open(name, _READ, dir_fd=other)
    except (PermissionError, FileNotFoundError):
        return False
    try:
        return same_file_bytes(first, second, size)
    finally:
        os.close(second)


def _all_parts(new: Found | None, old: Found | None) -> Iterable[Part]:
    return dict.fromkeys((*(new.parts if new else ()), *(old.parts if old else ())))


def _level(upper: bytes, directory: bytes) -> Level:
    """A layer's changed tree. One without a book of origins may have been made by fuse-overlayfs."""
    return Level(Beneath(upper), True, not os.path.lexists(os.path.join(directory, b"origins")))
