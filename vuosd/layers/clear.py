"""Take out of a layer what has been committed, so that the real tree shows in its place."""

import errno
import os
import stat
from collections.abc import Callable, Collection, Sequence

from vuosd.layers import origins
from vuosd.layers.beneath import Beneath, ancestors, join, parent_of
from vuosd.layers.origins import Origin
from vuosd.layers.overlay import OPAQUE_FILE, WHITEOUT_FILE, marks_of
from vuosd.layers.record import sync_directory
from vuosd.layers.remove import empty_directory
from vuosd.layers.steps import TreePlan

Leaves = Callable[[bytes], bool]  # whether the layer will have nothing at this path
_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque", "user.fuseoverlayfs.opaque")


def clear_all(plan: TreePlan) -> None:
    """Nothing is left in the changed tree, and nothing is known of what was below. OSError."""
    upper = os.path.join(plan.directory, b"upper")
    empty_directory(upper)
    for name in os.listxattr(upper):
        if name in _OPAQUE:
            os.removexattr(upper, name)
    _like(upper, plan.root)
    book = os.path.join(plan.directory, b"origins")
    if os.path.lexists(book):
        origins.write(book, {})


def _like(upper: bytes, root: bytes) -> None:
    st = os.stat(root)
    os.chmod(upper, stat.S_IMODE(st.st_mode))
    try:
        os.chown(upper, st.st_uid, st.st_gid)
    except PermissionError:
        pass
    os.utime(upper, ns=(st.st_atime_ns, st.st_mtime_ns))


def clear_some(plan: TreePlan, failed: Collection[bytes], created: int) -> None:
    """What the plan says is to leave, but for what has failed. `created`: ns, when the layer was made.
    OSError."""
    roots, brought = frozenset(plan.roots or [b""]), frozenset(plan.brought)

    def leaves(path: bytes) -> bool:
        if path in failed:
            return False
        if path in brought or path in roots or b"" in roots:
            return True
        return any(above in roots for above in ancestors(path))

    upper = os.path.join(plan.directory, b"upper")
    book_path = os.path.join(plan.directory, b"origins")
    book = origins.read(book_path)
    with Beneath(upper) as tree, Beneath(plan.root) as real:
        noted = dict(book or {})
        _open_up(tree, plan.closed, 0o700)
        _uncover(tree, real, leaves, noted, created, plan.whiteout_files)
        _take_out(tree, real, leaves, plan.whiteout_files)
        _open_up(tree, plan.closed, 0)
    if book is not None:
        origins.write(book_path, {path: record for path, record in noted.items() if not leaves(path)})
    sync_directory(upper)


def _open_up(tree: Beneath, closed: Sequence[tuple[bytes, int]], more: int) -> None:
    for path, mode in closed:
        if _is_directory(tree, path):
            os.chmod(b"/proc/self/fd/%d" % tree.directory(path), mode | more)


def _uncover(
    tree: Beneath,
    real: Beneath,
    leaves: Leaves,
    noted: dict[bytes, Origin],
    created: int,
    whiteout_files: bool,
) -> None:
    """A directory that hides the real one, and from which something leaves, must let that be seen. What it
    hid and still is to hide gets whiteouts, and directories in it hide theirs themselves."""
    pending = [b""]
    while pending:
        directory = pending.pop()
        names = tree.names(directory)
        pending += [path for name in names if _is_directory(tree, path := join(directory, name))]
        opaque = _opaque_marks(tree, directory, names, whiteout_files)
        if not opaque or not _is_directory(real, directory):
            continue
        if leaves(directory) or _leaves_below(tree, directory, leaves):
            by_attribute = _cover_each(tree, real, directory, leaves, noted, created)
            _remove_marks(tree, directory, opaque, "x" if by_attribute else "")


def _cover_each(
    tree: Beneath,
    real: Beneath,
    directory: bytes,
    leaves: Leaves,
    noted: dict[bytes, Origin],
    created: int,
) -> bool:
    """Whether there are whiteouts that are files with a mark."""
    by_attribute = False
    for name in real.names(directory):
        path = join(directory, name)
        in_layer, in_real = tree.lstat(path), real.lstat(path)
        if in_real is None:
            continue
        if in_layer is None:
            if not leaves(path):
                _note(noted, path, in_real, created)
                by_attribute |= _whiteout(tree, path)
        elif stat.S_ISDIR(in_layer.st_mode) and stat.S_ISDIR(in_real.st_mode):
            os.setxattr(_proc(tree, path), "user.overlay.opaque", b"y")
        elif stat.S_ISREG(in_layer.st_mode) and not in_layer.st_size:
            by_attribute |= marks_of(_proc(tree, path)).whiteout
    return by_attribute


def _leaves_below(tree: Beneath, directory: bytes, leaves: Leaves) -> bool:
    pending = [directory]
    while pending:
        path = pending.pop()
        for name in tree.names(path):
            below = join(path, name)
            if leaves(below):
                return True
            if _is_directory(tree, below):
                pending.append(below)
    return False


def _is_directory(tree: Beneath, path: bytes) -> bool:
    st = tree.lstat(path)
    return st is not None and stat.S_ISDIR(st.st_mode)


def _proc(tree: Beneath, path: bytes) -> bytes:
    return tree.proc(path) if path else tree.root


def _opaque_marks(tree: Beneath, path: bytes, names: list[bytes], whiteout_files: bool) -> list[str]:
    proc = _proc(tree, path)
    own = os.listxattr(proc, follow_symlinks=False)
    found = [name for name in own if name in _OPAQUE and marks_of(proc, [name]).opaque]
    if whiteout_files and OPAQUE_FILE in names:
        found.append("")
    return found


def _remove_marks(tree: Beneath, path: bytes, marks: list[str], instead: str) -> None:
    for mark in marks:
        if not mark:
            fd, name = tree.place(join(path, OPAQUE_FILE))
            os.unlink(name, dir_fd=fd)
        elif not instead:
            os.removexattr(_proc(tree, path), mark, follow_symlinks=False)
    if instead:
        os.setxattr(_proc(tree, path), "user.overlay.opaque", instead.encode())
        for mark in marks:
            if mark and mark != "user.overlay.opaque":
                os.removexattr(_proc(tree, path), mark, follow_symlinks=False)


def _note(noted: dict[bytes, Origin], path: bytes, st: os.stat_result, created: int) -> None:
    """What is hidden from now on by its own whiteout: it was there when the layer was made if it has not
    changed since; else nothing is known of it, and no file is as this record says."""
    inode = st.st_ino if st.st_ctime_ns <= created else 0
    numbers = (st.st_mode, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
    noted.setdefault(path, Origin(st.st_dev, inode, *numbers))


def _whiteout(tree: Beneath, path: bytes) -> bool:
    """Make one; whether it had to be a file with a mark, which counts where the directory's mark is "x"."""
    fd, name = tree.place(path)
    try:
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=fd)
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP):
            raise
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd))
    os.setxattr(tree.proc(path), "user.overlay.whiteout", b"", follow_symlinks=False)
    return True


def _take_out(tree: Beneath, real: Beneath, leaves: Leaves, whiteout_files: bool) -> None:
    found: list[tuple[bytes, bool]] = []
    pending = [b""]
    while pending:
        directory = pending.pop()
        for name in tree.names(directory):
            path = join(directory, name)
            is_directory = _is_directory(tree, path)
            stands_for = path
            if whiteout_files and name.startswith(WHITEOUT_FILE):
                stands_for = join(directory, name.removeprefix(WHITEOUT_FILE))
            if is_directory:
                pending.append(path)
            if leaves(stands_for):
                found.append((path, is_directory))
    thinned: set[bytes] = set()
    for path, is_directory in sorted(found, reverse=True):
        thinned.add(parent_of(path))
        fd, name = tree.place(path)
        if not is_directory:
            os.unlink(name, dir_fd=fd)
            continue
        try:
            os.rmdir(name, dir_fd=fd)
            tree.forget()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    for path in thinned:
        # What came and went there has its time in the real tree now: it is no change of the layer's.
        there = real.lstat(path)
        if there is not None and _is_directory(tree, path):
            fd, name = tree.place(path)
            os.utime(name, ns=(there.st_atime_ns, there.st_mtime_ns), dir_fd=fd, follow_symlinks=False)
