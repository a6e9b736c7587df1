"""Who asks in one mount namespace: what their calls name, and the way back to them."""

import errno
import os
import struct
from typing import NamedTuple

import trio

from vuosd.supervisor.mounting.errors import MountError
from vuosd.supervisor.mounting.mounts import Mounts
from vuosd.supervisor.session import Session
from vuosd.supervisor.values import Asked, Resolved

_AT_FDCWD = -100
_PAGE = 4096
_ANSWER = struct.Struct("=i")
"""An errno, before the text."""


class Request(NamedTuple):
    """A mount(2) whose target has been looked up: `target` is its path in the view."""

    kind: str
    source: str
    target: bytes
    directory: bool
    flags: int
    words: list[str]


class Callers:
    def __init__(self, session: Session, mounts: Mounts) -> None:
        self.session, self.mounts = session, mounts

    def check(self, action: str) -> None:
        """MountError (EPERM) unless the view's profile grants it."""
        allow = self.mounts.family.allow.get(self.mounts.space)
        if allow is not None and action not in allow:
            text = f'the profile of this view does not grant it: [control] allow = ["{action}"]'
            raise MountError(errno.EPERM, text)

    def string(self, asked: Asked, argument: int) -> bytes:
        address = asked.args[argument]
        return self.session.read_string(asked.tid, asked.id, address, _PAGE) if address else b""

    async def resolve(self, asked: Asked, path: bytes, follow: bool = True) -> Resolved:
        """In a thread: it may wait for a server. OSError."""
        return await trio.to_thread.run_sync(self.session.resolve, asked.id, _AT_FDCWD, path, follow)

    async def resolve_to_write(self, asked: Asked, path: bytes) -> Resolved:
        """As open(2) for writing does, which copies what lies in a layer. OSError."""
        return await trio.to_thread.run_sync(
            lambda: self.session.resolve(asked.id, _AT_FDCWD, path, write=True)
        )

    def say(self, asked: Asked, number: int = 0, said: str | bytes = "") -> None:
        """The answer. What has been answered stays answered."""
        if asked.op != "door":
            self.session.answer(asked.id, error=number)
            return
        with open(os.memfd_create("answer"), "w+b", buffering=0) as file:
            text = said if isinstance(said, bytes) else said.encode("utf-8", "surrogateescape")
            file.write(_ANSWER.pack(number) + text)
            self.session.answer_descriptor(asked.id, file.fileno(), True)
