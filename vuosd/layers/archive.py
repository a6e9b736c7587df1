"""A layer as an OCI image layer: a tar archive of what is new or changed, with empty files that say what is
gone: .wh.NAME, and .wh..wh..opq in a directory for all that the layers below have in it.

https://github.com/opencontainers/image-spec/blob/main/layer.md. The same tree gives the same bytes: sorted,
and with nothing in it that the tree does not say.
"""

import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from typing import IO

from vuosd.layers.beneath import ancestors, join
from vuosd.layers.changes import Change, Comparison
from vuosd.layers.compare import link_text, open_part, xattrs
from vuosd.layers.errors import LayerError, name_of
from vuosd.layers.overlay import OPAQUE_FILE, WHITEOUT_FILE, Found

_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}
_BILLION = 1_000_000_000


def write(trees: Sequence[tuple[bytes, Comparison]], file: IO[bytes]) -> list[bytes]:
    """All trees, each below its own path (b"", or like b"dir/dir"), into one archive.

    Returns the sockets, which an archive cannot hold. LayerError: a name that begins with .wh. OSError.
    """
    left_out: list[bytes] = []
    with tarfile.open(  # it does not close `file`
        fileobj=file, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for prefix, comparison in trees:
            _Writer(archive, prefix, comparison, left_out).write()
    return left_out


class _Writer:
    def __init__(
        self, archive: tarfile.TarFile, prefix: bytes, comparison: Comparison, left_out: list[bytes]
    ) -> None:
        self._archive, self._prefix, self._comparison = archive, prefix, comparison
        self._stack = comparison.stack
        self._left_out = left_out
        self._written: set[bytes] = set()
        self._linked: dict[tuple[int, int, int], bytes] = {}

    def write(self) -> None:
        changes = self._comparison.changes()
        covering = self._comparison.covering
        gone: set[bytes] = set()
        todo: dict[bytes, Change | None] = {change.path: change for change in changes}
        todo.update(dict.fromkeys(covering))
        for path in sorted(todo, key=lambda path: path.split(b"/") if path else []):
            above = ancestors(path)
            if any(directory in gone or directory in covering for directory in above):
                continue  # it went with that, or was written with it
            if b"" in covering and path:
                continue
            change = todo[path]
            for directory in above:
                self._object(directory, self._stack.lookup(directory))
            if path in covering:
                self._whole(path)
            elif change is not None and change.new is None:
                gone.add(path)
                self._mark(path.rpartition(b"/")[0], WHITEOUT_FILE + path.rpartition(b"/")[2])
            elif change is not None:
                self._object(path, change.new)
                if change.old is not None and change.old.is_directory and not change.is_directory:
                    gone.add(path)

    def _whole(self, top: bytes) -> None:
        """A directory of which nothing below it shows."""
        for path, found in self._tree(top):
            self._object(path, found)
            if path == top:
                self._mark(path, OPAQUE_FILE)

    def _tree(self, top: bytes) -> Iterator[tuple[bytes, Found]]:
        pending = [(top, self._stack.lookup(top))]
        while pending:
            path, found = pending.pop()
            if found is None:
                continue
            yield path, found
            if found.is_directory:
                names = {name for part in found.parts for name in self._stack.names(part)}
                for name in sorted(names, reverse=True):
                    pending.append((join(path, name), self._stack.child(found.parts, name)))

    def _name(self, path: bytes) -> str:
        full = join(self._prefix, path) if path else self._prefix or b"."
        return full.decode("utf-8", "surrogateescape")

    def _mark(self, directory: bytes, name: bytes) -> None:
        info = tarfile.TarInfo(self._name(join(directory, name)))
        info.mode = 0
        self._archive.addfile(info)

    def _object(self, path: bytes, found: Found | None) -> None:
        if found is None or path in self._written:
            return
        self._written.add(path)
        if any(name.startswith(WHITEOUT_FILE) for name in path.split(b"/")):
            raise LayerError(
                f"{name_of(join(self._prefix, path))} cannot be exported: in an OCI layer a name that begins "
                f"with {WHITEOUT_FILE.decode()} says that something is deleted"
            )
        if stat.S_ISSOCK(found.st.st_mode):
            self._left_out.append(join(self._prefix, path))
            return
        info = self._info(path, found)
        key = (found.top[0], found.st.st_dev, found.st.st_ino)
        if found.st.st_nlink > 1 and not found.is_directory and key in self._linked:
            info.type, info.linkname, info.pax_headers = tarfile.LNKTYPE, self._name(self._linked[key]), {}
            self._archive.addfile(info)
            return
        self._linked[key] = path
        if not stat.S_ISREG(found.st.st_mode):
            self._archive.addfile(info)
            return
        with open(open_part(self._stack, found.content), "rb") as content:
            info.size = os.fstat(content.fileno()).st_size
            self._archive.addfile(info, content)

    def _info(self, path: bytes, found: Found) -> tarfile.TarInfo:
        st = found.st
        info = tarfile.TarInfo(self._name(path))
        info.pax_headers = records = dict[str, str]()
        info.type = _TYPES[stat.S_IFMT(st.st_mode)]
        info.mode = stat.S_IMODE(st.st_mode)
        info.uid, info.gid = self._owner(path, found)
        info.mtime = st.st_mtime_ns // _BILLION
        if st.st_mtime_ns % _BILLION:
            seconds, rest = divmod(abs(st.st_mtime_ns), _BILLION)
            sign = "-" if st.st_mtime_ns < 0 else ""
            records["mtime"] = f"{sign}{seconds}.{rest:09d}".rstrip("0")
        if stat.S_ISLNK(st.st_mode):
            info.linkname = link_text(self._stack, found.top).decode("utf-8", "surrogateescape")
        if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            info.devmajor, info.devminor = os.major(st.st_rdev), os.minor(st.st_rdev)
        for name, value in sorted(xattrs(self._comparison.proc(found.top)).items()):
            records[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")
        return info

    def _owner(self, path: bytes, found: Found) -> tuple[int, int]:
        """That of what is below, where an ordinary user's layer could not keep it: see changes.py."""
        old = self._stack.lookup(path, self._comparison.first_lower) if self._comparison.owner else None
        if old is not None and not self._comparison.owner_changed(found.st, old.st):
            return old.st.st_uid, old.st.st_gid
        return found.st.st_uid, found.st.st_gid
