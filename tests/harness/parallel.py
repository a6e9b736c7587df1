"""Tests in several processes at once (pytest-xdist), each of which sees only what is its own.

What a test leaves is found by looking at what there is before and after it: processes below us, but also
mounts and the names in /dev/shm, which are everybody's. So a process of several has a mount namespace to
itself, and shared memory. That takes CAP_SYS_ADMIN: others run the tests one after another.
"""

import ctypes
import os

CLONE_NEWNS = 0x20000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 0x4000, 0x40000


def live_alone() -> None:
    """A mount namespace of our own, and a /dev/shm (mount_namespaces(7)); what we start is in it as well.

    Raises OSError where that is not permitted.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result:
            raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")

    check(libc.unshare(CLONE_NEWNS), "unshare(CLONE_NEWNS)")
    check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount of / as private")
    flags = MS_NOSUID | MS_NODEV
    check(libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", flags, b"mode=1777"), "mount on /dev/shm")
