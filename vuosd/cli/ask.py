"""`vuctl ask LAYER`: shows what a layer changes, and asks what shall become of it, as vuos-run --ask does.

The question is put on the terminal, whatever stdin and stdout are. Exit status 0: it was answered; 1: there
is no terminal, or the layer cannot be shown.
"""

import argparse
import os
import shlex
import subprocess
import sys

from vuosd.cli import launcher
from vuosd.cli.layer_arguments import add_store, store_argument
from vuosd.cli.output import fail, print_text
from vuosd.layers import LayerError, drop

_CHOICES = ("commit", "drop", "keep", "shell", "diff")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("layer", metavar="LAYER", help="the layer's name")
    add_store(parser)
    parser.add_argument("--view", metavar="PROFILE", help="the view that a shell is to be in")


def run(arguments: argparse.Namespace) -> int:
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return fail("there is no terminal to ask on")
    try:
        return _ask(arguments, terminal)
    finally:
        os.close(terminal)


def _ask(arguments: argparse.Namespace, terminal: int) -> int:
    store = [] if arguments.store is None else [f"--store={arguments.store}"]
    layer = [*store, arguments.layer]
    shown = _vuctl("diff", *layer)
    while True:
        if shown != 1:
            return 1 if shown else 0
        answer = _answer(terminal, arguments.layer)
        if answer == "keep":
            words = " ".join(map(shlex.quote, layer))
            print_text(f"kept; vuctl diff {words} | commit {words} | drop {words}")
            return 0
        if (answer == "commit" and _vuctl(answer, *layer) == 0) or (answer == "drop" and _drop(arguments)):
            return 0
        if answer == "shell":
            _shell(arguments, store)
        if answer in ("shell", "diff"):
            shown = _vuctl("diff", *layer)


def _vuctl(*words: str) -> int:
    """Another command, in this process, with what it prints before what comes next."""
    from vuosd.cli.main import main

    status = main(words)
    sys.stdout.flush()
    return status


def _drop(arguments: argparse.Namespace) -> bool:
    try:
        drop(arguments.layer, os.environ, store=store_argument(arguments))
    except LayerError as error:
        fail(error)
        return False
    return True


def _answer(terminal: int, name: str) -> str:
    """One of the choices, of which a beginning is enough; "keep" when nobody answers."""
    question = f"layer {name}: commit, drop, keep, shell, diff? "
    while True:
        try:
            os.write(terminal, question.encode("utf-8", "backslashreplace"))
            line = os.read(terminal, 4096)
        except (KeyboardInterrupt, OSError):  # EIO: the terminal has gone
            os.write(sys.stdout.fileno(), b"\n")
            return "keep"
        word = line.decode("utf-8", "replace").strip().lower()
        if not line:
            return "keep"
        found = [choice for choice in _CHOICES if word and choice.startswith(word)]
        if len(found) == 1:
            return found[0]
        question = "commit, drop, keep, shell or diff (c, dr, k, s, di are enough)? "


def _shell(arguments: argparse.Namespace, store: list[str]) -> None:
    """A shell that goes on in the layer."""
    path = launcher.find()
    if path is None:
        print_text("vuctl: cannot find vuos-run beside vuctl or in PATH")
        return
    view = [] if arguments.view is None else [f"--view={arguments.view}"]
    shell = os.environ.get("SHELL") or "/bin/sh"
    with open("/dev/tty", "r+b", buffering=0) as terminal:
        words = [path, *view, *store, f"--on={arguments.layer}", "--", shell]
        subprocess.run(words, stdin=terminal, stdout=terminal, stderr=terminal, check=False)
