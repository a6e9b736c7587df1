"""What servers of ours reach, and programs that are known by their names: see Needs in types.py."""

import os
import re
from collections.abc import Callable

from vuosd.api.options import take
from vuosd.api.types import Needs, unknown_needs

SSH = Needs(reads=("~/.ssh",), writes=("~/.ssh/known_hosts",), network=True, agent=True)
"""What ssh(1) is to know of the user; it notes the keys of hosts."""

_HOMES = {
    "sftp": ("~/.ssh",), "ssh": ("~/.ssh",), "s3": ("~/.aws",), "s3a": ("~/.aws",),
    "gs": ("~/.config/gcloud",), "gcs": ("~/.config/gcloud",), "abfs": ("~/.azure",), "az": ("~/.azure",),
    "http": ("~/.netrc",), "https": ("~/.netrc",),
}  # fmt: skip
"""Where the packages that fsspec's stores are made of look for names and passwords."""
_LOCAL = (
    "file",
    "local",
    "memory",
    "zip",
    "tar",
    "libarchive",
    "dir",
    "simplecache",
    "filecache",
    "blockcache",
)
_FIRST_PART = re.compile(r"/[^/]+\.(0*[01]|aa+)$")
_ADDRESS = re.compile(r"([a-z0-9+.-]+)://(.*)", re.DOTALL)


def store(source: str, options: str) -> Needs:
    """Of an address as fsspec has it, several of them with "::" between them."""
    reads: list[str] = ["~/.config/fsspec"]
    sources: list[str] = []
    network = agent = False
    for part in source.split("::"):
        scheme, path = match.groups() if (match := _ADDRESS.fullmatch(part)) else ("file", part)
        if os.path.isabs(path):
            sources.append(path)
        network = network or scheme not in _LOCAL
        agent = agent or scheme in ("sftp", "ssh")
        reads += _HOMES.get(scheme, ())
    return Needs(reads=tuple(reads), sources=tuple(sources), network=network, agent=agent)


def archive(source: str, options: str) -> Needs:
    """The list of contents is kept where the option says. Of one in parts the others are in its directory."""
    index = take(options, "index")[0] or ""
    parts = (os.path.dirname(source),) if _FIRST_PART.search(source) else ()
    writes = (os.path.dirname(index),) if os.path.isabs(index) else ()
    return Needs(changes=False, reads=parts, writes=writes)


def _nothing(source: str, options: str) -> Needs:
    return Needs()


OURS: dict[str, Callable[[str, str], Needs]] = {
    "archive": archive, "fsspec": store, "memory": _nothing, "procinfo": _nothing, "real": _nothing,
}  # fmt: skip
"""Of entry points that are classes of ours."""

_PROGRAMS = {
    **dict.fromkeys(("fuse2fs", "squashfuse", "squashfuse_ll", "fusefat", "fuseiso", "erofsfuse"), Needs()),
    **dict.fromkeys(("bindfs", "rofs-filtered"), Needs()),
    "fuse-ext2": Needs(probes=True),
    "fuse-zip": Needs(beside=True),
    "sshfs": SSH,
}


def of_program(name: str, source: str) -> Needs:
    """Of `fuse.NAME`."""
    found = _PROGRAMS.get(name)
    return unknown_needs(source) if found is None else found
