"""A file system that is mounted for one command, which is in no view: `vuctl diff` of a layer upon it.

As in a session a helper mounts it (helper.py), by the kernel's transport, and nobody but who has the
descriptor sees it. It goes with this process, however that ends.
"""

import errno
import functools
import os
import queue
import secrets
import threading
from collections.abc import Mapping

import trio

from vuosd.supervisor import members
from vuosd.supervisor.mounting import options, reach, types
from vuosd.supervisor.mounting.errors import MountError, from_os
from vuosd.supervisor.mounting.mount import KERNEL, Mount, Wanted
from vuosd.supervisor.mounting.namespace import Namespace, NamespaceUnavailable
from vuosd.supervisor.mounting.output import Output
from vuosd.supervisor.mounting.starting import Start
from vuosd.supervisor.scratch import Scratch

_END_SECONDS = 30.0
"""For a server to write what it has."""


class Alone:
    """`fd`: an O_PATH descriptor of its root, good until close()."""

    def __init__(self, type: str, source: str, data: str, env: Mapping[str, str], *, readonly: bool) -> None:
        """As `vumount -t TYPE -o DATA SOURCE`; blocks until it is there. MountError."""
        flags, words = options.parse(options.split(data))
        if readonly:
            flags |= options.MS_RDONLY
        text = ",".join(word for word in words if not word.startswith("transport="))
        self._wanted = Wanted(type, source, source, b"/", True, flags & options.KEPT, text)
        self._env = env
        self._answer: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()
        self._token: trio.lowlevel.TrioToken | None = None
        self._over: trio.Event
        self._ended_well = True
        self._thread = threading.Thread(target=self._run, name="mounted")
        self._thread.start()
        self.fd = -1
        try:
            answer = self._answer.get()
            if isinstance(answer, BaseException):
                raise answer
            self.fd = answer
        except BaseException:
            self.close()
            raise

    def close(self) -> bool:
        """Unmounted, its server has ended. False: that had to be killed."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self._token is not None:
            try:
                self._token.run_sync_soon(self._over.set)
            except trio.RunFinishedError:
                pass  # it has failed
        self._thread.join()
        return self._ended_well

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:  # for who waits
            self._answer.put(error)

    async def _serve(self) -> None:
        self._over = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        session = members.new_session()
        scratch = Scratch(session)
        namespace = Namespace(lambda mark, pid: None, lambda mark, status: None)
        try:
            await namespace.start(session)
        except NamespaceUnavailable as why:
            self._answer.put(_no_mounts(str(why)))
            return
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(namespace.listen)
                try:
                    self._answer.put(await self._mount(nursery, namespace, scratch))
                    await self._over.wait()
                except MountError as error:
                    self._answer.put(error)
                except OSError as error:
                    self._answer.put(from_os(error))
                except NamespaceUnavailable as why:
                    self._answer.put(MountError(errno.EIO, str(why)))
                nursery.cancel_scope.cancel()
        finally:
            self._ended_well = namespace.finish(_END_SECONDS)
            scratch.remove()

    async def _mount(self, nursery: trio.Nursery, namespace: Namespace, scratch: Scratch) -> int:
        if namespace.why:
            raise _no_mounts(namespace.why)
        wanted = self._wanted
        kind, path = types.find(wanted.type, wanted.path)
        if (kind.needs_path or path.startswith("/")) and not os.path.exists(path):
            raise MountError(errno.ENOENT, f"{path}: no such file")
        place = scratch.make(0o700)
        mount = Mount(
            wanted.type, wanted.source, b"/", wanted.flags, wanted.data, transport=KERNEL, path=place
        )
        mount.mark = secrets.token_hex(8)
        output = Output(wanted.type)
        nursery.start_soon(output.read)
        make = functools.partial(scratch.make, 0o700)
        start = Start(namespace, kind, path, wanted, mount, output, self._env, reach.Shown(), make)
        root = await start.run()
        if wanted.flags & options.MS_RDONLY:  # some servers, told so, only refuse what is written
            await namespace.remount(place, wanted.flags)
        return root.fd


class NoMounts(MountError):
    """Of no type anything can be mounted."""


def _no_mounts(why: str) -> NoMounts:
    text = f"this machine lets us mount no FUSE file system ({why}); see `vuctl doctor`"
    return NoMounts(errno.ENODEV, text)
