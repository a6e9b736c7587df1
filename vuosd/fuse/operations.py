"""pyfuse3.Operations for a Filesystem: what each request asks of the plugin."""

import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
import pyfuse3
import trio

from vuosd.api import Caller, Filesystem, Stat
from vuosd.api.status import current
from vuosd.fuse import checks
from vuosd.fuse.calls import Calls
from vuosd.fuse.nodes import Node
from vuosd.fuse.opened import Handle
from vuosd.fuse.tree import Tree, unknown

_NAME_MAX = 255
_EXCHANGE, _RENAMES = 2, 3
_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")
_Handler = Callable[Concatenate["TreeOperations", _Arguments], Coroutine[Any, Any, _Answer]]


def _handler(
    changes: bool = False,
) -> Callable[[_Handler[_Arguments, _Answer]], _Handler[_Arguments, _Answer]]:
    """A request about the tree: the last argument says who asks; EROFS if it `changes` what must not be."""

    def decorate(handler: _Handler[_Arguments, _Answer]) -> _Handler[_Arguments, _Answer]:
        async def handle(
            self: "TreeOperations", /, *arguments: _Arguments.args, **more: _Arguments.kwargs
        ) -> _Answer:
            asker: Any = arguments[-1]
            current.set(Caller(asker.pid, asker.uid, asker.gid, asker.umask))
            if changes and self.readonly:
                raise pyfuse3.FUSEError(errno.EROFS)
            return await handler(self, *arguments, **more)

        handle.__name__ = handler.__name__
        return handle

    return decorate


class TreeOperations(pyfuse3.Operations):
    """Serves one Filesystem. Raises OSError beside FUSEError: guard.py is in front of it."""

    supports_dot_lookup = False

    def __init__(self, plugin: Filesystem, calls: Calls) -> None:
        super().__init__()
        self.plugin = plugin
        self.calls = calls
        self.tree = Tree(plugin, calls)
        self.readonly = plugin.readonly
        self._renames = trio.Lock()

    @_handler()
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent = self.tree.nodes.get(parent_inode)
        if len(name) > _NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, "")
        async with self.tree.holding(parent, name=(parent, name)):
            return await self.tree.entry(parent, name)

    async def forget(self, inode_list: Any) -> None:
        for number, count in inode_list:
            self.tree.nodes.forget(number, count)

    @_handler()
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        node = self.tree.nodes.get(inode)
        async with self.tree.holding(node):
            return self.tree.attributes(node, await self.tree.status(node))

    @_handler()
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        node = self.tree.nodes.get(inode)
        async with self.tree.holding(node):
            return await self.calls(checks.target, self.plugin.readlink, self.tree.nodes.path(node))

    @_handler()
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        told = await self.calls(checks.statfs, self.plugin.statfs, b"/")
        made = pyfuse3.StatvfsData()
        made.f_bsize = made.f_frsize = told.bsize
        made.f_blocks, made.f_bfree, made.f_bavail = told.blocks, told.bfree, told.bavail
        made.f_files, made.f_ffree, made.f_favail = told.files, told.ffree, told.ffree
        made.f_namemax = told.namemax
        return made

    # Directories

    @_handler()
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return self.tree.opened.list(self.tree.nodes.get(inode))

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        listing = self.tree.opened.listing(fh)
        node = listing.node
        async with self.tree.holding(node):
            if listing.entries is None or start_id == 0:
                listing.entries = await self._list(node)
            for index in range(start_id, len(listing.entries)):
                if not await self._reply(listing.entries, index, node, token):
                    return

    async def _list(self, node: Node) -> list[tuple[bytes, Stat | None]]:
        if node.removed:
            return []
        entries = await self.calls(checks.listing, self.plugin.listdir, self.tree.nodes.path(node))
        return [(b".", None), (b"..", None), *entries]

    async def _reply(
        self, entries: list[tuple[bytes, Stat | None]], index: int, node: Node, token: pyfuse3.ReaddirToken
    ) -> bool:
        """One entry of a listing: False if there was no room for it."""
        name, known = entries[index]
        if name in (b".", b".."):
            above = next(iter(node.names))[0] if node.names and name == b".." else node
            made = self.tree.attributes(above, Stat(mode=stat.S_IFDIR))
            return pyfuse3.readdir_reply(token, name, made, index + 1)  # the kernel does not count these
        if known is None:
            try:
                known = await self.calls(checks.status, self.plugin.lstat, self.tree.nodes.path(node, name))
            except pyfuse3.FUSEError as error:
                if error.errno == errno.ENOENT:
                    return True  # it has gone since
                return pyfuse3.readdir_reply(token, name, unknown(), index + 1)
            entries[index] = (
                name,
                known,
            )  # asked for once, also when the answer has to wait for the next request
        found = self.tree.nodes.found(node, name, known)
        if pyfuse3.readdir_reply(token, name, self.tree.attributes(found, known), index + 1):
            found.lookups += 1
            entries[index] = (name, None)  # by the next rewinddir it may be another
            return True
        self.tree.nodes.settle(found)
        return False

    async def releasedir(self, fh: int) -> None:
        self.tree.opened.listed(fh)

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Nothing of ours is anywhere else than where the plugin has put it."""

    # Changes

    @_handler(changes=True)
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return await self._make(parent_inode, name, self.plugin.mkdir, stat.S_IMODE(mode))

    @_handler(changes=True)
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if stat.S_ISREG(mode) and not self.plugin.answers("mknod"):
            return await self._make(parent_inode, name, self._make_file, stat.S_IMODE(mode))
        return await self._make(parent_inode, name, self.plugin.mknod, mode, rdev)

    async def _make_file(self, path: bytes, mode: int) -> None:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        file = await self.calls(checks.file, self.plugin.open, path, flags, mode)
        file.path = path
        await self.calls(checks.nothing, file.flush)
        await self.calls(checks.nothing, file.close)

    @_handler(changes=True)
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        async def link(path: bytes) -> None:
            await self.calls(checks.nothing, self.plugin.symlink, target, path)

        return await self._make(parent_inode, name, link)

    async def _make(
        self, parent_inode: int, name: bytes, method: Callable[..., Any], *arguments: object
    ) -> pyfuse3.EntryAttributes:
        parent = self.tree.nodes.get(parent_inode)
        if len(name) > _NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, "")
        async with self.tree.holding(parent, name=(parent, name)):
            await self.calls(checks.nothing, method, self.tree.nodes.path(parent, name), *arguments)
            return await self.tree.entry(parent, name)

    @_handler(changes=True)
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        node, parent = self.tree.nodes.get(inode), self.tree.nodes.get(new_parent_inode)
        async with self.tree.holding(node, parent):
            path = self.tree.nodes.path(parent, new_name)
            await self.calls(checks.nothing, self.plugin.link, self.tree.nodes.path(node), path)
            status = await self.calls(checks.status, self.plugin.lstat, path)
            self.tree.nodes.link(node, parent, new_name, status.ino)
            return await self.tree.entry(parent, new_name, status)

    @_handler(changes=True)
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._remove(parent_inode, name, self.plugin.unlink)

    @_handler(changes=True)
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._remove(parent_inode, name, self.plugin.rmdir)

    async def _remove(self, parent_inode: int, name: bytes, method: Callable[..., Any]) -> None:
        parent = self.tree.nodes.get(parent_inode)
        async with self.tree.holding(parent, name=(parent, name)):
            left = await self.tree.left_of(self.tree.nodes.find(parent, name))
            await self.calls(checks.nothing, method, self.tree.nodes.path(parent, name))
            self.tree.nodes.remove(parent, name, left)

    @_handler(changes=True)
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        if flags & ~_RENAMES or flags == _RENAMES:
            raise OSError(errno.EINVAL, "")
        if len(name_new) > _NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, "")
        parent, new_parent = self.tree.nodes.get(parent_inode_old), self.tree.nodes.get(parent_inode_new)
        async with self._renames:
            moved = [
                node
                for at in ((parent, name_old), (new_parent, name_new))
                if (node := self.tree.nodes.find(*at))
            ]
            self.tree.moved(moved, moving=True)
            try:
                while any(node.busy for node in moved):
                    await self.tree.somebody_leaves()
                over = self.tree.nodes.find(new_parent, name_new)
                left = None if flags & _EXCHANGE else await self.tree.left_of(over)
                old, new = self.tree.nodes.path(parent, name_old), self.tree.nodes.path(new_parent, name_new)
                await self.calls(checks.nothing, self.plugin.rename, old, new, flags)
                if flags & _EXCHANGE:
                    self.tree.nodes.exchange(parent, name_old, new_parent, name_new)
                else:
                    self.tree.nodes.rename(parent, name_old, new_parent, name_new, left)
            finally:
                self.tree.moved(moved, moving=False)

    @_handler(changes=True)
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        node = self.tree.nodes.get(inode)
        async with self.tree.holding(node):
            if fields.update_size:
                await self._truncate(node, fh, attr.st_size)
            if node.removed:
                self._change_removed(node, attr, fields)
            else:
                await self._change(self.tree.nodes.path(node), attr, fields)
            return self.tree.attributes(node, await self.tree.status(node))

    async def _change(
        self, path: bytes, attr: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields
    ) -> None:
        if fields.update_uid or fields.update_gid:
            uid, gid = attr.st_uid if fields.update_uid else -1, attr.st_gid if fields.update_gid else -1
            await self.calls(checks.nothing, self.plugin.chown, path, uid, gid)
        if fields.update_mode:
            await self.calls(checks.nothing, self.plugin.chmod, path, stat.S_IMODE(attr.st_mode))
        if fields.update_atime or fields.update_mtime:
            accessed = attr.st_atime_ns if fields.update_atime else None
            changed = attr.st_mtime_ns if fields.update_mtime else None
            await self.calls(checks.nothing, self.plugin.utimens, path, accessed, changed)

    def _change_removed(
        self, node: Node, attr: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields
    ) -> None:
        """No path leads there: what is remembered is all there is."""
        changes: dict[str, int] = {}
        if fields.update_mode:
            changes["mode"] = node.kind | stat.S_IMODE(attr.st_mode)
        for wanted, field, value in (
            (fields.update_uid, "uid", attr.st_uid),
            (fields.update_gid, "gid", attr.st_gid),
            (fields.update_atime, "atime_ns", attr.st_atime_ns),
            (fields.update_mtime, "mtime_ns", attr.st_mtime_ns),
        ):
            if wanted:
                changes[field] = value
        if changes:
            node.status = msgspec.structs.replace(node.status or Stat(mode=node.kind), **changes)

    async def _truncate(self, node: Node, fh: int | None, size: int) -> None:
        handle = self.tree.opened.handle(fh)
        writing = (one for one in self.tree.opened.of(node) if one.flags & os.O_ACCMODE != os.O_RDONLY)
        if handle is None and (node.removed or any(one.file.buffered for one in self.tree.opened.of(node))):
            handle = next(writing, None)
        if handle is not None:
            await self.tree.opened.truncate(handle, size)
        elif self.plugin.answers("truncate"):
            await self.calls(checks.nothing, self.plugin.truncate, self.tree.nodes.path(node), size)
        else:
            path = self.tree.nodes.path(node)
            file = await self.calls(checks.file, self.plugin.open, path, os.O_WRONLY, 0)
            file.path = path
            try:
                await self.calls(checks.nothing, file.ftruncate, size)
                await self.calls(checks.nothing, file.flush)
            finally:
                await self.calls(checks.nothing, file.close)

    # Files

    @_handler()
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        node = self.tree.nodes.get(inode)
        if self.readonly and (flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC):
            raise OSError(errno.EROFS, "")
        async with self.tree.holding(node):
            if node.removed:
                return self.tree.opened.again(node, flags)
            file = await self.calls(checks.file, self.plugin.open, self.tree.nodes.path(node), flags, 0)
            return self.tree.opened.add(node, file, flags, current.get())

    @_handler(changes=True)
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        parent = self.tree.nodes.get(parent_inode)
        if len(name) > _NAME_MAX:
            raise OSError(errno.ENAMETOOLONG, "")
        async with self.tree.holding(parent, name=(parent, name)):
            path = self.tree.nodes.path(parent, name)
            file = await self.calls(
                checks.file, self.plugin.open, path, flags | os.O_CREAT, stat.S_IMODE(mode)
            )
            try:
                known = await self.calls(checks.status_or_none, file.fstat) if file.buffered else None
                made = await self.tree.entry(parent, name, known)
            except pyfuse3.FUSEError:
                await self.calls(checks.nothing, file.close)
                raise
            node = self.tree.nodes.get(made.st_ino)
            return self.tree.opened.add(node, file, flags, current.get()), made

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return await self.tree.opened.read(fh, off, size)

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self.tree.opened.write(fh, off, buf)

    async def flush(self, fh: int) -> None:
        handle = self.tree.opened.get(fh)
        async with self._stored(handle):
            await self.tree.opened.flush(handle)

    async def fsync(self, fh: int, datasync: bool) -> None:
        handle = self.tree.opened.get(fh)
        async with self._stored(handle):
            await self.tree.opened.fsync(handle, datasync)

    @asynccontextmanager
    async def _stored(self, handle: Handle) -> AsyncIterator[None]:
        """A buffered file knows where it is to be stored meanwhile."""
        if not handle.file.buffered:
            yield
            return
        async with self.tree.holding(handle.node):
            handle.file.path = None if handle.node.removed else self.tree.nodes.path(handle.node)
            yield

    async def release(self, fh: int) -> None:
        await self.tree.opened.release(fh)

    # Extended attributes. ENOSYS once is enough for the kernel never to ask again: it asks before each write.

    @_handler()
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        return await self._attribute(inode, "getxattr", checks.attribute, name)

    @_handler()
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        return await self._attribute(inode, "listxattr", checks.attributes)

    @_handler(changes=True)
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._attribute(inode, "setxattr", checks.nothing, name, value)

    @_handler(changes=True)
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._attribute(inode, "removexattr", checks.nothing, name)

    async def _attribute(
        self, inode: int, method: str, check: Callable[[Any], _Answer], *arguments: bytes
    ) -> _Answer:
        if not self.plugin.answers(method):
            raise pyfuse3.FUSEError(errno.ENOSYS)
        node = self.tree.nodes.get(inode)
        async with self.tree.holding(node):
            return await self.calls(
                check, getattr(self.plugin, method), self.tree.nodes.path(node), *arguments
            )
