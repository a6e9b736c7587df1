"""The tree of a Filesystem as the kernel sees it: paths that stay right, and what is told of a node.

A call of the plugin holds the nodes on its path (`busy`); a rename first waits until nobody holds what it
moves, and holds up those who come: so a path is right for as long as the plugin has it. Renames are one at
a time. Who needs several nodes takes them at once."""

import errno
import os
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pyfuse3
import trio

from vuosd.api import Filesystem, Stat
from vuosd.fuse import checks
from vuosd.fuse.calls import Calls
from vuosd.fuse.nodes import Node, Nodes
from vuosd.fuse.opened import Opened


class Tree:
    """Nodes and handles of one Filesystem."""

    def __init__(self, plugin: Filesystem, calls: Calls) -> None:
        self.plugin = plugin
        self.calls = calls
        self.nodes = Nodes()
        self.opened = Opened(calls, self.nodes)
        self.readonly = plugin.readonly
        self._left = trio.Event()
        self._waiting = 0
        self._owner = (os.geteuid(), os.getegid())
        self._began = time.time_ns()

    # Paths that stay right

    @asynccontextmanager
    async def holding(self, *nodes: Node, name: tuple[Node, bytes] | None = None) -> AsyncIterator[None]:
        """The nodes' paths do not change meanwhile; nor does what is at `name`."""
        while True:
            at_name = None if name is None else self.nodes.find(*name)
            wanted = nodes if at_name is None else (*nodes, at_name)
            held = [node for one in wanted for node in one.upward()]
            if not any(node.moving for node in held):
                break
            await self.somebody_leaves()
        for node in held:
            node.busy += 1
        try:
            yield
        finally:
            for node in held:
                node.busy -= 1
            for node in wanted:
                self.nodes.settle(node)
            if self._waiting:
                self._left.set()
                self._left = trio.Event()

    async def somebody_leaves(self) -> None:
        """Wait until a call has ended, or a rename."""
        self._waiting += 1
        try:
            await self._left.wait()
        finally:
            self._waiting -= 1

    # What is there

    async def status(self, node: Node) -> Stat:
        """Of a node that is held."""
        handles = self.opened.of(node)
        if node.removed:
            known = node.status or Stat(mode=node.kind)
            told = await self.opened.status(handles[0]) if handles else None
            return known if told is None else msgspec.structs.replace(known, size=told.size)
        for handle in handles:
            if handle.file.buffered and (told := await self.opened.status(handle)) is not None:
                return told
        status = await self.calls(checks.status, self.plugin.lstat, self.nodes.path(node))
        if stat.S_IFMT(status.mode) != node.kind and node is not self.nodes.root:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))  # the kernel then looks the name up again
        return status

    def attributes(self, node: Node, status: Stat) -> pyfuse3.EntryAttributes:
        made = pyfuse3.EntryAttributes()
        made.st_ino = node.number
        made.st_mode = status.mode
        made.st_nlink = status.nlink
        made.st_uid = self._owner[0] if status.uid is None else status.uid
        made.st_gid = self._owner[1] if status.gid is None else status.gid
        made.st_rdev = status.rdev
        made.st_size = status.size
        made.st_blksize = status.blksize
        made.st_blocks = (status.size + 511) // 512 if status.blocks is None else status.blocks
        changed = self._began if status.mtime_ns is None else status.mtime_ns
        made.st_mtime_ns = changed
        made.st_atime_ns = changed if status.atime_ns is None else status.atime_ns
        made.st_ctime_ns = changed if status.ctime_ns is None else status.ctime_ns
        made.entry_timeout = made.attr_timeout = 0 if node.removed else self.plugin.timeout
        return made

    async def entry(self, parent: Node, name: bytes, known: Stat | None = None) -> pyfuse3.EntryAttributes:
        """What the kernel is told of a name; it then knows the node once more."""
        if known is None:
            known = await self.calls(checks.status, self.plugin.lstat, self.nodes.path(parent, name))
        node = self.nodes.found(parent, name, known)
        node.lookups += 1
        return self.attributes(node, known)

    async def left_of(self, node: Node | None) -> Stat | None:
        """What will be known of a node that is about to lose a name: programs that have it open still ask."""
        if node is None or not (node.opened or node.lookups):
            return None
        try:
            known = await self.status(node)
        except (pyfuse3.FUSEError, OSError):
            return None
        return msgspec.structs.replace(
            known, nlink=max(0, known.nlink - (2 if stat.S_ISDIR(known.mode) else 1))
        )

    def moved(self, nodes: list[Node], moving: bool) -> None:
        """A rename begins with these nodes, or has ended."""
        for node in nodes:
            node.moving = moving
        if not moving:
            self._left.set()
            self._left = trio.Event()


def unknown() -> pyfuse3.EntryAttributes:
    """An entry of which only the name is known: the kernel lists it with DT_UNKNOWN, since no object has
    such a mode, and looks it up when somebody wants to know more."""
    made = pyfuse3.EntryAttributes()
    made.st_ino = (1 << 63) - 1
    made.st_mode = 0
    return made
