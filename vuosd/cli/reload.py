"""`vuctl reload NAME [VIEW]`: a plugin's code as it is now, where it runs: a module, or the mounts of a type
of file system. Without VIEW in all views that run.
"""

import argparse

from vuosd.cli.mount import SECONDS
from vuosd.cli.output import fail, print_text
from vuosd.control.client import ControlError, ask


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of a module that is loaded, or a type that is mounted")
    parser.add_argument("view", nargs="?", metavar="VIEW", help="its name, or the number of a process in it")


def run(arguments: argparse.Namespace) -> int:
    """1 if nothing has this name, or some of it cannot be reloaded."""
    status, found = 0, False
    try:
        views = [arguments.view] if arguments.view is not None else _running()
        for view in views:
            try:
                said = ask(
                    "mounting", ask="reload", view=view, module=arguments.name, words=[], seconds=SECONDS
                )["said"]
            except ControlError as error:
                status, found = fail(error), True
                continue
            found = found or bool(said)
            for line in said.splitlines():
                print_text(line if len(views) == 1 else f"{line} (in view {view})")
    except ControlError as error:
        return fail(error)
    if not found:
        where = "no view that runs has a" if arguments.view is None else f"view {arguments.view} has no"
        return fail(f"{where} module {arguments.name}, or file system of that type")
    return status


def _running() -> list[str]:
    return [str(view["pid"]) for view in ask("ps")["sessions"]]
