"""The arguments of commands that tell of one running view."""

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """`[VIEW] [--json]`."""
    parser.add_argument(
        "view",
        nargs="?",
        metavar="VIEW",
        help="its name, or the number of a process in it; needed when several run",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
