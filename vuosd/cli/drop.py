"""`vuctl drop [VIEW]`: forget a layer, and what was changed in it."""

import argparse
import os

from vuosd.cli.layer_arguments import ONE_OF, add_store, chosen, store_argument
from vuosd.cli.trouble import recovered, trouble
from vuosd.cli.upon import mounted
from vuosd.layers import LayerError, drop, open_layer
from vuosd.layers.commit import recover
from vuosd.layers.store import interrupted


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("view", nargs="?", metavar="VIEW", help=ONE_OF)
    add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    return trouble("drop", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    store = store_argument(arguments)
    name = chosen(arguments.view, store)
    if interrupted(name, os.environ, store=store):
        with open_layer(name, os.environ, store=store, unfinished=True) as layer, mounted(layer, writes=True):
            if recovered(layer, recover(layer)):
                raise LayerError(f"layer {name} still holds these: drop it once more to forget them")
    drop(name, os.environ, store=store)
    return 0
