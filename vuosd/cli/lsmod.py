"""`vuctl lsmod [VIEW]`: VUOS's vu_lsmod, from outside."""

import argparse

from vuosd.cli.output import fail, print_text
from vuosd.control.client import ControlError, ask


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("view", nargs="?", metavar="VIEW", help="its name, or the number of a process in it")


def run(arguments: argparse.Namespace) -> int:
    try:
        said = ask("mounting", ask="lsmod", view=arguments.view, module="", words=[])["said"]
    except ControlError as error:
        return fail(error)
    for line in said.splitlines():
        print_text(line)
    return 0
