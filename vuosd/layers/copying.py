"""The content of a file into a new one: sharing its blocks, by the kernel, or by hand; holes stay holes."""

import errno
import os

from vuosd.layers import kernel

_CHUNK = 1 << 20
_NOT_IN_KERNEL = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM)


def copy(source: int, target: int) -> None:
    """All of it. `target` is empty. OSError."""
    if kernel.clone(source, target):
        return
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
            end = os.lseek(source, at, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole up to the end
            end = size  # no file system that knows about holes
        _copy_part(source, target, at, end)
        at = end


def _copy_part(source: int, target: int, at: int, end: int) -> None:
    in_kernel = True
    while at < end:
        if in_kernel:
            try:
                done = os.copy_file_range(source, target, end - at, at, at)
            except OSError as error:
                if error.errno not in _NOT_IN_KERNEL:
                    raise
                in_kernel = False
                continue
        else:
            chunk = os.pread(source, min(_CHUNK, end - at), at)
            done = os.pwrite(target, chunk, at)
        if not done:
            return  # it was cut short meanwhile
        at += done
