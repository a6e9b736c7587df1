"""Landlock's interface as data: include/uapi/linux/landlock.h. No I/O."""

import enum
import struct

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1

RULESET_ATTR = struct.Struct("=QQQ")
"""handled_access_fs, handled_access_net, scoped"""
PATH_BENEATH_ATTR = struct.Struct("=Qi")
"""allowed_access, parent_fd"""

SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1, 2


class Access(enum.IntFlag):
    """LANDLOCK_ACCESS_FS_*: what a rule allows on a file, or on all that lies beneath a directory."""

    EXECUTE = enum.auto()
    WRITE_FILE = enum.auto()
    READ_FILE = enum.auto()
    READ_DIR = enum.auto()
    REMOVE_DIR = enum.auto()
    REMOVE_FILE = enum.auto()
    MAKE_CHAR = enum.auto()
    MAKE_DIR = enum.auto()
    MAKE_REG = enum.auto()
    MAKE_SOCK = enum.auto()
    MAKE_FIFO = enum.auto()
    MAKE_BLOCK = enum.auto()
    MAKE_SYM = enum.auto()
    REFER = enum.auto()
    """Since ABI 2."""
    TRUNCATE = enum.auto()
    """Since ABI 3."""
    IOCTL_DEV = enum.auto()
    """Since ABI 5."""


ALL = ~Access(0)
FILE = Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV
"""What a rule on anything but a directory may hold; the rest is EINVAL there."""
READ = Access.EXECUTE | Access.READ_FILE | Access.READ_DIR
DEVICE = Access.READ_FILE | Access.READ_DIR | Access.WRITE_FILE | Access.IOCTL_DEV
"""A device is written and controlled on a read-only mount too: that protects files only (do_dentry_open in
fs/open.c)."""
WRITE = (
    READ | Access.WRITE_FILE | Access.TRUNCATE | Access.REMOVE_DIR | Access.REMOVE_FILE | Access.MAKE_DIR
    | Access.MAKE_REG | Access.MAKE_SOCK | Access.MAKE_FIFO | Access.MAKE_SYM | Access.REFER
)  # fmt: skip
"""… and changed, without devices."""

_SINCE = ((2, Access.REFER), (3, Access.TRUNCATE), (5, Access.IOCTL_DEV))


def known(abi: int) -> Access:
    """What a kernel of this ABI (> 0) has a word for: only that can be handled and allowed."""
    found = ALL
    for since, access in _SINCE:
        if abi < since:
            found &= ~access
    return found


def scopes(abi: int) -> int:
    """What it can keep in the domain; before ABI 6, nothing."""
    return SCOPE_SIGNAL | SCOPE_ABSTRACT_UNIX_SOCKET if abi >= 6 else 0
