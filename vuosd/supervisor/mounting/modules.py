"""VUOS's modules: what `vu_insmod fuse` means here. What they did is built in, so loading one changes
nothing but the list; it cannot be unloaded while a mount needs it.
"""

import difflib
import errno
from collections.abc import Callable, Iterable

from vuosd.supervisor.mounting.errors import MountError

KNOWN = {
    "fuse": "FUSE servers that run in the view mount by /dev/fuse",
    "vufuse": "file systems that a server outside of the view serves: vumount -t TYPE",
    "unreal": "the whole tree of the view again, at /unreal and /unreal/unreal",
}
_WHOSE: dict[str, Callable[[bool], bool]] = {
    "fuse": lambda ours: not ours,
    "vufuse": lambda ours: ours,
    "unreal": lambda ours: False,
}
"""Whether a mount with a server, of ours or not, is the module's."""


class BuiltIn:
    """Those that have been loaded in one session."""

    def __init__(self) -> None:
        self._loaded: dict[str, bool] = {}
        """Whether for good."""

    def load(self, name: str, permanent: bool) -> None:
        """MountError: ENOENT, EEXIST."""
        if name not in KNOWN:
            close = difflib.get_close_matches(name, KNOWN, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(KNOWN)}"
            raise MountError(errno.ENOENT, f"no module {name}; {hint}")
        if name in self._loaded:
            raise MountError(errno.EEXIST, f"module {name} is loaded already")
        self._loaded[name] = permanent

    def forget(self, name: str) -> None:
        """What has just been loaded is not."""
        del self._loaded[name]

    def unload(self, name: str, served: Iterable[tuple[str, bool]]) -> None:
        """`served`: place of each mount with a server, and whether that is ours. MountError: ENOENT,
        EBUSY.
        """
        if name not in self._loaded:
            raise MountError(errno.ENOENT, f"module {name} is not loaded")
        if self._loaded[name]:
            raise MountError(errno.EBUSY, f"module {name} was loaded for good (-p)")
        places = [place for place, ours in served if _WHOSE[name](ours)]
        if places:
            raise MountError(errno.EBUSY, f"module {name} is in use: {', '.join(places[:5])}")
        del self._loaded[name]

    def listed(self) -> list[tuple[str, str]]:
        """Names and descriptions of those that are loaded."""
        return [(name, KNOWN[name]) for name in self._loaded]
