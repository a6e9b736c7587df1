#!/usr/bin/env python3
"""Print what pyproject.toml asks for at run time and for one extra, one requirement a line, for pip -r.

So the environment is made once and the package, which changes all day, is installed into it without asking an
index.
Usage: requirements.py EXTRA
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


def expand(requirements: list[str]) -> Iterator[str]:
    """An extra may name others of our own: vuosd[test,check]."""
    for requirement in requirements:
        if ours := re.fullmatch(r"vuosd\[(.+)\]", requirement):
            for extra in ours[1].split(","):
                yield from expand(PROJECT["optional-dependencies"][extra.strip()])
        else:
            yield requirement


for line in expand(PROJECT["dependencies"] + PROJECT["optional-dependencies"][sys.argv[1]]):
    print(line)
