"""`vuctl rmmod VIEW MODULE…`: VUOS's vu_rmmod, from outside."""

import argparse

from vuosd.cli import insmod


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("view", metavar="VIEW", help="its name, or the number of a process in it")
    parser.add_argument("modules", metavar="MODULE", nargs="+")


def run(arguments: argparse.Namespace) -> int:
    return insmod.each("rmmod", arguments, [])
