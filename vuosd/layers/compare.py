"""Whether two objects are the same: their content, and each of their attributes."""

import os
import stat
from collections.abc import Sequence

from vuosd.layers.overlay import PREFIXES, Found, Part, Stack

_CHUNK = 1 << 18
# A label is made by where a file lies, and is set anew there.
_NOT_COMPARED = (*PREFIXES, "security.selinux")


def xattr_names(names: Sequence[str]) -> list[str]:
    """Those that are the file's own, not the overlay's."""
    return sorted(name for name in names if not name.startswith(_NOT_COMPARED)) if names else []


def xattrs(path: bytes) -> dict[str, bytes]:
    """A file's own, by name; the path is not followed. OSError."""
    names = xattr_names(os.listxattr(path, follow_symlinks=False))
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def same_type(one: os.stat_result, other: os.stat_result) -> bool:
    return stat.S_IFMT(one.st_mode) == stat.S_IFMT(other.st_mode)


def same_content(stack: Stack, new: Found, old: Found) -> bool:
    """Of two objects of one type; directories, pipes and sockets have none. OSError."""
    mode = new.st.st_mode
    if stat.S_ISREG(mode):
        if new.st.st_size != old.st.st_size:
            return False
        return new.st.st_size == 0 or same_bytes(stack, new.content, old.content, new.st.st_size)
    if stat.S_ISLNK(mode):
        return link_text(stack, new.top) == link_text(stack, old.top)
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return new.st.st_rdev == old.st.st_rdev
    return True


def link_text(stack: Stack, part: Part) -> bytes:
    fd, name = stack.levels[part[0]].root.place(part[1])
    return os.readlink(name, dir_fd=fd)


def open_part(stack: Stack, part: Part) -> int:
    """A regular file's content, to be read: a descriptor of the caller's. OSError."""
    # Not to be caught by a pipe that took the file's place.
    return stack.levels[part[0]].root.open(part[1], os.O_RDONLY | os.O_NONBLOCK)


def same_bytes(stack: Stack, one: Part, other: Part, size: int) -> bool:
    """Of two files that are as long as one another, `size` bytes. OSError."""
    if one == other:
        return True
    first = open_part(stack, one)
    try:
        second = open_part(stack, other)
        try:
            return same_file_bytes(first, second, size)
        finally:
            os.close(second)
    finally:
        os.close(first)


def same_file_bytes(first: int, second: int, size: int) -> bool:
    """The next `size` bytes of two descriptors. A file that is cut short meanwhile differs, or is done."""
    while size > 0:
        wanted = min(size, _CHUNK)  # a buffer of that size is made
        chunk = os.read(first, wanted)
        if chunk != os.read(second, wanted):
            return False
        if not chunk:
            break
        size -= len(chunk)
    return True
