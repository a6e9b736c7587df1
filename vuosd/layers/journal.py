"""The journal of a commit: written before anything is done, so that what was cut short can be told.

    8 bytes  length of the plan (little endian)
    plan     MessagePack: steps.Plan
    records  each 8 bytes of length and MessagePack: first GO, then DONE

Without a GO record no name of the real tree has been changed, and the commit is undone; with one it is
completed.
"""

import os
from typing import TypeVar

import msgspec

from vuosd.layers.errors import LayerError, name_of
from vuosd.layers.record import sync_directory
from vuosd.layers.steps import Plan

FORMAT = 1
_T = TypeVar("_T")


class Go(msgspec.Struct, array_like=True):
    """All is ready. For each tree: the inode numbers of what lies under temporary names, by step."""

    inodes: list[dict[int, int]]


class Done(msgspec.Struct, array_like=True):
    """The real tree is as it shall be. For each tree: the paths that could not be changed, and why."""

    failed: list[dict[bytes, str]]


class Entry(msgspec.Struct):
    """What a journal holds."""

    plan: Plan
    go: Go | None = None
    done: Done | None = None


def begin(path: bytes, plan: Plan) -> None:
    """Durably. OSError."""
    temporary = path + b".new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write(fd, msgspec.msgpack.encode(plan))
    finally:
        os.close(fd)
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path))


def note(path: bytes, record: Go | Done) -> None:
    """Durably. OSError. What a former try left half written is cut off."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, _whole(os.pread(fd, os.fstat(fd).st_size, 0)))
        os.lseek(fd, 0, os.SEEK_END)
        _write(fd, msgspec.msgpack.encode(record))
    finally:
        os.close(fd)


def _write(fd: int, body: bytes) -> None:
    text = memoryview(len(body).to_bytes(8, "little") + body)
    while text:
        text = text[os.write(fd, text) :]
    os.fsync(fd)


def _whole(text: bytes) -> int:
    """How much of it is whole records."""
    at = 0
    while len(text) >= at + 8:
        end = at + 8 + int.from_bytes(text[at : at + 8], "little")
        if end > len(text):
            break
        at = end
    return at


def read(path: bytes, layer: str) -> Entry | None:
    """None: no commit is in progress. LayerError: it is damaged, or of a newer format. OSError."""
    try:
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    bodies = []
    at, end = 0, _whole(text)
    while at < end:
        length = int.from_bytes(text[at : at + 8], "little")
        bodies.append(text[at + 8 : at + 8 + length])
        at += 8 + length
    try:
        if not bodies:
            raise ValueError("no plan")
        if msgspec.msgpack.decode(bodies[0])[0] != FORMAT:
            raise ValueError("another format")
        plan = msgspec.msgpack.decode(bodies[0], type=Plan)
        go = msgspec.msgpack.decode(bodies[1], type=Go) if len(bodies) > 1 else None
        done = msgspec.msgpack.decode(bodies[2], type=Done) if len(bodies) > 2 else None
    except (ValueError, TypeError, IndexError, KeyError, msgspec.MsgspecError) as error:
        raise LayerError(
            f"the journal of a commit of layer {layer} that was cut short cannot be read ({error}): use the "
            f"vuosd that began it, or remove {name_of(path)} and look for files .vuos-* in the tree"
        ) from None
    return Entry(plan, go, done)


def end(path: bytes) -> None:
    os.unlink(path)
    sync_directory(os.path.dirname(path))
