"""`vuctl export VIEW FILE`: what a layer changes as an OCI image layer, a tar archive; "-": to stdout."""

import argparse
import os
import sys
from contextlib import ExitStack

from vuosd.cli.layer_arguments import add_store, store_argument
from vuosd.cli.trouble import trouble
from vuosd.cli.upon import mounted
from vuosd.layers import Layer, LayerError, open_layer
from vuosd.layers.archive import write
from vuosd.layers.changes import Comparison
from vuosd.layers.lock import holder
from vuosd.layers.quoting import quoted


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("view", metavar="VIEW", help="the layer's name")
    parser.add_argument("file", metavar="FILE", help='the archive to write; "-": standard output')
    parser.add_argument("--alone", action="store_true", help="of a branch: its changes upon its parent")
    add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    return trouble("export", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    with open_layer(arguments.view, os.environ, store=store_argument(arguments), reading=True) as layer:
        if busy := holder(layer.path):
            raise LayerError(f"layer {layer.name} is {busy}: wait for its end")
        if arguments.file == "-":
            if sys.stdout.isatty():
                raise LayerError("an archive is nothing for a terminal: name a file, or redirect the output")
            _write(layer, 1, alone=arguments.alone)
            return 0
        _to_file(layer, os.fsencode(arguments.file), alone=arguments.alone)
    return 0


def _to_file(layer: Layer, path: bytes, *, alone: bool) -> None:
    """Whole or not at all."""
    if os.path.exists(path) and not os.path.isfile(path):  # a device, or a pipe
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            _write(layer, fd, alone=alone)
        finally:
            os.close(fd)
        return
    temporary = path + b".%d.new" % os.getpid()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            _write(layer, fd, alone=alone)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _write(layer: Layer, fd: int, *, alone: bool) -> None:
    with ExitStack() as stack:
        stack.enter_context(mounted(layer))
        file = stack.enter_context(open(fd, "wb", closefd=False))
        trees = []
        for tree in layer.trees:
            prefix = tree.target.strip(b"/") if len(layer.trees) > 1 else b""
            trees.append((prefix, stack.enter_context(Comparison(tree, whole=not alone))))
        for path in write(trees, file):
            print(f"vuctl: left out: {quoted(path)}: an archive holds no sockets", file=sys.stderr)
