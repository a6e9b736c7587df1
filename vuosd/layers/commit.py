"""Commit: what a layer changes becomes so in the real tree, all of it or some paths.

    judge     conflicts and permissions first; nothing is done if there are any          plan.py, conflicts.py
    begin     the plan, into the journal
    stage     new files under temporary names, to the disk                               stage.py
    GO        into the journal. Cut short before: undone. From here on: completed
    apply     names of the real tree change                                              apply.py
    DONE      into the journal
    clear     what has been committed leaves the layer                                   clear.py
    end       the journal goes away

At each moment every content is in the layer, in the real tree or in both. recover() is to be called before
anything else is done with a layer that has a journal.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from vuosd.layers import journal, origins, record
from vuosd.layers.apply import apply
from vuosd.layers.beneath import Beneath
from vuosd.layers.changes import Comparison
from vuosd.layers.clear import clear_all, clear_some
from vuosd.layers.conflicts import Judge
from vuosd.layers.errors import LayerError, name_of, reason
from vuosd.layers.plan import Outlook, Planner
from vuosd.layers.select import covered, tied
from vuosd.layers.stage import remove_temporaries, stage, undo
from vuosd.layers.steps import Plan
from vuosd.layers.store import Layer, Tree


class Recovered(NamedTuple):
    """What became of a commit that was cut short. completed: else it was undone; failed: paths (absolute)
    that stay in the layer, and why."""

    completed: bool
    failed: dict[bytes, str]


def outlook(
    layer: Layer,
    wanted: Mapping[Tree, Sequence[bytes]] | None,
    resolution: str | None = None,
) -> dict[Tree, Outlook]:
    """What a commit would do. wanted: paths of each tree, None: everything; resolution: plan.OURS, THEIRS.

    LayerError: a path is not changed, or the layer cannot be committed. OSError.
    """
    found = {}
    identity = secrets.token_hex(4)
    for tree in layer.trees:
        if wanted is not None and len(tree.hosts) > 1:
            raise LayerError(
                f"layer {layer.name} is over several trees, {name_of(tree.lowers[-1])} the last of them: "
                "only all of it can be committed"
            )
        if wanted is not None and tree.parents:
            raise LayerError(
                f"layer {layer.name} is a branch of {layer.parent}: only all of it can be committed, with "
                "what the parent changed"
            )
        roots = None if wanted is None else list(wanted.get(tree, ()))
        with Comparison(tree) as comparison:
            levels = comparison.stack.levels[: 1 + tree.parents]
            books = [
                origins.read(os.path.join(os.path.dirname(level.root.root), b"origins")) for level in levels
            ]
            judge = Judge(comparison, list(books), layer.created)
            planner = Planner(comparison, judge, identity, branch=bool(tree.parents))
            found[tree] = planner.outlook(roots, resolution)
            if roots:
                _check_changed(tree, roots, found[tree], comparison)
    return found


def _check_changed(tree: Tree, roots: Sequence[bytes], of: Outlook, comparison: Comparison) -> None:
    paths = [change.path for change in (*of.done, *of.dropped)]
    for root in roots:
        if not any(covered(path, [root]) for path in paths):
            full = name_of(os.path.join(tree.target, root) if root else tree.target)
            raise LayerError(f"{full} is not changed in the layer: `vuctl diff` lists what is")
    if comparison.redirected and (moved := tied(comparison, paths)) is not None:
        raise LayerError(
            f"{name_of(os.path.join(tree.target, moved))} was renamed by reference (an overlay redirect), "
            "and what is to be committed has to do with it: only all of the layer can be committed, or "
            "other paths"
        )


def commit(layer: Layer, found: Mapping[Tree, Outlook]) -> dict[bytes, str]:
    """Do what outlook() said, which had no conflicts; the layer is locked. Returns the paths (absolute) that
    changed meanwhile or were refused by the system, and why; they stay in the layer.

    LayerError: it could not be made ready; everything is as it was.
    """
    detach = any(tree.parents for tree in layer.trees)
    plan = Plan(journal.FORMAT, layer.name, [plan for of in found.values() for plan in of.plans], detach)
    try:
        journal.begin(layer.journal, plan)
    except OSError as error:
        raise LayerError(f"cannot write the journal {name_of(layer.journal)}: {reason(error)}") from None
    try:
        go = journal.Go([stage(tree) for tree in plan.trees])
        journal.note(layer.journal, go)
    except OSError as error:
        _undo(layer, plan)
        where = "the new files"
        if error.filename is not None:
            where = name_of(_shown(layer, os.fsencode(error.filename)))
        raise LayerError(f"nothing was committed: cannot make {where} ready: {reason(error)}") from None
    return _complete(layer, journal.Entry(plan, go))


def recover(layer: Layer) -> Recovered | None:
    """Complete or undo the commit that was cut short, if there is one; the layer is locked. LayerError."""
    entry = journal.read(layer.journal, layer.name)
    if entry is None:
        return None
    entry = journal.Entry(_as_mounted_now(layer, entry.plan), entry.go, entry.done)
    if entry.go is None:
        _undo(layer, entry.plan)
        return Recovered(False, {})
    return Recovered(True, _complete(layer, entry))


def _as_mounted_now(layer: Layer, plan: Plan) -> Plan:
    """What a view's file system is found at, and its device number, are others each time it is mounted."""
    trees = {os.path.basename(tree.directory): tree for tree in layer.trees if tree.system}
    plans = []
    for of in plan.trees:
        tree = trees.get(os.path.basename(of.directory))
        if tree is not None and not tree.hosts:
            text = f"a commit of layer {layer.name} was cut short, and what the layer has at"
            upon = f"{name_of(tree.target)} stands upon {name_of(tree.system)}, which is not mounted"
            raise LayerError(f"{text} {upon}: `vuctl commit {layer.name}` finishes it")
        if tree is not None:
            of = msgspec.structs.replace(of, root=tree.hosts[0])
            device = os.stat(of.root).st_dev
            for step in of.steps:
                if step.before is not None:
                    step.before = msgspec.structs.replace(step.before, dev=device)
        plans.append(of)
    return msgspec.structs.replace(plan, trees=plans)


def _shown(layer: Layer, path: bytes) -> bytes:
    """A path for a person: in a file system that is mounted for a command, the view's."""
    for tree in layer.trees:
        if tree.system and tree.hosts and path.startswith(tree.hosts[0] + b"/"):
            return tree.target.rstrip(b"/") + path[len(tree.hosts[0]) :]
    return path


def _undo(layer: Layer, plan: Plan) -> None:
    try:
        for tree in plan.trees:
            undo(tree)
        journal.end(layer.journal)
    except OSError as error:
        raise LayerError(
            f"the commit of layer {layer.name} cannot be undone now: {reason(error)}; nothing is lost: "
            f"`vuctl commit {layer.name}` will try again"
        ) from None


def _complete(layer: Layer, entry: journal.Entry) -> dict[bytes, str]:
    """From GO on."""
    plan, go, done = entry.plan, entry.go, entry.done
    assert go is not None
    try:
        if done is None:
            failed = [apply(tree, inodes) for tree, inodes in zip(plan.trees, go.inodes, strict=True)]
            done = journal.Done(failed)
            journal.note(layer.journal, done)
        _clear(layer, plan, go, done)
        journal.end(layer.journal)
    except OSError as error:
        where = ""
        if error.filename is not None:
            where = f" ({os.fsdecode(_shown(layer, os.fsencode(error.filename)))})"
        raise LayerError(
            f"the commit of layer {layer.name} is not complete: {reason(error)}{where}; nothing is lost: "
            f"`vuctl commit {layer.name}` will complete it"
        ) from None
    found: dict[bytes, str] = {}
    for tree, reasons in zip(plan.trees, done.failed, strict=True):
        found |= {_shown(layer, os.path.join(tree.root, path)): why for path, why in reasons.items()}
    return found


def _clear(layer: Layer, plan: Plan, go: journal.Go, done: journal.Done) -> None:
    for tree, inodes in zip(plan.trees, go.inodes, strict=True):
        with Beneath(tree.root) as root:
            remove_temporaries(root, tree, inodes)
    several = len({tree.directory for tree in plan.trees}) < len(plan.trees)
    if any(done.failed) and (plan.detach or several or any(tree.redirected for tree in plan.trees)):
        return  # such a layer goes as a whole or not at all; what has been done is no change any more
    if plan.detach:
        layer.record = msgspec.structs.replace(layer.record, parent=None)
        record.write(layer.path, layer.record)
    for tree, failed in zip(plan.trees, done.failed, strict=True):
        if tree.roots is None and not failed:
            clear_all(tree)
        elif tree.roots is None or tree.roots:
            clear_some(tree, frozenset(failed), layer.created)
