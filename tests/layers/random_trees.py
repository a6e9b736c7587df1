"""Trees and layers for Hypothesis: few names, so that they meet."""

from typing import Any

from hypothesis import strategies as st
from layers.trees import OPAQUE, WHEN, Dir, File, Link, Pipe, Spec, Whiteout

NAMES = st.sampled_from([b"a", b"b", b"\xfe c", b"d\n"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
FILES = st.builds(
    File,
    st.sampled_from([b"", b"1", b"2", b"22"]),
    mode=st.sampled_from([0o644, 0o600, 0o4755, 0o000]),
    mtime=st.sampled_from([WHEN, WHEN + 1]),
    xattrs=st.sampled_from([{}, {"user.k": b"v"}]),
)
DIRECTORIES = st.builds(Dir, st.sampled_from([0o755, 0o700]))
LINKS = st.builds(Link, NAMES)
PLAIN = st.one_of(FILES, DIRECTORIES, LINKS, st.just(Pipe()))
MARKED = st.one_of(PLAIN, st.just(Whiteout()), st.just(Dir(xattrs=OPAQUE)))


def consistent(spec: dict[bytes, Any]) -> Spec:
    """Without what would lie below something that is no directory."""
    found: dict[bytes, Any] = {}
    for path, thing in sorted(spec.items()):
        parents = [path[:at] for at in range(len(path)) if path[at : at + 1] == b"/"]
        if all(isinstance(found.get(parent, Dir()), Dir) for parent in parents):
            found[path] = thing
    return found
