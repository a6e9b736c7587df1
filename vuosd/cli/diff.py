"""`vuctl diff [VIEW] [-- PATH...]`: what a layer changes. Exit status 0: nothing, 1: some, 2: trouble."""

import argparse
import os
import sys
from contextlib import ExitStack

from vuosd.cli import within
from vuosd.cli.layer_arguments import ONE_OF, Paths, add_store, chosen, store_argument
from vuosd.cli.output import print_json
from vuosd.cli.patches import print_patch, print_stat
from vuosd.cli.status import as_json, print_names, print_status
from vuosd.cli.trouble import recovered, trouble
from vuosd.cli.upon import mounted
from vuosd.layers import Tree, open_layer
from vuosd.layers.changes import Change, Comparison
from vuosd.layers.commit import recover
from vuosd.layers.lock import holder
from vuosd.layers.select import covered
from vuosd.layers.store import interrupted

PATHS_AFTER_DASHES = True


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("view", nargs="?", metavar="VIEW", help=ONE_OF)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="only this, and what is below it (after --)")
    add_store(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--name-only", action="store_true", help="print paths alone")
    how.add_argument("--stat", action="store_true", help="count lines")
    how.add_argument("-p", "--patch", action="store_true", help="print a patch, for patch -p1 or git apply")
    how.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-a", "--all", action="store_true", help="name what new and deleted directories hold")
    parser.add_argument("--alone", action="store_true", help="of a branch: its changes upon its parent")


def run(arguments: argparse.Namespace) -> int:
    return trouble("compare", lambda: _run(arguments))


def _finish(name: str, store: bytes | None) -> None:
    """A commit that was cut short is completed or undone first: until then the layer is half of one."""
    with open_layer(name, os.environ, store=store, unfinished=True) as layer, mounted(layer, writes=True):
        recovered(layer, recover(layer))


def _run(arguments: argparse.Namespace) -> int:
    store = store_argument(arguments)
    name = chosen(arguments.view, store, "diff")
    if interrupted(name, os.environ, store=store):
        _finish(name, store)
    with open_layer(name, os.environ, store=store, reading=True) as layer:
        if (busy := holder(layer.path)) and not within.is_again():
            print(f"vuctl: layer {name} is {busy}: it may be changing", file=sys.stderr)
        some = False
        with ExitStack() as stack:
            stack.enter_context(mounted(layer))
            paths = Paths(layer.trees)
            wanted = [paths.parse(os.fsencode(word)) for word in arguments.paths]
            found: list[tuple[Tree, list[Change]]] = []
            compared: list[tuple[Tree, Comparison, list[Change]]] = []
            for tree in layer.trees:
                only = [path for of, path in wanted if of is tree]
                comparison = stack.enter_context(Comparison(tree, whole=not arguments.alone))
                changes = comparison.changes()
                if wanted:
                    changes = [change for change in changes if covered(change.path, only)]
                found.append((tree, changes))
                compared.append((tree, comparison, changes))
                some = some or bool(changes)
            if arguments.json:
                print_json(as_json(layer, found))
            elif arguments.name_only:
                print_names(paths, found)
            elif arguments.stat:
                print_stat(paths, compared)
            elif arguments.patch:
                print_patch(compared)
            else:
                print_status(paths, found, everything=arguments.all)
        return int(some)
