"""Make a changed tree that another program has written one that runs can go on in.

The engine knows whiteouts and the marks of "user.overlay.". fuse-overlayfs' files (.wh.NAME, .wh..wh..opq),
the marks of "trusted.overlay." and "user.fuseoverlayfs.", and files without their data (metacopy) are put
into that form, once. The book of origins, whose absence tells such a tree, is written last: what is cut
short is done again.
"""

import os
import stat

from vuosd.layers import origins
from vuosd.layers.beneath import Beneath, join
from vuosd.layers.errors import LayerError, name_of, reason
from vuosd.layers.origins import Origin
from vuosd.layers.overlay import OPAQUE_FILE, PREFIXES, WHITEOUT_FILE, Level, Stack, marks_of
from vuosd.layers.store import Tree

_OURS = "user.overlay."


def adopt(tree: Tree, created: int) -> None:
    """Of a tree without a book. The layer is locked.

    created: ns since the epoch. What lies below and has not changed since is taken for what the layer was
    made from. LayerError.
    """
    if os.path.lexists(tree.origins) or tree.system:
        return
    levels = [Level(Beneath(tree.upper), True, True)]
    try:
        levels += [Level(Beneath(lower), n < tree.parents) for n, lower in enumerate(tree.lowers)]
        _adopt(tree, Stack(levels), created)
    except OSError as error:
        where = name_of(os.fsencode(error.filename)) if isinstance(error.filename, str | bytes) else ""
        raise LayerError(
            f"cannot go on in {name_of(tree.upper)}, which another program has made: {where} {reason(error)}"
        ) from None
    finally:
        for level in levels:
            level.root.close()


def _adopt(tree: Tree, stack: Stack, created: int) -> None:
    book: dict[bytes, Origin] = {}
    # From below: a mark of a directory that has moved leads to what is below it.
    for top, directories, files, fd in os.fwalk(tree.upper, topdown=False, onerror=_raise):
        here = os.path.relpath(top, tree.upper) if top != tree.upper else b""
        for name in (*directories, *files):
            path = join(here, name)
            below = stack.lookup(path, 1)
            if below is not None and below.st.st_ctime_ns <= created:
                book[path] = _origin(below.st)
        for name in files:
            _complete(stack, join(here, name), fd, name)
        _directory(fd, set(files), set(directories))
    origins.write(tree.origins, book)


def _raise(error: OSError) -> None:
    raise error


def _origin(st: os.stat_result) -> Origin:
    return Origin(st.st_dev, st.st_ino, st.st_mode, st.st_size, st.st_mtime_ns, st.st_ctime_ns)


def _directory(fd: int, files: set[bytes], directories: set[bytes]) -> None:
    before = os.fstat(fd)
    marks = marks_of(b"/proc/self/fd/%d/." % fd)
    opaque = marks.opaque or OPAQUE_FILE in files
    if opaque:
        os.setxattr(fd, _OURS + "opaque", b"y")
    if marks.redirect is not None:
        os.setxattr(fd, _OURS + "redirect", marks.redirect)
    for prefix in PREFIXES[1:]:
        for of in {prefix + "opaque", prefix + "redirect"}.intersection(os.listxattr(fd)):
            os.removexattr(fd, of)
    for mark in sorted(name for name in files if name.startswith(WHITEOUT_FILE)):
        gone = mark.removeprefix(WHITEOUT_FILE)
        if mark != OPAQUE_FILE and not opaque and gone not in files | directories:
            _whiteout(fd, gone)
        os.unlink(mark, dir_fd=fd)
    os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))


def _whiteout(fd: int, name: bytes) -> None:
    try:
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=fd)
    except PermissionError:
        file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=fd)
        try:
            os.setxattr(file, _OURS + "whiteout", b"y")
            os.setxattr(fd, _OURS + "opaque", b"x")
        finally:
            os.close(file)


def _complete(stack: Stack, path: bytes, fd: int, name: bytes) -> None:
    """A file whose data is still that of a tree below."""
    st = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if not stat.S_ISREG(st.st_mode):
        return
    own = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        proc = b"/proc/self/fd/%d" % own
        marks = _followed(proc)
        found = stack.lookup(path) if marks else None
        if not marks or found is None or found.data is None:
            return
        level, source = found.data
        with open(stack.levels[level].root.proc(source), "rb") as data, open(proc, "r+b") as into:
            while os.copy_file_range(data.fileno(), into.fileno(), 1 << 30):
                pass
            os.fsync(into.fileno())
        for mark in marks:
            os.removexattr(proc, mark)
        os.utime(proc, ns=(st.st_atime_ns, st.st_mtime_ns))
    finally:
        os.close(own)


def _followed(path: bytes) -> list[str]:
    """The marks by which a file says that its data is elsewhere."""
    return [name for name in os.listxattr(path) if name.endswith((".overlay.metacopy", ".overlay.redirect"))]
