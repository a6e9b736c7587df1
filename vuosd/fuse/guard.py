"""In front of any pyfuse3.Operations, ours or somebody else's, which is served unchanged: for pyfuse3 an
exception other than FUSEError ends the server, so those become errnos here, by the same rules as for a
Filesystem."""

import errno
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pyfuse3

from vuosd.api.source import described
from vuosd.supervisor.log import log

_HANDLERS = frozenset(name for name in vars(pyfuse3.Operations) if not name.startswith("_"))
_ENTRY: tuple[type, ...] = (pyfuse3.EntryAttributes,)
_RETURNS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("lookup", "getattr", "setattr", "mknod", "mkdir", "symlink", "link"), _ENTRY),
    **dict.fromkeys(("readlink", "getxattr"), (bytes,)),
    "read": (bytes, bytearray, memoryview),
    **dict.fromkeys(("write", "opendir"), (int,)),
    "open": (pyfuse3.FileInfo,),
    "create": (tuple,),
    "statfs": (pyfuse3.StatvfsData,),
}
"""What pyfuse3 takes from each; from something else it would end, too."""
_UNANSWERED = frozenset({"forget"})


class Guard:
    """Behaves as the object it holds."""

    def __init__(self, name: str, operations: object) -> None:
        self._name = name
        self._operations = operations

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._operations, attribute)
        if attribute in _HANDLERS and inspect.iscoroutinefunction(found):
            found = self._guarded(attribute, found)
            setattr(self, attribute, found)
        return found

    def _guarded(self, method: str, handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(handler)
        async def guarded(*arguments: Any) -> Any:
            try:
                result = await handler(*arguments)
                if isinstance(result, _RETURNS.get(method, object)):
                    return result
                log.error("%s", f"{self._name}: {method}: returned {result!r}"[:200])
                number = errno.EIO
            except pyfuse3.FUSEError:
                raise
            except OSError as error:
                number = error.errno or errno.EIO
            except Exception as error:
                log.error("%s", f"{self._name}: {method}: {described(error)}")
                number = errno.EIO
            if method in _UNANSWERED:
                return None
            raise pyfuse3.FUSEError(number)

        return guarded
