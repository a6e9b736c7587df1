"""`vuctl enter VIEW -- COMMAND…`: a command in a view that runs.

It becomes `vuos-run --enter=VIEW`, with everything as it was given to us: what Python has changed on the way
is put back, so that COMMAND finds what env(1) would hand to it.
"""

import argparse
import os
import signal
from collections.abc import Mapping

from vuosd.cli import launcher
from vuosd.cli.output import fail

FAILED = 125
"""As of env(1) and vuos-run: not the command's own exit status."""
USAGE_STATUS = FAILED


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("view", metavar="VIEW", help="its name, or the number of a process in it")
    parser.add_argument("words", metavar="[--] COMMAND", nargs=argparse.REMAINDER)
    parser.epilog = (
        "Signals, job control and exit status are those of COMMAND. 125: it could not be begun; "
        "126: COMMAND cannot be executed; 127: COMMAND is not found."
    )


def run(arguments: argparse.Namespace) -> int:
    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    if not words:
        fail(f"a command is missing: vuctl enter {arguments.view} -- COMMAND [ARGUMENT...]")
        return FAILED
    path = launcher.find()
    if path is None:
        fail("cannot find vuos-run beside vuctl or in PATH")
        return FAILED
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and a program would inherit
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(path, ["vuos-run", f"--enter={arguments.view}", "--", *words], _environment())
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    return FAILED


def _environment() -> Mapping[bytes, bytes]:
    """The one that we were started with: in the C locale Python adds LC_CTYPE to its own (PEP 538)."""
    try:
        with open("/proc/self/environ", "rb") as file:
            lines = file.read().split(b"\0")
    except OSError:
        return os.environb
    found: dict[bytes, bytes] = {}
    for line in lines:
        name, equals, value = line.partition(b"=")
        if equals:
            found.setdefault(name, value)
    return found
