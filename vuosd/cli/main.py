"""`vuctl COMMAND`: finds the command's module and imports no other."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "ps": "list the views that run",
    "show": "show one view: its entries, its environment, its counts",
    "check": "find all mistakes in a profile",
    "doctor": "say what this machine gives to views, what is missing and why it matters",
    "stop": "end the daemon",
}


def main(argv: Sequence[str] | None = None) -> int:
    from vuosd import __version__

    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(prog="vuctl", description="Control and inspect views and their daemon.")
    parser.add_argument("--version", action="version", version=f"vuctl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == chosen:
            importlib.import_module(f"vuosd.cli.{name}").configure(command)
    arguments = parser.parse_args(words)
    module = importlib.import_module(f"vuosd.cli.{arguments.command}")
    try:
        status: int = module.run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # `vuctl ps | head`: python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
