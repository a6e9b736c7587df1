"""`vuctl mounts [VIEW]`: what has been mounted in a view since it runs."""

import argparse
import time

from vuosd.cli.output import age, fail, print_json, table
from vuosd.control.client import ControlError, ask


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "view",
        nargs="?",
        metavar="VIEW",
        help="its name, or the number of a process in it; needed when several run",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    try:
        reply = ask("mounting", ask="mounts", view=arguments.view)
    except ControlError as error:
        return fail(error)
    if arguments.json:
        print_json(reply)
        return 0
    rows = [
        (
            mount["number"],
            mount["type"],
            mount["transport"],
            "dead" if mount["dead"] else mount["server"] or "-",
            age(max(0.0, time.time() - mount["since"])),
            mount["target"],
            mount["source"],
            mount["options"],
        )
        for mount in reply["mounts"]
    ]
    table(("NUMBER", "TYPE", "TRANSPORT", "SERVER", "AGE", "TARGET", "SOURCE", "OPTIONS"), rows)
    return 0
