"""System calls for which Python has no function, made through the C library."""

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> int:
    """A function of the C library, by its name; OSError with what errno says."""
    converted = [ctypes.c_ulong(word) if isinstance(word, int) else word for word in arguments]
    result = int(getattr(_LIBC, name)(*converted))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result
