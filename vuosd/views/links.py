"""Symlinks in targets. No trio; all I/O is the `readlink` that is given.

The engine decides by the path that a walk arrives at, so an entry has to stand where its target's links
lead: with /var/run a link to /run, hiding /var/run/docker.sock hides /run/docker.sock. As in mount(2),
links are followed in the picture that the earlier entries make, the last component's too. A HIDE takes
away both the link and what it leads to: `~/.aws` is often a link into a repository of dot files.
"""

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from vuosd.views.model import Entry, Kind, View
from vuosd.views.table import Cover, host_paths, in_kernel_directory, ungrounded

Readlink = Callable[[bytes], bytes | None]
"""The text of a link; b"" for what is none, None for what does not exist."""

_MOST_LINKS = 40  # MAXSYMLINKS in include/linux/namei.h


def resolved(view: View, readlink: Readlink) -> View:
    """The view with its targets free of symlinks."""
    walk = _Walk(readlink)
    return replace(view, entries=tuple(entry for given in view.entries for entry in walk.add(given)))


class _Walk:
    def __init__(self, readlink: Readlink) -> None:
        self.readlink = readlink
        self.known: dict[bytes, bytes | None] = {}
        self.covers = Cover()

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
        # What an RO, or an entry without a source, shows is what is there: it hides no link.
        if entry.kind is not Kind.RO and not ungrounded(entry):
            self.covers.add(entry)
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
        entry = self.covers.at(path)
        if entry is not None and entry.target == path:
            return None  # what is mounted is no link
        for source in host_paths(entry, path):
            if source not in self.known:
                self.known[source] = self.readlink(source)
            if self.known[source] is not None:
                return self.known[source] or None
        return None
