"""Inode numbers for paths. No I/O, no trio.

The kernel speaks of numbers that it has got by looking names up, and tells when it forgets them; a plugin
knows paths. A Node is what both mean: it has a number for as long as the kernel knows it, it may have
several names (hard links) or, removed while open, none, and a path is read off its names when it is needed,
so a rename is the moving of one node."""

import errno
import os
import stat
from collections.abc import Iterator
from hashlib import blake2b

from vuosd.api import Stat

ROOT = 1


class Node:
    """`lookups`: how often the kernel has been given it; `opened`: handles; `busy`: calls of the plugin
    under way with its path or one below it; `moving`: a rename waits for those or has begun; `status`: what
    is known of it when no path leads to it any more."""

    __slots__ = (
        "busy",
        "children",
        "key",
        "kind",
        "lookups",
        "moving",
        "names",
        "number",
        "opened",
        "status",
    )

    def __init__(self, number: int, kind: int, key: int = 0) -> None:
        self.number = number
        self.kind = kind
        self.key = key
        self.names: dict[tuple[Node, bytes], None] = {}
        self.children: dict[bytes, Node] = {}
        self.lookups = 0
        self.opened = 0
        self.busy = 0
        self.moving = False
        self.status: Stat | None = None

    @property
    def removed(self) -> bool:
        return not self.names and self.number != ROOT

    def upward(self) -> Iterator["Node"]:
        """It and what it lies in, up to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = next(iter(node.names))[0] if node.names else None


def gone(number: int = errno.ESTALE) -> OSError:
    return OSError(number, os.strerror(number))


class Nodes:
    """All nodes that the kernel knows, or that lie above such."""

    def __init__(self) -> None:
        self.root = Node(ROOT, stat.S_IFDIR)
        self._numbers = {ROOT: self.root}
        self._linked: dict[int, Node] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def get(self, number: int) -> Node:
        """ESTALE: the kernel asks for what it has forgotten, which it never does."""
        try:
            return self._numbers[number]
        except KeyError:
            raise gone() from None

    def path(self, node: Node, name: bytes | None = None) -> bytes:
        """The path of a node, or of a name in it. ESTALE if no path leads there any more."""
        parts = [] if name is None else [name]
        while node is not self.root:
            if not node.names:
                raise gone()
            node, part = next(iter(node.names))
            parts.append(part)
        return b"/" + b"/".join(reversed(parts))

    def find(self, parent: Node, name: bytes) -> Node | None:
        return parent.children.get(name)

    def found(self, parent: Node, name: bytes, status: Stat) -> Node:
        """The node for what the plugin says is there now."""
        kind = stat.S_IFMT(status.mode)
        key = status.ino if status.nlink > 1 and kind != stat.S_IFDIR else 0
        node = parent.children.get(name)
        if node is not None:
            if node.kind == kind and (not key or not node.key or key == node.key):
                if key and not node.key:
                    self._linked.setdefault(key, node)
                    node.key = key
                return node
            self.remove(parent, name)  # something else has come to its place, unknown to us
        node = self._linked.get(key) if key else None
        if node is None or node.kind != kind:
            node = Node(self._number(self.path(parent, name), status.ino), kind, key)
            self._numbers[node.number] = node
            if key:
                self._linked[key] = node
        self._attach(node, parent, name)
        return node

    def link(self, node: Node, parent: Node, name: bytes, key: int) -> None:
        """A second name; `key` is the plugin's own number for the object, if it has one."""
        self._attach(node, parent, name)
        if key and not node.key:
            node.key = key
            self._linked.setdefault(key, node)

    def forget(self, number: int, count: int) -> None:
        """The kernel knows it `count` times less. Numbers that we have not given out are none of our
        business."""
        node = self._numbers.get(number)
        if node is not None:
            node.lookups = max(0, node.lookups - count)
            self.settle(node)

    def settle(self, node: Node) -> None:
        """Drop a node that nobody needs any more, and those above it that were kept for its sake."""
        while node is not self.root and not (node.lookups or node.opened or node.children or node.busy):
            parents = [parent for parent, _ in node.names]
            for parent, name in list(node.names):
                self._detach(parent, name)
            self._numbers.pop(node.number, None)
            if self._linked.get(node.key) is node:
                del self._linked[node.key]
            for parent in parents[1:]:
                self.settle(parent)
            if not parents:
                return
            node = parents[0]

    def remove(self, parent: Node, name: bytes, status: Stat | None = None) -> None:
        """The name is gone. `status` is what is remembered of the node if that was the last one."""
        node = self._detach(parent, name)
        if node is not None:
            if node.removed and status is not None:
                node.status = status
            self.settle(node)

    def rename(
        self, parent: Node, name: bytes, new_parent: Node, new_name: bytes, replaced: Stat | None
    ) -> None:
        """As rename(2): what was at the new name has lost it."""
        node = parent.children.get(name)
        over = new_parent.children.get(new_name)
        if node is not None and node is over:
            return  # two names of one file: rename(2) does nothing
        self.remove(new_parent, new_name, replaced)
        if node is not None:
            self._detach(parent, name)
            self._attach(node, new_parent, new_name)

    def exchange(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> None:
        """As renameat2(2) with RENAME_EXCHANGE."""
        one, other = self._detach(parent, name), self._detach(new_parent, new_name)
        if one is not None:
            self._attach(one, new_parent, new_name)
        if other is not None:
            self._attach(other, parent, name)

    def known(self) -> Iterator[Node]:
        return iter(list(self._numbers.values()))

    def _attach(self, node: Node, parent: Node, name: bytes) -> None:
        parent.children[name] = node
        node.names[parent, name] = None
        node.status = None

    def _detach(self, parent: Node, name: bytes) -> Node | None:
        node = parent.children.pop(name, None)
        if node is not None:
            node.names.pop((parent, name), None)
        return node

    def _number(self, path: bytes, wanted: int) -> int:
        """The plugin's number if it is free; else one that is the same whenever this path is looked up:
        tar, rm and find compare what they have seen before. 52 bits: JavaScript keeps numbers as
        doubles."""
        number = wanted or int.from_bytes(blake2b(path, digest_size=8).digest()) >> 12
        salt = 0
        while number <= ROOT or number in self._numbers or number >= 1 << 64:
            salt += 1
            number = int.from_bytes(blake2b(b"%d:%s" % (salt, path), digest_size=8).digest()) >> 12
        return number
