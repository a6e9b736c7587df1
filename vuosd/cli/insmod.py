"""`vuctl insmod VIEW MODULE…`: VUOS's vu_insmod, from outside."""

import argparse

from vuosd.cli.mount import SECONDS
from vuosd.cli.output import fail
from vuosd.control.client import ControlError, ask


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("view", metavar="VIEW", help="its name, or the number of a process in it")
    parser.add_argument("modules", metavar="MODULE", nargs="+")
    parser.add_argument("-p", "--permanent", action="store_true", help="cannot be unloaded")
    parser.add_argument("-o", "--options", metavar="LIST", action="append", default=[], help="with commas")


def run(arguments: argparse.Namespace) -> int:
    return each("insmod", arguments, [*(["permanent"] if arguments.permanent else []), *arguments.options])


def each(what: str, arguments: argparse.Namespace, words: list[str]) -> int:
    """Ask it for each module; the exit status."""
    try:
        for module in arguments.modules:
            ask("mounting", ask=what, view=arguments.view, module=module, words=words, seconds=SECONDS)
    except ControlError as error:
        return fail(error)
    return 0
