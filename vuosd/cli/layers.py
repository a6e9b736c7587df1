"""`vuctl layers`: what copy-on-write runs have left, and how much room it takes."""

import argparse
import os
import time
from typing import Any

from vuosd.cli.layer_arguments import add_store, store_argument
from vuosd.cli.output import age, fail, print_json, table
from vuosd.layers import LayerError
from vuosd.layers.listing import records_in
from vuosd.layers.lock import holder
from vuosd.layers.places import store_of
from vuosd.layers.size import bytes_on_disk, human
from vuosd.layers.store import JOURNAL


def configure(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    try:
        store = store_of(os.environ, store_argument(arguments))
        found = [_about(store, name, record) for name, record in records_in(store)]
    except LayerError as error:
        return fail(error)
    except OSError as error:
        return fail(f"cannot list the layers: {error}")
    if arguments.json:
        print_json(found)
        return 0
    rows = [
        (
            layer["name"],
            human(layer["size"]),
            "?" if layer["created"] is None else age(time.time() - layer["created"] / 1e9),
            layer["parent"] or "",
            _state(layer),
            ", ".join(tree["target"] for tree in layer["trees"]),
        )
        for layer in found
    ]
    table(("LAYER", "SIZE", "AGE", "PARENT", "STATE", "OVER"), rows)
    return 0


def _about(store: bytes, name: str, record: Any) -> dict[str, Any]:
    path = os.path.join(store, os.fsencode(name))
    busy = holder(path)
    return {
        "name": name,
        "path": os.fsdecode(path),
        "size": bytes_on_disk(path),
        "created": record and record.created,
        "parent": record and record.parent,
        "ephemeral": bool(record and record.ephemeral),
        "damaged": record is None,
        "interrupted": os.path.lexists(os.path.join(path, JOURNAL)),
        "in_use": busy is not None,
        "process": busy and busy.pid,
        "trees": [{"target": tree.target, "lower": list(tree.lower)} for tree in record.trees]
        if record
        else [],
    }


def _state(layer: dict[str, Any]) -> str:
    if layer["damaged"]:
        return "damaged"
    if layer["in_use"]:
        return f"in use by {layer['process'] or 'another process'}"
    if layer["interrupted"]:
        return "commit cut short"
    return "ephemeral" if layer["ephemeral"] else ""
