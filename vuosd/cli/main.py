"""`vuctl COMMAND`: finds the command's module and imports no other."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

COMMANDS = {
    "ps": "list the views that run",
    "show": "show one view: its entries, its environment, its counts",
    "enter": "run a command in a view that runs",
    "mount": "mount a file system in a view that runs",
    "umount": "unmount what was mounted in a view that runs",
    "mounts": "list what has been mounted in a view since it runs",
    "insmod": "load modules of VUOS's names in a view",
    "rmmod": "unload them",
    "lsmod": "list those that are loaded",
    "reload": "run a plugin's code as it is now, where it is loaded or mounted",
    "check": "find all mistakes in a profile",
    "layers": "list the layers that copy-on-write runs have left",
    "diff": "say what a layer changes",
    "commit": "make what a layer changes so in the real tree",
    "ask": "show what a layer changes, and ask: commit, drop, keep or a shell",
    "drop": "forget a layer",
    "export": "write what a layer changes as an OCI image layer",
    "branch": "begin a layer upon another",
    "new-plugin": "write a file system or module to begin with, and its test",
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
            _module(name).configure(command)
    arguments, module = _parsed(parser, words, chosen)
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


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"vuosd.cli.{command.replace('-', '_')}")


def _parsed(
    parser: argparse.ArgumentParser, words: list[str], chosen: str | None
) -> tuple[argparse.Namespace, ModuleType]:
    """A command with PATHS_AFTER_DASHES has `paths` after "--", whatever it has got before: argparse would
    take the first of them for VIEW."""
    paths: list[str] = []
    if chosen in COMMANDS and "--" in words:
        module = _module(chosen)
        if getattr(module, "PATHS_AFTER_DASHES", False):
            at = words.index("--")
            words, paths = words[:at], words[at + 1 :]
    try:
        arguments = parser.parse_args(words)
    except SystemExit as end:
        if end.code == 2 and chosen in COMMANDS:  # the command may have another number for it
            raise SystemExit(getattr(_module(chosen), "USAGE_STATUS", 2)) from None
        raise
    if paths:
        arguments.paths += paths
    return arguments, _module(arguments.command)


if __name__ == "__main__":
    sys.exit(main())
