"""The commands of VUOS's users: `vumount`, `vuumount`, `vu_insmod`, `vu_rmmod`, `vu_lsmod`, run inside a
view.

They ask by mount(2), which the view's supervisor answers, and write to a memfd why they were refused.
Unlike VUOS's they say so, and exit with 1. Nothing heavy is imported: they are as fast as Python starts.
"""

import ctypes
import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

_MS_RDONLY, _MS_BIND, _MS_MOVE, _MS_REC = 1, 4096, 8192, 16384
_MNT_FORCE, _MNT_DETACH = 1, 2


class _Failed(Exception):
    pass


def main() -> int:
    """The command is the name that it was called by."""
    name = os.path.basename(sys.argv[0])
    return run(name, sys.argv[1:])


def run(name: str, words: Sequence[str]) -> int:
    try:
        _COMMANDS[name](words)
    except _Failed as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0


def _ask(kind: str, source: str = "", target: str = "/", flags: int = 0, data: str = "") -> dict[str, Any]:
    """What the supervisor says to mount(2); _Failed with its reason."""
    reply = os.memfd_create("reply", 0)
    data = ",".join([*([data] if data else []), f"vuos.reply={reply}"])
    libc = ctypes.CDLL(None, use_errno=True)
    words = [os.fsencode(word) for word in (source, target, kind)]
    if len(data) >= 4096:
        raise _Failed("the options are longer than mount(2) takes, 4095 bytes")
    result = libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(data))
    number = ctypes.get_errno()
    said: dict[str, Any] = json.loads(os.pread(reply, os.fstat(reply).st_size, 0) or b"null") or {}
    os.close(reply)
    if result < 0:
        raise _Failed(said.get("error") or _why(number))
    if not said and kind.startswith("vuos:") and kind not in ("vuos:umount", "vuos:insmod", "vuos:rmmod"):
        raise _Failed("nobody answered")
    return said


def _why(number: int) -> str:
    """Of a mount(2) that nobody has explained: the kernel's own, or one of a view that allows none."""
    if number in (errno.EPERM, errno.ENODEV):
        return f"{os.strerror(number)}: this is no view, or one that lets nothing be mounted"
    return os.strerror(number)


def _parser(name: str, text: str) -> "argparse.ArgumentParser":
    import argparse

    return argparse.ArgumentParser(prog=name, description=text)


def _vumount(words: Sequence[str]) -> None:
    parser = _parser("vumount", "Mount a file system in this view.")
    parser.add_argument("source", help="image, directory, archive, URL: what the type takes")
    parser.add_argument("target", help="where")
    parser.add_argument("-t", "--types", metavar="TYPE", default="", help="type of file system")
    parser.add_argument(
        "-o", "--options", metavar="LIST", action="append", default=[], help="separated by commas"
    )
    parser.add_argument("-r", "--read-only", action="store_true")
    parser.add_argument("-w", "--rw", "--read-write", action="store_true")
    parser.add_argument("-B", "--bind", action="store_true", help="show SOURCE at TARGET as well")
    parser.add_argument("-R", "--rbind", action="store_true")
    parser.add_argument("-M", "--move", action="store_true", help="move the mount at SOURCE to TARGET")
    given = parser.parse_args(words)
    flags = _MS_RDONLY if given.read_only and not given.rw else 0
    flags |= _MS_BIND if given.bind or given.rbind else 0
    flags |= _MS_REC if given.rbind else 0
    flags |= _MS_MOVE if given.move else 0
    _ask(given.types, given.source, given.target, flags, ",".join(given.options))


def _vuumount(words: Sequence[str]) -> None:
    parser = _parser("vuumount", "Unmount what was mounted last at a place of this view.")
    parser.add_argument("target")
    parser.add_argument(
        "-f", "--force", action="store_true", help="of a server that hangs: its users get errors"
    )
    parser.add_argument("-l", "--lazy", action="store_true", help="whoever uses it may go on")
    parser.add_argument("-d", "--detach-loop", action="store_true", help="for VUOS's habits: does nothing")
    given = parser.parse_args(words)
    flags = (_MNT_FORCE if given.force else 0) | (_MNT_DETACH if given.lazy else 0)
    _ask("vuos:umount", "", given.target, flags)


def _insmod(words: Sequence[str]) -> None:
    parser = _parser("vu_insmod", "Load modules.")
    parser.add_argument("modules", nargs="+", metavar="MODULE")
    parser.add_argument("-p", "--permanent", action="store_true", help="cannot be unloaded")
    given = parser.parse_args(words)
    for module in given.modules:
        _ask("vuos:insmod", module, data="permanent" if given.permanent else "")


def _rmmod(words: Sequence[str]) -> None:
    parser = _parser("vu_rmmod", "Unload modules.")
    parser.add_argument("modules", nargs="+", metavar="MODULE")
    for module in parser.parse_args(words).modules:
        _ask("vuos:rmmod", module)


def _lsmod(words: Sequence[str]) -> None:
    _parser("vu_lsmod", "List the modules that are loaded.").parse_args(words)
    for name, text in _ask("vuos:lsmod")["modules"]:
        print(f"{name}: {text}")


_COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "vumount": _vumount,
    "vuumount": _vuumount,
    "vu_insmod": _insmod,
    "vu_rmmod": _rmmod,
    "vu_lsmod": _lsmod,
}

if __name__ == "__main__":
    sys.exit(main())
