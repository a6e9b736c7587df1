"""One call, from its message to its answer: by the method of its name, with a deadline."""

import errno
import inspect
import os
from collections.abc import Callable
from typing import Any, TypeVar

import trio

from vuosd.api import PROCEED, Call, Descriptor, Memory, Module, MountAs, MountRequest
from vuosd.api.boundaries import OPERATIONS, Boundary, Calls, Families, Ioctls, Paths, Types, operation_of
from vuosd.api.source import described
from vuosd.modules.messages import Answer, Asked, Mounted, Wanted
from vuosd.modules.results import Nonsense, cloexec, proceeds, value_of

_Of = TypeVar("_Of")
_To = TypeVar("_To")
_MOST = 511
"""Errnos from 512 on are the kernel's own, include/linux/errno.h."""


class NoMethod(Exception):
    """A boundary that nothing in the class answers; a sentence."""


class Answers:
    """Of one module. `deadline` is in seconds."""

    def __init__(self, name: str, module: Module, deadline: float) -> None:
        self.name, self.module, self.deadline = name, module, deadline
        self.threads = trio.CapacityLimiter(module.threads) if module.threads else None

    def boundaries(self) -> tuple[Boundary, ...]:
        """As the class has them, with the operations of paths filled in. NoMethod; ValueError."""
        if not self.module.boundaries:
            raise NoMethod(f"{type(self.module).__name__} has no boundaries: say which calls it answers")
        return tuple(self._filled(boundary) for boundary in self.module.boundaries)

    def _filled(self, boundary: object) -> Boundary:
        if isinstance(boundary, Calls):
            for name in boundary.names:
                if self._method(name, operation_of(name)) is None:
                    raise NoMethod(f"{type(self.module).__name__} answers {name}(2) and has no method {name}")
        elif isinstance(boundary, Paths):
            there = tuple(name for name in OPERATIONS if callable(getattr(self.module, name, None)))
            for name in boundary.operations:
                if name not in there:
                    text = f"answers what does {name} with paths and has no method {name}"
                    raise NoMethod(f"{type(self.module).__name__} {text}")
            if not there:
                text = f"has paths and no method for what is done with them: {', '.join(OPERATIONS)}"
                raise NoMethod(f"{type(self.module).__name__} {text}")
            return Paths(boundary.paths, boundary.operations or there)
        elif isinstance(boundary, Ioctls | Families):
            wanted = ("ioctl",) if isinstance(boundary, Ioctls) else ("socket", "socketpair")
            if not any(self._method(name, "") for name in wanted):
                text = f"has {type(boundary).__name__} and no method {' or '.join(wanted)}"
                raise NoMethod(f"{type(self.module).__name__} {text}")
        elif not isinstance(boundary, Types):
            raise NoMethod(f"{type(self.module).__name__}: {boundary!r} is no boundary")
        return boundary

    def _method(self, name: str, operation: str) -> Callable[[Call], Any] | None:
        for word in (name, operation):
            if word and callable(found := getattr(self.module, word, None)):
                method: Callable[[Call], Any] = found
                return method
        return None

    async def answer(self, asked: Asked, memory: Memory) -> tuple[Answer, int]:
        """The answer, and the descriptor that goes with it, or -1."""
        operation = operation_of(asked.name)
        call = Call(
            asked.name, asked.args, memory,
            operation=operation, path=asked.path, pid=asked.pid, tid=asked.tid,
        )  # fmt: skip
        method = self._method(asked.name, operation)
        if method is None:
            return Answer(asked.id, proceeds=True), -1  # socketpair(2) of a family, say

        def finish(result: Any) -> tuple[Answer, int]:
            if proceeds(result):
                return Answer(asked.id, proceeds=True), -1
            value = value_of(call, asked.nr, result)
            if isinstance(value, Descriptor):
                closes = cloexec(call, value.cloexec)
                return Answer(asked.id, descriptor=True, cloexec=closes), _open(value.fd)
            return Answer(asked.id, value), -1

        try:
            return await self._run(method, call, finish)
        except (Exception, SystemExit) as error:
            number, said = self._blame(error)
            where = f" {os.fsdecode(call.path)}" if call.path else ""
            log = f"module {self.name}: {asked.name}(2){where} by process {asked.pid}: {said}" if said else ""
            return Answer(asked.id, errno=number, log=log), -1

    async def mount(self, wanted: Wanted) -> Mounted:
        """What shall be mounted instead."""
        request = MountRequest(wanted.type, wanted.source, wanted.target, wanted.options)

        def finish(result: Any) -> Mounted:
            if result is PROCEED:
                return Mounted(wanted.id, None)
            if not isinstance(result, MountAs) or result.type == wanted.type:
                raise Nonsense(f"returned {result!r}, which is no MountAs of another type"[:200])
            return Mounted(wanted.id, (result.type, result.source, result.options))

        try:
            return await self._run(self.module.mount, request, finish)
        except (Exception, SystemExit) as error:
            number, said = self._blame(error)
            log = f"module {self.name}: mount of type {wanted.type}: {said}" if said else ""
            text = (error.strerror or "") if isinstance(error, OSError) else ""
            return Mounted(wanted.id, None, number, text, log)

    async def _run(self, method: Callable[[_Of], Any], argument: _Of, finish: Callable[[Any], _To]) -> _To:
        with trio.move_on_after(self.deadline):
            if self.threads is not None and not inspect.iscoroutinefunction(method):

                def both() -> _To:
                    return finish(method(argument))

                return await trio.to_thread.run_sync(both, abandon_on_cancel=True, limiter=self.threads)
            result = method(argument)
            if inspect.isawaitable(result):
                result = await result
            return finish(result)
        raise Nonsense(f"no answer within {self.deadline:g} s")

    def _blame(self, error: BaseException) -> tuple[int, str]:
        """The errno for the caller, and what the log has to say, if anything."""
        if isinstance(error, OSError) and error.errno is not None:
            if 0 < error.errno <= _MOST:
                return error.errno, ""
            return errno.EIO, f"raised an errno that there is not: {described(error)}"
        if isinstance(error, Nonsense):
            return errno.EIO, str(error)
        return errno.EIO, described(error)


def _open(fd: object) -> int:
    if not isinstance(fd, int) or fd < 0:
        raise Nonsense(f"returned a descriptor {fd!r}")
    try:
        os.fstat(fd)
    except OSError:
        raise Nonsense(f"returned descriptor {fd}, which is not open") from None
    return fd
