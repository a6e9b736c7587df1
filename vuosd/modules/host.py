"""`python -m vuosd.modules.host SPEC --fd N -o OPTIONS`: the process of one module.

Descriptor N is a socket to the session's worker. It ends when that is closed. A thread receives: so a `def`
of the plugin, which the main thread runs, can be given what it reads from its caller.
"""

import argparse
import errno
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence

import trio

from vuosd.api import Module, OptionError
from vuosd.api.registry import missing
from vuosd.api.source import described
from vuosd.modules import messages
from vuosd.modules.asked import Answers, NoMethod
from vuosd.modules.load import ModuleProblem, find_class
from vuosd.modules.messages import Asked, Done, Memory, Ready, Refused, Used, Uses, Wanted
from vuosd.supervisor import members

_GRACE_SECONDS = 2.0


class _Link:
    """The socket, for all threads."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sending = threading.Lock()
        self.waiting: dict[int, tuple[threading.Event, list[Done]]] = {}
        self.numbers = itertools.count(1)

    def send(self, message: messages.FromModule, fds: tuple[int, ...] = ()) -> None:
        try:
            with self.sending:
                messages.send(self.sock, message, fds)
        except OSError:
            os._exit(0)  # the worker has gone, and with it the view

    def done(self, message: Done) -> None:
        if (waiting := self.waiting.pop(message.number, None)) is not None:
            waiting[1].append(message)
            waiting[0].set()

    def ask(self, message: Memory) -> bytes:
        event, answer = threading.Event(), list[Done]()
        self.waiting[message.number] = event, answer
        self.send(message)
        event.wait()
        if answer[0].errno:
            raise OSError(answer[0].errno, os.strerror(answer[0].errno))
        return answer[0].data


class _CallersMemory:
    """vuosd.api.Memory of the caller of one call, by the worker."""

    def __init__(self, link: _Link, id: int) -> None:
        self.link, self.id = link, id

    def read(self, address: int, size: int) -> bytes:
        return self.link.ask(Memory(next(self.link.numbers), self.id, False, address, size))

    def read_string(self, address: int, limit: int) -> bytes:
        return self.link.ask(Memory(next(self.link.numbers), self.id, True, address, limit))

    def write(self, address: int, data: bytes) -> None:
        self.link.ask(Memory(next(self.link.numbers), self.id, False, address, data=bytes(data)))


class _Host:
    def __init__(self, name: str, module: Module, link: _Link) -> None:
        self.name, self.module, self.link = name, module, link
        self.answers = Answers(name, module, module.options.deadline)

    async def run(self) -> None:
        """Until the worker wants nothing more."""
        send, receive = trio.open_memory_channel[messages.ToModule | None](float("inf"))
        if (waits := self.module.start()) is not None:
            await waits
        boundaries = self.answers.boundaries()
        summary = (type(self.module).__doc__ or "").strip().partition("\n")[0].rstrip(".")
        token = trio.lowlevel.current_trio_token()
        threading.Thread(target=self._listen, args=(token, send), daemon=True).start()
        self.link.send(Ready(boundaries, self.module.permanent, summary, self.answers.deadline))
        async with trio.open_nursery() as nursery:
            async for message in receive:
                if message is None:
                    break
                nursery.start_soon(self._take, message)
            nursery.cancel_scope.cancel()
        if (waits := self.module.stop()) is not None:
            await waits

    def _listen(
        self, token: trio.lowlevel.TrioToken, send: "trio.MemorySendChannel[messages.ToModule | None]"
    ) -> None:
        message: messages.ToModule | None
        while True:
            try:
                message = messages.receive_asked(self.link.sock)
            except OSError:
                message = None
            if isinstance(message, Done):
                self.link.done(message)
                continue
            try:
                token.run_sync_soon(send.send_nowait, message)
            except trio.RunFinishedError:
                return
            if message is None:
                time.sleep(_GRACE_SECONDS)
                os._exit(1)  # the main thread hangs

    async def _take(self, message: messages.ToModule) -> None:
        if isinstance(message, Asked):
            answer, fd = await self.answers.answer(message, _CallersMemory(self.link, message.id))
            self.link.send(answer, (fd,) if fd >= 0 else ())
            if fd >= 0:
                os.close(fd)
        elif isinstance(message, Wanted):
            self.link.send(await self.answers.mount(message))
        elif isinstance(message, Uses):
            try:
                uses = tuple(map(str, self.module.uses()))
            except Exception as error:
                uses = (f"it cannot say what for: {described(error)}",)
            self.link.send(Used(message.id, uses))


def _made(spec: str, options: str) -> Module:
    found = find_class(spec)
    try:
        return found(options)
    except OptionError:
        raise
    except (OSError, ValueError) as error:
        raise ModuleProblem(errno.EINVAL, f"{spec}: {error}") from error
    except Exception as error:
        raise ModuleProblem(errno.ENOEXEC, f"{spec} cannot be made: {described(error)}") from error


def _serve(spec: str, options: str, link: _Link) -> Refused | None:
    name = spec if "/" not in spec else os.path.basename(spec).partition(".")[0]
    try:
        trio.run(_Host(name, _made(spec, options), link).run)
    except ModuleProblem as problem:
        return Refused(problem.errno, str(problem))
    except (OptionError, NoMethod) as error:
        return Refused(errno.EINVAL, str(error))
    except (OSError, ValueError) as error:
        return Refused((isinstance(error, OSError) and error.errno) or errno.EINVAL, f"{name}: {error}")
    except ImportError as error:
        return Refused(errno.ENODEV, missing("module", name, error))
    except Exception as error:
        return Refused(errno.ENOEXEC, f"{name}: {described(error)}")
    return None


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="vuosd.modules.host", description="Be a module of a session.")
    parser.add_argument(
        "spec", metavar="SPEC", help="a module's name, module:Class, or the path of a .py file"
    )
    parser.add_argument("--fd", type=int, metavar="N", required=True, help="a socket to the session's worker")
    parser.add_argument("--session", type=int, metavar="N", default=0, help="the session's number")
    parser.add_argument("-o", "--options", default="", help="options of the module")
    arguments = parser.parse_args(argv)
    if arguments.session:
        members.mark(arguments.session, members.SERVER)
    with socket.socket(fileno=arguments.fd) as sock:
        sock.set_inheritable(False)
        link = _Link(sock)
        refused = _serve(arguments.spec, arguments.options, link)
        if refused is not None:
            link.send(refused)
    return 1 if refused is not None else 0


if __name__ == "__main__":
    sys.exit(main())
