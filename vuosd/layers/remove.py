"""Remove a tree of our own, however deep, and though its directories may be closed to us."""

import os
import stat

from vuosd.layers.beneath import Beneath, join, parent_of


def empty_directory(path: bytes) -> None:
    """Everything in it. OSError."""
    with Beneath(path) as root:
        _empty(root, b"")


def remove_tree(path: bytes) -> None:
    """A directory and everything in it. OSError; FileNotFoundError is none."""
    try:
        empty_directory(path)
        os.rmdir(path)
    except FileNotFoundError:
        pass


def _empty(root: Beneath, top: bytes) -> None:
    pending = [top]
    while pending:
        path = pending[-1]
        below = []
        for name in _names(root, path):
            parent = root.directory(path)
            try:
                os.unlink(name, dir_fd=parent)
            except IsADirectoryError:
                below.append(join(path, name))
            except PermissionError:
                # The directory may not be written; or this is one, and the file system says EPERM for that.
                _allow(root, path)
                if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                    below.append(join(path, name))
                else:
                    os.unlink(name, dir_fd=parent)
        if below:
            pending += below
            continue
        pending.pop()
        if path != top:
            name = path.rpartition(b"/")[2]
            parent = root.directory(parent_of(path))
            try:
                os.rmdir(name, dir_fd=parent)
            except PermissionError:
                _allow(root, parent_of(path))
                os.rmdir(name, dir_fd=parent)


def _names(root: Beneath, path: bytes) -> list[bytes]:
    try:
        return root.names(path)
    except PermissionError:
        _allow(root, path)
        return root.names(path)


def _allow(root: Beneath, path: bytes) -> None:
    os.chmod(b"/proc/self/fd/%d" % root.directory(path), 0o700)
