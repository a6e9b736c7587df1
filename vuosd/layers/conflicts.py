"""Whether what a commit would overwrite or remove is what the layer was made from.

The book of origins has, of each object that the layer took the place of, type, mode, size, inode number and
times. Where they are the same, so is the object. The time of the last status change alone does not count: a
backup by hard links changes it of everything. (Nor do the numbers of what a file system's server has: they
may be others each time that it is mounted.) Where a file was perhaps only touched, or put there anew, its
content decides: the same as the layer's is no conflict, as nothing would be lost.

A path without a record: nothing was there. Only below a directory that was removed or made anew as a whole
may things have been that the book does not name; those may not have changed since. Likewise everything, in a
layer that has no book.
"""

import os
import stat
from collections.abc import Mapping

from vuosd.layers.beneath import ancestors
from vuosd.layers.changes import Change, Comparison, Kind
from vuosd.layers.compare import link_text, open_part, same_file_bytes
from vuosd.layers.origins import Origin
from vuosd.layers.overlay import Found, Part

Books = list[Mapping[bytes, Origin] | None]


class Judge:
    """Of one tree. books: the layer's own, then its parents'; created: ns, of the oldest of them."""

    def __init__(self, comparison: Comparison, books: Books, created: int) -> None:
        self._comparison, self._books, self._created = comparison, books, created
        self._stack = comparison.stack
        self._numbered = not comparison.tree.system

    def origin(self, path: bytes) -> Origin | None:
        """What the oldest layer that changed it has noted."""
        for number in reversed(range(len(self._books))):
            book = self._books[number] or {}
            if path in book:
                return book[path]
            if number and self._stack.levels[number].root.lstat(path) is not None:
                return None
        return None

    def conflict(self, change: Change, now: os.stat_result | None, level: int) -> str | None:
        """What is the matter with committing this change upon what is `now` there, in the real tree that is
        known by its level; or None. OSError.
        """
        origin, new = self.origin(change.path), change.new
        if now is None:
            return "has been removed there since" if origin and new is not None else None
        if new is not None and new.is_directory and stat.S_ISDIR(now.st_mode):
            return _attributes_conflict(change, now, origin)
        if origin is None:
            return self._without_record(change, now, level)
        if stat.S_IFMT(origin.mode) != stat.S_IFMT(now.st_mode):
            same = self._same(new, now, (level, change.path))
            return None if same else "has become another type of file there"
        if stat.S_ISDIR(now.st_mode):
            return None  # what is in it is judged one by one
        if change.kind is Kind.METADATA:
            return _attributes_conflict(change, now, origin)
        differences = [
            name
            for name, one, other in (
                ("size", origin.size, now.st_size),
                ("time", origin.mtime_ns, now.st_mtime_ns),
                ("inode", (origin.dev, origin.ino), (now.st_dev, now.st_ino)),
                ("mode", origin.mode, now.st_mode),
            )
            if one != other and (name != "inode" or self._numbered)
        ]
        if not differences or self._same(new, now, (level, change.path)):
            return None
        return f"has been changed there since ({', '.join(differences)})"

    def _without_record(self, change: Change, now: os.stat_result, level: int) -> str | None:
        since = self._taken(change.path)
        if since is not None and now.st_ctime_ns <= since:
            return None
        if self._same(change.new, now, (level, change.path)):
            return None
        if all(book is None for book in self._books):
            return "is not known to be what the layer was made from: it has changed since, or is new"
        return "has been made there since" if since is None else "has been made or changed there since"

    def _taken(self, path: bytes) -> int | None:
        """Since when (ns) what was at `path` is gone with a directory above it, if that is so; for a layer
        without a book, since when it exists."""
        if all(book is None for book in self._books):
            return self._created
        for above in (path, *reversed(ancestors(path)), b""):
            found = self._top(above)
            if found is None:
                continue
            level, st = found
            if stat.S_ISDIR(st.st_mode):
                if self._stack.marks((level, above)).opaque:
                    return self._created
            elif stat.S_ISCHR(st.st_mode) and st.st_nlink == 1 and len(self._books) == 1:
                return st.st_ctime_ns  # a whiteout with one name: made when it was last changed
            elif above != path or stat.S_ISCHR(st.st_mode):
                return self._created
        return None

    def _top(self, path: bytes) -> tuple[int, os.stat_result] | None:
        for level in range(len(self._books)):
            st = self._stack.levels[level].root.lstat(path)
            if st is not None:
                return level, st
        return None

    def _same(self, new: Found | None, now: os.stat_result, there: Part) -> bool:
        """Whether the real tree has what the layer would put there."""
        if new is None or stat.S_IFMT(new.st.st_mode) != stat.S_IFMT(now.st_mode):
            return False
        if stat.S_ISLNK(now.st_mode):
            return link_text(self._stack, new.top) == link_text(self._stack, there)
        if not stat.S_ISREG(now.st_mode):
            return new.st.st_rdev == now.st_rdev
        if new.st.st_size != now.st_size:
            return False
        first = open_part(self._stack, new.content)
        try:
            second = open_part(self._stack, there)
            try:
                return same_file_bytes(first, second, now.st_size)
            finally:
                os.close(second)
        except PermissionError:
            return False
        finally:
            os.close(first)


def _attributes_conflict(change: Change, now: os.stat_result, origin: Origin | None) -> str | None:
    if "mode" not in change.attributes or origin is None or origin.mode == now.st_mode:
        return None
    return "its mode has been changed there since"
