"""A session that is being set up or runs."""

import os
import socket
from typing import TYPE_CHECKING

from vuosd.supervisor import filter, messages, permitted
from vuosd.supervisor.prepared import Prepared
from vuosd.supervisor.request import Request
from vuosd.supervisor.scratch import Scratch
from vuosd.supervisor.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vuosd.supervisor.modules.loaded import Modules
    from vuosd.supervisor.modules.profile import Begun
    from vuosd.supervisor.mounting.family import Family
    from vuosd.supervisor.quota import Watcher


class Running:
    """A session that has been set up, and what is known of it."""

    def __init__(
        self, number: int, channel: socket.socket | None, zygote: socket.socket | None = None
    ) -> None:
        self.number = number
        self.connection: socket.socket
        self.channel = channel
        self.zygote = zygote
        """Which forks what this session needs; a private one has none."""
        self.scratch = Scratch(number)
        self.request: Request
        self.prepared: Prepared
        self.session: Session
        self.quota: Watcher | None = None
        self.listener = -1
        self.listener_number = 0
        self.child = 0
        self.keeper = 0
        self.status: int | None = None
        self.report: socket.socket | None = None
        """Of the launcher that ends last."""
        self.cookie = int.from_bytes(os.urandom(8), "little") | 1 << 32 | 1
        self.privileged = os.geteuid() == 0
        self.family: Family | None = None
        self.begun: Sequence[Begun] = ()
        """What a profile's modules are, until the session has them."""
        self.modules: Modules | None = None
        self.shape = filter.Shape(self.privileged, entries=False, mounts=True)
        self._take()

    def fit(self, prepared: Prepared) -> None:
        """The filter that was made while we were a spare is for views without entries."""
        traps = tuple(dict.fromkeys(trap for one in self.begun for trap in one.traps))
        entries = prepared.watched
        if not entries and not traps and prepared.controlled:
            return
        os.close(self.program)
        enforce = prepared.enforce
        self.shape = filter.Shape(
            self.privileged,
            enforce=enforce,
            sends=enforce and not permitted.may_duplicate(),
            entries=entries,
            stacked=prepared.merges,
            carries=entries and self.privileged and not permitted.may_trace_others(),
            mounts=prepared.controlled,
            traps=traps,
        )
        self._take()

    def _take(self) -> None:
        program = filter.build(cookie=self.cookie, shape=self.shape)
        self.program = messages.memfd("filter", program)
        self.program_length = len(program) // 8
