"""`vuctl branch VIEW NEW`: a second layer, upon another, which is only read from then on."""

import argparse
import os

from vuosd.cli.layer_arguments import add_store, store_argument
from vuosd.cli.trouble import trouble
from vuosd.layers import branch


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("view", metavar="VIEW", help="the layer to go on from")
    parser.add_argument("new", metavar="NEW", help="the new one's name")
    add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    return trouble("branch", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    branch(arguments.view, arguments.new, os.environ, store=store_argument(arguments))
    return 0
