"""A command of vuctl once more, in a view that mounts what layers stand upon: where this machine lets nobody
mount a FUSE file system, only the processes of a view can read one.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack

import msgspec

from vuosd.cli import launcher
from vuosd.layers import LayerError
from vuosd.layers.record import System

_SHOWN = "VUOSD_SHOWN"
"""Of the command in the view: JSON, [[System, path of its root], …]."""


class NeedsView(Exception):
    """The file systems that the command has to read."""

    def __init__(self, systems: Iterable[System]) -> None:
        self.systems = tuple({mounted(system): None for system in systems})


def mounted(system: System) -> System:
    """What of it one mount shows: it is only read, whichever directory of it."""
    words = [word for word in system.options.split(",") if word and not word.startswith("transport=")]
    if "ro" not in words:
        words.append("ro")
    return System(system.type, system.source, ",".join(words), readonly=True)


def is_again() -> bool:
    """Whether this command is one that was made once more: what it had to say at first has been said."""
    return _SHOWN in os.environ


def shown(system: System) -> bytes | None:
    """Where the view that this command is in shows it; None where it is in none that was made for it."""
    text = os.environ.get(_SHOWN)
    if text is None:
        return None
    roots = dict(msgspec.json.decode(text, type=list[tuple[System, str]]))
    return os.fsencode(roots[mounted(system)]) if mounted(system) in roots else None


def run(systems: Iterable[System]) -> int:
    """The exit status of this process's command, made in such a view. LayerError."""
    program = launcher.find()
    if program is None:
        text = "vuos-run, which is to mount what the layer stands upon, is neither beside vuctl nor in PATH"
        raise LayerError(text)
    with ExitStack() as stack:
        roots = []
        profile = stack.enter_context(tempfile.NamedTemporaryFile("w", prefix="vuctl-", suffix=".toml"))
        for system in systems:
            target = stack.enter_context(tempfile.TemporaryDirectory(prefix="vuctl-"))
            keys = {"type": system.type, "source": system.source, "target": target, "options": system.options}
            lines = [f"{key} = {json.dumps(value)}\n" for key, value in keys.items()]
            profile.write("[[mount]]\n" + "".join(lines))
            roots.append((system, target))
        profile.flush()
        sys.stdout.flush()
        environment = {**os.environ, _SHOWN: msgspec.json.encode(roots).decode()}
        words = [program, f"--view={profile.name}", "--", *_again()]
        return subprocess.run(words, env=environment, check=False).returncode


def _again() -> list[str]:
    if sys.argv[0].endswith(".py"):  # python -m
        return [sys.executable, *sys.argv]
    return sys.argv
