"""Where vuos-run is."""

import os
import shutil
import sys


def find() -> str | None:
    """Beside vuctl, else in PATH; None where it is in neither."""
    beside = os.path.join(os.path.dirname(os.path.realpath(sys.argv[0])), "vuos-run")
    return beside if os.access(beside, os.X_OK) else shutil.which("vuos-run")
