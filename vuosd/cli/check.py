"""`vuctl check PROFILE`: every mistake at once, each at its place."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from vuosd.cli.output import print_text

if TYPE_CHECKING:
    from vuosd.views import View


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "profile", nargs="+", metavar="PROFILE", help="a path, or a name as for vuos-run --view"
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="say nothing about a profile without mistakes"
    )


def run(arguments: argparse.Namespace) -> int:
    from vuosd.supervisor.view import view_of
    from vuosd.views import ProfileErrors

    status = 0
    for profile in arguments.profile:
        try:
            view = view_of(os.fsencode(profile), dict(os.environ), os.fsencode(os.getcwd()))
            if view.modules:
                _try_modules(view)
        except ProfileErrors as errors:
            sys.stdout.flush()
            print(str(errors).encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
            status = 1
            continue
        if not arguments.quiet:
            count = len(view.entries)
            print_text(f"{profile}: no mistakes ({count} {'entry' if count == 1 else 'entries'})")
    return status


def _try_modules(view: "View") -> None:
    """Their processes are started, and ended; ProfileErrors."""
    from vuosd.supervisor.modules.profile import begin, end

    end(begin(view, 0, dict(os.environ)))
