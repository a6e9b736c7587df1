"""What a layer stands upon that only a view has mounted: while the view runs it is asked for that, else it is
mounted for the time of the command.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from vuosd.cli import within
from vuosd.layers import Layer, LayerError, Tree
from vuosd.layers.errors import name_of
from vuosd.layers.lock import holder
from vuosd.layers.record import System

if TYPE_CHECKING:
    from vuosd.supervisor.mounting.alone import Alone

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def mounted(layer: Layer, *, writes: bool = False) -> Iterator[None]:
    """Within it nothing is missing below the layer's trees. `writes`: also to be written to, where its view
    would. LayerError.
    """
    before = layer.trees
    if not any(tree.system for tree in before):
        yield
        return
    with ExitStack() as stack:
        busy = None if layer.locked else holder(layer.path)
        systems = _Systems(layer, stack, writes=writes)
        trees = []
        for tree in before:
            if tree.system:
                asked = busy if tree.mount is None or within.shown(tree.mount) is None else None
                fd = None if asked is None else _of_session(layer, tree, asked.pid)
                fd = systems.root(tree) if fd is None else fd
                stack.callback(os.close, fd)
                tree = tree._replace(lowers=(*tree.lowers, b"/proc/self/fd/%d" % fd))
            trees.append(tree)
        layer.trees = tuple(trees)
        try:
            yield
        finally:
            layer.trees = before


def _trouble(layer: Layer, tree: Tree, what: str) -> LayerError:
    upon = f"layer {layer.name} stands upon {name_of(tree.system)} at {name_of(tree.target)}"
    return LayerError(f"{upon}, which only a view has mounted, and {what}")


def _of_session(layer: Layer, tree: Tree, pid: int | None) -> int | None:
    """From the worker of the session that uses the layer; None where only its processes can read it: then
    nobody writes there, and it is mounted once more. LayerError.
    """
    from vuosd.control.client import ControlError, connect, exchange

    try:
        with connect() as sock:
            target = os.fsdecode(tree.target)
            answer = exchange(sock, "mounting", view=str(pid), ask="below", target=target)
        if answer["wired"]:
            return None
        fd = os.open(f"/proc/{answer['process']}/fd/{answer['descriptor']}", _DIRECTORY)
    except ControlError as error:
        text = f"the view that runs cannot be asked for it ({error}): wait for its end"
        raise _trouble(layer, tree, text) from None
    except OSError as error:
        raise _trouble(layer, tree, f"the view that runs does not give it away: {error.strerror}") from None
    now = holder(layer.path)
    if now is None or now.pid != pid:  # the number may have been another's already
        os.close(fd)
        raise _trouble(layer, tree, "that view has just ended: try again")
    return fd


class _Systems:
    """Those that are mounted for one command; each once, however many trees stand upon it."""

    def __init__(self, layer: Layer, stack: ExitStack, *, writes: bool) -> None:
        self._layer, self._stack, self._writes = layer, stack, writes
        self._roots: dict[tuple[str, str, str, bool], int] = {}

    def root(self, tree: Tree) -> int:
        """A descriptor of what the tree stands upon. LayerError."""
        how = tree.mount
        if how is None:
            text = "it is not known how: run its command once more with --name, or look into the layer there"
            raise _trouble(self._layer, tree, text)
        if (path := within.shown(how)) is not None:
            return self._open(tree, path, None)
        key = (how.type, how.source, how.options, how.readonly)
        if key not in self._roots:
            self._roots[key] = self._mount(tree, how)
        return self._open(tree, os.fsencode(how.directory), self._roots[key])

    def _open(self, tree: Tree, path: bytes, root: int | None) -> int:
        assert tree.mount is not None
        if root is None:
            path = os.path.join(path, os.fsencode(tree.mount.directory))
        try:
            return os.open(path, _DIRECTORY, dir_fd=root)
        except OSError as error:
            text = f"{name_of(os.fsencode(tree.mount.directory))} in it cannot be opened: {error.strerror}"
            raise _trouble(self._layer, tree, text) from None

    def _mount(self, tree: Tree, how: System) -> int:
        from vuosd.supervisor.mounting.alone import Alone, NoMounts
        from vuosd.supervisor.mounting.errors import MountError

        readonly = how.readonly or not self._writes
        try:
            alone = Alone(how.type, how.source, how.options, os.environ, readonly=readonly)
        except NoMounts as error:
            if readonly:
                mounts = [other.mount for other in self._layer.trees if other.system and other.mount]
                raise within.NeedsView(mounts) from None
            text = f"it cannot be mounted now: {str(error).removeprefix('vuosd: ')}"
            raise _trouble(self._layer, tree, text) from None
        except MountError as error:
            text = f"it cannot be mounted now: {str(error).removeprefix('vuosd: ')}"
            raise _trouble(self._layer, tree, text) from None
        self._stack.callback(self._unmount, alone, tree)
        return alone.fd

    def _unmount(self, alone: "Alone", tree: Tree) -> None:
        if not alone.close() and self._writes:
            text = "its server had to be killed: what it had not written is lost"
            raise _trouble(self._layer, tree, text)
