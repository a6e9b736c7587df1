"""The mounter of a session: its mounts, and who answers what is asked about them."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from vuosd.supervisor.modules.loaded import Modules
from vuosd.supervisor.mounting.asked import Answerer
from vuosd.supervisor.mounting.door import Door
from vuosd.supervisor.mounting.family import Family
from vuosd.supervisor.mounting.modules import BuiltIn
from vuosd.supervisor.mounting.mounts import Mounts
from vuosd.supervisor.mounting.outside import Outside
from vuosd.supervisor.mounting.stacking import Stacking
from vuosd.supervisor.nested.children import Children
from vuosd.views.model import EnvRules

if TYPE_CHECKING:
    from vuosd.supervisor.running import Running
    from vuosd.views import View


class Mounter:
    """Runs in trio as long as the session; what it has mounted stays in `running.family` until the
    end.
    """

    def __init__(self, running: "Running") -> None:
        self.running = running
        env = running.request.variables()
        if running.prepared.view is not None:  # what the view does without, its servers do
            rules = running.prepared.view.env
            env = EnvRules(unset=rules.unset, keep=rules.keep).apply(env)
        if running.modules is None:
            running.modules = Modules(running.number, running.session, running.shape, env)
        self.modules = running.modules
        family = Family(running.number, running.session, self.modules, running.zygote)
        running.family = self.family = family
        self.mounts = family.spaces[0] = Mounts(family, running.scratch, env)
        self.children = Children(running, family)
        family.views = self._views
        built_in = BuiltIn()
        family.allow[0] = running.prepared.allow
        by = Stacking(running)
        self.answerer = Answerer(
            running.session, family, self.modules, built_in, self.children.make, running.prepared.enforce, by
        )
        self.outside = Outside(
            running, self.mounts, Door(self.mounts, self.modules, built_in, inside=False), by
        )

    def _views(self, space: int) -> list["View"]:
        own = self.running.prepared.view
        return [*([own] if own is not None else []), *self.children.views(space)]

    async def run(self, begin: Callable[[], Awaitable[None]]) -> None:
        """`begin` is run once there can be mounts."""
        async with trio.open_nursery() as nursery:
            self.family.nursery = nursery
            self.modules.adopt(nursery)
            nursery.start_soon(begin)
            await self.answerer.run()
