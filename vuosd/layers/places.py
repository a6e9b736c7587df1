"""Where layers are, and what their file system must give: user extended attributes, and types in listings."""

import ctypes
import errno
import os
import pwd
from collections.abc import Mapping

from vuosd.layers.errors import LayerError, name_of, reason

_PROBE = "user.overlay.vuosd-probe"
_DT_UNKNOWN = 0
_D_TYPE = 18  # its offset in struct dirent of 64-bit Linux: readdir(3)


def store_of(env: Mapping[str, str], store: bytes | None = None) -> bytes:
    """The directory that layers are in: `store`, else $XDG_STATE_HOME/vuos, else ~/.local/state/vuos."""
    if store is not None:
        return os.path.abspath(store)
    state = env.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):  # the XDG base directory specification: a relative one is to be ignored
        return os.path.join(os.fsencode(state), b"vuos")
    home = env.get("HOME", "")
    if not os.path.isabs(home):
        try:
            home = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            raise LayerError(
                "no place for layers: set XDG_STATE_HOME, or HOME, to an absolute path"
            ) from None
    return os.path.join(os.fsencode(home), b".local/state/vuos")


def check_name(name: str) -> bytes:
    """The layer's name as that of its directory. LayerError: it cannot be one."""
    encoded = os.fsencode(name)
    if not name or "/" in name or "\0" in name or name.startswith((".", "-")) or len(encoded) > 200:
        raise LayerError(
            f"{name_of(encoded)} cannot be the name of a layer: a name has 1 to 200 bytes and no slash, and "
            "begins with neither a dot nor a dash"
        )
    return encoded


def make_store(store: bytes) -> None:
    """The store's directory, closed to others: what layers hold may be secret. LayerError."""
    try:
        os.makedirs(os.path.dirname(store), exist_ok=True)
        os.makedirs(store, 0o700, exist_ok=True)
    except OSError as error:
        raise LayerError(
            f"cannot make {name_of(store)} for layers: {reason(error)}; name another place with store="
        ) from None


def check_file_system(directory: bytes) -> None:
    """What a layer in `directory` (which is empty) would need of the file system. LayerError."""
    where = f"the file system of {name_of(directory)} cannot hold a layer"
    instead = "name a directory elsewhere with store= or XDG_STATE_HOME"
    try:
        os.setxattr(directory, _PROBE, b"y")
        os.removexattr(directory, _PROBE)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM, errno.EACCES):
            raise LayerError(f"{where}: it has no user extended attributes; {instead}") from None
        raise
    if not types_in_listings(directory):
        raise LayerError(f"{where}: its listings do not tell types (d_type); {instead}")


def types_in_listings(directory: bytes) -> bool:
    """Whether readdir(3) says what the entries of a directory are."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.readdir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
    stream = libc.opendir(ctypes.c_char_p(directory))
    if not stream:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), directory)
    try:
        entry = libc.readdir(stream)  # there is always ".", at least
        return bool(entry) and ctypes.string_at(entry + _D_TYPE, 1)[0] != _DT_UNKNOWN
    finally:
        libc.closedir(stream)
