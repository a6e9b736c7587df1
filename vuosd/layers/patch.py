"""Changes as a patch that `git apply` and `patch -p1` take; and how many lines each of them is.

A patch knows files (their content, and whether they may be executed) and symbolic links. Directories go
and come with what is in them. What else has changed is told in lines that begin with "vuctl:", which those
programs pass over; binary files are only named, with their sizes.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

from vuosd.layers import lines
from vuosd.layers.beneath import join
from vuosd.layers.changes import Change, Comparison, Kind
from vuosd.layers.compare import link_text, open_part
from vuosd.layers.overlay import Found, Stack
from vuosd.layers.quoting import quoted

_NOTHING = b"/dev/null"


class Size(NamedTuple):
    """Of one change: lines; or, `binary`, bytes before and after."""

    added: int
    removed: int
    binary: bool = False


def patch(comparison: Comparison, changes: list[Change], prefix: bytes) -> Iterator[bytes]:
    """The text of it, in pieces; `prefix` leads to the tree. OSError."""
    for change in changes:
        path = join(prefix, change.path)
        if change.kind is Kind.TYPE:
            yield from _one(comparison, path, change.old, None)
            yield from _one(comparison, path, None, change.new)
        else:
            yield from _one(comparison, path, change.old, change.new)
        yield from _remarks(path, change)


def size(comparison: Comparison, change: Change) -> Size | None:
    """None: no content has changed. OSError."""
    old, new = change.old, change.new
    if change.kind is Kind.METADATA or not (_has_content(old) or _has_content(new)):
        return None
    with ExitStack() as stack:
        before = _content(stack, comparison.stack, old)
        after = _content(stack, comparison.stack, new)
        if _binary(before) or _binary(after):
            added, removed = (os.fstat(fd).st_size if fd >= 0 else 0 for fd in (after, before))
            return Size(added, removed, binary=True)
        return Size(*lines.counts(before, after))


def _has_content(found: Found | None) -> bool:
    return found is not None and (stat.S_ISREG(found.st.st_mode) or stat.S_ISLNK(found.st.st_mode))


def _git_mode(found: Found) -> bytes:
    if stat.S_ISLNK(found.st.st_mode):
        return b"120000"
    return b"100755" if found.st.st_mode & 0o100 else b"100644"


def _one(comparison: Comparison, path: bytes, old: Found | None, new: Found | None) -> Iterator[bytes]:
    old, new = (found if _has_content(found) else None for found in (old, new))
    if old is None and new is None:
        return
    names = [_quoted(side + path) for side in (b"a/", b"b/")]
    head = [b"diff --git %s %s\n" % (names[0], names[1])]
    if old is None and new is not None:
        head.append(b"new file mode %s\n" % _git_mode(new))
    elif new is None and old is not None:
        head.append(b"deleted file mode %s\n" % _git_mode(old))
    elif new is not None and old is not None and _git_mode(new) != _git_mode(old):
        head.append(b"old mode %s\nnew mode %s\n" % (_git_mode(old), _git_mode(new)))
    elif new is not None and old is not None and stat.S_ISLNK(new.st.st_mode):
        # Only this line tells patch(1) that the text is a link's.
        blobs = [_blob(link_text(comparison.stack, found.top)) for found in (old, new)]
        head.append(b"index %s..%s 120000\n" % tuple(blobs))
    with ExitStack() as stack:
        before, after = (_content(stack, comparison.stack, found) for found in (old, new))
        from_name = names[0] if old is not None else _NOTHING
        to_name = names[1] if new is not None else _NOTHING
        if _binary(before) or _binary(after):
            yield b"".join(head)
            yield b"Binary files %s and %s differ\n" % (from_name, to_name)
            was, now = (os.fstat(fd).st_size if fd >= 0 else 0 for fd in (before, after))
            yield b"vuctl: binary %s: %d -> %d bytes\n" % (_quoted(path), was, now)
            return
        hunks = lines.hunks(before, after)
        first = next(hunks, None)
        if first is None:
            if len(head) > 1:
                yield b"".join(head)
            return
        yield b"".join(head) + b"--- %s\n+++ %s\n" % (_ended(from_name), _ended(to_name))
        yield first
        yield from hunks


def _blob(text: bytes) -> bytes:
    """The name that git gives to such a content."""
    return hashlib.sha1(b"blob %d\0%s" % (len(text), text), usedforsecurity=False).hexdigest()[:12].encode()


def _quoted(path: bytes) -> bytes:
    return quoted(path, ascii_only=True).encode()


def _ended(name: bytes) -> bytes:
    """With a tab, where a space in the name might be taken for its end."""
    return name + b"\t" if b" " in name and not name.startswith(b'"') else name


def _content(stack: ExitStack, tree: Stack, found: Found | None) -> int:
    """A descriptor: of a file, or of a link's text in memory; -1: nothing."""
    if found is None:
        return -1
    if stat.S_ISLNK(found.st.st_mode):
        fd = os.memfd_create("link", os.MFD_CLOEXEC)
        stack.callback(os.close, fd)
        os.write(fd, link_text(tree, found.top))
        return fd
    if not stat.S_ISREG(found.st.st_mode):
        return -1
    fd = open_part(tree, found.content)
    stack.callback(os.close, fd)
    return fd


def _binary(fd: int) -> bool:
    return fd >= 0 and lines.is_binary(fd)


def _remarks(path: bytes, change: Change) -> Iterator[bytes]:
    """What a patch cannot say."""
    name = _quoted(path)
    for word, found in (("deleted", change.old), ("new", change.new)):
        if found is None or _has_content(found) or change.kind in (Kind.METADATA, Kind.MODIFIED):
            continue
        mode = stat.filemode(found.st.st_mode)
        yield f"vuctl: {word} ".encode() + name + f" ({mode})\n".encode()
    if change.new is not None and change.old is not None and change.attributes:
        rest = [attribute for attribute in change.attributes if attribute != "times"]
        if "mode" in rest and _has_content(change.new) and _git_mode(change.new) != _git_mode(change.old):
            rest.remove("mode")
        if rest:
            yield b"vuctl: other attributes of " + name + f": {', '.join(rest)}\n".encode()
