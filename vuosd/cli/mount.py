"""`vuctl mount VIEW -t TYPE [-o OPTIONS] SOURCE TARGET`: SOURCE is a path here, TARGET one in the view."""

import argparse
import os

from vuosd.cli.output import fail
from vuosd.control.client import ControlError, ask

SECONDS = 65.0
_MS_RDONLY = 1


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("view", metavar="VIEW", help="its name, or the number of a process in it")
    parser.add_argument(
        "source", metavar="SOURCE", help="image, directory, archive, URL: what the type takes"
    )
    parser.add_argument("target", metavar="TARGET", help="a path in the view, from its root")
    parser.add_argument("-t", "--types", metavar="TYPE", required=True, help="type of file system")
    parser.add_argument("-o", "--options", metavar="LIST", action="append", default=[], help="with commas")
    parser.add_argument("-r", "--read-only", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    source = arguments.source
    try:
        ask(
            "mounting",
            ask="mount",
            view=arguments.view,
            seconds=SECONDS,
            type=arguments.types,
            source=source,
            path=os.path.abspath(source) if os.path.exists(source) else source,
            target=arguments.target,
            flags=_MS_RDONLY if arguments.read_only else 0,
            options=",".join(arguments.options),
        )
    except ControlError as error:
        return fail(error)
    return 0
