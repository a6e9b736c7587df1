"""`vuctl stop`: the daemon ends, and with --force the views that still run in it."""

import argparse

from vuosd.cli.output import fail
from vuosd.control.client import ControlError, connect, exchange, wait_for_end


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="end the views that still run, too")


def run(arguments: argparse.Namespace) -> int:
    try:
        with connect() as sock:
            reply = exchange(sock, "stop", force=arguments.force)
            if not wait_for_end(sock):
                return fail(f"vuosd (process {reply['pid']}) was told to end and has not yet")
    except ControlError as error:
        return fail(error)
    return 0
