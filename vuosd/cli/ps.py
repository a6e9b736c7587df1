"""`vuctl ps`: the views that run."""

import argparse
import time

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
    rows: list[tuple[object, ...]] = []
    for row in reply["sessions"]:
        calls = row["stats"]["notifications"] if row["stats"] else "?"
        told = (age(row["age"]), row["processes"], calls, command_line(row["command"]))
        rows.append((row["pid"], row["name"], *told))
        for one in row["entered"]:
            since = age(max(0.0, time.time() - one["since"]))
            rows.append((one["pid"], f"{row['name']} (entered)", since, "", "", command_line(one["command"])))
    # Of another daemon, or of none: their tag is all that is known.
    rows += [(row["worker"] or "-", "(private)", "-", row["processes"], "-", "") for row in reply["others"]]
    table(("PID", "VIEW", "AGE", "PROCESSES", "CALLS", "COMMAND"), rows)
    return 0
