"""System calls that Python does not have, and what this process may do."""

import ctypes
import errno
import fcntl
import os

NOREPLACE, EXCHANGE = 1, 2  # RENAME_*: rename(2)
_FICLONE = 0x40049409  # _IOW(0x94, 9, int): ioctl_ficlone(2)
CAP_CHOWN, CAP_FOWNER, CAP_SYS_ADMIN, CAP_MKNOD, CAP_SETFCAP = 0, 3, 21, 27, 31  # capability.h
_AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)
_libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]


def renameat2(old_fd: int, old: bytes, new_fd: int, new: bytes, flags: int) -> None:
    """OSError; EINVAL: the file system does not know the flag."""
    if _libc.renameat2(old_fd, old, new_fd, new, flags) < 0:
        raise _error(new)


def syncfs(fd: int) -> None:
    """Everything of the descriptor's file system to the disk. OSError."""
    if _libc.syncfs(fd) < 0:
        raise _error(None)


def _error(name: bytes | None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), name)


def clone(source: int, target: int) -> bool:
    """Let `target` share all the blocks of `source`; False where the file system cannot."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
        return True
    except OSError as error:
        if error.errno in (
            errno.EOPNOTSUPP,
            errno.EXDEV,
            errno.EINVAL,
            errno.ENOTTY,
            errno.ENOSYS,
            errno.EPERM,
        ):
            return False
        raise


def capable(capability: int) -> bool:
    """Whether this process has it, in its own user namespace."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapEff:"):
                return bool(int(line.split()[1], 16) >> capability & 1)
    return os.geteuid() == 0
