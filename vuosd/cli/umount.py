"""`vuctl umount VIEW TARGET`: what was mounted there last."""

import argparse

from vuosd.cli.mount import SECONDS
from vuosd.cli.output import fail
from vuosd.control.client import ControlError, ask

_MNT_FORCE, _MNT_DETACH = 1, 2


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("view", metavar="VIEW", help="its name, or the number of a process in it")
    parser.add_argument("target", metavar="TARGET", help="a path in the view, from its root")
    parser.add_argument("-l", "--lazy", action="store_true", help="whoever uses it may go on")
    parser.add_argument(
        "-f", "--force", action="store_true", help="of a server that hangs: its users get errors"
    )


def run(arguments: argparse.Namespace) -> int:
    flags = (_MNT_FORCE if arguments.force else 0) | (_MNT_DETACH if arguments.lazy else 0)
    try:
        ask(
            "mounting",
            ask="umount",
            view=arguments.view,
            seconds=SECONDS,
            target=arguments.target,
            flags=flags,
        )
    except ControlError as error:
        return fail(error)
    return 0
