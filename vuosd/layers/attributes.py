"""The attributes of one object: taken from one, given to another."""

import errno
import os
import stat

import msgspec

from vuosd.layers.beneath import Beneath
from vuosd.layers.compare import xattr_names

# Given by the system to where a file lies; and what only the system may give.
_NOT_OURS = ("security.selinux", "security.ima", "security.evm")


class Attributes(msgspec.Struct, frozen=True, array_like=True):
    """What to give. None: leave it as it is. `times`: of access and of change, in nanoseconds."""

    mode: int | None = None
    owner: tuple[int, int] | None = None
    times: tuple[int, int] | None = None
    xattrs: dict[str, bytes] | None = None


def give(root: Beneath, path: bytes, wanted: Attributes) -> None:
    """To what lies at `path`, also a symbolic link. OSError; an owner that may not be given is left, and then
    the set-id bits are not given either."""
    fd, name = root.place(path)
    link = stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    mode = wanted.mode
    if wanted.owner is not None and not _give_owner(fd, name, wanted.owner) and mode is not None:
        mode &= ~(stat.S_ISUID | stat.S_ISGID) if not _is_directory(fd, name) else ~0
    if wanted.xattrs is not None:
        _give_xattrs(root.proc(path) if path else root.root, wanted.xattrs)
    if mode is not None and not link:
        # After the owner, as chown(2) takes set-id bits away, and after the access list, whose mask it sets.
        _chmod(fd, name, mode)
    if wanted.times is not None:
        os.utime(name, ns=wanted.times, dir_fd=fd, follow_symlinks=False)


def _is_directory(fd: int, name: bytes) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)


def _give_owner(fd: int, name: bytes, owner: tuple[int, int]) -> bool:
    """Whether it now belongs to them."""
    st = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if (st.st_uid, st.st_gid) == owner:
        return True
    try:
        os.chown(name, *owner, dir_fd=fd, follow_symlinks=False)
        return True
    except PermissionError:
        pass
    try:
        os.chown(name, -1, owner[1], dir_fd=fd, follow_symlinks=False)
    except PermissionError:
        pass
    return False


def _give_xattrs(proc: bytes, wanted: dict[str, bytes]) -> None:
    try:
        names = os.listxattr(proc, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP and not wanted:
            return
        raise
    for name in xattr_names(names):
        if name not in wanted and not name.startswith(_NOT_OURS):
            os.removexattr(proc, name, follow_symlinks=False)
    for name, value in wanted.items():
        if not name.startswith(_NOT_OURS):
            os.setxattr(proc, name, value, follow_symlinks=False)


def _chmod(fd: int, name: bytes, mode: int) -> None:
    """Of no link: through an O_PATH descriptor, as fchmodat(2) follows them."""
    own = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        os.chmod(b"/proc/self/fd/%d" % own, stat.S_IMODE(mode))
    finally:
        os.close(own)
