"""`vuctl commit [VIEW] [PATH...]`: what a layer changes becomes so in the real tree.

Exit status 0: done, or nothing to do; 1: conflicts, or paths that may not be changed; 2: trouble.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from vuosd.cli.layer_arguments import ONE_OF, Paths, add_store, chosen, store_argument
from vuosd.cli.output import print_text
from vuosd.cli.status import print_status
from vuosd.cli.trouble import recovered, trouble
from vuosd.cli.upon import mounted
from vuosd.layers import Layer, Tree, open_layer
from vuosd.layers.commit import commit, outlook, recover
from vuosd.layers.plan import OURS, THEIRS, Outlook, Problem
from vuosd.layers.quoting import quoted

PATHS_AFTER_DASHES = True


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("view", nargs="?", metavar="VIEW", help=ONE_OF)
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="only this, and what is below it (without VIEW: after --)"
    )
    add_store(parser)
    parser.add_argument("-n", "--dry-run", action="store_true", help="say what would be done, and do nothing")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--ours", action="store_true", help="where the real tree has changed since: the layer's counts"
    )
    how.add_argument(
        "--theirs",
        action="store_true",
        help="where the real tree has changed since: that stays, and the layer's is forgotten",
    )


def run(arguments: argparse.Namespace) -> int:
    return trouble("commit", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    store = store_argument(arguments)
    name = chosen(arguments.view, store, "commit")
    with open_layer(name, os.environ, store=store, unfinished=True) as layer, mounted(layer, writes=True):
        paths = Paths(layer.trees)
        status = recovered(layer, recover(layer))
        wanted = _wanted(paths, arguments.paths)
        resolution = OURS if arguments.ours else THEIRS if arguments.theirs else None
        found = outlook(layer, wanted, resolution)
        if _refused(paths, found):
            return 1
        _print_notes(paths, found)
        if arguments.dry_run:
            print_status(paths, [(tree, of.done) for tree, of in found.items()], everything=True)
            return status
        failed = commit(layer, found)
        _print_done(layer, found, failed)
        return 1 if failed else status


def _wanted(paths: Paths, words: Sequence[str]) -> Mapping[Tree, list[bytes]] | None:
    if not words:
        return None
    wanted: dict[Tree, list[bytes]] = {}
    for word in words:
        tree, path = paths.parse(os.fsencode(word))
        wanted.setdefault(tree, []).append(path)
    return wanted


def _refused(paths: Paths, found: Mapping[Tree, Outlook]) -> bool:
    """Whether nothing is done; then it has been said why."""
    conflicts = [(tree, problem) for tree, of in found.items() for problem in of.conflicts]
    denied = [(tree, problem) for tree, of in found.items() for problem in of.denied]
    undecided = [(tree, problem) for tree, of in found.items() for problem in of.undecided]
    for tree, problem in (*conflicts, *denied, *undecided):
        _say("cannot commit", paths, tree, problem)
    if conflicts:
        print(
            f"vuctl: nothing was committed: {_count(len(conflicts), 'conflict')}; --ours takes the layer's, "
            "--theirs leaves the real tree's; name a PATH to decide one by one",
            file=sys.stderr,
        )
    if denied:
        print(
            f"vuctl: nothing was committed: {_count(len(denied), 'path')} may not be changed by this user; "
            "name the others as PATH, or commit as a user who may",
            file=sys.stderr,
        )
    fixed = next(
        (tree for tree, of in found.items() if of.denied and tree.mount and tree.mount.readonly), None
    )
    if fixed is not None:
        print(
            f"vuctl: the view mounts {quoted(fixed.system)} read-only, and so nothing is written there: "
            "`vuctl export` takes the changes out as an archive",
            file=sys.stderr,
        )
    if undecided:
        print(
            f"vuctl: nothing was committed: the real trees could not show {_count(len(undecided), 'change')} "
            "together as the layer does; change those trees yourself, then commit",
            file=sys.stderr,
        )
    return bool(conflicts or denied or undecided)


def _print_notes(paths: Paths, found: Mapping[Tree, Outlook]) -> None:
    for tree, of in found.items():
        for problem in of.notes:
            _say("note", paths, tree, problem)


def _say(what: str, paths: Paths, tree: Tree, problem: Problem) -> None:
    text = f"vuctl: {what}: {paths.text(tree, problem.path)}: {problem.reason}"
    print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)


def _print_done(layer: Layer, found: Mapping[Tree, Outlook], failed: Mapping[bytes, str]) -> None:
    for path, why in sorted(failed.items()):
        print(f"vuctl: not committed: {quoted(path)}: {why}; it stays in the layer", file=sys.stderr)
    done = sum(len(of.done) for of in found.values()) - len(failed)
    dropped = sum(len(of.dropped) for of in found.values())
    if not done and not dropped and not failed:
        print_text(f"layer {layer.name} changes nothing: nothing to commit")
        return
    more = f", {_count(dropped, 'change')} forgotten" if dropped else ""
    print_text(f"{_count(done, 'change')} committed{more}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
