"""How much a layer holds, for what vuos-run says at the end."""

import os
from collections.abc import Collection
from typing import NamedTuple

from vuosd.layers import Tree

_MOST_COMPARED = 2000
_MOST_READ = 64 << 20


class Count(NamedTuple):
    number: int
    exact: bool

    def __str__(self) -> str:
        if not self.exact and not self.number:
            return "nobody could see how many changes"
        text = "1 change" if self.number == 1 else f"{self.number} changes"
        return text if self.exact else f"up to {text}"


def count(trees: Collection[Tree]) -> Count:
    """How many paths `vuctl diff --alone` would list. It looks into the files, for which nobody waits at the
    end of a command: for much, what is in the layer is counted.
    """
    number = size = 0
    for tree in trees:
        for _, directories, names, fd in os.fwalk(tree.upper):
            number += len(names) + len(directories)
            size += sum(os.stat(name, dir_fd=fd, follow_symlinks=False).st_size for name in names)
    if number > _MOST_COMPARED or size > _MOST_READ or any(tree.system for tree in trees):
        return Count(number, False)
    from vuosd.layers.changes import Comparison

    number = 0
    for tree in trees:
        with Comparison(tree, whole=False) as comparison:
            number += len(comparison.changes())
    return Count(number, True)
