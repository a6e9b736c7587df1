"""How the commands about layers fail: one sentence, exit status 2; what they say of a commit cut short."""

import os
import sys
from collections.abc import Callable

from vuosd.cli import within
from vuosd.layers import Layer, LayerError
from vuosd.layers.commit import Recovered
from vuosd.layers.errors import name_of, reason
from vuosd.layers.quoting import quoted

TROUBLE = 2


def trouble(what: str, command: Callable[[], int]) -> int:
    """The command's status, or what went wrong with it, told. A closed pipe is main()'s matter."""
    try:
        try:
            return command()
        except within.NeedsView as needs:
            return within.run(needs.systems)
    except LayerError as error:
        _say(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        name = error.filename
        where = (
            "" if name is None else " " + name_of(name if isinstance(name, bytes) else os.fsencode(str(name)))
        )
        _say(f"cannot {what}{where}: {reason(error)}")
    return TROUBLE


def recovered(layer: Layer, what: Recovered | None) -> int:
    """Tell what became of a commit that was cut short; exit status 1 if some of it stays in the layer."""
    if what is None:
        return 0
    done = "has been completed" if what.completed else "has been undone"
    _say(f"a commit of layer {layer.name} that was cut short {done}")
    for path, why in sorted(what.failed.items()):
        _say(f"not committed: {quoted(path)}: {why}; it stays in the layer")
    return int(bool(what.failed))


def _say(text: str) -> None:
    sys.stdout.flush()
    print(f"vuctl: {text}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
