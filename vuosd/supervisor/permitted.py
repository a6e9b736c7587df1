"""What the machine permits a worker: it differs between root and others, with Yama, and in containers."""

import errno
import os

from vuosd.supervisor.log import log

_PIDFD_GETFD = 438


def may_trace_others() -> bool:
    """CAP_SYS_PTRACE."""
    with open("/proc/self/status") as file:
        effective = next(line for line in file if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> 19 & 1)


def may_read(pid: int) -> bool:
    """Whether this process may look into the child's memory, or only its ancestors may (Yama, ptrace(2))."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    byte = ctypes.create_string_buffer(1)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(byte), 1)
    remote = (ctypes.c_void_p * 2)(8, 1)  # unmapped: EFAULT comes after the permission
    result = libc.process_vm_readv(
        pid, local, ctypes.c_ulong(1), remote, ctypes.c_ulong(1), ctypes.c_ulong(0)
    )
    return bool(result >= 0 or ctypes.get_errno() == 14)


def is_protected(kind: str) -> bool:
    """The sysctl fs.protected_KIND.

    symlinks: those in sticky directories that everybody may write to are followed by their owner alone.
    hardlinks: files are linked only by who owns them, or may read and write them.
    """
    try:
        with open(f"/proc/sys/fs/protected_{kind}", "rb") as file:
            return file.read(1) != b"0"
    except OSError:
        return False  # a /proc without it (a container's may be masked): then it cannot be known


def fusermount() -> int:
    """What stands in for fusermount3 where a filter around us, Docker's for one, refuses mount(2): our own
    commands, which need no such call. Elsewhere -1.
    """
    with open("/proc/self/status", "rb") as file:
        if b"\nSeccomp:\t2\n" not in file.read():
            return -1
    import ctypes
    import sysconfig

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount(None, None, None, ctypes.c_ulong(0), None)
    if ctypes.get_errno() == errno.EFAULT:
        return -1  # the kernel has looked at it
    program = os.path.join(sysconfig.get_path("scripts"), "vumount")
    try:
        return os.open(program, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        log.warning("%s: %s: FUSE servers cannot mount in this container", program, error.strerror)
        return -1


def may_duplicate() -> bool:
    """Whether pidfd_getfd(2) can be had on this machine: Docker's default profile refuses it, and Yama to all
    but ancestors.
    """
    import ctypes

    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", "rb") as file:
            if file.read(1) != b"0":
                return False
    except OSError:
        pass  # no Yama
    own = os.pidfd_open(os.getpid())
    try:
        copy = ctypes.CDLL(None).syscall(_PIDFD_GETFD, own, own, 0)
        if copy >= 0:
            os.close(copy)
        return bool(copy >= 0)
    finally:
        os.close(own)
