"""Open files and directories of a Filesystem: what a file handle stands for, and the requests that name
one."""

import errno
import os
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import pyfuse3

from vuosd.api import Caller, File, Stat
from vuosd.api.status import current
from vuosd.fuse import checks
from vuosd.fuse.calls import Calls
from vuosd.fuse.nodes import Node, Nodes

_Checked = TypeVar("_Checked")


class Handle:
    """An open file. `users`: how many file handles share it (see Opened.again)."""

    def __init__(self, node: Node, file: File, flags: int, caller: Caller) -> None:
        self.node = node
        self.file = file
        self.flags = flags
        self.caller = caller
        self.users = 1


class Listing:
    """An open directory: what it held when it was listed, so that offsets mean the same from one request to
    the next."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.entries: list[tuple[bytes, Stat | None]] | None = None


class Opened:
    """All handles of one file system, by number."""

    def __init__(self, calls: Calls, nodes: Nodes) -> None:
        self._calls = calls
        self._nodes = nodes
        self._numbers = iter(range(1, 1 << 63))
        self._files: dict[int, Handle] = {}
        self._listings: dict[int, Listing] = {}

    def add(self, node: Node, file: File, flags: int, caller: Caller) -> pyfuse3.FileInfo:
        node.opened += 1
        return self._number(Handle(node, file, flags, caller))

    def again(self, node: Node, flags: int) -> pyfuse3.FileInfo:
        """open(2) of a file that has no path any more, by /proc/PID/fd: another user of what is open
        already. ESTALE if nothing is that allows as much."""
        for handle in self.of(node):
            had, wants = handle.flags & os.O_ACCMODE, flags & os.O_ACCMODE
            if had in (wants, os.O_RDWR):
                handle.users += 1
                node.opened += 1
                return self._number(handle)
        raise pyfuse3.FUSEError(errno.ESTALE)

    def _number(self, handle: Handle) -> pyfuse3.FileInfo:
        number = next(self._numbers)
        self._files[number] = handle
        return pyfuse3.FileInfo(number, direct_io=handle.file.direct, keep_cache=handle.file.keep)

    def of(self, node: Node) -> list[Handle]:
        """Those of one file, the latest first."""
        return (
            [handle for handle in reversed(self._files.values()) if handle.node is node]
            if node.opened
            else []
        )

    async def read(self, number: int, offset: int, size: int) -> bytes:
        handle = self.get(number)
        return await self._do(handle, lambda value: checks.data(value, size), handle.file.pread, size, offset)

    async def write(self, number: int, offset: int, data: bytes) -> int:
        handle = self.get(number)
        count = await self._do(
            handle, lambda value: checks.written(value, len(data)), handle.file.pwrite, data, offset
        )
        self._grown(handle.node, offset + count)
        return count

    async def truncate(self, handle: Handle, size: int) -> None:
        await self._do(handle, checks.nothing, handle.file.ftruncate, size)
        if handle.node.status is not None:
            handle.node.status = msgspec.structs.replace(handle.node.status, size=size)

    async def flush(self, handle: Handle) -> None:
        await self._do(handle, checks.nothing, handle.file.flush)

    async def fsync(self, handle: Handle, datasync: bool) -> None:
        await self._do(handle, checks.nothing, handle.file.fsync, datasync)

    async def release(self, number: int) -> None:
        handle = self._files.pop(number, None)
        if handle is None:
            return
        handle.node.opened -= 1
        handle.users -= 1
        try:
            if not handle.users:
                await self._do(handle, checks.nothing, handle.file.close)
        finally:
            self._nodes.settle(handle.node)

    async def release_all(self) -> None:
        """At the end, what nobody has closed."""
        for number in list(self._files):
            try:
                await self.release(number)
            except pyfuse3.FUSEError:
                pass  # the log has it

    async def status(self, handle: Handle) -> Stat | None:
        return await self._do(handle, checks.status_or_none, handle.file.fstat)

    async def _do(
        self, handle: Handle, check: Callable[[Any], _Checked], method: Callable[..., Any], *arguments: Any
    ) -> _Checked:
        current.set(
            handle.caller
        )  # reads and writes come from the page cache, and say of nobody that it asks
        return await self._calls(check, method, *arguments)

    def get(self, number: int) -> Handle:
        try:
            return self._files[number]
        except KeyError:
            raise pyfuse3.FUSEError(errno.EBADF) from None

    def handle(self, number: int | None) -> Handle | None:
        return None if number is None else self._files.get(number)

    @staticmethod
    def _grown(node: Node, size: int) -> None:
        if node.status is not None and node.status.size < size:
            node.status = msgspec.structs.replace(node.status, size=size)

    def list(self, node: Node) -> int:
        node.opened += 1
        number = next(self._numbers)
        self._listings[number] = Listing(node)
        return number

    def listing(self, number: int) -> Listing:
        try:
            return self._listings[number]
        except KeyError:
            raise pyfuse3.FUSEError(errno.EBADF) from None

    def listed(self, number: int) -> None:
        listing = self._listings.pop(number, None)
        if listing is not None:
            listing.node.opened -= 1
            self._nodes.settle(listing.node)
