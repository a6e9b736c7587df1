"""What the commands about layers have in common: which layer, which paths of it, and how paths are shown."""

import argparse
import os
import shlex
from collections.abc import Sequence

from vuosd.layers import LayerError, Tree, open_layer
from vuosd.layers.errors import name_of
from vuosd.layers.listing import names_in
from vuosd.layers.places import store_of
from vuosd.layers.quoting import quoted

ONE_OF = "the layer's name; needed when there are several"


def add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        metavar="DIR",
        help="where the layers are, if not in $XDG_STATE_HOME/vuos (~/.local/state/vuos)",
    )


def store_argument(arguments: argparse.Namespace) -> bytes | None:
    return None if arguments.store is None else os.path.abspath(os.fsencode(arguments.store))


def chosen(name: str | None, store: bytes | None, command: str = "") -> str:
    """The layer's name: the one that was given, or the only one there is. LayerError.

    Never the newest of several: which one that is nobody sees, and `drop` is not to be taken back.
    `command`: one that takes paths too, so that the word may have been meant for one.
    """
    place = store_of(os.environ, store)
    names = names_in(place)
    if name is not None:
        if command and name not in names and (having := _that_change(name, names, store)):
            word = shlex.quote(name)
            calls = " or ".join(f"`vuctl {command} {shlex.quote(layer)} {word}`" for layer in having[:4])
            which = "layer" if len(having) == 1 else "layers"
            raise LayerError(
                f"no layer {name_of(os.fsencode(name))} in {name_of(place)}: it is a path that {which} "
                f"{', '.join(having[:4])} changed; {calls}"
            )
        return name
    if len(names) == 1:
        return names[0]
    if not names:
        raise LayerError(f"there is no layer in {name_of(place)}: `vuos-run --cow` makes one")
    listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    raise LayerError(f"which layer? there are {len(names)}: {listed}")


def _that_change(word: str, names: Sequence[str], store: bytes | None) -> list[str]:
    """The layers that have something at a path."""
    found = []
    for name in names:
        try:
            with open_layer(name, os.environ, store=store, reading=True, unfinished=True) as layer:
                tree, path = Paths(layer.trees).parse(os.fsencode(word))
                if path and os.path.lexists(os.path.join(tree.upper, path)):
                    found.append(name)
        except LayerError:
            continue  # damaged, or not over it
    return found


class Paths:
    """Paths as a person writes and reads them, in the current directory, about the trees of one layer.

    Inside a tree they are relative to the current directory, as git has it; elsewhere relative to the tree,
    if the layer has only one, else absolute.
    """

    def __init__(self, trees: Sequence[Tree]) -> None:
        self.trees = trees
        self._cwd = os.fsencode(os.getcwd())
        self._in_cwd = self._cwd.rstrip(b"/") + b"/"
        self._inside = any(below(self._cwd, tree.target) for tree in trees)

    def shown(self, tree: Tree, path: bytes) -> bytes:
        """As it is printed; `parse` understands it."""
        if self._inside:
            absolute = os.path.join(tree.target, path)
            if absolute.startswith(self._in_cwd):  # most are, and relpath takes its time
                return absolute[len(self._in_cwd) :] or b"."
            return os.path.relpath(absolute, self._cwd)
        if len(self.trees) == 1:
            return path or b"."
        return os.path.join(tree.target, path) if path else tree.target

    def text(self, tree: Tree, path: bytes, *, directory: bool = False) -> str:
        shown = self.shown(tree, path)
        return quoted(shown + b"/" if directory and not shown.endswith(b"/") else shown)

    def parse(self, word: bytes) -> tuple[Tree, bytes]:
        """The tree, and the path in it. LayerError: it is in none."""
        if not self._inside and len(self.trees) == 1 and not word.startswith(b"/"):
            base = self.trees[0].target
        else:
            base = self._cwd
        absolute = os.path.normpath(os.path.join(base, word))
        absolute = b"/" + absolute.lstrip(b"/")
        holding = [tree for tree in self.trees if below(absolute, tree.target)]
        if not holding:
            listed = ", ".join(name_of(tree.target) for tree in self.trees)
            raise LayerError(f"{name_of(word)} is not in the layer: it is over {listed}")
        tree = max(holding, key=lambda tree: len(tree.target))
        return tree, absolute[len(tree.target.rstrip(b"/")) + 1 :]


def below(path: bytes, tree: bytes) -> bool:
    return path == tree or path.startswith(tree.rstrip(b"/") + b"/")
