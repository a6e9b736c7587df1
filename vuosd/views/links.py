"""Symlinks in targets. No trio; all I/O is the `readlink` that is given.

The engine decides by the path that a walk arrives at, so an entry has to stand where its target's links
lead: with /var/run a link to /run, hiding /var/run/docker.sock hides /run/docker.sock. As in mount(2),
links are followed in the picture that the earlier entries make, the last component's too. A HIDE takes
away both the link and what it leads to: `~/.aws` is often a link into a repository of dot files.
"""

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from vuosd.views.model import Entry, Kind, View
from vuosd.views.table import host_path, in_kernel_directory, prefixes

Readlink = Callable[[bytes], bytes | None]

_MOST_LINKS = 40  # MAXSYMLINKS in include/linux/namei.h


def resolved(view: View, readlink: Readlink) -> View:
    """The view with its targets free of symlinks. `readlink`: a host path's link text, or None."""
    walk = _Walk(readlink)
    return replace(view, entries=tuple(entry for given in view.entries for entry in walk.add(given)))


class _Walk:
    def __init__(self, readlink: Readlink) -> None:
        self.readlink = readlink
        self.known: dict[bytes, bytes | None] = {}
        self.count = 0
        self.covers: dict[bytes, tuple[int, Entry]] = {}  # by target; the last of a path's prefixes decides

    def add(self, entry: Entry) -> Iterator[Entry]:
        """The entry where its target's links lead: for a link that is hidden, both ends."""
        end = self.follow(entry.target, last=True)
        if entry.kind is Kind.HIDE:
            link = self.follow(entry.target, last=False)
            # A history file that is a link to /dev/null must not take /dev/null away.
            if link != end and (end == b"/" or in_kernel_directory(end)):
                end = link
            if link != end:
                yield self.cover(replace(entry, target=link))
        yield self.cover(replace(entry, target=end) if end != entry.target else entry)

    def cover(self, entry: Entry) -> Entry:
        if entry.kind is not Kind.RO:
            self.count += 1
            self.covers[entry.target] = (self.count, entry)
        return entry

    def follow(self, path: bytes, *, last: bool) -> bytes:
        todo = path.split(b"/")[::-1]
        done = b""
        links = 0
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                done = done[: max(done.rfind(b"/"), 0)]
                continue
            here = done + b"/" + name
            link = self.link(here) if (todo or last) and links < _MOST_LINKS else None
            if link is None:
                done = here
                continue
            links += 1
            done = b"" if link.startswith(b"/") else done
            todo += link.split(b"/")[::-1]
        return done or b"/"

    def link(self, path: bytes) -> bytes | None:
        """The text of the symlink that the entries so far show at a path."""
        found = [self.covers[prefix] for prefix in prefixes(path) if prefix in self.covers]
        _, entry = max(found, key=lambda cover: cover[0], default=(0, None))
        if entry is not None and entry.target == b"/" and in_kernel_directory(path):
            entry = None
        if entry is not None and entry.target == path:
            return None  # what is mounted is no link
        source = host_path(entry, path)
        if source is None:
            return None
        if source not in self.known:
            self.known[source] = self.readlink(source)
        return self.known[source]
