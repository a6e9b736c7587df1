"""`vuctl mounts [VIEW]`: what has been mounted in a view since it runs."""

import argparse
import time
from typing import Any

from vuosd.cli import view_argument
from vuosd.cli.output import age, fail, print_json, print_text, table
from vuosd.control.client import ControlError, ask


def configure(parser: argparse.ArgumentParser) -> None:
    view_argument.add(parser)


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
            _waiting(mount),
            age(max(0.0, time.time() - mount["since"])),
            mount["target"],
            mount["source"],
            mount["options"],
        )
        for mount in reply["mounts"]
    ]
    table(("NUMBER", "TYPE", "TRANSPORT", "SERVER", "WAITING", "AGE", "TARGET", "SOURCE", "OPTIONS"), rows)
    free = [str(mount["number"]) for mount in reply["mounts"] if mount["bounded"] is False]
    if free:
        text = "Servers that nothing keeps from the user's files"
        print_text(f"\n{text}: {', '.join(free)}; see `vuctl doctor`")
    return 0


def _waiting(mount: dict[str, Any]) -> str:
    """Requests under way, and the age of the oldest."""
    if mount["waiting"] is None:
        return "-"
    oldest = mount["oldest"]
    return str(mount["waiting"]) + (f" ({oldest:.1f} s)" if oldest else "")
