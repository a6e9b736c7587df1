"""The first half of a commit: all that is to be put in place is made ready under temporary names, beside its
place, and goes to the disk. No name of the real tree changes, so everything can be taken back."""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping

from vuosd.layers import kernel
from vuosd.layers.attributes import Attributes, give
from vuosd.layers.beneath import Beneath, parent_of
from vuosd.layers.copying import copy
from vuosd.layers.overlay import PREFIXES
from vuosd.layers.steps import Action, Source, Step, TreePlan

_FEW = 32  # files that are sent to the disk one by one; beyond, their file system at once is quicker


def stage(plan: TreePlan) -> dict[int, int]:
    """The inode numbers of what was made, by step. OSError, with the path as file name: undo() then."""
    inodes: dict[int, int] = {}
    with Beneath(plan.root) as root:
        for path, mode in plan.opened:
            give(root, path, Attributes(mode=mode | 0o700))
        placing = [step for step in plan.steps if step.action is Action.PLACE]
        for number, step in enumerate(plan.steps):
            if step.action is not Action.PLACE or step.source is None:
                continue
            try:
                _make(root, step, step.source, placing)
                st = root.lstat(step.temporary)
            except OSError as error:
                raise OSError(error.errno, error.strerror, os.path.join(plan.root, step.path)) from error
            if st is None:
                raise FileNotFoundError(errno.ENOENT, "the temporary file has been removed", step.temporary)
            inodes[number] = st.st_ino
        files = [step.temporary for step in placing if step.source and stat.S_ISREG(step.source.mode)]
        sync(root, files, {parent_of(step.temporary) for step in placing})
    return inodes


def _make(root: Beneath, step: Step, source: Source, placing: list[Step]) -> None:
    fd, name = root.place(step.temporary)
    if source.same_as is not None and _link(root, placing[source.same_as].temporary, fd, name):
        return
    with Beneath(source.root) as tree:
        if source.own and _link_own(tree, source.path, fd, name):
            return
        _make_new(tree, source, fd, name)
    if step.give is not None:
        give(root, step.temporary, step.give)


def _make_new(tree: Beneath, source: Source, fd: int, name: bytes) -> None:
    kind = stat.S_IFMT(source.mode)
    if kind == stat.S_IFREG:
        into = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd)
        try:
            content = tree.open(source.path, os.O_RDONLY)
            try:
                copy(content, into)
            finally:
                os.close(content)
        finally:
            os.close(into)
    elif kind == stat.S_IFLNK:
        above, last = tree.place(source.path)
        os.symlink(os.readlink(last, dir_fd=above), name, dir_fd=fd)
    else:
        os.mknod(name, kind | 0o600, source.device, dir_fd=fd)


def _link(root: Beneath, path: bytes, fd: int, name: bytes) -> bool:
    above, last = root.place(path)
    try:
        os.link(last, name, src_dir_fd=above, dst_dir_fd=fd, follow_symlinks=False)
    except OSError as error:
        # No links in that file system, or no more, or not across this mount, or not to this user's file.
        if error.errno in (errno.EPERM, errno.EMLINK, errno.EXDEV, errno.EOPNOTSUPP, errno.EACCES):
            return False
        raise
    return True


def _link_own(tree: Beneath, path: bytes, fd: int, name: bytes) -> bool:
    """The layer's own file, on one file system with the place: it need not be copied, as it leaves the layer.

    Without the overlay's marks, and not where it would bring a label that belongs to the layer's directory.
    """
    proc = tree.proc(path)
    names = os.listxattr(proc, follow_symlinks=False)
    if "security.selinux" in names or not _link(tree, path, fd, name):
        return False
    for mark in names:
        if mark.startswith(PREFIXES):
            os.removexattr(proc, mark, follow_symlinks=False)
    return True


def sync(root: Beneath, files: Iterable[bytes], directories: Iterable[bytes]) -> None:
    """To the disk: files, and the entries of directories. OSError."""
    paths, above = list(files), sorted(set(directories))
    if len(paths) + len(above) > _FEW:
        devices: dict[int, bytes] = {}
        for path in above:
            devices.setdefault(os.fstat(root.directory(path)).st_dev, path)
        for path in devices.values():
            _each(root, path, kernel.syncfs)
        return
    for path in paths:
        fd = _readable(root, path)
        if fd is None:
            continue
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    for path in above:
        _each(root, path, os.fsync)


def _readable(root: Beneath, path: bytes) -> int | None:
    """Descriptor of a file whose mode may not let us read it; then its file system is synced instead."""
    for flags in (os.O_RDONLY, os.O_WRONLY):
        try:
            return root.open(path, flags)
        except PermissionError:
            continue
    _each(root, parent_of(path), kernel.syncfs)
    return None


def _each(root: Beneath, path: bytes, call: Callable[[int], None]) -> None:
    try:
        fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root.directory(path))
    except PermissionError:
        os.sync()  # a directory that may be written and not read
        return
    try:
        call(fd)
    finally:
        os.close(fd)


def undo(plan: TreePlan) -> None:
    """Take back what stage() made, as far as it got. OSError."""
    with Beneath(plan.root) as root:
        remove_temporaries(root, plan, None)
        for path, mode in plan.opened:
            if root.lstat(path) is not None:
                give(root, path, Attributes(mode=mode))


def remove_temporaries(root: Beneath, plan: TreePlan, inodes: Mapping[int, int] | None) -> None:
    """Those that are what was made ready (`inodes`; None: any). Another would be somebody's, moved aside."""
    for number, step in enumerate(plan.steps):
        if step.action is not Action.PLACE:
            continue
        st = root.lstat(step.temporary)
        if st is not None and (inodes is None or inodes.get(number) == st.st_ino):
            fd, name = root.place(step.temporary)
            os.unlink(name, dir_fd=fd)
