"""What libfuse itself has to say goes into our log, instead of to stderr without a name."""

import ctypes
import re

from vuosd.supervisor.log import log

_LEVEL_ERROR = 3  # enum fuse_log_level, fuse_log.h; the numbers are those of syslog(3)
_LEVEL_INFO = 6
_MAPPED = re.compile(r"(/\S*/libfuse3\.so\S*)$", re.MULTILINE)

# x86-64 passes a va_list as a pointer, so it can be handed on to vsnprintf as one.
_LogFunction = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


def take_messages(name: str) -> None:
    """From now on. The message about the end of a connection is left out: the caller sees that, and it is
    none."""
    with open("/proc/self/maps") as maps:
        mapped = _MAPPED.search(maps.read())
    if mapped is None:
        raise RuntimeError("pyfuse3 is not linked with libfuse 3")
    libc = ctypes.CDLL(None)

    def said(level: int, format: bytes, arguments: int) -> None:
        text = ctypes.create_string_buffer(500)
        libc.vsnprintf(text, len(text), format, ctypes.c_void_p(arguments))
        line = text.value.decode("utf-8", "replace").strip()
        if "short splice" in line:
            return
        write = log.error if level <= _LEVEL_ERROR else log.info if level <= _LEVEL_INFO else log.debug
        write("%s", f"{name}: {line}")

    function = _LogFunction(said)
    _kept.append(function)
    ctypes.CDLL(mapped[1]).fuse_set_log_func(function)


_kept: list[object] = []
"""C keeps the pointer."""
