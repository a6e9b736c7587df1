"""`vuctl ps`: the views that run."""

import argparse

from vuosd.cli.output import age, command_line, fail, print_json, table
from vuosd.control.client import ControlError, ask


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    try:
        reply = ask("ps")
    except ControlError as error:
        return fail(error)
    if arguments.json:
        print_json(reply)
        return 0
    rows = [
        (
            row["pid"],
            row["name"],
            age(row["age"]),
            row["processes"],
            row["stats"]["notifications"] if row["stats"] else "?",
            command_line(row["command"]),
        )
        for row in reply["sessions"]
    ]
    # Of another daemon, or of none: their tag is all that is known.
    rows += [(row["worker"] or "-", "(private)", "-", row["processes"], "-", "") for row in reply["others"]]
    table(("PID", "VIEW", "AGE", "PROCESSES", "CALLS", "COMMAND"), rows)
    return 0
