#!/usr/bin/env python3
"""Print the version, which is written once: in vuosd/__init__.py. Read, not imported: the build has no
dependencies yet."""

import pathlib
import re

text = (pathlib.Path(__file__).parent.parent / "vuosd/__init__.py").read_text()
match = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
if match is None:
    raise SystemExit("vuosd/__init__.py: no __version__")
print(match[1])
