"""The engine's session as Python holds it: filled in, started with a listener, asked for counts, stopped."""

import os
import socket
from typing import NamedTuple

from vuosd.abi.syscalls import engine_rows
from vuosd.supervisor.engine._engine import ffi, lib

THREADS = 4

_ROWS = ffi.new("struct vu_row[]", list(engine_rows()))
_COUNTS = [name for name, _ in ffi.typeof("struct vu_stats").fields]


class Placed(NamedTuple):
    """One entry as the engine wants it; `source` is an O_PATH descriptor that the session keeps. What a HIDE
    entry withholds is a path only.

    type, name, options: of a mount at run time, what /proc/self/mounts tells of it: file-system type, source
    and options ("rw,nosuid,user_id=0"). Empty: what it tells of the mount that the source lies on.
    """

    kind: int
    readonly: bool
    target: bytes
    source: int = -1
    source_path: bytes = b""
    type: bytes = b""
    name: bytes = b""
    options: bytes = b""


class Stacked(NamedTuple):
    """Several trees as one, topmost first: a COW's changed tree and what is below it, or those of a MERGE.
    The session keeps the descriptors.

    kind: "cow", "mincow" or "merge"
    descriptors, paths: of each tree, O_PATH, and as the kernel names it
    sources: what the profile names, or means
    work, origins: of a layer: its directory for temporaries, its book; else -1
    handles: an empty directory of the session, -1 where the lowest tree lies at the target itself
    layer: its name; "" for one of this session alone
    size: bytes on disk that the changed tree may hold, 0: no limit
    """

    kind: str
    target: bytes
    writable: bool
    descriptors: tuple[int, ...]
    paths: tuple[bytes, ...]
    sources: tuple[bytes, ...]
    work: int = -1
    origins: int = -1
    handles: int = -1
    handles_path: bytes = b""
    sync: bool = False
    attribute_whiteouts: bool = False
    layer: str = ""
    size: int = 0


class Session:
    """A vu_session."""

    def __init__(
        self,
        *,
        tag: int,
        cookie: int,
        broker: int,
        enforce: bool,
        privileged: bool,
        broker_memory: bool,
        keeper: int = -1,
        protected_links: bool = False,
    ) -> None:
        """`keeper`: the socket to the launcher, which prints the engine's warnings; it must outlive us.
        `protected_links`: the sysctl fs.protected_symlinks holds for links that the engine follows.
        """
        self.log, self._log = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.log.setblocking(False)
        self._log.setblocking(False)
        options = ffi.new("struct vu_options *")
        options.tag, options.cookie, options.broker, options.threads = tag, cookie, broker, THREADS
        options.log, options.keeper = self._log.fileno(), keeper
        options.flags = (
            (lib.VU_SESSION_ENFORCE if enforce else 0)
            | (lib.VU_SESSION_PRIVILEGED if privileged else 0)
            | (lib.VU_SESSION_BROKER_MEMORY if broker_memory else 0)
            | (lib.VU_SESSION_PROTECTED_LINKS if protected_links else 0)
        )
        self._session = lib.vu_session_new(options, _ROWS, len(_ROWS))
        if self._session == ffi.NULL:
            raise MemoryError

    def add(self, entry: Placed) -> None:
        flags = lib.VU_ENTRY_READONLY if entry.readonly else 0
        _check(
            lib.vu_session_entry(
                self._session, entry.kind, flags, entry.target, entry.source, entry.source_path or ffi.NULL
            )
        )

    def add_stack(self, stack: Stacked) -> None:
        count = len(stack.descriptors)
        paths = [ffi.new("char[]", path) for path in stack.paths]
        descriptors, names = ffi.new("int32_t[]", stack.descriptors), ffi.new("char *[]", paths)
        target = ffi.new("char[]", stack.target)
        options = ffi.new("struct vu_stack_options *")
        options.target, options.fds, options.paths, options.count = target, descriptors, names, count
        options.work, options.origins, options.handles = stack.work, stack.origins, stack.handles
        handles_path = ffi.new("char[]", stack.handles_path)
        options.handles_path = handles_path
        options.size = stack.size
        options.flags = (
            (lib.VU_STACK_WRITABLE if stack.writable else 0)
            | (lib.VU_STACK_MINIMAL if stack.kind == "mincow" else 0)
            | (lib.VU_STACK_SYNC if stack.sync else 0)
            | (lib.VU_STACK_XATTR_WHITEOUT if stack.attribute_whiteouts else 0)
        )
        _check(lib.vu_session_stack(self._session, options))

    def start(self, listener: int, start: bytes = b"/") -> None:
        """`start` is the view path of the command's first directory."""
        _check(lib.vu_session_cwd(self._session, start))
        _check(lib.vu_session_start(self._session, listener))

    def mount(self, entry: Placed) -> int:
        """Show `entry` on top of what is at its target, to all members at once, while the session runs.

        entry.target: canonical path in the view. entry.kind: BIND, TMPFS or HIDE. entry.source: O_PATH, the
        session's from then on, but the caller's still when this raises. entry.source_path: what
        /proc/self/fd says of it, also when that is a path in another mount namespace; no other mount of the
        session should have the same one.

        Returns the mount's number, > 0 and never used again. Raises OSError: EINVAL, ENOMEM.
        """
        texts = [ffi.new("char[]", text) if text else ffi.NULL for text in entry[4:]]
        target = ffi.new("char[]", entry.target)
        options = ffi.new("struct vu_mount_options *")
        options.target, options.kind, options.source = target, entry.kind, entry.source
        options.flags = lib.VU_ENTRY_READONLY if entry.readonly else 0
        options.source_path, options.type, options.name, options.options = texts
        return _check(lib.vu_session_mount(self._session, options))

    def unmount(self, number: int) -> bool:
        """Take the mount away; what lay below it shows again. The members that have something of it open, or
        stand in it, keep that, as after umount2(MNT_DETACH).

        True: the session's descriptor of it is closed. False: calls that began before still use it (one that
        waits for a server, say), and it is closed when the last of them has ended. Raises OSError: EINVAL for
        what is no number of a mount.
        """
        return _check(lib.vu_session_unmount(self._session, number)) == 0

    def stats(self) -> dict[str, int]:
        """The counts of struct vu_stats, by name."""
        out = ffi.new("struct vu_stats *")
        _check(lib.vu_session_stats(self._session, out))
        return {name: int(getattr(out, name)) for name in _COUNTS}

    def usage(self, number: int) -> int:
        """What a layer holds, in bytes on disk; it is gone through if that may be something else by now.
        `number`: of those with a size, in the order in which they were added. OSError.
        """
        out = ffi.new("uint64_t *")
        _check(lib.vu_session_usage(self._session, number, out))
        return int(out[0])

    def stop(self) -> None:
        """Joins the threads; the sources are closed with it."""
        lib.vu_session_stop(self._session)
        self._session = ffi.NULL
        self.log.close()
        self._log.close()


def _check(result: int) -> int:
    """The result of a function of the engine, or OSError."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
