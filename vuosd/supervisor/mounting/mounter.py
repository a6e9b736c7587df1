"""The mounter of a session: its mounts, and who answers what is asked about them."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from vuosd.supervisor.modules.loaded import Modules
from vuosd.supervisor.mounting.asked import Answerer
from vuosd.supervisor.mounting.mounts import Mounts
from vuosd.supervisor.mounting.outside import Outside

if TYPE_CHECKING:
    from vuosd.supervisor.worker import Running


class Mounter:
    """Runs in trio as long as the session; what it has mounted stays in `running.mounts` until the
    end.
    """

    def __init__(self, running: "Running") -> None:
        env = running.request.variables()
        if running.modules is None:
            running.modules = Modules(running.number, running.session, running.shape, env)
        self.modules = running.modules
        mounts = Mounts(running.number, running.session, running.scratch, env, self.modules)
        running.mounts = self.mounts = mounts
        self.answerer = Answerer(running.session, mounts, lambda path: not _stacked(running, path))
        self.outside = Outside(running, mounts, self.answerer.door)

    async def run(self, begin: Callable[[], Awaitable[None]]) -> None:
        """`begin` is run once there can be mounts."""
        async with trio.open_nursery() as nursery:
            self.mounts.nursery = nursery
            self.modules.adopt(nursery)
            nursery.start_soon(begin)
            await self.answerer.run()


def _stacked(running: "Running", path: bytes) -> bool:
    """Whether the view shows several trees as one at a path."""
    targets = [(entry.target, False) for entry in running.prepared.placed]
    targets += [(stack.target, True) for stack in running.prepared.stacked]
    covering = [(len(target), stacked) for target, stacked in targets if _below(path, target)]
    return max(covering, default=(0, False))[1]


def _below(path: bytes, target: bytes) -> bool:
    return path == target or path.startswith(target.rstrip(b"/") + b"/")
