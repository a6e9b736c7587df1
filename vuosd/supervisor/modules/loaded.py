"""The modules of a session: loaded, asked, unloaded.

The engine has all their claims together, and gets them anew when something changes: so a call is one module's
or another's, or nobody's. What a module does wrong is its callers' EIO and one line in the log.
"""

import errno
import itertools
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import trio

from vuosd.api.boundaries import Types
from vuosd.modules.messages import Answer, Asked, Done, FromModule, Memory, Mounted, Used, Uses, Wanted
from vuosd.supervisor import values
from vuosd.supervisor.filter import Shape
from vuosd.supervisor.log import log
from vuosd.supervisor.modules.boundaries import NAMES, claims, untrapped
from vuosd.supervisor.modules.errors import ModuleError
from vuosd.supervisor.modules.process import Process, closed
from vuosd.supervisor.session import Session

if TYPE_CHECKING:
    from vuosd.supervisor.mounting import mount

_SLACK_SECONDS = 0.5
"""After the deadline, for the module's process to say itself that it is over."""
_LARGEST = 1 << 16
_PAUSE_SECONDS = 0.005

_Reply = Answer | Mounted | Used


class _Waiting(NamedTuple):
    """Somebody waits for a module. `what`: for people."""

    what: str
    pid: int
    tell: "trio.MemorySendChannel[tuple[_Reply, tuple[int, ...]]]"


class Module:
    """One that is loaded."""

    def __init__(self, id: int, process: Process, permanent: bool) -> None:
        self.id, self.process = id, process
        self.permanent = permanent or process.ready.permanent
        self.stays = False
        """Its process does, when it is unloaded: for the next time."""
        self.dead = ""
        """Why nothing is answered any more."""
        self.waiting: dict[int, _Waiting] = {}
        """By what the message's id is: that of a notification, or below zero."""

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def deadline(self) -> float:
        return self.process.ready.deadline

    def uses(self) -> list[str]:
        return [
            f"{waiting.what} of {_name(waiting.pid)} ({waiting.pid})"
            for waiting in self.waiting.values()
            if waiting.pid
        ]


class Modules:
    """Those of one session. All but `add` and `finish` in trio."""

    def __init__(self, number: int, session: Session, shape: Shape, env: Mapping[str, str]) -> None:
        self.number, self.session, self.shape, self.env = number, session, shape, env
        self.nursery: trio.Nursery
        self._modules: list[Module] = []
        self._leaving: list[Module] = []
        self._kept: list[Module] = []
        """Of an enforcing view: those of its profile that are not loaded. Their processes began before its
        command did, which may have changed their code since.
        """
        self._ids = itertools.count(1)
        self._questions = itertools.count(-1, -1)
        self._changing = trio.Lock()

    # Loading

    def add(self, process: Process, *, load: bool) -> None:
        """One of the profile, whose process has started, before the command does. ModuleError; it ends
        then.
        """
        try:
            self._check(process)
            module = Module(next(self._ids), process, False)
            module.stays = self.shape.enforce
            if not load:
                self._kept.append(module)
                return
            self._modules.append(module)
            self._publish()
        except BaseException:
            process.end(0)
            raise

    def adopt(self, nursery: trio.Nursery) -> None:
        """From now on in trio; those that are there already as well."""
        self.nursery = nursery
        for module in (*self._modules, *self._kept):
            self._listen(module)

    def _listen(self, module: Module) -> None:
        self.nursery.start_soon(module.process.output.read)
        self.nursery.start_soon(self._serve, module)

    async def load(self, name: str, options: str, permanent: bool, *, inside: bool) -> None:
        """`inside`: a process of the view asks for it. ModuleError."""
        async with self._changing:
            if self.find(name) is not None:
                raise ModuleError(errno.EEXIST, f"module {name} is loaded already")
            kept = next((module for module in self._kept if module.name == name), None)
            if kept is not None and options in ("", kept.process.options):
                self._load_kept(kept, permanent)
                return
            if self.shape.enforce and inside:
                text = "its options are the profile's" if kept else "its profile names it ([[module]])"
                raise ModuleError(errno.EPERM, f"module {name}: in an enforcing view {text}")
            module = await self._started(name, options, permanent)
            self._modules.append(module)
            try:
                self._publish()
            except BaseException:
                self._modules.remove(module)
                await trio.to_thread.run_sync(module.process.end, 0)
                raise
            self._listen(module)
            log.info("module %s is loaded (process %d)", name, module.process.pid)

    def _load_kept(self, module: Module, permanent: bool) -> None:
        """ModuleError."""
        if module.dead:
            raise ModuleError(errno.EIO, f"module {module.name} has ended: {module.dead}")
        self._check(module.process)
        self._modules.append(module)
        try:
            self._publish()
        except BaseException:
            self._modules.remove(module)
            raise
        self._kept.remove(module)
        module.permanent = permanent or module.process.ready.permanent
        log.info("module %s is loaded (process %d)", module.name, module.process.pid)

    async def _started(self, name: str, options: str, permanent: bool) -> Module:
        process = await trio.to_thread.run_sync(Process, name, options, self.number, self.env)
        try:
            self._check(process)
        except ModuleError:
            await trio.to_thread.run_sync(process.end)
            raise
        return Module(next(self._ids), process, permanent)

    def _check(self, process: Process) -> None:
        """ModuleError when calls that it answers are not trapped, which cannot be changed any more."""
        if calls := untrapped(self.shape, process.ready.boundaries):
            text = f"this view does not trap {', '.join(calls)}: name the module in the profile ([[module]])"
            raise ModuleError(errno.ENODEV, f"module {process.name} cannot be loaded: {text}")
        for boundary in process.ready.boundaries:
            if isinstance(boundary, Types):
                for kind in boundary.types:
                    if (other := self.for_type(kind)) is not None and other.name != process.name:
                        text = f"type {kind} of file systems is module {other.name}'s already"
                        raise ModuleError(errno.EBUSY, f"module {process.name} cannot be loaded: {text}")

    def _publish(self) -> None:
        """The latest has the first say."""
        self.session.claim(
            [
                claim
                for module in reversed(self._modules)
                for claim in claims(module.id, module.process.ready.boundaries)
            ]
        )

    def find(self, name: str) -> Module | None:
        return next((module for module in self._modules if module.name == name), None)

    def listed(self) -> list[tuple[str, str]]:
        """Names and descriptions, in the order of their loading."""
        return [
            (
                module.name,
                module.process.ready.summary + (f" (has ended: {module.dead})" if module.dead else ""),
            )
            for module in self._modules
        ]

    def about(self) -> list[dict[str, Any]]:
        """What `vuctl show` tells."""
        return [
            {
                "name": module.name,
                "process": module.process.pid,
                "permanent": module.permanent,
                "waiting": len(module.waiting),
                "dead": module.dead,
            }
            for module in self._modules
        ]

    async def unload(self, name: str, mounts: list[str]) -> None:
        """`mounts`: where it has mounted something. ModuleError: ENOENT, EBUSY."""
        async with self._changing:
            module = self.find(name)
            if module is None:
                raise ModuleError(errno.ENOENT, f"module {name} is not loaded")
            if module.permanent:
                how = "is permanent" if module.process.ready.permanent else "was loaded for good (-p)"
                raise ModuleError(errno.EBUSY, f"module {name} {how}")
            if uses := [*mounts, *module.uses(), *await self._used(module)]:
                more = f" and {len(uses) - 5} more" if len(uses) > 5 else ""
                raise ModuleError(errno.EBUSY, f"module {name} is in use: {', '.join(uses[:5])}{more}")
            self._modules.remove(module)
            self._publish()
            self._leaving.append(module)
        await self._leave(module)
        log.info("module %s is unloaded", name)

    async def _leave(self, module: Module) -> None:
        """When what it was asked before is answered."""
        while module.waiting and not module.dead:
            await trio.sleep(_PAUSE_SECONDS)
        if module.stays:
            self._leaving.remove(module)
            self._kept.append(module)
            return
        if not module.dead:
            module.dead = "it is unloaded"
            trio.lowlevel.notify_closing(module.process.sock)
            await trio.to_thread.run_sync(module.process.end)
        self._leaving.remove(module)

    async def reload(self, name: str) -> None:
        """Its code as it is now, from one call to the next. What the old code was asked it answers.
        ModuleError; then it stays as it was.
        """
        async with self._changing:
            old = self.find(name)
            if old is None:
                raise ModuleError(errno.ENOENT, f"module {name} is not loaded")
            new = await self._started(name, old.process.options, old.permanent)
            new.stays, old.stays = old.stays, False
            self._modules[self._modules.index(old)] = new
            self._publish()
            self._listen(new)
            self._leaving.append(old)
        await self._leave(old)
        log.info("module %s is reloaded (process %d)", name, new.process.pid)

    # Answers

    async def answer(self, asked: values.Asked) -> None:
        """A call that is claimed. OSError(ESRCH) when its caller has gone."""
        module = next((one for one in (*self._modules, *self._leaving) if one.id == asked.claim), None)
        if module is None:  # unloaded since
            await self._proceed(asked.id)
            return
        name = NAMES[asked.nr]
        message = Asked(
            asked.id, asked.nr, name, asked.args, asked.tgid, asked.tid, self.session.claimed_path(asked.id)
        )
        reply, fds = await self._exchange(module, message, f"{name}(2)", asked.tgid)
        try:
            if not isinstance(reply, Answer):
                self.session.answer(asked.id, error=errno.EIO)
            elif reply.descriptor and fds and not reply.errno:
                self.session.answer_descriptor(asked.id, fds[0], reply.cloexec)
            elif reply.proceeds:
                await self._proceed(asked.id)
            else:
                self.session.answer(
                    asked.id, reply.value, error=reply.errno if 0 <= reply.errno < 512 else errno.EIO
                )
        except OSError as error:
            log.error("module %s: %s(2) by process %d: %s", module.name, name, asked.tgid, error.strerror)
            self.session.answer(asked.id, error=errno.EIO)
        finally:
            closed(fds)

    async def _proceed(self, id: int) -> None:
        """In a thread: it may wait for servers."""
        await trio.to_thread.run_sync(self.session.proceed, id)

    async def mounted_as(self, wanted: "mount.Wanted") -> "tuple[mount.Wanted, str]":
        """What a module makes of a mount, and its name; "" if it is nobody's. ModuleError: what it raises."""
        module = self.for_type(wanted.type)
        if module is None:
            return wanted, ""
        message = Wanted(next(self._questions), wanted.type, wanted.source, wanted.target, wanted.data)
        reply, _ = await self._exchange(module, message, f"mount at {os.fsdecode(wanted.target)}", 0)
        if not isinstance(reply, Mounted) or (reply.errno and not reply.text):
            number = reply.errno if isinstance(reply, Mounted) else errno.EIO
            raise ModuleError(number, f"module {module.name}: {os.strerror(number)}")
        if reply.errno:
            raise ModuleError(reply.errno, f"module {module.name}: {reply.text}")
        if reply.mount is None:
            return wanted, ""
        kind, source, options = reply.mount
        made = wanted._replace(type=kind, source=source, path=source, data=options, fds={}, inside=False)
        return made, module.name

    def for_type(self, kind: str) -> Module | None:
        """Who answers mounts of a type."""
        for module in reversed(self._modules):
            for boundary in module.process.ready.boundaries:
                if isinstance(boundary, Types) and kind in boundary.types:
                    return module
        return None

    async def _used(self, module: Module) -> tuple[str, ...]:
        reply, _ = await self._exchange(module, Uses(next(self._questions)), "what it is used for", 0)
        return reply.uses if isinstance(reply, Used) else ()

    async def _exchange(
        self, module: Module, message: Asked | Wanted | Uses, what: str, pid: int
    ) -> tuple[_Reply | None, tuple[int, ...]]:
        """The reply; None when there is none, of which the log has been told."""
        if module.dead:
            return None, ()
        tell, told = trio.open_memory_channel[tuple[_Reply, tuple[int, ...]]](1)
        module.waiting[message.id] = _Waiting(what, pid, tell)
        try:
            with trio.move_on_after(module.deadline + _SLACK_SECONDS):
                module.process.send(message)
                return await told.receive()
            self._hangs(module, what, pid)
        except BlockingIOError:
            self._hangs(module, what, pid)
        except (OSError, trio.EndOfChannel):
            pass  # it has ended
        finally:
            module.waiting.pop(message.id, None)
        return None, ()

    def _hangs(self, module: Module, what: str, pid: int) -> None:
        if module.dead:
            return
        module.dead = f"no answer within {module.deadline:g} s"
        by = f" by process {pid}" if pid else ""
        log.error(
            "module %s: %s%s: %s: it is ended, and what it answers is EIO", module.name, what, by, module.dead
        )
        module.process.kill()

    # What a module's process says

    async def _serve(self, module: Module) -> None:
        """Until it has gone. Who waits for it then gets no answer."""
        try:
            while True:
                try:
                    message, fds = module.process.receive()
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(module.process.sock)
                    continue
                if message is None:
                    break
                self._take(module, message, fds)
        except (OSError, trio.ClosedResourceError):
            pass  # unloaded, or it has died
        except msgspec.DecodeError as error:
            module.dead = module.dead or f"it says what cannot be understood: {error}"
            log.error("module %s: %s", module.name, module.dead)
            module.process.kill()
        if not module.dead:
            module.dead = await trio.to_thread.run_sync(module.process.fate)
            log.error(
                "module %s has ended (%s): what it answers is EIO until it is unloaded",
                module.name,
                module.dead,
            )
        for waiting in module.waiting.values():
            waiting.tell.close()

    def _take(self, module: Module, message: FromModule, fds: tuple[int, ...]) -> None:
        if isinstance(message, Memory):
            self.nursery.start_soon(self._memory, module, message)
        elif isinstance(message, Answer | Mounted | Used):
            if not isinstance(message, Used) and message.log:
                log.error("%s", message.log.replace("\n", " "))
            waiting = module.waiting.pop(message.id, None)
            if waiting is not None:
                waiting.tell.send_nowait((message, fds))
                return
        closed(fds)

    async def _memory(self, module: Module, wanted: Memory) -> None:
        """Of a caller that waits for this module, and of nobody else's."""
        done = Done(wanted.number, errno.ESRCH)
        waiting = module.waiting.get(wanted.id)
        if waiting is not None and waiting.pid and 0 <= wanted.size <= _LARGEST:
            try:
                data = await trio.to_thread.run_sync(self._transfer, wanted)
                done = Done(wanted.number, 0, data)
            except OSError as error:
                done = Done(wanted.number, error.errno or errno.EIO)
            except OverflowError:
                done = Done(wanted.number, errno.EFAULT)
        try:
            module.process.send(done)
        except OSError:
            pass  # it has gone

    def _transfer(self, wanted: Memory) -> bytes:
        if wanted.data is not None:
            self.session.write(wanted.id, wanted.address, wanted.data)
            return b""
        if wanted.string:
            return self.session.read_string(0, wanted.id, wanted.address, wanted.size)
        return self.session.read(0, wanted.id, wanted.address, wanted.size)

    def finish(self) -> None:
        """The session has ended. Blocks until they have."""
        modules = (*self._modules, *self._leaving, *self._kept)
        for module in modules:
            module.dead = module.dead or "the view ends"
            module.process.sock.close()
        for module in modules:
            module.process.end()
        self._modules.clear()


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().rstrip(b"\n").decode("utf-8", "backslashreplace")
    except OSError:
        return "?"
